"""Appending: durable together, by many at once, in order, refused with a sentence, and never undone."""

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event, make_url
from tests.trail.changes import PUBLIC
from tests.trail.world import KEY, entry

from primum.errors import MachineError
from primum.trail import chain, verification
from primum.trail.entry import Entry
from primum.trail.export import last_head
from primum.trail.log import Trail, attended
from primum.trail.queries import unended
from primum.trail.store import RECORDS, Store
from primum.trail.verification import verify

ROOT = Path(__file__).parents[2]
MANY = 2_500


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A trail with nothing but its first record."""
    found = str(tmp_path / "t.db")
    if request.param == "postgresql":
        found = str(request.getfixturevalue("postgres"))
    Trail.create(found, key=KEY)
    return found


@pytest.fixture
def trail(url: str) -> Iterator[Trail]:
    with Trail(url, key=KEY, head_every=3600) as opened:
        yield opened


@pytest.fixture
def beside(url: str) -> Iterator[Store]:
    """Somebody else with the same trail."""
    store = Store(url)
    yield store
    store.close()


def deep(url: str, shard: int = 0) -> tuple[list[object], int]:
    store = Store(url)
    seen = verify(store, key=PUBLIC, shard=shard, deep=True)
    store.close()
    return list(seen.problems), seen.size


def sql(url: str, *statements: str) -> None:
    engine = create_engine(url if "://" in url else f"sqlite:///{url}", isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            for one in statements:
                connection.exec_driver_sql(one)
    finally:
        engine.dispose()


def test_what_append_returned_others_read(trail: Trail, beside: Store) -> None:
    position = trail.append(entry(1))
    with beside.reading() as connection:
        row = connection.execute(RECORDS.select().where(RECORDS.c.position == position.number)).one()
    assert (position.number, position.shard, row.leaf.hex()) == (1, 0, position.leaf)
    assert json.loads(row.body)["after"] == chain_start(beside)


def chain_start(store: Store) -> str:
    with store.reading() as connection:
        return chain.leaves_of(connection, 0, 0, 1)[0].hex()


def test_all_that_wait_are_made_durable_together(trail: Trail, beside: Store, url: str) -> None:
    commits: list[object] = []
    event.listen(trail.store.engine, "commit", commits.append)
    with beside.writing():
        waiting = [trail.submit(entry(2)) for _ in range(MANY)]
        assert not any(one.done() for one in waiting)
    assert [one.result().number for one in waiting] == list(range(1, MANY + 1))
    # The first alone or with a few, then as many as one transaction takes.
    assert len(commits) <= 4
    assert deep(url) == ([], MANY + 1)


def test_threads_and_processes_append_to_two_shards_at_once(url: str) -> None:
    processes, threads, appends = 3, 4, 20
    command = [sys.executable, "-m", "tests.trail.together", url, *map(str, (processes, threads, appends))]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    first, second = json.loads(ended.stdout)
    each = processes * threads * appends // 2
    # Number 0 of shard 1, and one of shard 0, say that shard 1 was begun.
    assert second == list(range(1, each + 1))
    assert len(first) == each and set(first) < set(range(1, each + 2))
    assert (deep(url), deep(url, shard=1)) == (([], each + 2), ([], each + 1))


def test_a_clock_that_was_set_back_orders_nothing_anew(
    trail: Trail, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail.append(entry(2))
    monkeypatch.setattr(chain, "now", lambda: "2001-01-01T00:00:00.000000Z")
    trail.append(entry(2))
    with Trail(url) as other:
        other.append(entry(2))
    with trail.store.reading() as connection:
        times = [row.at for row in connection.execute(RECORDS.select().order_by(RECORDS.c.position))]
    assert times == sorted(times) and times[1] == times[2] == times[3] > "2026"
    assert deep(url) == ([], 4)


def test_verification_sees_one_state_while_others_append(
    trail: Trail, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "_STRIDE", 1)
    for _ in range(600):
        last = trail.submit(entry(2))
    last.result()

    def meanwhile(_: int) -> None:
        for waiting in [trail.submit(entry(2)) for _ in range(600)]:
            waiting.result()
        trail.sign_head()

    store = Store(url)
    assert verify(store, key=PUBLIC, progress=meanwhile).problems == []
    store.close()
    assert deep(url)[0] == []


def test_what_its_caller_gave_up_harms_nobody(trail: Trail, beside: Store, url: str) -> None:
    with beside.writing():
        trail.submit(entry(2))
        time.sleep(0.05)
        given_up, after = trail.submit(entry(5)), trail.submit(entry(8))
        assert given_up.cancel()
    assert after.result(30).number == 2
    with pytest.raises(CancelledError):
        given_up.result()
    assert trail.append(entry(2)).number == 3
    assert deep(url) == ([], 4)


def test_closing_waits_for_what_was_handed_over_and_signs(url: str, beside: Store) -> None:
    trail = Trail(url, key=KEY, head_every=3600)
    with beside.writing():
        waiting = [trail.submit(entry(2)) for _ in range(50)]
        closing = threading.Thread(target=trail.close)
        closing.start()
        time.sleep(0.05)
        assert closing.is_alive()
    closing.join(30)
    assert [one.result(0).number for one in waiting] == list(range(1, 51))
    signed = last_head(beside)
    assert signed is not None and signed.head.size == 51
    trail.close()
    with pytest.raises(RuntimeError, match="closed"):
        trail.append(entry(2))
    assert deep(url) == ([], 51)


def test_a_fork_may_not_append(postgres: str) -> None:
    """Its parent's connections and thread are not its own: it is told, and ends without touching them."""
    script = (
        "import os, sys\nfrom tests.trail.world import KEY, entry\nfrom primum.trail.log import Trail\n"
        "with Trail(sys.argv[1], key=KEY) as trail:\n"
        "    trail.append(entry(2))\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        try:\n"
        "            trail.append(entry(2))\n"
        "        except RuntimeError as error:\n"
        "            sys.exit(7 if 'opened in the process' in str(error) else 8)\n"
        "    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7\n"
        "    trail.append(entry(2))\n"
    )
    Trail.create(postgres, key=KEY)
    command = [sys.executable, "-c", script, postgres]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    assert deep(postgres) == ([], 3)


def test_heads_are_signed_while_records_arrive(url: str, beside: Store) -> None:
    with Trail(url, key=KEY, head_every=0.01) as trail:
        trail.append(entry(2))
        until = time.monotonic() + 30
        while ((signed := last_head(beside)) is None or signed.head.size < 2) and time.monotonic() < until:
            time.sleep(0.01)
        assert signed is not None and signed.head.size == 2
        assert trail.problems == []


def test_who_has_no_key_signs_no_head(url: str, beside: Store) -> None:
    with Trail(url, head_every=0.01) as trail:
        trail.append(entry(2))
        assert trail.sign_head() is None
    assert last_head(beside) is None


def test_attended_leaves_a_beginning_and_an_end(trail: Trail) -> None:
    intent = Entry("prediction.intent", "svc", details={"input": "00"})
    outcome = Entry("prediction.outcome", "svc", details={"status": "answered"})

    def fails() -> int:
        raise ZeroDivisionError

    assert attended(trail, intent, lambda: 5, lambda answer: outcome) == 5
    with pytest.raises(ZeroDivisionError):
        attended(trail, intent, fails, lambda answer: outcome)
    trail.append(intent)
    with trail.store.reading() as connection:
        rows = connection.execute(RECORDS.select().order_by(RECORDS.c.position)).all()
        assert unended(connection) == [5]
    documents = [json.loads(row.body) for row in rows]
    assert [(one["kind"], one.get("refers_to")) for one in documents[1:]] == [
        ("prediction.intent", None),
        ("prediction.outcome", 1),
        ("prediction.intent", None),
        ("prediction.outcome", 3),
        ("prediction.intent", None),
    ]
    assert [one["details"].get("status") for one in documents[2::2]] == ["answered", "failed"]


def test_a_database_that_refuses_says_so_and_is_asked_again(tmp_path: Path) -> None:
    url = str(tmp_path / "t.db")
    Trail.create(url, key=KEY)
    with Trail(url, key=KEY) as trail:
        trail.append(entry(2))
        sql(url, "CREATE TRIGGER no BEFORE INSERT ON trail_block BEGIN SELECT RAISE(ABORT, 'full'); END")
        sql(url, "CREATE TRIGGER full BEFORE INSERT ON trail_record BEGIN SELECT RAISE(ABORT, 'full'); END")
        with pytest.raises(MachineError, match=r"refused \(full\): nothing was half-written"):
            trail.append(entry(2))
        sql(url, "DROP TRIGGER full")
        # As many as were refused are written by another meanwhile.
        with Trail(url) as other:
            assert other.append(entry(5)).number == 2
        assert trail.append(entry(2)).number == 3
        # Refused at the end of a block, when the records of the transaction were written already.
        with trail.store.writing():
            waiting = [trail.submit(entry(2)) for _ in range(400)]
        failed = [one for one in waiting if one.exception() is not None]
        assert failed and all(isinstance(one.exception(), MachineError) for one in failed)
        kept = 400 - len(failed)
        sql(url, "DROP TRIGGER no")
        assert trail.append(entry(2)).number == 4 + kept
    assert deep(url) == ([], 5 + kept)


def test_a_server_that_lets_go_in_the_middle(postgres: str) -> None:
    Trail.create(postgres, key=KEY)
    beside = Store(postgres)
    gone = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND wait_event_type = 'Lock'"
    )
    with Trail(postgres, key=KEY) as trail:
        trail.append(entry(2))
        with beside.writing() as connection:
            waiting, until = trail.submit(entry(5)), time.monotonic() + 30
            while not connection.exec_driver_sql(gone).all() and time.monotonic() < until:
                time.sleep(0.01)
            with pytest.raises(MachineError, match="nothing was half-written"):
                waiting.result(30)
        assert trail.append(entry(8)).number == 2
    beside.close()
    assert deep(postgres) == ([], 3)


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_a_server_whose_transactions_see_the_past(postgres: str, isolation: str) -> None:
    """A writer that waited for its turn must see what was written meanwhile, whatever is usual there."""
    database = make_url(postgres).database
    sql(postgres, f"ALTER DATABASE {database} SET default_transaction_isolation = '{isolation}'")
    Trail.create(postgres, key=KEY)
    with Trail(postgres) as one, Trail(postgres) as two:
        waiting = [trail.submit(entry(2)) for _ in range(100) for trail in (one, two)]
        assert sorted(future.result().number for future in waiting) == list(range(1, 201))
    assert deep(postgres) == ([], 201)


@pytest.mark.parametrize("since", [0, 501, 900])
def test_a_trail_that_another_one_took_the_place_of(tmp_path: Path, since: int) -> None:
    """A backup was put back, and others went on from it: fewer, as many or more records than were known."""
    url = str(tmp_path / "t.db")
    Trail.create(url, key=KEY)
    with Trail(url, key=KEY) as trail:
        for waiting in [trail.submit(entry(2)) for _ in range(600)]:
            waiting.result()
        sql(url, "DROP TRIGGER trail_record_kept", "DROP TRIGGER trail_block_kept")
        sql(url, "DELETE FROM trail_record WHERE position > 99", "DELETE FROM trail_block")
        with Trail(url) as other:
            for waiting in [other.submit(entry(5)) for _ in range(since)]:
                waiting.result()
        for number, waiting in enumerate([trail.submit(entry(2)) for _ in range(600)], 100 + since):
            assert waiting.result().number == number
    with Trail(url, key=KEY):
        pass
    assert deep(url) == ([], 700 + since)


def test_heads_of_writers_who_take_turns_are_right(tmp_path: Path) -> None:
    """Each reads only what the other added: over the ends of blocks too."""
    url, chance = str(tmp_path / "t.db"), random.Random(0)
    Trail.create(url, key=KEY)
    with Trail(url, key=KEY) as one, Trail(url, key=KEY) as two:
        for _ in range(40):
            trail = chance.choice([one, two])
            for waiting in [trail.submit(entry(2)) for _ in range(chance.choice([1, 2, 255, 256, 300]))]:
                waiting.result()
            chance.choice([one, two]).sign_head()
    found, count = deep(url)
    assert (found, count > 2000) == ([], True)

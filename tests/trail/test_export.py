"""Exports that prove themselves, and say so no longer when a byte is another; queries; retention."""

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.trail.world import KEY, PATIENTS, World, build, entry

from primum.errors import InputError
from primum.trail.entry import Entry
from primum.trail.export import check_export, export_lines, last_head
from primum.trail.heads import public_hex
from primum.trail.log import Trail
from primum.trail.queries import Query, find, instant, unended
from primum.trail.record import read_record
from primum.trail.retention import HIPAA, Policy, expire, read_policy
from primum.trail.store import Store
from primum.trail.verification import verify

PUBLIC = public_hex(KEY)
LATER = datetime.now(UTC) + timedelta(days=800)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build(tmp_path_factory.mktemp("world"), size=320)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "trail.db")
    return str(request.getfixturevalue("postgres"))


def filled(url: str, count: int = 40) -> Store:
    Trail.create(url, key=KEY)
    with Trail(url, key=KEY) as trail:
        for waiting in [trail.submit(entry(number)) for number in range(1, count)]:
            waiting.result()
    return Store(url)


def written(store: Store, query: Query, path: Path) -> Path:
    path.write_bytes(b"".join(export_lines(store, query)))
    return path


def test_a_patient_s_history_is_proven_without_the_trail(world: World, tmp_path: Path) -> None:
    path = written(Store(world.url), Query(patient=PATIENTS[3]), tmp_path / "e")
    checked = check_export(path, key=PUBLIC)
    lines = [json.loads(one) for one in path.read_bytes().splitlines()[1:-1]]
    # The world holds 319 entries after the first record, and a head over 300: the rest is not proven yet.
    assert [one["record"]["number"] for one in lines] == [n for n in range(1, 300) if n % 7 == 3]
    assert checked.records == len(lines) and [one.head.size for one in checked.heads] == [300]
    assert checked.query == {"patient": PATIENTS[3]}


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        (Query(), lambda n: True),
        (Query(model=f"{1:064x}"), lambda n: n % 3 == 1),
        (Query(by="dr.2"), lambda n: n % 3 == 2 and n % 5 == 2),
        (Query(kinds=("prediction",)), lambda n: n and n % 3 in (0, 1)),
        (Query(kinds=("access",), patient=PATIENTS[0]), lambda n: n % 3 == 2 and n % 7 == 0),
        (Query(since="2001-01-01T00:00:00.000000Z", until="2002-01-01T00:00:00.000000Z"), lambda n: False),
    ],
)
def test_what_people_ask(world: World, query: Query, wanted: object) -> None:
    assert callable(wanted)
    with Store(world.url).reading() as connection:
        found = [one.number for one in find(connection, query)]
    assert found == [n for n in range(320) if wanted(n)]


def test_any_other_byte_of_an_export_is_refused(world: World, tmp_path: Path) -> None:
    path, draw = written(Store(world.url), Query(patient=PATIENTS[5]), tmp_path / "e"), random.Random(4)
    whole = path.read_bytes()
    query = whole.index(b'"query"'), whole.index(b'"schema"')
    for _ in range(400):
        where = draw.randrange(len(whole))
        if query[0] <= where < query[1]:
            # What was asked is the exporter's own word.
            continue
        path.write_bytes(whole[:where] + bytes([whole[where] ^ 1 << draw.randrange(8)]) + whole[where + 1 :])
        with pytest.raises(InputError):
            check_export(path, key=PUBLIC)
    lines = whole.splitlines(keepends=True)
    listed = whole[: query[0]] + b'"query":[1],' + whole[query[1] :]
    for wrong in (
        [listed],
        lines[:-1],
        lines[:3] + lines[4:],
        lines[:3] + lines[2:],
        [*lines, b"\n"],
        [],
        [b"[]\n"],
    ):
        path.write_bytes(b"".join(wrong))
        with pytest.raises(InputError):
            check_export(path, key=PUBLIC)
    path.write_bytes(whole)
    with pytest.raises(InputError, match="not signed by this key"):
        check_export(path, key="0" * 64)
    with pytest.raises(InputError, match="cannot be read"):
        check_export(tmp_path / "none")


def test_nothing_can_be_exported_before_a_head(tmp_path: Path) -> None:
    url = str(tmp_path / "t.db")
    Trail.create(url, key=KEY)
    with pytest.raises(InputError, match="No head was signed yet"):
        list(export_lines(Store(url), Query()))
    assert last_head(Store(url)) is None


def test_intents_without_an_outcome_are_counted(url: str) -> None:
    Trail.create(url, key=KEY)
    with Trail(url) as trail:
        begun = [trail.append(Entry("prediction.intent", "svc")).number for _ in range(3)]
        trail.append(Entry("prediction.outcome", "svc", refers_to=begun[1]))
        trail.append(Entry("review", "dr.x", refers_to=begun[0]))
    with Store(url).reading() as connection:
        assert unended(connection) == [begun[0], begun[2]]
    assert verify(Store(url)).open_intents == [begun[0], begun[2]]


def test_retention_drops_bytes_and_every_proof_holds(url: str, tmp_path: Path) -> None:
    store = filled(url)
    before = check_export(written(store, Query(kinds=("access",)), tmp_path / "1"), key=PUBLIC)
    policy = Policy("ward", {"prediction": 730, "default": 2192})
    assert expire(store, policy, by="dpo", at=LATER) == 26
    seen = verify(store, key=PUBLIC, deep=True)
    assert (seen.problems, seen.expired, seen.covered) == ([], 26, 40)
    with store.reading() as connection:
        kept = [read_record(one.body)["kind"] for one in find(connection, Query())]
    assert kept == ["trail.created", *["access"] * 13, "retention"]
    after = check_export(written(store, Query(kinds=("access",)), tmp_path / "2"), key=PUBLIC)
    assert after.records == before.records == 13
    assert expire(store, policy, by="dpo", at=LATER) == 0
    # A second time with everything due, and the trail goes on being appended to.
    assert expire(store, HIPAA, by="dpo", at=LATER + timedelta(days=2000)) == 13
    with Trail(url, key=KEY) as trail:
        trail.append(entry(2))
    assert verify(store, key=PUBLIC, deep=True).holds
    # One more that no retention names.
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE trail_record SET body = NULL WHERE position = 42")
    assert [one.code for one in verify(store, key=PUBLIC).problems] == ["expired"]


def test_retention_waits_for_a_head(url: str) -> None:
    Trail.create(url, key=KEY)
    with Trail(url) as trail:
        trail.append(entry(2))
    assert expire(Store(url), HIPAA, by="dpo", at=LATER + timedelta(days=9000)) == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = 'a'\n[keep]\ndefault = 30", "must be kept for 184 days or more"),
        ("name = 'a'\n[keep]\nprediction = true", "must be kept for 184 days or more"),
        ("name = 'a'\n[keep]\npredicton = 400", "no records of the kind predicton"),
        ("name = 'a'", "needs a name and a table"),
        ("[keep]\ndefault = 400", "The field policy"),
        ("name = 'a b'\n[keep]\ndefault = 400", "The field policy"),
        ("nonsense", "cannot be read as TOML"),
    ],
)
def test_a_policy_that_cannot_be_used(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(InputError, match=said):
        read_policy(tmp_path / "p.toml")


def test_the_longest_beginning_of_a_kind_counts(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(
        "name = 'a'\n[keep]\nprediction = 400\n'prediction.intent' = 500\ndefault = 600"
    )
    policy = read_policy(tmp_path / "p.toml")
    kinds = "prediction.intent", "prediction.outcome", "review", "erasure", "retention", "trail.created"
    assert [policy.of(one) for one in kinds] == [500, 400, 600, None, None, None]
    assert Policy("b", {"review": 400}).of("access") is None


def test_times_are_written_one_way() -> None:
    assert instant("2026-11-01T08:30:00+01:00") == "2026-11-01T07:30:00.000000Z"
    with pytest.raises(InputError, match="no date or time"):
        instant("yesterday")

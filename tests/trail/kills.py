"""Writers that are killed at a random moment, and what has to be true of the trail afterwards.

``python -m tests.trail.kills URL WITNESS KILLS SEED`` makes a trail, kills writers of it so often, and prints
what it counted; it ends with an error when anything was lost, torn or made up. A process of its own: it
forks, and for that it must have no threads.
"""

import json
import os
import random
import selectors
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.trail.changes import PUBLIC
from tests.trail.world import KEY, PATIENTS

from primum.trail.entry import Entry, Position
from primum.trail.log import Trail, attended
from primum.trail.merkle import leaf_hash
from primum.trail.queries import unended
from primum.trail.store import RECORDS, Store
from primum.trail.verification import verify
from primum.trail.witness import FileWitness, read_heads

# A writer that nobody kills ends by itself.
LONGEST = 60.0
# Moments of death, and within how many seconds after their beginning it comes.
MOMENTS = {"opening": 0.02, "writing": 0.3, "closing": 0.02}


@dataclass
class Told:
    """What writers said of a trail: what they were about to write, and what they were told is durable."""

    asked: set[str] = field(default_factory=set)
    kept: dict[int, tuple[str, str]] = field(default_factory=dict)


@dataclass
class Counted:
    """What a series of kills came to.

    Attributes
    ----------
    kills : int
        Writers that died of SIGKILL; those that had closed in time are not counted.
    acknowledged, records, unacknowledged, dangling : int
        Records that a writer knew to be durable; that are there; that are there although nobody was told;
        intents without an outcome.
    moments : mapping of str to int
        What the writers were at when they died.
    """

    kills: int = 0
    acknowledged: int = 0
    records: int = 0
    unacknowledged: int = 0
    dangling: int = 0
    moments: dict[str, int] = field(default_factory=dict)


def token_of(kind: str, refers_to: int | None, details: Mapping[str, Any]) -> str:
    """Give what only one entry of all writers has."""
    return (
        f"of {refers_to}"
        if kind == "prediction.outcome"
        else str(details.get("input", details.get("purpose")))
    )


class _Telling:
    """A recorder that says what it is about to do, and what was done, on a pipe that outlives it."""

    def __init__(self, trail: Trail, pipe: int) -> None:
        self.trail, self.pipe = trail, pipe

    def say(self, *words: object) -> None:
        # Short lines arrive whole whichever thread writes them (pipe(7): PIPE_BUF).
        os.write(self.pipe, (" ".join(map(str, words)) + "\n").encode())

    def append(self, entry: Entry) -> Position:
        return self.append_all([entry])[0]

    def append_all(self, entries: list[Entry]) -> list[Position]:
        for one in entries:
            self.say("ask", token_of(one.kind, one.refers_to, one.details))
        waiting = [self.trail.submit(one) for one in entries]
        found = []
        for one, future in zip(entries, waiting, strict=True):
            position = future.result()
            token = token_of(one.kind, one.refers_to, one.details)
            self.say("kept", position.number, position.leaf, token)
            found.append(position)
        return found


def _client(telling: _Telling, draw: random.Random, until: float) -> None:
    """Write whatever a gateway writes, until it is time to close."""

    def run() -> int:
        time.sleep(draw.random() * 0.002)
        if draw.random() < 0.1:
            raise ZeroDivisionError
        return draw.randrange(10**6)

    def outcome(answer: int) -> Entry:
        return Entry("prediction.outcome", "svc", details={"status": "answered", "output": str(answer)})

    while time.monotonic() < until:
        patient = draw.choice(PATIENTS)
        if draw.random() < 0.6:
            details = {"input": f"{draw.getrandbits(128):032x}"}
            with suppress(ZeroDivisionError):
                attended(telling, Entry("prediction.intent", "svc", patient, details=details), run, outcome)
        else:
            purposes = [f"{draw.getrandbits(128):032x}" for _ in range(draw.choice([1, 1, 3, 40]))]
            telling.append_all(
                [Entry("access", "dr.who", patient, details={"purpose": one}) for one in purposes]
            )


def _writer(url: str, witness: Path, pipe: int, *, seconds: float, seed: str) -> None:
    os.write(pipe, b"now opening\n")
    trail = Trail(url, key=KEY, witnesses=[FileWitness(witness)], head_every=0.02)
    os.write(pipe, b"now writing\n")
    telling, until = _Telling(trail, pipe), time.monotonic() + seconds
    clients = [
        threading.Thread(target=_client, args=(telling, random.Random(f"{seed} {one}"), until), daemon=True)
        for one in range(6)
    ]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    os.write(pipe, b"now closing\n")
    trail.close()
    os.write(pipe, b"now closed\n")


class _Doomed:
    """A writer in a process of its own, with the moment of its death."""

    def __init__(self, url: str, witness: Path, draw: random.Random, told: Told, moment: str) -> None:
        self.told, self.at = told, "forked"
        self.due: float | None = None
        self._rest = b""
        self._moment = moment
        # A random time after the moment was reached, soon rather than late: opening and closing are short.
        self._after = draw.random() ** 2 * MOMENTS.get(moment, 0.0)
        seconds = LONGEST if moment in ("opening", "writing") else draw.random() * 0.2
        self.pipe, other = os.pipe()
        self.process = os.fork()
        if self.process == 0:
            status = 1
            try:
                os.close(self.pipe)
                _writer(url, witness, other, seconds=seconds, seed=str(draw.random()))
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        os.close(other)

    def hear(self) -> bool:
        """Take down what it said; False when it says no more."""
        said = os.read(self.pipe, 1 << 16)
        *lines, self._rest = (self._rest + said).split(b"\n")
        for line in lines:
            what, _, words = line.decode().partition(" ")
            if what == "ask":
                self.told.asked.add(words)
            elif what == "kept":
                number, leaf, token = words.split(" ", 2)
                self.told.kept[int(number)] = leaf, token
            else:
                self.at = words
                if self.at == self._moment:
                    self.due = time.monotonic() + self._after
        return bool(said)

    def kill(self) -> None:
        os.kill(self.process, signal.SIGKILL)
        while self.hear():
            pass

    def died(self) -> bool:
        """Say whether it was killed, not closed in time; it never ends in another way."""
        status = os.waitpid(self.process, 0)[1]
        os.close(self.pipe)
        assert status == signal.SIGKILL or (status == 0 and self.at == "closed"), (status, self.at)
        return status == signal.SIGKILL


def _killed(doomed: list[_Doomed]) -> None:
    """Listen to writers and kill each when its time has come."""
    with selectors.DefaultSelector() as heard:
        for one in doomed:
            heard.register(one.pipe, selectors.EVENT_READ, one)
        while waiting := [key.data for key in heard.get_map().values()]:
            dues = [one.due for one in waiting if one.due is not None]
            for key, _ in heard.select(max(min(dues) - time.monotonic(), 0) if dues else LONGEST):
                if not key.data.hear():
                    heard.unregister(key.fileobj)
            for one in waiting:
                if one.due is not None and time.monotonic() >= one.due and one.pipe in heard.get_map():
                    one.kill()
                    heard.unregister(one.pipe)


@contextmanager
def _alone(url: str) -> Iterator[Store]:
    """Open the store once nobody else has it: PostgreSQL ends what a dead client began, or undoes it."""
    store = Store(url)
    asked = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    while store.kind == "postgresql":
        with store.reading() as connection:
            if not connection.exec_driver_sql(asked + " AND backend_type = 'client backend'").scalar():
                break
        time.sleep(0.01)
    yield store
    store.close()


def check(url: str, witness: Path, told: Told, counted: Counted) -> None:
    """Hold the trail against what was said of it."""
    with _alone(url) as store:
        seen = verify(store, key=PUBLIC, witnessed=read_heads(witness) if witness.exists() else (), deep=True)
        with store.reading() as connection:
            rows = connection.execute(RECORDS.select().order_by(RECORDS.c.position)).all()
            open_intents = unended(connection)
    assert not seen.problems, seen.problems
    assert [row.position for row in rows] == list(range(seen.size))
    # From the bytes themselves, whatever the columns say.
    tokens, begun, ended = [], set(), set()
    for row in rows[1:]:
        assert leaf_hash(row.body) == row.leaf
        document = json.loads(row.body)
        tokens.append(token_of(document["kind"], document.get("refers_to"), document["details"]))
        if document["kind"] == "prediction.intent":
            begun.add(row.position)
        elif document["kind"] == "prediction.outcome":
            ended.add(document["refers_to"])
    assert len(set(tokens)) == len(tokens), "written twice"
    assert set(tokens) <= told.asked, "nobody wrote this"
    for number, (leaf, token) in told.kept.items():
        assert (rows[number].leaf.hex(), tokens[number - 1]) == (leaf, token), f"lost {number}"
    assert seen.open_intents == open_intents == sorted(begun - ended)
    counted.acknowledged, counted.records = len(told.kept), len(tokens)
    counted.unacknowledged, counted.dangling = len(tokens) - len(told.kept), len(open_intents)


def series(url: str, witness: Path, kills: int, seed: int) -> Counted:
    """Make a trail, kill writers of it that often, check after each; a last one goes on and ends in peace."""
    draw, told, counted = random.Random(seed), Told(), Counted()
    Trail.create(url, key=KEY)
    while counted.kills < kills:
        # At times two have the trail open, and one goes on while the other dies.
        together = min(draw.choice([1, 2]), kills - counted.kills)
        moments = draw.choices(list(MOMENTS), weights=[1, 3, 1], k=together)
        doomed = [_Doomed(url, witness, draw, told, one) for one in moments]
        _killed(doomed)
        for one in doomed:
            if one.died():
                counted.kills += 1
                at = "closing" if one.at == "closed" else one.at
                counted.moments[at] = counted.moments.get(at, 0) + 1
        check(url, witness, told, counted)
    before, last = counted.records, _Doomed(url, witness, draw, told, "never")
    _killed([last])
    assert not last.died()
    check(url, witness, told, counted)
    assert counted.records > before
    return counted


def main() -> None:
    """Run one series."""
    url, witness, kills, seed = sys.argv[1:]
    print(json.dumps(asdict(series(url, Path(witness), int(kills), int(seed)))))


if __name__ == "__main__":
    main()

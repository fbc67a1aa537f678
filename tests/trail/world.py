"""A small trail on disk with heads and a witness, for tests that change it by one thing at a time."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection

from primum.trail.entry import Entry, Value
from primum.trail.heads import SignedHead
from primum.trail.log import Trail
from primum.trail.store import Store
from primum.trail.witness import FileWitness, read_heads

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_COPIES = count()
PATIENTS = [f"{one:032x}" for one in range(7)]


def entry(number: int) -> Entry:
    """Something of every kind of length."""
    patient, model = PATIENTS[number % 7], f"{number % 3:064x}"
    if number % 3 == 0:
        return Entry(
            "prediction.intent", "svc", patient=patient, model=model, details={"input": f"{number:064x}"}
        )
    if number % 3 == 1:
        details: dict[str, Value] = {"status": "answered", "output": f"{number:064x}", "latency_us": number}
        return Entry(
            "prediction.outcome", "svc", patient=patient, model=model, refers_to=number - 1, details=details
        )
    return Entry(
        "access", f"dr.{number % 5}", patient=patient, on_behalf_of="ward:3", details={"purpose": "care"}
    )


@dataclass(frozen=True)
class World:
    """A trail of `size` records and the heads that its witness keeps."""

    url: str
    size: int
    witnessed: tuple[SignedHead, ...]


def build(folder: Path, *, size: int = 300, heads: tuple[int, ...] = (1, 100, 256, 299, 300)) -> World:
    """Write a trail with a head at each of the given sizes, all witnessed."""
    url, witness = str(folder / "trail.db"), folder / "witness"
    Trail.create(url, key=KEY)
    with Trail(url, key=KEY, witnesses=[FileWitness(witness)], head_every=3600) as trail:
        done = 1
        for stop in heads:
            waiting = [trail.submit(entry(number)) for number in range(done, stop)]
            assert [one.result().number for one in waiting] == list(range(done, stop))
            trail.sign_head()
            done = stop
        for number in range(done, size):
            trail.append(entry(number))
        # Closing signs a last head: not here.
        trail._key = None
    return World(url, size, tuple(read_heads(witness)))


class Held(Store):
    """A store whose only connection is held open, so that a change can be verified and undone."""

    def __init__(self, connection: Connection, facts: dict[str, str] | None = None) -> None:
        self.connection, self.given, self.kind = connection, facts, "sqlite"

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        yield self.connection

    def facts(self) -> dict[str, str]:
        return self.given or super().facts()


@contextmanager
def opened(world: World) -> Iterator[Held]:
    """Open a copy of a world for changes that are never kept: an open change keeps others out."""
    copy = f"{world.url}.{next(_COPIES)}"
    shutil.copyfile(world.url, copy)
    store = Store(copy)
    with store.engine.connect() as connection:
        for table in ("record", "block", "head", "fact"):
            for guard in ("kept", "fixed"):
                connection.exec_driver_sql(f"DROP TRIGGER trail_{table}_{guard}")
        # Shifting records would move every entry of every index.
        for name in ("patient", "model", "by", "at"):
            connection.exec_driver_sql(f"DROP INDEX trail_record_{name}")
        yield Held(connection)
        connection.rollback()
    store.close()


def sql(connection: Connection, statement: str, *given: Any) -> Any:
    """Carry out a statement with ``?`` fields."""
    return connection.exec_driver_sql(statement, given)

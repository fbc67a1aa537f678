"""A long trail at once: the records that a writer would have made, without a transaction for each.

Only time is saved: the bytes are those of :func:`primum.trail.record.record_bytes`, the chain, leaves and
block roots are right, and ``verify --deep`` accepts them (tests/trail/test_bulk.py).
"""

import random
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import islice
from typing import Any

import psycopg
from sqlalchemy import Index, make_url
from tests.trail.world import KEY

from primum.trail.log import Trail
from primum.trail.merkle import BLOCK, leaf_hash, root_of
from primum.trail.store import BLOCKS, RECORDS, Store

MANY = 20_000
# Of the one patient who is asked for because nobody has more.
MOST = 1_000
_NAMES = ", ".join(f'"{column.name}"' for column in RECORDS.columns)
_INTENT = (
    '{"after":"%s","at":"%s","by":"gateway","details":{"input":"%s","payload":"p:%d","version":"1"},'
    '"kind":"prediction.intent","model":"%s","number":%d,"on_behalf_of":"%s","patient":"%s","schema":"1",'
    '"shard":0}'
)
_OUTCOME = (
    '{"after":"%s","at":"%s","by":"gateway","details":{"latency_us":%d,"output":"%s","status":"answered"},'
    '"kind":"prediction.outcome","model":"%s","number":%d,"on_behalf_of":"%s","patient":"%s","refers_to":%d,'
    '"schema":"1","shard":0}'
)
_ACCESS = (
    '{"after":"%s","at":"%s","by":"%s","details":{"purpose":"care","records":%d},"kind":"access",'
    '"number":%d,"patient":"%s","schema":"1","shard":0}'
)
_REVIEW = (
    '{"after":"%s","at":"%s","by":"%s","details":{"decision":"confirmed","output":"%s"},"kind":"review",'
    '"model":"%s","number":%d,"patient":"%s","refers_to":%d,"schema":"1","shard":0}'
)
# What a record brings to its row beside position, leaf and body.
_Searched = tuple[str, int | None, str, str, str, str | None]


def patient_number(one: int) -> str:
    """The random number of a patient, as the vault would have drawn it."""
    return sha256(b"patient %d" % one).hexdigest()[:32]


def _bodies(size: int, patients: int, seed: int, after: bytes) -> Iterator[tuple[bytes, bytes, _Searched]]:
    """Write predictions, each seen and reviewed by somebody: leaf, body, and what searches look at.

    Patient 0 has `MOST` records, spread over the whole time; all others as many as falls to them.
    """
    draw, number, moment = random.Random(seed), 1, datetime.now(UTC)
    models = [sha256(b"model %d" % one).hexdigest() for one in range(5)]
    step, spread = timedelta(microseconds=2_500_017), max(size // MOST, 1)
    while number < size:
        case = number // 4
        patient = patient_number(draw.randrange(1, patients) if case % spread else 0)
        doctor, model = f"dr.{draw.randrange(200):03d}", models[case % 5]
        given, begun = f"{draw.getrandbits(256):064x}", number
        for kind in ("prediction.intent", "prediction.outcome", "access", "review"):
            moment, last = moment + step, after.hex()
            at = moment.isoformat(timespec="microseconds")[:26] + "Z"
            by, of, refers = doctor, None if kind == "access" else model, None if begun == number else begun
            if kind == "prediction.intent":
                by = "gateway"
                text = _INTENT % (last, at, given, case, model, number, doctor, patient)
            elif kind == "prediction.outcome":
                by, taken = "gateway", draw.randrange(900, 90_000)
                text = _OUTCOME % (last, at, taken, given, model, number, doctor, patient, begun)
            elif kind == "access":
                refers = None
                text = _ACCESS % (last, at, doctor, case % 9, number, patient)
            else:
                text = _REVIEW % (last, at, doctor, given, model, number, patient, begun)
            body = text.encode()
            after = sha256(b"\0" + body).digest()
            yield after, body, (kind, refers, at, by, patient, of)
            number += 1


def rows(size: int, *, patients: int, seed: int, first: bytes) -> Iterator[tuple[Any, ...]]:
    """Make the rows from number 1 up to `size`; `first` is the leaf of number 0."""
    made = islice(_bodies(size, patients, seed, first), size - 1)
    for position, (leaf, body, searched) in enumerate(made, 1):
        yield (position, leaf, body, *searched)


class _Blocks:
    """The roots of whole blocks, of leaves that pass by."""

    def __init__(self, first: bytes) -> None:
        self.leaves, self.roots = [first], list[bytes]()

    def add(self, batch: Sequence[tuple[Any, ...]]) -> None:
        self.leaves += [row[1] for row in batch]
        while len(self.leaves) >= BLOCK:
            self.roots.append(root_of(self.leaves[:BLOCK]))
            del self.leaves[:BLOCK]


def load(url: str, size: int, *, patients: int, seed: int = 0) -> None:
    """Make a trail of `size` records with one signed head over all of them.

    Parameters
    ----------
    url : str
        Where there is no trail yet.
    size : int
        At least 2.
    patients : int
        At least 2; they have ``size / patients`` records each on average.
    seed : int
    """
    Trail.create(url, key=KEY)
    store = Store(url)
    with store.engine.connect() as connection:
        first = leaf_hash(connection.exec_driver_sql("SELECT body FROM trail_record").scalar_one())
        for index in _indexes():
            index.drop(connection)
        connection.commit()
    store.close()
    blocks = _Blocks(first)
    made = rows(size, patients=patients, seed=seed, first=first)
    (_into_sqlite if store.kind == "sqlite" else _into_postgres)(url, made, blocks)
    with store.writing() as connection:
        if blocks.roots:
            stored = [{"position": place, "root": root} for place, root in enumerate(blocks.roots)]
            connection.execute(BLOCKS.insert(), stored)
        for index in _indexes():
            index.create(connection)
    store.close()
    with Trail(url, key=KEY, head_every=3600):
        pass  # Closing signs the head.


def _indexes() -> list[Index]:
    return sorted(RECORDS.indexes, key=lambda one: str(one.name))


def _into_sqlite(url: str, made: Iterator[tuple[Any, ...]], blocks: _Blocks) -> None:
    connection = sqlite3.connect(url, isolation_level=None)
    # Nothing of it is durable before it is whole: then it becomes a trail like any other.
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA synchronous = OFF")
    statement = f"INSERT INTO trail_record ({_NAMES}) VALUES (?,?,?,?,?,?,?,?,?)"
    while batch := list(islice(made, MANY)):
        connection.execute("BEGIN")
        connection.executemany(statement, batch)
        connection.execute("COMMIT")
        blocks.add(batch)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()


def _into_postgres(url: str, made: Iterator[tuple[Any, ...]], blocks: _Blocks) -> None:
    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    statement = f"COPY trail_record ({_NAMES}) FROM STDIN"
    with (
        psycopg.connect(address) as connection,
        connection.cursor() as cursor,
        cursor.copy(statement) as copy,
    ):
        while batch := list(islice(made, MANY)):
            for row in batch:
                copy.write_row(row)
            blocks.add(batch)

"""The trail: every single change is found and its place named; killed writers lose nothing (acceptance 1, 2).

First table: 300 records, heads at 1, 100, 256, 299 and 300 that a witness keeps. One thing at a time is
changed in a way and at a place drawn at random, as whoever owns the database can: bytes of records, their
hashes, heads and block roots; with the hash made to fit where one would; records deleted, swapped, inserted,
cut off with the heads over them; all of it written anew and every head signed with the true key. A change is
found when verification has a problem, and named when the first it names meets the records that were changed.

Second: writers, one or two at a time with six threads each, that are killed (SIGKILL) while they open the
trail, write, or close it. Each says on a pipe what it is about to write and what it was told is durable.
After each kill: whatever was acknowledged is there with its hash, nothing is there twice or that nobody
wrote, numbers have no gap, `verify --deep` holds with the heads that a witness keeps, and intents without an
outcome are exactly those that verification reports; then the next writer goes on from there.

Any change that is not found and named, and any kill that leaves something else, ends the study with an error.
What SIGKILL cannot show, the loss of power, rests on the disk's word for what is synchronised; the benchmark
of the trail counts that it is asked at each commit.
"""

import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sqlalchemy import create_engine, text
from tests.trail.changes import CHANGE, changed
from tests.trail.postgres import programs, server
from tests.trail.world import build, opened

from primum.evidence.operating_point import proportion_limits
from studies.tables import Table, write_page

SEEDS, TIMES = (11, 12, 13, 14, 15), 130
SERIES, KILLS = 13, 20
_STORE = joblib.Memory("studies/cache", verbose=0)


@_STORE.cache  # type: ignore[untyped-decorator]
def found(kind: str, seed: int, times: int) -> int:
    """Change one thing that often; ends with an error when one is not found or its place not named."""
    with tempfile.TemporaryDirectory() as folder:
        world = build(Path(folder))
        with opened(world) as held:
            return changed(world, held, kind, times=times, seed=seed)


@contextmanager
def database(kind: str, folder: Path, address: str, name: str) -> Iterator[str]:
    """Give the address of an empty database."""
    if kind == "SQLite":
        yield str(folder / f"{name}.db")
        return
    engine = create_engine(address.format("postgres"), isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        yield address.format(name)
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    finally:
        engine.dispose()


@_STORE.cache(ignore=["address"])  # type: ignore[untyped-decorator]
def killed(kind: str, kills: int, seed: int, address: str) -> dict[str, Any]:
    """Run one series of kills on a trail of its own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        database(kind, Path(folder), address, f"kills{seed}") as url,
    ):
        command = [sys.executable, "-m", "tests.trail.kills", url, f"{folder}/heads", str(kills), str(seed)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise SystemExit(f"{kind}, seed {seed}: {ended.stderr}")
        counted: dict[str, Any] = json.loads(ended.stdout)
    return counted


def _least(count: int) -> str:
    """Say how often a change is found at least, when all of so many were."""
    return f"{100 * proportion_limits(np.array([count]), count, tail=0.05)[0][0]:.2f} %"


def changes() -> Table:
    """Count by kind of change."""
    table = Table("Change", "Tried", "Changed something", "Found and named", "At least (95 %)")
    total = 0
    for kind in CHANGE:
        count = sum(found(kind, seed, TIMES) for seed in SEEDS)
        total += count
        table.add(kind.replace("_", " "), TIMES * len(SEEDS), count, count, _least(count))
    tried = TIMES * len(SEEDS) * len(CHANGE)
    table.add("all", tried, total, total, _least(total))
    return table


def kills() -> Table:
    """Count what killed writers left."""
    table = Table(
        "Database",
        "Kills (opening, writing, closing)",
        "Records acknowledged",
        "Of these lost",
        "Kept, nobody was told",
        "Intents left open, all reported",
    )
    for kind in ("SQLite", "PostgreSQL"):
        if kind == "PostgreSQL" and programs() is None:
            table.add(kind, "its server is not installed", *[""] * 4)
            continue
        with server() if kind == "PostgreSQL" else _nothing() as address:
            counted = [killed(kind, KILLS, seed, address) for seed in range(1, SERIES + 1)]
        moments = [
            sum(one["moments"].get(moment, 0) for one in counted)
            for moment in ("opening", "writing", "closing")
        ]
        fallen = sum(one["kills"] for one in counted)
        said = f"{fallen} ({', '.join(map(str, moments))})"
        sums = [sum(one[name] for one in counted) for name in ("acknowledged", "unacknowledged", "dangling")]
        table.add(kind, said, f"{sums[0]:,}", 0, *sums[1:])
    return table


@contextmanager
def _nothing() -> Iterator[str]:
    yield ""


NOTES = f"""First: {len(SEEDS)} seeds, {TIMES} changes of each kind. Without a witness the last kind is not
found, and `primum trail verify` says so each time.

Second: {SERIES} trails a database, {KILLS} kills each. Records kept although nobody was told are those whose
writer died between the commit and the answer: such a record is whole, and a client that asks again writes
another. What was handed over and not committed is gone without a trace, which is right: nobody was told."""


def main() -> None:
    """Run both, or go on with them: what was counted before is kept under ``studies/cache``."""
    write_page("trail", __doc__, changes(), kills(), notes=NOTES)


if __name__ == "__main__":
    importlib.import_module("studies.trail").main()

"""Benchmarks of the trail: durable appends beside the disk's own pace; ten million records (acceptance 4).

First table: clients append as fast as they are answered for three seconds, each answer after its record is
durable (SQLite with synchronous=FULL, PostgreSQL with fsync and synchronous_commit on). The floor is measured
just before and after each line on the same disk: one 4 KiB write and fdatasync after another, which one
writer without group commit could not pass. Where many wait, one transaction takes them all.

Second: whether FULL really synchronises, counted by strace: calls of fsync and fdatasync during single
appends, in the writer (SQLite) or in the server's processes (PostgreSQL); SQLite with synchronous=NORMAL,
which the trail never uses, shows that the count can tell.

Third and fourth: a long trail, made at once by the loader of the tests, 100 records a patient. Verification
is `primum trail verify` in a process of its own on one core, the start of Python included. First means after
the operating system was told to forget the file (SQLite), again that much of it is in memory. A history is
the query of one patient with an inclusion proof for each record, in a fresh process after imports; checked is
`check_export` on it. An interrupted run goes on where it was.
"""

import importlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from studies.tables import Table, write_page

SECONDS, FLOOR_SECONDS = 3.0, 0.4
# Processes, threads of each, records that each hands over before it waits.
CLIENTS = (
    *((1, 1, 1), (1, 1, 16), (1, 1, 256), (1, 4, 1), (1, 16, 1), (1, 64, 1), (1, 16, 16)),
    *((2, 1, 1), (4, 1, 1), (2, 16, 1), (4, 16, 16)),
)
SINGLE = 200
TEN_MILLION, MILLION, EACH = 10_000_000, 1_000_000, 100
APPENDS = (
    *("Database", "Processes × threads", "Handed over at once", "Durable appends / s", "Transactions / s"),
    *("Floor: fdatasync / s", "Appends for one of the floor", "Median wait, ms", "99 % within, ms"),
)
CALLS = ("Database", "Transactions", "fsync", "fdatasync", "At least one each")
TRAILS = (
    *("Database", "Records", "Loaded, s", "Size, GB", "Verification", "Seconds", "Of these CPU"),
    *("Peak memory, MiB", "Load average"),
)
HISTORIES = (
    *("Database", "Records", "Of the patient", "Reading", "With proofs, s", "Checked, s", "Under 1 s"),
)
Rows = list[list[Any]]
_KEPT = Path("studies/cache/trail_bench")
_SELF = [sys.executable, "-m", "studies.trail_bench"]


def floor(folder: Path) -> float:
    """Count how often a second one 4 KiB write is synchronised."""
    page, count = os.urandom(4096), 0
    number = os.open(folder / "floor", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.pwrite(number, page * 64, 0)
        os.fsync(number)
        begun = time.perf_counter()
        while (taken := time.perf_counter() - begun) < FLOOR_SECONDS:
            os.pwrite(number, page, 4096 * (count % 64))
            os.fdatasync(number)
            count += 1
    finally:
        os.close(number)
    return count / taken


def write(url: str, threads: int, batch: int, seconds: float, most: int) -> dict[str, Any]:
    """Append for some seconds, or so many times, once a line on stdin says so."""
    from sqlalchemy import event
    from tests.trail.world import entry

    from primum.trail.log import Trail

    trail, commits = Trail(url), list[object]()
    if os.environ.get("TRAIL_CONTROL"):
        with trail.store.reading() as connection:
            raw: Any = connection.connection.dbapi_connection
        raw.execute("PRAGMA synchronous = NORMAL")
    event.listen(trail.store.engine, "commit", commits.append)
    taken: list[list[float]] = [[] for _ in range(threads)]

    def client(one: int) -> None:
        turn = 0
        while (now := time.perf_counter()) < started + seconds and turn < most:
            waiting = [trail.submit(entry(3 * turn + 2)) for _ in range(batch)]
            for each in waiting:
                each.result()
            taken[one].append(time.perf_counter() - now)
            turn += 1

    print("ready", flush=True)
    sys.stdin.readline()
    started, before = time.perf_counter(), len(commits)
    clients = [threading.Thread(target=client, args=(one,)) for one in range(threads)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    lasted, transactions = time.perf_counter() - started, len(commits) - before
    trail.close()
    waits = [one for each in taken for one in each]
    return {"appends": len(waits) * batch, "commits": transactions, "seconds": lasted, "waits": waits}


def appended(url: str, processes: int, threads: int, batch: int) -> dict[str, float]:
    """Run writers at once and add up what they did."""
    given = [*_SELF, "write", url, str(threads), str(batch), str(SECONDS), str(1 << 40)]
    ends = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running: list[Any] = [subprocess.Popen(given, **ends) for _ in range(processes)]  # type: ignore[call-overload]
    for one in running:
        one.stdout.readline()
    for one in running:
        one.stdin.write("begin\n")
        one.stdin.flush()
    found = [json.loads(one.communicate()[0]) for one in running]
    waits = sorted(wait for one in found for wait in one["waits"])
    return {
        "appends": sum(one["appends"] / one["seconds"] for one in found),
        "commits": sum(one["commits"] / one["seconds"] for one in found),
        "median": 1000 * statistics.median(waits),
        "slow": 1000 * waits[int(0.99 * len(waits))],
    }


def throughput(databases: dict[str, Callable[[], str]], folder: Path) -> Rows:
    """Measure every number of clients on every database."""
    rows: Rows = []
    for name, made in databases.items():
        for processes, threads, batch in CLIENTS:
            before = floor(folder)
            found = appended(made(), processes, threads, batch)
            synchronised = (before + floor(folder)) / 2
            rows.append(
                [
                    *(name, f"{processes} × {threads}", batch, f"{found['appends']:,.0f}"),
                    *(f"{found['commits']:,.0f}", f"{synchronised:,.0f}"),
                    f"{found['appends'] / synchronised:.2f}",
                    *(f"{found['median']:.2f}", f"{found['slow']:.1f}"),
                ]
            )
    return rows


def synchronised(databases: dict[str, Callable[[], str]], folder: Path) -> Rows:
    """Count what is asked of the disk during single appends."""
    rows: Rows = []
    if shutil.which("strace") is None:
        return [["strace is not installed", "", "", "", ""]]
    trace = ["strace", "-f", "-qq", "-e", "trace=fsync,fdatasync", "-o"]
    for name, made in {**databases, "SQLite, synchronous=NORMAL (control)": databases["SQLite"]}.items():
        url, calls = made(), folder / "calls"
        writer = [*_SELF, "write", url, "1", "1", "1e12", str(SINGLE)]
        if "host=" in url:
            # The server synchronises: its first process and all that it forks are followed.
            postmaster = (Path(url.split("host=")[1]) / "data" / "postmaster.pid").read_text().split()[0]
            follower = subprocess.Popen([*trace, str(calls), "-p", postmaster])
            time.sleep(1)
            ended = subprocess.run(writer, check=True, capture_output=True, input=b"begin")
            follower.terminate()
            follower.wait()
        else:
            changed = os.environ | ({"TRAIL_CONTROL": "1"} if "control" in name else {})
            command = [*trace, str(calls), *writer]
            ended = subprocess.run(command, check=True, capture_output=True, input=b"begin", env=changed)
        commits = json.loads(ended.stdout.splitlines()[-1])["commits"]
        said = calls.read_text(encoding="utf-8")
        counts = [sum(f" {call}(" in line for line in said.splitlines()) for call in ("fsync", "fdatasync")]
        control = "control" in name
        said_so = ("no, as it should be" if control else False) if sum(counts) < commits else not control
        rows.append([name, commits, *counts, said_so])
    return rows


def fresh(*given: str, core: bool = False) -> dict[str, Any]:
    """Ask a process of its own."""
    pinned = ["taskset", "-c", str(max(os.sched_getaffinity(0)))] if core else []
    ended = subprocess.run([*pinned, *_SELF, *given], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def load(url: str, size: int) -> dict[str, Any]:
    """Make a long trail."""
    from tests.trail.bulk import load as load_at_once

    begun = time.perf_counter()
    load_at_once(url, size, patients=size // EACH)
    return {"seconds": time.perf_counter() - begun}


def verified(url: str, *more: str) -> dict[str, Any]:
    """Run ``primum trail verify`` and give its seconds, start of Python included, and its peak memory."""
    from primum.cli.main import run

    status = run(["trail", "verify", url, "--lang", "en", *more])
    # Not ru_maxrss: that of a process begins with that of the process that began it.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    seconds = time.time() - psutil.Process().create_time()
    return {
        "seconds": seconds,
        "cpu": time.process_time(),
        "peak": int(peak.split()[1]) / 1024,
        "status": status,
    }


def history(url: str, patient: int) -> dict[str, Any]:
    """Ask for all of one patient with proofs, and check them."""
    from tests.trail.bulk import patient_number

    from primum.trail.export import check_export, export_lines
    from primum.trail.queries import Query
    from primum.trail.store import Store

    store, query = Store(url), Query(patient=patient_number(patient))
    begun = time.perf_counter()
    found = b"".join(export_lines(store, query))
    taken = time.perf_counter() - begun
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.jsonl"
        path.write_bytes(found)
        begun = time.perf_counter()
        records = check_export(path).records
    return {"seconds": taken, "records": records, "checked": time.perf_counter() - begun}


def forget(url: str) -> None:
    """Let the operating system forget what it read of an SQLite file."""
    if "://" not in url:
        number = os.open(url, os.O_RDONLY)
        os.fsync(number)
        os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(number)


def verifications(name: str, url: str, size: int, loaded: float) -> Rows:
    """Verify a long trail twice, and deep when it is not too long."""
    disk = f"{Path(url).stat().st_size / 1e9:.1f}" if "://" not in url else "–"
    rows: Rows = []
    for how in ("first", "again", "`--deep`")[: 3 if size <= MILLION else 2]:
        if how == "first":
            forget(url)
        found = fresh("deep" if "deep" in how else "verify", url, core=True)
        if found["status"] != 0:
            raise SystemExit("the long trail does not verify")
        numbers = (f"{found['seconds']:.1f}", f"{found['cpu']:.1f}", f"{found['peak']:.0f}")
        rows.append([name, f"{size:,}", f"{loaded:.0f}", disk, how, *numbers, f"{os.getloadavg()[0]:.1f}"])
    return rows


def histories(name: str, url: str, size: int) -> Rows:
    """Ask a long trail for a usual patient and for the one with most records."""
    rows: Rows = []
    for patient in (7, 0):
        forget(url)
        for how in ("first", "again"):
            one = fresh("history", url, str(patient))
            seconds = [f"{one[part]:.2f}" for part in ("seconds", "checked")]
            rows.append([name, f"{size:,}", one["records"], how, *seconds, one["seconds"] < 1])
    return rows


def kept(name: str, measure: Callable[[], Rows]) -> Rows:
    """Measure, or take what an interrupted run measured."""
    path = _KEPT / f"{name}.json"
    if not path.exists():
        path.write_text(json.dumps(measure()), encoding="utf-8")
    rows: Rows = json.loads(path.read_text(encoding="utf-8"))
    return rows


def long_trail(name: str, url: str, size: int) -> tuple[Rows, Rows]:
    """Make a long trail, verify it and ask for patients."""
    about = f"{name}-{size}"
    if not (_KEPT / f"loaded-{about}.json").exists() and "://" not in url:
        Path(url).unlink(missing_ok=True)  # half of one, from a run that was interrupted
    loaded = kept(f"loaded-{about}", lambda: [[fresh("load", url, str(size))["seconds"]]])[0][0]
    return (
        kept(f"verified-{about}", lambda: verifications(name, url, size, loaded)),
        kept(f"histories-{about}", lambda: histories(name, url, size)),
    )


def table_of(headings: tuple[str, ...], rows: Rows) -> Table:
    """Make a table."""
    table = Table(*headings)
    for row in rows:
        table.add(*row)
    return table


def main() -> None:
    """Measure everything; some fifteen minutes and 10 GB that are free again at the end."""
    from sqlalchemy import create_engine, text
    from tests.trail.postgres import server
    from tests.trail.world import KEY

    from primum.trail.log import Trail

    _KEPT.mkdir(parents=True, exist_ok=True)
    if not (_KEPT / f"histories-PostgreSQL-{MILLION}.json").exists():
        # Its server is of this run only: what was loaded before is gone.
        for one in _KEPT.glob("*-PostgreSQL-*.json"):
            one.unlink()
    count = iter(range(10**6))
    with tempfile.TemporaryDirectory() as made, server() as address:
        folder = Path(made)

        def file() -> str:
            url = str(folder / f"{next(count)}.db")
            Trail.create(url, key=KEY)
            return url

        def database() -> str:
            name = f"bench{next(count)}"
            engine = create_engine(address.format("postgres"), isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                connection.execute(text(f"CREATE DATABASE {name}"))
            engine.dispose()
            return address.format(name)

        def server_trail() -> str:
            url = database()
            Trail.create(url, key=KEY)
            return url

        databases = {"SQLite": file, "PostgreSQL": server_trail}
        appends = kept("appends", lambda: throughput(databases, folder))
        calls = kept("calls", lambda: synchronised(databases, folder))
        trails = [
            long_trail("SQLite", str(_KEPT / "million.db"), MILLION),
            long_trail("PostgreSQL", database(), MILLION),
            long_trail("SQLite", str(_KEPT / "long.db"), TEN_MILLION),
        ]
    tables = (
        table_of(APPENDS, appends),
        table_of(CALLS, calls),
        table_of(TRAILS, [row for one, _ in trails for row in one]),
        table_of(HISTORIES, [row for _, one in trails for row in one]),
    )
    write_page("trail_bench", __doc__, *tables, notes=NOTES)
    shutil.rmtree(_KEPT)


NOTES = """Nothing else ran on the machine's two processors during this run: lines differ by the number
of clients and not by the neighbours. One client that waits for each record is slower than the floor,
because a transaction is more than a write; many who wait come near it or pass it, since one transaction takes
them all. SQLite lets one process write at a time and the others look again after a pause: several processes
gain little there, and the slowest wait long. They belong on PostgreSQL.

Sizes are with all indexes. Required of ten million records: at most 60 s on one core in at most 500 MB, and a
history in under a second. A load average well above 1 beside it means that the core was shared."""


def _asked(what: str, *given: str) -> dict[str, Any]:
    if what == "write":
        url, threads, batch, seconds, most = given
        return write(url, int(threads), int(batch), float(seconds), int(most))
    if what == "load":
        return load(given[0], int(given[1]))
    if what == "history":
        return history(given[0], int(given[1]))
    return verified(given[0], *(["--deep"] if what == "deep" else []))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(_asked(*sys.argv[1:])))
    else:
        importlib.import_module("studies.trail_bench").main()

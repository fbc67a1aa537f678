"""Where an audit is kept: written beside its place, then renamed, so that it is whole or not there."""

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from primum.errors import InputError, MachineError
from primum.evidence.claims import order_of
from primum.evidence.measured import IntArray
from primum.evidence.naming import named_table
from primum.evidence.signature import sign
from primum.records.parquet_columns import write_parquet
from primum.report.files import write_audit
from primum.report.language import Language
from primum.workflows.confidential import CONFIDENTIAL, write_measurements
from primum.workflows.plan import AuditResult
from primum.workflows.suspects import suspects_table


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give a folder to write in, which becomes `target` only if the block ends well.

    Raises
    ------
    InputError
        `target` exists and is not empty.
    MachineError
        The disk refuses; nothing is left behind.
    """
    refuse_full(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise disk_refused(target, error) from error
    try:
        yield beside
        beside.chmod(0o755)
        if target.exists():
            target.rmdir()
        beside.rename(target)
    except OSError as error:
        raise disk_refused(target, error) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def refuse_full(target: Path) -> None:
    """Refuse a place that already holds something, before any work is done."""
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise InputError("{path} is not empty: give a new or empty folder with --out.", path=str(target))


def replace_file(target: Path, text: str) -> None:
    """Write a file beside its place, then rename it there.

    Raises
    ------
    MachineError
        The disk refuses; what was there before is still there.
    """
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(target)
    except OSError as error:
        raise disk_refused(target, error) from error
    finally:
        beside.unlink(missing_ok=True)


def disk_refused(target: Path, error: OSError) -> MachineError:
    """Say what the disk refused."""
    return MachineError(
        "{path} cannot be written ({reason}): free some space and repeat the command, or choose another "
        "folder.",
        path=str(target),
        reason=error.strerror or type(error).__name__,
    )


def write_result(
    folder: Path, result: AuditResult, *, language: Language, sign_key: Ed25519PrivateKey | None = None
) -> None:
    """Write the shareable files, signed where a key is given, and for their owner the confidential ones."""
    run = run_facts(result.seconds)
    if sign_key is not None:
        run["signer"] = sign_key.public_key().public_bytes_raw().hex()
    write_audit(folder, result.audit, run=run, language=language)
    if sign_key is not None:
        sign(folder, sign_key)
    confidential = folder / CONFIDENTIAL
    confidential.mkdir(mode=0o700)
    order = order_of(result.measurements)
    write_measurements(confidential, result.measurements, order=order)
    write_parquet(passages_table(result, order), confidential / "passages.parquet")
    if (named := names_table(result, order)) is not None:
        write_parquet(named, confidential / "named.parquet")
    marked = any(one.test == "data.backdoor" and one.harmful for one in result.audit.findings)
    for observed in result.measurements.observed:
        if observed.family == "data" and (suspects := suspects_table(observed, marked=marked)) is not None:
            suspects.write_csv(confidential / "suspects.csv")
    for path in confidential.iterdir():
        path.chmod(0o600)


def run_facts(seconds: Mapping[str, float]) -> dict[str, object]:
    """When and on what it ran; never part of the findings, which are the same on every run."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "stages": {stage: round(value, 3) for stage, value in seconds.items()},
        "machine": {
            "system": platform.system(),
            "architecture": platform.machine(),
            "processors": os.cpu_count() or 1,
            "python": platform.python_version(),
        },
    }


def names_table(result: AuditResult, order: IntArray) -> pl.DataFrame | None:
    """One row a training patient, the most surely recognised first; None without enough references."""
    naming = result.scores.naming()
    if naming is None:
        return None
    survived = any(one.test == "membership.named" and one.harmful for one in result.audit.findings)
    columns = named_table(naming, named=survived)
    columns = {"patient": np.argsort(order)[columns.pop("row")], **columns}
    return pl.DataFrame(columns).sort("p", "patient")


def passages_table(result: AuditResult, order: IntArray) -> pl.DataFrame:
    """One row an extractable passage, the easiest first; codes only where they were asked for."""
    number = np.argsort(order)
    return pl.DataFrame(
        {
            "patient": [int(number[passage.row]) for passage in result.passages],
            "member": [bool(result.scores.is_member[passage.row]) for passage in result.passages],
            "known_events": [passage.start_event for passage in result.passages],
            "queries": [passage.queries for passage in result.passages],
            "families": [list(passage.families) for passage in result.passages],
            "codes": [None if passage.codes is None else list(passage.codes) for passage in result.passages],
        },
        schema={
            "patient": pl.Int64,
            "member": pl.Boolean,
            "known_events": pl.Int64,
            "queries": pl.Int64,
            "families": pl.List(pl.String),
            "codes": pl.List(pl.String),
        },
    )

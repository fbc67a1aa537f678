"""Exporting a trail to a file: with proofs, as FHIR AuditEvents, or as DICOM audit messages."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from primum.errors import InputError
from primum.evidence.text import clean_text
from primum.trail.export import export_lines
from primum.trail.queries import Query, find
from primum.trail.record import read_record
from primum.trail.store import Store
from primum.workflows.outputs import disk_refused

Form = Literal["proofs", "fhir", "atna"]


def write_export(store: Store, query: Query, out: Path, *, form: Form = "proofs", shard: int = 0) -> int:
    """Write what a query finds, and give the number of records; the file is whole or not there.

    Raises
    ------
    InputError
        The file exists, or no head was signed.
    MachineError
        The disk or the database refused.
    """
    if out.exists():
        raise InputError("{path} is there already: give another file.", path=clean_text(out))
    beside, count = out.with_name(f".{out.name}.part"), 0
    lines = export_lines(store, query, shard=shard) if form == "proofs" else _told(store, query, shard, form)
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
            for line in lines:
                stream.write(line)
                count += 1
            stream.flush()
            os.fsync(stream.fileno())
        beside.rename(out)
    except OSError as error:
        raise disk_refused(out, error) from error
    finally:
        beside.unlink(missing_ok=True)
    # Of an export with proofs the first line is the head and the last one counts.
    return count - 2 if form == "proofs" else count


def _told(store: Store, query: Query, shard: int, form: Form) -> Iterator[bytes]:
    from primum.trail.atna import audit_messages
    from primum.trail.fhir import audit_events

    with store.reading() as connection:
        documents = (read_record(one.body) for one in find(connection, query, shard=shard))
        name = store.facts()["trail"]
        if form == "fhir":
            yield from audit_events(documents, trail=name)
        else:
            yield from (one + b"\n" for one in audit_messages(documents, trail=name))

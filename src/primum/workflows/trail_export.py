"""Records of a trail for others: files with proofs, FHIR AuditEvents, DICOM audit messages.

Who takes records out of the trail is written in it first: a file appears, and a message leaves, only after
the record that says so is durable.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from primum.errors import InputError, clean_text
from primum.trail.atna import audit_messages, send_messages
from primum.trail.entry import Entry
from primum.trail.export import export_lines
from primum.trail.fhir import audit_events
from primum.trail.log import Trail
from primum.trail.queries import Query, find, shards_asked
from primum.trail.record import read_record
from primum.trail.store import Store
from primum.trail.syslog import SyslogSender
from primum.workflows.outputs import disk_refused

Form = Literal["proofs", "fhir", "atna"]


def note_access(trail: str, query: Query, *, by: str) -> None:
    """Write in the trail that someone looks at records."""
    entry = Entry("access", by, patient=query.patient, model=query.model, details={"purpose": "show"})
    with Trail(trail) as opened:
        opened.append(entry)


def write_export(
    trail: str, query: Query, out: Path, *, by: str, form: Form = "proofs", shard: int | None = None
) -> int:
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
    beside, count, digest = out.with_name(f".{out.name}.part"), 0, hashlib.sha256()
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
            for line in _lines(Store(trail), query, shard, form):
                stream.write(line)
                digest.update(line)
                count += 1
            stream.flush()
            os.fsync(stream.fileno())
        # The last line of an export with proofs says how many they are.
        records = json.loads(line)["end"] if form == "proofs" else count
        details = {"records": records, "format": form, "digest": digest.hexdigest()}
        with Trail(trail) as opened:
            opened.append(Entry("export", by, patient=query.patient, model=query.model, details=details))
        beside.rename(out)
    except OSError as error:
        raise disk_refused(out, error) from error
    finally:
        beside.unlink(missing_ok=True)
    return records


def send_records(trail: str, query: Query, sender: SyslogSender, *, by: str, shard: int | None = None) -> int:
    """Send what a query finds to an audit repository, and give the number of messages.

    Raises
    ------
    MachineError
        The repository cannot be reached or trusted.
    """
    store = Store(trail)
    shards_asked(store, shard)
    details = {"format": "atna", "recipient": f"{sender.host}:{sender.port}"}
    with Trail(trail) as opened:
        opened.append(Entry("export", by, details=details))
    name = store.facts()["trail"]
    with store.reading() as connection:
        documents = (read_record(one.body) for one in find(connection, query, shard=shard))
        return send_messages(sender, documents, trail=name)


def _lines(store: Store, query: Query, shard: int | None, form: Form) -> Iterator[bytes]:
    if form == "proofs":
        yield from export_lines(store, query, shard=shard)
        return
    shards_asked(store, shard)
    name = store.facts()["trail"]
    with store.reading() as connection:
        documents = (read_record(one.body) for one in find(connection, query, shard=shard))
        if form == "fhir":
            yield from audit_events(documents, trail=name)
        else:
            yield from (one + b"\n" for one in audit_messages(documents, trail=name))

"""FHIR R4 bulk exports (NDJSON) and bundles as MEDS histories; ``docs/records.md`` holds the rules.

The formats: HL7 FHIR R4, https://hl7.org/fhir/R4/; FHIR Bulk Data Access, https://hl7.org/fhir/uv/bulkdata/.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from primum.errors import RecordsError
from primum.records.converted import EVENT, ConvertedFolder, Shards, read_splits, splits_file
from primum.records.fhir_resources import (
    EVENT_TYPES,
    Event,
    Malformed,
    Resource,
    concept_code,
    events_of,
    identity,
    patient_of,
    person,
)

_ENDINGS = (".ndjson", ".json")
_PATIENT_MARKS = (b'"Patient"',)
_MOST_LINE, _MOST_BUNDLE, _BATCH = 1 << 24, 1 << 28, 1 << 16


def is_fhir(path: Path) -> bool:
    """Tell whether this is a folder with NDJSON, or with a JSON file that begins like a resource."""
    for file in _files(path) if path.is_dir() else ():
        if file.suffix.lower() == ".ndjson":
            return True
        if file.is_file():
            with file.open("rb") as stream:
                if b'"resourceType"' in stream.read(_BATCH):
                    return True
    return False


def _files(path: Path) -> tuple[Path, ...]:
    found = (file for file in path.iterdir() if file.suffix.lower() in _ENDINGS)
    return tuple(sorted(file for file in found if not file.name.startswith(".")))


def open_fhir(path: Path, *, show_ids: bool = False) -> ConvertedFolder:
    """Open a folder of ``*.ndjson`` (a resource a line) or ``*.json`` (a Bundle each).

    Splits come from ``subject_splits`` (subject_id: the logical id of the Patient, split) beside the files;
    without it everyone is in ``train``, because only the user knows who trained the model.

    Parameters
    ----------
    path : Path
    show_ids : bool
        Whether a sentence about a bad resource may name the patient.

    Raises
    ------
    RecordsError
        A link out of the folder; at first use, a resource that is not as R4 writes it.
    """
    files = _files(path)
    for file in files:
        if not file.resolve().is_relative_to(path.resolve()) or not file.is_file():
            raise RecordsError(
                "{file} is a link to a folder or out of this one: copy its target instead.", file=file.name
            )
    return ConvertedFolder(
        path, (*files, *splits_file(path)), partial(_convert, path, files=files, show_ids=show_ids)
    )


def subject_id_of(logical_id: str) -> int:
    """Turn the logical id of a Patient into a subject id: the first 63 bits of its sha256.

    Examples
    --------
    >>> subject_id_of("example")
    2912751919828002367
    """
    return int.from_bytes(hashlib.sha256(logical_id.encode()).digest()[:8]) >> 1


@dataclass(frozen=True)
class _Found:
    """One resource, where it stands, and the ids behind the full URLs of its bundle."""

    file: str
    number: int
    resource: Resource
    names: Mapping[str, str]

    def wrong(self, element: str) -> RecordsError:
        return RecordsError(
            "{file}, record {record}, element {element}: not as FHIR R4 writes it: correct the export.",
            file=self.file,
            record=self.number,
            element=element,
        )


@dataclass(frozen=True)
class _Known:
    """Who and what the export holds, from a first pass."""

    subject_ids: dict[str, int] = field(default_factory=dict)
    medications: dict[str, str] = field(default_factory=dict)


def _convert(path: Path, into: Path, *, files: tuple[Path, ...], show_ids: bool) -> None:
    known = _first_pass(files, show_ids=show_ids)
    subject_ids = np.sort(np.fromiter(known.subject_ids.values(), np.int64))
    splits = read_splits(splits_file(path), subject_ids, _identify)
    shards = Shards(into, subject_ids, splits)
    rows: list[tuple[int, Event]] = []
    # Patients first, so that who they are precedes other events without time, as in OMOP.
    for marks in (_PATIENT_MARKS, ()):
        for found in _resources(files, marks):
            if (found.resource["resourceType"] == "Patient") == bool(marks):
                rows += _rows(found, known, show_ids=show_ids)
            if len(rows) >= _BATCH:
                shards.add(_frame(rows))
                rows = []
    shards.add(_frame(rows))
    shards.close()


def _first_pass(files: tuple[Path, ...], *, show_ids: bool) -> _Known:
    known = _Known()
    taken: set[int] = set()
    for found in _resources(files, (*_PATIENT_MARKS, b'"Medication"')):
        kind = found.resource["resourceType"]
        if kind == "Medication" and (code := _read(found, concept_code, "code")):
            known.medications[_name(found)] = code
        elif kind == "Patient":
            name = _name(found)
            subject_id = subject_id_of(name)
            if name in known.subject_ids or subject_id in taken:
                raise RecordsError(
                    "{file}, record {record}{who}: this patient is here twice: keep one.",
                    file=found.file,
                    record=found.number,
                    who=f" [{name}]" if show_ids else "",
                )
            known.subject_ids[name] = subject_id
            taken.add(subject_id)
    if not known.subject_ids:
        raise RecordsError("{path} holds no Patient: export the patients too.", path=str(files[0].parent))
    return known


def _rows(found: _Found, known: _Known, *, show_ids: bool) -> list[tuple[int, Event]]:
    """Events of one resource, by subject id."""
    kind = found.resource["resourceType"]
    try:
        if kind == "Patient":
            return [(known.subject_ids[_name(found)], event) for event in person(found.resource)]
        name = patient_of(found.resource, found.names) if kind in EVENT_TYPES else None
        if name is None:
            return []
        events = list(events_of(found.resource, known.medications, found.names))
    except Malformed as error:
        raise found.wrong(str(error)) from error
    if name not in known.subject_ids:
        raise RecordsError(
            "{file}, record {record}{who}: no Patient has this id: export the patients too.",
            file=found.file,
            record=found.number,
            who=f" [{name}]" if show_ids else "",
        )
    return [(known.subject_ids[name], event) for event in events]


def _name(found: _Found) -> str:
    return str(_read(found, identity))


def _read(found: _Found, read: Any, *arguments: Any) -> Any:
    try:
        return read(found.resource, *arguments)
    except Malformed as error:
        raise found.wrong(str(error)) from error


def _frame(rows: list[tuple[int, Event]]) -> pl.DataFrame:
    columns = {
        "subject_id": [subject_id for subject_id, _ in rows],
        "time": [event.time for _, event in rows],
        "code": [event.code for _, event in rows],
        "numeric_value": [event.value for _, event in rows],
    }
    return pl.DataFrame(columns, schema=EVENT)


def _identify(logical_ids: pl.Series) -> pl.Series:
    return pl.Series([subject_id_of(one) for one in logical_ids], dtype=pl.Int64)


def _resources(files: tuple[Path, ...], marks: tuple[bytes, ...] = ()) -> Iterator[_Found]:
    """Every resource, those of bundles one by one; with marks, lines without any of them are not parsed."""
    for file in files:
        for number, content in _lines(file, marks) if file.suffix.lower() == ".ndjson" else _whole(file):
            if content["resourceType"] != "Bundle":
                yield _Found(file.name, number, content, {})
                continue
            try:
                entries = [
                    (str(entry.get("fullUrl")), entry["resource"]) for entry in content.get("entry", ())
                ]
                names = {url: inner.get("id") or re.split("[/:]", url)[-1] for url, inner in entries}
                held = [
                    {"id": names[url], **inner, "resourceType": str(inner["resourceType"])}
                    for url, inner in entries
                ]
            except (KeyError, TypeError, AttributeError) as error:
                raise _Found(file.name, number, {}, {}).wrong("entry") from error
            for place, resource in enumerate(held, 1):
                yield _Found(file.name, place if file.suffix == ".json" else number, resource, names)


def _lines(file: Path, marks: tuple[bytes, ...]) -> Iterator[tuple[int, Resource]]:
    with file.open("rb") as stream:
        number = 0
        while line := stream.readline(_MOST_LINE + 1):
            number += 1
            if len(line) > _MOST_LINE:
                raise RecordsError(
                    "{file}, record {record} is longer than {bytes} bytes: correct the export.",
                    file=file.name,
                    record=number,
                    bytes=_MOST_LINE,
                )
            if line.strip() and (not marks or any(mark in line for mark in marks)):
                yield number, _parsed(line, file, number)


def _whole(file: Path) -> Iterator[tuple[int, Resource]]:
    if file.stat().st_size > _MOST_BUNDLE:
        raise RecordsError(
            "{file}, record {record} is longer than {bytes} bytes: correct the export.",
            file=file.name,
            record=1,
            bytes=_MOST_BUNDLE,
        )
    yield 1, _parsed(file.read_bytes(), file, 1)


def _parsed(text: bytes, file: Path, number: int) -> Resource:
    try:
        content = json.loads(text, parse_constant=_refuse_constant)
        if not isinstance(content, dict) or not isinstance(content.get("resourceType"), str):
            raise ValueError
    except (ValueError, RecursionError) as error:
        raise RecordsError(
            "{file}, record {record}: this is not a FHIR resource in JSON: export the file again.",
            file=file.name,
            record=number,
        ) from error
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(name)

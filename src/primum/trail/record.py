"""The bytes of a record: canonical JSON that begins with the hash of the record before it."""

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from primum.trail.entry import Entry

SCHEMA: Final = "1"
_FIRST: Final = b'{"after":"'
BEGIN: Final = {_FIRST}


@dataclass(frozen=True)
class Place:
    """Where and when a record is written.

    Attributes
    ----------
    shard, number : int
    after : bytes
        Leaf hash of the record before; of the first, :func:`origin`.
    at : str
        UTC, ISO 8601 with microseconds and ``Z``; never before that of the record before.
    """

    shard: int
    number: int
    after: bytes
    at: str


def origin(trail: str, shard: int) -> bytes:
    """Give what the first record of a shard comes after: the trail's own random name, hashed."""
    return sha256(f"primum trail {trail} {shard}".encode()).digest()


def begins(after: bytes) -> bytes:
    """Give the bytes that a record begins with when it comes after the leaf `after`: no parsing is needed."""
    return _FIRST + after.hex().encode() + b'"'


def record_bytes(entry: Entry, place: Place) -> bytes:
    """Write an entry at its place.

    Entries hold ASCII words and whole numbers below 2^53 only, so that sorted keys without spaces are the
    canonical form of RFC 8785, at a tenth of the cost of the general way.
    """
    document: dict[str, Any] = {
        "after": place.after.hex(),
        "at": place.at,
        "by": entry.by,
        "details": dict(entry.details),
        "kind": entry.kind,
        "number": place.number,
        "schema": SCHEMA,
        "shard": place.shard,
    }
    for name in ("model", "on_behalf_of", "patient", "refers_to"):
        if (value := getattr(entry, name)) is not None:
            document[name] = value
    return canonical_record(document)


def canonical_record(document: dict[str, Any]) -> bytes:
    """Write a record's document as its canonical bytes."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def read_record(body: bytes) -> dict[str, Any]:
    """Read the bytes of a record.

    Raises
    ------
    ValueError
        They are not the canonical bytes of one.
    """
    try:
        document = json.loads(body)
        if not isinstance(document, dict) or canonical_record(document) != body:
            raise ValueError("not canonical")
        _check(document)
    except (RecursionError, UnicodeError, TypeError, KeyError) as error:
        raise ValueError("no record") from error
    return document


def _check(document: dict[str, Any]) -> None:
    fields = {name: document[name] for name in ("after", "at", "by", "details", "kind", "number", "shard")}
    if set(document) - set(fields) - {"schema", "model", "on_behalf_of", "patient", "refers_to"}:
        raise ValueError("unknown field")
    if document["schema"] != SCHEMA or not isinstance(fields["details"], dict):
        raise ValueError("unknown schema")


def entry_of(document: dict[str, Any]) -> Entry:
    """Give back the entry of a record's document, checked as when it was written.

    Raises
    ------
    InputError
        It is none that could have been written.
    """
    details = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in document["details"].items()
    }
    optional = {name: document.get(name) for name in ("patient", "model", "on_behalf_of", "refers_to")}
    return Entry(document["kind"], document["by"], details=details, **optional)

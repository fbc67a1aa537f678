"""Exports that prove themselves: records and inclusion proofs in a signed head; no database checks them."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from sqlalchemy import func, select

from primum.errors import InputError, clean_text
from primum.evidence.canonical import canonical_bytes
from primum.trail.chain import tree_of
from primum.trail.heads import SignedHead, head_line, read_head
from primum.trail.merkle import leaf_hash, proves_inclusion
from primum.trail.queries import Query, find, shards_asked
from primum.trail.record import canonical_record, read_record
from primum.trail.store import HEADS, Store, number_of, position_of

SCHEMA: Final = "1"
_LONGEST: Final = 1 << 20


def last_head(store: Store, *, shard: int = 0) -> SignedHead | None:
    """Read the newest head that the trail keeps."""
    first = position_of(shard, 0)
    asked = select(func.max(HEADS.c.position))
    asked = asked.where(HEADS.c.position >= first, HEADS.c.position < position_of(shard + 1, 0))
    with store.reading() as connection:
        position = connection.execute(asked).scalar()
        if position is None:
            return None
        body = connection.execute(select(HEADS.c.body).where(HEADS.c.position == position)).scalar_one()
    try:
        return read_head(body)
    except ValueError as error:
        raise InputError(
            "The head after record {number} is no head any more: primum trail verify says what else is not.",
            number=number_of(position) - 1,
        ) from error


def export_lines(store: Store, query: Query, *, shard: int | None = None) -> Iterator[bytes]:
    """Write what a query finds as lines of JSON, shard by shard: its head and each record with its proof.

    The last line says how many records they are. Those that no head covers yet are left out: sign one first.

    Raises
    ------
    InputError
        There is no such shard, or one has no head yet.
    """
    asked: dict[str, Any] = {name: value for name, value in asdict(query).items() if value}
    more, count = {"query": asked, "schema": SCHEMA}, 0
    heads = [last_head(store, shard=one) for one in shards_asked(store, shard)]
    for signed in heads:
        if signed is None:
            raise InputError(
                "No head was signed yet, so nothing can be proven: run primum trail head with the key of the "
                "trail."
            )
        yield canonical_bytes(json.loads(head_line(signed)) | more) + b"\n"
        for line in _records(store, query, signed):
            yield line
            count += 1
        more = {}
    yield canonical_bytes({"end": count}) + b"\n"


def _records(store: Store, query: Query, signed: SignedHead) -> Iterator[bytes]:
    shard, size = signed.head.shard, signed.head.size
    # Two connections: proofs read blocks while the first one streams.
    with store.reading() as connection, store.reading() as beside:
        tree = tree_of(beside, shard, size)
        for one in find(connection, query, shard=shard, below=size):
            proof = [node.hex() for node in tree.inclusion(one.number)]
            yield canonical_record({"proof": proof, "record": json.loads(one.body)}) + b"\n"


@dataclass(frozen=True)
class CheckedExport:
    """What an export proves.

    Attributes
    ----------
    heads : tuple of SignedHead
        One of each shard; each record is proven to be in that of its own.
    query : mapping
        What was asked, as the exporter says.
    records : int
    """

    heads: tuple[SignedHead, ...]
    query: dict[str, Any]
    records: int


def check_export(path: Path, *, key: str | None = None) -> CheckedExport:
    """Check an export line by line; no database is needed.

    Parameters
    ----------
    path : Path
    key : str, optional
        The trail's public key, hexadecimal, from someone who is trusted; without it the one in the file is
        used, which shows only that nothing was changed since.

    Raises
    ------
    InputError
        A line is not what was signed; names it.
    """
    try:
        with path.open("rb") as stream:
            return _checked(stream, clean_text(path), key)
    except OSError as error:
        raise InputError(
            "{file} cannot be read: give the file of an export.", file=clean_text(path)
        ) from error


def _checked(stream: BinaryIO, name: str, key: str | None) -> CheckedExport:
    first = _document(stream.readline(_LONGEST), name, 1)
    heads = [_head(first, name, 1, key, None)]
    asked = first.get("query")
    right = first.keys() == {"head", "query", "schema", "signature"} and first["schema"] == SCHEMA
    if not right or not isinstance(asked, dict):
        raise _altered(name, 1)
    count, before, number = 0, -1, 1
    while True:
        number += 1
        document = _document(stream.readline(_LONGEST), name, number)
        if document.keys() == {"end"}:
            break
        if document.keys() == {"head", "signature"}:
            heads.append(_head(document, name, number, key, heads[-1]))
            before = -1
            continue
        before = _proven(document, heads[-1], name, number, before)
        count += 1
    if document["end"] != count or stream.read(1):
        raise _altered(name, number)
    return CheckedExport(tuple(heads), asked, count)


def _head(
    document: dict[str, Any], name: str, line: int, key: str | None, before: SignedHead | None
) -> SignedHead:
    """Read a head: signed by the key, of the same trail as the one before and of a later shard."""
    try:
        signed = read_head({"head": document["head"], "signature": document["signature"]})
    except (ValueError, KeyError) as error:
        raise _altered(name, line) from error
    if not signed.signed_by(key or (before or signed).head.key):
        raise InputError(
            "{file}: the head is not signed by this key: the export was altered, or is of another trail.",
            file=name,
        )
    if before and (signed.head.trail != before.head.trail or signed.head.shard <= before.head.shard):
        raise _altered(name, line)
    return signed


def _proven(document: dict[str, Any], signed: SignedHead, name: str, line: int, before: int) -> int:
    """Check one record and return its number, which is above `before`: none is there twice."""
    try:
        body = canonical_record(document["record"])
        record = read_record(body)
        path = [bytes.fromhex(one) for one in document["proof"]]
        if [one.hex() for one in path] != document["proof"] or document.keys() != {"proof", "record"}:
            raise ValueError("written in another way")
        number, root = record["number"], bytes.fromhex(signed.head.root)
        ours = record["shard"] == signed.head.shard and type(number) is int and number > before
        if not ours or not proves_inclusion(leaf_hash(body), number, signed.head.size, path, root):
            raise ValueError("not proven")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _altered(name, line) from error
    return int(number)


def _document(line: bytes, name: str, number: int) -> dict[str, Any]:
    if not line.endswith(b"\n"):
        raise InputError(
            "{file} ends in line {line} without the last line of an export: it was cut; export again.",
            file=name,
            line=number,
        )
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _altered(name, number) from error
    if not isinstance(document, dict) or canonical_record(document) + b"\n" != line:
        raise _altered(name, number)
    return document


def _altered(name: str, line: int) -> InputError:
    return InputError(
        "{file}, line {line}: this is not what was signed: the export was altered.", file=name, line=line
    )

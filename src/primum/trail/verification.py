"""Whether a trail is what it was: every record, its place, and every head that was signed or witnessed.

One pass over the stored bytes. What a pass cannot show is part of the answer: an end that no head covers, a
trail without a witness, search columns that only ``deep`` compares.
"""

import sys
from array import array
from binascii import hexlify
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import Connection, select

from primum.errors import InputError
from primum.trail.chain import blocks_of, leaves_of, shards_of, size_of
from primum.trail.entry import Value
from primum.trail.heads import SignedHead, read_head
from primum.trail.merkle import BLOCK, Frontier, leaf_hash, root_of
from primum.trail.record import BEGIN, begins, entry_of, origin, read_record
from primum.trail.store import BLOCKS, HEADS, RECORDS, SHARD_BITS, Store, number_of, position_of
from primum.trail.verified import Verified

# More rows at once leave the cache of the processor: 3.3 us a record with 512, 7 with 4,096.
_ROWS: Final = 512
# Reports of progress, a few a second.
_STRIDE: Final = 1 << 16
_CREATED: Final = b'"kind":"trail.created"'
Progress = Callable[[int], None]


def verify(
    store: Store,
    *,
    shard: int = 0,
    key: str | None = None,
    witnessed: Sequence[SignedHead] = (),
    start: int = 0,
    deep: bool = False,
    progress: Progress | None = None,
) -> Verified:
    """Verify one shard.

    Parameters
    ----------
    store : Store
    shard : int
    key : str or None
        The public key that heads must be signed with, hexadecimal; by default the one that the trail itself
        names, which who rewrites all of it can replace.
    witnessed : sequence of SignedHead
        What witnesses kept.
    start : int
        Records before it are taken by their stored hashes, which a witnessed head of that size must confirm.
    deep : bool
        Also parse each record and compare it with the columns that queries use.
    progress : callable, optional
        Called now and then with how many more records were read.

    Raises
    ------
    InputError
        `start` is no size of a witnessed head.
    """
    facts = store.facts()
    seen = Verified(facts["trail"], shard, start=start, deep=deep)
    if start and start not in {one.head.size for one in witnessed if one.head.shard == shard}:
        raise InputError(
            "No witnessed head has {start} records: verify the whole trail, or from a size that one has.",
            start=start,
        )
    with store.reading() as connection:
        heads = _heads(connection, seen, key or facts["key"], witnessed)
        _Pass(connection, seen, heads, progress).run()
    seen.problems.sort(key=lambda one: (one.number, one.last))
    return seen


def verify_all(
    store: Store,
    *,
    key: str | None = None,
    witnessed: Sequence[SignedHead] = (),
    only: int | None = None,
    resume: bool = False,
    deep: bool = False,
    progress: Progress | None = None,
) -> tuple[Verified, ...]:
    """Verify every shard: those that are there, that a witness knows, or that shard 0 says were begun.

    Parameters
    ----------
    store, key, witnessed, deep, progress
        As :func:`verify`.
    only : int or None
        No shard but this one.
    resume : bool
        Read of each shard only what came after its last witnessed head.
    """
    latest: dict[int, int] = {}
    for signed in witnessed:
        latest[signed.head.shard] = max(signed.head.size, latest.get(signed.head.shard, 0))

    def verified(shard: int) -> Verified:
        start = latest.get(shard, 0) if resume else 0
        return verify(
            store, shard=shard, key=key, witnessed=witnessed, start=start, deep=deep, progress=progress
        )

    if only is not None:
        (seen := verified(only)).alone = True
        return (seen,)
    with store.reading() as connection:
        there = shards_of(connection)
    first = verified(0)
    others = tuple(verified(shard) for shard in sorted({*there, *latest, *first.begun} - {0}))
    for one in others:
        if not one.size and one.shard in first.begun:
            one.found("shard", 0)
        # What shard 0 says at its beginning was not read by whoever goes on from a head.
        elif one.size and one.shard not in first.begun and not first.start:
            one.found("stranger", 0, one.size - 1)
    return (first, *others)


def _heads(
    connection: Connection, seen: Verified, key: str, witnessed: Sequence[SignedHead]
) -> dict[int, list[tuple[SignedHead, bool]]]:
    """Give the heads by size, those of witnesses marked; what is no valid head is a problem."""
    found: dict[int, list[tuple[SignedHead, bool]]] = {}
    first = position_of(seen.shard, 0)
    where = HEADS.c.position >= first, HEADS.c.position < first + (1 << SHARD_BITS)
    stored = {}
    for position, body in connection.execute(select(HEADS).where(*where).order_by(HEADS.c.position)):
        size = number_of(position)
        try:
            signed = read_head(body)
        except ValueError:
            seen.found("head", max(size - 1, 0))
            continue
        stored[size] = signed
        if signed.head.size != size or not _is_ours(signed, seen, key):
            seen.found("head", max(size - 1, 0))
        else:
            found.setdefault(size, []).append((signed, False))
    for signed in witnessed:
        if signed.head.shard != seen.shard:
            continue
        size = signed.head.size
        if not _is_ours(signed, seen, key):
            seen.found("head", max(size - 1, 0))
            continue
        found.setdefault(size, []).append((signed, True))
        if stored.get(size) != signed:
            seen.found("lost_head", max(size - 1, 0))
    return found


def _is_ours(signed: SignedHead, seen: Verified, key: str) -> bool:
    head = signed.head
    return head.trail == seen.trail and head.shard == seen.shard and signed.signed_by(key)


class _Pass:
    """One pass over the records of a shard, in order."""

    def __init__(
        self,
        connection: Connection,
        seen: Verified,
        heads: dict[int, list[tuple[SignedHead, bool]]],
        progress: Progress | None,
    ) -> None:
        self.connection, self.seen, self.heads = connection, seen, heads
        self.progress = progress
        self.frontier = Frontier()
        self.rest: list[bytes] = []
        self.open: dict[int, None] = {}
        self.last = origin(seen.trail, seen.shard)
        self.last_at = ""
        self.retained: list[dict[str, Value]] = []
        self.gone = array("Q")
        # After missing numbers no root can be made any more; each record is still hashed.
        self.aligned = True
        self.most = max(heads, default=0)
        self.sizes = iter(sorted(heads))
        self.next_size = next(self.sizes, -1)

    def run(self) -> None:
        """Read everything once."""
        seen = self.seen
        if seen.start:
            self._trust(seen.start)
        self._head_at(0)
        read = self._deep if seen.deep else self._quick
        reported = seen.size
        for rows in self._rows():
            read(rows)
            if seen.size - reported >= _STRIDE:
                self._report(seen.size - reported)
                reported = seen.size
        self._report(seen.size - reported)
        self._end()

    def _report(self, more: int) -> None:
        if self.progress is not None:
            self.progress(more)

    def _rows(self) -> Iterator[Sequence[Any]]:
        columns = RECORDS.c
        asked: list[Any] = [columns.position, columns.leaf, columns.body, columns.kind, columns.refers_to]
        if self.seen.deep:
            asked += [columns.at, columns.by, columns.patient, columns.model]
        first = position_of(self.seen.shard, self.seen.start)
        where = columns.position >= first, columns.position < position_of(self.seen.shard + 1, 0)
        statement = select(*asked).where(*where).order_by(columns.position)
        streamed = self.connection.execution_options(yield_per=_ROWS).execute(statement)
        yield from streamed.partitions()

    def _trust(self, start: int) -> None:
        """Take the records before `start` by their stored roots; the witnessed head then judges them."""
        if (size := size_of(self.connection, self.seen.shard)) < start:
            self.seen.size = size
            return
        for root in blocks_of(self.connection, self.seen.shard, 0, start // BLOCK):
            self.frontier.add(root)
        self.rest = leaves_of(self.connection, self.seen.shard, start - start % BLOCK, start)
        self.last = leaves_of(self.connection, self.seen.shard, start - 1, start)[0]
        self.seen.size = start
        while 0 <= self.next_size < start:
            self.next_size = next(self.sizes, -1)
        self._head_at(start)

    def _quick(self, rows: Sequence[Any]) -> None:
        """Hash a batch and let the tree grow by it."""
        seen = self.seen
        first = position_of(seen.shard, seen.size)
        positions, leaves, bodies, kinds, refers = zip(*rows, strict=True)
        if not self._is_sound(positions, leaves, bodies, first):
            self._each(rows, first)
        for position, kind, refers_to, body in zip(positions, kinds, refers, bodies, strict=True):
            if kind == "prediction.intent" and body is not None:
                self.open[number_of(position)] = None
            elif kind == "prediction.outcome":
                self.open.pop(refers_to, None)
            elif kind == "retention":
                self._note(body)
        if not seen.shard:
            self._begun(bodies)
        self.last = leaves[-1]
        if self.aligned:
            self._grow(leaves)
        seen.size = number_of(positions[-1]) + 1

    def _is_sound(self, positions: Any, leaves: Any, bodies: Any, first: int) -> bool:
        """Compare a batch at once: millions of records go through here, nearly all as they were."""
        if positions != tuple(range(first, first + len(positions))) or None in bodies:
            return False
        if [sha256(b"\0" + body).digest() for body in bodies] != list(leaves):
            return False
        before = hexlify(self.last + b"".join(leaves[:-1]))
        return (
            before == b"".join([body[10:74] for body in bodies]) and {body[:10] for body in bodies} == BEGIN
        )

    def _each(self, rows: Sequence[Any], expected: int) -> None:
        """Name what is not as it was in a batch."""
        seen, before = self.seen, self.last
        for position, leaf, body, _, _ in rows:
            number = number_of(position)
            if position != expected:
                seen.found("missing", number_of(expected), number - 1)
                self.aligned, self.next_size = False, -1
            if body is None:
                self.gone.append(number)
            elif leaf_hash(body) != leaf:
                seen.found("altered", number)
            elif not body.startswith(begins(before)):
                seen.found("broken", max(number - 1, 0), number)
            before, expected = leaf, position + 1

    def _grow(self, leaves: Sequence[bytes]) -> None:
        """Add leaves to the tree, and judge blocks and heads where they end."""
        seen, size, done = self.seen, self.seen.size, 0
        while done < len(leaves):
            stop = size - size % BLOCK + BLOCK
            if size < self.next_size < stop:
                stop = self.next_size
            more = leaves[done : done + stop - size]
            self.rest += more
            done, size = done + len(more), size + len(more)
            if len(self.rest) == BLOCK:
                seen.size = size
                self._block()
            elif size == self.next_size:
                self._head_at(size)

    def _deep(self, rows: Sequence[Any]) -> None:
        for row in rows:
            if row.body is not None:
                self._compare(row)
        self._quick([row[:5] for row in rows])

    def _compare(self, row: Any) -> None:
        """Hold a record's own words against its columns, its number, its time and what it refers to."""
        number = number_of(row.position)
        try:
            document = read_record(row.body)
            entry = entry_of(document)
        except (ValueError, InputError):
            self.seen.found("record", number)
            return
        kept = (row.kind, row.refers_to, row.at, row.by, row.patient, row.model)
        said = (entry.kind, entry.refers_to, document["at"], entry.by, entry.patient, entry.model)
        if kept != said or (document["number"], document["shard"]) != (number, self.seen.shard):
            self.seen.found("columns", number)
        if not isinstance(document["at"], str) or document["at"] < self.last_at:
            self.seen.found("time", number)
        if entry.refers_to is not None and entry.refers_to >= number:
            self.seen.found("reference", number)
        self.last_at = str(document["at"])

    def _begun(self, bodies: Sequence[bytes | None]) -> None:
        """Note which shards were begun: by the bytes, since a column could hide it."""
        for body in bodies:
            if body is None or _CREATED not in body:
                continue
            try:
                shard = read_record(body)["details"]["shard"]
            except (ValueError, KeyError):
                continue
            if type(shard) is int and shard:
                self.seen.begun.add(shard)

    def _note(self, body: bytes | None) -> None:
        try:
            self.retained.append(read_record(body or b"")["details"])
        except ValueError:
            return

    def _block(self) -> None:
        """Compare the root of a whole block with the stored one."""
        seen, index = self.seen, self.frontier.blocks
        root = root_of(self.rest)
        where = BLOCKS.c.position == position_of(seen.shard, index)
        if self.connection.execute(select(BLOCKS.c.root).where(where)).scalar() != root:
            seen.found("block", index * BLOCK, index * BLOCK + BLOCK - 1)
        self.frontier.add(root)
        self.rest.clear()
        if seen.size == self.next_size:
            self._head_at(seen.size)

    def _head_at(self, size: int) -> None:
        """Judge the heads of this size."""
        if size != self.next_size:
            return
        root, seen = self.frontier.root(self.rest).hex(), self.seen
        for signed, witnessed in self.heads[size]:
            if signed.head.root != root:
                seen.found("root", max(seen.covered, 0), max(size - 1, 0))
                continue
            seen.heads += 1
            seen.covered = size
            if witnessed:
                seen.witnessed += 1
                seen.witnessed_to = size
        self.next_size = next(self.sizes, -1)

    def _end(self) -> None:
        seen = self.seen
        # A root of a block beyond the end shows that there were records, as a head does.
        blocks = max(seen.size // BLOCK, self.frontier.blocks)
        beyond = blocks_of(self.connection, seen.shard, blocks, 1 << SHARD_BITS - 1)
        there = max(self.most, (blocks + len(beyond)) * BLOCK if beyond else 0)
        if there > seen.size:
            seen.found("truncated", seen.size, there - 1)
        seen.open_intents = list(self.open)
        seen.expired = len(self.gone)
        if self.gone and (not self.retained or self.retained[-1].get("digest") != expired_digest(self.gone)):
            seen.found("expired", self.gone[0], self.gone[-1])


def expired_digest(numbers: "array[int]") -> str:
    """Digest the numbers of all records whose bytes are gone, in order; a retention record holds it.

    Parameters
    ----------
    numbers : array of unsigned 64-bit int
    """
    ordered = array("Q", numbers)
    if sys.byteorder == "little":
        ordered.byteswap()
    return sha256(ordered.tobytes()).hexdigest()

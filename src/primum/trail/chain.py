"""One shard as it stands in the store: where it ends, its leaves, its block roots; and writing at its end."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, select

from primum.trail.entry import Entry, Position
from primum.trail.merkle import BLOCK, Frontier, Tree, leaf_hash, root_of
from primum.trail.record import Place, origin, record_bytes
from primum.trail.store import BLOCKS, HEADS, RECORDS, SHARD_BITS, number_of, position_of

# Asked before every append: made once, since to make it takes longer than to carry it out.
_LAST: Final = (
    select(RECORDS.c.position, RECORDS.c.leaf, RECORDS.c.at)
    .where(RECORDS.c.position >= bindparam("first"), RECORDS.c.position < bindparam("beyond"))
    .order_by(RECORDS.c.position.desc())
    .limit(1)
)


def now() -> str:
    """Give the time as records write it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def size_of(connection: Connection, shard: int) -> int:
    """Count the records of a shard by its last number."""
    last = _last_of(connection, shard)
    return 0 if last is None else number_of(last.position) + 1


def _last_of(connection: Connection, shard: int) -> Any:
    """Read the place, leaf hash and time of the last record; None if there is none."""
    where = {"first": position_of(shard, 0), "beyond": position_of(shard + 1, 0)}
    return connection.execute(_LAST, where).one_or_none()


def shards_of(connection: Connection) -> list[int]:
    """List the shards that have anything, a lone head included."""
    found: list[int] = []
    columns = RECORDS.c.position, BLOCKS.c.position, HEADS.c.position
    while True:
        first = position_of(found[-1] + 1 if found else 0, 0)
        asked = [select(func.min(one)).where(one >= first) for one in columns]
        there = [one for one in (connection.execute(each).scalar() for each in asked) if one is not None]
        if not there:
            return found
        found.append(min(there) >> SHARD_BITS)


def leaves_of(connection: Connection, shard: int, start: int, stop: int) -> list[bytes]:
    """Read leaf hashes from number `start` up to `stop`."""
    asked = select(RECORDS.c.leaf).where(
        RECORDS.c.position >= position_of(shard, start), RECORDS.c.position < position_of(shard, stop)
    )
    return list(connection.execute(asked.order_by(RECORDS.c.position)).scalars())


def blocks_of(connection: Connection, shard: int, start: int, stop: int) -> list[bytes]:
    """Read block roots from number `start` up to `stop`."""
    asked = select(BLOCKS.c.root).where(
        BLOCKS.c.position >= position_of(shard, start), BLOCKS.c.position < position_of(shard, stop)
    )
    return list(connection.execute(asked.order_by(BLOCKS.c.position)).scalars())


def tree_of(connection: Connection, shard: int, size: int | None = None) -> Tree:
    """Give the tree of a shard, for proofs while the connection is open."""
    size = size_of(connection, shard) if size is None else size

    def leaves(start: int, stop: int) -> Sequence[bytes]:
        return leaves_of(connection, shard, start, stop)

    return Tree(size, leaves, blocks_of(connection, shard, 0, size // BLOCK))


@dataclass
class Chain:
    """Where a shard ends, as one writer knows it; :meth:`catch_up` asks whether others wrote meanwhile.

    Attributes
    ----------
    trail : str
    shard, size : int
    last : bytes
        Leaf hash that the next record comes after.
    at : str
        Time of the last record.
    rest : list of bytes
        Leaf hashes after the last whole block.
    frontier : Frontier
        Of the whole blocks.
    """

    trail: str
    shard: int
    size: int = 0
    last: bytes = b""
    at: str = ""
    rest: list[bytes] = field(default_factory=list)
    frontier: Frontier = field(default_factory=Frontier)

    def __post_init__(self) -> None:
        self.last = self.last or origin(self.trail, self.shard)

    def catch_up(self, connection: Connection) -> None:
        """Read what was written since."""
        found = _last_of(connection, self.shard)
        size = 0 if found is None else number_of(found.position) + 1
        if not self._goes_on(connection, size, b"" if found is None else found.leaf):
            # A backup was put back, or another server took over: what is there now is what counts.
            self.last, self.at, self.frontier = origin(self.trail, self.shard), "", Frontier()
            self.rest, self.size = [], 0
        if found is None or size == self.size:
            return
        begins = size - size % BLOCK
        if begins // BLOCK > self.frontier.blocks:
            for root in blocks_of(connection, self.shard, self.frontier.blocks, begins // BLOCK):
                self.frontier.add(root)
            self.rest = []
        more = leaves_of(connection, self.shard, max(begins, self.size), size)
        self.rest, self.size, self.last, self.at = [*self.rest, *more], size, found.leaf, found.at

    def _goes_on(self, connection: Connection, size: int, last: bytes) -> bool:
        """Tell whether what this writer knows is still a beginning of what is there."""
        if not self.size:
            return True
        if size == self.size:
            return last == self.last
        return size > self.size and leaves_of(connection, self.shard, self.size - 1, self.size) == [self.last]

    def root(self) -> bytes:
        """Give the root over all records."""
        return self.frontier.root(self.rest)

    def write(self, connection: Connection, entries: Sequence[Entry]) -> list[Position]:
        """Add entries at the end, in the transaction of the connection, which must hold the shard's lock."""
        rows, roots, positions = [], [], []
        for entry in entries:
            # A clock that was set back does not put a record before the one that it follows.
            self.at = max(self.at, now())
            body = record_bytes(entry, Place(self.shard, self.size, self.last, self.at))
            self.last = leaf_hash(body)
            positions.append(Position(self.shard, self.size, self.last.hex()))
            rows.append(row_of(entry, self, body))
            self.size += 1
            self.rest.append(self.last)
            if len(self.rest) == BLOCK:
                root = root_of(self.rest)
                roots.append(
                    {"position": position_of(self.shard, self.frontier.blocks), "root": root},
                )
                self.frontier.add(root)
                self.rest = []
        connection.execute(RECORDS.insert(), rows)
        if roots:
            connection.execute(BLOCKS.insert(), roots)
        return positions


def row_of(entry: Entry, chain: Chain, body: bytes) -> dict[str, object]:
    """Give the row of a record: its bytes, and what queries look for."""
    return {
        "position": position_of(chain.shard, chain.size),
        "leaf": chain.last,
        "body": body,
        "kind": entry.kind,
        "refers_to": entry.refers_to,
        "at": chain.at,
        "by": entry.by,
        "patient": entry.patient,
        "model": entry.model,
    }

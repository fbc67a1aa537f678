"""What people ask of a trail: all about one patient, all that a model said, all that a user did, a time."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, select

from primum.errors import InputError, clean_text
from primum.trail.chain import shards_of
from primum.trail.store import RECORDS, SHARD_BITS, Store, number_of, position_of

_ROWS = 512


def instant(said: str) -> str:
    """Write a UTC date or time as records write it.

    Raises
    ------
    InputError
        It is neither.

    Examples
    --------
    >>> instant("2026-11-01")
    '2026-11-01T00:00:00.000000Z'
    """
    try:
        moment = datetime.fromisoformat(said)
    except ValueError as error:
        raise InputError(
            "{value} is no date or time: write 2026-11-01 or 2026-11-01T08:30:00Z.", value=clean_text(said)
        ) from error
    moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Query:
    """Which records are wanted; what is left out does not matter.

    Attributes
    ----------
    patient : str or None
        The patient's random number.
    model : str or None
        Digest of a manifest.
    by : str or None
        Who did it, or on whose behalf is not asked.
    since, until : str or None
        UTC, ISO 8601; from the first, up to and without the second.
    kinds : tuple of str
        Whole kinds, or their beginning: ``release`` asks for ``release.state`` too.
    """

    patient: str | None = None
    model: str | None = None
    by: str | None = None
    since: str | None = None
    until: str | None = None
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """One record that was asked for."""

    shard: int
    number: int
    leaf: bytes
    body: bytes


def find(
    connection: Connection, query: Query, *, shard: int | None = None, below: int | None = None
) -> Iterator[Found]:
    """Read the records that a query asks for, in order, shard by shard.

    Parameters
    ----------
    connection : Connection
    query : Query
    shard : int, optional
        Only this one.
    below : int, optional
        Leave out this number of that shard and all after it.
    """
    columns = RECORDS.c
    where: list[Any] = []
    if shard is not None:
        last = position_of(shard + 1, 0) if below is None else position_of(shard, below)
        where = [columns.position >= position_of(shard, 0), columns.position < last]
    where += [
        columns[name] == value
        for name in ("patient", "model", "by")
        if (value := getattr(query, name)) is not None
    ]
    where += [columns.at >= query.since] if query.since else []
    where += [columns.at < query.until] if query.until else []
    where.append(columns.body.is_not(None))
    asked = select(columns.position, columns.leaf, columns.body, columns.kind).where(*where)
    streamed = connection.execution_options(yield_per=_ROWS).execute(asked.order_by(columns.position))
    for position, leaf, body, kind in streamed:
        if not query.kinds or any(kind == one or kind.startswith(f"{one}.") for one in query.kinds):
            yield Found(position >> SHARD_BITS, number_of(position), leaf, body)


def expired(connection: Connection, kinds: Collection[str]) -> Iterator[tuple[int, int, str]]:
    """Give shard, number and leaf hash, hexadecimal, of records whose bytes retention dropped."""
    columns = RECORDS.c
    asked = select(columns.position, columns.leaf, columns.kind).where(columns.body.is_(None))
    for position, leaf, kind in connection.execute(asked.order_by(columns.position)):
        if kind in kinds or kind.partition(".")[0] in kinds:
            yield position >> SHARD_BITS, number_of(position), leaf.hex()


def shards_asked(store: Store, shard: int | None) -> list[int]:
    """List the shards that somebody means: the one they name, or all.

    Raises
    ------
    InputError
        There is no trail, or no such shard.
    """
    store.facts()
    with store.reading() as connection:
        there = shards_of(connection)
    if shard is not None and shard not in there:
        raise InputError("The trail has no chain {shard}: primum trail status lists them.", shard=shard)
    return there if shard is None else [shard]


def unended(connection: Connection, *, shard: int = 0) -> list[int]:
    """Give the numbers of intents without an outcome: something began, and nobody knows how it ended."""
    columns, other = RECORDS.c, RECORDS.alias()
    ended = select(other.c.refers_to).where(
        other.c.kind == "prediction.outcome", other.c.refers_to.is_not(None)
    )
    first = position_of(shard, 0)
    ended = ended.where(other.c.position >= first, other.c.position < position_of(shard + 1, 0))
    asked = select(columns.position).where(columns.kind == "prediction.intent", columns.position >= first)
    asked = asked.where(columns.position < position_of(shard + 1, 0), columns.body.is_not(None))
    done = set(connection.execute(ended).scalars())
    begun = (number_of(one) for one in connection.execute(asked.order_by(columns.position)).scalars())
    return [one for one in begun if one not in done]

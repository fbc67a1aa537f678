"""Retention: the bytes of old records go, their hashes stay, so that every proof still holds.

References
----------
Regulation (EU) 2024/1689 (AI Act), art. 19(1) and 26(6): logs are kept at least six months. 45 CFR
164.316(b)(2)(i) (HIPAA): documentation is kept six years.
"""

import tomllib
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, select, update

from primum.errors import InputError
from primum.evidence.text import clean_text
from primum.trail.chain import Chain
from primum.trail.entry import KINDS, Entry
from primum.trail.export import last_head
from primum.trail.store import RECORDS, Store, number_of, position_of
from primum.trail.verification import expired_digest

SIX_MONTHS: Final = 184
SIX_YEARS: Final = 2192
# What the trail itself is checked with never goes.
_FOR_EVER: Final = ("trail", "retention", "erasure")
_MANY: Final = 10_000


@dataclass(frozen=True)
class Policy:
    """How many days each kind of record is kept.

    Attributes
    ----------
    name : str
    days : mapping of str to int
        Kind, or its beginning, to days; ``default`` for all others. The longest beginning counts.
    """

    name: str
    days: Mapping[str, int]

    def of(self, kind: str) -> int | None:
        """Give the days that a kind is kept; None for ever."""
        if kind.partition(".")[0] in _FOR_EVER:
            return None
        fitting = [one for one in self.days if kind == one or kind.startswith(f"{one}.")]
        return self.days[max(fitting, key=len)] if fitting else self.days.get("default")


HIPAA: Final = Policy("hipaa", {"default": SIX_YEARS})


def read_policy(path: Path) -> Policy:
    """Read a TOML file with ``name`` and a table ``[keep]`` of kinds and days.

    Raises
    ------
    InputError
        It is no such file, names an unknown kind, or keeps anything for less than six months.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            '{file} cannot be read as TOML: write name = "…" and a table [keep] of kinds and days.',
            file=clean_text(path),
        ) from error
    keep, name = document.get("keep"), document.get("name")
    if set(document) - {"keep", "name"} or not isinstance(keep, dict) or not keep:
        raise InputError(
            "{file} needs a name and a table [keep] of kinds and days, and nothing else.",
            file=clean_text(path),
        )
    roots = {kind.partition(".")[0] for kind in KINDS} | set(KINDS) | {"default"}
    for kind, days in keep.items():
        if kind not in roots:
            raise InputError(
                "{file}: the trail has no records of the kind {kind}.",
                file=clean_text(path),
                kind=clean_text(kind),
            )
        if type(days) is not int or days < SIX_MONTHS:
            raise InputError(
                "{file}: {kind} must be kept for {least} days or more, the six months of the AI Act.",
                file=clean_text(path),
                kind=clean_text(kind),
                least=SIX_MONTHS,
            )
    # The policy's name is a word of the record that says it was applied.
    Entry("retention", "policy", details={"policy": name if isinstance(name, str) else " "})
    return Policy(str(name), keep)


def expire(store: Store, policy: Policy, *, by: str, shard: int = 0, at: datetime | None = None) -> int:
    """Drop the bytes of records whose time is over, and say so in the trail; one transaction.

    Only records that a signed head covers go: what was never witnessed could not be told from an alteration.

    Returns
    -------
    int
        How many went.
    """
    covered = last_head(store, shard=shard)
    if covered is None:
        return 0
    moment = at or datetime.now(UTC)
    with store.writing(shard) as connection:
        if store.kind == "sqlite":
            connection.exec_driver_sql("PRAGMA secure_delete = ON")
        chain = Chain(store.facts()["trail"], shard)
        chain.catch_up(connection)
        went = array("Q")
        before: dict[str, str] = {}
        for kind in sorted(KINDS):
            if (days := policy.of(kind)) is not None:
                before[kind] = (moment - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
                went.extend(_old(connection, shard, kind, before[kind], covered.head.size))
        if went:
            _drop(connection, shard, went)
            chain.write(connection, [_said(connection, shard, policy, by, sorted(went), before)])
    return len(went)


def _old(connection: Connection, shard: int, kind: str, before: str, below: int) -> list[int]:
    columns = RECORDS.c
    asked = select(columns.position).where(
        columns.position >= position_of(shard, 0),
        columns.position < position_of(shard, below),
        columns.at < before,
        columns.kind == kind,
        columns.body.is_not(None),
    )
    return [number_of(one) for one in connection.execute(asked).scalars()]


def _drop(connection: Connection, shard: int, numbers: "array[int]") -> None:
    for start in range(0, len(numbers), _MANY):
        positions = [position_of(shard, one) for one in numbers[start : start + _MANY]]
        nothing = {"body": None, "by": None, "patient": None, "model": None}
        connection.execute(update(RECORDS).where(RECORDS.c.position.in_(positions)).values(nothing))


def _said(
    connection: Connection,
    shard: int,
    policy: Policy,
    by: str,
    numbers: list[int],
    before: Mapping[str, str],
) -> Entry:
    asked = select(RECORDS.c.position).where(
        RECORDS.c.position >= position_of(shard, 0),
        RECORDS.c.position < position_of(shard + 1, 0),
        RECORDS.c.body.is_(None),
    )
    gone = array("Q", map(number_of, connection.execute(asked.order_by(RECORDS.c.position)).scalars()))
    return Entry(
        "retention",
        by,
        details={
            "policy": policy.name,
            "before": max(before.values()),
            "kinds": tuple(before),
            "records": len(numbers),
            "first": numbers[0],
            "last": numbers[-1],
            "digest": expired_digest(gone),
        },
    )

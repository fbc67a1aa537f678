"""What a verification saw: what is not as it was, how far heads reach, and what no one could have seen."""

from dataclasses import dataclass, field
from typing import Final

MOST_PROBLEMS: Final = 20


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it was.

    Attributes
    ----------
    code : str
        ``altered`` (a record's bytes), ``broken`` (it does not follow the one before), ``missing``,
        ``block`` (a stored root), ``head`` (a signature, or a head that is no head), ``root``
        (the records before are not those that were signed), ``truncated`` (signed records are not there),
        ``lost_head`` (a witnessed head that the trail no longer has), ``columns`` (what queries look for is
        not what the record says), ``record`` (no record that could have been written), ``time``,
        ``reference``, ``expired`` (a body is gone that no retention names), ``shard`` (shard 0 says that it
        was begun, and it is gone), ``stranger`` (shard 0 knows nothing of it).
    shard, number : int
        Of the first record concerned.
    last : int
        Of the last one.
    """

    code: str
    shard: int
    number: int
    last: int


@dataclass
class Verified:
    """What a verification saw.

    Attributes
    ----------
    trail : str
    shard, size : int
    start : int
        Records before it were not read: a witnessed head vouches for their hashes.
    problems : list of Problem
        In order of the records; at most :data:`MOST_PROBLEMS`.
    heads, witnessed : int
        Signed heads that hold, and of them those that a witness kept.
    covered, witnessed_to : int
        How many records the last head covers that holds, and the last that a witness kept.
    expired : int
        Records whose bytes are gone, by retention; their hashes hold.
    open_intents : list of int
        Intents without an outcome: something began and did not end.
    begun : set of int
        Other shards that records of this one say were begun.
    alone : bool
        The other shards were not looked at.
    deep : bool
    """

    trail: str
    shard: int
    size: int = 0
    start: int = 0
    problems: list[Problem] = field(default_factory=list)
    heads: int = 0
    witnessed: int = 0
    covered: int = 0
    witnessed_to: int = 0
    expired: int = 0
    open_intents: list[int] = field(default_factory=list)
    begun: set[int] = field(default_factory=set)
    alone: bool = False
    deep: bool = False

    @property
    def holds(self) -> bool:
        """Whether nothing was found."""
        return not self.problems

    def unseen(self, *, key_given: bool) -> tuple[tuple[str, int], ...]:
        """Say what this verification cannot show: codes, and of how many records.

        Codes: ``tail`` (no head covers them: whoever can write to the database can change or drop them),
        ``unwitnessed`` (only the trail's own heads cover them: who also holds its key can rewrite them),
        ``key`` (the trail itself said which key signs), ``columns`` (only ``deep`` finds what searches would
        leave out), ``before`` (their hashes were taken from the store, their bytes not read), ``shards``
        (which were begun stands in such records of shard 0), ``others`` (nobody asked for them), ``clock``
        (always: a time is what the writer's clock said, and only never goes back).
        """
        found = [("tail", self.size - self.covered), ("unwitnessed", self.size - self.witnessed_to)]
        found += [("key", 0 if key_given else self.size), ("columns", 0 if self.deep else self.size)]
        found += [("before", self.start), ("shards", 0 if self.shard or self.alone else self.start)]
        found += [("others", self.size if self.alone else 0), ("clock", self.size)]
        return tuple((code, count) for code, count in found if count > 0)

    def found(self, code: str, number: int, last: int | None = None) -> None:
        """Keep a problem, unless there are enough."""
        one = Problem(code, self.shard, number, number if last is None else last)
        if len(self.problems) < MOST_PROBLEMS and one not in self.problems:
            self.problems.append(one)

"""A registry against the trail: what the one says happened, the other must say too.

The history of a registry is a chain, so that nothing can be taken out of its middle; but whoever can write to
the folder can take events off its end, a rollback for one. The trail has them.
"""

from collections.abc import Collection, Iterable
from dataclasses import astuple, dataclass

from primum.release.registry import Kept


@dataclass(frozen=True)
class Compared:
    """What differs.

    Attributes
    ----------
    missing : tuple of int
        Events of the registry that the trail does not have where the registry says it has them.
    lost : tuple of int
        Numbers of records of the trail about events that the registry does not have: its end was cut off, or
        the trail refused after it had written, and nothing followed.
    expired : tuple of int
        Events whose records are past their time: their bytes are gone, and the hash that is left is the one
        that the registry was told.
    """

    missing: tuple[int, ...]
    lost: tuple[int, ...]
    expired: tuple[int, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether nothing differs."""
        return not self.missing and not self.lost


def compare(
    history: Iterable[Kept],
    written: Iterable[tuple[int, int, str]],
    expired: Collection[tuple[int, int, str]] = (),
) -> Compared:
    """Compare a history with what the trail says of it.

    Parameters
    ----------
    history : iterable of Kept
    written : iterable of (int, int, str)
        Shard, number and field ``event`` of the trail's records that have one. The same event twice is one
        that was carried through after a crash.
    expired : collection of (int, int, str)
        Shard, number and leaf hash, hexadecimal, of records whose bytes are gone.
    """
    places = {(shard, number): event for shard, number, event in written}
    kept = tuple(history)
    known = {one.event.digest for one in kept}
    gone = {one.event.number for one in kept if astuple(one.position) in expired}
    missing = tuple(
        one.event.number
        for one in kept
        if one.event.number not in gone
        and places.get((one.position.shard, one.position.number)) != one.event.digest
    )
    lost = sorted(number for (_, number), event in places.items() if event not in known)
    return Compared(missing, tuple(lost), tuple(sorted(gone)))

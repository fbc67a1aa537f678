"""Patients who are on both sides, or twice on one: equal ids, and histories that are nearly the same.

Two histories are near-duplicates when the Jaccard similarity of their distinct shingles, (code, day) pairs,
is at least .8. Demographic codes are no shingles. Histories of fewer than five shingles are never
near-duplicates: so little is shared by chance.

Candidates come from MinHash sketches (Broder 1997, "On the resemblance and containment of documents") in
bands (Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", ch. 3) and are then compared exactly.
20 bands of 6 miss a pair at .8 with probability (1 - .8**6)**20 = .002.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from primum.records.attributes import owners
from primum.records.families import is_demographic
from primum.records.histories import FloatArray, Histories, Records
from primum.records.ragged import IntArray, offsets_of, take_runs

FEWEST_SHINGLES = 5
_BANDS, _ROWS = 20, 6
# Bounds the work when hundreds of histories are all alike; any one of them condemns a patient.
_MOST_CANDIDATES = 10
_CHUNK = 1 << 15

UnsignedArray = NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class NearDuplicates:
    """Pairs of nearly equal histories.

    Attributes
    ----------
    pairs : int64, shape (k, 2)
        Subject ids, member first; at most ten members for each held-out patient.
    jaccard : float64, shape (k,)
        Share of shingles in common; 1 is equal.
    """

    pairs: IntArray
    jaccard: FloatArray

    @property
    def held_out_ids(self) -> IntArray:
        """Ids of the held-out patients that have a near-duplicate among the members."""
        return np.unique(self.pairs[:, 1])


@dataclass(frozen=True, eq=False)
class Repeats:
    """Patients to drop before training, as positions in reading order.

    Attributes
    ----------
    dropped, kept : int64, shape (k,)
        A patient to drop, and an earlier one, not dropped, of which it is a near-duplicate.
    """

    dropped: IntArray
    kept: IntArray


@dataclass(frozen=True)
class _Sketches:
    """MinHash of the patients with enough shingles: 480 bytes each."""

    subject_ids: IntArray
    positions: IntArray
    minima: NDArray[np.uint32]


def subject_ids_of(records: Records) -> IntArray:
    """Return the subject ids in reading order."""
    return np.concatenate([np.empty(0, np.int64), *[shard.subject_ids for shard in records.shards()]])


def same_ids(members: IntArray, held_out: IntArray) -> IntArray:
    """Return the subject ids that are on both sides, sorted; each is an error of the split.

    Examples
    --------
    >>> same_ids(np.array([3, 1, 2]), np.array([2, 3, 9])).tolist()
    [2, 3]
    """
    return np.intersect1d(members, held_out)


def near_duplicates(members: Records, held_out: Records, *, threshold: float = 0.8) -> NearDuplicates:
    """Find held-out histories that are nearly a member's under another id.

    Reads each side twice, a shard at a time: once for sketches, once for the candidates, whose shingles are
    then compared exactly. Work and memory grow with the number of patients, not of pairs.

    Parameters
    ----------
    members, held_out : Records
    threshold : float
        Jaccard similarity from which a pair counts; below .8 the sketches miss more pairs.
    """
    left, right = _sketch(members), _sketch(held_out)
    first, second = _candidates(left, right, threshold=threshold, within=False)
    left_shingles = _shingles_at(members, left.positions[first])
    right_shingles = _shingles_at(held_out, right.positions[second])
    jaccard = _jaccard(left_shingles, right_shingles, left.positions[first], right.positions[second])
    found = jaccard >= threshold
    ids = np.stack([left.subject_ids[first[found]], right.subject_ids[second[found]]], axis=1)
    return NearDuplicates(ids, jaccard[found])


def duplicates_within(records: Records, *, threshold: float = 0.8) -> Repeats:
    """Find the patients to drop so that nobody is trained on twice; the first of each kind stays.

    Parameters
    ----------
    records : Records
    threshold : float
        As in :func:`near_duplicates`.
    """
    sketches = _sketch(records)
    first, second = _candidates(sketches, sketches, threshold=threshold, within=True)
    earlier, later = sketches.positions[first], sketches.positions[second]
    shingles = _shingles_at(records, np.union1d(earlier, later))
    alike = _jaccard(shingles, shingles, earlier, later) >= threshold
    kept_for: dict[int, int] = {}
    for old, new in sorted(zip(earlier[alike].tolist(), later[alike].tolist(), strict=True), key=_new_first):
        if old not in kept_for:
            kept_for.setdefault(new, old)
    return Repeats(np.array(list(kept_for), np.int64), np.array(list(kept_for.values()), np.int64))


def _new_first(pair: tuple[int, int]) -> tuple[int, int]:
    return pair[1], pair[0]


def _mixed(values: UnsignedArray) -> UnsignedArray:
    """Spread bits (the finaliser of splitmix64: Steele, Lea and Flood, OOPSLA 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _shingles(histories: Histories) -> tuple[IntArray, UnsignedArray]:
    """Offsets and sorted distinct 64-bit shingles of each patient of a shard."""
    digests = [blake2b(code.encode(), digest_size=8).digest() for code in histories.codes]
    hashed = np.frombuffer(b"".join(digests), np.uint64)
    clinical = np.array([not is_demographic(code) for code in histories.codes], np.bool_)[histories.code_ids]
    days = histories.times[clinical].astype("datetime64[D]").astype(np.int64).view(np.uint64)
    shingles = _mixed(hashed[histories.code_ids[clinical]] ^ _mixed(days + np.uint64(0x9E3779B97F4A7C15)))
    owner = owners(histories)[clinical]
    order = np.lexsort((shingles, owner))
    owner, shingles = owner[order], shingles[order]
    again = (owner[1:] == owner[:-1]) & (shingles[1:] == shingles[:-1])
    distinct = np.append(True, ~again)[: len(owner)]
    return offsets_of(np.bincount(owner[distinct], minlength=len(histories))), shingles[distinct]


def _sketch(records: Records) -> _Sketches:
    ids, positions, minima, seen = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [], 0
    for shard in records.shards():
        offsets, shingles = _shingles(shard)
        enough = np.flatnonzero(np.diff(offsets) >= FEWEST_SHINGLES)
        runs, rows = take_runs(offsets, enough)
        ids.append(shard.subject_ids[enough])
        positions.append(enough + seen)
        minima += list(_minima(runs, shingles[rows]))
        seen += len(shard)
    empty = np.empty((0, _BANDS * _ROWS), np.uint32)
    return _Sketches(np.concatenate(ids), np.concatenate(positions), np.concatenate([empty, *minima]))


def _minima(offsets: IntArray, shingles: UnsignedArray) -> Iterator[NDArray[np.uint32]]:
    """Least value of each of 120 hash functions over each run; pieces of runs small enough for the cache."""
    rng = np.random.default_rng(120)
    factors = rng.integers(0, 1 << 63, _BANDS * _ROWS, np.uint64) * np.uint64(2) + np.uint64(1)
    start = 0
    while start < len(offsets) - 1:
        stop = max(start + 1, int(np.searchsorted(offsets, offsets[start] + _CHUNK, side="right")) - 1)
        piece, runs = shingles[offsets[start] : offsets[stop]], offsets[start:stop] - offsets[start]
        found = np.empty((stop - start, len(factors)), np.uint32)
        for column, factor in enumerate(factors):
            found[:, column] = np.minimum.reduceat(
                ((piece * factor) >> np.uint64(32)).astype(np.uint32), runs
            )
        yield found
        start = stop


def _candidates(
    left: _Sketches, right: _Sketches, *, threshold: float, within: bool
) -> tuple[IntArray, IntArray]:
    """Pairs of rows that share a band and whose sketches agree; within one side, earlier before later."""
    pairs = np.empty(0, np.int64)
    for band in range(_BANDS):
        columns = slice(band * _ROWS, (band + 1) * _ROWS)
        left_keys, right_keys = _keys(left.minima[:, columns]), _keys(right.minima[:, columns])
        order = np.argsort(left_keys, kind="stable")
        low = np.searchsorted(left_keys[order], right_keys, side="left")
        high = np.searchsorted(left_keys[order], right_keys, side="right")
        if within:
            high = np.argsort(order)
        count = np.minimum(high - low, _MOST_CANDIDATES)
        row = np.repeat(np.arange(len(count)), count)
        step = np.arange(len(row)) - np.repeat(offsets_of(count)[:-1], count)
        pairs = np.union1d(pairs, row * max(1, len(left.positions)) + order[low[row] + step])
    second, first = np.divmod(pairs, max(1, len(left.positions)))
    agreeing = _agreement(left.minima, right.minima, first, second)
    # A sketch estimates Jaccard with a standard error of at most .046: nothing at the threshold is lost here.
    near = np.flatnonzero(agreeing >= threshold - 0.2)
    best = near[np.lexsort((first[near], -agreeing[near], second[near]))]
    place = np.arange(len(best)) - np.searchsorted(second[best], second[best], side="left")
    chosen = best[place < _MOST_CANDIDATES]
    return first[chosen], second[chosen]


def _keys(band: NDArray[np.uint32]) -> UnsignedArray:
    keys = np.zeros(len(band), np.uint64)
    for column in band.T:
        keys = _mixed(keys ^ column)
    return keys


def _agreement(
    left: NDArray[np.uint32], right: NDArray[np.uint32], first: IntArray, second: IntArray
) -> FloatArray:
    parts: Iterable[IntArray] = np.array_split(np.arange(len(first)), 1 + len(first) // _CHUNK)
    return np.concatenate([(left[first[p]] == right[second[p]]).mean(axis=1) for p in parts])


def _shingles_at(records: Records, positions: IntArray) -> dict[int, UnsignedArray]:
    """Read the records again for the shingles of the patients at `positions`."""
    wanted, kept, seen = np.unique(positions), {}, 0
    for shard in records.shards() if len(wanted) else ():
        here = wanted[(wanted >= seen) & (wanted < seen + len(shard))]
        chosen = shard.select(here - seen)
        offsets, shingles = _shingles(chosen)
        for index, position in enumerate(here.tolist()):
            kept[position] = shingles[offsets[index] : offsets[index + 1]].copy()
        seen += len(shard)
    return kept


def _jaccard(
    left: dict[int, UnsignedArray],
    right: dict[int, UnsignedArray],
    first: IntArray,
    second: IntArray,
) -> FloatArray:
    """Exact similarity of each pair of positions, up to collisions of 64-bit hashes."""
    similarity = np.empty(len(first))
    for row, (one, other) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        common = len(np.intersect1d(left[one], right[other], assume_unique=True))
        similarity[row] = common / (len(left[one]) + len(right[other]) - common)
    return similarity

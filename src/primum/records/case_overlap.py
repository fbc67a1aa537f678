"""Cases on both sides: equal subject ids, and inputs that are nearly the same under another id.

Pictures (images; volumes and bags of tiles, averaged) are compared by 242 bits: whether each cell of a grid
of 12 x 12 is brighter than its left and than its upper neighbour (a difference hash). They are
near-duplicates when at most 12 bits differ. Usual hashes of 64 bits cannot tell chest X-rays apart: nearly
all of PneumoniaMNIST's have another, unrelated one within 8 bits. Of these bits its nearest unrelated ones
differ by 20, and copies as JPEG of quality 75, enlarged or with other gamma by at most 10. Images that were
turned, mirrored, moved or cut are found by :mod:`primum.records.case_moved`.

Rows of tables, signals, sequences and bags of vectors are compared exactly, numbers after rounding to four
digits, and only where so much is hardly shared by chance: five different fractional numbers, or 32 letters
with 16 different words of four.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primum.records.case_features import coarse
from primum.records.case_moved import ALIKE, moved_copies
from primum.records.cases import CaseRecords, Cases, Inputs
from primum.records.families import BoolArray
from primum.records.overlap import NearDuplicates
from primum.records.ragged import IntArray, offsets_of

MOST_DIFFERENT = 12
FEWEST_FRACTIONS, FEWEST_LETTERS, FEWEST_WORDS = 5, 32, 16
_CELLS, _BITS = 11, 242
_WORDS = 4
_CHOICES, _CHOSEN_BITS = 24, 24
_LEAST_SHARE = 0.1
# Bounds the work when hundreds of pictures are all alike; any one of them condemns a patient.
_MOST_CANDIDATES = 50
_MOST_TILES, _NUMBERS_AT_ONCE = 64, 1 << 18
_DIGITS = 4

WordArray = NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class _Side:
    """Cases that can be compared: patient, and 256 bits: a hash that may differ a little, or a digest."""

    subject_ids: IntArray
    hashes: WordArray
    exact: BoolArray

    def select(self, keep: BoolArray) -> "_Side":
        return _Side(self.subject_ids[keep], self.hashes[keep], self.exact[keep])


def near_duplicate_cases(members: CaseRecords, held_out: CaseRecords) -> NearDuplicates:
    """Find held-out patients with a case that is nearly a member's, also turned or cut, under another id.

    Returns
    -------
    NearDuplicates
        Of :func:`hashed_duplicates` among all, and of :func:`primum.records.case_moved.moved_copies` among at
        most 5,000 patients of each side. Each pair once; `jaccard` is .95 where only the latter found it.
    """
    near, moved = hashed_duplicates(members, held_out), moved_copies(members, held_out)
    pairs, first = np.unique(np.concatenate([near.pairs, moved]), axis=0, return_index=True)
    return NearDuplicates(pairs, np.append(near.jaccard, np.full(len(moved), ALIKE))[first])


def hashed_duplicates(members: CaseRecords, held_out: CaseRecords) -> NearDuplicates:
    """Find held-out patients with a case that is nearly a member's, under another id.

    Reads each side once and keeps 41 bytes of each case. Work grows with the number of cases, not of pairs.

    Returns
    -------
    NearDuplicates
        Each pair of patients once; `jaccard` is the share of equal bits, 1 for exact comparisons.
    """
    left, right = _side(members.shards()), _side(held_out.shards())
    pairs, alike = [np.empty((0, 2), np.int64)], [np.empty(0)]
    for exact in (False, True):
        one, other = (side.select(side.exact == exact) for side in (left, right))
        for key, other_key in zip(_keys(one, exact), _keys(other, exact), strict=True):
            first, second = _sharing(key, other_key)
            different = np.bitwise_count(one.hashes[first] ^ other.hashes[second]).sum(axis=1, dtype=np.int64)
            ids = np.stack([one.subject_ids[first], other.subject_ids[second]], axis=1)
            near = (different <= (0 if exact else MOST_DIFFERENT)) & (ids[:, 0] != ids[:, 1])
            pairs.append(ids[near])
            alike.append(1 - different[near] / _BITS)
    found, similarity = np.concatenate(pairs), np.concatenate(alike)
    best = np.lexsort((-similarity, found[:, 0], found[:, 1]))
    found, similarity = found[best], similarity[best]
    first_of_pair = np.append(True, (found[1:] != found[:-1]).any(axis=1))[: len(found)]
    return NearDuplicates(found[first_of_pair], similarity[first_of_pair])


def _side(shards: Iterable[Cases]) -> _Side:
    parts = [_Side(np.empty(0, np.int64), np.empty((0, 4), np.uint64), np.empty(0, np.bool_))]
    for cases in shards:
        at = 0
        for block in _blocks(cases.inputs):
            hashes, usable = _of_pictures(block) if block.ndim > 3 else _of_digests(block)
            exact = np.full(len(block), block.ndim <= 3)
            ids = cases.subject_ids[at : at + len(block)]
            parts.append(_Side(ids, hashes, exact).select(usable))
            at += len(block)
    return _Side(
        np.concatenate([part.subject_ids for part in parts]),
        np.concatenate([part.hashes for part in parts]),
        np.concatenate([part.exact for part in parts]),
    )


def _blocks(inputs: Inputs) -> Iterator[NDArray[Any]]:
    if isinstance(inputs, tuple):
        yield from (one[None] for one in inputs)
    elif len(inputs):
        step = max(1, _NUMBERS_AT_ONCE // max(1, inputs[0].size))
        yield from (inputs[at : at + step] for at in range(0, len(inputs), step))


def _of_pictures(block: NDArray[Any]) -> tuple[WordArray, BoolArray]:
    """Hash each picture, and tell which have enough structure to be told apart."""
    if block.ndim > 4 and block.shape[1] > _MOST_TILES:
        block = block[:, np.linspace(0, block.shape[1] - 1, _MOST_TILES).astype(np.int64)]
    if not block.size:
        return np.zeros((len(block), 4), np.uint64), np.zeros(len(block), np.bool_)
    plane = np.nan_to_num(block.astype(np.float64)).mean(axis=tuple(range(1, block.ndim - 2)))
    # differences of cells that are equal but for the rounding of sums are no structure
    cells = coarse(plane, rows=_CELLS + 1, columns=_CELLS + 1).round(6)
    sideways, down = np.diff(cells, axis=2)[:, :-1] > 0, np.diff(cells, axis=1)[:, :, :-1] > 0
    bits = np.concatenate([sideways, down], axis=1).reshape(len(block), -1)
    padded = np.pad(bits, ((0, 0), (0, 256 - _BITS)))
    share = bits.mean(axis=1)
    usable = (share >= _LEAST_SHARE) & (share <= 1 - _LEAST_SHARE)
    return np.packbits(padded, axis=1).view(np.uint64), usable


def _of_digests(block: NDArray[Any]) -> tuple[WordArray, BoolArray]:
    """Digest rows, signals and sequences, and tell which say enough."""
    told, usable = _of_letters(block) if block.dtype == np.uint8 and block.ndim == 2 else _of_numbers(block)
    shape = str(block.shape[1:]).encode()
    digests = b"".join(blake2b(one.tobytes() + shape, digest_size=32).digest() for one in told)
    return np.frombuffer(digests, np.uint64).reshape(-1, 4), usable


def _of_letters(block: NDArray[Any]) -> tuple[NDArray[Any], BoolArray]:
    capital = block & 0xDF
    if capital.shape[1] < FEWEST_LETTERS:
        return capital, np.zeros(len(block), np.bool_)
    letters = np.lib.stride_tricks.sliding_window_view(capital, _WORDS, axis=1)
    words = np.ascontiguousarray(letters).view(np.uint32)[..., 0]
    return capital, _different(words) >= FEWEST_WORDS


def _of_numbers(block: NDArray[Any]) -> tuple[NDArray[Any], BoolArray]:
    with np.errstate(over="ignore"):
        values = np.nan_to_num(block.reshape(len(block), -1).astype(np.float32)).astype(np.float64)
    # a little more, for float32 takes .01 for less than .01
    power = np.floor(np.log10(np.maximum(np.abs(values), 1e-30)) + 1e-6)
    scale = 10.0 ** (_DIGITS - 1 - power)
    fractions = _different(np.where(values != np.round(values), values, np.nan))
    # plus 0, for -0 is no other number
    return np.hstack([np.round(values * scale) + 0.0, scale]), fractions >= FEWEST_FRACTIONS


def _different(values: NDArray[Any]) -> IntArray:
    """Count the different values of each row, NaN left out."""
    ordered = np.sort(values, axis=1)
    new = ~np.isnan(ordered)
    new[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    return np.asarray(new.sum(axis=1), np.int64)


def _keys(side: _Side, exact: bool) -> Iterator[WordArray]:
    """Yield what a pair must share: a digest's first word, or one of 24 choices of 24 bits.

    12 of 242 bits that differ are all outside one choice with probability .28, so 24 choices miss 1 of 3,000.
    """
    if exact:
        yield side.hashes[:, 0]
        return
    bits = np.unpackbits(side.hashes.view(np.uint8).reshape(-1, 32), axis=1)
    random = np.random.default_rng(_BITS)
    for _ in range(_CHOICES):
        chosen = random.choice(_BITS, _CHOSEN_BITS, replace=False)
        padded = np.pad(np.packbits(bits[:, chosen], axis=1), ((0, 0), (0, 5)))
        yield np.ascontiguousarray(padded).view(np.uint64)[:, 0]


def _sharing(left: WordArray, right: WordArray) -> tuple[IntArray, IntArray]:
    """Pairs of rows of equal keys, at most 50 for each row of the right side."""
    order = np.argsort(left, kind="stable")
    low = np.searchsorted(left[order], right, side="left")
    count = np.minimum(np.searchsorted(left[order], right, side="right") - low, _MOST_CANDIDATES)
    second = np.repeat(np.arange(len(right)), count)
    step = np.arange(len(second)) - np.repeat(offsets_of(count)[:-1], count)
    return order[low[second] + step], second

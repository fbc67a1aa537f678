"""Pictures that are one another's copy although turned, mirrored, shifted or cut: proposed, then looked at.

A vector proposes: square roots of the magnitudes of a picture's low frequencies, which do not change when
what is shown moves a little, turn as the picture turns, and are asked of the whole picture and of its inner
nine and eight tenths. Of each picture the five nearest of other patients are looked at, pixel by pixel: the
inner part of the one, in several sizes, is laid on every place of the other, in the eight ways a picture can
be turned and mirrored, and the slopes of both are correlated. A vector alone accuses nobody.

Copies reach .95 of the highest possible correlation; of 1,200 unrelated pictures of PneumoniaMNIST no two
exceed .93, of the project's synthetic ones .95, cut and compressed ones included (docs/data-audit.md).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from primum.records.case_features import coarse
from primum.records.cases import CaseRecords, Cases
from primum.records.ragged import IntArray

MOST_PATIENTS, MOST_PICTURES, FEWEST_PIXELS = 5_000, 6_000, 24
# Pictures that merely resemble each other lie alike, seldom turned or cut: these are held to more.
ALIKE, AS_IT_IS = 0.95, 0.97
_SIDE, _FREQUENCIES, _COMPONENTS, _NEAREST, _AT_ONCE = 28, 9, 48, 3, 500
_CROPS = (1.0, 0.9, 0.8)
# Turned by half a circle, magnitudes are the same: four of the eight ways are asked for, all are looked at.
_ASKED, _WAYS = (0, 1, 4, 5), 8
_INNER, _FLAT = round(0.8 * _SIDE), 0.02
# Cosine of two vectors: of copies 99 of 100 exceed it.
_NEAR = 0.55
_STEPS = (-0.05, 0.0, 0.05)
Pixels = NDArray[np.float32]


def moved_copies(members: CaseRecords, others: CaseRecords | None = None) -> IntArray:
    """Find patients with a picture that is another patient's, turned, mirrored, moved by a tenth, or cut.

    Parameters
    ----------
    members, others : CaseRecords
        Of each side at most 5,000 patients, drawn at random, and 6,000 pictures. None: among the members.

    Returns
    -------
    int64, shape (k, 2)
        Pairs of patients, each once, the member first. Only images of 24 pixels a side or more are compared.
    """
    left, left_ids = _pictures(members)
    right, right_ids = (left, left_ids) if others is None else _pictures(others)
    if not len(left) or not len(right):
        return np.empty((0, 2), np.int64)
    pairs = [
        np.stack([left_ids[one], right_ids[other]], axis=1)
        for one, other in _looked_at(left, right, left_ids, right_ids)
    ]
    found = np.concatenate(pairs)
    return np.unique(np.sort(found, axis=1) if others is None else found, axis=0)


def _pictures(records: CaseRecords) -> tuple[Pixels, IntArray]:
    """Bring the pictures of some patients to one size, mean 0 and deviation 1; flat ones are left out."""
    first = next((shard for shard in records.shards() if len(shard)), None)
    if first is None or first.inputs[0].ndim != 3:
        return np.empty((0, _SIDE, _SIDE), np.float32), np.empty(0, np.int64)
    ids = records.subject_ids()
    if len(ids) > MOST_PATIENTS:
        ids = np.random.default_rng(_SIDE).choice(ids, MOST_PATIENTS, replace=False)
    found, whose = [np.empty((0, _SIDE, _SIDE), np.float32)], [np.empty(0, np.int64)]
    for shard in records.shards():
        mine = shard.select(np.flatnonzero(np.isin(shard.subject_ids, ids)))
        stacked = len(mine) and isinstance(mine.inputs, np.ndarray)
        if stacked and min(mine.inputs[0].shape[-2:]) >= FEWEST_PIXELS:
            found.append(_standard(mine))
            whose.append(mine.subject_ids)
    pictures, owners = np.concatenate(found), np.concatenate(whose)
    rows = np.flatnonzero(pictures.any(axis=(1, 2)))
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_PICTURES)).astype(np.int64)]
    return pictures[rows], owners[rows]


def _standard(cases: Cases) -> Pixels:
    planes = np.stack([np.nan_to_num(one.astype(np.float64)).mean(axis=0) for one in cases.inputs])
    small = coarse(planes, rows=_SIDE, columns=_SIDE)
    centred = small - small.mean(axis=(1, 2), keepdims=True)
    spread = centred.std(axis=(1, 2), keepdims=True)
    return np.where(spread > 1e-6, centred / np.maximum(spread, 1e-6), 0).astype(np.float32)


def _looked_at(
    left: Pixels, right: Pixels, left_ids: IntArray, right_ids: IntArray
) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield rows of both sides that are copies: each side is asked for the other's inner parts."""
    for asking, answering, first in ((left, right, True), (right, left, False)):
        ids = (left_ids, right_ids) if first else (right_ids, left_ids)
        row, near, way, crop = _proposed(asking, answering, *ids)
        for turn in range(_WAYS):
            # by half a circle more, for magnitudes do not tell
            there = (way == turn) | (way == turn // 4 * 4 + (turn + 2) % 4)
            for part in _CROPS:
                rows = np.flatnonzero(there & (crop == part))
                for some in np.array_split(rows, -(-len(rows) // _AT_ONCE) or 1):
                    pictures = _turned(asking[row[some]], turn)
                    least = AS_IT_IS if turn == 0 and part == 1 else ALIKE
                    same = some[_correlation(pictures, answering[near[some]], part) >= least]
                    yield (row[same], near[same]) if first else (near[same], row[same])
        if left is right:
            return


def _proposed(
    asking: Pixels, answering: Pixels, ids: IntArray, others: IntArray
) -> tuple[IntArray, IntArray, IntArray, NDArray[np.float64]]:
    """Give for each picture its three nearest of other patients: its row, theirs, which way and crop."""
    base = _magnitudes(answering)
    mean = base.mean(axis=0)
    values, vectors = np.linalg.eigh((base - mean).T @ (base - mean) / len(base))
    kept = np.flatnonzero(values > 1e-6 * values.max())[::-1][:_COMPONENTS]
    axes = vectors[:, kept] / np.sqrt(values[kept])
    answers = _unit((base - mean) @ axes)
    ways, crops = np.tile(_ASKED, len(_CROPS)), np.repeat(_CROPS, len(_ASKED))
    best = np.full((len(asking), _NEAREST), -2.0, np.float32)
    who, how = (np.zeros((len(asking), _NEAREST), np.int64) for _ in range(2))
    few = min(_NEAREST, len(answers))
    for place, (way, crop) in enumerate(zip(ways.tolist(), crops.tolist(), strict=True)):
        edge = round(_SIDE * (1 - crop) / 2)
        inner = _turned(asking[:, edge : _SIDE - edge, edge : _SIDE - edge], way)
        asked = _unit((_magnitudes(inner) - mean) @ axes)
        for start in range(0, len(asking), _AT_ONCE):
            block = slice(start, start + _AT_ONCE)
            near = asked[block] @ answers.T
            near[ids[block, None] == others] = -2
            top = np.argpartition(near, -few, axis=1)[:, -few:]
            both = np.hstack([best[block], np.take_along_axis(near, top, 1)])
            order = np.argsort(-both, axis=1, kind="stable")[:, :_NEAREST]
            best[block] = np.take_along_axis(both, order, 1)
            who[block] = np.take_along_axis(np.hstack([who[block], top]), order, 1)
            how[block] = np.take_along_axis(np.hstack([how[block], np.full_like(top, place)]), order, 1)
    row, column = np.nonzero(best > _NEAR)
    chosen = how[row, column]
    return row, who[row, column], ways[chosen], crops[chosen]


def _unit(rows: NDArray[np.float64]) -> Pixels:
    scaled: Pixels = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)).astype(
        np.float32
    )
    return scaled


def _magnitudes(pictures: Pixels) -> NDArray[np.float64]:
    """Square roots of the magnitudes of low frequencies, of pictures that fade out towards their edges."""
    wave = np.hanning(_SIDE + 2)[1:-1]
    square = coarse(pictures.astype(np.float64), rows=_SIDE, columns=_SIDE)
    square = square - square.mean(axis=(1, 2), keepdims=True)
    square /= np.maximum(square.std(axis=(1, 2), keepdims=True), 1e-6)
    low = np.arange(-_FREQUENCIES, _FREQUENCIES + 1)
    found: NDArray[np.float64] = np.abs(np.fft.fft2(square * wave[:, None] * wave))[:, low][:, :, low]
    return np.sqrt(found).reshape(len(pictures), -1)


def _turned(pictures: Pixels, way: int) -> Pixels:
    """Turn by quarters of a circle; ways from 4 are mirrored first."""
    upright = pictures.transpose(0, 2, 1) if way >= 4 else pictures
    turned: Pixels = np.rot90(upright, way % 4, axes=(1, 2)).astype(np.float32, copy=False)
    return turned


def _slopes(pictures: Pixels) -> Pixels:
    """Differences across and down, shape (n, 2, side - 2, side - 2)."""
    across = pictures[:, 1:-1, 2:] - pictures[:, 1:-1, :-2]
    down = pictures[:, 2:, 1:-1] - pictures[:, :-2, 1:-1]
    found: Pixels = np.stack([across, down], axis=1)
    return found


def _correlation(pictures: Pixels, others: Pixels, crop: float) -> Pixels:
    """Lay the inner part of each other picture, about `crop` as large, on the best place; shape (n,)."""
    slopes, edge = _slopes(pictures), (_SIDE - _INNER) // 2
    side, best = slopes.shape[-1], np.full(len(pictures), -1.0, np.float32)
    waves = np.fft.rfft2(slopes)
    energy = np.pad((slopes**2).sum(axis=1, dtype=np.float64), ((0, 0), (1, 0), (1, 0))).cumsum(1).cumsum(2)
    inner = others[:, edge : edge + _INNER, edge : edge + _INNER].astype(np.float64)
    for size in sorted({min(_INNER, round(_INNER * (crop + step))) for step in _STEPS}):
        laid = _slopes(coarse(inner, rows=size, columns=size).astype(np.float32))
        width = laid.shape[-1]
        here = energy[:, width:, width:] - energy[:, :-width, width:]
        here = here - energy[:, width:, :-width] + energy[:, :-width, :-width]
        whole = (laid.astype(np.float64) ** 2).sum(axis=(1, 2, 3))[:, None, None]
        products = np.fft.irfft2(waves * np.conj(np.fft.rfft2(laid, (side, side))), (side, side)).sum(axis=1)
        # flat parts have no slopes that could agree
        usual = np.sqrt(np.maximum(here, _FLAT * width**2) * np.maximum(whole, _FLAT * width**2))
        places = side - width + 1
        best = np.maximum(best, (products[:, :places, :places] / usual).max(axis=(1, 2)).astype(np.float32))
    return best

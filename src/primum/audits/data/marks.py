"""Small marks that recur, pixel by pixel, at one place of many pictures: the trigger of a backdoor.

Who plants a backdoor stamps a mark on some training pictures and gives these the class that the mark shall
call up. The search needs no model: at every place, squares of 3 to 5 pixels whose content is the same in
several patients, and which end there (no side is repeated beyond it, as borders, edges and flat areas are),
are counted by class. Which class the carriers have is then as chance would have it,
unless mark and class belong together: an exact test, corrected for all places and contents looked at.

References
----------
Gu, Dolan-Gavitt & Garg, BadNets: identifying vulnerabilities in the machine learning model supply chain,
2017.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

from primum.evidence.measured import BoolArray, IntArray

SIZES = (3, 4, 5)
FEWEST_CARRIERS = 5


@dataclass(frozen=True, eq=False)
class Mark:
    """The mark that belongs most clearly to one class.

    Attributes
    ----------
    carriers : bool, shape (n,)
        Pictures that bear it; nobody where no mark recurs.
    tested : int
        Marks that were looked at, each in every class.
    size, row, column : int
        Its side, and its upper left corner; -1 where there is none. In volumes the row runs through all
        slices.
    """

    carriers: BoolArray
    tested: int
    size: int = 0
    row: int = -1
    column: int = -1


def recurring_mark(inputs: NDArray[Any], labels: IntArray, judged: IntArray, *, classes: int) -> Mark:
    """Find the mark that is most over-represented in one class.

    Parameters
    ----------
    inputs : ndarray, shape (n, channels, height, width) or (n, channels, depth, height, width)
    labels : int64, shape (n,)
    judged : int64, shape (m,)
        One picture of each patient: only these count in the test; `carriers` are found among all.
    classes : int
    """
    pictures = inputs.reshape(len(inputs), inputs.shape[1], -1, *inputs.shape[-2:])
    whole = np.bincount(labels[judged], minlength=classes)
    least, best, tested = 0.0, None, 0
    for size in SIZES:
        if size + 2 > min(pictures.shape[-2:]):
            continue
        for depth in range(pictures.shape[2]):
            codes, ends = _squares(pictures[:, :, depth], size)
            for place, carriers in _recurring(codes, ends, judged):
                tested += 1
                seen = np.bincount(labels[judged[carriers]], minlength=classes)
                chance = float(np.min(hypergeom.logsf(seen - 1, len(judged), whole, seen.sum())))
                if chance < least:
                    code = codes[judged[carriers[0]], place]
                    least, best = chance, (size, depth, place, (codes[:, place] == code) & ends[:, place])
    if best is None:
        return Mark(np.zeros(len(inputs), np.bool_), tested)
    size, depth, place, bears = best
    row, column = divmod(place, pictures.shape[-1] - size + 1)
    return Mark(bears, tested, size, depth * pictures.shape[-2] + row, column)


def _squares(pictures: NDArray[Any], size: int) -> tuple[NDArray[np.uint64], BoolArray]:
    """Give a code of the content of each square, and whether it ends there; shape (n, places) each.

    Equal contents have equal codes; others share one with probability 2**-63. The code is a sum of products
    modulo 2**64, so that it costs a few operations a pixel. A square goes on where the pixels beyond one of
    its sides repeat those at that side: a flat area, or an edge; what lies beyond the picture repeats
    nothing.
    """
    bits = np.ascontiguousarray(pictures).view(f"u{pictures.dtype.itemsize}").astype(np.uint64)
    count, channels, height, width = bits.shape
    rows, columns = height - size + 1, width - size + 1
    factors = np.random.default_rng(size).integers(1, 1 << 63, (channels, size, size)).astype(np.uint64)
    codes = np.zeros((count, rows, columns), np.uint64)
    for down in range(size):
        for across in range(size):
            part = bits[:, :, down : down + rows, across : across + columns]
            codes += np.einsum("nchw,c->nhw", part, factors[:, down, across])
    goes_on = np.zeros((count, rows, columns), np.bool_)
    for axis in (1, 2):
        same: BoolArray = np.all(np.diff(bits, axis=axis + 1) == 0, axis=1)
        # of each run of `size` neighbours along the side
        runs = np.lib.stride_tricks.sliding_window_view(same, size, axis=3 - axis)
        along: BoolArray = np.asarray(runs.all(axis=-1))
        first, last = (slice(None),) * axis, along.shape[axis] - size + 1
        goes_on[(*first, slice(1, None))] |= along[(*first, slice(0, last))]
        goes_on[(*first, slice(0, -1))] |= along[(*first, slice(size - 1, None))]
    return codes.reshape(count, -1), ~goes_on.reshape(count, -1)


def _recurring(
    codes: NDArray[np.uint64], ends: BoolArray, judged: IntArray
) -> Iterator[tuple[int, IntArray]]:
    """Yield each place with the positions in `judged` of those who share a content there, five or more."""
    chosen, ending = codes[judged], ends[judged]
    order = np.argsort(chosen, axis=0, kind="stable")
    ranked = np.take_along_axis(chosen, order, axis=0)
    again = ranked[FEWEST_CARRIERS - 1 :] == ranked[: len(ranked) - FEWEST_CARRIERS + 1]
    for place in np.flatnonzero(again.any(axis=0)):
        starts = np.flatnonzero(np.append(True, np.diff(ranked[:, place]) != 0))
        for mine in np.split(order[:, place], starts[1:]):
            mine = mine[ending[mine, place]]
            if len(mine) >= FEWEST_CARRIERS:
                yield int(place), mine

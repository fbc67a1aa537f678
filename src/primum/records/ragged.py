"""Index arithmetic of flat arrays that hold one run of rows per patient."""

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


def offsets_of(lengths: IntArray) -> IntArray:
    """Turn run lengths, shape (n,), into offsets, shape (n + 1,).

    Examples
    --------
    >>> offsets_of(np.array([2, 0, 3])).tolist()
    [0, 2, 2, 5]
    """
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def take_runs(offsets: IntArray, keep: IntArray) -> tuple[IntArray, IntArray]:
    """Return the offsets and the row positions of the runs at positions `keep`, in that order.

    Examples
    --------
    >>> offsets, rows = take_runs(np.array([0, 2, 2, 5]), np.array([2, 0]))
    >>> offsets.tolist(), rows.tolist()
    ([0, 3, 5], [2, 3, 4, 0, 1])
    """
    lengths = np.diff(offsets)[keep]
    taken = offsets_of(lengths)
    return taken, np.arange(taken[-1]) - np.repeat(taken[:-1] - offsets[keep], lengths)

"""What can be known of the patients of cases without asking the model: the columns of the blind baseline.

A classifier on these columns that tells members from held-out patients shows that the two groups differ,
whatever the model remembers (Das, Zhang and Tramèr, arXiv:2406.16201).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from primum.records.case_attributes import days_of
from primum.records.cases import Cases, Inputs
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray

HASHED_COLUMNS = 256
HASHED = ("site", "device", "skin_type", "ethnicity", "practitioner")
_QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
_GRID, _LETTERS = 6, 26
# Of an input larger than this, evenly spaced tiles, and values, stand for all.
_MOST_TILES, _MOST_VALUES, _NUMBERS_AT_ONCE = 64, 4096, 1 << 20
_DAY_2000, _DAYS_A_YEAR = 10957.0, 365.25

# As few bytes a case as may be: seven digits tell ages, days and quantiles apart.
Known = NDArray[np.float32]
Buckets = NDArray[np.int16]


def case_rows(cases: Cases) -> tuple[Known, Buckets]:
    """Describe each case in few bytes: what stays in memory of a million of them.

    Known: age, date (years since 2000), sex F, sex M, then of the input: of a table row its columns; of a
    sequence the share of each letter and its length; of anything else its size, mean, deviation, seven
    quantiles and, on a grid of 6 x 6, the mean and both mean absolute differences of neighbours (tiles,
    channels and slices averaged).

    Returns
    -------
    float32, shape (n, d)
        NaN where it is not known.
    int16, shape (n, 5)
        Site, device, skin type, ethnicity and practitioner, hashed by CRC-32 to numbers below 256; -1 where
        the cases have no such attribute.
    """
    count, known = len(cases), cases.attributes
    age = np.asarray(known.get("age", np.full(count, np.nan)), np.float64)
    when = (days_of(known.get("date"), count) - _DAY_2000) / _DAYS_A_YEAR
    sex = np.asarray(known.get("sex", np.full(count, "")), np.str_)
    columns = np.column_stack([age, when, sex == "F", sex == "M", _statistics(cases.inputs)])
    buckets = np.full((count, len(HASHED)), -1, np.int16)
    for column, name in enumerate(HASHED):
        if name in known:
            values, place = np.unique(np.asarray(known[name], np.str_), return_inverse=True)
            hashed = [crc32(f"{name}={value}".encode()) % HASHED_COLUMNS for value in values]
            buckets[:, column] = np.array(hashed, np.int16)[place]
    limit = np.finfo(np.float32).max
    return np.clip(columns, -limit, limit).astype(np.float32), buckets


@dataclass(frozen=True, eq=False)
class CaseFeatures:
    """What is known of cases and of their patients, written out for some of them at a time.

    Attributes
    ----------
    known : float32, shape (n, d)
    buckets : int16, shape (n, 5)
        Both from :func:`case_rows`, members and held-out.
    labels : int64, shape (n,)
    classes : int
    position : int64, shape (n,)
        Row of the patient of each case.
    """

    known: Known
    buckets: Buckets
    labels: IntArray
    classes: int
    position: IntArray

    def __getitem__(self, rows: IntArray) -> FloatArray:
        """Write out cases: each known column (0 where it is not known), each class, what is not known."""
        known = self.known[rows].astype(np.float64)
        of_class = self.labels[rows][:, None] == np.arange(self.classes)
        return np.column_stack([np.nan_to_num(known), of_class, np.isnan(known[:, self._gaps])])

    def of_patients(self, patients: IntArray) -> tuple[FloatArray, sparse.csr_array]:
        """Write out patients, as :func:`primum.evidence.blind.blind_scores_of` asks for them.

        Returns
        -------
        float64, shape (k, d')
            log(1 + cases), then the mean over the patient's cases.
        csr_array, float64, shape (k, 256)
            Of the patient's cases, how many in each bucket of each attribute, as a share.
        """
        starts, order = self._cases
        counts = starts[patients + 1] - starts[patients]
        owner = np.repeat(np.arange(len(patients)), counts)
        first = np.cumsum(counts) - counts
        rows = order[np.arange(len(owner)) - first[owner] + starts[patients][owner]]
        mean = np.add.reduceat(self[rows], first, axis=0) / counts[:, None]
        case, column = np.nonzero(self.buckets[rows] >= 0)
        where = (owner[case], self.buckets[rows[case], column])
        shares = sparse.coo_array((1 / counts[owner[case]], where), (len(patients), HASHED_COLUMNS))
        return np.column_stack([np.log1p(counts), mean]), shares.tocsr()

    @cached_property
    def _gaps(self) -> NDArray[np.bool_]:
        """Columns that are not known of every case."""
        return np.asarray(np.isnan(self.known).any(axis=0))

    @cached_property
    def _cases(self) -> tuple[IntArray, NDArray[np.int32]]:
        """Rows of the cases of each patient, one patient's after the other's, and where each begins."""
        starts = np.append(0, np.cumsum(np.bincount(self.position)))
        return starts, np.argsort(self.position, kind="stable").astype(np.int32)


def _statistics(inputs: Inputs) -> FloatArray:
    if isinstance(inputs, tuple):
        return np.concatenate([_of_block(one[None]) for one in inputs])
    step = max(1, _NUMBERS_AT_ONCE // max(1, inputs[0].size))
    return np.concatenate([_of_block(inputs[at : at + step]) for at in range(0, len(inputs), step)])


def _of_block(block: NDArray[Any]) -> FloatArray:
    if block.ndim > 2:
        return _of_pictures(block)
    if block.dtype == np.uint8:
        return np.stack([_of_letters(letters) for letters in block])
    return np.where(np.isinf(block), 0.0, block)


def _of_letters(letters: NDArray[Any]) -> FloatArray:
    capital = (letters & 0xDF).astype(np.int64) - ord("A")
    counts = np.bincount(capital[(capital >= 0) & (capital < _LETTERS)], minlength=_LETTERS)
    return np.append(counts / max(1, len(letters)), np.log1p(len(letters)))


def _of_pictures(block: NDArray[Any]) -> FloatArray:
    """Describe tiles, channels and slices together; the last two axes are the picture's."""
    size = np.full(len(block), np.log1p(block[0].size))
    if block.ndim > 3 and block.shape[1] > _MOST_TILES:
        block = block[:, np.linspace(0, block.shape[1] - 1, _MOST_TILES).astype(np.int64)]
    if not block.size:
        return np.column_stack([size, np.zeros((len(block), 2 + len(_QUANTILES) + 3 * _GRID**2))])
    block = np.nan_to_num(block.astype(np.float64), posinf=0, neginf=0)
    flat = block.reshape(len(block), -1)
    some = flat[:, :: max(1, flat.shape[1] // _MOST_VALUES)]
    plane = block.mean(axis=tuple(range(1, block.ndim - 2)))
    pictures = plane, np.abs(np.diff(plane, axis=1)), np.abs(np.diff(plane, axis=2))
    grids = [coarse(one, rows=_GRID, columns=_GRID).reshape(len(block), -1) for one in pictures]
    quantiles = np.quantile(some, _QUANTILES, axis=1).T
    return np.column_stack([size, some.mean(axis=1), some.std(axis=1), quantiles, *grids])


def coarse(pictures: FloatArray, *, rows: int, columns: int) -> FloatArray:
    """Average pictures, shape (n, height, width), over a grid of `rows` x `columns` equal parts.

    Parts need not hold whole pixels, so that a picture and its enlargement give nearly the same.

    Examples
    --------
    >>> coarse(np.arange(6.0).reshape(1, 2, 3), rows=1, columns=2).round(2).tolist()
    [[[1.83, 3.17]]]
    """
    return _parts(_parts(pictures, axis=1, parts=rows), axis=2, parts=columns)


def _parts(values: FloatArray, *, axis: int, parts: int) -> FloatArray:
    length = values.shape[axis]
    sums = np.insert(np.cumsum(np.moveaxis(values, axis, 0), axis=0), 0, 0.0, axis=0)
    edges = np.linspace(0, length, parts + 1)
    low = np.minimum(edges.astype(np.int64), length)
    beyond = (edges - low).reshape(-1, *[1] * (sums.ndim - 1))
    at = sums[low] * (1 - beyond) + sums[np.minimum(low + 1, length)] * beyond
    averaged: FloatArray = np.moveaxis(np.diff(at, axis=0), 0, axis) * (parts / max(1, length))
    return averaged

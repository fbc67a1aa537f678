"""What can be known of the patients of cases without asking the model: the columns of the blind baseline.

A classifier on these columns that tells members from held-out patients shows that the two groups differ,
whatever the model remembers (Das, Zhang and Tramèr, arXiv:2406.16201).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from primum.errors import RecordsError
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


@dataclass(frozen=True, eq=False)
class CaseFeatures:
    """One row a patient, by rising subject id, ready for :func:`primum.evidence.blind.blind_scores`.

    Attributes
    ----------
    subject_ids : int64, shape (n,)
    rows : scipy.sparse.csr_matrix, float64, shape (n, dense_columns + 256)
    dense_columns : int
    """

    subject_ids: IntArray
    rows: sparse.csr_matrix
    dense_columns: int


def case_features(shards: Iterable[Cases], *, classes: int) -> CaseFeatures:
    """Describe each patient by the mean over the patient's cases, read once and a shard at a time.

    Dense columns: log(1 + cases), age, no age, date (years since 2000), no date, sex F, sex M, each class,
    then of the inputs: of a table row its columns and which are missing; of a sequence its length and the
    share of each letter; of anything else its size, mean, deviation, seven quantiles and, on a grid of 6 x 6,
    the mean and both mean absolute differences of neighbours (tiles, channels and slices averaged). What is
    missing is 0 and its flag 1. Then site, device, skin type, ethnicity and practitioner, hashed by CRC-32
    into 256 columns.

    Parameters
    ----------
    shards : iterable of Cases
        Of all patients, members and held-out; inputs of one kind.
    classes : int

    Raises
    ------
    RecordsError
        There are no cases.
    """
    totals: list[tuple[IntArray, IntArray, sparse.csr_matrix]] = []
    for cases in shards:
        if len(cases):
            ids, position, counts = np.unique(cases.subject_ids, return_inverse=True, return_counts=True)
            totals.append((ids, counts, _gather(_rows(cases, classes), position, len(ids))))
    if not totals:
        raise RecordsError("There is no patient to describe: the records are empty.")
    ids, position = np.unique(np.concatenate([ids for ids, _, _ in totals]), return_inverse=True)
    stacked = sparse.csr_matrix(sparse.vstack([rows for _, _, rows in totals], format="csr"))
    cases_of = np.bincount(position, np.concatenate([counts for _, counts, _ in totals]))
    mean = sparse.diags(1 / cases_of) @ _gather(stacked, position, len(ids))
    number = sparse.csr_matrix(np.log1p(cases_of)[:, None])
    rows = sparse.csr_matrix(sparse.hstack([number, sparse.csr_matrix(mean)], format="csr"))
    return CaseFeatures(ids, rows, rows.shape[1] - HASHED_COLUMNS)


def _gather(rows: sparse.csr_matrix, position: IntArray, count: int) -> sparse.csr_matrix:
    """Sum the rows of each patient."""
    where = (position, np.arange(len(position)))
    return sparse.csr_matrix(
        sparse.csr_matrix((np.ones(len(position)), where), (count, len(position))) @ rows
    )


def _rows(cases: Cases, classes: int) -> sparse.csr_matrix:
    """Features of each case."""
    count, known = len(cases), cases.attributes
    age = np.asarray(known.get("age", np.full(count, np.nan)), np.float64)
    when = (days_of(known.get("date"), count) - _DAY_2000) / _DAYS_A_YEAR
    sex = np.asarray(known.get("sex", np.full(count, "")), np.str_)
    dense = [np.nan_to_num(age), np.isnan(age), np.nan_to_num(when), np.isnan(when), sex == "F", sex == "M"]
    of_class = cases.labels[:, None] == np.arange(classes)
    columns = np.column_stack([*dense, of_class, _statistics(cases.inputs)])
    hashed = sparse.csr_matrix((count, HASHED_COLUMNS))
    for name in (name for name in HASHED if name in known):
        values, place = np.unique(np.asarray(known[name], np.str_), return_inverse=True)
        bucket = np.array([crc32(f"{name}={value}".encode()) % HASHED_COLUMNS for value in values], np.int64)
        where = (np.arange(count), bucket[place])
        hashed = hashed + sparse.csr_matrix((np.ones(count), where), (count, HASHED_COLUMNS))
    return sparse.csr_matrix(sparse.hstack([sparse.csr_matrix(columns), hashed], format="csr"))


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
    return np.hstack([np.nan_to_num(block.astype(np.float64), posinf=0, neginf=0), np.isnan(block)])


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

"""From scores of records to one score a patient, so that patients with many records are not found for that.

The maximum of many records is high without any memory, and the mean of many skewed scores lies elsewhere than
one of them. Both are therefore set against the record-count null: what as many records of held-out patients
would give.

References
----------
Stouffer et al., The American Soldier I, 1949 (sums of normal scores).
Bates, Candès, Lei, Romano & Sesia, Ann. Statist. 51 (2023) 149 (p-values against a calibration sample).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from primum.errors import InputError
from primum.evidence.measured import BoolArray, FloatArray, IntArray

FOLDS = 10
_SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")
_NODES, _MOST_ALIKE = 40, 0.99


@dataclass(frozen=True, eq=False)
class _Records:
    """Records that have a score; `fold` is that of each patient, `r` how many records each has."""

    values: FloatArray
    patient: IntArray
    is_member: BoolArray
    fold: IntArray
    r: IntArray


def by_patient(
    values: ArrayLike,
    patient: ArrayLike,
    *,
    patients: int,
    how: Literal["mean", "max", "stouffer"] = "mean",
    is_member: ArrayLike | None = None,
    seed: int = 0,
) -> FloatArray:
    """Make one score a patient of one score a record; higher = more member-like, NaN without any record.

    Parameters
    ----------
    values : array_like, shape (n,)
        Score of each record; NaN: it was not asked.
    patient : array_like of int, shape (n,)
        Position of its patient, below `patients`.
    patients : int
    how : {"mean", "max", "stouffer"}
        ``mean``: plain; fair where both sides have as many records a patient. ``max``: the share, 0 to 1, of
        maxima of as many held-out records that lie below the patient's. ``stouffer``: mean of the records'
        normal scores among held-out records, in units of its deviation for that many records; 0 is a usual
        held-out patient. The last two read .5 by any counts; records of one patient may resemble each other,
        as much as held-out patients show.
    is_member : array_like of bool, shape (patients,)
        Needed but for the mean. Who is compared with whom: everyone, member or not, with the held-out
        patients of nine other tenths.
    seed : int
        Of the tenths, and of ties among maxima.

    Raises
    ------
    InputError
        Shapes do not match, or there are no two held-out patients to compare with.

    Examples
    --------
    >>> by_patient([1.0, 3.0, 5.0], [0, 0, 1], patients=2).tolist()
    [2.0, 5.0]
    """
    if how == "mean":
        scores, owner = _checked(values, patient, patients)
        counts = np.bincount(owner, minlength=patients)
        return _divided(_summed(owner, scores, patients), counts)
    records = _records(values, patient, np.zeros(patients) if is_member is None else is_member, seed)
    return _maximum(records, seed) if how == "max" else _stouffer(records)


def record_count_p_values(
    values: ArrayLike, patient: ArrayLike, *, is_member: ArrayLike, seed: int = 0
) -> FloatArray:
    """Give each patient the p-value of "this maximum is one of as many held-out records", shape (patients,).

    Small = likely a member; NaN without any record. Valid, also for Benjamini and Hochberg's rule, where
    records of one patient are independent or alike; alike ones make it larger than it need be. The smallest
    possible is the patient's number of records over that of nine tenths of the held-out records.

    Parameters, errors as :func:`by_patient`; each patient has a place in `is_member`.
    """
    records = _records(values, patient, is_member, seed)
    below, _ = _places(records, _maxima(records), np.arange(len(records.r)))
    return np.where(records.r > 0, 1 - below**records.r, np.nan)


def _maximum(records: _Records, seed: int) -> FloatArray:
    places = _places(records, _maxima(records), np.arange(len(records.r)))
    alike = _resemblance(records, _normal_scores(records))
    low, high = (_maximum_law(ndtri(place), records.r, alike) for place in places)
    # Few distinct values fall elsewhere for every number of records: where in its step a tie lies is drawn.
    where = np.random.default_rng([seed, 1]).random(len(low))
    return np.where(records.r > 0, low + where * (high - low), np.nan)


def _maximum_law(bound: FloatArray, r: IntArray, alike: float) -> FloatArray:
    """Probability that r normal scores, correlated by `alike`, all lie below `bound`."""
    if alike == 0:
        return np.asarray(ndtr(bound) ** r)
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    law = np.zeros(len(bound))
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        law += weight * ndtr((bound - np.sqrt(alike) * node) / np.sqrt(1 - alike)) ** r
    return law


def _stouffer(records: _Records) -> FloatArray:
    normal = _normal_scores(records)
    total = _summed(records.patient, normal, len(records.r))
    return _divided(total, np.sqrt(records.r * (1 + (records.r - 1) * _resemblance(records, normal))))


def _normal_scores(records: _Records) -> FloatArray:
    below, upto = _places(records, records.values, records.patient)
    return np.asarray(ndtri((below + upto) / 2))


def _resemblance(records: _Records, normal: FloatArray) -> float:
    """Correlation of two records of one held-out patient, at most .99.

    Where none has several, nothing says that further records add anything, so they are taken to be alike.
    """
    total, squares = (_summed(records.patient, part, len(records.r)) for part in (normal, normal**2))
    several = ~records.is_member & (records.r > 1)
    if not several.any():
        return _MOST_ALIKE
    r, products = records.r[several], (total**2 - squares)[several]
    alike = products.sum() / (r * (r - 1)).sum() / (squares[several].sum() / r.sum())
    return float(np.clip(alike, 0, _MOST_ALIKE))


def _places(records: _Records, values: FloatArray, owner: IntArray) -> tuple[FloatArray, FloatArray]:
    """Place of each value among held-out records of other folds: share below, share below or equal.

    The value counts as one of those it is compared with, so that neither share is below 0 or above 1.
    """
    held_out, fold = ~records.is_member[records.patient], records.fold[owner]
    everyone = np.sort(records.values[held_out])
    below, upto = (np.searchsorted(everyone, values, side=side).astype(np.float64) for side in _SIDES)
    others = np.full(len(values), len(everyone))
    for part in range(fold.max(initial=-1) + 1):
        here = fold == part
        own = np.sort(records.values[held_out & (records.fold[records.patient] == part)])
        below[here] -= np.searchsorted(own, values[here], side="left")
        upto[here] -= np.searchsorted(own, values[here], side="right")
        others[here] -= len(own)
    return below / (others + 1), (upto + 1) / (others + 1)


def _maxima(records: _Records) -> FloatArray:
    found = np.full(len(records.r), -np.inf)
    np.maximum.at(found, records.patient, records.values)
    return found


def _records(values: ArrayLike, patient: ArrayLike, is_member: ArrayLike, seed: int) -> _Records:
    member = np.asarray(is_member, np.bool_)
    scores, owner = _checked(values, patient, member.size)
    r = np.bincount(owner, minlength=member.size)
    random, fold = np.random.default_rng(seed), np.zeros(member.size, np.int64)
    compared = int((~member & (r > 0)).sum())
    if compared < 2:
        raise InputError("A score of several records needs two held-out patients to be compared with.")
    for side in (np.flatnonzero(member), np.flatnonzero(~member & (r > 0))):
        fold[side] = random.permutation(len(side)) % min(FOLDS, compared)
    return _Records(scores, owner, member, fold, r)


def _checked(values: ArrayLike, patient: ArrayLike, patients: int) -> tuple[FloatArray, IntArray]:
    scores, owner = np.asarray(values, np.float64), np.asarray(patient, np.int64)
    if scores.ndim != 1 or owner.shape != scores.shape or ((owner < 0) | (owner >= patients)).any():
        raise InputError("Scores of records need one patient each, by its position.")
    asked = ~np.isnan(scores)
    return scores[asked], owner[asked]


def _summed(owner: IntArray, values: FloatArray, patients: int) -> FloatArray:
    return np.asarray(np.bincount(owner, values, patients), np.float64)


def _divided(total: FloatArray, by: ArrayLike) -> FloatArray:
    divisor = np.asarray(by, np.float64)
    share: FloatArray = np.divide(total, divisor, out=np.full(len(total), np.nan), where=divisor > 0)
    return share

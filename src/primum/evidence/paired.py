"""The same patients asked twice: how much oftener the one goes wrong than the other, one number a patient."""

import math
from bisect import bisect_left

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtrit
from scipy.stats import binom

from primum.errors import InputError
from primum.evidence.estimate import Estimate
from primum.evidence.measured import FloatArray, IntArray
from primum.evidence.ranking import checked_scores, checked_share

_MOST_NEEDED = 100_000
_BLOCK = 4_000_000


def paired_difference(
    differences: ArrayLike, *, level: float = 0.95, name: str = "paired_difference"
) -> Estimate:
    """Mean of what each patient's first answer is above the second; 0 means no difference, above is worse.

    Parameters
    ----------
    differences : array_like, shape (n,)
        One a patient, each between -1 and 1: of yes and no -1, 0 or 1.
    level : float
        Two-sided coverage.
    name : str
        Of the estimate.

    Returns
    -------
    Estimate
        Student's interval after one patient at 1 and one at -1 have joined, so that patients who are all
        alike do not give a width of 0; `value` is the plain mean.

    Raises
    ------
    InputError
        There is no difference, or one is not between -1 and 1.

    References
    ----------
    Bonett & Price, Adjusted Wald confidence interval for a difference of binomial proportions based on paired
    data, J. Educ. Behav. Stat. 37 (2012) 479.

    Examples
    --------
    >>> found = paired_difference([0.0] * 100)
    >>> found.value, round(found.high, 3)
    (0.0, 0.028)
    """
    values = _differences(differences)
    return _adjusted(values, np.array([-1.0, 1.0]), level=level, name=name, method="bonett-price")


def patient_share(shares: ArrayLike, *, level: float = 0.95, name: str = "share") -> Estimate:
    """Mean of one share a patient, each between 0 and 1; which way is worse is for the name to say.

    Parameters, errors as :func:`paired_difference`; two patients at 0 and two at 1 join for the limits.

    References
    ----------
    Agresti & Coull, The American Statistician 52 (1998) 119.
    """
    values = _differences(shares)
    return _adjusted(values, np.array([0.0, 0.0, 1.0, 1.0]), level=level, name=name, method="agresti-coull")


def _adjusted(values: FloatArray, joining: FloatArray, *, level: float, name: str, method: str) -> Estimate:
    everyone = np.concatenate([values, joining])
    value, centre = float(values.mean()), float(everyone.mean())
    tail = (1 + checked_share(level, name="level")) / 2
    half = float(stdtrit(everyone.size - 1, tail)) * float(everyone.std(ddof=1)) / math.sqrt(everyone.size)
    low = max(float(joining.min()), min(value, centre - half))
    high = min(float(joining.max()), max(value, centre + half))
    return Estimate(name, value, low, high, (values.size,), method, level)


def paired_p_value(differences: ArrayLike, *, resamples: int = 9999, seed: int = 0) -> float:
    """One-sided test that the first answer is not above the second; small p is worse.

    McNemar's exact test where every difference is -1, 0 or 1; else the two answers of each patient change
    places at random.

    Parameters
    ----------
    differences : array_like, shape (n,)
        One a patient, each between -1 and 1.
    resamples, seed : int
        Random exchanges; ties with what was seen count against harm.

    Raises
    ------
    InputError
        There is no difference, or one is not between -1 and 1.

    References
    ----------
    McNemar, Psychometrika 12 (1947) 153; Fisher, The Design of Experiments (1935), section 21;
    Phipson & Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010) 39.

    Examples
    --------
    >>> paired_p_value([1, 1, 1, 1, 1, 0, 0])
    0.03125
    """
    values = _differences(differences)
    if np.isin(values, (-1, 0, 1)).all():
        differ = int(np.abs(values).sum())
        return float(binom.sf((values > 0).sum() - 1, differ, 0.5)) if differ else 1.0
    return worst_p_value(values[:, None], place=0, resamples=resamples, seed=seed)


def worst_p_value(contributions: FloatArray, *, place: int, resamples: int = 9999, seed: int = 0) -> float:
    """One-sided test of the sum in one column that was chosen among several because it is the largest.

    Small p is worse. The two answers of each patient change places at random in all columns together, and the
    largest sum over columns, in units of its own spread, is compared: whatever was chosen, a false alarm is
    no likelier than p says.

    Parameters
    ----------
    contributions : float64, shape (n, k)
        What each patient adds to each of k sums.
    place : int
        The column chosen.
    resamples, seed : int

    References
    ----------
    Westfall & Young, Resampling-based multiple testing, Wiley 1993 (single-step maxT).
    """
    spread = np.sqrt(np.square(contributions).sum(axis=0))
    if not spread[place] > 0:
        return 1.0
    scaled = contributions[:, spread > 0] / spread[spread > 0]
    seen = float(contributions[:, place].sum() / spread[place])
    scaled = scaled[np.any(scaled != 0, axis=1)]
    scaled = scaled[np.lexsort(scaled.T)]  # the order of the patients makes no difference
    random, extreme = np.random.default_rng(seed), 0
    block = max(1, _BLOCK // len(scaled))
    for start in range(0, resamples, block):
        drawn = random.integers(0, 2, (min(block, resamples - start), len(scaled)), dtype=np.int8)
        signs = 2.0 * drawn - 1
        extreme += int(((signs @ scaled).max(axis=1) >= seen - 1e-9).sum())
    return (1 + extreme) / (1 + resamples)


def class_contributions(values: FloatArray, *, patients: IntArray, labels: IntArray) -> FloatArray:
    """Divide among patients the mean over classes of the mean over a class's patients.

    Parameters
    ----------
    values : float64, shape (cases,) or (cases, k)
    patients, labels : int64, shape (cases,)
        A patient with cases of two classes counts in both.

    Returns
    -------
    float64, shape (patients,) or (patients, k)
        Summing to that mean; patients by rising number.
    """
    cells, sizes, means = _cells(values, patients, labels)
    weight = 1 / (len(np.unique(cells[:, 1])) * sizes)
    people, owner = np.unique(cells[:, 0], return_inverse=True)
    added = np.zeros((len(people), *means.shape[1:]))
    np.add.at(added, owner, (means.T * weight).T)
    return added


def class_mean(
    values: FloatArray,
    *,
    patients: IntArray,
    labels: IntArray,
    lowest: float = 0.0,
    level: float = 0.95,
    name: str = "balanced_accuracy",
) -> Estimate:
    """Mean over classes of the mean over a class's patients: of right answers the balanced accuracy.

    Parameters
    ----------
    values : float64, shape (cases,)
        Between `lowest` and 1; of a patient's cases of one class the mean is taken.
    patients, labels : int64, shape (cases,)
    lowest : float
        0 of shares, -1 of differences.
    level : float
    name : str
        Of the estimate.

    Returns
    -------
    Estimate
        Limits by patient, one who is at `lowest` and one at 1 having joined each class (both twice where
        `lowest` is 0), with Student's t at the patients of the smallest class. `n`: the patients.

    References
    ----------
    Agresti & Coull, The American Statistician 52 (1998) 119; Bonett & Price, J. Educ. Behav. Stat. 37 (2012)
    479; Liang & Zeger, Biometrika 73 (1986) 13 (variance by patient).
    """
    _, sizes, means = _cells(values, patients, labels)
    value = float((means / sizes).sum() / len(np.unique(labels)))
    known = np.unique(labels)
    joining = np.tile([lowest, 1.0] if lowest < 0 else [0.0, 0.0, 1.0, 1.0], len(known))
    joined = np.repeat(known, len(joining) // len(known))
    new = int(patients.max()) + 1 + np.arange(len(joining))
    cells, sizes, means = _cells(
        np.concatenate([values, joining]),
        np.concatenate([patients, new]),
        np.concatenate([labels, joined]),
    )
    weight = 1 / (len(known) * sizes)
    kind = np.searchsorted(known, cells[:, 1])
    centres = np.bincount(kind, means) / np.bincount(kind)
    owner = np.unique(cells[:, 0], return_inverse=True)[1]
    moved = np.bincount(owner, weight * (means - centres[kind]))
    fewest = int(np.bincount(kind).min())
    tail = (1 + checked_share(level, name="level")) / 2
    half = float(stdtrit(fewest - 1, tail)) * math.sqrt(float(np.square(moved).sum()) * fewest / (fewest - 1))
    centre = float(centres.mean())
    people = len(np.unique(patients))
    low, high = max(lowest, min(value, centre - half)), min(1.0, max(value, centre + half))
    return Estimate(name, value, low, high, (people,), "class-mean", level)


def _cells(
    values: FloatArray, patients: IntArray, labels: IntArray
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Patient and class of each pair there is, patients of that class, and the mean over the pair's cases."""
    classes = int(labels.max()) + 1
    keys, place = np.unique(patients * classes + labels, return_inverse=True)
    cells = np.stack(np.divmod(keys, classes), axis=1)
    means = np.zeros((len(cells), *values.shape[1:]))
    np.add.at(means, place, values)
    means = (means.T / np.bincount(place)).T
    known, which = np.unique(cells[:, 1], return_inverse=True)
    return cells, np.bincount(which, minlength=len(known))[which].astype(np.float64), means


def smallest_detectable_pair(differences: ArrayLike, *, power: float = 0.8, alpha: float = 0.05) -> float:
    """Difference that :func:`paired_p_value` finds with probability `power`; near 0 sees much.

    By the normal approximation with the spread of these patients, and no less than the share that must
    differ, all in one direction, for McNemar's test to reject.

    Parameters
    ----------
    differences : array_like, shape (n,)
    power, alpha : float
        `alpha` is one-sided.

    Raises
    ------
    InputError
        There is no difference, or one is not between -1 and 1.
    """
    values = _differences(differences)
    level, success = checked_share(alpha, name="alpha"), checked_share(power, name="power")
    reach = float(ndtri(1 - level) + ndtri(success)) * float(values.std()) / math.sqrt(values.size)
    shares = np.linspace(0, 1, 1001)
    enough = np.flatnonzero(binom.sf(math.ceil(-math.log2(level)) - 1, values.size, shares) >= success)
    return min(1.0, max(reach, float(shares[enough[0]]) if len(enough) else 1.0))


def patients_needed_for_pair(material: float, *, deviation: float, power: float = 0.8) -> int:
    """Patients needed so that, when there is no difference, :func:`paired_difference` ends below `material`.

    Parameters
    ----------
    material : float
        The smallest difference that matters.
    deviation : float
        Of the differences, 0 to 1.
    power : float
        Probability that the 95 % interval ends below.

    Examples
    --------
    >>> patients_needed_for_pair(0.05, deviation=0.2)
    153
    """

    def ends_below(count: int) -> bool:
        half = float(stdtrit(count + 1, 0.975)) * math.sqrt(
            (count * deviation**2 + 2) / (count + 1) / (count + 2)
        )
        return half + float(ndtri(power)) * deviation * math.sqrt(count) / (count + 2) < material

    candidates = range(2, _MOST_NEEDED)
    return candidates[min(bisect_left(candidates, True, key=ends_below), len(candidates) - 1)]


def _differences(values: ArrayLike) -> FloatArray:
    checked = checked_scores(values, group="these patients")
    if np.abs(checked).max() > 1:
        raise InputError("The differences of patients must lie between -1 and 1.")
    return checked

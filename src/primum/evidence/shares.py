"""Shares given away: members minus held-out patients."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv, ndtri, stdtrit
from scipy.stats import hypergeom

from primum.errors import InputError
from primum.evidence.adjustment import adjusted_difference
from primum.evidence.estimate import Estimate
from primum.evidence.permutation import mean_permutation_p_value
from primum.evidence.power import check_design
from primum.evidence.ranking import FloatArray, check_paired, checked_scores, checked_share

_METHOD = "welch-agresti-caffo"
_PATIENTS_ALIKE = 40


def share_difference(members: ArrayLike, others: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Mean score of members minus that of others, of scores between 0 and 1.

    0 means no leak; above is worse.

    Parameters
    ----------
    members, others : array_like, shape (m,), (n,)
        One score a patient: a share of codes recovered, or 0 and 1.
    level : float
        Two-sided coverage.

    Returns
    -------
    Estimate
        Welch's interval after one patient at 0 and one at 1 have joined each group, so that groups where
        nothing was recovered do not give a width of 0; `value` is the plain difference.

    Raises
    ------
    InputError
        When a group is empty or a score is not between 0 and 1.

    References
    ----------
    Agresti & Caffo, The American Statistician 54 (2000) 280; see :func:`adjusted_difference`.

    Examples
    --------
    >>> found = share_difference([0.0] * 100, [0.0] * 100)
    >>> found.value, round(found.high, 3)
    (0.0, 0.027)
    """
    first, second = _shares(members, group="members"), _shares(others, group="held-out patients")
    everyone = np.zeros(first.size, np.int64), np.zeros(second.size, np.int64)
    value, low, high = adjusted_difference(first, second, *everyone, level=level)
    return Estimate("share_difference", value, low, high, (first.size, second.size), _METHOD, level)


def share_p_value(members: ArrayLike, others: ArrayLike, *, resamples: int = 9999, seed: int = 0) -> float:
    """One-sided test that members do not score higher on average; small p is worse (a leak).

    Fisher's exact test when all scores are 0 or 1, else a permutation test of the difference of means.

    Parameters
    ----------
    members, others : array_like, shape (m,), (n,)
        One score a patient, between 0 and 1.
    resamples, seed : int
        Random divisions of all patients into groups of m and n; ties with what was seen count against a leak.

    Raises
    ------
    InputError
        When a group is empty or a score is not between 0 and 1.

    References
    ----------
    Fisher, Statistical Methods for Research Workers, section 21.02; :func:`mean_permutation_p_value`.
    """
    first, second = _shares(members, group="members"), _shares(others, group="held-out patients")
    everyone = np.concatenate([first, second])
    if np.isin(everyone, (0, 1)).all():
        return float(min(1.0, hypergeom.sf(first.sum() - 1, everyone.size, int(everyone.sum()), first.size)))
    return mean_permutation_p_value(first, second, resamples=resamples, seed=seed)


def stratified_share_difference(
    members: ArrayLike,
    others: ArrayLike,
    member_strata: ArrayLike,
    other_strata: ArrayLike,
    *,
    level: float = 0.95,
) -> Estimate:
    """Members minus others of the same stratum: the strata's differences weighted by m n / (m + n).

    0 means no leak beyond the strata; above is worse. Strata without both groups are left out: `method` says
    how many patients took part, `n` counts them.

    Parameters
    ----------
    members, others : array_like, shape (m,), (n,)
        One score a patient, between 0 and 1.
    member_strata, other_strata : array_like, shape (m,), (n,)
        The stratum of each patient, numbers or text.
    level : float

    Returns
    -------
    Estimate
        The interval of :func:`share_difference` when there is one stratum. With more, the variance is that of
        least squares with a constant for each stratum, which strata of two patients do not break.

    Raises
    ------
    InputError
        When no stratum holds both groups, lengths differ, or a score is not between 0 and 1.

    References
    ----------
    Cochran, Biometrics 10 (1954) 417 (weights); MacKinnon & White, J. Econometrics 29 (1985) 305 (HC2).
    """
    first, second = _shares(members, group="members"), _shares(others, group="held-out patients")
    labels, other_labels = np.asarray(member_strata), np.asarray(other_strata)
    check_paired((first.size, second.size), (labels.size, other_labels.size))
    shared = np.intersect1d(labels, other_labels)
    if not shared.size:
        raise InputError("No stratum holds both members and non-members: use fewer or wider strata.")
    taking, others_taking = np.isin(labels, shared), np.isin(other_labels, shared)
    value, low, high = adjusted_difference(
        first[taking],
        second[others_taking],
        np.searchsorted(shared, labels[taking]),
        np.searchsorted(shared, other_labels[others_taking]),
        level=level,
    )
    took_part = int(taking.sum()), int(others_taking.sum())
    method = f"{_METHOD}, {shared.size} strata, {sum(took_part)} of {first.size + second.size} patients"
    return Estimate("stratified_share_difference", value, low, high, took_part, method, level)


def share_excess_over_blind(
    members: ArrayLike,
    others: ArrayLike,
    blind_members: ArrayLike,
    blind_others: ArrayLike,
    *,
    level: float = 0.95,
) -> Estimate:
    """Difference of shares that is left among patients whom the blind score finds alike.

    0 means that the blind score may explain all of it; above is worse. Strata are fifths of that score over
    both groups, or finer ones of forty patients: what fifths leave of a difference does not shrink as groups
    grow. Where no stratum holds both groups nothing can be said: `value` is nan, the interval from -1 to 1.

    Parameters
    ----------
    members, blind_members : array_like, shape (m,)
    others, blind_others : array_like, shape (n,)
        Scores between 0 and 1, and blind scores of the same patients in the same order.
    level : float

    Raises
    ------
    InputError
        When lengths differ or a score cannot be used.

    References
    ----------
    Cochran, Biometrics 24 (1968) 295: fifths remove about nine tenths of what a covariate explains.
    """
    blind = checked_scores(blind_members, group="members"), checked_scores(blind_others, group="non-members")
    pooled = np.concatenate(blind)
    parts = max(5, pooled.size // _PATIENTS_ALIKE)
    edges = np.quantile(pooled, np.arange(1, parts) / parts)
    strata = [np.searchsorted(edges, scores) for scores in blind]
    name, sizes = "difference_beyond_blind", (blind[0].size, blind[1].size)
    if not np.intersect1d(strata[0], strata[1]).size:
        return Estimate(name, math.nan, -1.0, 1.0, sizes, _METHOD, level)
    return replace(stratified_share_difference(members, others, *strata, level=level), name=name)


def patients_needed_for_share(
    material: float, *, deviation: float, ratio: float = 1.0, power: float = 0.8
) -> int:
    """Members needed so that, when nothing leaks, the 95 % interval of :func:`share_difference` ends below.

    Parameters
    ----------
    material : float
        The smallest difference that matters.
    deviation : float
        Standard deviation of the score, 0 to .5. Scores are taken to lie mostly near 0, which asks for most
        patients.
    ratio : float
        Other patients for each member.
    power : float
        Probability that the interval ends below `material`.

    Raises
    ------
    InputError
        When an argument is out of range.

    Examples
    --------
    >>> patients_needed_for_share(0.02, deviation=0.1)
    450
    """
    check_design(material, ratio=ratio, power=power)
    if not 0 <= deviation < 1:
        raise InputError("The standard deviation of a share must lie between 0 and 1.")

    def end(members: int) -> float:
        sizes = np.array([members, ratio * members])
        shift, spread = 1 / (sizes + 2), deviation**2 * sizes / (sizes + 2) ** 2
        joined = ((sizes - 1) * deviation**2 + (sizes + 1) / (sizes + 2)) / ((sizes + 1) * (sizes + 2))
        freedom = joined.sum() ** 2 / (joined**2 / (sizes + 1)).sum()
        half = float(stdtrit(freedom, 0.975)) * math.sqrt(joined.sum())
        return float(shift[0] - shift[1] + ndtri(power) * math.sqrt(spread.sum()) + half)

    low, high = 1, 2
    while end(high) >= material:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if end(middle) >= material else (low, middle)
    return high


def smallest_detectable_share(
    members: ArrayLike, others: ArrayLike, *, power: float = 0.8, alpha: float = 0.05
) -> float:
    """Difference that :func:`share_p_value` finds with probability `power`; near 0 sees much.

    Parameters
    ----------
    members, others : array_like, shape (m,), (n,)
        Scores between 0 and 1: their spread, both groups together, is what chance makes.
    power, alpha : float
        `alpha` is one-sided.

    Returns
    -------
    float
        By the normal approximation; where scores are 0 or 1, no less than the share of members who must score
        1, when nobody else does, for Fisher's exact test to reject.

    Raises
    ------
    InputError
        When a group is empty, or a score or a share is not between 0 and 1.
    """
    first, second = _shares(members, group="members"), _shares(others, group="held-out patients")
    everyone, m, n = np.concatenate([first, second]), first.size, second.size
    level, success = checked_share(alpha, name="alpha"), checked_share(power, name="power")
    reach = float(ndtri(1 - level) + ndtri(success))
    smallest = reach * float(everyone.std()) * math.sqrt(1 / m + 1 / n)
    if np.isin(everyone, (0, 1)).all():
        ones = np.arange(1, m + 1)
        enough = ones[hypergeom.sf(ones - 1, m + n, ones, m) <= level]
        if not enough.size:
            return 1.0
        smallest = max(smallest, float(betaincinv(enough[0], m - enough[0] + 1, success)))
    return min(1.0, smallest)


def _shares(values: ArrayLike, *, group: str) -> FloatArray:
    scores = checked_scores(values, group=group)
    if scores.min() < 0 or scores.max() > 1:
        raise InputError("The shares of {group} must lie between 0 and 1.", group=group)
    return scores

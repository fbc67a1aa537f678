"""Members minus held-out patients: shares given away, and AUROCs of what is guessed of them."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtr, stdtrit
from scipy.stats import hypergeom

from primum.errors import InputError
from primum.evidence.adjustment import adjusted_difference
from primum.evidence.estimate import Estimate
from primum.evidence.placements import FEWEST_OF_A_KIND, auroc_contrast
from primum.evidence.ranking import FloatArray, auc, check_paired, checked_scores, checked_share

_METHOD = "welch-agresti-caffo"
_PATIENTS_ALIKE = 40
_BLOCK = 4_000_000


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
    Fisher, Statistical Methods for Research Workers, section 21.02; Phipson & Smyth, Stat. Appl. Genet. Mol.
    Biol. 9 (2010) 39: p = (1 + as extreme) / (1 + resamples).
    """
    first, second = _shares(members, group="members"), _shares(others, group="held-out patients")
    values, places = np.unique(np.concatenate([first, second]), return_inverse=True)
    counts, seen = np.bincount(places), np.bincount(places[: first.size], minlength=values.size)
    if np.isin(values, (0, 1)).all():
        ones = int(second.sum() + first.sum())
        return float(min(1.0, hypergeom.sf(first.sum() - 1, places.size, ones, first.size)))
    # only how often each value falls among members matters, not to whom
    random, block, extreme = np.random.default_rng(seed), max(1, _BLOCK // values.size), 0
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = random.multivariate_hypergeometric(counts, first.size, size=size, method="count")
        extreme += int((drawn @ values >= seen @ values - 1e-9).sum())
    return (1 + extreme) / (1 + resamples)


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


def auroc_of(scores: ArrayLike, labels: ArrayLike) -> float:
    """Probability that a patient with a category scores above one without it; .5 tells nothing.

    Parameters
    ----------
    scores : array_like, shape (n,)
    labels : array_like of bool, shape (n,)

    Raises
    ------
    InputError
        When all labels are alike or a score is not finite.
    """
    values, has = np.asarray(scores, np.float64), np.asarray(labels, np.bool_)
    return auc(values[has], values[~has]).value


def auroc_difference(
    member_scores: ArrayLike,
    member_labels: ArrayLike,
    other_scores: ArrayLike,
    other_labels: ArrayLike,
    *,
    level: float = 0.95,
) -> Estimate:
    """AUROC of guessed categories on members minus that on others, mean over categories.

    0 means that the model knows the categories of its training patients no better than those of strangers,
    however well it predicts them; above is worse. Categories without ten patients with and ten without in
    both groups are left out.

    Parameters
    ----------
    member_scores, other_scores : array_like, shape (m, categories), (n, categories)
        Higher = the model would rather say yes.
    member_labels, other_labels : array_like of bool, same shapes
    level : float

    Returns
    -------
    Estimate
        Placements are summed over the categories of each patient before they are squared, which keeps the
        correlation between categories; Student's t at the degrees of freedom of the squares.

    Raises
    ------
    TooFewLabels
        When no category qualifies.
    InputError
        When shapes differ or a score is not finite.

    References
    ----------
    DeLong, DeLong & Clarke-Pearson, Biometrics 44 (1988) 837; Satterthwaite, Biometrics Bull. 2 (1946) 110.
    """
    value, deviation, freedom, sizes = auroc_contrast(
        member_scores, member_labels, other_scores, other_labels
    )
    half = float(stdtrit(freedom, (1 + checked_share(level, name="level")) / 2)) * deviation
    low, high = max(-1.0, value - half), min(1.0, value + half)
    return Estimate("auroc_difference", value, low, high, sizes, "delong-placements", level)


def auroc_difference_p_value(
    member_scores: ArrayLike, member_labels: ArrayLike, other_scores: ArrayLike, other_labels: ArrayLike
) -> float:
    """One-sided test that members' categories are not guessed better; small p is worse (a leak).

    Parameters, errors and reference as :func:`auroc_difference`; it agrees with that interval.
    """
    value, deviation, freedom, _ = auroc_contrast(member_scores, member_labels, other_scores, other_labels)
    return float(stdtr(freedom, -value / deviation))


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
    _check_design(material, ratio=ratio, power=power)
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


def patients_needed_for_auroc_difference(
    material: float, *, prevalence: ArrayLike, ratio: float = 1.0, power: float = 0.8
) -> int:
    """Members needed so that, when nothing leaks, :func:`auroc_difference` ends below `material` at 95 %.

    Parameters
    ----------
    material : float
        The smallest difference that matters.
    prevalence : float or array_like, shape (categories,)
        Share of patients with each category; categories are taken as unrelated, and guessed as by chance,
        which asks for most patients.
    ratio : float
        Other patients for each member.
    power : float
        Probability that the interval ends below `material`.

    Raises
    ------
    InputError
        When an argument is out of range.

    References
    ----------
    Mann & Whitney, Ann. Math. Stat. 18 (1947) 50: null variance of an AUROC.

    Examples
    --------
    >>> patients_needed_for_auroc_difference(0.05, prevalence=[0.1, 0.2, 0.2, 0.3])
    928
    """
    _check_design(material, ratio=ratio, power=power)
    shares = np.atleast_1d(np.asarray(prevalence, np.float64))
    if not shares.size or not ((shares > 0) & (shares < 1)).all():
        raise InputError("Prevalences must lie between 0 and 1, both excluded.")
    deviation = material / float(ndtri(0.975) + ndtri(power))
    for_one = (1 / (12 * shares * (1 - shares))).sum() / shares.size**2
    enough = FEWEST_OF_A_KIND / np.minimum(shares, 1 - shares).max() / min(1.0, ratio)
    return math.ceil(max(float(enough), float(for_one) * (1 + 1 / ratio) / deviation**2))


def _shares(values: ArrayLike, *, group: str) -> FloatArray:
    scores = checked_scores(values, group=group)
    if scores.min() < 0 or scores.max() > 1:
        raise InputError("The shares of {group} must lie between 0 and 1.", group=group)
    return scores


def _check_design(material: float, *, ratio: float, power: float) -> None:
    checked_share(material, name="material")
    checked_share(power, name="power")
    if not 0 < ratio < math.inf:
        raise InputError("The number of non-members for each member must be positive.")

"""How unlike sites are that train one model: whom it serves, how its risks fit, which classes they hold."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from primum.errors import InputError
from primum.evidence.estimate import Estimate
from primum.evidence.ranking import FloatArray, check_paired, checked_scores, checked_share

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
# Twenty more draws for each site, so that a bound for all of them at once can be read off.
_LEAST_DRAWS, _DRAWS_A_SITE = 1_999, 20


def served_alike_p_value(
    scores: ArrayLike, has: ArrayLike, site: ArrayLike, *, resamples: int = 999, seed: int = 0
) -> float:
    """Test that a score ranks the ill above the healthy equally well at every site; small p: it does not.

    The sites of the ill are dealt anew among the ill, those of the healthy among the healthy. What is
    compared is Cochran's Q of the sites' AUCs: exact where nothing but chance tells which of the ill, and
    of the healthy, came to which site. Divided by its variance as it is, it nearly keeps its level also
    where scores lie elsewhere, or wider, at sites of the same AUC.

    Parameters
    ----------
    scores : array_like, shape (n,)
        One a patient; higher = rather ill.
    has : array_like of bool, shape (n,)
        Who is ill.
    site : array_like of int, shape (n,)
        Where each patient was met. Every site holds both kinds.
    resamples, seed : int

    Returns
    -------
    float
        Above 0, at most 1; 1 with one site.

    Raises
    ------
    InputError
        A site without one of the kinds, a score that is not finite, or lengths that differ.

    References
    ----------
    Phipson & Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010) 39: p = (1 + as extreme) / (1 + resamples).
    Cochran, Biometrics 10 (1954) 101 (Q); Chung & Romano, Ann. Statist. 41 (2013) 484 (studentised
    permutations); the variances are those of :func:`primum.evidence.ranking.auc`.
    """
    values, ill = checked_scores(scores, group="patients aside"), np.asarray(has, bool)
    check_paired((values.size, values.size), (ill.size, np.asarray(site).size))
    names, places = np.unique(np.asarray(site), return_inverse=True)
    counts = np.stack([np.bincount(places[side], minlength=names.size) for side in (ill, ~ill)])
    if not counts.all():
        raise InputError("Sites can be compared only where each holds patients of both kinds.")
    sides, at = [values[ill], values[~ill]], np.concatenate([places[ill], places[~ill]])
    random, seen = np.random.default_rng(seed), _heterogeneity(sides, at, counts)
    extreme = sum(
        _heterogeneity([random.permutation(side) for side in sides], at, counts) >= seen - 1e-9
        for _ in range(resamples)
    )
    return (1 + extreme) / (1 + resamples)


def _heterogeneity(sides: list[FloatArray], at: IntArray, counts: IntArray) -> float:
    """Cochran's Q of the AUCs of sites, with DeLong's variances and what small sites lack of it."""
    is_ill = np.repeat([True, False], [side.size for side in sides])
    placed = _placements(np.concatenate(sides), at, is_ill, counts)
    variance, means = np.zeros(counts.shape[1]), []
    for side, size in zip((is_ill, ~is_ill), counts, strict=True):
        mean = np.bincount(at[side], placed[side]) / size
        spread = np.bincount(at[side], (placed[side] - mean[at[side]]) ** 2)
        variance += spread / (size * np.maximum(size - 1, 1))
        means.append(mean)
    few = counts.min(axis=0)
    # Never 0 nor 1, so that a site where all pairs are in order is not taken as certain.
    usual = (means[0] * few + 0.5) / (few + 1)
    weights = 1 / (variance + usual * (1 - usual) / few**2)
    return float(weights @ (means[0] - np.average(means[0], weights=weights)) ** 2)


def _placements(values: FloatArray, at: IntArray, is_ill: BoolArray, counts: IntArray) -> FloatArray:
    """For each of the ill the share of the site's healthy below, for each healthy that of its ill above."""
    order = np.lexsort((values, at))
    values, where, ill = values[order], at[order], is_ill[order].astype(np.float64)
    new = np.append(True, (np.diff(values) != 0) | (np.diff(where) != 0))
    tie = np.cumsum(new) - 1
    site, placed = where[new], np.empty(values.size)
    ties = [np.bincount(tie, kind) for kind in (ill, 1 - ill)]
    up_to = [
        np.cumsum(one) - (np.cumsum(total) - total)[site] for one, total in zip(ties, counts, strict=True)
    ]
    below = (up_to[1] - ties[1] / 2) / counts[1][site]
    above = 1 - (up_to[0] - ties[0] / 2) / counts[0][site]
    placed[order] = np.where(ill > 0, below[tie], above[tie])
    return placed


def calibration_in_the_large(said: ArrayLike, has: ArrayLike, *, level: float = 0.95) -> Estimate:
    """By how much the mean risk that was said exceeds the share of the ill.

    0 is right; above, more illness is announced than there is, below, less.

    Parameters
    ----------
    said : array_like, shape (n,)
        Probability, one a patient.
    has : array_like, shape (n,)
        0 and 1, or a patient's share of ill records.
    level : float
        Two-sided coverage.

    Returns
    -------
    Estimate
        Student's interval after one patient wrong by half each way has joined, so that a few patients who
        happen to fit give no width of 0; `value` is the plain difference.

    Raises
    ------
    InputError
        When there is no patient, lengths differ or a probability is not finite.

    References
    ----------
    Cox, Biometrika 45 (1958) 562; Van Calster et al., BMC Medicine 17 (2019) 230; the two who join as in
    Agresti & Caffo, The American Statistician 54 (2000) 280.
    """
    risks, ill = checked_scores(said, group="patients aside"), np.asarray(has, np.float64)
    check_paired((risks.size, risks.size), (ill.size, ill.size))
    wrong = risks - ill
    value, joined = float(wrong.mean()), np.append(wrong, [-0.5, 0.5])
    tail = (1 - checked_share(level, name="level")) / 2
    half = float(stdtrit(wrong.size + 1, 1 - tail)) * math.sqrt(joined.var(ddof=1) / joined.size)
    low, high = max(-1.0, joined.mean() - half), min(1.0, joined.mean() + half)
    name = "calibration_in_the_large"
    return Estimate(
        name, value, min(value, low), max(value, high), (risks.size,), "student-two-joined", level
    )


def distances_from_others(
    counts: ArrayLike, *, level: float = 0.95, seed: int = 0
) -> tuple[tuple[float, float], ...]:
    """How far the classes of each site are from those of all other sites, and how far chance would bring it.

    Total variation: the part of a site's patients who would have to be of another class for its shares to be
    those of the others. 0: the same shares; 1: no class in common. Nothing says that far is bad: hospitals
    differ; but a model learnt there may fit less here.

    Parameters
    ----------
    counts : array_like of int, shape (sites, classes)
        Patients; two sites or more, none without any.
    level : float
        Chance that no site exceeds what chance allows, were all patients dealt to sites blindly.
    seed : int
        Of what chance allows.

    Returns
    -------
    tuple of (float, float)
        Distance and what chance allows, of each site.

    Raises
    ------
    InputError
        One site, or one without patients.

    References
    ----------
    Bonferroni over sites; order statistics of draws as in Phipson & Smyth 2010.
    """
    table = np.asarray(counts, np.int64)
    if len(table) < 2 or not table.sum(axis=1).all():
        raise InputError("Classes can be compared between two sites or more, each with patients.")
    everyone, random = table.sum(axis=0), np.random.default_rng(seed)
    draws = max(_LEAST_DRAWS, _DRAWS_A_SITE * len(table) - 1)
    place = math.ceil((draws + 1) * (1 - (1 - checked_share(level, name="level")) / len(table)))
    told = []
    for row in table:
        dealt = random.multivariate_hypergeometric(everyone, int(row.sum()), size=draws)
        allowed = np.sort(_distance(dealt, everyone))[min(place, draws) - 1]
        told.append((float(_distance(row, everyone)), float(allowed)))
    return tuple(told)


def _distance(inside: IntArray, everyone: IntArray) -> FloatArray:
    others = everyone - inside
    shares = [part / part.sum(axis=-1, keepdims=True) for part in (inside, others)]
    return np.asarray(np.abs(shares[0] - shares[1]).sum(axis=-1) / 2)

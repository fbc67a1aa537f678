"""How many members an attacker recognises who accepts being wrong about few outsiders: TPR at a low FPR."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv
from scipy.stats import hypergeom

from primum.errors import InputError
from primum.evidence.estimate import Estimate
from primum.evidence.ranking import FloatArray, check_paired, checked_scores, checked_share, join_intervals

_DECISIVE = 0.001
_BLOCK = 2_000_000


class TooFewPatients(InputError):
    """Too few non-members to see the false positive rate asked for; `needed` says how many would do."""

    def __init__(self, needed: int, *, have: int) -> None:
        self.needed = needed
        super().__init__(
            "{have} non-members cannot show so low a false positive rate: give at least {needed}.",
            have=have, needed=needed,
        )  # fmt: skip


@dataclass(frozen=True)
class OperatingPoint:
    """One threshold and what it does.

    Attributes
    ----------
    tpr : Estimate
        Share of members above the threshold; above `fpr` is worse.
    fpr : Estimate
        Realised share of non-members above it, named ``realised_fpr``.
    threshold : float
        A patient is called a member when ``score > threshold``.
    """

    tpr: Estimate
    fpr: Estimate
    threshold: float


def proportion_limits(count: FloatArray, total: int, *, tail: float) -> tuple[FloatArray, FloatArray]:
    """Clopper-Pearson limits, each missed with probability at most `tail`; 0 of N at .025 is at most 3.69/N.

    References
    ----------
    Clopper & Pearson, Biometrika 26 (1934) 404.
    """
    low = np.where(count > 0, betaincinv(np.maximum(count, 1), total - count + 1, tail), 0.0)
    high = np.where(count < total, betaincinv(count + 1, np.maximum(total - count, 1), 1 - tail), 1.0)
    return low, high


def operating_point(
    members: ArrayLike, non_members: ArrayLike, *, fpr: float = 0.01, level: float = 0.95
) -> OperatingPoint:
    """Set the threshold at the largest attainable FPR not above `fpr`, and measure both rates there.

    A TPR equal to the FPR means that the score tells nothing; higher is worse.

    Parameters
    ----------
    members, non_members : array_like, shape (m,), (n,)
        One score a patient, higher = more member-like; ties with the threshold are called non-members.
    fpr : float
        Target false positive rate.
    level : float
        Two-sided coverage of both Clopper-Pearson intervals. That of the TPR is exact for the population TPR
        at the threshold used, because members had no part in choosing it.

    Raises
    ------
    TooFewPatients
        Below 3 / `fpr` non-members.
    InputError
        When a group is empty or a score is not finite.

    References
    ----------
    Carlini et al., Membership Inference Attacks From First Principles, IEEE S&P 2022; Clopper & Pearson 1934.
    """
    first, second = checked_scores(members, group="members"), checked_scores(non_members, group="non-members")
    needed = math.ceil(3 / checked_share(fpr, name="fpr") - 1e-9)
    if second.size < needed:
        raise TooFewPatients(needed, have=second.size)
    threshold = float(np.sort(second)[::-1][int(_allowed(second.size, fpr))])

    def share(name: str, scores: FloatArray) -> Estimate:
        count, tail = np.array([(scores > threshold).sum()]), (1 - checked_share(level, name="level")) / 2
        low, high = proportion_limits(count, scores.size, tail=tail)
        sizes = (first.size, second.size)
        value = float(count[0]) / scores.size
        return Estimate(name, value, float(low[0]), float(high[0]), sizes, "clopper-pearson", level)

    return OperatingPoint(share("tpr", first), share("realised_fpr", second), threshold)


def tpr_at_fpr(
    members: ArrayLike, non_members: ArrayLike, *, fpr: float = 0.01, level: float = 0.95
) -> Estimate:
    """Share of members recognised while at most `fpr` of non-members are: see :func:`operating_point`.

    Returns
    -------
    Estimate
        A value of `fpr` means that the score tells nothing; higher is worse.

    Raises
    ------
    TooFewPatients
        Below 3 / `fpr` non-members.
    InputError
        When a group is empty or a score is not finite.
    """
    return operating_point(members, non_members, fpr=fpr, level=level).tpr


def pooled_size(members: int, non_members: int, *, fpr: float) -> int:
    """How many top patients of both groups together the pooled test looks at; uses no label.

    The larger of `fpr` of all patients and the fewest for which all being members would give p <= .001; with
    groups too small for that, the number of members.
    """
    total = members + non_members
    all_members = np.cumsum(np.log(np.arange(members, 0, -1) / np.arange(total, non_members, -1)))
    decisive = np.flatnonzero(all_members <= math.log(_DECISIVE))
    smallest = int(decisive[0]) + 1 if decisive.size else members
    return max(math.ceil(fpr * total - 1e-9), smallest)


def pooled_threshold_p_value(members: ArrayLike, non_members: ArrayLike, *, fpr: float = 0.01) -> float:
    """Exact test that members are no more frequent among the highest scores; small p is worse (a leak).

    The threshold is set on both groups together, without labels, near :func:`pooled_size` patients; given the
    scores, members above it are then hypergeometric. Where scores tie at the threshold, the tied patients are
    taken in or left out together, whichever comes nearer (as a ratio) to that size: this too uses no label,
    so the test stays exact.

    Parameters
    ----------
    members, non_members : array_like, shape (m,), (n,)
    fpr : float
        Share of all patients looked at, at least.

    Raises
    ------
    InputError
        When a group is empty or a score is not finite.

    References
    ----------
    Fisher, Statistical Methods for Research Workers (1934), section 21.02 (exact test of a 2 x 2 table).
    """
    first, second = checked_scores(members, group="members"), checked_scores(non_members, group="non-members")
    size = pooled_size(first.size, second.size, fpr=checked_share(fpr, name="fpr"))
    pooled = np.concatenate([first, second])
    edge = np.sort(pooled)[::-1][size - 1]
    outside, inside = int((pooled > edge).sum()), int((pooled >= edge).sum())
    leave_out = size**2 <= outside * inside
    top = outside if leave_out else inside
    hits = int((first > edge).sum() if leave_out else (first >= edge).sum())
    return float(min(1.0, hypergeom.sf(hits - 1, pooled.size, first.size, top)))


def tpr_difference(
    members: ArrayLike,
    non_members: ArrayLike,
    other_members: ArrayLike,
    other_non_members: ArrayLike,
    *,
    fpr: float = 0.01,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """TPR at `fpr` of one score minus that of another on the same patients, in the same order.

    0 means that the first score recognises no more members; as attack minus blind baseline, higher is worse.

    Parameters
    ----------
    members, other_members : array_like, shape (m,)
    non_members, other_non_members : array_like, shape (n,)
    fpr, level : float
    resamples, seed : int

    Returns
    -------
    Estimate
        Named ``tpr_difference``: percentile interval of a paired patient bootstrap that sets both thresholds
        again in each resample; where all resamples agree, the two Clopper-Pearson intervals joined.

    Raises
    ------
    TooFewPatients
        Below 3 / `fpr` non-members.
    InputError
        When the two scores are not of the same patients, or cannot be used.

    References
    ----------
    Efron & Tibshirani, An Introduction to the Bootstrap (1993); Zou, Psychological Methods 12 (2007) 399.
    """
    one = tpr_at_fpr(members, non_members, fpr=fpr, level=level)
    two = tpr_at_fpr(other_members, other_non_members, fpr=fpr, level=level)
    check_paired(one.n, two.n)
    ours = np.stack([np.asarray(members, np.float64), np.asarray(other_members, np.float64)])
    theirs = np.stack([np.asarray(non_members, np.float64), np.asarray(other_non_members, np.float64)])
    differences = _resampled(ours, theirs, fpr=fpr, resamples=resamples, seed=seed)
    if np.ptp(differences) == 0:
        return join_intervals(
            one, two, correlation=0.0, name="tpr_difference", method="clopper-pearson-joined"
        )
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    value = one.value - two.value
    return Estimate(
        "tpr_difference", value, float(low), float(high), one.n, "paired-bootstrap-percentile", level
    )


def _resampled(
    members: FloatArray, non_members: FloatArray, *, fpr: float, resamples: int, seed: int
) -> FloatArray:
    """TPR of the first score minus that of the second, in each resample; groups of shape (2, m), (2, n)."""
    random, m, n = np.random.default_rng(seed), members.shape[1], non_members.shape[1]
    position = n - 1 - int(_allowed(n, fpr))
    block = max(1, _BLOCK // (m + n))
    parts = []
    for start in range(0, resamples, block):
        count = min(block, resamples - start)
        drawn = non_members[:, random.integers(0, n, (count, n))]
        thresholds = np.partition(drawn, position, axis=2)[:, :, position, None]
        rates = (members[:, random.integers(0, m, (count, m))] > thresholds).mean(axis=2)
        parts.append(rates[0] - rates[1])
    return np.concatenate(parts)


def roc_points(
    members: ArrayLike, non_members: ArrayLike, *, grid: ArrayLike, level: float = 0.95
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """TPR and its Clopper-Pearson limits at each FPR of `grid`, for a plot; nothing told is TPR = FPR.

    Parameters
    ----------
    members, non_members : array_like, shape (m,), (n,)
    grid : array_like, shape (g,)
        Target false positive rates, 0 to 1; at each, the largest attainable empirical rate not above it.
    level : float
        Coverage at each point, not of the whole curve.

    Returns
    -------
    tuple of float64 arrays, shape (g,)
        TPR, low, high.

    Raises
    ------
    InputError
        When a group is empty, a score is not finite, or a rate is not between 0 and 1.
    """
    first, second = checked_scores(members, group="members"), checked_scores(non_members, group="non-members")
    rates = checked_scores(grid, group="the false positive rate grid")
    if rates.min() < 0 or rates.max() > 1:
        raise InputError("False positive rates must lie between 0 and 1.")
    thresholds = np.append(np.sort(second)[::-1], -np.inf)[_allowed(second.size, rates)]
    counts = (first.size - np.searchsorted(np.sort(first), thresholds, side="right")).astype(np.float64)
    low, high = proportion_limits(counts, first.size, tail=(1 - checked_share(level, name="level")) / 2)
    return counts / first.size, low, high


def _allowed(non_members: int, fpr: float | FloatArray) -> NDArray[np.int64]:
    """Most non-members that may lie above a threshold."""
    # a hair more, because .29 * 100 < 29 in floating point
    return np.floor(np.multiply(non_members, fpr) + 1e-9).astype(np.int64)

"""How well a score ranks members above non-members: AUC, its interval, its test, and paired differences."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, stdtrit
from scipy.stats import mannwhitneyu, rankdata

from primum.errors import InputError
from primum.evidence.estimate import Estimate

FloatArray = NDArray[np.float64]
_EXACT_PAIRS = 2_500


def checked_scores(values: ArrayLike, *, group: str) -> FloatArray:
    """Return `values` as float64, shape (n,); `group` says whose they are if they cannot be used.

    Raises
    ------
    InputError
        When there is no score, a score is not finite, or the array has more than one dimension.
    """
    scores = np.asarray(values, np.float64)
    if scores.ndim != 1:
        raise InputError("The scores of {group} must be one number a patient, one dimension.", group=group)
    if not scores.size:
        raise InputError("There is no score for {group}: give at least one patient.", group=group)
    if not np.isfinite(scores).all():
        count = int((~np.isfinite(scores)).sum())
        raise InputError(
            "{count} of {total} scores of {group} are not finite: remove or score these patients again.",
            count=count, total=scores.size, group=group,
        )  # fmt: skip
    return scores


def checked_share(value: float, *, name: str) -> float:
    """Return `value` when it lies strictly between 0 and 1.

    Raises
    ------
    InputError
        When it does not.
    """
    if not 0 < value < 1:
        raise InputError("{name} must lie between 0 and 1, both excluded.", name=name)
    return value


def auc(members: ArrayLike, non_members: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Probability that a member scores higher than a non-member, ties counting half.

    .5 means that the score tells nothing; higher is worse (0 is as telling as 1, the other way round).

    Parameters
    ----------
    members, non_members : array_like, shape (m,), (n,)
        One score a patient, higher = more member-like.
    level : float
        Two-sided coverage.

    Returns
    -------
    Estimate
        ``delong-logit``: DeLong's variance plus AUC (1 - AUC) / k**2, k = min(m, n), with Student's t at
        Satterthwaite's degrees of freedom; both vanish with size, and without them ten members are covered
        too rarely. ``exact-pairs`` where the variance is zero or unknown: k disjoint pairs are all in order
        with probability at most AUC**k, whence low = (alpha/2)**(1/k).

    Raises
    ------
    InputError
        When a group is empty or a score is not finite.

    References
    ----------
    DeLong, DeLong & Clarke-Pearson, Biometrics 44 (1988) 837; computed by midranks, Sun & Xu, IEEE Signal
    Processing Letters 21 (2014) 1389; logit scale, Qin & Hotilovac, Stat. Methods Med. Res. 17 (2008) 207.

    Examples
    --------
    >>> auc([3.0, 4.0], [1.0, 3.0]).value
    0.875
    """
    first, second = _groups(members, non_members)
    above, below = placements(first, second)
    value, pairs = float(above.mean()), min(first.size, second.size)
    low, high, method = _interval(value, _components(above, below), pairs=pairs, level=level)
    return Estimate("auc", value, low, high, (first.size, second.size), method, level)


def auc_p_value(members: ArrayLike, non_members: ArrayLike) -> float:
    """One-sided Mann-Whitney test that members do not score higher; small p is worse (a leak).

    Exact when small and free of ties, else normal with tie and continuity correction; 1 when all scores tie.

    Parameters
    ----------
    members, non_members : array_like, shape (m,), (n,)

    Raises
    ------
    InputError
        When a group is empty or a score is not finite.

    References
    ----------
    Mann & Whitney, Ann. Math. Stat. 18 (1947) 50.
    """
    first, second = _groups(members, non_members)
    distinct = np.unique(np.concatenate([first, second])).size
    if distinct == 1:
        return 1.0
    small = first.size * second.size <= _EXACT_PAIRS
    exact = small and distinct == first.size + second.size
    method: Any = "exact" if exact else "asymptotic"
    return float(mannwhitneyu(first, second, alternative="greater", method=method).pvalue)


def auc_difference(
    members: ArrayLike,
    non_members: ArrayLike,
    other_members: ArrayLike,
    other_non_members: ArrayLike,
    *,
    level: float = 0.95,
) -> Estimate:
    """AUC of one score minus AUC of another on the same patients, in the same order.

    0 means that the first score tells no more than the other; as attack minus blind, higher is worse.

    Parameters
    ----------
    members, other_members : array_like, shape (m,)
    non_members, other_non_members : array_like, shape (n,)
    level : float

    Returns
    -------
    Estimate
        Named ``auc_difference``. The two logit intervals are joined by their paired DeLong correlation, so
        that the interval stays honest where one AUC is 1 and its variance 0.

    Raises
    ------
    InputError
        When the two scores are not of the same patients, or cannot be used.

    References
    ----------
    DeLong et al. 1988 (covariance); Zou, Psychological Methods 12 (2007) 399 (joining two intervals).
    """
    one, two = auc(members, non_members, level=level), auc(other_members, other_non_members, level=level)
    check_paired(one.n, two.n)
    above, below = placements(*_groups(members, non_members))
    other_above, other_below = placements(*_groups(other_members, other_non_members))
    pairs_of_placements = (above, below), (other_above, other_below)
    variances = [float(_components(*both)[:, 0].sum()) for both in pairs_of_placements]
    correlation = 0.0
    if min(variances) > 0:
        # var(a - b) = var(a) + var(b) - 2 cov, and the placements of the same patient are paired
        spread = float(_components(above - other_above, below - other_below)[:, 0].sum())
        correlation = (sum(variances) - spread) / (2 * math.sqrt(variances[0] * variances[1]))
    return join_intervals(one, two, correlation=correlation, name="auc_difference", method="delong-joined")


def join_intervals(one: Estimate, two: Estimate, *, correlation: float, name: str, method: str) -> Estimate:
    """Estimate `one` minus `two` from their intervals and the correlation of their errors (Zou 2007)."""

    def reach(first: float, second: float) -> float:
        return math.sqrt(max(0.0, first**2 + second**2 - 2 * correlation * first * second))

    value = one.value - two.value
    low = value - reach(one.value - one.low, two.high - two.value)
    high = value + reach(one.high - one.value, two.value - two.low)
    return Estimate(name, value, low, high, one.n, method, one.level)


def check_paired(one: tuple[int, ...], two: tuple[int, ...]) -> None:
    """Refuse to compare two scores of different patients.

    Raises
    ------
    InputError
        When the numbers of patients differ.
    """
    if one != two:
        raise InputError(
            "Two scores can be compared on the same patients only: got {one} and {two} patients.",
            one=" + ".join(map(str, one)), two=" + ".join(map(str, two)),
        )  # fmt: skip


def auc_stratified(
    members: ArrayLike,
    non_members: ArrayLike,
    member_strata: ArrayLike,
    non_member_strata: ArrayLike,
    *,
    level: float = 0.95,
) -> Estimate:
    """AUC among patients of the same stratum: mean of the strata's AUCs, weighted by their pairs.

    .5 means that nothing is told beyond the strata; higher is worse. Strata without both groups are left out:
    `method` says how many patients took part, `n` counts them.

    Parameters
    ----------
    members, non_members : array_like, shape (m,), (n,)
    member_strata, non_member_strata : array_like, shape (m,), (n,)
        The stratum of each patient, numbers or text.
    level : float

    Raises
    ------
    InputError
        When no stratum holds both groups, or lengths differ.

    References
    ----------
    DeLong et al. 1988 within strata; independent strata add. A group of one has no variance of its own and
    gets the largest that its mean allows, a (1 - a). Where all variances are 0, k = pairs / largest group.
    """
    first, second = _groups(members, non_members)
    labels, other_labels = np.asarray(member_strata), np.asarray(non_member_strata)
    check_paired((first.size, second.size), (labels.size, other_labels.size))
    shared = np.intersect1d(labels, other_labels)
    if not shared.size:
        raise InputError("No stratum holds both members and non-members: use fewer or wider strata.")
    placed = [placements(first[labels == stratum], second[other_labels == stratum]) for stratum in shared]
    sizes = np.array([(above.size, below.size) for above, below in placed])
    pairs = sizes.prod(axis=1)
    value = float(np.average([above.mean() for above, _ in placed], weights=pairs))
    components = np.stack([_components(*both, alone=value * (1 - value)) for both in placed])
    components[:, :, 0] *= np.square(pairs / pairs.sum())[:, None]
    separate = max(1, int(pairs.sum() / sizes.max()))
    low, high, method = _interval(value, components.reshape(-1, 2), pairs=separate, level=level)
    took_part = int(sizes.sum())
    method = f"{method}, {len(shared)} strata, {took_part} of {first.size + second.size} patients"
    taking = (int(sizes[:, 0].sum()), int(sizes[:, 1].sum()))
    return Estimate("auc_stratified", value, low, high, taking, method, level)


def auc_bootstrap(
    members: ArrayLike,
    non_members: ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """AUC with the percentile interval of a patient bootstrap: a check of :func:`auc`.

    .5 means that the score tells nothing; higher is worse. The interval has no width at AUC 0 or 1.

    Parameters
    ----------
    members, non_members : array_like, shape (m,), (n,)
    level : float
    resamples, seed : int

    Raises
    ------
    InputError
        When a group is empty or a score is not finite.

    References
    ----------
    Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    first, second = _groups(members, non_members)
    tail = (1 - checked_share(level, name="level")) / 2
    places, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
    of_first, of_second = codes[: first.size], codes[first.size :]
    random, width = np.random.default_rng(seed), places.size

    def once() -> float:
        ours = np.bincount(of_first[random.integers(0, first.size, first.size)], minlength=width)
        theirs = np.bincount(of_second[random.integers(0, second.size, second.size)], minlength=width)
        return float(ours @ (np.cumsum(theirs) - theirs / 2)) / (first.size * second.size)

    low, high = np.quantile([once() for _ in range(resamples)], [tail, 1 - tail])
    value = float(placements(first, second)[0].mean())
    sizes = (first.size, second.size)
    return Estimate("auc_bootstrap", value, float(low), float(high), sizes, "bootstrap-percentile", level)


def _groups(members: ArrayLike, non_members: ArrayLike) -> tuple[FloatArray, FloatArray]:
    return checked_scores(members, group="members"), checked_scores(non_members, group="non-members")


def placements(members: FloatArray, non_members: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Share of non-members below each member, and of members above each non-member; ties half."""
    ranks = rankdata(np.concatenate([members, non_members]))
    below = (ranks[: members.size] - rankdata(members)) / non_members.size
    above = 1 - (ranks[members.size :] - rankdata(non_members)) / members.size
    return below, above


def _components(above: FloatArray, below: FloatArray, *, alone: float = math.nan) -> FloatArray:
    """DeLong's two variances, of members and of non-members, with their degrees of freedom, shape (2, 2).

    `alone` stands for the variance within a group of one patient, as a known bound.
    """
    return np.array(
        [
            (part.var(ddof=1) / part.size, part.size - 1) if part.size > 1 else (alone, math.inf)
            for part in (above, below)
        ]
    )


def _interval(value: float, components: FloatArray, *, pairs: int, level: float) -> tuple[float, float, str]:
    """Limits and method; `value * tail ** (1 / pairs)` also holds for ties, and by Markov for one pair."""
    tail = (1 - checked_share(level, name="level")) / 2
    variance = float(components[:, 0].sum())
    if variance > 0 and 0 < value < 1:
        # as shares of the variance: near AUC 1 it is so small that its square would vanish
        freedom = 1 / max(float(((components[:, 0] / variance) ** 2 / components[:, 1]).sum()), 1e-9)
        # DeLong alone covers 84 % where 10 members meet AUC .97: few patients carry all the errors
        spread = math.sqrt(variance + value * (1 - value) / pairs**2)
        half = float(stdtrit(freedom, 1 - tail)) * spread / (value * (1 - value))
        centre = float(logit(value))
        return float(expit(centre - half)), float(expit(centre + half)), "delong-logit"
    separated = tail ** (1 / pairs)
    return value * separated, 1 - (1 - value) * separated, "exact-pairs"

"""How small an effect these patients can show, and how many patients a clear answer needs."""

import math

from scipy.optimize import brentq
from scipy.special import betaincinv, ndtr, ndtri
from scipy.stats import betabinom, binom, hypergeom

from primum.errors import InputError
from primum.evidence.operating_point import pooled_size
from primum.evidence.ranking import checked_share

_MOST_PATIENTS = 10**9


def auc_power(auc: float, members: int, non_members: int, *, alpha: float = 0.05) -> float:
    """Probability that the one-sided Mann-Whitney test detects a true AUC of `auc`.

    `alpha` when `auc` is .5; 1 means that such a leak would not be missed.

    Parameters
    ----------
    auc : float
    members, non_members : int
    alpha : float
        One-sided, before any correction for several tests.

    Raises
    ------
    InputError
        When there are no patients, or a share is not between 0 and 1.

    References
    ----------
    Mann & Whitney, Ann. Math. Stat. 18 (1947) 50: null variance (m + n + 1) / (12 m n), normal approximation.
    """
    threshold = float(ndtri(1 - checked_share(alpha, name="alpha")))
    return float(ndtr((auc - 0.5) / _null_deviation(members, non_members) - threshold))


def smallest_detectable_auc(
    members: int, non_members: int, *, power: float = 0.8, alpha: float = 0.05
) -> float:
    """AUC that the one-sided Mann-Whitney test detects with probability `power`.

    Near .5 means that even small leaks would be seen; 1 that almost nothing can be seen with so few patients.

    Parameters
    ----------
    members, non_members : int
    power, alpha : float

    Raises
    ------
    InputError
        When there are no patients, or a share is not between 0 and 1.

    References
    ----------
    As :func:`auc_power`.

    Examples
    --------
    >>> round(smallest_detectable_auc(300, 300), 3)
    0.559
    """
    reach = float(ndtri(1 - checked_share(alpha, name="alpha")) + ndtri(checked_share(power, name="power")))
    return float(min(1.0, max(0.5, 0.5 + reach * _null_deviation(members, non_members))))


def patients_needed_for_auc(
    material: float, *, ratio: float = 1.0, power: float = 0.8, alpha: float = 0.05
) -> int:
    """Members needed so that, when nothing leaks, the AUC's interval ends below `material`.

    Parameters
    ----------
    material : float
        The smallest AUC that matters, above .5.
    ratio : float
        Non-members for each member.
    power : float
        Probability that the interval ends below.
    alpha : float
        The interval's level is ``1 - alpha``, two-sided.

    Raises
    ------
    InputError
        When `material` does not lie between .5 and 1, or another argument is out of range.

    References
    ----------
    As :func:`auc_power`.

    Examples
    --------
    >>> patients_needed_for_auc(0.55)
    524
    """
    _check_ratio(ratio)
    if not 0.5 < material < 1:
        raise InputError("The material AUC must lie between 0.5 and 1, both excluded.")
    half, success = checked_share(alpha, name="alpha") / 2, checked_share(power, name="power")
    deviation = (material - 0.5) / float(ndtri(1 - half) + ndtri(success))
    # (m + r m + 1) / (12 r m^2) <= deviation^2, solved for m
    slope, square = 1 + ratio, 12 * ratio * deviation**2
    return max(1, math.ceil((slope + math.sqrt(slope**2 + 4 * square)) / (2 * square)))


def smallest_detectable_tpr(
    members: int, non_members: int, *, fpr: float = 0.01, power: float = 0.8, alpha: float = 0.05
) -> float:
    """TPR at `fpr` that the pooled-threshold test detects with probability `power`.

    Near `fpr` means that even small leaks would be seen; 1 that almost nothing can be seen. The top patients
    are taken as a binomial sample in which members are as frequent as TPR and FPR make them.

    Parameters
    ----------
    members, non_members : int
    fpr, power, alpha : float

    Raises
    ------
    InputError
        When there are no patients, or a share is not between 0 and 1.

    References
    ----------
    Exact power of a binomial proportion; test of :func:`primum.evidence.pooled_threshold_p_value`.
    """
    _check_sizes(members, non_members)
    top = pooled_size(members, non_members, fpr=checked_share(fpr, name="fpr"))
    level, success = checked_share(alpha, name="alpha"), checked_share(power, name="power")
    total = members + non_members
    critical = int(hypergeom.isf(level, total, members, top)) + 1

    def surplus(tpr: float) -> float:
        inside = members * tpr + non_members * fpr
        rest = max(0.0, top - inside) * members * (1 - tpr) / max(total - inside, 1e-12)
        share = (min(1.0, top / inside) * members * tpr + rest) / top
        return float(binom.sf(critical - 1, top, min(1.0, share))) - success

    if critical > min(top, members) or surplus(1.0) < 0:
        return 1.0
    return fpr if surplus(fpr) >= 0 else float(brentq(surplus, fpr, 1.0))


def patients_needed_for_tpr(
    material: float, *, fpr: float = 0.01, ratio: float = 1.0, power: float = 0.8
) -> int:
    """Members needed so that, when nothing leaks, the TPR's 95 % interval ends below `material`.

    The threshold is itself set on non-members, so that without a leak the number of members above it is
    beta-binomial.

    Parameters
    ----------
    material : float
        The smallest TPR that matters, above `fpr`.
    fpr : float
    ratio : float
        Non-members for each member.
    power : float
        Probability that the interval ends below.

    Raises
    ------
    InputError
        When `material` is not above `fpr`, or another argument is out of range.

    References
    ----------
    Clopper & Pearson 1934; an order statistic of n outsiders leaves a Beta(k + 1, n - k) share above it.
    """
    _check_ratio(ratio)
    checked_share(power, name="power")
    if not checked_share(fpr, name="fpr") < checked_share(material, name="material"):
        raise InputError("The material TPR must lie above the false positive rate.")

    def enough(members: int) -> bool:
        outsiders = math.ceil(ratio * members)
        allowed = math.floor(fpr * outsiders + 1e-9)
        passing = _largest_count_below(material, members)
        return float(betabinom.cdf(passing, members, allowed + 1, outsiders - allowed)) >= power

    # 3 / fpr outsiders is what the TPR itself needs
    low = math.ceil(3 / fpr / ratio - 1e-9)
    high = low
    while not enough(high):
        if high > _MOST_PATIENTS:
            raise InputError(
                "No number of patients could show so small a difference: raise the material TPR."
            )
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _largest_count_below(material: float, total: int) -> int:
    """Most successes of `total` whose 97.5 % Clopper-Pearson limit stays below `material`; -1 if none."""
    low, high = -1, total
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (
            (middle, high) if betaincinv(middle + 1, total - middle, 0.975) < material else (low, middle)
        )
    return low


def _null_deviation(members: int, non_members: int) -> float:
    _check_sizes(members, non_members)
    return math.sqrt((members + non_members + 1) / (12 * members * non_members))


def _check_sizes(members: int, non_members: int) -> None:
    if min(members, non_members) < 1:
        raise InputError("Power needs at least one member and one non-member.")


def _check_ratio(ratio: float) -> None:
    if not 0 < ratio < math.inf:
        raise InputError("The number of non-members for each member must be positive.")


def check_design(material: float, *, ratio: float, power: float) -> None:
    """Refuse a design of which power cannot be told."""
    checked_share(material, name="material")
    checked_share(power, name="power")
    _check_ratio(ratio)

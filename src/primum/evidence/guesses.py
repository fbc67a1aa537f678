"""Facts guessed of patients: AUROC on members minus AUROC on held-out patients."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtr, stdtrit

from primum.errors import InputError
from primum.evidence.estimate import Estimate
from primum.evidence.placements import FEWEST_OF_A_KIND, auroc_contrast
from primum.evidence.power import check_design
from primum.evidence.ranking import auc, checked_share


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
    contrast = auroc_contrast(member_scores, member_labels, other_scores, other_labels)
    return _estimate("auroc_difference", contrast, widest=1.0, level=level)


def auroc_difference_beyond_blind(
    member_scores: ArrayLike,
    member_labels: ArrayLike,
    other_scores: ArrayLike,
    other_labels: ArrayLike,
    *,
    blind: tuple[ArrayLike, ArrayLike],
    level: float = 0.95,
) -> Estimate:
    """:func:`auroc_difference` minus that of guesses made without the model, paired by patient.

    0 means that members' categories are merely easier to guess for anyone; above is worse (a leak).

    Parameters
    ----------
    member_scores, member_labels, other_scores, other_labels, level
        As :func:`auroc_difference`, errors and references too.
    blind : pair of array_like, shape (m, categories), (n, categories)
        Guesses for members and for others of someone who never saw the model.
    """
    contrast = auroc_contrast(member_scores, member_labels, other_scores, other_labels, baselines=blind)
    return _estimate("auroc_difference_beyond_blind", contrast, widest=2.0, level=level)


def _estimate(
    name: str, contrast: tuple[float, float, float, tuple[int, int]], *, widest: float, level: float
) -> Estimate:
    value, deviation, freedom, sizes = contrast
    half = float(stdtrit(freedom, (1 + checked_share(level, name="level")) / 2)) * deviation
    low, high = max(-widest, value - half), min(widest, value + half)
    return Estimate(name, value, low, high, sizes, "delong-placements", level)


def auroc_difference_p_value(
    member_scores: ArrayLike, member_labels: ArrayLike, other_scores: ArrayLike, other_labels: ArrayLike
) -> float:
    """One-sided test that members' categories are not guessed better; small p is worse (a leak).

    Parameters, errors and reference as :func:`auroc_difference`; it agrees with that interval.
    """
    value, deviation, freedom, _ = auroc_contrast(member_scores, member_labels, other_scores, other_labels)
    return float(stdtr(freedom, -value / deviation))


def smallest_detectable_auroc_difference(
    member_scores: ArrayLike,
    member_labels: ArrayLike,
    other_scores: ArrayLike,
    other_labels: ArrayLike,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
) -> float:
    """Difference that :func:`auroc_difference_p_value` finds with probability `power`; near 0 sees much.

    Parameters, errors and references as :func:`auroc_difference`; `alpha` is one-sided. The standard error
    is that of these patients.
    """
    contrast = auroc_contrast(member_scores, member_labels, other_scores, other_labels)
    _, deviation, freedom, _ = contrast
    levels = 1 - checked_share(alpha, name="alpha"), checked_share(power, name="power")
    return min(1.0, float(stdtrit(freedom, levels).sum()) * deviation)


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
    check_design(material, ratio=ratio, power=power)
    shares = np.atleast_1d(np.asarray(prevalence, np.float64))
    if not shares.size or not ((shares > 0) & (shares < 1)).all():
        raise InputError("Prevalences must lie between 0 and 1, both excluded.")
    deviation = material / float(ndtri(0.975) + ndtri(power))
    for_one = (1 / (12 * shares * (1 - shares))).sum() / shares.size**2
    enough = FEWEST_OF_A_KIND / np.minimum(shares, 1 - shares).max() / min(1.0, ratio)
    return math.ceil(max(float(enough), float(for_one) * (1 + 1 / ratio) / deviation**2))

"""A difference of means among patients of the same stratum, by weighted least squares."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from primum.evidence.ranking import FloatArray, checked_share

IntArray = NDArray[np.int64]


def adjusted_difference(
    members: FloatArray, others: FloatArray, strata: IntArray, other_strata: IntArray, *, level: float
) -> tuple[float, float, float]:
    """Members minus others within strata, the strata weighted by m n / (m + n), with limits.

    0 means no difference beyond the strata. One patient at 0 and one at 1 join each group before the limits
    are set, divided among the strata as these are weighted. With one stratum that is Agresti and Caffo's
    interval with Welch's degrees of freedom.

    Parameters
    ----------
    members, others : float64, shape (m,), (n,)
        Scores between 0 and 1.
    strata, other_strata : int64, shape (m,), (n,)
        Numbered from 0 without gaps; each holds both groups.
    level : float

    Returns
    -------
    tuple of float
        Plain difference, and limits within -1 and 1 that contain it.

    References
    ----------
    Agresti & Caffo, The American Statistician 54 (2000) 280; Cochran, Biometrics 10 (1954) 417 (weights);
    MacKinnon & White, J. Econometrics 29 (1985) 305 (HC2 variance); Welch, Biometrika 34 (1947) 28.
    """
    sizes = np.stack([np.bincount(strata), np.bincount(other_strata)])
    harmonic = sizes.prod(axis=0) / sizes.sum(axis=0)
    scores, arm = np.concatenate([members, others]), np.repeat([1, 0], [members.size, others.size])
    where = np.concatenate([strata, other_strata])
    lever = _centred(arm, where, np.ones(arm.size))
    value = float(lever @ scores / (lever @ lever))

    scores = np.concatenate([scores, np.tile([0.0, 1.0, 0.0, 1.0], harmonic.size)])
    arm = np.concatenate([arm, np.tile([1, 1, 0, 0], harmonic.size)])
    where = np.concatenate([where, np.repeat(np.arange(harmonic.size), 4)])
    weight = np.concatenate([np.ones(lever.size), np.repeat(harmonic / harmonic.sum(), 4)])
    lever, outcome = _centred(arm, where, weight), _centred(scores, where, weight)
    total = float(weight @ lever**2)
    centre = float((weight * lever) @ outcome / total)
    leverage = 1 / np.bincount(where, weight)[where] + lever**2 / total
    squares = weight * (lever * (outcome - centre * lever) / total) ** 2 / (1 - leverage)
    variances = np.bincount(arm, squares)
    behind = np.bincount(arm, weight * abs(lever)) ** 2 / np.bincount(arm, weight * lever**2)
    freedom = variances.sum() ** 2 / (variances**2 / (behind - 1)).sum()
    tail = (1 + checked_share(level, name="level")) / 2
    half = float(stdtrit(freedom, tail)) * math.sqrt(variances.sum())
    return value, max(-1.0, min(value, centre - half)), min(1.0, max(value, centre + half))


def _centred(values: FloatArray | IntArray, strata: IntArray, weight: FloatArray) -> FloatArray:
    """Take from each value the weighted mean of its stratum."""
    means = np.bincount(strata, weight * values) / np.bincount(strata, weight)
    centred: FloatArray = values - means[strata]
    return centred

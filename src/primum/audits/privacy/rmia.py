"""RMIA: is the case likelier under the target than usual, by more than a person of the population is?

References
----------
Zarifzadeh, Liu & Shokri, Low-cost high-power membership inference attacks, ICML 2024.
"""

import numpy as np
from scipy.special import expit, log_expit

from primum.models.score_matrix import BoolArray, ScoreMatrix
from primum.records.histories import FloatArray

# From references that never trained on a case to a model drawn at random: the paper's a, for images.
OFFLINE_COEFFICIENT = 0.3


def rmia(
    target: FloatArray,
    matrix: ScoreMatrix,
    population: FloatArray,
    population_matrix: ScoreMatrix,
    *,
    online: bool,
    gamma: float = 1.0,
    coefficient: float = OFFLINE_COEFFICIENT,
) -> FloatArray:
    """Score each case by the share of the population that it dominates; higher is worse.

    One reference is enough. A case x dominates z when p(x|target) / p(x) ≥ gamma p(z|target) / p(z), p being
    the probability of the true class, and p(x) what a model drawn at random gives. That share grows with the
    ratio of x alone: the population sets the scale, not the order, and cases that dominate equally many are
    ordered by their ratio.

    Parameters
    ----------
    target : float64, shape (n,)
        Log-odds of the true class under the audited model.
    matrix : ScoreMatrix
        Of the references, shape (references, n).
    population : float64, shape (m,)
        Log-odds under the audited model, of cases that trained neither it nor a reference.
    population_matrix : ScoreMatrix
        Of the same references, shape (references, m).
    online : bool
        Whether p(x) averages references with and without the case, half each (cases without either: NaN).
        Offline it is made of those without: ((1 + coefficient) p + 1 - coefficient) / 2.
    gamma : float
        At least 1.
    coefficient : float
        Of the offline correction, 0 to 1; 1: p(x) is what references without the case give.

    Returns
    -------
    float64, shape (n,)
        In [0, 1]; NaN where no reference can say.

    Raises
    ------
    ValueError
        Scores and matrices are not of the same cases, or there is no population.
    """
    if target.shape != matrix.scores.shape[1:] or population.shape != population_matrix.scores.shape[1:]:
        raise ValueError("there must be a score for each case of the matrices")
    usual = _usual(matrix, online=online, coefficient=coefficient)
    ratio = log_expit(target) - usual
    # Nobody of the population trained a reference, so for them p is always made from outside.
    others = log_expit(population) - _usual(population_matrix, online=False, coefficient=coefficient)
    others = np.sort(others[~np.isnan(others)])
    if not len(others):
        raise ValueError("RMIA needs a population that trained no reference")
    dominated = np.searchsorted(others, ratio - np.log(gamma), side="right")
    score = (dominated + expit(ratio)) / (len(others) + 1)
    return np.where(np.isnan(ratio), np.nan, score)


def _usual(matrix: ScoreMatrix, *, online: bool, coefficient: float) -> FloatArray:
    """Log probability of the true class under a model drawn at random, a block of cases at a time."""
    usual = [np.empty(0)]
    for block in matrix.blocks():
        probability = expit(block.scores)
        without = _mean(probability, ~block.inside)
        if online:
            usual.append((_mean(probability, block.inside) + without) / 2)
        else:
            usual.append(((1 + coefficient) * without + 1 - coefficient) / 2)
    return np.asarray(np.log(np.maximum(np.concatenate(usual), np.finfo(np.float64).tiny)), np.float64)


def _mean(probability: FloatArray, chosen: BoolArray) -> FloatArray:
    """Mean over each case's chosen models; NaN where there are none."""
    count = chosen.sum(axis=0)
    total = np.sum(probability, axis=0, where=chosen)
    mean: FloatArray = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    return mean

"""LiRA: is the target as sure of a case as models that trained on it, or as models that did not?

References
----------
Carlini et al., Membership inference attacks from first principles, IEEE S&P 2022.
Smyth, Linear models and empirical Bayes methods, Stat. Appl. Genet. Mol. Biol. 3 (2004) (variances of few).
"""

import numpy as np

from primum.models.score_matrix import SATURATED, BoolArray, ScoreMatrix
from primum.records.histories import FloatArray

# Models that the shared variance counts for in a case's own.
_PRIOR = 4
_LEAST_VARIANCE, _ROUNDING = 1e-12, 1e-9


def lira(target: FloatArray, matrix: ScoreMatrix, *, online: bool, fixed_variance: bool) -> FloatArray:
    """Score each case by the likelihood ratio of its having trained the target; higher is worse.

    A probability of exactly 0 or 1 says only that it lies beyond all others: it is put at twice the odds of
    the furthest other. (At the precision of float64, the log-odds of a forest all of whose 100 trees agree
    would be 36, next to 4.6 for 99 of them.)

    Parameters
    ----------
    target : float64, shape (n,)
        Log-odds of the true class under the audited model.
    matrix : ScoreMatrix
        Of shadow models, drawn without regard to who trained the target.
    online : bool
        Whether to use shadows that trained on the case. Offline: how many standard deviations the target is
        surer than shadows that did not.
    fixed_variance : bool
        One variance for all cases, within each side, which ranks better with fewer than about 64 shadows;
        else each case's own, drawn towards it with the weight of four models.

    Returns
    -------
    float64, shape (n,)
        Online: log likelihood ratio, 0 = undecided. Offline: standard deviations, 0 = as sure as models
        that did not train on it. NaN where no shadow was trained without the case, or online, with it.

    Raises
    ------
    ValueError
        Target and matrix are not of the same cases.
    """
    if target.shape != matrix.scores.shape[1:]:
        raise ValueError("the target must have a score for each case of the matrix")
    edge = edge_of(target, matrix)
    target = np.clip(target, -edge, edge)
    without, without_variance = _moments(matrix, edge, inside=False, fixed_variance=fixed_variance)
    if not online:
        return np.asarray((target - without) / np.sqrt(without_variance), np.float64)
    within, within_variance = _moments(matrix, edge, inside=True, fixed_variance=fixed_variance)
    likely = (target - within) ** 2 / within_variance + np.log(within_variance)
    unlikely = (target - without) ** 2 / without_variance + np.log(without_variance)
    return np.asarray((unlikely - likely) / 2, np.float64)


def edge_of(target: FloatArray, matrix: ScoreMatrix | None) -> float:
    """Return the log-odds that a probability of exactly 1 is put at: twice the odds of the furthest other."""
    blocks = [] if matrix is None else [block.scores for block in matrix.blocks()]
    return max(map(_furthest, (target, *blocks))) + float(np.log(2))


def _furthest(scores: FloatArray) -> float:
    """Largest log-odds but for those of probabilities of exactly 0 and 1."""
    size = np.abs(scores)
    return float(np.max(size, where=np.abs(size - SATURATED) > _ROUNDING, initial=0))


def _moments(
    matrix: ScoreMatrix, edge: float, *, inside: bool, fixed_variance: bool
) -> tuple[FloatArray, FloatArray]:
    """Mean and variance of each case over models of one side; NaN where there are none."""
    parts = [_sums(np.clip(one.scores, -edge, edge), one.inside == inside) for one in matrix.blocks()]
    mean, squares, freedom = np.concatenate(parts, axis=1) if parts else np.empty((3, 0))
    shared = squares.sum() / max(1, freedom.sum())
    own = np.full_like(mean, shared) if fixed_variance else (squares + _PRIOR * shared) / (freedom + _PRIOR)
    return mean, np.maximum(own, _LEAST_VARIANCE)


def _sums(scores: FloatArray, chosen: BoolArray) -> FloatArray:
    """Mean, squares around it and degrees of freedom of each case over its chosen models."""
    count = chosen.sum(axis=0)
    sums = np.sum(scores, axis=0, where=chosen)
    mean = np.divide(sums, count, out=np.full(len(sums), np.nan), where=count > 0)
    squares = np.sum((scores - mean) ** 2, axis=0, where=chosen)
    return np.stack([mean, squares, np.maximum(count - 1, 0)])

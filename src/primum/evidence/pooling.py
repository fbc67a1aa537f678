"""Estimates of several groups, each drawn toward what all of them say."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.special import expit, logit, ndtri

from primum.evidence.estimate import Estimate
from primum.evidence.ranking import FloatArray

_AUCS = ("auc", "auc_stratified")
# With a mean to find as well, fewer groups are better left alone (Morris 1983).
_FEWEST_GROUPS = 4


def partial_pooling(estimates: Sequence[Estimate], whole: Estimate) -> tuple[Estimate, ...]:
    """Shrink estimates of groups toward their precision-weighted mean, the less certain ones the most.

    A small group that looks extreme by chance is drawn in; one that differs for certain stays where it is.
    What zero means and which direction is worse are as in the estimates given.

    Parameters
    ----------
    estimates : sequence of Estimate
        One quantity, group by group. Groups that share patients are treated as if they did not, and are then
        drawn together somewhat too much.
    whole : Estimate
        The same over all patients; its name says the scale, the logit for an AUC.

    Returns
    -------
    tuple of Estimate
        In the order given, names ending in ``_pooled``. ``partial-pooling`` where an estimate was pooled;
        interval, value and method are kept where it cannot be (interval without width or without end on its
        scale, nan) and where fewer than four can.

    References
    ----------
    Variance between groups: DerSimonian & Laird, Controlled Clinical Trials 7 (1986) 177. Shrinkage and
    intervals: Morris, J. Am. Stat. Assoc. 78 (1983) 47, with unequal variances.
    """
    on_scale, back = (logit, expit) if whole.name in _AUCS else (np.array, np.array)
    found = np.array([(one.value, one.low, one.high) for one in estimates], np.float64).reshape(-1, 3)
    with np.errstate(invalid="ignore"):
        values, low, high = on_scale(found).T
        reach = ndtri([(1 + one.level) / 2 for one in estimates])
        deviations = (high - low) / (2 * reach)
        usable = np.isfinite(values) & np.isfinite(deviations) & (deviations > 0)
    named = [replace(one, name=f"{one.name}_pooled") for one in estimates]
    if usable.sum() < _FEWEST_GROUPS:
        return tuple(named)
    centres, errors = _shrunken(values[usable], deviations[usable] ** 2)
    limits = back(centres + np.array([[0], [-1], [1]]) * reach[usable] * errors)
    for place, (value, lowest, highest) in zip(np.flatnonzero(usable), limits.T.tolist(), strict=True):
        named[place] = replace(named[place], value=value, low=lowest, high=highest, method="partial-pooling")
    return tuple(named)


def _shrunken(values: FloatArray, variances: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Values after shrinkage, and their standard errors."""
    groups, weights = values.size, 1 / variances
    scatter = float(weights @ (values - np.average(values, weights=weights)) ** 2)
    between = (scatter - (groups - 1)) / float(weights.sum() - (weights**2).sum() / weights.sum())
    between = max(0.0, between)
    weights = 1 / (variances + between)
    distance = values - np.average(values, weights=weights)
    shrinkage = (groups - 3) / (groups - 1) * variances * weights
    typical = float(np.average(variances, weights=weights))
    doubt = 2 / (groups - 3) * shrinkage**2 * (typical + between) * weights
    errors = variances * (1 - (1 - weights / weights.sum()) * shrinkage) + doubt * distance**2
    return values - shrinkage * distance, np.sqrt(errors)

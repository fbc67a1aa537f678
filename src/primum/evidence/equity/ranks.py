"""How much worse a group's ill are ranked above its healthy than everyone else's: the gap in AUC."""

import math

import numpy as np
from scipy.special import expit, logit, stdtr, stdtrit

from primum.evidence.equity.answers import FEWEST, Answers, Group
from primum.evidence.equity.gaps import Gap
from primum.evidence.estimate import Estimate
from primum.evidence.measured import BoolArray, IntArray
from primum.evidence.ranking import join_intervals


class Area:
    """An AUC with its variance, by patient; `people` are those behind the smaller class."""

    def __init__(self, value: float, variance: float, people: int, everyone: int) -> None:
        self.value, self.everyone = value, everyone
        # As in primum.evidence.ranking: few patients carry all the errors where the AUC is near 1.
        self.freedom, self.people = max(1, people - 1), people
        self.variance = variance + value * (1 - value) / people**2

    def estimate(self, name: str, *, level: float = 0.95) -> Estimate:
        """Give the interval on the logit scale; where nothing varies, the exact bound for disjoint pairs."""
        tail, value = (1 - level) / 2, self.value
        if self.variance > 0 and 0 < value < 1:
            half = float(stdtrit(self.freedom, 1 - tail)) * math.sqrt(self.variance) / (value * (1 - value))
            low, high = float(expit(logit(value) - half)), float(expit(logit(value) + half))
            return Estimate(name, value, low, high, (self.everyone,), "delong-logit", level)
        sure = tail ** (1 / self.people)
        low, high = value * sure, 1 - (1 - value) * sure
        return Estimate(name, value, low, high, (self.everyone,), "exact-pairs", level)


def area_of(answers: Answers, target: int, chosen: BoolArray, order: IntArray) -> Area | None:
    """AUC of the model's probability among the chosen cases, each weighed by one over its patient's cases.

    Parameters
    ----------
    answers : Answers
    target : int
    chosen : bool, shape (n,)
    order : int64, shape (n,)
        The cases by rising probability of `target`, so that no group sorts again.

    Returns
    -------
    Area or None
        None with fewer than 20 patients of either class.

    References
    ----------
    DeLong, DeLong & Clarke-Pearson, Biometrics 44 (1988) 837; Obuchowski, Biometrics 53 (1997) 567: the
    placements of one patient's cases are added before they are squared.
    """
    rows = order[chosen[order]]
    has = answers.label[rows] == target
    sides = np.zeros((2, len(chosen)), np.bool_)
    sides[has.astype(np.int64), rows] = True
    people = min(answers.count(side) for side in sides)
    if people < FEWEST:
        return None
    score, weight = answers.probability[target][rows], answers.weight[rows]
    place = np.cumsum(np.append(0, np.diff(score) > 0))
    ill, well = (np.bincount(place, weight * side) for side in (has, ~has))
    below, above = np.cumsum(well) - well / 2, ill.sum() - np.cumsum(ill) + ill / 2
    placed = np.where(has, (below / well.sum())[place], (above / ill.sum())[place])
    value = float(ill @ below) / float(ill.sum() * well.sum())
    influence = np.zeros(len(chosen))
    influence[rows] = weight * (placed - value) / np.where(has, ill.sum(), well.sum())
    variance = answers.variance(influence[chosen], chosen)
    return Area(min(1.0, max(0.0, value)), variance, people, answers.count(chosen))


def auc_gap(answers: Answers, group: Group, target: int, *, order: IntArray) -> Gap | None:
    """Compare a group's AUC with everyone else's; None with fewer than 20 patients of a class on a side.

    The p-value is Student's, of the difference on the logit scale, the joined interval Zou's (2007);
    parameters and reference as :func:`area_of`.
    """
    inside, outside = (area_of(answers, target, side, order) for side in answers.sides(group))
    if inside is None or outside is None:
        return None
    people = inside.everyone, outside.everyone

    def interval(level: float) -> Estimate:
        parts = outside.estimate("auc", level=level), inside.estimate("auc", level=level)
        gap = join_intervals(*parts, correlation=0, name="auc_gap", method="delong-joined")
        return Estimate("auc_gap", gap.value, gap.low, gap.high, people, "delong-joined", level)

    beside = inside.estimate("auroc"), outside.estimate("auroc_rest")
    return Gap(group, target, _p_value(inside, outside), interval, beside, people)


def _p_value(inside: Area, outside: Area) -> float:
    if inside.value >= outside.value:
        return 1.0
    half = 0.5 / min(inside.people, outside.people) ** 2
    values = [min(1 - half, max(half, area.value)) for area in (inside, outside)]
    errors = [area.variance / (v * (1 - v)) ** 2 for v, area in zip(values, (inside, outside), strict=True)]
    if sum(errors) == 0:
        return 1.0
    freedom = sum(errors) ** 2 / (errors[0] ** 2 / inside.freedom + errors[1] ** 2 / outside.freedom)
    t = float(logit(values[1]) - logit(values[0])) / math.sqrt(sum(errors))
    return float(stdtr(freedom, -t))

"""Points of the plots by group: calibration curves and decision curves."""

import numpy as np

from primum.evidence.equity.answers import Answers, Group
from primum.evidence.equity.calibration import bin_edges
from primum.evidence.equity.gaps import rate_of
from primum.evidence.finding import Series
from primum.evidence.measured import BoolArray, IntArray

# A point of fewer patients could show what became of one of them.
FEWEST_A_POINT = 10
_GRID = np.arange(1, 20) / 20
Columns = dict[str, tuple[float | None, ...]]


def group_series(answers: Answers, groups: tuple[Group, ...], target: int) -> tuple[Series, ...]:
    """Draw the groups of each attribute side by side.

    Returns
    -------
    tuple of Series
        ``equity_calibration_<attribute>``: columns ``predicted:<group>``, ``observed:<group>``, ``low:``,
        ``high:``, ``patients:``, a row for each tenth of all cases by probability; None where fewer than ten
        patients are behind it. ``equity_decision_<attribute>``: ``threshold``, and ``benefit:<group>`` and
        ``everyone:<group>``, the net benefit of the model and of treating everybody.
    """
    edges = bin_edges(answers.probability[target])
    place = np.digitize(answers.probability[target], edges)
    found: list[Series] = []
    for attribute in answers.codes:
        mine = [group for group in groups if group.places[0][0] == attribute]
        calibration: Columns = {}
        decision: Columns = {"threshold": tuple(map(float, _GRID))}
        for group in mine:
            inside, _ = answers.sides(group)
            calibration |= _calibration(answers, group.name, target, inside, place, len(edges) + 1)
            decision |= _decision(answers, group.name, target, inside)
        if mine:
            found.append(Series(f"equity_calibration_{attribute}", calibration))
            found.append(Series(f"equity_decision_{attribute}", decision))
    return tuple(found)


def _calibration(
    answers: Answers, name: str, target: int, inside: BoolArray, place: IntArray, bins: int
) -> Columns:
    has, keys = answers.label == target, ("predicted", "observed", "low", "high", "patients")
    rows: list[tuple[float | None, ...]] = []
    for one in range(bins):
        chosen = inside & (place == one)
        if answers.count(chosen) < FEWEST_A_POINT:
            rows.append((None,) * len(keys))
            continue
        rate = rate_of(answers, has, chosen, weight=answers.weight, alike=1.0).estimate("observed")
        mean = np.average(answers.probability[target][chosen], weights=answers.weight[chosen])
        rows.append((float(mean), rate.value, rate.low, rate.high, float(rate.n[0])))
    return {f"{key}:{name}": column for key, column in zip(keys, zip(*rows, strict=True), strict=True)}


def _decision(answers: Answers, name: str, target: int, inside: BoolArray) -> Columns:
    """Count cases by the thresholds that their probability reaches."""
    weight, has = answers.weight[inside], answers.label[inside] == target
    reached = np.digitize(answers.probability[target][inside], _GRID)
    odds = _GRID / (1 - _GRID)
    counts = [np.bincount(reached, weight * side, minlength=len(_GRID) + 1) for side in (has, ~has)]
    ill, well = (count[::-1].cumsum()[::-1][1:] / weight.sum() for count in counts)
    share = float(weight @ has) / float(weight.sum())
    return {
        f"benefit:{name}": tuple(map(float, ill - well * odds)),
        f"everyone:{name}": tuple(map(float, share - (1 - share) * odds)),
    }

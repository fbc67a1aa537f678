"""Whether the model's probabilities mean the same in a group as among everyone else."""

import math

import numpy as np
from scipy.special import expit, logit, ndtri, stdtr, stdtrit

from primum.evidence.equity.answers import FEWEST, Answers, Group
from primum.evidence.equity.gaps import Gap, rate_of
from primum.evidence.estimate import Estimate
from primum.evidence.measured import BoolArray, FloatArray

# Of ten people who fall ill one is caught at the price of nine false alarms, and so on.
THRESHOLDS = (0.1, 0.2, 0.3, 0.5)
_BINS, _DRAWS, _STEPS = 10, 2000, 25


def mean_of(answers: Answers, values: FloatArray, chosen: BoolArray, *, name: str) -> Estimate:
    """Weigh values of the chosen cases by patient: mean with Student's interval, variance by patient."""
    used, weight = values[chosen], answers.weight[chosen]
    value = float(used @ weight) / float(weight.sum())
    variance = answers.variance(weight * (used - value) / weight.sum(), chosen)
    people = answers.count(chosen)
    half = float(stdtrit(max(1, people - 1), 0.975)) * math.sqrt(variance)
    return Estimate(name, value, value - half, value + half, (people,), "patient-robust")


def calibration_gap(answers: Answers, group: Group, target: int) -> Gap | None:
    """Compare by how much outcomes exceed the model's probabilities, in a group and among everyone else.

    Calibration in the large. 0 is no difference; the larger, the more the model's probabilities mean another
    thing in the group, be it too high or too low. None with fewer than 20 patients of a class on a side.

    Parameters
    ----------
    answers : Answers
    group : Group
    target : int
        The class against all others.

    Returns
    -------
    Gap or None
        Of the absolute difference; two-sided p-value and interval of Student's t with Welch's degrees of
        freedom, variance by patient.

    References
    ----------
    Cox, Biometrika 45 (1958) 562; Van Calster et al., BMC Medicine 17 (2019) 230.
    """
    has = answers.label == target
    sides = answers.sides(group)
    if min(answers.count(side & label) for side in sides for label in (has, ~has)) < FEWEST:
        return None
    residual: FloatArray = has - answers.probability[target]
    names = "calibration_in_the_large", "calibration_in_the_large_rest"
    inside, outside = (mean_of(answers, residual, s, name=n) for s, n in zip(sides, names, strict=True))
    people = inside.n[0], outside.n[0]
    freedoms = [n - 1 for n in people]
    variances = [
        ((found.high - found.value) / float(stdtrit(freedom, 0.975))) ** 2
        for found, freedom in zip((inside, outside), freedoms, strict=True)
    ]
    error = math.sqrt(sum(variances))
    squares = sum(v**2 / freedom for v, freedom in zip(variances, freedoms, strict=True))
    freedom = sum(variances) ** 2 / squares if squares > 0 else 1.0
    difference = inside.value - outside.value

    def interval(level: float) -> Estimate:
        half = float(stdtrit(freedom, (1 + level) / 2)) * error
        low, high = max(0.0, abs(difference) - half), min(1.0, abs(difference) + half)
        return Estimate("calibration_gap", abs(difference), low, high, people, "patient-robust", level)

    p_value = 2 * float(stdtr(freedom, -abs(difference) / error)) if error > 0 else 1.0
    return Gap(group, target, p_value, interval, (inside, outside), people)


def profile(answers: Answers, target: int, chosen: BoolArray, edges: FloatArray) -> tuple[Estimate, ...]:
    """Say what the model's probabilities are worth in a group.

    Parameters
    ----------
    answers : Answers
    target : int
    chosen : bool, shape (n,)
    edges : float64
        Inner edges of the bins of :func:`calibration_error`.

    Returns
    -------
    tuple of Estimate
        Slope, error, Brier score, predictive values, and the net benefit at each of :data:`THRESHOLDS`:
        true positives minus false positives times the odds of the threshold, per patient.

    References
    ----------
    Vickers & Elkin, Medical Decision Making 26 (2006) 565 (net benefit); Brier, Monthly Weather Review 78
    (1950) 1.
    """
    has = answers.label == target
    given = answers.probability[target]
    squares: FloatArray = (has - given) ** 2
    found = [calibration_slope(answers, target, chosen), calibration_error(answers, target, chosen, edges)]
    found.append(mean_of(answers, squares, chosen, name="brier"))
    for name, called in (("ppv", answers.called == target), ("npv", answers.called != target)):
        stratum = chosen & called
        if answers.count(stratum) >= FEWEST:
            right = has == called
            rate = rate_of(answers, right, stratum, weight=answers.weight, alike=1.0)
            found.append(rate.estimate(name))
    for threshold in THRESHOLDS:
        gain = np.where(has, 1.0, -threshold / (1 - threshold))
        benefit: FloatArray = np.where(given >= threshold, gain, 0.0)
        found.append(mean_of(answers, benefit, chosen, name=f"net_benefit:{threshold:.0%}"))
    return tuple(found)


def calibration_slope(answers: Answers, target: int, chosen: BoolArray) -> Estimate:
    """Slope of the outcome's log-odds on the model's: 1 is right, below it the model is too sure of itself.

    Logistic regression by Newton's method, variance by patient (sandwich). Where outcomes are separated there
    is no slope, and everything is NaN.

    References
    ----------
    Cox 1958; Miller, Langefeld, Tierney, Hui & McDonald, Medical Decision Making 13 (1993) 49.
    """
    x = logit(answers.probability[target][chosen].clip(1e-6, 1 - 1e-6))
    y, weight = answers.label[chosen] == target, answers.weight[chosen]
    rows, beta = np.stack([np.ones_like(x), x]), np.zeros(2)
    people, nan = answers.count(chosen), float("nan")
    none = Estimate("calibration_slope", nan, nan, nan, (people,), "patient-robust")
    for _ in range(_STEPS):
        fitted = expit(beta @ rows)
        information = (rows * (weight * fitted * (1 - fitted))) @ rows.T
        if not np.isfinite(information).all() or np.linalg.cond(information) > 1e12:
            return none
        step = np.linalg.solve(information, rows @ (weight * (y - fitted)))
        beta = beta + step
        if np.abs(step).max() < 1e-10:
            break
    else:
        return none
    direction = np.linalg.inv(information)[1] @ rows
    half = float(ndtri(0.975)) * math.sqrt(answers.variance(direction * weight * (y - fitted), chosen))
    value = float(beta[1])
    return Estimate("calibration_slope", value, value - half, value + half, (people,), "patient-robust")


def calibration_error(answers: Answers, target: int, chosen: BoolArray, edges: FloatArray) -> Estimate:
    """Root mean square distance of outcomes from probabilities over ten bins, less what chance makes.

    0 is right, higher is worse. The square of each bin's mean residual has its variance taken off, so that a
    small group does not look badly calibrated by chance alone; below 0 it is 0. The interval is that of
    normal draws of the residuals.

    References
    ----------
    Kumar, Liang & Ma, Verified uncertainty calibration, NeurIPS 2019 (the debiased estimator).
    """
    place = np.digitize(answers.probability[target], edges)
    residual = (answers.label == target) - answers.probability[target]
    parts = []
    for one in np.unique(place[chosen]):
        inside = chosen & (place == one)
        weight = answers.weight[inside]
        mean = float(weight @ residual[inside]) / float(weight.sum())
        variance = answers.variance(weight * (residual[inside] - mean) / weight.sum(), inside)
        parts.append((float(weight.sum()), mean, variance))
    share, mean, variance = np.array(parts).T
    share /= share.sum()
    value = float(share @ (mean**2 - variance))
    drawn = mean + np.sqrt(variance) * np.random.default_rng(0).standard_normal((_DRAWS, len(mean)))
    low, high = np.quantile((drawn**2 - 2 * variance) @ share, [0.025, 0.975])
    value, low, high = (math.sqrt(max(0.0, float(x))) for x in (value, min(low, value), max(high, value)))
    return Estimate("calibration_error", value, low, high, (answers.count(chosen),), "debiased-bins")


def bin_edges(given: FloatArray) -> FloatArray:
    """Inner edges of ten bins that hold equal numbers of cases; fewer where probabilities repeat."""
    edges: FloatArray = np.unique(np.quantile(given, np.arange(1, _BINS) / _BINS))
    return edges

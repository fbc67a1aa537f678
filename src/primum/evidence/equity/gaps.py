"""How much less often the model is right in a group than among everyone else."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, ndtri
from scipy.stats import hypergeom

from primum.evidence.equity.answers import FEWEST, Answers, Group
from primum.evidence.estimate import Estimate
from primum.evidence.measured import BoolArray, FloatArray, IntArray
from primum.evidence.ranking import join_intervals

_POWER = 0.8
_MOST_CELLS = 100_000


@dataclass(frozen=True, eq=False)
class Gap:
    """One group against everyone else, in one measure of one class.

    Attributes
    ----------
    group : Group
    target : int
        The class that is judged against all others.
    p_value : float
        That the group is not served worse; small is worse.
    interval : callable
        The gap with its interval at a given level; 0 is none, above is worse for the group.
    beside : tuple of Estimate
        The measure in the group and among everyone else.
    people : tuple of int
        Patients of the group and all others behind it.
    """

    group: Group
    target: int
    p_value: float
    interval: Callable[[float], Estimate]
    beside: tuple[Estimate, ...]
    people: tuple[int, int]

    @property
    def value(self) -> float:
        """The gap."""
        return self.interval(0.95).value

    def error(self) -> float:
        """Its standard error, from the interval."""
        found = self.interval(0.95)
        return (found.high - found.low) / (2 * float(ndtri(0.975)))

    def needed(self, material: float) -> tuple[int, int]:
        """How many patients of the group and outside it could rule a material gap out."""
        reach = float(ndtri(0.975) + ndtri(_POWER))
        times = (reach * self.error() / material) ** 2
        return math.ceil(self.people[0] * times), math.ceil(self.people[1] * times)

    def smallest(self, alpha: float) -> float:
        """Return the gap that a one-sided test at `alpha` would find four times out of five."""
        return float(ndtri(1 - alpha) + ndtri(_POWER)) * self.error()


@dataclass(frozen=True)
class Rate:
    """A share of answers that are right.

    `size` is the number of independent answers that would be as telling, `people` the patients behind it.
    """

    value: float
    size: float
    people: int

    def estimate(self, name: str, *, level: float = 0.95) -> Estimate:
        """Clopper-Pearson, of the effective number of answers (Korn & Graubard 1998)."""
        tail, right = (1 - level) / 2, self.value * self.size
        low = float(betaincinv(right, self.size - right + 1, tail)) if self.value > 0 else 0.0
        high = float(betaincinv(right + 1, self.size - right, 1 - tail)) if self.value < 1 else 1.0
        return Estimate(name, self.value, low, high, (self.people,), "clopper-pearson", level)

    def wilson(self, level: float) -> Estimate:
        """Wilson's interval, of which Newcombe makes that of a difference."""
        z = float(ndtri((1 + level) / 2))
        centre = (self.value + z * z / (2 * self.size)) / (1 + z * z / self.size)
        half = z * math.sqrt(self.value * (1 - self.value) / self.size + (z / (2 * self.size)) ** 2)
        half /= 1 + z * z / self.size
        low, high = max(0.0, min(centre - half, self.value)), min(1.0, max(centre + half, self.value))
        return Estimate("rate", self.value, low, high, (self.people,), "wilson", level)


def rate_of(
    answers: Answers, right: BoolArray, chosen: BoolArray, *, weight: FloatArray, alike: float
) -> Rate:
    """Weigh the answers about the chosen cases.

    Parameters
    ----------
    answers : Answers
    right, chosen : bool, shape (n,)
    weight : float64, shape (n,)
    alike : float
        Correlation of two answers about one patient, see :func:`alikeness`.
    """
    used = weight[chosen]
    total, squares = float(used.sum()), float(used @ used)
    if not answers.single and alike:
        mine = np.bincount(answers.patient[chosen], used, minlength=answers.people)
        squares = (1 - alike) * squares + alike * float(mine @ mine)
    value = float(used @ right[chosen]) / total
    return Rate(min(1.0, value), total**2 / squares, answers.count(chosen))


def alikeness(answers: Answers, right: BoolArray, chosen: BoolArray) -> float:
    """Correlate answers about the same patient, 0 to 1: moments of the products of each two.

    0 where patients have one case each, or where answers never vary.
    """
    if answers.single or not chosen.any():
        return 0.0
    used, patient = answers.weight[chosen], answers.patient[chosen]
    off = used * (right[chosen] - np.average(right[chosen], weights=used))
    variance = float(off @ (off / used)) / float(used.sum())
    sums = [np.bincount(patient, values, minlength=answers.people) for values in (off, used)]
    products, pairs = (float(s @ s - v @ v) for s, v in zip(sums, (off, used), strict=True))
    return min(1.0, max(0.0, products / (pairs * variance))) if pairs > 0 and variance > 0 else 0.0


def rate_gap(
    answers: Answers, group: Group, target: int, *, measure: str, standardised: bool = False
) -> Gap | None:
    """Compare a group with everyone else; None with fewer than 20 patients of the stratum on a side.

    Parameters
    ----------
    answers : Answers
    group : Group
    target : int
        The class against all others.
    measure : {"sensitivity", "specificity"}
        Of the cases that are of the class, the share called so; of the others, the share not called so.
    standardised : bool
        Whether to show beside it the gap among people alike, see :func:`standardised_gap`.

    Returns
    -------
    Gap or None
        One-sided p-value of Fisher's exact test, interval of Newcombe. Where patients have several cases both
        are of as many answers as would be as telling if they were independent, wrong ones of the group
        rounded down; patients on both sides are taken as independent, which only widens.

    References
    ----------
    Fisher, Statistical Methods for Research Workers, section 21.02; Newcombe, Statistics in Medicine 17
    (1998) 873, method 10; Rao & Scott, Biometrics 48 (1992) 577 (effective numbers).
    """
    has = answers.label == target
    right = (answers.called == target) == has
    stratum = has if measure == "sensitivity" else ~has
    sides = tuple(side & stratum for side in answers.sides(group))
    if min(map(answers.count, sides)) < FEWEST:
        return None
    alike = alikeness(answers, right, stratum)
    inside, outside = (rate_of(answers, right, side, weight=answers.weight, alike=alike) for side in sides)
    name = f"{measure}_gap"
    beside = [inside.estimate(measure), outside.estimate(f"{measure}_rest")]
    if standardised and (found := standardised_gap(answers, group, right, sides, alike, name=name)):
        beside.append(found)
    people = inside.people, outside.people
    return Gap(
        group,
        target,
        fisher(inside, outside),
        lambda level: newcombe(inside, outside, name=name, level=level),
        tuple(beside),
        people,
    )


def newcombe(inside: Rate, outside: Rate, *, name: str, level: float) -> Estimate:
    """Everyone else's rate minus the group's."""
    joined = join_intervals(
        outside.wilson(level), inside.wilson(level), correlation=0, name=name, method="newcombe"
    )
    return Estimate(
        name, joined.value, joined.low, joined.high, (inside.people, outside.people), "newcombe", level
    )


def fisher(inside: Rate, outside: Rate) -> float:
    """One-sided p-value that the group is not wrong more often."""
    sizes = [max(1, round(rate.size)) for rate in (inside, outside)]
    wrong = min(sizes[0], math.floor((1 - inside.value) * inside.size + 1e-6))
    others = min(sizes[1], round((1 - outside.value) * outside.size))
    return float(min(1.0, hypergeom.sf(wrong - 1, sum(sizes), wrong + others, sizes[0])))


def standardised_gap(
    answers: Answers,
    group: Group,
    right: BoolArray,
    sides: tuple[BoolArray, ...],
    alike: float,
    *,
    name: str,
) -> Estimate | None:
    """Compare people of the same age band, site, device and severity: the gap that case mix does not explain.

    Within each cell of these, a case of one side weighs as much as the other side's part of the cell: both
    sides then have the same mix (Mantel-Haenszel weights; the overlap weights of propensities by cell). None
    where there is nothing to hold alike, or fewer than 20 patients of a side meet anyone of the other.

    References
    ----------
    Greenland & Robins, Biometrics 41 (1985) 55; Li, Morgan & Zaslavsky, JASA 113 (2018) 390.
    """
    cell = cells_of(answers, group)
    if cell is None:
        return None
    totals = [np.bincount(cell[side], answers.weight[side], minlength=cell.max() + 1) for side in sides]
    whole = np.maximum(totals[0] + totals[1], 1e-300)
    rates = []
    for side, other in zip(sides, reversed(totals), strict=True):
        weight = answers.weight * (other / whole)[cell]
        met = side & (weight > 0)
        if answers.count(met) < FEWEST:
            return None
        rates.append(rate_of(answers, right, met, weight=weight, alike=alike))
    return newcombe(*rates, name=f"{name}_standardised", level=0.95)


def standardised_over(answers: Answers, group: Group) -> tuple[str, ...]:
    """Name what is held alike for a group: a device is of a site, so neither stands for the other."""
    own = {attribute for attribute, _ in group.places}
    if own & {"site", "device"}:
        own |= {"site", "device"}
    return (*(name for name in ("age", "site", "device") if name in answers.codes and name not in own),
            *answers.severity)  # fmt: skip


def cells_of(answers: Answers, group: Group) -> IntArray | None:
    """Give each cell of what is held alike a number, shape (n,); unknown is a value like any other."""
    cell: IntArray | None = None
    for name in standardised_over(answers, group):
        codes = (answers.severity[name] if name in answers.severity else answers.codes[name]) + 1
        cell = codes.astype(np.int64) if cell is None else cell * (int(codes.max()) + 1) + codes
        if cell.max() > _MOST_CELLS:
            cell = np.unique(cell, return_inverse=True)[1]
    return cell

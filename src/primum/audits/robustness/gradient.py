"""Attacks along the gradient: PGD with restarts, and APGD, which chooses its own steps.

White box. A change of each case is looked for that turns the verdict, no larger than a budget: in every
number (L-infinity) or in all together (L2). The walk itself is in fractions where the model can be asked
between the whole numbers that records have; what it ends in is rounded before it is judged.

References
----------
Madry et al., Towards deep learning models resistant to adversarial attacks, ICLR 2018 (PGD).
Croce & Hein, Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
attacks, ICML 2020 (APGD: momentum, when a step is halved).
Carlini & Wagner, Towards evaluating the robustness of neural networks, S&P 2017 (the margin as loss).
"""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from primum.audits.robustness.room import (
    Attacked,
    Norm,
    Room,
    WhiteBox,
    ask,
    generator,
    in_blocks,
    rivals,
    stored,
    worse,
)
from primum.evidence.measured import FloatArray, IntArray
from primum.models.predictors import Differentiable
from primum.records.cases import Cases

Loss = Literal["margin", "cross_entropy"]
_MOMENTUM, _RISES = 0.75, 0.75


@in_blocks
def pgd(
    model: WhiteBox,
    cases: Cases,
    room: Room,
    *,
    budget: float,
    norm: Norm = "linf",
    steps: int = 20,
    restarts: int = 1,
    loss: Loss = "margin",
    seed: int,
    keep: bool = False,
) -> Attacked:
    """Walk up the loss in equal steps, 2.5 budgets in all, from random starts; the worst end counts.

    Parameters
    ----------
    model : Predictor and Differentiable
    cases : Cases
    room : Room
    budget : float
        In parts of the range: the largest change of a number, or the L2 length of all changes.
    norm : {"linf", "l2"}
    steps : int
        Gradients in each restart; twice as many for the margin of more than two classes.
    restarts : int
    loss : {"margin", "cross_entropy"}
        The margin is that between the true class and the likeliest other one, of later restarts the one after
        it; unlike that of cross-entropy its gradient does not vanish where the model is sure.
    seed : int
    keep : bool
        Return the changed inputs.

    Returns
    -------
    Attacked
        A case is never better off than unattacked.
    """
    hill = Hill(model, cases, room, budget, norm)
    return _restarted(hill, steps, restarts, loss, seed=seed, keep=keep, own_steps=False)


@in_blocks
def apgd(
    model: WhiteBox,
    cases: Cases,
    room: Room,
    *,
    budget: float,
    norm: Norm = "linf",
    steps: int = 20,
    restarts: int = 1,
    loss: Loss = "margin",
    seed: int,
    keep: bool = False,
) -> Attacked:
    """Walk with momentum, halve the step of a case whose loss no longer rises, and keep its best point.

    Parameters and result are those of :func:`pgd`.
    """
    hill = Hill(model, cases, room, budget, norm)
    return _restarted(hill, steps, restarts, loss, seed=seed, keep=keep, own_steps=True)


@dataclass(frozen=True, eq=False)
class Hill:
    """The loss over all changes of some cases within a budget.

    Attributes
    ----------
    model : Predictor and Differentiable
    cases : Cases
        Of one shape.
    room : Room
    budget : float
    norm : {"linf", "l2"}
    rival : int64, shape (n,), or None
        The classes that the true ones are to lose to; None: the loss is the cross-entropy.
    """

    model: WhiteBox
    cases: Cases
    room: Room
    budget: float
    norm: Norm
    rival: IntArray | None = None

    @cached_property
    def inputs(self) -> NDArray[Any]:
        """The cases as they are."""
        return np.asarray(self.cases.inputs)

    @cached_property
    def _bounds(self) -> tuple[FloatArray, FloatArray]:
        return self.room.bounds(self.inputs, budget=self.budget if self.norm == "linf" else 1.0)

    def start(self, rng: np.random.Generator) -> FloatArray:
        """Return a random point within the budget of each case."""
        if self.norm == "linf":
            low, high = self._bounds
            return np.asarray(low + (high - low) * rng.random(low.shape))
        return self.moved(self.inputs.astype(np.float64), rng.standard_normal(self.inputs.shape), self.budget)

    def moved(self, values: FloatArray, slope: FloatArray, step: FloatArray | float) -> FloatArray:
        """Go a step, in parts of the range, the steepest way up, and back into the budget."""
        width = self.room.width
        if self.norm == "linf":
            return self.within(values + step * width * np.sign(slope))
        steepness = slope * width  # by part of the range
        length = np.sqrt(np.square(steepness).sum(axis=tuple(range(1, slope.ndim)), keepdims=True))
        return self.within(values + step * width * steepness / np.where(length > 0, length, 1))

    def within(self, values: FloatArray) -> FloatArray:
        """Return the nearest points that keep to the budget and the range."""
        if self.norm == "l2":
            change = values - self.inputs
            values = self.inputs + change * np.minimum(
                1, self.budget / np.maximum(self.room.length(change), 1e-12)
            )
        return np.clip(values, *self._bounds)

    def held(self, values: FloatArray) -> NDArray[Any]:
        """Return what a file could hold of points, within the budget."""
        if self.norm == "linf":
            return stored(values, self.inputs.dtype)
        return self.room.held(self.inputs, values, budget=self.budget)

    def loss(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return how near each point is to a wrong verdict, shape (n,), higher is worse, and the gradient."""
        model, inputs = self._between or self.model, values
        if self._between is None:
            inputs = stored(values, self.inputs.dtype)
        asked = replace(self.cases, inputs=inputs)
        if self.rival is None:
            return model.loss_and_gradient(asked, self.cases.labels)
        rival, slope = model.loss_and_gradient(asked, self.rival)
        if len(self.model.classes) == 2:  # what the rival gains the true class loses
            return -rival, -slope
        own, own_slope = model.loss_and_gradient(asked, self.cases.labels)
        return own - rival, own_slope - slope

    @cached_property
    def _between(self) -> Differentiable | None:
        """What answers about fractions where the records have whole numbers, if anything does."""
        between = getattr(self.model, "between", None) if self.inputs.dtype.kind in "iu" else None
        return None if between is None else cast(Differentiable, between(self.inputs))

    def gradients(self, steps: int) -> int:
        """Return how often the model is asked in so many steps."""
        return steps * (1 if self.rival is None or len(self.model.classes) == 2 else 2)


def _restarted(
    hill: Hill, steps: int, restarts: int, loss: Loss, *, seed: int, keep: bool, own_steps: bool
) -> Attacked:
    """Walk from each start, and take the worst of all ends and of no attack."""
    rng = generator(hill.cases, seed=seed)
    worst = ask(hill.model, hill.cases, keep=keep)
    others = rivals(worst)
    for restart in range(restarts):
        rival = others[:, restart % others.shape[1]] if loss == "margin" else None
        one = replace(hill, rival=rival)
        start = one.start(rng)
        end = best_of_walk(one, start, steps) if own_steps else end_of_walk(one, start, steps)
        found = replace(hill.cases, inputs=hill.held(end))
        worst = worse(worst, ask(hill.model, found, keep=keep, queries=1 + one.gradients(steps)))
    return worst


def end_of_walk(hill: Hill, values: FloatArray, steps: int) -> FloatArray:
    """Go `steps` equal steps from the points `values`, and return where they end."""
    for _ in range(steps):
        values = hill.moved(values, hill.loss(values)[1], 2.5 * hill.budget / steps)
    return values


def best_of_walk(hill: Hill, values: FloatArray, steps: int) -> FloatArray:
    """Walk as APGD does, and return the best of the `steps` points of each case."""
    one_each = (-1, *(1,) * (values.ndim - 1))
    before, (height, slope) = values, hill.loss(values)
    best, best_height, best_slope = values.copy(), height.copy(), slope.copy()
    step = np.full(len(values), 2 * hill.budget)
    rises, halved = np.zeros(len(values)), np.zeros(len(values), np.bool_)
    at_last_check = best_height.copy()
    checks = checkpoints(steps)
    for number in range(1, steps):
        ahead = hill.moved(values, slope, step.reshape(one_each))
        if number > 1:
            ahead = hill.within(values + _MOMENTUM * (ahead - values) + (1 - _MOMENTUM) * (values - before))
        before, values = values, ahead
        last, (height, slope) = height, hill.loss(values)
        rises += height > last
        better = height > best_height
        best[better], best_height[better], best_slope[better] = values[better], height[better], slope[better]
        if number in checks:
            few = rises < _RISES * checks[number]
            halved = few | (~halved & (best_height <= at_last_check))
            step[halved] /= 2
            before, values, slope = before.copy(), values.copy(), slope.copy()
            before[halved] = values[halved] = best[halved]
            slope[halved], height[halved] = best_slope[halved], best_height[halved]
            rises[:], at_last_check = 0, best_height.copy()
    return best


def checkpoints(steps: int) -> dict[int, int]:
    """Return the steps at which APGD looks back, each with the number of steps since the one before.

    Examples
    --------
    >>> checkpoints(20)
    {5: 5, 9: 4, 12: 3, 14: 2, 16: 2, 18: 2, 19: 1}
    """
    ends, share, interval = [0], 0.22, 0.22
    while (end := int(np.ceil(round(share * steps, 6)))) < steps:
        ends.append(end)
        interval = max(interval - 0.03, 0.06)
        share += interval
    return {end: end - start for start, end in pairwise(ends) if end > start}

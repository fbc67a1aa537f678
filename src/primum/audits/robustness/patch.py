"""The adversarial patch: a few neighbouring numbers, set to whatever the attacker likes, at the worst place.

A speck on a plate, a marker, a short spike on a lead. What it holds may be anything within the range of the
data; each number of it is taken to one end of that range. White box: places on a grid are tried all low and
all high, the content is worked out along the gradient at the worst of them, then changed bit by bit. Black
box: places and contents are tried at random, then changed bit by bit.

References
----------
Brown et al., Adversarial patch, arXiv:1712.09665, 2017.
Karmon, Zoran & Goldberg, LaVAN: localized and visible adversarial noise, ICML 2018 (by gradient).
Croce et al., Sparse-RS: a versatile framework for query-efficient sparse black-box adversarial attacks, AAAI
2022 (random search over places and contents).
"""

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primum.audits.privacy.label_only import Kind
from primum.audits.robustness.gradient import Hill, end_of_walk
from primum.audits.robustness.room import (
    Attacked,
    Room,
    WhiteBox,
    ask,
    generator,
    in_blocks,
    margins,
    rivals,
    stored,
)
from primum.audits.robustness.windows import window_at, window_axes
from primum.evidence.measured import BoolArray, FloatArray, IntArray
from primum.models.predictors import Predictor
from primum.records.cases import Cases

MOST_PLACES, WORKED_OUT, STEPS, NUDGES = 100, 5, 10, 150


@in_blocks
def patch(
    model: WhiteBox, cases: Cases, room: Room, *, kind: Kind, size: int = 3, seed: int, keep: bool = False
) -> Attacked:
    """Set a small window, at the worst place, to what turns the verdict.

    Parameters
    ----------
    model : Predictor and Differentiable
    cases : Cases
    room : Room
    kind : {"image", "volume", "signal", "bag"}
        A square of all channels, a cube, a stretch of all leads, a square of one tile.
    size : int
        Of its side.
    seed : int
    keep : bool
        Return the changed inputs.

    Returns
    -------
    Attacked
        With places. About 400 questions a case: two contents at each of at most 100 places on a grid and at
        the neighbours of the worst, ten gradients at each of five places, at most 150 small changes.
    """
    search = _Search.of(model, cases, room, kind, size)
    everybody, count = np.arange(len(cases)), len(cases)
    corners, found = [], []
    for corner in search.grid():
        corners.append(np.tile(corner, (count, 1)))
        found.append(search.extremes(corners[-1]))
    worst = np.stack(corners)[np.argmin(found, axis=0), everybody]
    for step in product(*((-1, 0, 1) if side > 1 else (0,) for side in search.sides)):
        corners.append(np.clip(worst + step, 0, search.last))
        found.append(search.extremes(corners[-1]))
    tried, likeliest = np.stack(corners), rivals(ask(model, cases))[:, 0]
    for place in np.argsort(found, axis=0, kind="stable")[:WORKED_OUT]:
        corner = tried[place, everybody]
        window = search.window(corner)
        hill = Hill(model, cases, replace(room, free=window & room.free), 1.0, "linf", likeliest)
        end = end_of_walk(hill, search.filled(window, search.highs).astype(np.float64), STEPS)
        search.asked[:] += hill.gradients(STEPS)
        search.attempt(everybody, corner, end > (search.low / 2 + search.high / 2))
    rng = generator(cases, seed=seed)
    for _ in range(NUDGES):
        search.nudge(rng, search.still_right())
    return search.answer(keep=keep)


@in_blocks
def patch_black_box(
    predictor: Predictor,
    cases: Cases,
    room: Room,
    *,
    kind: Kind,
    size: int = 3,
    queries: int = 500,
    seed: int,
    keep: bool = False,
) -> Attacked:
    """Try random places and contents of a small window, and keep what makes the model less sure.

    Parameters
    ----------
    predictor : Predictor
        Its scores are looked at.
    cases : Cases
    room : Room
    kind, size, keep
        As of :func:`patch`.
    queries : int
        At most, for each case; a case is left alone once its verdict is wrong. In their first half the window
        jumps, then it moves by one and single numbers of it are turned over.
    seed : int

    Returns
    -------
    Attacked
        With places.
    """
    rng, search = generator(cases, seed=seed), _Search.of(predictor, cases, room, kind, size)
    for query in range(1, queries):
        at = search.still_right()
        if query <= queries // 2:
            search.jump(rng, at)
        else:
            search.nudge(rng, at)
    return search.answer(keep=keep)


@dataclass(frozen=True, eq=False)
class _Search:
    """The worst window so far of each case: its `corners`, which numbers are `highs`, the `lowest` margin."""

    predictor: Predictor
    cases: Cases
    inputs: NDArray[Any]
    low: NDArray[Any]
    high: NDArray[Any]
    axes: tuple[int, ...]
    sides: tuple[int, ...]
    last: IntArray
    lowest: FloatArray
    corners: IntArray
    highs: BoolArray
    asked: IntArray

    @classmethod
    def of(cls, predictor: Predictor, cases: Cases, room: Room, kind: Kind, size: int) -> "_Search":
        inputs = np.asarray(cases.inputs)
        axes = window_axes(kind, inputs.ndim)
        sides = tuple(1 if kind == "bag" and axis == 1 else min(size, inputs.shape[axis]) for axis in axes)
        low, high = (stored(side, inputs.dtype) for side in room.bounds(inputs, budget=1.0))
        last = np.array([inputs.shape[axis] - side for axis, side in zip(axes, sides, strict=True)])
        nowhere, asked = np.full((len(cases), len(axes)), -1), np.ones(len(cases), np.int64)
        # Nothing is kept that is not worse than no patch.
        lowest, highs = margins(predictor, cases), np.zeros(inputs.shape, np.bool_)
        return cls(predictor, cases, inputs, low, high, axes, sides, last, lowest, nowhere, highs, asked)

    def grid(self) -> list[IntArray]:
        """Return at most 100 corners, evenly."""
        lines, left = {}, float(MOST_PLACES)
        for done, axis in enumerate(np.argsort(self.last, kind="stable").tolist()):
            count = min(int(left ** (1 / (len(self.last) - done)) + 1e-9), int(self.last[axis]) + 1)
            lines[axis] = np.linspace(0, self.last[axis], count).round().astype(np.int64)
            left /= count
        return [np.array(corner) for corner in product(*(lines[axis] for axis in sorted(lines)))]

    def window(self, corners: IntArray) -> BoolArray:
        """Return the windows at these corners; at corner -1 there is none."""
        inside = window_at(corners, (len(corners), *self.inputs.shape[1:]), self.axes, self.sides)
        return inside & (corners[:, 0] >= 0).reshape(-1, *(1,) * (inside.ndim - 1))

    def filled(self, window: BoolArray, highs: BoolArray, at: IntArray | slice = slice(None)) -> NDArray[Any]:
        """Return cases with their windows filled."""
        return np.where(window, np.where(highs, self.high[at], self.low[at]), self.inputs[at])

    def attempt(self, at: IntArray, corners: IntArray, highs: BoolArray) -> FloatArray:
        """Ask about the cases `at`, keep what is worse than before, and return the margins."""
        tried = self.filled(self.window(corners), highs, at)
        found = margins(self.predictor, replace(self.cases.select(at), inputs=tried))
        self.asked[at] += 1
        better = found < self.lowest[at]
        won = at[better]
        self.lowest[won], self.corners[won] = found[better], corners[better]
        self.highs[won] = np.broadcast_to(highs, tried.shape)[better]
        return found

    def extremes(self, corners: IntArray) -> FloatArray:
        """Try all low and all high, and return the lower margins."""
        at, one_each = np.arange(len(corners)), (1,) * self.inputs.ndim
        return np.minimum(*(self.attempt(at, corners, np.full(one_each, high)) for high in (False, True)))

    def still_right(self) -> IntArray:
        """Return the cases whose verdict no window turned yet."""
        return np.flatnonzero(self.lowest >= 0)

    def jump(self, rng: np.random.Generator, at: IntArray) -> None:
        """Try a random place, filled low, high or with any mixture."""
        if len(at):
            corners = rng.integers(0, self.last + 1, size=(len(at), len(self.last)))
            shares = rng.choice([0.0, 0.5, 1.0], size=(len(at), *(1,) * (self.inputs.ndim - 1)))
            self.attempt(at, corners, rng.random((len(at), *self.inputs.shape[1:])) < shares)

    def nudge(self, rng: np.random.Generator, at: IntArray) -> None:
        """Move the window by one at most, and turn about one number of it over."""
        if len(at):
            steps = rng.integers(-1, 2, size=(len(at), len(self.last))) * (np.array(self.sides) > 1)
            corners = np.clip(self.corners[at] + steps, 0, self.last)
            turned = rng.random((len(at), *self.inputs.shape[1:])) < 1 / np.prod(self.sides)
            self.attempt(at, corners, self.highs[at] ^ turned)

    def answer(self, *, keep: bool) -> Attacked:
        """Ask about the worst windows."""
        found = replace(self.cases, inputs=self.filled(self.window(self.corners), self.highs))
        return replace(ask(self.predictor, found, keep=keep), queries=self.asked, places=self.corners)

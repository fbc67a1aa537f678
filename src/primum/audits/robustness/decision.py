"""An attack from labels alone: in which direction is the border of the verdict nearest?

Black box, and the least that any attacker sees. A direction goes up or down in every number by the same part
of the range. Ever smaller windows of it are turned over, and kept where the verdict then turns nearer by.

References
----------
Chen & Gu, RayS: a ray searching method for hard-label adversarial attack, KDD 2020 (directions of signs; here
random windows are turned in place of fixed blocks, and a border is approached step by step).
"""

from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from primum.audits.privacy.label_only import Kind
from primum.audits.robustness.room import Attacked, Room, ask, generator, in_blocks, stored, verdicts
from primum.audits.robustness.windows import window_axes, windows
from primum.evidence.measured import BoolArray, FloatArray, IntArray
from primum.models.predictors import Predictor
from primum.records.cases import Cases

# So many first rounds try coarse directions of this many parts a side; then windows over this share of all
# places are turned, which is halved so often in the course of the queries.
STARTS, PARTS = 20, (7, 2, 4)
FIRST, HALVINGS = 0.1, 8
# A turned window must bring the border nearer by this; a direction that was kept is followed nearer so far.
NEARER, FOLLOWED, FOLLOWED_FIRST = 0.98, 0.96, 0.7
_SLACK = 1 + 1e-9


@in_blocks
def decision(
    predictor: Predictor,
    cases: Cases,
    room: Room,
    *,
    kind: Kind,
    budget: float,
    queries: int = 1000,
    seed: int,
    keep: bool = False,
) -> Attacked:
    """Look for a direction in which the verdict turns within the budget.

    Parameters
    ----------
    predictor : Predictor
        Only its verdicts are looked at.
    cases : Cases
    room : Room
    kind : {"image", "volume", "signal", "table", "bag"}
        Along which axes a window lies; in a bag it lies in one tile.
    budget : float
        The largest change of a number, in parts of the range.
    queries : int
        At most, for each case; a case is left alone once its verdict turned within the budget.
    seed : int
    keep : bool
        Return the changed inputs.

    Returns
    -------
    Attacked
        A case whose verdict held is answered at the budget's end of the nearest direction that was found.
    """
    rng, inputs = generator(cases, seed=seed), np.asarray(cases.inputs)
    dither = rng.permutation(inputs[0].size).reshape(inputs.shape[1:]) + 0.5
    rays = _Rays(predictor, cases, room, budget, dither / dither.size, np.ones(len(cases), np.int64))
    radius = np.where(verdicts(predictor, cases), np.inf, 0.0)
    signs, followed = np.ones(inputs.shape, np.int64), np.zeros(len(cases), np.bool_)
    for turn in count():
        at = np.flatnonzero((radius > budget * _SLACK) & (rays.asked < queries))
        if not len(at):
            break
        follow, lost, shape = followed[at], np.isinf(radius[at]), (len(at), *inputs.shape[1:])
        share = FIRST / 2 ** (HALVINGS * turn / queries)
        tried = np.where(windows(rng, shape, kind, share=share), -signs[at], signs[at])
        coarse = ~follow & (lost | (turn < STARTS))
        tried[coarse] = np.broadcast_to(_coarse(rng, shape, kind, turn), shape)[coarse]
        tried[follow] = signs[at][follow]
        factor = np.where(follow, FOLLOWED_FIRST if turn < STARTS else FOLLOWED, NEARER)
        reach = np.where(lost, 1.0, np.maximum(np.minimum(radius[at], 1.0) * factor, budget))
        hit = rays.turns(at, tried, reach)
        radius[at[hit]], signs[at[hit]], followed[at] = reach[hit], tried[hit], hit
    end = rays.ends(np.arange(len(cases)), signs, np.minimum(radius, budget))
    return replace(ask(predictor, end, keep=keep), queries=rays.asked)


def _coarse(rng: np.random.Generator, shape: tuple[int, ...], kind: Kind, turn: int) -> IntArray:
    """Draw directions of few parts, each channel its own; first all up, then all down."""
    if turn < 2:
        return np.full((1,) * len(shape), 1 - 2 * turn)
    axes, parts = window_axes(kind, len(shape)), PARTS[turn % len(PARTS)]
    sides = [min(parts, side) if axis in axes else side for axis, side in enumerate(shape)]
    signs = np.where(rng.random(sides) < 0.5, 1, -1)
    for axis in axes:
        signs = signs.take(np.arange(shape[axis]) * sides[axis] // shape[axis], axis=axis)
    return signs


@dataclass(frozen=True, eq=False)
class _Rays:
    """Cases that are moved along directions; `asked` counts the questions about each.

    A distance between two whole numbers takes some inputs to the nearer and others to the further one, as
    `dither` says.
    """

    predictor: Predictor
    cases: Cases
    room: Room
    budget: float
    dither: FloatArray
    asked: IntArray

    def ends(self, at: IntArray, signs: IntArray, radius: FloatArray) -> Cases:
        """Return the cases `at`, each moved by its radius in its direction."""
        cases = self.cases.select(at)
        inputs = np.asarray(cases.inputs)
        radius = radius.reshape(-1, *(1,) * (inputs.ndim - 1))
        change = radius * self.room.width
        if inputs.dtype.kind in "iu":
            change = np.floor(change + self.dither)
        most = np.where(radius <= self.budget * _SLACK, self.budget, 1.0)
        moved = np.clip(inputs + signs * change, *self.room.bounds(inputs, budget=most))
        return replace(cases, inputs=stored(moved, inputs.dtype))

    def turns(self, at: IntArray, signs: IntArray, radius: FloatArray) -> BoolArray:
        """Ask whether the verdicts are wrong there."""
        self.asked[at] += 1
        return ~verdicts(self.predictor, self.ends(at, signs, radius))

"""An attack from labels alone: it walks along the border of the verdict, toward the case.

Black box, and the least that any attacker sees. It starts at another case with another verdict, or at a
coarse pattern, wherever the verdict turns nearest. Small random changes at the border then tell by labels
alone which way is wrong. A step that way, and the change is cut down to the least that still turns the
verdict. Where no step leads nearer, windows of the change are turned over instead.

References
----------
Chen, Jordan & Wainwright, HopSkipJumpAttack: a query-efficient decision-based attack, IEEE S&P 2020 (slopes
at the border from labels, L-infinity; here they are remembered from round to round, random changes are of
blocks too, and steps are small where the slope is unsure).
Chen & Gu, RayS: a ray searching method for hard-label adversarial attack, KDD 2020 (parts turned over).
"""

from dataclasses import dataclass, field, replace

import numpy as np

from primum.audits.privacy.label_only import Kind
from primum.audits.robustness.room import Attacked, Room, ask, generator, in_blocks, stored, verdicts
from primum.audits.robustness.windows import window_axes, windows
from primum.evidence.measured import BoolArray, FloatArray, IntArray
from primum.models.predictors import Predictor
from primum.records.cases import Cases

# Other cases, and coarse patterns of so many parts a side, where a walk may start; fewer with few queries.
OTHERS, PARTS, QUERIES_PER_START = 8, (1, 1, 7, 7), 80
# Questions in a round (at most, and of all queries), and how much of a slope is remembered to the next round.
MOST_IN_ROUND, ROUNDS, MEMORY = 50, 20, 0.95
# Random changes are so large a part of the distance. They are made where half of them turn the verdict: so
# much nearer or further after each question, within these parts of the distance.
NOISE, FOLLOWED, NEAREST, FURTHEST = 0.4, 1.01, 0.4, 1.5
# Random changes of cases with more places than this are of larger blocks.
PLACES = 1000
STEP, HALVINGS, NEARER, BISECTIONS = 1.0, 4, 0.98, 5
# Where no step leads nearer, windows over at most this share of all places, halved so often at most.
FIRST, SMALLER = 0.1, 8
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
    """Look for a change within the budget that turns the verdict.

    Parameters
    ----------
    predictor : Predictor
        Only its verdicts are looked at.
    cases : Cases
        Those with another verdict serve each other as starts.
    room : Room
    kind : {"image", "volume", "signal", "table", "bag"}
        Along which axes neighbours are alike.
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
        A case whose verdict held is answered at the budget's end of the nearest change that was found.
    """
    rng, inputs, clean = generator(cases, seed=seed), np.asarray(cases.inputs), ask(predictor, cases)
    dither = (rng.permutation(inputs[0].size).reshape(inputs.shape[1:]) + 0.5) / inputs[0].size
    walk = _Walk(predictor, cases, room, budget, queries, dither, np.where(clean.right, np.inf, 0.0))
    _start(walk, rng, kind, clean.ends_in)
    slopes, depths = np.zeros(inputs.shape, np.float32), np.ones(len(cases))
    least = 1 / max(1.0, float(np.max(room.width))) if inputs.dtype.kind in "iu" else 0.0
    asks = min(MOST_IN_ROUND, max(1, queries // ROUNDS))
    while len(at := walk.open()):
        before, reach = walk.changes[at], np.minimum(walk.reach[at], 1.0)
        amplitude = _wide(np.maximum(NOISE * reach, least), before)
        slopes[at] = MEMORY * slopes[at] + _slopes(walk, at, depths, amplitude, rng, kind, asks)
        spread = np.sqrt(np.square(slopes[at]).mean(axis=tuple(range(1, inputs.ndim))))
        toward = np.clip(slopes[at] / _wide(np.maximum(spread, 1e-9), before), -1, 1)
        step, left = STEP * reach, np.arange(len(at))
        for _ in range(HALVINGS):
            tried = before[left] + _wide(step[left], before) * toward[left]
            left = left[~walk.approach(at[left], tried, walk.reach[at[left]] * NEARER)]
            step /= 2
        _turn_windows(walk, at[left], rng, kind, asks // 2)
    return replace(ask(predictor, walk.end(), keep=keep), queries=walk.asked)


def _start(walk: "_Walk", rng: np.random.Generator, kind: Kind, ends_in: IntArray) -> None:
    """Bring each case to the border, from where it is nearest."""
    inputs, labels = np.asarray(walk.cases.inputs, np.float64), walk.cases.labels
    starts = max(2, walk.queries // QUERIES_PER_START)
    for parts in (*PARTS[:starts], *(0,) * min(OTHERS, starts)):
        at = walk.open()
        if parts == 0:
            wrong = [np.flatnonzero(ends_in != label) for label in labels[at]]
            at, wrong = at[[len(one) > 0 for one in wrong]], [one for one in wrong if len(one)]
            away = inputs[[rng.choice(one) for one in wrong]] - inputs[at] if len(at) else inputs[at]
            width = np.broadcast_to(walk.room.width, away.shape)
            change = np.nan_to_num(np.divide(away, width, out=np.zeros_like(away), where=width > 0))
        else:
            change = _blocks(rng, (len(at), *inputs.shape[1:]), kind, parts=parts)
        if len(at):
            far = np.abs(change).max(axis=tuple(range(1, change.ndim)))
            walk.approach(at, change, np.minimum(far, 0.9 * walk.reach[at]))


def _slopes(
    walk: "_Walk",
    at: IntArray,
    depths: FloatArray,
    amplitude: FloatArray,
    rng: np.random.Generator,
    kind: Kind,
    asks: int,
) -> FloatArray:
    """Ask about random changes near the border; bring `depths` to where half of them turn the verdict."""
    before, turned = walk.changes[at], np.zeros(len(at))
    noises, seen = np.zeros_like(before), np.zeros_like(before)
    for _ in range(asks):
        noise = _noise(rng, before.shape, kind)
        hit = walk.turns(at, _wide(depths[at], before) * before + amplitude * noise)
        depths[at] = np.clip(depths[at] * np.where(hit, 1 / FOLLOWED, FOLLOWED), NEAREST, FURTHEST)
        turned += hit
        noises += noise
        seen[hit] += noise[hit]
    return np.asarray(seen - _wide(turned / asks, seen) * noises)


def _turn_windows(walk: "_Walk", at: IntArray, rng: np.random.Generator, kind: Kind, asks: int) -> None:
    """Turn random windows of changes over, and keep them where the verdict then turns nearer by."""
    for _ in range(asks):
        at = at[np.isfinite(walk.reach[at]) & (walk.reach[at] > walk.budget * _SLACK)]
        if not len(at):
            break
        now, reach = walk.changes[at], np.maximum(walk.reach[at] * NEARER, walk.budget)
        window = windows(rng, now.shape, kind, share=FIRST / 2 ** rng.uniform(0, SMALLER))
        tried = np.where(window, -np.sign(now) * _wide(reach, now), _cut(now, reach))
        hit = walk.turns(at, tried)
        walk.reach[at[hit]], walk.changes[at[hit]] = reach[hit], tried[hit]


def _noise(rng: np.random.Generator, shape: tuple[int, ...], kind: Kind) -> FloatArray:
    """Draw ups and downs of small blocks, by turns of two sizes."""
    axes = [axis for axis in window_axes(kind, len(shape)) if not (kind == "bag" and axis == 1)]
    places, block = np.prod([shape[axis] for axis in axes]), 1
    while kind != "table" and places / block ** len(axes) > PLACES:
        block *= 2
    return _blocks(rng, shape, kind, block=block * (1 if kind == "table" else int(rng.integers(1, 3))))


def _blocks(
    rng: np.random.Generator, shape: tuple[int, ...], kind: Kind, *, parts: int = 0, block: int = 1
) -> FloatArray:
    """Draw 1 or -1 for each block of each channel, of so many `parts` a side or of `block` places."""
    axes = window_axes(kind, len(shape))
    cells, which = list(shape), {}
    for axis in axes:
        side = shape[axis]
        size = -(-side // parts) if parts else 1 if kind == "bag" and axis == 1 else block
        if size > 1:
            which[axis] = (np.arange(side) + (0 if parts else int(rng.integers(size)))) // size
            cells[axis] = int(which[axis][-1]) + 1
    signs = 1 - 2 * rng.integers(2, size=cells, dtype=np.int8)
    for axis, index in which.items():
        signs = signs.take(index, axis=axis)
    return signs.astype(np.float32)


def _wide(values: FloatArray, like: FloatArray) -> FloatArray:
    """Shape one value a case so that it can be broadcast to cases."""
    return values.reshape(-1, *(1,) * (like.ndim - 1)).astype(np.float32)


@dataclass(eq=False)
class _Walk:
    """Cases on their way along the border.

    A change between two whole numbers takes some inputs to the nearer and others to the further one, as
    `dither` says.

    Attributes
    ----------
    reach : float64, shape (n,)
        Largest part of the range by which a change turns the verdict; infinite if none was found.
    changes : float32
        Those changes, in parts of the range.
    asked : int64, shape (n,)
    """

    predictor: Predictor
    cases: Cases
    room: Room
    budget: float
    queries: int
    dither: FloatArray
    reach: FloatArray
    changes: FloatArray = field(init=False)
    asked: IntArray = field(init=False)

    def __post_init__(self) -> None:
        self.changes = np.zeros(np.shape(self.cases.inputs), np.float32)
        self.asked = np.ones(len(self.cases), np.int64)

    def open(self) -> IntArray:
        """Return the cases whose verdict holds within the budget, and about which more may be asked."""
        return np.flatnonzero((self.reach > self.budget * _SLACK) & (self.asked < self.queries))

    def moved(self, at: IntArray, changes: FloatArray, *, within: float) -> Cases:
        """Return the cases `at`, changed."""
        cases = self.cases.select(at)
        inputs = np.asarray(cases.inputs)
        change = changes * self.room.width
        if inputs.dtype.kind in "iu":
            change = np.sign(change) * np.floor(np.abs(change) + self.dither)
        moved = np.clip(inputs + change, *self.room.bounds(inputs, budget=within))
        return replace(cases, inputs=stored(moved, inputs.dtype))

    def turns(self, at: IntArray, changes: FloatArray, *, within: float = 1.0) -> BoolArray:
        """Ask whether verdicts are wrong there; of a case with no question left: no."""
        turned, may = np.zeros(len(at), np.bool_), self.asked[at] < self.queries
        if may.any():
            self.asked[at[may]] += 1
            turned[may] = ~verdicts(self.predictor, self.moved(at[may], changes[may], within=within))
        return turned

    def approach(self, at: IntArray, changes: FloatArray, far: FloatArray) -> BoolArray:
        """Cut changes down to the least that turns the verdict; return whether they do at `far`."""
        hit = self.turns(at, _cut(changes, far))
        at, changes, far = at[hit], changes[hit], far[hit]
        near = np.minimum(self.budget, far)
        inside = self.turns(at, _cut(changes, near), within=self.budget)
        far = np.where(inside, near, far)
        for _ in range(BISECTIONS):
            on = np.flatnonzero(~inside)
            middle = (near[on] + far[on]) / 2
            wrong = self.turns(at[on], _cut(changes[on], middle))
            near[on], far[on] = np.where(wrong, near[on], middle), np.where(wrong, middle, far[on])
        self.reach[at], self.changes[at] = far, _cut(changes, far)
        return hit

    def end(self) -> Cases:
        """Return every case where it was wrong, or at the budget's end."""
        everyone, within = np.arange(len(self.cases)), np.full(len(self.cases), self.budget)
        return self.moved(everyone, _cut(self.changes, within), within=self.budget)


def _cut(changes: FloatArray, most: FloatArray) -> FloatArray:
    most = _wide(most, changes)
    return np.clip(changes, -most, most)

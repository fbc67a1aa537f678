"""What every attack on inputs shares: where inputs may go, what the model answers, and what is kept of it.

Verdicts are those about the type that the records have: whole numbers are rounded before they are judged, so
that a verdict is true of what a file could hold.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import wraps
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from primum.audits.privacy.label_only import Kind
from primum.evidence.finding import Message
from primum.evidence.measured import BoolArray, FloatArray, IntArray
from primum.models.predictors import Differentiable, Predictor
from primum.records.cases import Cases, Inputs

Norm = Literal["linf", "l2"]
Attack = Literal[
    "noise",
    "pgd",
    "apgd",
    "square",
    "decision",
    "patch",
    "patch_black_box",
    "universal",
    "transfer",
    "letters",
]
WHITE_BOX: tuple[Attack, ...] = ("pgd", "apgd", "patch", "universal")
_BLOCK_BYTES = 1 << 25
# Probabilities have no logits: their logarithm stands for them, and is kept finite.
_LEAST = 1e-300
_SHRINKINGS = 12
P = ParamSpec("P")
M = TypeVar("M")


class WhiteBox(Predictor, Differentiable, Protocol):
    """A classifier that shows its gradient."""


@dataclass(frozen=True, eq=False)
class Room:
    """Where inputs may go, in the numbers of the records.

    A number that lies outside already may stay where it is; a missing one stays missing.

    Attributes
    ----------
    low, high : float64
        Range of the data, to be broadcast to the inputs; budgets are parts of it.
    free : bool
        Which numbers an attacker may change, to be broadcast.
    """

    low: FloatArray
    high: FloatArray
    free: BoolArray

    @property
    def width(self) -> FloatArray:
        """The range, 0 for what may not be changed."""
        return np.where(self.free, self.high - self.low, 0.0)

    def bounds(self, inputs: NDArray[Any], *, budget: float | FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the least and the largest values within `budget` of the inputs, float64, shape (n, ...)."""
        values, radius = inputs.astype(np.float64), budget * self.width
        if inputs.dtype.kind in "iu":
            radius = np.floor(radius + 1e-9)
        return (
            np.maximum(values - radius, np.minimum(self.low, values)),
            np.minimum(values + radius, np.maximum(self.high, values)),
        )

    def length(self, change: FloatArray) -> FloatArray:
        """Return the L2 length of changes in parts of the range, shape (n, 1, ...)."""
        parts = np.divide(change, self.width, out=np.zeros_like(change), where=self.width > 0)
        axes = tuple(range(1, change.ndim))
        return np.asarray(np.sqrt(np.square(np.nan_to_num(parts)).sum(axis=axes, keepdims=True)))

    def held(self, inputs: NDArray[Any], values: FloatArray, *, budget: float) -> NDArray[Any]:
        """Return what a file could hold of `values`, shortened until its L2 length keeps to the budget."""
        change, factor = values - inputs, 1.0
        held = stored(values, inputs.dtype)
        for _ in range(_SHRINKINGS):
            over = self.length(held.astype(np.float64) - inputs) > budget * (1 + 1e-6)
            if not over.any():
                return held
            factor *= 0.97
            held = np.where(over, stored(inputs + factor * change, inputs.dtype), held)
        toward = inputs + np.trunc(change) if inputs.dtype.kind in "iu" else inputs + factor * change
        return np.where(over, stored(toward, inputs.dtype), held)


@dataclass(frozen=True, eq=False)
class Attacked:
    """What a classifier answers once its inputs were changed.

    Attributes
    ----------
    labels : int64, shape (n,)
        The true classes.
    probabilities : float64, shape (n, classes)
    margins : float64, shape (n,)
        Logit of the true class minus the largest other one, in nats; lower is worse, below 0 the verdict is
        wrong.
    queries : int64, shape (n,)
        How often the model was asked about each case, gradients included.
    inputs : array, tuple of arrays or None
        The changed inputs in the type of the records, if they were asked for.
    places : int64, shape (n, axes), or None
        Of patches: their first corner, along the axes after the channels (of a bag, the tile first).
    """

    labels: IntArray
    probabilities: FloatArray
    margins: FloatArray
    queries: IntArray
    inputs: Inputs | None = None
    places: IntArray | None = None

    @property
    def ends_in(self) -> IntArray:
        """The class that each case is given."""
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)

    @property
    def right(self) -> BoolArray:
        """Whether the true class still wins."""
        return np.asarray(self.ends_in == self.labels)


def stored(values: FloatArray, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return numbers as records of this type hold them: whole ones rounded, and within its limits."""
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return values.astype(dtype)


def ask(predictor: Predictor, cases: Cases, *, keep: bool = False, queries: int = 1) -> Attacked:
    """Ask about cases as they are.

    Parameters
    ----------
    predictor : Predictor
    cases : Cases
    keep : bool
        Keep the inputs.
    queries : int
        How many to count for each case.
    """
    rows = _rows(predictor, cases)
    return Attacked(
        cases.labels,
        softmax(rows, axis=1),
        _margins(rows, cases.labels),
        np.full(len(cases), queries, np.int64),
        cases.inputs if keep else None,
    )


def margins(predictor: Predictor, cases: Cases) -> FloatArray:
    """Return the logit of the true class minus the largest other one, shape (n,), in nats."""
    return _margins(_rows(predictor, cases), cases.labels)


def verdicts(predictor: Predictor, cases: Cases) -> BoolArray:
    """Say whether the true class wins, shape (n,): all that is seen without scores."""
    return np.asarray(_rows(predictor, cases).argmax(axis=1) == cases.labels)


def _rows(predictor: Predictor, cases: Cases) -> FloatArray:
    """Return logits; of a model without them the logarithms of its probabilities."""
    rows = predictor.logits(cases)
    return np.log(np.maximum(predictor.predict_proba(cases), _LEAST)) if rows is None else rows


def _margins(rows: FloatArray, labels: IntArray) -> FloatArray:
    own = rows[np.arange(len(rows)), labels]
    others = rows.copy()
    others[np.arange(len(rows)), labels] = -np.inf
    return np.asarray(own - others.max(axis=1))


def rivals(answers: Attacked) -> IntArray:
    """Return the wrong classes of each case, the likeliest first, shape (n, classes - 1)."""
    rows = answers.probabilities.copy()
    rows[np.arange(len(rows)), answers.labels] = np.inf
    return np.asarray(np.argsort(-rows, axis=1, kind="stable")[:, 1:], np.int64)


def worse(first: Attacked, second: Attacked) -> Attacked:
    """Take of each case the answer with the lower margin; queries are added.

    Parameters
    ----------
    first, second : Attacked
        Of the same cases; inputs and places are kept where both have them.
    """
    swap = second.margins < first.margins

    def taken(name: str) -> Any:
        mine, theirs = getattr(first, name), getattr(second, name)
        if mine is None or theirs is None:
            return None
        if isinstance(mine, tuple):
            return tuple(b if s else a for a, b, s in zip(mine, theirs, swap, strict=True))
        return np.where(swap.reshape(-1, *[1] * (mine.ndim - 1)), theirs, mine)

    merged = {one.name: taken(one.name) for one in fields(first)}
    return Attacked(**{**merged, "queries": first.queries + second.queries})


def refused(attack: Attack, predictor: Predictor, kind: Kind) -> Message | None:
    """Say why an attack cannot be made on this model or this kind of case; None: it can.

    Parameters
    ----------
    attack : str
    predictor : Predictor
    kind : {"image", "volume", "signal", "table", "sequence", "bag"}
    """
    if attack == "letters":
        return None if kind == "sequence" else Message("attack_only_of_letters")
    if kind == "sequence":
        return Message("attack_not_of_letters")
    if kind == "table" and attack.startswith("patch"):
        return Message("attack_not_of_tables")
    if attack in WHITE_BOX and not isinstance(predictor, Differentiable):
        return Message("model_cannot", {"protocol": "Differentiable"})
    return None


def in_blocks(
    attack: Callable[Concatenate[M, Cases, P], Attacked],
) -> Callable[Concatenate[M, Cases, P], Attacked]:
    """Give an attack on one array few cases at a time, and cases of many shapes one by one."""

    @wraps(attack)
    def attacked(model: M, cases: Cases, /, *args: P.args, **kwargs: P.kwargs) -> Attacked:
        parts = []
        for rows in _blocks(cases.inputs):
            block = cases.select(rows)
            if isinstance(block.inputs, tuple):
                block = replace(block, inputs=np.stack(block.inputs))
            parts.append(attack(model, block, *args, **kwargs))
        return _joined(parts, one_each=isinstance(cases.inputs, tuple))

    return attacked


def generator(cases: Cases, *, seed: int) -> np.random.Generator:
    """Return random numbers that depend on the seed and on which block of cases is attacked."""
    return np.random.default_rng([seed, *np.abs(cases.case_ids[:1]).tolist()])


def _blocks(inputs: Inputs) -> list[IntArray]:
    rows = np.arange(len(inputs))
    size = 1 if isinstance(inputs, tuple) else max(1, _BLOCK_BYTES // max(1, 8 * inputs[:1].size))
    return [rows[first : first + size] for first in range(0, len(rows), size)] or [rows]


def _joined(parts: list[Attacked], *, one_each: bool) -> Attacked:
    """Put blocks together."""
    first, inputs = parts[0], None
    if first.inputs is not None:
        arrays = [np.asarray(part.inputs) for part in parts]
        inputs = tuple(array[0] for array in arrays) if one_each else np.concatenate(arrays)
    return Attacked(
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.margins for part in parts]),
        np.concatenate([part.queries for part in parts]),
        inputs,
        None if first.places is None else np.concatenate([np.asarray(part.places) for part in parts]),
    )

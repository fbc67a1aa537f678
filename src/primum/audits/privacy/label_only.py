"""Does the model's mere verdict on a patient hold when the case is disturbed a little? Labels only.

Black-box, and the least that any attacker sees: no probability, only which class. Over-fitted models keep
their training cases further from where the verdict turns, so that it survives more noise.

References
----------
Choquette-Choo, Tramèr, Carlini & Papernot, Label-only membership inference attacks, ICML 2021 (random noise,
shifts; a case that is misjudged as it stands counts as nearest to the border).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from primum.evidence.finding import Scalar
from primum.evidence.measured import BoolArray
from primum.models.predictors import Predictor
from primum.records.cases import Cases
from primum.records.histories import FloatArray

Kind = Literal["image", "volume", "signal", "table", "sequence", "bag"]
Array = NDArray[Any]

QUERIES = 32
# Weakest first. Units of the spread of the values; for sequences and bags the share of letters replaced, of
# tiles dropped.
_NOISES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
STRENGTHS: Mapping[Kind, tuple[float, ...]] = {
    "image": _NOISES,
    "volume": _NOISES,
    "signal": _NOISES,
    "table": _NOISES,
    "sequence": (0.003, 0.01, 0.03, 0.1, 0.3),
    "bag": (0.1, 0.2, 0.4, 0.6, 0.8, 0.9),
}
# The strength is the one that leaves about so many right verdicts right: near the best of each model in
# trials, and chosen without knowing who is a member.
KEPT = 0.92
_TRIED_ON, _TRIED = 200, 8
_SHIFTED_BY = 14  # a picture moves by at most one part in so many of its side
_MOST_LOOKED_AT = 1_000
_BLOCK_BYTES = 32_000_000
# A neighbour of a bag has no more tiles, drawn among those that it keeps: else a slide took hours.
MOST_TILES = 4_096


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """How the inputs of one data set are disturbed.

    Attributes
    ----------
    kind : str
    spread : float64
        Deviation of the values over cases: by channel or lead, shape (channels, 1, ...); by column of a
        table, shape (features,).
    rows : ndarray, shape (m, features)
        Of tables: rows that a category's new value is taken from.
    categories : sequence of sequences of int
        Of tables: the columns that say one category, which change together.
    letters : ndarray
        Of sequences: the letters there are.
    strength : float
        See :data:`STRENGTHS`; a category of a table is drawn anew with this probability.
    """

    kind: Kind
    spread: FloatArray
    rows: Array
    categories: Sequence[Sequence[int]]
    letters: Array
    strength: float = 0.0

    @property
    def settings(self) -> dict[str, Scalar]:
        """What shaped the scores."""
        said: dict[str, Scalar] = {"queries": QUERIES + 1, "strength": self.strength, "kind": self.kind}
        return said | ({"most_tiles": MOST_TILES} if self.kind == "bag" else {})

    def disturbed(self, values: Array, *, query: int, rng: np.random.Generator) -> Array:
        """Return a neighbour of one input; of another number of tiles only where it is a bag."""
        strength = self.strength
        if self.kind == "bag":
            keep = rng.random(len(values)) >= strength
            keep[rng.integers(len(values))] = True  # never an empty bag
            tiles = np.flatnonzero(keep)
            if len(tiles) > MOST_TILES:
                tiles = np.sort(rng.choice(tiles, MOST_TILES, replace=False))
            return np.asarray(values[tiles])
        if self.kind == "sequence":
            return np.where(rng.random(len(values)) < strength, rng.choice(self.letters, len(values)), values)
        if self.kind == "table":
            return self._row(values, rng)
        if self.kind == "signal":
            values = _as_stored(values * 2 ** (strength * rng.standard_normal()), values.dtype)
        elif query % 2:
            values = _shifted(values, rng)
        return _noisy(values, strength * self.spread, rng)

    def _row(self, values: Array, rng: np.random.Generator) -> Array:
        """Noise on numbers; a category that is drawn anew becomes that of another row."""
        result = _noisy(values, self.strength * self.spread, rng)
        for columns in self.categories:
            drawn = self.rows[rng.integers(len(self.rows))] if rng.random() < self.strength else values
            result[list(columns)] = drawn[list(columns)]
        return result


def neighbourhood_of(
    predictor: Predictor, cases: Cases, *, kind: Kind, categories: Sequence[Sequence[int]] = (), seed: int
) -> Neighbourhood:
    """Learn how far inputs differ and how much disturbance turns some verdicts of the model, but not most.

    Parameters
    ----------
    predictor : Predictor
        Something that can be asked about new inputs.
    cases : Cases
        At least one; some of both sides. At most 1,000 of them are looked at, and the model is asked about
        200, at most 56 times each.
    kind : {"image", "volume", "signal", "table", "sequence", "bag"}
    categories : sequence of sequences of int
        Of tables: the columns of each category or yes-or-no feature; the other columns are numbers.
    seed : int
    """
    unscaled = _unscaled(_some(cases, _MOST_LOOKED_AT), kind, categories)
    few = _some(cases, _TRIED_ON)
    tried = [replace(unscaled, strength=strength) for strength in STRENGTHS[kind]]
    kept = []
    for one in tried:
        right = _verdicts(predictor, few, one, queries=_TRIED, seed=seed)
        kept.append(right[right[:, 0], 1:].mean() if right[:, 0].any() else 1.0)
    return tried[int(np.abs(np.array(kept) - KEPT).argmin())]


def _some(cases: Cases, most: int) -> Cases:
    return cases.select(np.unique(np.linspace(0, len(cases) - 1, most).astype(np.int64)))


def _unscaled(cases: Cases, kind: Kind, categories: Sequence[Sequence[int]]) -> Neighbourhood:
    seen, nothing = cases.inputs, np.empty(0)
    if kind == "bag":
        return Neighbourhood(kind, nothing, nothing, (), nothing)
    if kind == "sequence":
        return Neighbourhood(kind, nothing, nothing, (), np.unique(np.concatenate(list(seen))))
    if kind == "table":
        rows = np.asarray(seen)
        spread = np.ma.masked_invalid(rows.astype(np.float64)).std(axis=0).filled(0.0)
        return Neighbourhood(kind, np.asarray(spread, np.float64), rows, categories, nothing)
    totals = np.zeros((3, len(seen[0])))
    for values in seen:
        flat = values.reshape(len(values), -1).astype(np.float64)
        totals += np.full(len(flat), flat.shape[1]), flat.sum(axis=1), np.square(flat).sum(axis=1)
    count, total, squares = totals
    deviation = np.sqrt(np.maximum(squares / count - (total / count) ** 2, 0))
    return Neighbourhood(kind, deviation.reshape(-1, *[1] * (seen[0].ndim - 1)), nothing, (), nothing)


def label_only_scores(
    predictor: Predictor, cases: Cases, neighbourhood: Neighbourhood, *, seed: int
) -> FloatArray:
    """Score each case by how often its neighbours are still given its true class; only labels are looked at.

    33 queries a case, itself and 32 neighbours. A case's neighbours depend on `seed` and on its own number
    only, not on the others asked with it. A neighbour is in no records and has the number -1.

    Parameters
    ----------
    predictor : Predictor
        Something that can be asked about new inputs.
    cases : Cases
        `n` of them.
    neighbourhood : Neighbourhood
        From :func:`neighbourhood_of`, one for all cases of an audit.
    seed : int

    Returns
    -------
    float64, shape (n,)
        0 = misjudged as it stands; else between 1/33 and 1, the share of the queries that found the true
        class; higher = more member-like.
    """
    right = _verdicts(predictor, cases, neighbourhood, queries=QUERIES, seed=seed)
    score: FloatArray = np.where(right[:, 0], right.mean(axis=1), 0.0)
    return score


def _verdicts(
    predictor: Predictor, cases: Cases, neighbourhood: Neighbourhood, *, queries: int, seed: int
) -> BoolArray:
    """Tell which queries were given the true class, shape (n, 1 + queries), the case itself first."""
    owner = np.repeat(np.arange(len(cases)), queries + 1)
    right, start = np.empty(len(owner), np.bool_), 0
    for block in _blocks(_queries(cases, neighbourhood, queries, seed)):
        part = owner[start : start + len(block)]
        neighbours = Cases(
            np.full(len(part), -1),
            cases.subject_ids[part],
            np.stack(block) if isinstance(cases.inputs, np.ndarray) else tuple(block),
            cases.labels[part],
            {name: values[part] for name, values in cases.attributes.items()},
        )
        labels = predictor.predict_proba(neighbours).argmax(axis=1)
        right[start : start + len(block)] = labels == neighbours.labels
        start += len(block)
    return right.reshape(-1, queries + 1)


def _queries(cases: Cases, neighbourhood: Neighbourhood, queries: int, seed: int) -> Iterator[Array]:
    for case_id, values in zip(cases.case_ids.tolist(), cases.inputs, strict=True):
        rng = np.random.default_rng([seed, case_id])
        yield values
        for query in range(queries):
            yield neighbourhood.disturbed(values, query=query, rng=rng)


def _blocks(inputs: Iterator[Array]) -> Iterator[list[Array]]:
    """Put inputs together up to so many bytes, at least one."""
    block: list[Array] = []
    size = 0
    for values in inputs:
        if block and size + values.nbytes > _BLOCK_BYTES:
            yield block
            block, size = [], 0
        block.append(values)
        size += values.nbytes
    if block:
        yield block


def _noisy(values: Array, deviation: FloatArray, rng: np.random.Generator) -> Array:
    return _as_stored(values + deviation * rng.standard_normal(values.shape), values.dtype)


def _as_stored(values: FloatArray, dtype: np.dtype[Any]) -> Array:
    """Whole numbers stay whole and within what they can hold."""
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return values.astype(dtype)


def _shifted(values: Array, rng: np.random.Generator) -> Array:
    """Move a picture along each of its sides, the border repeated."""
    for axis, side in enumerate(values.shape[1:], start=1):
        most = max(1, side // _SHIFTED_BY)
        move = int(rng.integers(-most, most + 1))
        values = values.take(np.clip(np.arange(side) - move, 0, side - 1), axis=axis)
    return values

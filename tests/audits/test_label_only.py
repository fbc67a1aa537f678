from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from tests.audits.test_confidence import SIDE, assert_fair, cases_of, fitted, people, sides

from primum.audits.privacy import label_only
from primum.audits.privacy.label_only import (
    KEPT,
    QUERIES,
    STRENGTHS,
    Kind,
    Neighbourhood,
    label_only_scores,
    neighbourhood_of,
)
from primum.evidence.ranking import auc
from primum.records.cases import Cases, Inputs
from primum.records.histories import FloatArray

SHAPES: dict[Kind, tuple[int, ...]] = {
    "image": (3, 12, 10),
    "volume": (1, 5, 8, 6),
    "signal": (2, 50),
    "table": (6,),
    "sequence": (400,),
    "bag": (30, 1, 4, 4),
}


@dataclass
class ByMean:
    """Tells a case by the mean of its values; keeps what it was asked."""

    border: float
    classes: tuple[str, ...] = ("low", "high")
    seen: list[Cases] = field(default_factory=list)

    def logits(self, cases: Cases) -> FloatArray | None:
        raise AssertionError("labels only")

    def predict_proba(self, cases: Cases) -> FloatArray:
        self.seen.append(cases)
        high = np.array([np.nanmean(values) for values in cases.inputs]) > self.border
        return np.column_stack([np.where(high, 0.2, 0.8), np.where(high, 0.8, 0.2)])


def inputs_of(kind: Kind, count: int = 12) -> Inputs:
    rng = np.random.default_rng(3)
    shape = (count, *SHAPES[kind])
    if kind == "table":
        rows = rng.normal(5, 2, shape)
        rows[:, 3:] = np.eye(3)[rng.integers(0, 3, count)]
        rows[2, 1] = np.nan
        return rows
    if kind == "sequence":
        return rng.choice(np.frombuffer(b"ACGT", np.uint8), shape)
    if kind == "bag":
        return tuple(rng.normal(0, 1, (tiles + 1, *SHAPES["bag"][1:])) for tiles in range(count))
    return rng.integers(0, 256, shape).astype(np.uint8)


def asked(kind: Kind, inputs: Inputs, strength: float) -> list[np.ndarray[Any, Any]]:
    """Everything that a model is asked about the first case."""
    cases = replace(cases_of(np.zeros(0), np.zeros(len(inputs), np.int64)), inputs=inputs)
    model = ByMean(0.0)
    near = neighbourhood_of(model, cases, kind=kind, categories=categories_of(kind), seed=0)
    model.seen.clear()
    label_only_scores(model, cases.select(np.array([2])), replace(near, strength=strength), seed=0)
    return [values for block in model.seen for values in block.inputs]


def categories_of(kind: Kind) -> Sequence[Sequence[int]]:
    return [range(3, 6)] if kind == "table" else ()


@pytest.mark.parametrize("kind", list(SHAPES))
def test_neighbours_are_inputs_of_the_same_kind(kind: Kind) -> None:
    inputs = inputs_of(kind)
    first, *others = asked(kind, inputs, 0.6)
    np.testing.assert_array_equal(first, inputs[2])
    assert len(others) == QUERIES
    assert len({values.tobytes() for values in others}) == QUERIES or kind == "bag"
    for values in others:
        assert values.dtype == inputs[2].dtype
        assert values.shape == inputs[2].shape or kind == "bag"


@pytest.mark.parametrize("kind", ["image", "volume", "signal"])
def test_stronger_noise_moves_further(kind: Kind) -> None:
    inputs = inputs_of(kind)
    weak, strong = (
        np.mean(
            [np.abs(one - inputs[2].astype(np.float64)).mean() for one in asked(kind, inputs, strength)[1::2]]
        )
        for strength in (0.1, 0.8)
    )
    assert 0 < 3 * weak < strong


def test_whole_numbers_stay_within_what_they_can_hold() -> None:
    inputs = np.asarray(inputs_of("image"))
    inputs[2] = 255
    _, *others = asked("image", inputs, 0.1)
    assert min(values.min() for values in others) > 200


@pytest.mark.parametrize("kind", ["image", "volume"])
def test_pictures_are_shifted_every_second_time(kind: Kind) -> None:
    first, *others = asked(kind, inputs_of(kind), 0.0)
    assert all(np.array_equal(values, first) for values in others[::2])
    assert any(not np.array_equal(values, first) for values in others[1::2])
    inner = tuple(slice(1, -1) for _ in first.shape[1:])
    windows = np.lib.stride_tricks.sliding_window_view(first, [side - 2 for side in first.shape[1:]],
                                                       axis=tuple(range(1, first.ndim)))  # fmt: skip
    for values in others[1::2]:
        same = windows == values[(slice(None), *inner)][(slice(None), *[None] * (first.ndim - 1))]
        assert same.all(axis=(0, *range(first.ndim, same.ndim))).any()


def test_table_rows_stay_rows() -> None:
    inputs = np.asarray(inputs_of("table"))
    inputs[:, 0] = 7.0
    first, *others = asked("table", inputs, 0.5)
    rows = np.stack(others)
    assert np.isnan(rows[:, 1]).all()
    assert (rows[:, 0] == 7).all()
    spread = np.nanstd(inputs[:, 2])
    assert 0.3 * spread < (rows[:, 2] - first[2]).std() < 0.7 * spread
    assert (np.sort(rows[:, 3:], axis=1) == [0, 0, 1]).all()
    changed = (rows[:, 3:] != first[3:]).any(axis=1).mean()
    assert 0.1 < changed < 0.6


def test_sequences_get_as_many_other_letters_as_asked_for() -> None:
    inputs = np.asarray(inputs_of("sequence"))
    _, *others = asked("sequence", inputs, 0.2)
    assert set(np.unique(others)) <= set(b"ACGT")
    assert np.mean(np.stack(others) != inputs[2]) == pytest.approx(0.15, abs=0.01)


def test_bags_lose_tiles_but_never_all() -> None:
    inputs = inputs_of("bag")
    sizes = [len(values) for values in asked("bag", inputs, 0.9)]
    assert sizes[0] == 3
    assert set(sizes[1:]) <= {1, 2, 3} and 1 in sizes
    tiles = {tile.tobytes() for tile in inputs[2]}
    assert all(tile.tobytes() in tiles for values in asked("bag", inputs, 0.5) for tile in values)


def test_neighbours_of_a_large_bag_have_no_more_tiles_than_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = inputs_of("bag")
    plain = [values.tobytes() for values in asked("bag", inputs, 0.1)]
    monkeypatch.setattr(label_only, "MOST_TILES", 3)
    assert [values.tobytes() for values in asked("bag", inputs, 0.1)] == plain
    monkeypatch.setattr(label_only, "MOST_TILES", 2)
    whole, *others = asked("bag", inputs, 0.1)
    assert len(whole) == 3 and max(map(len, others)) == 2
    assert len({values.tobytes() for values in others}) == 3  # each pair of tiles
    unscaled = Neighbourhood("bag", np.empty(0), np.empty(0), (), np.empty(0))
    assert unscaled.settings["most_tiles"] == 2
    assert "most_tiles" not in replace(unscaled, kind="image").settings


@pytest.mark.parametrize("kind", list(SHAPES))
def test_a_score_does_not_depend_on_who_is_asked_with_it(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = inputs_of(kind)
    cases = replace(cases_of(np.zeros(0), np.zeros(12, np.int64)), inputs=inputs)
    middle = float(np.median([np.nanmean(values) for values in inputs]))
    labels = np.array([int(np.nanmean(values) > middle) for values in inputs])
    cases = replace(cases, labels=labels)
    near = neighbourhood_of(ByMean(middle), cases, kind=kind, categories=categories_of(kind), seed=0)
    near = replace(near, strength=0.5)
    whole = label_only_scores(ByMean(middle), cases, near, seed=4)
    assert len(np.unique(whole)) > 2
    monkeypatch.setattr(label_only, "_BLOCK_BYTES", 700)
    some = np.array([7, 3])
    model = ByMean(middle)
    np.testing.assert_array_equal(label_only_scores(model, cases.select(some), near, seed=4), whole[some])
    largest = max(values.nbytes for values in inputs)
    assert max(sum(values.nbytes for values in one.inputs) for one in model.seen) <= max(700, largest)
    assert (label_only_scores(ByMean(middle), cases, near, seed=5) != whole).any()


def test_a_neighbour_is_in_no_records() -> None:
    model = ByMean(0.0)
    cases = cases_of(np.ones((2, 4)), np.ones(2, np.int64))
    near = neighbourhood_of(model, cases, kind="table", seed=0)
    label_only_scores(model, cases, near, seed=0)
    assert all((one.case_ids == -1).all() for one in model.seen)


def test_misjudged_cases_score_0_and_sure_ones_1() -> None:
    cases = cases_of(np.array([[-50.0], [50.0], [-50.0], [50.0]]), np.array([0, 0, 1, 1]))
    near = Neighbourhood("table", np.array([1.0]), np.empty((0, 1)), (), np.empty(0), strength=1.0)
    assert label_only_scores(ByMean(0.0), cases, near, seed=0).tolist() == [1, 0, 0, 1]
    border = cases_of(np.array([[-0.01], [0.01]]), np.array([1, 1]))
    wrong, right = label_only_scores(ByMean(0.0), border, near, seed=0)
    assert wrong == 0
    assert 0.2 < right < 0.8


def test_only_labels_are_looked_at_and_queries_are_counted() -> None:
    cases = people(30, width=10, rng=np.random.default_rng(5))
    model = fitted(cases)
    near = neighbourhood_of(model, cases, kind="table", seed=0)
    soft = replace(model, sharpness=0.01, asked=0)
    scores = label_only_scores(soft, cases, near, seed=0)
    np.testing.assert_array_equal(scores, label_only_scores(model, cases, near, seed=0))
    assert soft.asked == 33 * len(cases)
    assert near.settings == {"queries": 33, "strength": near.strength, "kind": "table"}


def test_the_strength_turns_some_verdicts_but_not_most() -> None:
    chosen = {}
    for scale in (0.2, 1.0, 5.0):
        values = np.random.default_rng(6).uniform(-scale, scale, (300, 1))
        cases = cases_of(np.hstack([values, np.random.default_rng(7).uniform(-9, 9, (300, 1))]),
                         (values[:, 0] > 0).astype(np.int64))  # fmt: skip
        near = neighbourhood_of(fitted(cases), cases, kind="table", seed=0)
        near = replace(near, spread=np.array([1.0, 0.0]))
        chosen[scale] = near.strength
        right = label_only_scores(
            fitted(cases), cases, replace(near, spread=np.array([scale / 3**0.5, 5.0])), seed=1
        )
        assert abs(right[right > 0].mean() - KEPT) < 0.06
    assert set(chosen.values()) <= set(STRENGTHS["table"])


@cache
def model_of(seed: int) -> tuple[Any, Neighbourhood]:
    model = fitted(people(60, width=20, rng=np.random.default_rng([9, seed])))
    return model, neighbourhood_of(
        model, people(2 * SIDE, width=20, rng=np.random.default_rng([8, seed])), kind="table", seed=seed
    )


def test_nobody_is_found_who_trained_nothing() -> None:
    def score(model: int, draw: int) -> tuple[FloatArray, FloatArray]:
        cases = people(50, width=20, rng=np.random.default_rng([10, model, draw]))
        trained, near = model_of(model)
        return sides(label_only_scores(trained, cases, near, seed=draw), cases)

    assert_fair(score, models=5, draws=20)


def test_an_over_fitted_model_is_found() -> None:
    cases = people(120, width=100, rng=np.random.default_rng(2))
    model = fitted(cases.select(np.flatnonzero(cases.subject_ids < 60)))
    near = neighbourhood_of(model, cases, kind="table", seed=0)
    assert auc(*sides(label_only_scores(model, cases, near, seed=0), cases)).low > 0.6

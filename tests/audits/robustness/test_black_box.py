"""Square, decision, patch, universal, transfer: known answers of linear models, and what they may change."""

from dataclasses import replace
from itertools import product
from typing import Any, cast

import numpy as np
import pytest
import torch
from tests.audits.robustness.test_gradient import BYTES, ONE, cases_of, linear, picture_model, points

from primum.audits.robustness.decision import decision
from primum.audits.robustness.gradient import pgd
from primum.audits.robustness.noise import noise
from primum.audits.robustness.patch import patch, patch_black_box
from primum.audits.robustness.room import Room, ask
from primum.audits.robustness.square import square
from primum.audits.robustness.transfer import train_surrogate, transfer
from primum.audits.robustness.universal import perturbed, universal_perturbation
from primum.audits.robustness.windows import windows
from primum.evidence.measured import FloatArray
from primum.models.torch_door import TorchClassifier
from primum.records.cases import Cases


class Watched:
    """A classifier that tells only scores, or only labels, and counts the questions about each case."""

    def __init__(self, model: TorchClassifier, *, labels_only: bool) -> None:
        self.model, self.labels_only, self.classes = model, labels_only, model.classes
        self.asked: list[int] = []

    def logits(self, cases: Cases) -> FloatArray | None:
        return None

    def predict_proba(self, cases: Cases) -> FloatArray:
        self.asked += cases.case_ids.tolist()
        rows = self.model.predict_proba(cases)
        return np.eye(len(self.classes))[rows.argmax(1)] if self.labels_only else rows


@pytest.mark.parametrize("attack", [square, decision])
def test_of_a_linear_table_the_margin_says_who_is_fooled(attack: Any) -> None:
    cases, weights = points(100, 6)
    distance = abs(np.asarray(cases.inputs) @ weights[0]) / abs(weights).sum()
    budget = float(np.median(distance))
    watched = Watched(linear(weights), labels_only=attack is decision)
    found = attack(watched, cases, ONE, kind="table", budget=budget / 20, queries=300, seed=0, keep=True)
    # From labels alone, the signs of small weights stay unsure.
    clear = abs(distance / budget - 1) > (0.2 if attack is decision else 0.1)
    np.testing.assert_array_equal(found.right[clear], (distance > budget)[clear])
    assert abs(found.inputs - np.asarray(cases.inputs)).max() <= budget * (1 + 1e-9)
    # The last question, about what is handed back, is not the attacker's.
    np.testing.assert_array_equal(found.queries + 1, np.bincount(watched.asked))
    assert found.queries.max() == 300
    assert found.queries[distance < budget / 2].max() < 150


@pytest.mark.parametrize("attack", [square, decision])
def test_pictures_of_bytes_stay_within_the_budget(attack: Any) -> None:
    model, cases = picture_model()
    few, inputs = cases.select(np.arange(40)), np.asarray(cases.inputs)[:40]
    before = ask(model, few).right
    watched = Watched(model, labels_only=attack is decision)
    found = attack(watched, few, BYTES, kind="image", budget=12.4 / 255, queries=400, seed=0, keep=True)
    assert found.inputs.dtype == np.uint8
    assert 0 < abs(found.inputs.astype(int) - inputs).max() <= 12
    assert found.right.mean() < noise(model, few, BYTES, budget=12.4 / 255, seed=0).right.mean() - 0.1
    assert not found.right[~before].any()
    np.testing.assert_array_equal(found.right, ask(model, replace(few, inputs=found.inputs)).right)


def test_a_constant_model_is_never_fooled() -> None:
    cases, weights = points(20, 6)
    model = linear(0 * weights)
    for attack in (square, decision):
        found = cast(Any, attack)(model, cases, ONE, kind="table", budget=0.1, queries=30, seed=0)
        np.testing.assert_array_equal(found.right, cases.labels == 0)


def test_labels_alone_come_near_to_the_gradient() -> None:
    model, cases = picture_model()
    few, how = cases.select(np.arange(40)), cast(Any, {"budget": 16 / 255, "seed": 0})
    white = pgd(cast(Any, model), few, BYTES, **how).right.mean()
    found = decision(Watched(model, labels_only=True), few, BYTES, kind="image", queries=1500, **how)
    assert found.right.mean() <= white + 0.1 < ask(model, few).right.mean() - 0.3


def test_a_verdict_that_only_other_cases_have_is_reached_from_them() -> None:
    """Coarse patterns never turn it, but only the one direction in which the classes differ."""
    side, rng = 8, np.random.default_rng(0)
    sign = np.where(np.indices((side, side)).sum(0) % 2, 1, -1)
    ill = np.arange(40) % 2
    inputs = 128 + 6 * sign * (2 * ill[:, None, None] - 1) + rng.integers(-2, 3, (40, side, side))
    model = linear(sign.reshape(1, -1).astype(np.float64), dtype="float32")
    model.module.insert(0, torch.nn.Flatten())  # type: ignore[operator]
    cases = cases_of(inputs[:, None].astype(np.uint8), ill)
    how: Any = {"kind": "image", "budget": 8 / 255, "queries": 60, "seed": 0}
    alone = decision(model, cases.select(np.flatnonzero(ill)), BYTES, **how)
    assert alone.right.mean() > 0.5
    assert not decision(model, cases, BYTES, **how).right.any()


def linear_pictures(*, side: int) -> tuple[TorchClassifier, Cases]:
    """Pictures judged by a weighted sum of all places but those of the first two rows."""
    rng = np.random.default_rng(1)
    weights = np.zeros((1, side, side))
    weights[:, 2:] = rng.standard_normal((1, side - 2, side))
    weights[:, 2:] -= weights[:, 2:].mean()
    inputs = rng.integers(60, 200, (60, 1, side, side)).astype(np.uint8)
    model = linear(weights.reshape(1, -1), dtype="float32")
    model.module.insert(0, torch.nn.Flatten())  # type: ignore[operator]
    cases = cases_of(inputs, np.zeros(60, np.int64))
    return model, replace(cases, labels=ask(model, cases).ends_in)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_patch_finds_the_best_place_and_content_of_a_linear_model(size: int) -> None:
    side = 9
    model, cases = linear_pictures(side=side)
    weights = np.asarray(cast(Any, model.module)[1].weight.data.numpy(), np.float64).reshape(side, side)
    values = np.asarray(cases.inputs, np.float64)[:, 0]
    signs = np.where(cases.labels == 1, 1.0, -1.0)[:, None, None]
    lost = np.maximum(signs * weights * (values - 0), signs * weights * (values - 255)) / 255
    last = side - size + 1
    most = np.max(
        [lost[:, i : i + size, j : j + size].sum((1, 2)) for i, j in product(range(last), repeat=2)], 0
    )
    best = ask(model, cases).margins - most
    found = patch(cast(Any, model), cases, BYTES, kind="image", size=size, seed=0, keep=True)
    changed = (np.asarray(found.inputs) != np.asarray(cases.inputs))[:, 0]
    rows, columns = changed.any(2), changed.any(1)
    for one in (rows, columns):
        assert (side - one[:, ::-1].argmax(1) - one.argmax(1)).max() <= size
    clear = abs(best) > 0.3
    assert (found.right[clear] == (best > 0)[clear]).mean() >= 0.95
    assert (found.margins >= best - 1e-4).all()
    places = found.places
    assert places is not None
    for case in np.flatnonzero(changed.any((1, 2))):
        i, j = places[case]
        assert changed[case, i : i + size, j : j + size].sum() == changed[case].sum()


def test_the_patch_from_scores_alone() -> None:
    model, cases = linear_pictures(side=9)
    watched = Watched(model, labels_only=False)
    found = patch_black_box(watched, cases, BYTES, kind="image", size=3, queries=200, seed=0, keep=True)
    assert (np.asarray(found.inputs) != np.asarray(cases.inputs)).reshape(60, -1).sum(1).max() <= 9
    white = patch(cast(Any, model), cases, BYTES, kind="image", size=3, seed=0)
    clean = ask(model, cases)
    assert white.right.mean() <= found.right.mean() + 0.04 < clean.right.mean()
    assert found.queries.max() <= 200
    np.testing.assert_array_equal(found.queries + 1, np.bincount(watched.asked))


def test_one_change_for_all_carries_over_to_others() -> None:
    model, cases = picture_model()
    fit, others = cases.select(np.arange(100)), cases.select(np.arange(100, 200))
    change = universal_perturbation(cast(Any, model), fit, BYTES, budget=12 / 255, seed=0)
    assert abs(change).max() <= 12
    found = perturbed(model, others, BYTES, change, keep=True)
    assert abs(np.asarray(found.inputs, int) - np.asarray(others.inputs)).max() <= 12
    assert found.right.mean() < noise(model, others, BYTES, budget=12 / 255, seed=0).right.mean() - 0.1
    # In a window alone it is a universal patch.
    window = np.zeros((1, 10, 10), np.bool_)
    window[:, 2:5, 3:6] = True
    inside = universal_perturbation(cast(Any, model), fit, replace(BYTES, free=window), budget=1.0, seed=0)
    assert not inside[~window].any()
    assert perturbed(model, others, BYTES, inside).right.mean() < ask(model, others).right.mean()


def test_an_attack_on_a_surrogate_carries_over() -> None:
    model, cases = picture_model()
    learnt, others = cases.select(np.arange(120)), cases.select(np.arange(120, 200))

    class Recipe:
        def fit(self, train: Cases, *, validation: Any, max_steps: Any, seed: int) -> TorchClassifier:
            assert (len(train), seed) == (120, 3)
            return model

    surrogate: Any = train_surrogate(learnt, ("no", "yes"), kind="image", recipe=Recipe(), seed=3)
    other: Any = train_surrogate(learnt, ("no", "yes"), kind="image", seed=0)
    rates = [
        transfer(model, one, others, BYTES, budget=8 / 255, seed=0).right.mean() for one in (surrogate, other)
    ]
    assert rates[0] <= rates[1] < noise(model, others, BYTES, budget=8 / 255, seed=0).right.mean()
    assert (transfer(model, other, others, BYTES, budget=8 / 255, seed=0).queries == 1).all()


def test_noise_is_of_the_whole_budget() -> None:
    cases, weights = points(30, 6)
    inputs = np.asarray(cases.inputs)
    one = noise(linear(weights), cases, ONE, budget=0.01, seed=0, keep=True)
    np.testing.assert_allclose(abs(np.asarray(one.inputs) - inputs), 0.2)
    two = noise(linear(weights), cases, ONE, budget=0.1, norm="l2", draws=3, seed=0, keep=True)
    np.testing.assert_allclose(np.linalg.norm(np.asarray(two.inputs) - inputs, axis=1), 2, rtol=1e-6)
    assert (two.queries == 3).all()


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("image", (3, 12, 12)), ("volume", (1, 8, 8, 8)), ("signal", (2, 64)), ("table", (16,))],
)
def test_windows_cover_about_their_share(kind: Any, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    for share in (0.01, 0.25, 1.0):
        inside = np.broadcast_to(windows(rng, (500, *shape), kind, share=share), (500, *shape))
        assert abs(inside.mean() - share) < 0.09
        assert share < 0.1 or inside.any(0).all()


def test_a_window_of_a_bag_lies_in_one_tile() -> None:
    inside = windows(np.random.default_rng(0), (200, 5, 3, 8, 8), "bag", share=0.25)
    tiles = np.broadcast_to(inside, (200, 5, 3, 8, 8)).any((2, 3, 4))
    assert (tiles.sum(1) == 1).all()
    assert (tiles.any(0)).all()


def test_blocks_leave_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    cases, weights = points(50, 6)
    room = Room(np.full(6, -10.0), np.full(6, 10.0), np.ones(6, np.bool_))
    monkeypatch.setattr("primum.audits.robustness.room._BLOCK_BYTES", 8 * 6 * 7)
    found = square(linear(weights), cases, room, kind="table", budget=0.02, queries=50, seed=0, keep=True)
    np.testing.assert_array_equal(found.labels, cases.labels)
    assert np.asarray(found.inputs).shape == (50, 6)
    assert len(ask(linear(weights), cases.select(np.arange(0))).right) == 0

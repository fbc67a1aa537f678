"""PGD and APGD: known answers of linear models, budgets that are kept, two other tools on the same model."""

import importlib
import warnings
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from primum.audits.robustness.gradient import apgd, checkpoints, pgd
from primum.audits.robustness.noise import noise
from primum.audits.robustness.room import Room, ask, worse
from primum.evidence.measured import FloatArray, IntArray
from primum.models.classifier_card import Card, InputCard
from primum.models.torch_door import TorchClassifier
from primum.records.cases import Cases

BYTES = Room(np.array(0.0), np.array(255.0), np.array(True))
ONE = Room(np.array(-10.0), np.array(10.0), np.array(True))
ATTACKS = pytest.mark.parametrize("attack", [pgd, apgd])


def cases_of(inputs: NDArray[Any], labels: IntArray) -> Cases:
    return Cases(np.arange(len(labels)), np.arange(len(labels)), inputs, labels)


def linear(weights: FloatArray, *, dtype: str = "float64") -> TorchClassifier:
    """Make a classifier without bias; weights of shape (classes, features)."""
    layer = torch.nn.Linear(weights.shape[1], len(weights), bias=False)
    layer.weight.data = torch.from_numpy(weights.astype(dtype))
    names = tuple(map(str, range(max(2, len(weights)))))
    return TorchClassifier(
        torch.nn.Sequential(layer), names, Card(output="logits", input=InputCard(dtype=dtype))
    )


def points(count: int = 200, features: int = 12, *, seed: int = 0) -> tuple[Cases, FloatArray]:
    rng = np.random.default_rng(seed)
    inputs, weights = rng.standard_normal((count, features)), rng.standard_normal((1, features))
    return cases_of(inputs, ((inputs @ weights[0]) > 0).astype(np.int64)), weights


@ATTACKS
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("loss", ["margin", "cross_entropy"])
def test_of_a_linear_model_the_margin_says_who_is_fooled(attack: Any, norm: Any, loss: Any) -> None:
    cases, weights = points()
    distance = abs(np.asarray(cases.inputs) @ weights[0]) / (
        abs(weights).sum() if norm == "linf" else np.linalg.norm(weights)
    )
    budget = float(np.median(distance))
    found = attack(linear(weights), cases, ONE, budget=budget / 20, norm=norm, loss=loss, seed=0, keep=True)
    # Equal steps come to within a few hundredths of the border.
    clear = abs(distance / budget - 1) > (0.05 if attack is pgd else 0.02)
    np.testing.assert_array_equal(found.right[clear], (distance > budget)[clear])
    change = (found.inputs - np.asarray(cases.inputs)).reshape(len(cases), -1)
    length = abs(change).max(1) if norm == "linf" else np.linalg.norm(change, axis=1)
    assert length.max() <= budget * (1 + 1e-9)
    lost = budget * (abs(weights).sum() if norm == "linf" else np.linalg.norm(weights))
    np.testing.assert_allclose(
        found.margins, ask(linear(weights), cases).margins - lost, atol=0.05 * float(lost)
    )
    assert (found.queries == 22).all()


def test_a_sure_model_hides_from_cross_entropy_and_not_from_the_margin() -> None:
    cases, weights = points()
    sure = linear(400 * weights, dtype="float32")
    distance = abs(np.asarray(cases.inputs) @ weights[0]) / abs(weights).sum()
    seen = pgd(sure, cases, ONE, budget=0.02, seed=0).right
    hidden = pgd(sure, cases, ONE, budget=0.02, loss="cross_entropy", seed=0).right
    np.testing.assert_array_equal(seen, distance > 0.4)
    assert hidden.mean() > seen.mean() + 0.1


def test_further_restarts_aim_at_further_classes() -> None:
    rng = np.random.default_rng(0)
    weights, inputs = rng.standard_normal((4, 8)), rng.standard_normal((100, 8))
    rows = inputs @ weights.T
    labels = rows.argmax(axis=1)
    found = apgd(linear(weights), cases_of(inputs, labels), ONE, budget=0.02, restarts=3, seed=0)
    each = rows[np.arange(100), labels][:, None] - rows
    reach = abs(weights[labels][:, None] - weights).sum(2)
    each[np.arange(100), labels] = np.inf
    turned = (each < 0.4 * reach).any(1)
    np.testing.assert_array_equal(found.right, ~turned)
    once = apgd(linear(weights), cases_of(inputs, labels), ONE, budget=0.02, restarts=1, seed=0)
    assert (found.margins <= once.margins + 1e-9).all()
    assert (once.queries == 1 + 40 + 1).all()


@ATTACKS
def test_what_may_not_change_does_not_and_missing_stays_missing(attack: Any) -> None:
    cases, weights = points()
    inputs = np.asarray(cases.inputs).copy()
    room = Room(np.full(12, -1.0), np.full(12, 1.0), np.arange(12) < 6)
    inputs[:, 11] = 30  # outside the range, and not to be moved into it
    for norm in ("linf", "l2"):
        found = attack(
            linear(weights), replace(cases, inputs=inputs), room, budget=0.1, norm=norm, seed=0, keep=True
        )
        np.testing.assert_array_equal(found.inputs[:, 6:], inputs[:, 6:])
        assert (found.inputs[:, :6] != inputs[:, :6]).any()
        inside = abs(inputs[:, :6]) <= 1
        assert (abs(found.inputs[:, :6])[inside] <= 1 + 1e-12).all()


def picture_model() -> tuple[TorchClassifier, Cases]:
    """A small network that learns where noise is brighter, and others' pictures."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 500)
    base = rng.normal(110, 30, (500, 1, 10, 10))
    base[:, :, 2:6, 3:7] += 35 * labels[:, None, None, None]
    cases = cases_of(np.clip(base, 0, 255).astype(np.uint8), labels)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = [
            torch.nn.Conv2d(1, 8, 3, stride=2),
            torch.nn.ReLU(),
            torch.nn.Flatten(),
            torch.nn.Linear(128, 2),
        ]
    module = torch.nn.Sequential(*parts)
    optimiser, inputs = (
        torch.optim.Adam(module.parameters(), 0.01),
        torch.from_numpy(np.asarray(cases.inputs)) / 255,
    )
    for _ in range(60):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(inputs[:300]), torch.from_numpy(labels[:300]))
        torch.autograd.backward(loss)
        optimiser.step()
    return TorchClassifier(module, ("no", "yes"), Card(output="logits")), cases.select(np.arange(300, 500))


@pytest.fixture(scope="module")
def pictures() -> tuple[TorchClassifier, Cases]:
    return picture_model()


@ATTACKS
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_verdicts_are_true_of_files(pictures: tuple[TorchClassifier, Cases], attack: Any, norm: Any) -> None:
    model, cases = pictures
    budget = 2.5 / 255 if norm == "linf" else 0.3
    found = attack(model, cases, BYTES, budget=budget, norm=norm, seed=0, keep=True)
    again = ask(model, replace(cases, inputs=found.inputs))
    np.testing.assert_array_equal(found.margins, again.margins)
    assert found.inputs.dtype == np.uint8
    change = found.inputs.astype(np.float64) - np.asarray(cases.inputs)
    if norm == "linf":
        assert abs(change).max() == 2
    else:
        length = np.sqrt(np.square(change / 255).reshape(len(cases), -1).sum(1))
        assert 0.28 < length.max() <= 0.3 + 1e-6
    clean, random = ask(model, cases), noise(model, cases, BYTES, budget=budget, norm=norm, seed=0)
    assert clean.right.mean() > 0.8
    assert found.right.mean() < random.right.mean()
    assert (found.margins <= clean.margins).all()


def test_a_model_that_cannot_be_asked_between_is_asked_in_whole_numbers(
    pictures: tuple[TorchClassifier, Cases],
) -> None:
    model, cases = pictures

    class Plain:
        """Has no `between`."""

        classes, logits, predict_proba = model.classes, model.logits, model.predict_proba

        def loss_and_gradient(self, asked: Cases, labels: IntArray) -> tuple[FloatArray, FloatArray]:
            assert np.asarray(asked.inputs).dtype == np.uint8
            loss, slope = cast(Any, model).loss_and_gradient(asked, labels)
            return loss, slope

    rates = [
        pgd(cast(Any, one), cases, BYTES, budget=4 / 255, seed=0).right.mean() for one in (Plain(), model)
    ]
    assert abs(rates[0] - rates[1]) <= 0.03


def test_apgd_is_no_weaker_and_the_same_seed_gives_the_same(pictures: tuple[TorchClassifier, Cases]) -> None:
    model, cases = pictures
    one, two = (apgd(model, cases, BYTES, budget=3 / 255, seed=5) for _ in range(2))
    np.testing.assert_array_equal(one.margins, two.margins)
    assert one.margins.mean() <= pgd(model, cases, BYTES, budget=3 / 255, seed=5).margins.mean() + 0.02
    assert checkpoints(100)[22] == 22


def test_finds_what_other_tools_find(pictures: tuple[TorchClassifier, Cases]) -> None:
    model, cases = pictures
    scaled = torch.from_numpy(np.asarray(cases.inputs)).float() / 255
    labels = torch.from_numpy(cases.labels)
    for budget in (2 / 255, 4 / 255):
        ours = pgd(model, cases, BYTES, budget=budget, steps=20, seed=0).right.mean()
        for theirs in (art_pgd(model, scaled, labels, budget), foolbox_pgd(model, scaled, labels, budget)):
            rounded = np.rint(theirs * 255).astype(np.uint8)
            assert ours <= ask(model, replace(cases, inputs=rounded)).right.mean() + 0.01


def art_pgd(
    model: TorchClassifier, inputs: torch.Tensor, labels: torch.Tensor, budget: float
) -> NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evasion: Any = importlib.import_module("art.attacks.evasion")
        estimators: Any = importlib.import_module("art.estimators.classification")

        shape = tuple(inputs.shape[1:])
        wrapped = estimators.PyTorchClassifier(
            model.module, torch.nn.CrossEntropyLoss(), shape, 2, clip_values=(0, 1), device_type="cpu"
        )
        attack = evasion.ProjectedGradientDescentPyTorch(
            wrapped,
            eps=budget,
            eps_step=budget / 8,
            max_iter=20,
            num_random_init=1,
            batch_size=128,
            verbose=False,
        )
        return np.asarray(attack.generate(inputs.numpy(), labels.numpy()))


def foolbox_pgd(
    model: TorchClassifier, inputs: torch.Tensor, labels: torch.Tensor, budget: float
) -> NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        foolbox: Any = importlib.import_module("foolbox")

        wrapped = foolbox.PyTorchModel(model.module, bounds=(0, 1), device="cpu")
        attack = foolbox.attacks.LinfPGD(abs_stepsize=budget / 8, steps=20, random_start=True)
        return np.asarray(attack(wrapped, inputs, labels, epsilons=budget)[1].numpy())


def test_the_worse_of_two_answers() -> None:
    cases, weights = points(20)
    model = linear(weights)
    clean = ask(model, cases, keep=True)
    moved = ask(model, replace(cases, inputs=np.asarray(cases.inputs) + 1), keep=True)
    both = worse(clean, moved)
    np.testing.assert_array_equal(both.margins, np.minimum(clean.margins, moved.margins))
    assert (both.queries == 2).all()
    swapped = moved.margins < clean.margins
    assert 0 < swapped.sum() < 20
    np.testing.assert_array_equal(np.asarray(both.inputs)[swapped], np.asarray(moved.inputs)[swapped])
    np.testing.assert_array_equal(both.ends_in[~swapped], clean.ends_in[~swapped])


def test_between_the_numbers_of_records_the_model_is_the_same(
    pictures: tuple[TorchClassifier, Cases],
) -> None:
    model, cases = pictures
    inputs = np.asarray(cases.inputs)
    between = model.between(inputs)
    whole = between.predict_proba(replace(cases, inputs=inputs.astype(np.float64)))
    np.testing.assert_allclose(whole, model.predict_proba(cases), atol=1e-6)
    half = between.predict_proba(replace(cases, inputs=np.minimum(inputs + 0.5, 255)))
    assert (abs(half - whole) > 1e-6).any()

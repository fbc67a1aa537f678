from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from sklearn.metrics import roc_auc_score

from primum.errors import InputError, ModelError
from primum.fit.classifier_recipe import ClassifierRecipe, save_classifier
from primum.fit.loop import LoopSettings
from primum.fit.networks import ScatteringNetwork
from primum.models.torch_door import TorchClassifier, open_torch
from primum.records.cases import Cases
from primum.records.ragged import IntArray
from primum.train import private_linear
from primum.train.accounting import PrivacyLedger, epsilon_spent
from primum.train.private_linear import Floats, LinearSettings, fit_private_linear

SEEDED = LinearSettings(seed=3)
reckoned_once = lru_cache(private_linear.mechanisms_of)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise for the same settings is reckoned once."""
    monkeypatch.setattr(
        private_linear, "mechanisms_of", lambda settings: reckoned_once(replace(settings, seed=0))
    )


def cases(patients: int, *, each: int = 1, side: int = 8, seed: int = 0) -> Cases:
    """Images that are striped one way or the other; a patient's are not next to each other."""
    rng = np.random.default_rng(seed)
    subjects = np.tile(np.arange(patients), each)
    labels = subjects % 2
    stripes = np.where(np.arange(side) % 2 == 0, 90, 0)
    striped = np.where(labels[:, None, None] == 1, stripes[:, None], stripes[None])
    images = (striped + rng.integers(0, 160, (len(labels), side, side))).astype(np.uint8)
    return Cases(np.arange(len(labels)), subjects, images[:, None], labels)


def untrained(train: Cases, classes: int = 2) -> TorchClassifier:
    names = tuple(map(str, range(classes)))
    return ClassifierRecipe("scattering", names, LoopSettings(1), 1).build(train, seed=0)


def network(model: TorchClassifier) -> ScatteringNetwork:
    assert isinstance(model.module, ScatteringNetwork)
    return model.module


def prepared(given: Cases) -> torch.Tensor:
    return torch.from_numpy(np.asarray(given.inputs, np.float32) / 255)


def odds(model: TorchClassifier, given: Cases) -> Any:
    logits = model.logits(given)
    assert logits is not None
    return logits[:, 1] - logits[:, 0]


def private(model: TorchClassifier, train: Cases, **settings: Any) -> PrivacyLedger:
    ledger = fit_private_linear(model, train, settings=replace(SEEDED, **settings))
    assert ledger is not None
    return ledger


def sample(counts: list[int], *, features: int = 7, classes: int = 3, seed: int = 0) -> tuple[Any, Floats]:
    """Features and residuals of patients with so many cases each."""
    rng, cases = np.random.default_rng(seed), sum(counts)
    drawn = rng.standard_normal((cases, features)).astype(np.float32)
    starts: IntArray = np.cumsum([0, *counts[:-1]])
    residuals = rng.standard_normal((cases, classes)).astype(np.float32)
    return private_linear.Sample(drawn, np.arange(cases) % classes, starts), residuals


@pytest.mark.parametrize("counts", [[1] * 12, [1, 4, 2, 1, 9]])
@pytest.mark.parametrize("clip", [0.3, 1.0, 50.0])
def test_theclipped_sum_is_that_of_opacus(counts: list[int], clip: float) -> None:
    held, _ = sample(counts)
    layer = torch.nn.Linear(7, 3, bias=False)
    weights = layer.weight.detach().numpy().copy()
    wrapped = GradSampleModule(layer, loss_reduction="sum")
    optimiser = DPOptimizer(
        torch.optim.SGD(wrapped.parameters(), lr=1.0),
        noise_multiplier=0,
        max_grad_norm=clip,
        expected_batch_size=1,
    )
    features, labels = torch.from_numpy(held.features), torch.from_numpy(held.labels)
    given = features.clone().requires_grad_()  # else torch's hooks warn
    torch.nn.functional.cross_entropy(wrapped(given), labels, reduction="sum").backward()  # type: ignore[no-untyped-call]
    every = wrapped.get_parameter("_module.weight")
    owner = np.repeat(np.arange(len(counts)), counts)
    every.grad_sample = torch.stack([every.grad_sample[owner == one].mean(0) for one in range(len(counts))])
    optimiser.step()
    residuals = torch.softmax(features @ torch.from_numpy(weights).T, 1) - torch.eye(3)[labels]
    found = private_linear.clipped_sum(held, residuals.numpy(), clip)
    np.testing.assert_allclose(found, weights - layer.weight.detach().numpy(), atol=2e-5)


@pytest.mark.parametrize("counts", [[1, 1, 1, 1], [3, 200, 1, 2], [1, 1, 1, 500]])
def test_a_patient_more_or_less_moves_the_sum_by_the_clip_at_most(counts: list[int]) -> None:
    held, residuals = sample(counts, seed=4)
    all_of_them = private_linear.clipped_sum(held, 100 * residuals, 0.7)
    for gone, (start, count) in enumerate(zip(held.starts, counts, strict=True)):
        kept = np.r_[:start, start + count : len(held.labels)]
        starts = np.delete(held.starts - np.where(np.arange(len(counts)) > gone, count, 0), gone)
        fewer = private_linear.Sample(held.features[kept], held.labels[kept], starts)
        left = private_linear.clipped_sum(fewer, 100 * residuals[kept], 0.7)
        assert 0.69 < np.linalg.norm(all_of_them - left) <= 0.7 * (1 + 1e-5)


def test_a_patient_counts_once_in_the_centre_however_many_images() -> None:
    """What everyone adds is a vector of norm 1 at most: the mean of that patient's."""
    train = cases(6, each=3)
    order = np.argsort(train.subject_ids, kind="stable")
    lopsided = train.select(np.concatenate([order[:3], order[3:][::3]]))  # one patient of three, five of one
    model = untrained(train)
    fit_private_linear(model, lopsided, settings=LinearSettings(epsilon=None))
    with torch.inference_mode():
        units = network(model).unit_vectors(prepared(lopsided))
    expected = torch.cat([units[:3].mean(0, keepdim=True), units[3:]]).mean(0)
    torch.testing.assert_close(network(model).centre, expected, atol=1e-6, rtol=1e-4)


def test_noise_has_the_deviations_that_the_ledger_counts_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_linear, "_NOISE_A_STEP", 1e9)
    train, steps = cases(40, side=16), 4
    model, still = untrained(train), untrained(train)
    fit_private_linear(still, train, settings=LinearSettings(epsilon=None, steps=1))
    how = {"steps": steps, "clip": 1e-3, "learning_rate": 2.0, "epsilon": 4.0}
    ledger = private(model, train, **how)
    centre, gradients = ledger.mechanisms
    moved = (network(model).centre - network(still).centre).numpy()
    assert len(moved) == 81 * 4
    assert moved.std() == pytest.approx(centre.noise_multiplier / 40, rel=0.2)  # five standard errors
    # The mean of the weights after steps 3 and 4: all noise of the first three steps, half that of the last.
    weights = network(model).last.weight.detach().numpy()
    strength = 2.0 * gradients.noise_multiplier * 1e-3 / 40 * np.sqrt(3.25)
    assert weights.std() == pytest.approx(strength, rel=0.15)
    assert np.abs(np.corrcoef(weights)[0, 1]) < 0.2


def test_steps_are_shorter_where_noise_is_stronger() -> None:
    train = cases(40, side=16)
    model = untrained(train)
    ledger = private(model, train, epsilon=2.0, clip=1e-3, learning_rate=1e9, steps=1)
    assert ledger.mechanisms[1].steps == 1
    assert network(model).last.weight.detach().numpy().std() == pytest.approx(0.25, rel=0.15)


@pytest.mark.parametrize("epsilon", [0.8, 6.0])
def test_the_promise_is_kept_and_nearly_used_up(epsilon: float) -> None:
    train = cases(60, each=2)
    ledger = private(untrained(train), train, epsilon=epsilon, steps=10, unit="record", clip=0.5)
    assert 0.99 * epsilon < ledger.epsilon <= epsilon
    assert ledger.epsilon == epsilon_spent(ledger.mechanisms, 1e-5)
    assert [(one.of, one.sampling_rate, one.steps) for one in ledger.mechanisms] == [
        ("centre", 1.0, 1),
        ("gradients", 1.0, 10),
    ]
    whom = ledger.unit, ledger.patients, ledger.records, ledger.clip, ledger.delta, ledger.steps
    assert whom == ("record", 60, 120, 0.5, 1e-5, 10)
    alone = epsilon_spent(ledger.mechanisms[1:], 1e-5)
    assert 0.9 * ledger.epsilon < alone < ledger.epsilon  # the centre costs, and under a tenth


def test_it_learns_privately_and_is_a_plain_model_again(tmp_path: Path) -> None:
    train, held_out = cases(600), cases(200, seed=1)
    model, told = untrained(train), list[tuple[int, int]]()
    ledger = fit_private_linear(
        model, train, settings=SEEDED, progress=lambda taken, steps: told.append((taken, steps))
    )
    assert ledger is not None and told == [(taken + 1, 30) for taken in range(30)]
    assert roc_auc_score(held_out.labels, odds(model, held_out)) > 0.9
    place = save_classifier(tmp_path, model)
    assert place.endswith(":scattering_1x8x8_2_1")
    opened = open_torch(tmp_path, factory=place).predictor
    np.testing.assert_array_equal(opened.predict_proba(held_out), model.predict_proba(held_out))
    assert not network(model).last.weight.grad and len(model.embed(held_out)) == 200


def test_without_epsilon_it_is_the_same_descent_without_noise_and_clipping() -> None:
    train = cases(50, each=2)
    model = untrained(train)
    settings = LinearSettings(epsilon=None, clip=1e-6, steps=4, learning_rate=3.0)
    assert fit_private_linear(model, train, settings=settings) is None
    with torch.no_grad():
        features = network(model).from_centre(network(model).unit_vectors(prepared(train)))
    weights = torch.zeros(2, features.shape[1], requires_grad=True)
    passed = []
    for _ in range(4):
        loss = torch.nn.functional.cross_entropy(features @ weights.T, torch.from_numpy(train.labels))
        (gradient,) = torch.autograd.grad(loss, weights)
        weights = (weights - 3.0 * gradient).detach().requires_grad_()
        passed.append(weights)
    expected = (passed[2] + passed[3]) / 2
    torch.testing.assert_close(network(model).last.weight.detach(), expected.detach(), atol=1e-5, rtol=1e-3)


def test_a_seed_repeats_a_fit_and_its_absence_does_not() -> None:
    train = cases(60)
    fits = {}
    for seed in (7, None):
        models = [untrained(train), untrained(train)]
        ledgers = [private(one, train, seed=seed) for one in models]
        fits[seed] = [network(one).last.weight.detach() for one in models]
        assert ledgers[0].randomness_is_secret == (seed is None)
    assert torch.equal(*fits[7]) and not torch.equal(*fits[None])


def test_what_the_layer_held_before_and_the_order_of_cases_do_not_matter() -> None:
    train = cases(60, each=2)
    one, other = untrained(train), untrained(train)
    private(other, cases(60, seed=5))
    private(one, train)
    private(other, train.select(np.random.default_rng(0).permutation(len(train))))
    for name, value in network(one).state_dict().items():
        torch.testing.assert_close(value, network(other).state_dict()[name], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"epsilon": 0.0}, "above zero, not 0.0"),
        ({"epsilon": -1.0}, "above zero, not -1.0"),
        ({"epsilon": float("nan")}, "above zero, not nan"),
        ({"delta": 0.0}, "between zero and one, not 0.0"),
        ({"delta": 2.0}, "between zero and one, not 2.0"),
        ({"delta": float("nan")}, "between zero and one, not nan"),
        ({"clip": 0.0}, "must be numbers above zero"),
        ({"clip": float("inf")}, "must be numbers above zero"),
        ({"steps": 0}, "must be numbers above zero"),
        ({"learning_rate": float("nan")}, "must be numbers above zero"),
        ({"epsilon": 0.1}, "as strong as .* patients and there are 60: ask for a larger epsilon"),
    ],
)
def test_budgets_that_are_refused(settings: dict[str, float], sentence: str) -> None:
    train = cases(60)
    model = untrained(train)
    before = network(model).last.weight.clone()
    with pytest.raises(InputError, match=sentence):
        private(model, train, **settings)
    assert torch.equal(before, network(model).last.weight)


def test_models_and_cases_that_are_refused() -> None:
    train = cases(60)
    other = ClassifierRecipe("image", ("a", "b"), LoopSettings(1), 16).build(train, seed=0)
    with pytest.raises(InputError, match="Only the network scattering, for images"):
        private(other, train)
    with pytest.raises(InputError, match="there are 0: ask"):
        fit_private_linear(
            untrained(train), train.select(np.arange(0)), settings=LinearSettings(epsilon=None)
        )
    images = np.asarray(train.inputs, np.float32)
    images[7, 0, 3, 3] = np.nan
    with pytest.raises(InputError, match="NaN or infinite numbers: correct them"):
        private(untrained(train), replace(train, inputs=images))
    with pytest.raises(ModelError, match=r"takes inputs of shape \[1, 8, 8\]"):
        private(untrained(train), cases(60, side=12))

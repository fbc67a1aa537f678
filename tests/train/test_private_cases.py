"""Gradients of patients, against one backward pass each."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from opacus import GradSampleModule

from primum.errors import InputError
from primum.fit.classifier_recipe import ClassifierRecipe
from primum.fit.loop import LoopSettings
from primum.models.torch_door import TorchClassifier
from primum.records.cases import Cases
from primum.records.synthetic_cases import SYNTHETIC_CASES
from primum.train.accounting import Mechanism, PrivacyLedger, epsilon_spent
from primum.train.private import PrivateSettings
from primum.train.private_cases import MOST_CASES, CaseGradients, fit_private_cases

NETWORKS = ("image", "vision_transformer", "table", "signal", "sequence", "volume", "bag")


def made(network: str, patients: int = 12) -> tuple[TorchClassifier, Cases]:
    make, classes = SYNTHETIC_CASES["image" if network == "vision_transformer" else network]
    cases = make(patients, seed=1)
    return ClassifierRecipe(network, classes, LoopSettings(1), 8).build(cases, seed=0), cases


def gradient_of_one(model: TorchClassifier, cases: Cases, rows: np.ndarray) -> list[torch.Tensor]:
    """The slow way: the mean over a patient's cases, one backward pass each."""
    model.module.zero_grad()
    for row in rows.tolist():
        prepared = torch.from_numpy(model.card.input.prepared(cases.inputs[row][None]))
        loss = torch.nn.functional.cross_entropy(model.module(prepared), torch.tensor([cases.labels[row]]))
        (loss / len(rows)).backward()  # type: ignore[no-untyped-call]
    return [weight.grad.clone() for weight in model.module.parameters() if weight.grad is not None]


@pytest.mark.parametrize("network", NETWORKS)
def test_gradients_of_each_patient_equal_the_loop(network: str) -> None:
    model, cases = made(network)
    gradients = CaseGradients(model.module, cases, taking=model.card.input)
    people = np.unique(cases.subject_ids)
    drawn = np.array([0, 3, len(people) - 1])
    assert (gradients.patients, gradients.records) == (len(people), len(cases))
    assert len(list(_each(gradients, drawn))) == 1
    found = left_in(model)
    for place, patient in enumerate(drawn):
        expected = gradient_of_one(model, cases, np.flatnonzero(cases.subject_ids == people[patient]))
        for of_all, of_one in zip(found, expected, strict=True):
            torch.testing.assert_close(of_all[place], of_one, atol=5e-6, rtol=1e-4)


def left_in(model: TorchClassifier) -> list[Any]:
    """The gradients that were left, one a patient."""
    return [weight.__dict__["grad_sample"].clone() for weight in model.module.parameters()]


def _each(gradients: CaseGradients, drawn: np.ndarray) -> Any:
    return gradients(drawn, np.random.default_rng(0))


def test_gradients_equal_those_of_opacus() -> None:
    model, cases = made("image")
    single = cases.select(np.unique(cases.subject_ids, return_index=True)[1])
    list(_each(CaseGradients(model.module, single, taking=model.card.input), np.arange(len(single))))
    ours = left_in(model)
    wrapped = GradSampleModule(model.module.train(), loss_reduction="sum")
    logits = wrapped(torch.from_numpy(model.card.input.prepared(np.asarray(single.inputs))).requires_grad_())
    losses = torch.nn.functional.cross_entropy(logits, torch.from_numpy(single.labels), reduction="sum")
    losses.backward()  # type: ignore[no-untyped-call]
    for weight, mine in zip(wrapped.parameters(), ours, strict=True):
        torch.testing.assert_close(mine, weight.grad_sample, atol=5e-6, rtol=1e-4)


def test_of_many_cases_some_are_drawn_anew_and_copies_are_altered() -> None:
    model, cases = made("image")
    one = replace(cases, subject_ids=np.zeros(len(cases), np.int64))
    gradients = CaseGradients(model.module, one, taking=model.card.input, copies=2)
    random = np.random.default_rng(0)
    first, second = (gradients._drawn(0, random) for _ in range(2))
    assert len(first) == 2 * MOST_CASES and len(np.unique(first)) == MOST_CASES
    assert set(first.tolist()) != set(second.tolist())
    seen = []
    for copies in (0, 2):
        lone = CaseGradients(model.module, one.select(np.arange(1)), taking=model.card.input, copies=copies)
        list(_each(lone, np.arange(1)))
        seen.append(left_in(model)[0])
    assert not torch.allclose(*seen)


def moved(model: TorchClassifier, cases: Cases, **settings: Any) -> tuple[torch.Tensor, PrivacyLedger]:
    before = torch.cat([one.detach().flatten().clone() for one in model.module.parameters()]).double()
    wanted = {"epsilon": None, "noise_multiplier": 1e-6, "steps": 1, "optimiser": "sgd", "seed": 3}
    ledger = fit_private_cases(
        model, cases, settings=PrivateSettings(**{**wanted, "learning_rate": 1.0, **settings})
    )
    after = torch.cat([one.detach().flatten() for one in model.module.parameters()]).double()
    return after - before, ledger


def test_a_patient_of_many_cases_moves_the_sum_by_no_more_than_the_clip(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("primum.train.private.epsilon_spent", lambda mechanisms, delta: 0.0)
    _, cases = made("table", 30)
    many = np.where(np.arange(len(cases)) < 20, -1, cases.subject_ids)  # one patient of twenty cases
    whole, without = replace(cases, subject_ids=many), cases.select(np.arange(20, len(cases)))
    steps = []
    for part in (whole, without):
        model, _ = made("table", 30)
        people = len(np.unique(part.subject_ids))
        change, ledger = moved(model, part, expected_batch=people, clip=0.05)
        steps.append(change * people)
        assert ledger.mechanisms[0].sampling_rate == 1
    assert 0.04 < float((steps[0] - steps[1]).norm()) <= 0.05 * (1 + 1e-3)


def test_noise_has_the_deviation_that_the_ledger_counts_on() -> None:
    model, cases = made("image", 20)
    people = len(np.unique(cases.subject_ids))
    change, ledger = moved(model, cases, expected_batch=people, noise_multiplier=5.0, clip=1e-3)
    expected = 5.0 * 1e-3 / people
    assert len(change) > 1000 and float(change.std()) == pytest.approx(expected, rel=0.1)
    assert ledger.unit == "patient" and not ledger.randomness_is_secret
    assert ledger.mechanisms == (Mechanism("gradients", 5.0, 1.0, 1),)
    assert ledger.epsilon == epsilon_spent(ledger.mechanisms, 1e-5)
    assert not any(hasattr(weight, "grad_sample") for weight in model.module.parameters())


def test_averaged_weights_lie_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("primum.train.private.epsilon_spent", lambda mechanisms, delta: 0.0)
    ends = []
    for averaging in (0.0, 0.5):
        model, cases = made("table", 20)
        ends.append(moved(model, cases, expected_batch=10, steps=2, averaging=averaging)[0])
    first = moved(made("table", 20)[0], cases, expected_batch=10, steps=1)[0]
    # The first step starts the average, the second counts half.
    torch.testing.assert_close(ends[1], (first + ends[0]) / 2, atol=1e-6, rtol=1e-3)


def test_refusals() -> None:
    model, cases = made("image")
    model.module.append(torch.nn.BatchNorm1d(2))  # type: ignore[operator]
    with pytest.raises(InputError, match="group normalisation instead of BatchNorm1d"):
        moved(model, cases, expected_batch=2)
    model, cases = made("table")
    for settings, sentence in (
        ({"copies": 2}, "images only"),
        ({"averaging": 1.0}, "below one, not 1.0"),
        ({"noise_multiplier": None}, "give one of the two"),
        ({"epsilon": 8.0}, "give one of the two"),
        ({"noise_multiplier": -1.0}, "above zero, not -1.0"),
        ({"expected_batch": 100}, "lower the batch"),
    ):
        with pytest.raises(InputError, match=sentence):
            moved(model, cases, **{"expected_batch": 2, **settings})

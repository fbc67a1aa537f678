"""The coordinator's own cases: an update that turns a class round is seen by them."""

from typing import Any

import numpy as np
import pytest
import torch

from primum.errors import InputError
from primum.fit.classifier_recipe import ClassifierRecipe
from primum.fit.loop import LoopSettings
from primum.models.torch_door import TorchClassifier
from primum.records.cases import Cases
from primum.train.federated.answering import answer
from primum.train.federated.judge import changes, judge_of
from primum.train.federated.local_grid import LocalGrid
from primum.train.federated.rounds import run_rounds
from primum.train.federated.settings import FederatedSettings
from primum.train.federated.sites import Arrays, LinearSite, Round, load, travelling
from primum.train.federated.suspicion import suspicions
from primum.train.private_linear import LinearSettings


def images(seed: int, patients: int) -> Cases:
    """Images of 8 x 8 pixels; the ill have a bright half."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, patients)
    pixels = rng.integers(0, 128, (patients, 1, 8, 8))
    pixels[labels == 1, :, :, 4:] += 60
    return Cases(np.arange(patients), np.arange(patients), pixels.astype(np.uint8), labels)


HELD = images(5, 60)


def model_of(network: str) -> TorchClassifier:
    width = 8 if network == "image" else None
    return ClassifierRecipe(network, ("no", "yes"), LoopSettings(1), width).build(HELD, seed=0)


def weights_of(network: str, seed: int = 1) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    travels, _ = travelling(model_of(network).module)
    return {
        name: value + 0.1 * rng.standard_normal(value.shape).astype(np.float32)
        for name, value in travels.items()
    }


@pytest.mark.parametrize("network", ["scattering", "image"])
def test_recalls_are_those_of_the_model_with_these_weights(network: str) -> None:
    judge, weights, model = judge_of(model_of(network), HELD), weights_of(network), model_of(network)
    load(model.module, weights)
    said = model.predict_proba(HELD).argmax(1)
    expected = [np.mean(said[HELD.labels == one] == one) for one in (0, 1)]
    assert judge.recalls(weights) == pytest.approx(expected)
    other = weights_of(network, 2)
    after = {"north": {name: other[name] for name in other if name != "centre"}, "south": {}}
    found = changes(judge, weights, after)
    assert found["north"] == pytest.approx(judge.recalls({**weights, **after["north"]}) - expected)
    assert not found["south"].any()


def test_the_span_is_what_autograd_makes_of_each_class() -> None:
    judge, weights, model = (
        judge_of(model_of("scattering"), HELD),
        weights_of("scattering"),
        model_of("scattering"),
    )
    found = judge.span(weights)
    assert found is not None
    inputs = torch.from_numpy(model.card.input.prepared(np.asarray(HELD.inputs)))
    for at, factor in ((0, 1.0), (2, 0.0)):
        load(model.module, {**weights, "last.weight": factor * weights["last.weight"]})
        for label in (0, 1):
            rows = torch.from_numpy(HELD.labels == label)
            loss = torch.nn.functional.cross_entropy(
                model.module(inputs[rows]), torch.from_numpy(HELD.labels)[rows], reduction="sum"
            )
            (gradient,) = torch.autograd.grad(loss, list(model.module.parameters()))
            assert found[at + label] == pytest.approx(gradient.numpy().ravel(), rel=1e-3, abs=1e-4)
    assert judge_of(model_of("image"), HELD).span(weights_of("image")) is None


def test_too_few_of_a_class_judge_nobody() -> None:
    rows = np.flatnonzero((HELD.labels == 0) | (np.cumsum(HELD.labels) <= 9))
    with pytest.raises(InputError, match="hold 9 of the class yes"):
        judge_of(model_of("scattering"), HELD.select(rows))


class Flipped(LinearSite):
    """A site whose labels are turned round, and whose updates are as long as others' and among them."""

    def train(self, weights: Arrays, asked: Round) -> Arrays:
        honest = super().train(weights, asked)
        return honest if asked.number == 0 else {name: 2 * weights[name] - honest[name] for name in honest}


def test_who_spoils_recall_stands_out_by_it() -> None:
    cases = images(6, 120)
    parts = np.array_split(np.arange(len(cases)), 6)
    settings = LinearSettings(epsilon=None)
    sites = [
        (Flipped if place == 2 else LinearSite)(
            f"site {place}", model_of("scattering"), cases.select(rows), settings=settings
        )
        for place, rows in enumerate(parts)
    ]
    travels, before = travelling(model_of("scattering").module)
    grid = LocalGrid({place + 1: answer(site) for place, site in enumerate(sites)})
    asked = FederatedSettings(rounds=6, epochs=5, learning_rate=80.0)
    judge = judge_of(model_of("scattering"), HELD)
    standing = run_rounds(grid, travels, settings=asked, before=before, sites=6, judge=judge)
    worst = suspicions(standing.history)[0]
    assert (worst.site, worst.reason) == ("site 2", "recall")

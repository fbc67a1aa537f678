"""Whatever a training is interrupted by, going on gives the weights of an uninterrupted one, bit by bit."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from tests import tiny
from torch import nn

from primum.fit import resumption
from primum.fit.classifier_loop import fit_classifier
from primum.fit.classifier_recipe import ClassifierRecipe
from primum.fit.loop import LoopSettings, Progress, fit_model
from primum.models.torch_door import TorchClassifier
from primum.records.synthetic_cases import synthetic_images
from primum.train.private import PrivateSettings
from primum.train.private_cases import fit_private_cases
from primum.train.private_records import fit_private
from primum.workflows.kept_values import from_bytes, to_bytes

VOCABULARY = 20
TOKENS = tiny.random_batch([9, 14, 5, 12, 16, 2, 8, 11, 40], vocabulary=VOCABULARY)
OTHERS = tiny.random_batch([12] * 6, vocabulary=VOCABULARY, seed=9)
CASES = synthetic_images(20, seed=3)
LOOP = LoopSettings(epochs=5, batch=4, learning_rate=1e-2, patience=2)


class Shelf:
    """Keeps bytes, as a disk does."""

    def __init__(self) -> None:
        self.lying: dict[str, bytes] = {}

    def get(self, name: str) -> Any:
        return from_bytes(self.lying[name]) if name in self.lying else None

    def put(self, name: str, arrays: Mapping[str, Any], /) -> None:
        self.lying[name] = to_bytes(dict(arrays))


class Killed(Exception):
    pass


def classifier() -> TorchClassifier:
    return ClassifierRecipe("image", ("a", "b"), LOOP, 8).build(CASES, seed=1)


def plain_records(keep: Shelf | None, progress: Progress) -> nn.Module:
    model = tiny.build(vocabulary=VOCABULARY)
    fit_model(model, TOKENS, settings=LOOP, validation=OTHERS, keep=keep, progress=progress)
    return model.module


def dropping_out(keep: Shelf | None, progress: Progress) -> nn.Module:
    """Numbers of torch's own generator are drawn at every step."""
    model = tiny.build("gpt2", vocabulary=VOCABULARY)
    for part in model.module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.3
    torch.manual_seed(5)
    fit_model(model, TOKENS, settings=replace(LOOP, patience=None), keep=keep, progress=progress)
    return model.module


def plain_cases(keep: Shelf | None, progress: Progress) -> nn.Module:
    model = classifier()
    early, late = CASES.select(np.arange(0, 30)), CASES.select(np.arange(30, len(CASES)))
    settings = replace(LOOP, epochs=3, batch=8)
    fit_classifier(
        model.module, early, taking=model.card.input, settings=settings, validation=late, keep=keep,
        progress=progress,
    )  # fmt: skip
    return model.module


def private_records(keep: Shelf | None, progress: Progress) -> nn.Module:
    model = tiny.build(vocabulary=VOCABULARY)
    settings = PrivateSettings(None, noise_multiplier=3.0, steps=12, expected_batch=4, seed=2)
    fit_private(model, TOKENS, settings=settings, validation=OTHERS, keep=keep, progress=progress)
    return model.module


def private_cases(keep: Shelf | None, progress: Progress) -> nn.Module:
    model = classifier()
    settings = PrivateSettings(
        None, noise_multiplier=3.0, steps=8, expected_batch=6, averaging=0.8, copies=2, seed=2
    )
    fit_private_cases(model, CASES, settings=settings, keep=keep, progress=progress)
    return model.module


Run = Callable[[Shelf | None, Progress], nn.Module]


def killed_at(run: Run, place: int, shelf: Shelf) -> None:
    def progress(taken: int, steps: int) -> None:
        if taken == place:
            raise Killed

    with pytest.raises(Killed):
        run(shelf, progress)


@pytest.mark.parametrize(
    "run",
    [plain_records, dropping_out, plain_cases, private_records, private_cases],
    ids=lambda run: run.__name__,
)
def test_going_on_gives_the_same_weights(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    whole = run(None, lambda taken, steps: told.append(taken)).state_dict()
    monkeypatch.setattr(resumption, "SECONDS", 0.0)
    # Among them ends of epochs, and steps after which validation patients are asked.
    for places in ([len(told)], [2, 3, 5, len(told) - 1]):
        shelf, after = Shelf(), list[int]()
        for place in places:
            killed_at(run, place, shelf)
        torch.manual_seed(99)  # whatever else drew numbers in between
        again = run(shelf, partial(_hear, after)).state_dict()
        assert all(torch.equal(again[name], value) for name, value in whole.items()), places
        assert after == told[places[-1] :]


def _hear(told: list[int], taken: int, steps: int) -> None:
    told.append(taken)


def test_nothing_is_kept_before_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumption, "SECONDS", 3600.0)  # however slow the machine
    shelf = Shelf()
    plain_records(shelf, lambda taken, steps: None)
    assert not shelf.lying


def test_secret_noise_is_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ends of one interrupted run agree, although nobody could repeat the run."""
    monkeypatch.setattr(resumption, "SECONDS", 0.0)

    def run(keep: Shelf | None, progress: Progress) -> nn.Module:
        model = classifier()
        settings = PrivateSettings(None, noise_multiplier=3.0, steps=6, expected_batch=6)
        fit_private_cases(model, CASES, settings=settings, keep=keep, progress=progress)
        return model.module

    shelf = Shelf()
    killed_at(run, 3, shelf)
    lying = dict(shelf.lying)
    first = run(shelf, lambda taken, steps: None).state_dict()
    shelf.lying = lying
    second = run(shelf, lambda taken, steps: None).state_dict()
    other = run(None, lambda taken, steps: None).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests import tiny

from primum.fit.causal_recipe import SmallCausalRecipe
from primum.fit.loop import LoopSettings, fit_model, inputs_and_targets, loss_of
from primum.fit.protocol import Trainable
from primum.models.causal import CausalModel, logits_of
from primum.records.tokens import TokenBatch

VOCABULARY = 20
QUICK = LoopSettings(epochs=6, batch=4, learning_rate=1e-2)


def loss(model: CausalModel, tokens: TokenBatch) -> float:
    return -float(np.concatenate(model.log_probs(tokens)).mean())


def weights(model: CausalModel) -> torch.Tensor:
    return torch.cat([one.detach().flatten().clone() for one in model.module.parameters()])


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_training_learns_the_patients(architecture: str) -> None:
    model = tiny.build(architecture, vocabulary=VOCABULARY)
    train = tiny.random_batch([9, 14, 5, 12, 16, 2, 8, 11], vocabulary=VOCABULARY)
    before = loss(model, train)
    assert fit_model(model, train, settings=replace(QUICK, epochs=40)) == 80
    assert before == pytest.approx(np.log(VOCABULARY), abs=0.3)
    assert loss(model, train) < 0.5 * before


def test_windows_of_long_histories_are_all_learnt() -> None:
    """The last events of a history of five contexts are learnt as well as the first."""
    model = tiny.build(vocabulary=VOCABULARY, context=16)
    train = tiny.random_batch([70, 61], vocabulary=VOCABULARY)
    untouched = [scores.copy() for scores in model.log_probs(train)]
    fit_model(model, train, settings=LoopSettings(epochs=60, batch=4, learning_rate=1e-2))
    for before, after in zip(untouched, model.log_probs(train), strict=True):
        assert after[:15].mean() > before[:15].mean() + 1
        assert after[-10:].mean() > before[-10:].mean() + 1


def test_loss_of_a_window_is_the_mean_over_its_tokens_without_padding() -> None:
    model = tiny.build(vocabulary=VOCABULARY)
    ids = np.array([[1, 2, 3, 4], [5, 6, 0, 0]])
    found = loss_of(model.module, *inputs_and_targets(ids, np.array([4, 2])))
    with torch.no_grad():
        first = torch.log_softmax(logits_of(model.module, torch.tensor([[1, 2, 3, 4]]))[0], -1)
        second = torch.log_softmax(logits_of(model.module, torch.tensor([[5, 6]]))[0], -1)
    expected = [-(first[0, 2] + first[1, 3] + first[2, 4]) / 3, -second[0, 6]]
    torch.testing.assert_close(found.detach(), torch.stack(expected), atol=1e-5, rtol=0)


def test_same_seed_same_weights() -> None:
    train = tiny.random_batch([9] * 10, vocabulary=VOCABULARY)
    recipe = SmallCausalRecipe(QUICK, width=16, layers=1, heads=2, context=16)
    first, again, other = (weights(recipe.fit(train, seed=seed)) for seed in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert isinstance(recipe, Trainable)


def test_the_seed_shuffles_the_patients() -> None:
    train = tiny.random_batch([9] * 10, vocabulary=VOCABULARY)
    results = []
    for seed in (1, 2):
        model = tiny.build(vocabulary=VOCABULARY)
        fit_model(model, train, settings=QUICK, seed=seed)
        results.append(weights(model))
    assert not torch.equal(*results)


def test_building_leaves_the_random_numbers_of_the_caller() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    tiny.build(vocabulary=VOCABULARY, seed=9)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(("limit", "expected"), [(None, 18), (7, 7), (100, 18), (0, 0)])
def test_steps_are_counted_and_bounded(limit: int | None, expected: int) -> None:
    model, heard = tiny.build(vocabulary=VOCABULARY), []
    train = tiny.random_batch([9] * 10 + [1, 0], vocabulary=VOCABULARY)  # the last two predict nothing

    def listen(taken: int, steps: int) -> None:
        heard.append((taken, steps))

    before = weights(model)
    assert fit_model(model, train, settings=QUICK, max_steps=limit, progress=listen) == expected
    assert heard == [(step + 1, expected) for step in range(expected)]
    assert torch.equal(weights(model), before) == (expected == 0)


def test_patience_stops_and_goes_back_to_the_best_checkpoint() -> None:
    """Random histories cannot be generalised: validation gets worse while training gets better."""
    model = tiny.build(vocabulary=VOCABULARY)
    train = tiny.random_batch([12] * 8, vocabulary=VOCABULARY)
    validation = tiny.random_batch([12] * 8, vocabulary=VOCABULARY, seed=9)
    seen: list[float] = []

    def listen(taken: int, steps: int) -> None:
        if taken % 2 == 0:
            seen.append(loss(model, validation))

    settings = LoopSettings(epochs=50, batch=4, learning_rate=2e-2, patience=3)
    taken = fit_model(model, train, settings=settings, validation=validation, progress=listen)
    best = int(np.argmin(seen))
    assert taken == 2 * (best + 1 + 3)
    assert seen[-1] > seen[best]
    assert loss(model, validation) == pytest.approx(seen[best], abs=1e-6)


def test_without_patience_validation_changes_nothing() -> None:
    train = tiny.random_batch([12] * 8, vocabulary=VOCABULARY)
    results = []
    for validation in (None, tiny.random_batch([12] * 8, vocabulary=VOCABULARY, seed=9)):
        model = tiny.build(vocabulary=VOCABULARY)
        assert fit_model(model, train, settings=QUICK, validation=validation) == 12
        results.append(weights(model))
    assert torch.equal(*results)

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from primum.errors import InputError, RecordsError
from primum.fit import networks
from primum.fit.classifier_loop import mean_loss
from primum.fit.classifier_recipe import (
    ClassifierRecipe,
    leaky_classifier,
    plain_classifier,
    save_classifier,
)
from primum.fit.networks import NETWORKS, TableNetwork, build_network, kind_of
from primum.fit.protocol import ClassifierTrainable
from primum.models.classifier_card import Card, InputCard
from primum.models.predictors import CaseEmbedder, Differentiable, Predictor
from primum.models.torch_door import TorchClassifier, open_torch
from primum.records.cases import Cases
from primum.records.histories import FloatArray
from primum.records.synthetic_cases import (
    SYNTHETIC_CASES,
    BagSettings,
    CaseSettings,
    ImageSettings,
    SequenceSettings,
    split_patients,
)

SETTINGS = {
    "image": ImageSettings(),
    "bag": BagSettings(fewest=4, most=6),
    "sequence": SequenceSettings(letters=1_000),
}
EPOCHS = {
    "image": 6,
    "vision_transformer": 12,
    "volume": 5,
    "signal": 6,
    "bag": 12,
    "sequence": 10,
    "table": 10,
    "scattering": 12,
}


def splits(network: str, *, difficulty: float, patients: int = 80) -> tuple[Cases, Cases]:
    kind = kind_of(network)
    settings = replace(SETTINGS.get(kind, CaseSettings()), difficulty=difficulty)
    cases = SYNTHETIC_CASES[kind][0](2 * patients, seed=0, settings=settings)
    return tuple(split_patients(cases, {"train": patients, "held_out": patients}).values())  # type: ignore[return-value]


def quick(network: str, epochs: int) -> ClassifierRecipe:
    recipe = leaky_classifier(network)
    return replace(recipe, loop=replace(recipe.loop, epochs=epochs, batch=16))


def odds(model: TorchClassifier, cases: Cases) -> FloatArray:
    logits = model.logits(cases)
    assert logits is not None
    return logits[:, 1] - logits[:, 0]


def weights(model: TorchClassifier) -> torch.Tensor:
    return torch.cat([one.detach().flatten() for one in model.module.parameters()])


@pytest.fixture(scope="module", params=list(NETWORKS))
def trained(request: pytest.FixtureRequest) -> tuple[str, Cases, Cases, TorchClassifier]:
    network = request.param
    train, held_out = splits(network, difficulty=0.3)
    return network, train, held_out, quick(network, EPOCHS[network]).fit(train, seed=1)


Trained = tuple[str, Cases, Cases, TorchClassifier]


def test_every_network_learns_its_kind_of_case(trained: Trained) -> None:
    _, _, held_out, model = trained
    assert roc_auc_score(held_out.labels, odds(model, held_out)) > 0.95


def test_what_is_trained_answers_every_question(trained: Trained) -> None:
    network, _, held_out, model = trained
    assert isinstance(model, Predictor) and isinstance(model, CaseEmbedder)
    assert isinstance(model, Differentiable) == (network != "sequence")
    some = held_out.select(np.arange(3))
    np.testing.assert_allclose(model.predict_proba(some).sum(1), 1)
    vectors = model.embed(some)
    last = [one for one in model.module.modules() if isinstance(one, torch.nn.Linear)][-1]
    with torch.no_grad():
        logits = last(torch.from_numpy(vectors).float()).numpy()
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], odds(model, some), atol=1e-4)
    if network != "sequence":
        one = held_out.select(np.arange(1))
        _, gradient = model.loss_and_gradient(one, one.labels)
        assert gradient.shape == (1, *one.inputs[0].shape) and np.abs(gradient).max() > 0


def test_a_case_is_answered_alone(trained: Trained) -> None:
    """Whoever else is in the batch changes nothing but the last digits."""
    _, _, held_out, model = trained
    alone = [odds(model, held_out.select(np.array([row])))[0] for row in range(4)]
    np.testing.assert_allclose(odds(model, held_out)[:4], alone, atol=1e-3)


def test_what_is_saved_opens_again(trained: Trained, tmp_path: Path) -> None:
    _, _, held_out, model = trained
    opened = open_torch(tmp_path, factory=save_classifier(tmp_path, model))
    some = held_out.select(np.arange(5))
    np.testing.assert_array_equal(opened.predictor.predict_proba(some), model.predict_proba(some))
    assert opened.predictor.classes == model.classes
    assert opened.parameters == sum(one.numel() for one in model.module.parameters())
    assert any(name.startswith("factory primum.fit.networks:") for name in opened.ref.files)


def test_recipes_are_classifier_trainables() -> None:
    assert isinstance(leaky_classifier(), ClassifierTrainable)
    assert leaky_classifier("signal").classes == SYNTHETIC_CASES["signal"][1]


def test_same_seed_same_weights_and_the_caller_keeps_its_own() -> None:
    train, _ = splits("table", difficulty=1)
    recipe = quick("table", 3)
    state = torch.random.get_rng_state()
    first, again, other = (weights(recipe.fit(train, seed=seed)) for seed in (4, 4, 5))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(state, torch.random.get_rng_state())
    assert not torch.equal(weights(recipe.build(train, seed=4)), weights(recipe.build(train, seed=5)))


def test_over_training_remembers_patients_and_stopping_early_does_so_less() -> None:
    train, held_out = splits("table", difficulty=3, patients=40)
    validation, held_out = split_validation(held_out)

    def gap(recipe: ClassifierRecipe) -> float:
        model = recipe.fit(train, validation=validation, seed=0)
        score = [-np.logaddexp(0, -odds(model, part) * (2 * part.labels - 1)) for part in (train, held_out)]
        member = np.repeat([1, 0], [len(train), len(held_out)])
        return float(roc_auc_score(member, np.concatenate(score)))

    leaky, plain = gap(leaky_classifier("table")), gap(plain_classifier("table"))
    assert leaky > 0.7 and plain < leaky - 0.1


def split_validation(cases: Cases) -> tuple[Cases, Cases]:
    early = cases.subject_ids <= np.median(cases.subject_ids)
    return cases.select(np.flatnonzero(early)), cases.select(np.flatnonzero(~early))


def _tick(count: Iterator[int], _taken: int, _steps: int) -> None:
    next(count)


def test_the_checkpoint_is_the_best_on_validation() -> None:
    train, validation = splits("table", difficulty=3)
    losses, steps = [], []
    for patience in (None, 3, 1_000):
        recipe = quick("table", 25)
        recipe = replace(recipe, loop=replace(recipe.loop, patience=patience))
        count = itertools.count()
        model = recipe.fit(train, validation=validation, seed=0, progress=partial(_tick, count))
        steps.append(next(count))
        losses.append(mean_loss(model.module, validation, taking=model.card.input))
    assert losses[2] <= losses[1] < losses[0] and steps[1] < steps[2] == steps[0]
    of_truth = model.predict_proba(validation)[np.arange(len(validation)), validation.labels]
    np.testing.assert_allclose(losses[2], -np.log(of_truth).mean(), rtol=1e-5)


def test_steps_are_bounded_and_told() -> None:
    train, _ = splits("table", difficulty=1)
    told: list[tuple[int, int]] = []
    recipe = quick("table", 5)
    recipe.fit(train, max_steps=7, seed=0, progress=lambda taken, steps: told.append((taken, steps)))
    assert told == [(taken, 7) for taken in range(1, 8)]
    told.clear()
    recipe.fit(train, seed=0, progress=lambda taken, steps: told.append((taken, steps)))
    every = 5 * -(-len(train) // 16)
    assert told[-1] == (every, every) and len(told) == every
    assert torch.equal(weights(recipe.fit(train, max_steps=0, seed=2)), weights(recipe.build(train, seed=2)))


def test_tables_are_scaled_and_missing_values_are_seen() -> None:
    rows = torch.tensor([[1.0, 1e6, 5.0], [3.0, float("nan"), 5.0]])
    module = TableNetwork((3,), 2, 8)
    module.scale_to(rows)
    assert module.centre.tolist() == [2.0, 1e6, 5.0] and module.scale.tolist() == [1.0, 1.0, 1.0]
    mean = torch.tensor([[2.0, 1e6, 5.0]])
    missing = torch.tensor([[2.0, float("nan"), 5.0]])
    assert module(missing).isfinite().all() and not torch.equal(module(mean), module(missing))


def test_sizes_and_names() -> None:
    def count(name: str, shape: tuple[int, ...], **width: int) -> int:
        module = build_network(name, shape=shape, classes=2, **width)
        return sum(one.numel() for one in module.parameters())

    assert 55_000 < count("image", (1, 28, 28)) < 65_000
    assert count("image", (1, 28, 28), width=16) < 10_000
    assert not [
        one for name, shape in (("image", (1, 28, 28)), ("volume", (1, 16, 32, 32)))
        for one in build_network(name, shape=shape, classes=3).modules()
        if "BatchNorm" in type(one).__name__
    ]  # fmt: skip
    made = networks.vision_transformer_3x32x32_5_16()
    assert made(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


@pytest.mark.parametrize("shape", [(1, 28, 28), (2, 9, 14), (1, 7, 4)])
def test_images_are_answered_alike_with_and_without_a_gradient(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    module, images = build_network("image", shape=shape, classes=2).eval(), torch.randn(6, *shape)
    images[0, 0, 0, 0] = np.nan
    with torch.inference_mode():
        fast = module(images)
    assert torch.isnan(fast[0]).all() and not torch.isnan(fast[1:]).any()
    torch.testing.assert_close(fast, module(images).detach(), rtol=0, atol=0, equal_nan=True)


def test_small_letters_are_letters_and_anything_else_is_none() -> None:
    module = build_network("sequence", shape=(40,), classes=2)
    texts = [b"ACGTN" * 8, b"acgtn" * 8, b"ACGT-" * 8]
    found = module(torch.tensor([list(text) for text in texts]))
    torch.testing.assert_close(found[1:], found[:1].expand(2, 2))
    assert not torch.allclose(found[0], module(torch.tensor([list(b"TGCAN" * 8)]))[0])


def test_what_cannot_be_done_is_said_in_a_sentence(tmp_path: Path) -> None:
    train, _ = splits("table", difficulty=1)
    none = train.select(np.arange(0))
    card = Card(("a", "b"), "logits", InputCard())
    stranger = TorchClassifier(torch.nn.Linear(38, 2), ("a", "b"), card)
    bad: list[tuple[Any, type[Exception], str]] = [
        (lambda: quick("table", 1).fit(none), RecordsError, "no cases to train on"),
        (
            lambda: replace(quick("table", 1), network="forest").fit(train),
            InputError,
            "no network named forest",
        ),
        (lambda: save_classifier(tmp_path, stranger), InputError, "a recipe of Primum"),
        (lambda: networks.forest_1x28x28_2_64, AttributeError, "forest"),
        (lambda: networks.image, AttributeError, "image"),
    ]
    for action, kind, sentence in bad:
        with pytest.raises(kind, match=re.escape(sentence)):
            action()
    assert not list(tmp_path.iterdir())

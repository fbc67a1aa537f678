"""Forgetting: what never saw a patient is kept, and the rest is what training without the patient gives."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from primum.fit.classifier_recipe import ClassifierRecipe
from primum.fit.ensemble import Ensemble
from primum.fit.loop import LoopSettings
from primum.models.torch_door import TorchClassifier
from primum.records.cases import Cases
from primum.records.synthetic_cases import synthetic_table
from primum.train.learners import CaseLearner
from primum.train.shards import ShardSettings, Stage, places_of, train_shards

PATIENTS = 60
CASES = synthetic_table(PATIENTS, seed=2)
SETTINGS = ShardSettings(3, 4, seed=1)


class Shelf(dict[str, Any]):
    """Keeps in memory."""

    def put(self, name: str, arrays: Mapping[str, Any], /) -> None:
        self[name] = {one: np.array(value) for one, value in arrays.items()}


def without(*patients: int) -> Cases:
    return CASES.select(np.flatnonzero(~np.isin(CASES.subject_ids, patients)))


def trained(cases: Cases, shelf: Any = None, **settings: Any) -> tuple[list[TorchClassifier], list[Stage]]:
    recipe = ClassifierRecipe("table", ("no", "yes"), LoopSettings(4, batch=8, learning_rate=1e-2), 8)
    learner = CaseLearner(recipe, cases)
    keep = Shelf() if shelf is None else shelf
    found: tuple[list[TorchClassifier], list[Stage]] = train_shards(
        learner, replace(SETTINGS, **settings), described={"recipe": "table"}, keep=keep
    )
    return found


def weights(models: list[TorchClassifier]) -> list[torch.Tensor]:
    return [value for model in models for value in model.module.state_dict().values()]


def same(one: list[TorchClassifier], other: list[TorchClassifier]) -> bool:
    return all(map(torch.equal, weights(one), weights(other)))


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    """What a first training leaves."""
    kept = Shelf()
    trained(CASES, kept)
    return kept


def test_who_comes_or_goes_moves_nobody_else() -> None:
    people = np.arange(1000)
    shard, part = places_of(people, SETTINGS)
    assert np.bincount(shard).tolist() == pytest.approx([1000 / 3] * 3, abs=60)
    assert len(np.unique(shard * 4 + part)) == 12
    fewer = np.delete(people, [3, 500])
    for all_places, places in zip((shard, part), places_of(fewer, SETTINGS), strict=True):
        assert np.array_equal(places, np.delete(all_places, [3, 500]))
    other, _ = places_of(people, replace(SETTINGS, seed=2))
    assert not np.array_equal(other, shard)


@pytest.mark.parametrize("count", [1, 10])
def test_forgetting_is_training_without_them_bit_by_bit(count: int, shelf: Shelf) -> None:
    gone = np.unique(CASES.subject_ids)[:count]
    models, stages = trained(without(*gone), Shelf(shelf))
    fresh, every = trained(without(*gone))
    assert same(models, fresh) and not same(models, trained(CASES)[0])
    assert [stage.key for stage in stages] == [stage.key for stage in every]
    shard, part = places_of(gone, SETTINGS)
    for stage in stages:
        saw = bool(((shard == stage.shard) & (part <= stage.slice)).any())
        assert stage.found != saw and stage.steps > 0, stage
    assert not any(stage.found for stage in every)
    assert [stage.steps for stage in stages] == [stage.steps for stage in every]


def test_nothing_is_repeated_for_nobody(shelf: Shelf) -> None:
    models, stages = trained(CASES, Shelf(shelf))
    assert all(stage.found for stage in stages) and len(stages) == 12
    assert sum(stage.patients for stage in stages if stage.slice == 3) == PATIENTS
    assert same(models, trained(CASES)[0])


@pytest.mark.parametrize(
    "change",
    [
        {"labels": 1 - CASES.labels},
        {"inputs": np.asarray(CASES.inputs) + 1},
    ],
)
def test_any_change_of_what_is_seen_repeats_its_stages(change: Any, shelf: Shelf) -> None:
    _, stages = trained(replace(CASES, **change), Shelf(shelf))
    assert not any(stage.found for stage in stages)


def test_another_seed_or_validation_repeats_everything(shelf: Shelf) -> None:
    assert not any(stage.found for stage in trained(CASES, Shelf(shelf), seed=5)[1])
    learner = CaseLearner(
        ClassifierRecipe("table", ("no", "yes"), LoopSettings(1, batch=8), 8), without(1), CASES
    )
    one, other = Shelf(), Shelf()
    for kept, validation in ((one, CASES), (other, without(2))):
        train_shards(replace(learner, validation=validation), SETTINGS, described={}, keep=kept)
    assert not {name for name in one if name.startswith("stage")} & other.keys()


def test_a_damaged_stage_is_not_taken() -> None:
    """Where a stage is missing, what follows of the same shard is found again by its key."""
    kept = Shelf()
    models, stages = trained(CASES, kept)
    del kept[f"stage-{stages[1].key}"]
    again, repeated = trained(CASES, kept)
    assert [not stage.found for stage in repeated] == [place == 1 for place in range(12)]
    assert same(models, again)


def test_shards_answer_by_the_mean_of_their_probabilities() -> None:
    models, _ = trained(CASES)
    together = CaseLearner(None, CASES).together(models)  # type: ignore[arg-type]
    assert isinstance(together.module, Ensemble)
    mean = np.mean([model.predict_proba(CASES) for model in models], axis=0)
    np.testing.assert_allclose(together.predict_proba(CASES), mean, atol=1e-6)
    assert CaseLearner(None, CASES).together(models[:1]) is models[0]  # type: ignore[arg-type]

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from tests import tiny
from tests.workflows.conftest import World

from primum.errors import InputError, VocabularyError
from primum.fit.protocol import Trainable
from primum.models.opened import OpenedModel
from primum.models.protocols import Scorer
from primum.records.histories import FloatArray, InMemory
from primum.records.ragged import IntArray
from primum.records.tokens import Kind, TokenBatch
from primum.records.vocabulary import Vocabulary
from primum.workflows.audit import run_audit
from primum.workflows.plan import AuditPlan
from primum.workflows.references import (
    FoldedReference,
    folded_reference,
    folded_references,
    reference_losses,
    train_references,
)


@dataclass
class Recorder:
    """Scores every token -seed - 1 and remembers whom it was trained on and asked about."""

    seed: int = 0
    train: set[int] = field(default_factory=set)
    validation: set[int] = field(default_factory=set)
    asked: list[int] = field(default_factory=list)

    def log_probs(self, tokens: TokenBatch) -> list[FloatArray]:
        self.asked += tokens.subject_ids.tolist()
        return [np.full(max(0, length - 1), -1.0 - self.seed) for length in tokens.lengths]


@dataclass
class Recipe:
    """Hands out recorders instead of models."""

    made: list[Recorder] = field(default_factory=list)

    def fit(
        self, train: TokenBatch, *, validation: TokenBatch | None, max_steps: int | None, seed: int
    ) -> Recorder:
        assert validation is not None
        assert max_steps is None
        trained, checked = set(train.subject_ids.tolist()), set(validation.subject_ids.tolist())
        assert len(trained) == len(train)
        self.made.append(Recorder(seed, trained, checked))
        return self.made[-1]


def ids(first: int, count: int) -> IntArray:
    return np.arange(first, first + count)


def test_fakes_are_what_they_stand_for() -> None:
    assert isinstance(Recorder(), Scorer)
    assert isinstance(Recipe(), Trainable)


def test_no_fold_is_asked_about_its_own_patients() -> None:
    held_out, members = ids(1000, 40), ids(1, 200)
    first, second = Recorder(1), Recorder(2)
    folded = FoldedReference(first, second, held_out[:20], held_out[20:], seed=0)
    tokens = tiny.random_batch([3] * 240, vocabulary=9)
    tokens = replace(tokens, subject_ids=np.random.default_rng(0).permutation([*held_out, *members]))
    rows = folded.log_probs(tokens)
    assert set(held_out[20:].tolist()) <= set(first.asked)
    assert set(held_out[:20].tolist()) <= set(second.asked)
    assert not set(first.asked) & set(held_out[:20].tolist())
    assert not set(second.asked) & set(held_out[20:].tolist())
    assert sorted(first.asked + second.asked) == sorted(tokens.subject_ids.tolist())
    for subject, row in zip(tokens.subject_ids.tolist(), rows, strict=True):
        assert row.tolist() == [-2.0, -2.0] if subject in first.asked else [-3.0, -3.0]
    drawn = len(set(first.asked) & set(members.tolist()))
    assert abs(drawn - 100) < 4 * 50**0.5  # a fair coin for each member


def test_the_coin_of_a_member_does_not_depend_on_the_shard() -> None:
    tokens = tiny.random_batch([3] * 60, vocabulary=9, first_subject=2**40)
    folded = FoldedReference(Recorder(1), Recorder(2), ids(1, 2), ids(3, 2), seed=5)
    together = np.stack(folded.log_probs(tokens))
    apart = [folded.log_probs(tokens.select(np.array([place])))[0] for place in reversed(range(60))]
    assert np.array_equal(together, np.stack(apart)[::-1])
    other = np.stack(replace(folded, seed=6).log_probs(tokens))
    assert not np.array_equal(together, other)


def test_folds_are_halves_of_the_held_out_patients(world: World) -> None:
    recipe = Recipe()
    held_out = InMemory((world.others,))
    folded = folded_reference(recipe, world.opened().tokenizer, held_out, seed=3)
    halves = [model.train | model.validation for model in recipe.made]
    assert [len(half) for half in halves] == [30, 30]
    assert halves[0] | halves[1] == set(world.others.subject_ids.tolist())
    assert halves == [set(folded.seen_by_first.tolist()), set(folded.seen_by_second.tolist())]
    assert all(model.validation and not model.train & model.validation for model in recipe.made)
    assert [model.seed for model in recipe.made] == [3, 4]


def test_references_of_tuning_patients_see_only_these(world: World) -> None:
    recipe = Recipe()
    tuning = InMemory((world.others,))
    models = train_references(recipe, world.opened().tokenizer, tuning, count=3, seed=5)
    assert models == recipe.made
    assert [model.seed for model in recipe.made] == [5, 6, 7]
    for model in recipe.made:
        assert model.train | model.validation == set(world.others.subject_ids.tolist())
        assert not model.train & model.validation
    assert recipe.made[0].validation != recipe.made[1].validation


def test_references_that_name_patients_see_another_half_each(world: World) -> None:
    recipe = Recipe()
    train_references(recipe, world.opened().tokenizer, InMemory((world.others,)), count=16, seed=5)
    seen = [frozenset(model.train | model.validation) for model in recipe.made]
    everyone = set(world.others.subject_ids.tolist())
    assert len(set(seen)) == 16
    for half in seen:
        assert len(half) == 30 and half < everyone
    assert frozenset(everyone) == frozenset().union(*seen)


def test_pairs_of_held_out_references_score_each_patient_without_having_seen_it(world: World) -> None:
    recipe = Recipe()
    held_out = InMemory((world.others,))
    pairs = folded_references(recipe, world.opened().tokenizer, held_out, count=3, seed=7)
    assert len(pairs) == 3 and len(recipe.made) == 6
    assert len({frozenset(model.train | model.validation) for model in recipe.made}) == 6
    assert [model.seed for model in recipe.made] == [7, 8, 9, 10, 11, 12]
    tokens = world.opened().tokenizer.encode(world.others)
    scores = reference_losses(tokens, references=pairs)
    assert scores.shape == (60, 3)
    for model in recipe.made:
        assert not set(model.asked) & (model.train | model.validation)
    assert sum(len(model.asked) for model in recipe.made) == 180


def test_reference_losses_are_means_over_clinical_tokens() -> None:
    tokens = tiny.random_batch([4, 3, 1], vocabulary=9)
    kinds = tokens.kinds.copy()
    kinds[1] = Kind.GAP
    tokens = replace(tokens, kinds=kinds)

    class Counter:
        def log_probs(self, tokens: TokenBatch) -> list[FloatArray]:
            return [np.arange(1.0, length) for length in tokens.lengths]

    scores = reference_losses(tokens, references=[Counter(), Recorder(1)])
    np.testing.assert_allclose(scores, [[2.5, -2.0], [1.5, -2.0], [np.nan, np.nan]])


def test_too_few_patients_for_a_reference(world: World) -> None:
    few = InMemory((world.others.select(np.arange(19)),))
    with pytest.raises(InputError, match=r"at least 20 patients .* there are 19: give"):
        train_references(Recipe(), world.opened().tokenizer, few, count=1, seed=0)


@pytest.mark.parametrize("with_tuning", [True, False])
def test_no_reference_of_an_audit_is_asked_about_its_own_patients(world: World, with_tuning: bool) -> None:
    recipe = Recipe()
    members, _ = world.sides()
    held_out = InMemory((world.held_out, world.others))
    # The tuning split repeats ten held-out patients and ten members: a reference must see none of them.
    extra = tiny.cohort(tuning=40, seed=77)["tuning"]
    repeated = [part.select(np.arange(10)) for part in (world.held_out, world.members)]
    apart = replace(extra, subject_ids=extra.subject_ids + 10_000)
    result = run_audit(
        AuditPlan(
            world.opened(),
            members,
            held_out,
            tuning=InMemory((apart, *repeated)) if with_tuning else None,
            recipe=recipe,
            recipe_count=2,
            only=("membership",),
        )
    )
    tested = {*world.members.subject_ids.tolist(), *world.held_out.subject_ids.tolist()}
    tested |= set(world.others.subject_ids.tolist())
    assert len(recipe.made) == 2
    for model in recipe.made:
        assert not set(model.asked) & (model.train | model.validation)
    asked = [subject for model in recipe.made for subject in model.asked]
    assert sorted(asked) == sorted([*tested] * (2 if with_tuning else 1))
    settings = result.audit.findings[1].settings
    assert settings["reference_design"] == ("tuning patients" if with_tuning else "held-out in two folds")
    assert settings["reference_models"] == (2 if with_tuning else 1)
    assert settings["score"] == "ratio"


def test_a_reference_of_another_vocabulary_is_refused(world: World) -> None:
    opened = world.opened()
    tokens = opened.tokenizer.vocabulary.tokens
    other = replace(opened.tokenizer, vocabulary=Vocabulary((*tokens[:-2], tokens[-1], tokens[-2])))
    stranger = OpenedModel(opened.ref, Recorder(), other, opened.context, opened.parameters)
    with pytest.raises(VocabularyError, match=r"has another vocabulary than the model: train it with"):
        run_audit(AuditPlan(opened, *world.sides(), references=[stranger]))

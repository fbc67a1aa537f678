"""Shadow models: halves of patients, seeds, going on where one stopped, and any scikit-learn estimator."""

import pickle
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from primum.audits.privacy.lira import lira
from primum.errors import InputError, ModelError
from primum.evidence.blind import blind_scores
from primum.evidence.ranking import auc
from primum.fit.protocol import ClassifierTrainable
from primum.fit.shadows import half_of, shadow_seed, train_shadows
from primum.fit.sklearn_recipe import SklearnClassifier, SklearnRecipe
from primum.models.predictors import Predictor
from primum.models.score_matrix import score_cases
from primum.records.cases import Cases

CLASSES = ("no", "yes", "never")
PATIENTS = 60


def cases(patients: int = PATIENTS, *, each: int = 2, features: int = 30, seed: int = 0) -> Cases:
    random = np.random.default_rng(seed)
    count = patients * each
    subjects = np.repeat(1000 * seed + np.arange(patients), each)
    labels = random.integers(2, size=patients).repeat(each)
    inputs = random.standard_normal((patients, features)).repeat(each, axis=0)
    return Cases(np.arange(count), subjects, inputs + 0.1 * random.standard_normal(inputs.shape), labels)


RECIPE = SklearnRecipe(LogisticRegression(C=100.0), CLASSES)


@dataclass
class Counting:
    """A recipe that remembers whom and with which seed it trained, and may break."""

    breaks_at: int = -1
    subjects: list[set[int]] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)

    def fit(self, train: Cases, *, validation: Cases | None, max_steps: int | None, seed: int) -> Predictor:
        if len(self.seeds) == self.breaks_at:
            raise KeyboardInterrupt
        self.subjects.append(set(train.subject_ids.tolist()))
        self.seeds.append(seed)
        return RECIPE.fit(train, validation=validation, max_steps=max_steps, seed=seed)


@dataclass
class InDict:
    """Keeps shadows in memory."""

    kept: dict[str, dict[str, np.typing.NDArray[Any]]] = field(default_factory=dict)

    def get(self, name: str) -> Mapping[str, np.typing.NDArray[Any]] | None:
        return self.kept.get(name)

    def put(self, name: str, arrays: Mapping[str, np.typing.NDArray[Any]], /) -> None:
        self.kept[name] = dict(arrays)


def test_each_shadow_trains_on_half_of_the_patients() -> None:
    recipe, people = Counting(), cases()
    matrix = train_shadows(recipe, people, count=6, seed=1)
    assert matrix.scores.shape == matrix.inside.shape == (6, 2 * PATIENTS)
    for number, (subjects, inside) in enumerate(zip(recipe.subjects, matrix.inside, strict=True)):
        assert len(subjects) == PATIENTS // 2
        assert subjects == set(half_of(people, number, seed=1).tolist())
        assert np.array_equal(inside, np.isin(people.subject_ids, list(subjects)))
        assert recipe.seeds[number] == shadow_seed(number, 1)
    assert len(set(recipe.seeds)) == 6
    assert len({tuple(sorted(half)) for half in recipe.subjects}) == 6


def test_shadows_come_in_pairs_so_that_few_serve() -> None:
    for patients in (20, 21):
        matrix = train_shadows(RECIPE, cases(patients), count=4, seed=1)
        assert (matrix.inside.sum(axis=0) == 2).all()
        assert np.array_equal(matrix.inside[1], ~matrix.inside[0])
        assert not np.array_equal(matrix.inside[2], matrix.inside[0])


def test_same_seed_same_shadows_and_more_begin_with_the_same() -> None:
    people = cases()
    forest = SklearnRecipe(RandomForestClassifier(5), CLASSES)
    few, more, other = (
        train_shadows(forest, people, count=count, seed=seed) for count, seed in ((2, 1), (4, 1), (2, 2))
    )
    assert np.array_equal(few.scores, more.scores[:2])
    assert not np.array_equal(few.inside, other.inside)


def test_any_map_will_do() -> None:
    people = cases()
    alone = train_shadows(RECIPE, people, count=4, seed=1)
    with ThreadPoolExecutor(2) as pool:
        spread = train_shadows(RECIPE, people, count=4, seed=1, apply=lambda f, xs: pool.map(f, xs))
    elsewhere = train_shadows(
        RECIPE, people, count=4, seed=1, apply=lambda f, xs: map(pickle.loads(pickle.dumps(f)), xs)
    )
    assert np.array_equal(alone.scores, spread.scores)
    assert np.array_equal(alone.scores, elsewhere.scores)


def test_an_interrupted_training_goes_on() -> None:
    people, keep, breaks = cases(), InDict(), Counting(breaks_at=3)
    with pytest.raises(KeyboardInterrupt):
        train_shadows(breaks, people, count=6, seed=1, keep=keep)
    assert sorted(keep.kept) == ["shadow-0", "shadow-1", "shadow-2"]
    again = Counting()
    resumed = train_shadows(again, people, count=6, seed=1, keep=keep)
    assert len(again.seeds) == 3
    whole = train_shadows(RECIPE, people, count=6, seed=1)
    assert np.array_equal(resumed.scores, whole.scores)
    assert np.array_equal(resumed.inside, whole.inside)
    assert keep.kept["shadow-5"]["seed"].tolist() == [1, shadow_seed(5, 1)]


def test_what_is_kept_of_another_run_is_not_taken() -> None:
    keep = InDict()
    train_shadows(RECIPE, cases(), count=2, seed=1, keep=keep)
    for people, seed in ((cases(), 2), (cases(PATIENTS - 2), 1), (cases(each=3), 1)):
        again = Counting()
        found = train_shadows(again, people, count=2, seed=seed, keep=InDict(dict(keep.kept)))
        assert len(again.seeds) == 2
        assert np.array_equal(found.scores, train_shadows(RECIPE, people, count=2, seed=seed).scores)


def test_others_are_asked_than_those_who_train() -> None:
    tuning, audited = cases(), cases(25, seed=1)
    matrix = train_shadows(RECIPE, tuning, count=4, seed=1, asked=audited)
    assert matrix.scores.shape == (4, 50)
    assert not matrix.inside.any()
    overlapping = train_shadows(RECIPE, tuning, count=4, seed=1, asked=tuning.select(np.arange(10)))
    assert (overlapping.inside.sum(axis=0) == 2).all()


def test_too_few_patients_are_refused_in_a_sentence() -> None:
    for people, count in ((cases(19), 2), (cases(), 0)):
        with pytest.raises(InputError, match="at least 20 patients"):
            train_shadows(RECIPE, people, count=count, seed=1)


def test_an_over_fitted_model_is_found_and_a_strangers_is_not() -> None:
    people = cases(100, each=1, features=40)
    shadows = train_shadows(RECIPE, people, count=16, seed=1)
    inside = np.isin(people.subject_ids, half_of(people, 0, seed=99))
    remembering = RECIPE.fit(people.select(np.flatnonzero(inside)), validation=None, max_steps=None, seed=0)
    stranger = RECIPE.fit(cases(50, each=1, features=40, seed=5), validation=None, max_steps=None, seed=0)
    for model, low, high in ((remembering, 0.75, 1.0), (stranger, 0.35, 0.65)):
        scores = lira(score_cases(model, people)[0], shadows, online=True, fixed_variance=True)
        assert low <= auc(scores[inside], scores[~inside]).value <= high


def test_a_shifted_set_is_no_set_of_non_members_and_the_blind_baseline_says_so() -> None:
    # A model too simple to remember anybody; unlike its shadows it never saw people like the held-out.
    random = np.random.default_rng(7)
    inside = np.arange(600) < 300
    inputs = random.standard_normal((600, 3))
    labels = (inputs[:, 0] + random.standard_normal(600) > 0).astype(np.int64)
    recipe = SklearnRecipe(LogisticRegression(), CLASSES)

    def found(shifted: float) -> tuple[float, float]:
        moved = inputs + shifted * np.outer(~inside, [0, 1, 0])
        people = Cases(np.arange(600), np.arange(600), moved, labels | (~inside & (shifted > 0)))
        model = recipe.fit(people.select(np.flatnonzero(inside)), validation=None, max_steps=None, seed=0)
        shadows = train_shadows(recipe, people, count=16, seed=1)
        scores = lira(score_cases(model, people)[0], shadows, online=True, fixed_variance=True)
        blind = blind_scores(moved, inside, dense_columns=3)
        return auc(scores[inside], scores[~inside]).value, auc(blind[inside], blind[~inside]).value

    alike, shifted = found(0.0), found(1.0)
    assert alike == pytest.approx((0.5, 0.5), abs=0.08)
    assert shifted[0] > 0.58
    assert shifted[1] > 0.7


def test_a_recipe_and_what_it_trains_fit_the_protocols() -> None:
    people = cases()
    model = RECIPE.fit(people, validation=None, max_steps=None, seed=0)
    assert isinstance(RECIPE, ClassifierTrainable)
    assert isinstance(model, Predictor)
    assert score_cases(model, people)[1] == "probabilities"
    answers = model.predict_proba(people)
    assert answers.shape == (2 * PATIENTS, 3)
    assert (answers[:, 2] == 0).all()
    np.testing.assert_allclose(answers.sum(axis=1), 1)


def test_a_class_missing_in_between_keeps_its_column() -> None:
    people = cases()
    shifted = Cases(people.case_ids, people.subject_ids, people.inputs, 2 * people.labels)
    model = RECIPE.fit(shifted, validation=None, max_steps=None, seed=0)
    assert (model.predict_proba(shifted)[:, 1] == 0).all()
    assert np.array_equal(
        model.predict_proba(shifted)[:, 2], model.estimator.predict_proba(shifted.inputs)[:, 1]
    )


def test_the_seed_reaches_every_step_and_the_estimator_given_stays_untrained() -> None:
    people = cases()
    pipeline = make_pipeline(StandardScaler(), RandomForestClassifier(5))
    recipe = SklearnRecipe(pipeline, CLASSES)
    one, same, other = (
        recipe.fit(people, validation=None, max_steps=None, seed=seed).predict_proba(people)
        for seed in (1, 1, 2**32 + 2)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert not hasattr(pipeline[-1], "classes_")
    assert pipeline[-1].random_state is None


def test_images_are_laid_flat_and_bags_refused() -> None:
    people = cases()
    assert isinstance(people.inputs, np.ndarray)
    images = Cases(
        people.case_ids,
        people.subject_ids,
        people.inputs.reshape(-1, 1, 5, 6).astype(np.float32),
        people.labels,
    )
    model = RECIPE.fit(images, validation=None, max_steps=None, seed=0)
    assert isinstance(model, SklearnClassifier)
    assert model.predict_proba(images).shape == (2 * PATIENTS, 3)
    bags = Cases(people.case_ids, people.subject_ids, tuple(people.inputs), people.labels)
    with pytest.raises(ModelError, match="of one shape"):
        RECIPE.fit(bags, validation=None, max_steps=None, seed=0)

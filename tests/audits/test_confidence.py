import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.special import logit, softmax
from scipy.stats import binom
from sklearn.linear_model import LogisticRegression

from primum.audits.privacy.confidence import confidence_scores, log_odds
from primum.evidence.ranking import auc, auc_p_value
from primum.records.cases import Cases
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray

SIDE = 40


@dataclass
class Told:
    """Answers with the inputs themselves, as logits or as probabilities."""

    classes: tuple[str, ...]
    as_logits: bool

    def logits(self, cases: Cases) -> FloatArray | None:
        return np.asarray(cases.inputs, np.float64) if self.as_logits else None

    def predict_proba(self, cases: Cases) -> FloatArray:
        values = np.asarray(cases.inputs, np.float64)
        return softmax(values, axis=1) if self.as_logits else values


@dataclass
class Linear:
    """A logistic regression; `sharpness` changes its probabilities but not its labels."""

    weights: FloatArray
    sharpness: float = 1.0
    classes: tuple[str, ...] = ("no", "yes")
    asked: int = 0

    def logits(self, cases: Cases) -> FloatArray | None:
        value = np.asarray(cases.inputs, np.float64) @ self.weights
        self.asked += len(value)
        return self.sharpness * np.column_stack([np.zeros(len(value)), value])

    def predict_proba(self, cases: Cases) -> FloatArray:
        values = self.logits(cases)
        assert values is not None
        return softmax(values, axis=1)


def cases_of(inputs: FloatArray, labels: IntArray, subject_ids: IntArray | None = None) -> Cases:
    numbers = np.arange(len(labels))
    return Cases(numbers, numbers if subject_ids is None else subject_ids, inputs, labels)


def people(count: int, *, width: int, rng: np.random.Generator) -> Cases:
    """Draw patients with one to three cases that resemble each other, some much easier than others."""
    subjects = np.repeat(np.arange(count), rng.integers(1, 4, count))
    labels = rng.integers(0, 2, count)[subjects]
    inputs = 0.8 * rng.standard_normal((count, width))[subjects]
    inputs += 0.6 * rng.standard_normal(inputs.shape)
    ease = np.abs(rng.standard_normal(count))[subjects]
    inputs[:, 0] += 2 * ease * (2 * labels - 1)
    inputs[:, 1] = ease
    return cases_of(inputs, labels, subjects)


def fitted(cases: Cases, *, inverse_penalty: float = 1e4) -> Linear:
    model = LogisticRegression(C=inverse_penalty, fit_intercept=False, max_iter=2000)
    return Linear(model.fit(np.asarray(cases.inputs), cases.labels).coef_[0])


def sides(scores: FloatArray, cases: Cases) -> tuple[FloatArray, FloatArray]:
    """Mean by patient; the first half of the patients is one side."""
    totals = np.bincount(cases.subject_ids, scores) / np.bincount(cases.subject_ids)
    return totals[: len(totals) // 2], totals[len(totals) // 2 :]


def assert_fair(
    score: Callable[[int, int], tuple[FloatArray, FloatArray]], *, models: int, draws: int
) -> None:
    """Members and held-out patients whom the model never saw: AUC .5, alarms at 5 % where they belong."""
    runs = [score(model, draw) for model in range(models) for draw in range(draws)]
    values = np.array([auc(*one).value for one in runs])
    assert abs(values.mean() - 0.5) < 3 * values.std(ddof=1) / math.sqrt(len(values))
    alarms = sum(auc_p_value(*one) < 0.05 for one in runs)
    assert binom.ppf(0.0005, len(runs), 0.05) <= alarms <= binom.ppf(0.9995, len(runs), 0.05)


def test_scores_are_what_their_definitions_say() -> None:
    rng = np.random.default_rng(0)
    values = 3 * rng.standard_normal((50, 4))
    labels = rng.integers(0, 4, 50)
    p = softmax(values, axis=1)
    found = confidence_scores(Told(tuple("abcd"), as_logits=True), cases_of(values, labels))
    assert found.keys() == {"loss", "entropy"}
    for row, label in enumerate(labels):
        true = p[row, label]
        entropy = -(1 - true) * math.log(true)
        entropy -= sum(p[row, one] * math.log(1 - p[row, one]) for one in range(4) if one != label)
        assert found["loss"][row] == pytest.approx(math.log(true), rel=1e-12)
        assert found["entropy"][row] == pytest.approx(-entropy, rel=1e-12)
    probabilities = confidence_scores(Told(tuple("abcd"), as_logits=False), cases_of(p, labels))
    for name, scores in probabilities.items():
        np.testing.assert_allclose(scores, found[name], rtol=1e-12)


def test_log_odds_are_those_of_each_class() -> None:
    values = np.random.default_rng(1).normal(0, 5, (30, 3))
    odds = log_odds(Told(("a", "b", "c"), as_logits=True), cases_of(values, np.zeros(30, np.int64)))
    np.testing.assert_allclose(odds, logit(softmax(values, axis=1)), rtol=1e-6)


def test_logits_keep_apart_what_probabilities_cannot() -> None:
    values = np.array([[40.0, 0, 0], [50, 0, 0], [900, 0, 0], [0, 900, 1]])
    cases = cases_of(values, np.zeros(4, np.int64))
    found = confidence_scores(Told(("a", "b", "c"), as_logits=True), cases)
    assert found["loss"][0] == pytest.approx(-2 * math.exp(-40), rel=1e-9)
    assert found["loss"][0] < found["loss"][1] < 0
    assert found["entropy"][0] < found["entropy"][1] < 0
    assert found["loss"][3] == pytest.approx(-900)
    assert all(np.isfinite(scores).all() for scores in found.values())


def test_certain_probabilities_stay_finite() -> None:
    cases = cases_of(np.eye(2)[[0, 0, 1]], np.array([0, 1, 1]))
    found = confidence_scores(Told(("a", "b"), as_logits=False), cases)
    assert all(np.isfinite(scores).all() for scores in found.values())
    assert found["loss"][1] == pytest.approx(-52 * math.log(2))
    assert found["loss"][0] == found["loss"][2] > found["loss"][1]
    assert found["entropy"][0] == found["entropy"][2] > found["entropy"][1]


@pytest.mark.parametrize("attack", ["loss", "entropy"])
def test_nobody_is_found_who_trained_nothing(attack: str) -> None:
    models = [fitted(people(60, width=40, rng=np.random.default_rng([9, seed]))) for seed in range(20)]

    def score(model: int, draw: int) -> tuple[FloatArray, FloatArray]:
        cases = people(2 * SIDE, width=40, rng=np.random.default_rng([10, model, draw]))
        return sides(confidence_scores(models[model], cases)[attack], cases)

    assert_fair(score, models=len(models), draws=20)


@pytest.mark.parametrize("attack", ["loss", "entropy"])
def test_an_over_fitted_model_is_found(attack: str) -> None:
    cases = people(120, width=100, rng=np.random.default_rng(2))
    model = fitted(cases.select(np.flatnonzero(cases.subject_ids < 60)))
    assert auc(*sides(confidence_scores(model, cases)[attack], cases)).low > 0.6

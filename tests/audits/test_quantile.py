import warnings

import numpy as np
import pytest
from scipy.special import logit
from scipy.stats import pearsonr
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from tests.audits.test_confidence import assert_fair, people, sides

from primum.audits.privacy import quantile
from primum.audits.privacy.quantile import quantile_scores
from primum.evidence.ranking import auc
from primum.records.cases import Cases
from primum.records.histories import FloatArray

SIDE, WIDTH = 200, 60


def told(cases: Cases, odds: FloatArray, *, seed: int = 0) -> FloatArray:
    return quantile_scores(
        odds,
        known=np.asarray(cases.inputs),
        labels=cases.labels,
        subject_ids=cases.subject_ids,
        is_member=cases.subject_ids < (cases.subject_ids.max() + 1) // 2,
        seed=seed,
    )


def untouched(*seed: int, side: int = SIDE, width: int = WIDTH) -> tuple[Cases, FloatArray]:
    """Log-odds that lean on two of many features, on the patient and on chance; skewed."""
    rng = np.random.default_rng(seed)
    cases = people(2 * side, width=width, rng=rng)
    inputs = np.asarray(cases.inputs)
    own = rng.standard_normal(2 * side)[cases.subject_ids]
    return cases, np.exp((inputs[:, 0] + inputs[:, 1] * cases.labels + own + rng.normal(size=len(own))) / 3)


def test_nobody_is_found_who_trained_nothing() -> None:
    def score(model: int, draw: int) -> tuple[FloatArray, FloatArray]:
        cases, odds = untouched(model, draw, side=40, width=12)
        return sides(told(cases, odds, seed=draw), cases)

    assert_fair(score, models=1, draws=100)


def test_it_takes_off_what_is_to_be_expected() -> None:
    cases, odds = untouched(1)
    odds = np.log(odds)
    scores = told(cases, odds)
    before, after = (pearsonr(one, np.asarray(cases.inputs)[:, 0]).statistic for one in (odds, scores))
    assert abs(after) < before / 2
    assert abs(np.median(scores)) < 0.1


def test_the_class_is_known() -> None:
    cases, _ = untouched(2, width=5)
    odds = 3.0 * cases.labels + np.random.default_rng(0).normal(size=len(cases))
    scores = told(cases, odds)
    assert scores[cases.labels == 1].mean() == pytest.approx(scores[cases.labels == 0].mean(), abs=0.5)


def test_no_held_out_patient_is_scored_by_who_saw_them() -> None:
    """If one of a patient's cases were surer, the regression asked about the patient would be the same."""
    cases, odds = untouched(3)
    before = told(cases, odds)
    patient = next(one for one in range(SIDE, 2 * SIDE) if (cases.subject_ids == one).sum() > 1)
    changed, *others = np.flatnonzero(cases.subject_ids == patient)
    surer = odds.copy()
    surer[changed] += 100
    after = told(cases, surer)
    np.testing.assert_array_equal(after[others], before[others])
    # the other folds did see it
    assert (after != before).mean() > 0.5


def test_members_teach_nothing() -> None:
    cases, odds = untouched(4)
    is_member = cases.subject_ids < SIDE
    np.testing.assert_array_equal(
        told(cases, np.where(is_member, 99.0, odds))[~is_member], told(cases, odds)[~is_member]
    )


def test_members_meet_every_regression_as_often_as_held_out_patients() -> None:
    """With nothing to learn from, the score tells the fold: the mean of the others is taken off."""
    cases, odds = untouched(5)
    rng = np.random.default_rng(0)
    level = rng.normal(size=2 * SIDE)[cases.subject_ids]
    level[cases.subject_ids < SIDE] = 0.0
    blank = Cases(cases.case_ids, cases.subject_ids, np.zeros((len(odds), 1)), 0 * cases.labels)
    members = told(blank, level)[cases.subject_ids < SIDE]
    patients = np.array([members[cases.subject_ids[: len(members)] == one][0] for one in range(SIDE)])
    values, counts = np.unique(patients, return_counts=True)
    assert len(values) == 5
    assert counts.tolist() == [SIDE // 5] * 5


def test_few_held_out_patients_give_no_score() -> None:
    cases, odds = untouched(6, side=4)
    assert np.isnan(told(cases, odds)).all()
    cases, odds = untouched(6, side=5)
    assert np.isfinite(told(cases, odds)).all()


def test_some_of_many_cases_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    cases, odds = untouched(7)
    whole = told(cases, odds)
    monkeypatch.setattr(quantile, "MOST_LEARNED_FROM", 100)
    assert pearsonr(told(cases, odds), whole).statistic > 0.8


def test_a_feature_that_is_not_known_of_everyone_still_counts() -> None:
    cases, odds = untouched(8)
    gaps = np.asarray(cases.inputs).copy()
    gaps[::3, 0] = np.nan
    scores = told(Cases(cases.case_ids, cases.subject_ids, gaps, cases.labels), odds)
    assert np.isfinite(scores).all()
    assert (
        pearsonr(scores, np.asarray(cases.inputs)[:, 0]).statistic
        < pearsonr(odds, np.asarray(cases.inputs)[:, 0]).statistic
    )


def test_an_over_fitted_model_is_found_better_than_by_its_loss() -> None:
    cases = people(300, width=30, rng=np.random.default_rng(2))
    inputs, members = np.asarray(cases.inputs), cases.subject_ids < 150
    network = MLPClassifier(
        (64,), max_iter=150, tol=0, n_iter_no_change=150, learning_rate_init=3e-3, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(inputs[members], cases.labels[members])
    p = network.predict_proba(inputs)[:, 1]
    odds = logit(np.where(cases.labels == 1, p, 1 - p).clip(1e-15, 1 - 1e-15))
    found = auc(*sides(told(cases, odds), cases))
    assert found.low > 0.6
    assert found.value > auc(*sides(odds, cases)).value + 0.02

"""Intervals of what a classifier does: they hold the truth as often as they say, by patient."""

import numpy as np
import pytest
from scipy.special import expit, ndtr

from primum.errors import InputError
from primum.evidence.contrast import Frame
from primum.evidence.finding import Finding
from primum.evidence.measured import FloatArray, IntArray
from primum.evidence.performance import TESTS, performance_findings

FRAME = Frame("00" * 32, "11" * 32, "nobody", "observed", 0)


def drawn(people: int, each: int, seed: int) -> tuple[FloatArray, IntArray, IntArray]:
    """Ill patients score one deviation higher; cases of one patient share half of their variance."""
    random = np.random.default_rng(seed)
    ill = random.random(people) < 0.3
    own = random.normal(0, np.sqrt(0.5), people)
    place = np.repeat(np.arange(people), each)
    score = ill[place] + own[place] + random.normal(0, np.sqrt(0.5), people * each)
    positive = expit(score)
    return np.stack([1 - positive, positive], 1), ill[place].astype(np.int64), place


def findings(people: int, each: int, seed: int, threshold: float | None = None) -> dict[str, Finding]:
    probabilities, labels, patient = drawn(people, each, seed)
    found = performance_findings(
        probabilities, labels, patient, classes=("healthy", "ill"), target=1, threshold=threshold, frame=FRAME
    )
    assert tuple(one.test for one in found) == TESTS
    return {one.test: one for one in found}


@pytest.mark.parametrize("each", [1, 4])
def test_intervals_hold_the_truth(each: int) -> None:
    truth = {
        "performance.auc": float(ndtr(1 / np.sqrt(2))),
        "performance.sensitivity": float(ndtr(1.0)),
        "performance.specificity": 0.5,
    }
    missed = dict.fromkeys(truth, 0)
    for seed in range(200):
        found = findings(200, each, seed, threshold=0.5)
        for test, value in truth.items():
            (estimate,) = found[test].estimates
            missed[test] += not estimate.low <= value <= estimate.high
            assert estimate.n[0] <= 200
    # 5 % of 200, and four standard deviations more.
    assert max(missed.values()) <= 10 + 4 * 3.1, missed


def test_more_cases_of_the_same_patients_are_not_more_patients() -> None:
    one, copied = drawn(100, 1, 0), drawn(100, 1, 0)
    many = tuple(np.repeat(column, 9, axis=0) for column in copied)
    found = [
        performance_findings(*given, classes=("healthy", "ill"), target=1, threshold=0.5, frame=FRAME)
        for given in (one, many)
    ]
    for first, second in zip(*found, strict=True):
        for a, b in zip(first.estimates, second.estimates, strict=True):
            assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high), abs=1e-6), first.test


def test_too_few_of_either_class_give_no_number() -> None:
    probabilities, _, patient = drawn(60, 1, 0)
    labels = (np.arange(60) < 19).astype(np.int64)
    found = performance_findings(
        probabilities, labels, patient, classes=("healthy", "ill"), target=1, threshold=None, frame=FRAME
    )
    assert {one.verdict for one in found} == {"not_applicable"}
    assert found[0].reasons[0].parameters == {"have": 19, "needed": 20}
    assert not any(one.estimates for one in found)


def test_a_threshold_moves_what_is_called() -> None:
    low, high = findings(300, 1, 3, threshold=0.2), findings(300, 1, 3, threshold=0.8)
    for test, rises in (("performance.sensitivity", False), ("performance.specificity", True)):
        assert (high[test].estimates[0].value > low[test].estimates[0].value) is rises
    assert high["performance.auc"].estimates == low["performance.auc"].estimates


@pytest.mark.parametrize("broken", [np.nan, -0.1, 1.1])
def test_what_is_no_probability_is_refused(broken: float) -> None:
    probabilities, labels, patient = drawn(60, 1, 0)
    probabilities[3, 1] = broken
    with pytest.raises(InputError):
        performance_findings(
            probabilities, labels, patient, classes=("healthy", "ill"), target=1, threshold=None, frame=FRAME
        )

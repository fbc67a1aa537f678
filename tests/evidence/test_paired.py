"""The same patients asked twice: intervals that cover, tests that do not cry wolf, oracles that agree."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from primum.errors import InputError
from primum.evidence.paired import (
    class_contributions,
    class_mean,
    paired_difference,
    paired_p_value,
    patient_share,
    patients_needed_for_pair,
    smallest_detectable_pair,
    worst_p_value,
)

RUNS = 400


def coins(rng: np.random.Generator, count: int, first: float, second: float) -> np.ndarray:
    """Draw differences of two yes-or-no answers that go together: both need the same luck."""
    luck = rng.random(count) < 0.6
    sides = [np.where(luck, rng.random(count) < one, False) for one in (first, second)]
    return sides[0].astype(float) - sides[1]


def test_the_exact_test_is_mcnemars() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        differences = coins(rng, 80, 0.3, 0.2)
        up, down = int((differences > 0).sum()), int((differences < 0).sum())
        expected = stats.binomtest(up, up + down, alternative="greater").pvalue
        assert paired_p_value(differences) == pytest.approx(expected)
    assert paired_p_value(np.zeros(50)) == 1.0


def test_shares_of_several_cases_are_exchanged_by_patient() -> None:
    differences = np.random.default_rng(1).uniform(-0.4, 0.6, 40)
    oracle = stats.permutation_test(
        (differences, np.zeros(40)),
        lambda a, b: (a - b).mean(),
        permutation_type="samples",
        alternative="greater",
        n_resamples=9999,
        rng=np.random.default_rng(2),
    ).pvalue
    assert paired_p_value(differences) == pytest.approx(oracle, abs=0.01)
    assert paired_p_value(differences[::-1]) == paired_p_value(differences)


def test_the_interval_is_bonett_and_prices() -> None:
    differences = np.array([1.0] * 9 + [-1.0] * 3 + [0.0] * 88)
    first, second, total = 10 / 102, 4 / 102, 102
    half = np.sqrt((first + second - (first - second) ** 2) / total)
    found = paired_difference(differences)
    assert found.value == pytest.approx(0.06)
    assert found.high - found.low == pytest.approx(2 * stats.t.ppf(0.975, 101) * half * np.sqrt(102 / 101))


@pytest.mark.parametrize(("first", "second"), [(0.05, 0.05), (0.5, 0.1), (0.02, 0.0)])
def test_paired_intervals_cover(first: float, second: float) -> None:
    rng, truth, missed = np.random.default_rng(3), 0.6 * (first - second), 0
    for _ in range(RUNS):
        found = paired_difference(coins(rng, 60, first, second))
        missed += not found.low <= truth <= found.high
    assert missed / RUNS <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / RUNS)


@pytest.mark.parametrize("rights", [(0.9, 0.7), (0.99, 0.02)])
def test_balanced_accuracy_covers_with_patients_of_both_classes(rights: tuple[float, float]) -> None:
    rng, missed = np.random.default_rng(4), 0
    for _ in range(RUNS):
        patients = np.repeat(np.arange(50), 3)
        labels = (rng.random(150) < 0.35).astype(np.int64)
        labels[:2] = 0, 1
        ease = rng.normal(size=50)[patients]  # an easy patient is easy in all cases
        bars = stats.norm.ppf(np.array(rights))[labels]
        right = (0.7 * ease + np.sqrt(1 - 0.49) * rng.normal(size=150) < bars).astype(float)
        found = class_mean(right, patients=patients, labels=labels)
        missed += not found.low <= np.mean(rights) <= found.high
    assert missed / RUNS <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / RUNS)


def test_one_case_a_patient_gives_the_balanced_accuracy_of_everyone_else() -> None:
    rng = np.random.default_rng(5)
    labels, guesses, patients = rng.integers(0, 3, 90), rng.integers(0, 3, 90), rng.permutation(90)
    right = (labels == guesses).astype(float)
    found = class_mean(right, patients=patients, labels=labels)
    assert found.value == pytest.approx(balanced_accuracy_score(labels, guesses))
    parts = class_contributions(right, patients=patients, labels=labels)
    assert parts.sum() == pytest.approx(found.value)
    assert found.n == (90,)


def test_the_worst_of_many_raises_no_more_false_alarms_than_one() -> None:
    rng, alarms = np.random.default_rng(6), 0
    for run in range(RUNS):
        shared = rng.normal(size=(60, 1))
        parts = np.where(rng.random((60, 8)) < 0.3, shared + rng.normal(size=(60, 8)), 0)
        worst = int(parts.sum(axis=0).argmax())
        alarms += worst_p_value(parts, place=worst, resamples=199, seed=run) < 0.05
    assert alarms / RUNS <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / RUNS)
    assert worst_p_value(np.zeros((9, 2)), place=0) == 1.0


def test_so_many_patients_are_enough_and_fewer_are_not() -> None:
    needed = patients_needed_for_pair(0.05, deviation=0.3)
    for count, enough in ((needed, True), (needed // 2, False)):
        rng = np.random.default_rng(7)
        drawn = rng.choice([-1.0, 0.0, 1.0], p=[0.045, 0.91, 0.045], size=(RUNS, count))
        below = np.mean([paired_difference(one).high < 0.05 for one in drawn])
        assert (below >= 0.76) == enough


def test_what_is_detectable_is_detected_four_times_in_five() -> None:
    smallest = smallest_detectable_pair(np.zeros(60))
    drawn = np.random.default_rng(8).random((RUNS, 60)) < smallest
    found = np.mean([paired_p_value(one.astype(float)) <= 0.05 for one in drawn])
    assert 0.74 <= found <= 0.9


def test_shares_of_nobody_and_of_everybody_have_a_width() -> None:
    assert patient_share([0.0] * 30).high > 0.05
    assert patient_share([1.0] * 30).low < 0.95


@pytest.mark.parametrize("values", [[], [1.5], [float("nan")]])
def test_other_numbers_are_refused(values: list[float]) -> None:
    with pytest.raises(InputError):
        paired_difference(values)

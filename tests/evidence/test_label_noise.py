import numpy as np
import pytest
from scipy.stats import binom

from primum.evidence.label_noise import RESAMPLES, flipped_labels, label_suspicion
from primum.evidence.measured import BoolArray, FloatArray, IntArray


def world(
    patients: int, *, apart: float, rate: float, seed: int, several: bool = False
) -> tuple[FloatArray, BoolArray, BoolArray, IntArray]:
    """Scores, labels as given, which were flipped, patients."""
    random = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), random.integers(1, 4, patients) if several else 1)
    true = random.random(len(patient)) < 0.4
    score = apart * true + random.standard_normal(len(patient))
    flipped = random.random(len(patient)) < rate
    return score, true ^ flipped, flipped, patient


@pytest.mark.parametrize(("apart", "rate"), [(4.0, 0.05), (2.7, 0.1)])
def test_the_share_of_flipped_labels_is_found(apart: float, rate: float) -> None:
    score, given, flipped, patient = world(1500, apart=apart, rate=rate, seed=1)
    found = flipped_labels(score, given, patient, seed=1)
    low, high = np.quantile(found.resampled, [0.025, 0.975])
    assert low <= flipped.mean() <= high
    assert abs(found.share - rate) < 0.015
    assert found.p_value < 0.005
    assert found.resampled.shape == (RESAMPLES,)


def test_suspicion_falls_on_the_flipped() -> None:
    score, given, flipped, patient = world(1500, apart=4.0, rate=0.05, seed=2)
    suspicion = label_suspicion(score, given, patient)
    assert np.array_equal(suspicion, flipped_labels(score, given, patient).suspicion)
    listed = suspicion > 0.5
    assert (listed & flipped).sum() / flipped.sum() > 0.7
    assert (listed & ~flipped).sum() / listed.sum() < 0.2


def test_flips_of_one_class_only_are_found() -> None:
    score, given, _, patient = world(1500, apart=3.5, rate=0.0, seed=3)
    missed = given & (np.random.default_rng(0).random(len(given)) < 0.1)
    found = flipped_labels(score, given & ~missed, patient)
    assert found.p_value < 0.01
    assert 0.02 < found.share < 0.06


def test_only_ranks_count() -> None:
    score, given, _, patient = world(400, apart=2.5, rate=0.05, seed=4)
    one, other = (flipped_labels(s, given, patient, seed=1) for s in (score, np.sinh(3 * score)))
    assert one.share == other.share
    assert one.p_value == other.p_value


def test_ambiguous_clean_labels_do_not_alarm() -> None:
    runs = 12
    alarms = 0
    for seed in range(runs):
        apart = [0.8, 1.7, 3.0][seed % 3]
        score, given, _, patient = world(150, apart=apart, rate=0.0, seed=100 + seed, several=True)
        alarms += flipped_labels(score, given, patient, seed=seed).p_value < 0.05
    assert alarms <= binom.ppf(0.999, runs, 0.05)


def test_all_cases_of_a_patient_may_err_together() -> None:
    """A patient whose cases all contradict their labels counts once, not as often as there are cases."""
    score, given, _, _ = world(200, apart=3.0, rate=0.06, seed=6)
    alone = flipped_labels(score, given, np.arange(200), seed=1)
    copied = flipped_labels(np.repeat(score, 4), np.repeat(given, 4), np.repeat(np.arange(200), 4), seed=1)
    assert copied.share == pytest.approx(alone.share, abs=0.01)
    assert copied.p_value > alone.p_value / 3


def test_labels_that_scores_tell_perfectly_are_all_right() -> None:
    score = np.arange(200.0)
    found = flipped_labels(score, score >= 100, np.arange(200))
    assert found.p_value > 0.5
    assert found.share < 0.005


def test_scores_that_tie_leave_no_bin_empty() -> None:
    random = np.random.default_rng(0)
    score = np.repeat([0.0, 1.0, 2.0], [140, 20, 140])
    given = (score > 1) ^ (random.random(300) < 0.03)
    assert 0 <= flipped_labels(score, given, np.arange(300)).share < 0.1
    assert flipped_labels(np.zeros(300), given, np.arange(300)).p_value > 0.05

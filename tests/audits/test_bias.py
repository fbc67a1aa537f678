import numpy as np
import pytest
from scipy import stats

from primum.audits.privacy.bias import FutureBias, future_bias, future_cases
from primum.errors import InputError
from primum.evidence.measured import BoolArray, IntArray
from primum.evidence.shares import share_difference, share_p_value
from primum.models.score_matrix import ScoreMatrix
from primum.records.cases import Cases


def shadows(
    patients: int, models: int, *, seed: int, changed: int = 0, shift: float = 0.0
) -> tuple[ScoreMatrix, IntArray]:
    """What models say of one or two later records of each patient; models differ as a whole, too."""
    rng = np.random.default_rng(seed)
    had = rng.random((models, patients)) < 0.5
    patient = rng.permutation(np.repeat(np.arange(patients), rng.integers(1, 3, patients)))
    scores = rng.normal(2, 2, len(patient)) + rng.standard_t(4, (models, len(patient)))
    scores += rng.normal(0, 3, (models, 1)) + shift * (had[:, patient] & (patient < changed))
    return ScoreMatrix(scores, had[:, patient]), patient


def sides(found: FutureBias, is_member: BoolArray) -> tuple[np.ndarray, np.ndarray]:
    measured = found.measured(is_member)
    score = measured.scores["bias.future"]
    return score[is_member[measured.rows]], score[~is_member[measured.rows]]


def test_nothing_learnt_alarms_as_often_as_agreed() -> None:
    alarms, names, controls, member = 0, 0, 0, np.arange(40) < 20
    for seed in range(200):
        found = future_bias(*shadows(40, 16, seed=seed), patients=40, seed=seed)
        alarms += int(share_p_value(*sides(found, member), seed=seed) <= 0.05)
        names += int(found.changed.any())
        controls += int(found.changed_by_control.any())
    most = stats.binom.ppf(0.999, 200, 0.05)
    assert max(alarms, names, controls) <= most


def test_a_planted_change_is_found_and_the_control_finds_nobody() -> None:
    member = np.random.default_rng(0).random(300) < 0.5
    found = future_bias(*shadows(300, 24, seed=1, changed=60, shift=4.0), patients=300, seed=2)
    assert np.array_equal(found.rows, np.arange(300))
    assert found.changed[:60].sum() >= 40
    assert found.changed[60:].sum() <= 6
    assert not found.changed_by_control.any()
    told, others = sides(found, member)
    assert share_p_value(told, others) < 0.001
    estimate = share_difference(told, others)
    assert estimate.low < 0.2 < estimate.high
    assert found.measured(member).settings["models"] == 24


@pytest.mark.parametrize("models", [32, 31])
def test_halves_and_their_complements_learn_contraries_and_alarm_nobody(models: int) -> None:
    found = []
    for seed in range(12):
        rng = np.random.default_rng([models, seed])
        had = np.zeros((32, 100), np.bool_)
        had[::2] = rng.random(had[::2].shape).argsort(axis=1) < 50
        had[1::2] = ~had[::2]
        others = rng.standard_normal((100, 100)) * (1 - np.eye(100))
        matrix = ScoreMatrix((had @ others)[:models], had[:models])
        bias = future_bias(matrix, np.arange(100), patients=100, seed=seed)
        found.append([(bias.p_values <= 0.05).mean(), (bias.control <= 0.05).mean()])
    assert np.abs(np.mean(found, axis=0) - 0.05).max() < 0.025  # .145 where labels are drawn freely


def test_too_few_models_are_said() -> None:
    found = future_bias(*shadows(40, 12, seed=0), patients=40, seed=0)
    measured = found.measured(np.arange(40) < 20)
    assert not measured.scores
    assert measured.refused["bias.future"].code == "needs_recipe"


def test_patients_whom_all_models_had_cannot_be_asked() -> None:
    matrix, patient = shadows(40, 16, seed=3)
    inside = matrix.inside | (patient == 7)
    found = future_bias(ScoreMatrix(matrix.scores, inside), patient, patients=40, seed=0)
    assert 7 not in found.rows
    assert len(found.rows) == 39


def test_records_of_one_patient_must_agree() -> None:
    matrix, patient = shadows(40, 16, seed=3)
    twice = int(np.flatnonzero(np.bincount(patient) == 2)[0])
    inside = matrix.inside.copy()
    inside[0, np.flatnonzero(patient == twice)[0]] ^= True
    with pytest.raises(InputError, match="disagree"):
        future_bias(ScoreMatrix(matrix.scores, inside), patient, patients=40, seed=0)
    with pytest.raises(InputError, match="position"):
        future_bias(matrix, patient, patients=3, seed=0)


def cases(dates: list[str] | None) -> Cases:
    ids = np.array([5, 9, 5, 9, 5, 3])
    known = {} if dates is None else {"date": np.array(dates, "datetime64[D]")}
    return Cases(np.arange(6), ids, np.zeros((6, 2)), np.zeros(6, np.int64), known)


def test_the_last_case_of_those_who_have_several() -> None:
    dated = cases(["2020-03-01", "2020-01-01", "2020-09-01", "2020-01-02", "2020-04-01", "2021-01-01"])
    assert np.flatnonzero(future_cases(dated, seed=0)).tolist() == [2, 3]
    half = cases(["NaT", "2020-01-01", "2020-09-01", "2020-01-02", "2020-04-01", "2021-01-01"])
    seen = {tuple(np.flatnonzero(future_cases(half, seed=seed)).tolist()) for seed in range(40)}
    assert seen == {(0, 3), (2, 3), (3, 4)}
    undated = {tuple(np.flatnonzero(future_cases(cases(None), seed=seed)).tolist()) for seed in range(80)}
    assert len(undated) == 6
    assert all(5 not in chosen for chosen in undated)

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from primum.errors import InputError
from primum.evidence.measured import BoolArray, FloatArray, IntArray
from primum.evidence.ranking import auc
from primum.evidence.records import by_patient, record_count_p_values

RUNS, SIDE = 60, 200


def world(
    seed: int, *, members: list[int], others: list[int], alike: float = 0.0, digits: int | None = None
) -> tuple[FloatArray, IntArray, BoolArray]:
    """Scores of records of patients whom nobody trained on; the lists are how many records they may have."""
    rng = np.random.default_rng(seed)
    r = np.concatenate([rng.choice(members, SIDE), rng.choice(others, SIDE)])
    patient = np.repeat(np.arange(2 * SIDE), r)
    shared, own = rng.standard_normal(2 * SIDE)[patient], rng.standard_normal(len(patient))
    values = np.exp(np.sqrt(alike) * shared + np.sqrt(1 - alike) * own)
    if digits is not None:
        values = np.round(np.log(values), digits)
    return values, patient, np.arange(2 * SIDE) < SIDE


def naive(values: FloatArray, patient: IntArray, patients: int) -> FloatArray:
    return np.array([max(values[patient == one], default=np.nan) for one in range(patients)])


def test_mean_and_maximum_by_hand() -> None:
    values = np.array([1.0, 3.0, np.nan, 5.0, 2.0])
    patient = np.array([0, 0, 1, 2, 2])
    assert np.array_equal(by_patient(values, patient, patients=4), [2.0, np.nan, 3.5, np.nan], equal_nan=True)
    held_out = np.zeros(4, np.bool_)
    p_values = record_count_p_values(values, patient, is_member=held_out)
    # each of the two is compared with the other's two records, itself counted among them
    assert p_values[0] == pytest.approx(1 - (1 / 3) ** 2)
    assert p_values[2] == pytest.approx(1 - (2 / 3) ** 2)
    assert np.isnan(p_values[[1, 3]]).all()


@pytest.mark.parametrize("how", ["max", "stouffer"])
@pytest.mark.parametrize(
    "counts",
    [
        {"members": [6], "others": [3]},
        {"members": [1], "others": [6], "alike": 0.5},
        {"members": [1, 2, 3, 20], "others": [1, 1, 1, 2], "alike": 0.3},
        {"members": [6], "others": [5], "digits": 0},
    ],
    ids=["six to three", "alike", "many to few", "ties"],
)
def test_null_is_a_half_whatever_the_counts(
    how: Literal["max", "stouffer"], counts: dict[str, object]
) -> None:
    seen, plain = [], []
    for seed in range(RUNS):
        values, patient, member = world(seed, **counts)  # type: ignore[arg-type]
        score = by_patient(values, patient, patients=2 * SIDE, how=how, is_member=member, seed=seed)
        seen.append(auc(score[member], score[~member]).value)
        raw = naive(values, patient, 2 * SIDE)
        plain.append(auc(raw[member], raw[~member]).value)
    error = np.std(seen) / RUNS**0.5
    assert abs(np.mean(seen) - 0.5) < 3 * error + 0.005
    assert abs(np.mean(plain) - 0.5) > 0.03


def test_normal_scores_spread_alike_whatever_the_counts() -> None:
    values, patient, member = world(1, members=[12], others=[1, 2, 6], alike=0.5)
    score = by_patient(values, patient, patients=2 * SIDE, how="stouffer", is_member=member)
    assert score[member].std() == pytest.approx(1, abs=0.2)
    assert score[~member].std() == pytest.approx(1, abs=0.2)


def test_the_plain_mean_of_skewed_scores_needs_equal_counts() -> None:
    values, patient, member = world(0, members=[12], others=[1])
    score = by_patient(values, patient, patients=2 * SIDE)
    assert auc(score[member], score[~member]).low > 0.5


@pytest.mark.parametrize("alike", [0.0, 0.5])
def test_p_values_are_valid(alike: float) -> None:
    small = []
    for seed in range(RUNS):
        values, patient, member = world(seed, members=[6], others=[1, 2, 12], alike=alike)
        p_values = record_count_p_values(values, patient, is_member=member, seed=seed)[member]
        small.append([(p_values <= level).mean() for level in (0.01, 0.05, 0.2)])
    rates = np.mean(small, axis=0)
    assert (rates <= np.array([0.01, 0.05, 0.2]) + 3 * np.std(small, axis=0) / RUNS**0.5).all()
    if not alike:
        assert rates == pytest.approx([0.01, 0.05, 0.2], rel=0.25)


def test_members_are_found_by_one_remembered_record() -> None:
    values, patient, member = world(3, members=[6], others=[6])
    first = np.unique(patient, return_index=True)[1]
    values[first[member]] *= 20
    score = by_patient(values, patient, patients=2 * SIDE, how="max", is_member=member)
    mean = by_patient(values, patient, patients=2 * SIDE)
    found, beside = auc(score[member], score[~member]), auc(np.log(mean[member]), np.log(mean[~member]))
    assert found.low > 0.7
    assert found.value > beside.value - 0.02


def test_naming_a_null_and_a_leak() -> None:
    values, patient, member = world(5, members=[6], others=[6])
    p_values = record_count_p_values(values, patient, is_member=member)[member]
    assert not (stats.false_discovery_control(p_values) <= 0.05).any()
    values[member[patient] & (patient < 50)] += 100
    found = stats.false_discovery_control(record_count_p_values(values, patient, is_member=member)[member])
    assert (found[:50] <= 0.05).all()
    assert (found[50:] <= 0.05).sum() <= 10


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_order_of_records_does_not_matter_and_scale_not_to_ranks(seed: int, most: int) -> None:
    values, patient, member = world(seed, members=list(range(1, most)), others=[1, most])
    order = np.random.default_rng(seed).permutation(len(values))
    how: Literal["max", "stouffer"]
    for how in ("max", "stouffer"):
        score = by_patient(values, patient, patients=2 * SIDE, how=how, is_member=member)
        other = by_patient(
            np.log(values[order]),
            patient[order],
            patients=2 * SIDE,
            how=how,
            is_member=member,
        )
        assert np.allclose(score, other, equal_nan=True)


def test_refusals() -> None:
    with pytest.raises(InputError, match="one patient each"):
        by_patient([1.0, 2.0], [0], patients=1)
    with pytest.raises(InputError, match="one patient each"):
        by_patient([1.0], [1], patients=1)
    with pytest.raises(InputError, match="two held-out patients"):
        record_count_p_values([1.0, 2.0], [0, 1], is_member=[True, False])

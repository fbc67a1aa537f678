from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import false_discovery_control, norm

from primum.errors import InputError
from primum.evidence.multiplicity import benjamini_hochberg, holm, simes

weighted_lists = st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 100)), min_size=1, max_size=6)
p_lists = st.lists(st.floats(0, 1), min_size=1, max_size=30)


def test_holm_by_hand() -> None:
    assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert_allclose(holm([0.6, 0.5]), [1, 1])


@settings(deadline=None, max_examples=80)
@given(p_lists)
def test_holm_rejects_exactly_what_the_step_down_procedure_rejects(p_values: list[float]) -> None:
    order, rejected = np.argsort(p_values), set()
    for step, index in enumerate(order):
        if p_values[index] * (len(p_values) - step) > 0.05:
            break
        rejected.add(int(index))
    assert set(np.flatnonzero(holm(p_values) <= 0.05).tolist()) == rejected


def closed_test(p_values: list[float], weights: list[float]) -> list[float]:
    """A hypothesis falls when every set that holds it does, each by its own weighted Bonferroni test."""
    places = range(len(p_values))
    sets = [chosen for size in places for chosen in combinations(places, size + 1)]

    def of_set(chosen: tuple[int, ...]) -> float:
        total = sum(weights[i] for i in chosen)
        return min(1.0, min(p_values[i] * total / weights[i] for i in chosen))

    return [max(of_set(chosen) for chosen in sets if i in chosen) for i in places]


@settings(deadline=None, max_examples=60)
@given(weighted_lists)
def test_weighted_holm_is_the_closed_test(pairs: list[tuple[float, float]]) -> None:
    p_values, weights = [p for p, _ in pairs], [w for _, w in pairs]
    adjusted = holm(p_values, weights=weights)
    assert_allclose(adjusted, closed_test(p_values, weights), atol=1e-12)
    assert_allclose(adjusted, holm(p_values, weights=np.multiply(weights, 7.3)), atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(p_lists)
def test_equal_weights_change_nothing(p_values: list[float]) -> None:
    assert_allclose(holm(p_values, weights=np.full(len(p_values), 0.3)), holm(p_values), atol=1e-12)


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_weighted_holm_keeps_its_level_and_favours_the_heavy(correlation: float) -> None:
    random = np.random.default_rng(1)
    weights = np.r_[np.full(2, 0.25), np.full(10, 0.05)]
    shared, own = random.normal(size=(3000, 1)), random.normal(size=(3000, 12))
    noise = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
    null = norm.sf(noise)
    assert np.mean([holm(p, weights=weights).min() <= 0.05 for p in null]) <= 0.06
    # one true effect on a heavy hypothesis: it is found more often, the eleven true nulls still at 5 %
    noise[:, 0] += 2.5
    adjusted = np.array([holm(p, weights=weights) for p in norm.sf(noise)])
    equal = np.array([holm(p) for p in norm.sf(noise)])
    assert (adjusted[:, 1:].min(axis=1) <= 0.05).mean() <= 0.06
    assert (adjusted[:, 0] <= 0.05).mean() > (equal[:, 0] <= 0.05).mean() + 0.1


@settings(deadline=None, max_examples=80)
@given(p_lists)
def test_benjamini_hochberg_is_scipys(p_values: list[float]) -> None:
    adjusted = false_discovery_control(p_values)
    clear = abs(adjusted - 0.1) > 1e-9
    assert (benjamini_hochberg(p_values, rate=0.1) == (adjusted <= 0.1))[clear].all()
    assert_allclose(simes(p_values), adjusted.min())


def test_error_rates_hold_under_the_null() -> None:
    random = np.random.default_rng(0)
    draws = random.random((2000, 12))
    assert np.mean([holm(p).min() <= 0.05 for p in draws]) <= 0.065
    assert 0.035 <= np.mean([simes(p) <= 0.05 for p in draws]) <= 0.065


def test_edges() -> None:
    assert holm([]).size == 0 and benjamini_hochberg([], rate=0.05).size == 0
    assert not benjamini_hochberg([0.5, 0.9], rate=0.05).any()
    assert simes([0.3]) == 0.3
    for bad in ([1.2], [-0.1], [float("nan")], [[0.1]]):
        with pytest.raises(InputError, match="between 0 and 1"):
            holm(bad)
    for weights in ([1.0], [1.0, 0.0], [1.0, -1.0], [1.0, float("inf")], [1.0, float("nan")]):
        with pytest.raises(InputError, match="Weights must be positive"):
            holm([0.1, 0.2], weights=weights)
    with pytest.raises(InputError, match="at least one"):
        simes([])
    with pytest.raises(InputError, match="rate"):
        benjamini_hochberg([0.1], rate=0)

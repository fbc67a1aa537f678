import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import false_discovery_control

from primum.errors import InputError
from primum.evidence.multiplicity import benjamini_hochberg, holm, simes

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
    with pytest.raises(InputError, match="at least one"):
        simes([])
    with pytest.raises(InputError, match="rate"):
        benjamini_hochberg([0.1], rate=0)

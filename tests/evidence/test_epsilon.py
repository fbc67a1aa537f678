import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import beta

from primum.errors import InputError
from primum.evidence.epsilon import epsilon_lower_bound


def gaussian_shift(epsilon: float, delta: float) -> float:
    """Sensitivity over noise of the least private Gaussian mechanism allowed (Balle & Wang 2018)."""

    def excess(shift: float) -> float:
        upper = float(ndtr(shift / 2 - epsilon / shift))
        return upper - math.exp(epsilon) * float(ndtr(-shift / 2 - epsilon / shift)) - delta

    return float(brentq(excess, 1e-3, 50))


@pytest.mark.parametrize(("epsilon", "least"), [(0.5, 0.0), (1.0, 0.25), (4.0, 1.0)])
def test_bound_is_below_the_truth_and_not_idle(epsilon: float, least: float) -> None:
    random, shift = np.random.default_rng(0), gaussian_shift(epsilon, 1e-5)
    bounds = np.array(
        [
            epsilon_lower_bound(random.normal(shift, 1, 10_000), random.normal(0, 1, 10_000)).low
            for _ in range(200)
        ]
    )
    assert (bounds > epsilon).mean() <= 0.05
    assert np.median(bounds) >= least


def test_one_sided_level_is_kept_where_the_bound_is_tight() -> None:
    """Randomised response reaches its epsilon at one threshold, the worst case for a bound."""
    random, epsilon = np.random.default_rng(1), 1.0
    truth = math.exp(epsilon) / (1 + math.exp(epsilon))
    yes, no = random.random((500, 400)) < truth, random.random((500, 400)) < 1 - truth
    estimates = [epsilon_lower_bound(*answers) for answers in zip(yes, no, strict=True)]
    bounds = np.array([e.low for e in estimates])
    assert (bounds > epsilon).mean() <= 0.05 and np.median(bounds) > 0.5
    assert np.mean([e.value > epsilon for e in estimates]) > 0.3


def test_perfect_separation_is_worth_what_zero_of_n_is_worth() -> None:
    estimate = epsilon_lower_bound(np.ones(5000), np.zeros(5000))
    low, high = beta.ppf(0.025, 3500, 1), beta.ppf(0.975, 1, 3500)
    assert_allclose(estimate.low, math.log((low - 1e-5) / high))
    assert high <= 3.69 / 3500 and estimate.value == estimate.high == math.inf
    assert estimate.n == (5000, 5000) and "one-sided" in estimate.method


def test_outsiders_below_count_as_much_as_members_above() -> None:
    """A score that only rules people out: members never get the lowest value."""
    random = np.random.default_rng(2)
    others = (random.random(4000) < 0.5).astype(float)
    ruling_out = epsilon_lower_bound(np.ones(4000), others)
    assert ruling_out.low > 4 > epsilon_lower_bound(others, np.ones(4000)).low == 0


def test_order_only_deterministic_and_larger_delta_proves_less() -> None:
    random = np.random.default_rng(3)
    members, others = random.normal(2, 1, 2000), random.normal(0, 1, 2000)
    bound = epsilon_lower_bound(members, others)
    assert bound == epsilon_lower_bound(np.exp(members), np.exp(others))
    assert bound.low > epsilon_lower_bound(members, others, delta=1e-2).low
    assert bound.low > epsilon_lower_bound(members, others, level=0.999).low
    assert bound.low != epsilon_lower_bound(members, others, seed=1).low


def test_nothing_told_proves_nothing_and_bad_input_is_refused() -> None:
    assert epsilon_lower_bound(np.ones(100), np.ones(100)).low == 0
    assert epsilon_lower_bound([0.0, 1.0], [0.0, 1.0]).low == 0
    with pytest.raises(InputError, match="two members"):
        epsilon_lower_bound([1.0], [0.0, 1.0])
    with pytest.raises(InputError, match="delta"):
        epsilon_lower_bound([1.0, 2.0], [0.0, 1.0], delta=0)

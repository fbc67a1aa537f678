import numpy as np
import pytest
from opacus.accountants import PRVAccountant, RDPAccountant
from scipy.optimize import brentq
from scipy.stats import norm
from studies.ledger import compared, random_settings

from primum.train.accounting import Mechanism, epsilon_spent


def steps_of(noise: float, rate: float = 1.0, steps: int = 1) -> list[Mechanism]:
    return [Mechanism("gradients", noise, rate, steps)]


@pytest.mark.parametrize(("noise", "rate", "steps"), [(1.0, 0.1, 50), (0.8, 0.3, 10), (4.0, 0.9, 40)])
def test_epsilon_agrees_with_other_accountants(noise: float, rate: float, steps: int) -> None:
    ours = epsilon_spent(steps_of(noise, rate, steps), 1e-5)
    numerical, moments = PRVAccountant(), RDPAccountant()
    numerical.history = moments.history = [(noise, rate, steps)]
    assert ours == pytest.approx(numerical.get_epsilon(delta=1e-5, eps_error=0.02), rel=0.02)
    assert ours < moments.get_epsilon(delta=1e-5, alphas=range(2, 64)) < 1.5 * ours


@pytest.mark.parametrize("noise", [0.6, 1.0, 5.0])
def test_epsilon_of_one_full_step_is_that_of_the_gaussian_mechanism(noise: float) -> None:
    """Balle and Wang, Improving the Gaussian mechanism for differential privacy, ICML 2018, theorem 8."""

    def excess(epsilon: float) -> float:
        near, far = 0.5 / noise - epsilon * noise, -0.5 / noise - epsilon * noise
        return float(norm.cdf(near) - np.exp(epsilon) * norm.cdf(far)) - 1e-5

    assert epsilon_spent(steps_of(noise), 1e-5) == pytest.approx(brentq(excess, 1e-9, 60), rel=1e-3)


@pytest.mark.parametrize(("mechanisms", "delta"), list(random_settings(9, seed=66)))
def test_epsilon_of_random_settings_is_never_below_the_truth(
    mechanisms: list[Mechanism], delta: float
) -> None:
    """The truth is a closed form where everybody takes part, else what opacus' PRV proves."""
    found = compared(mechanisms, delta)
    assert found.low <= found.ours <= found.truth * (1 + 1e-3) + 2e-2

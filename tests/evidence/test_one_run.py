import json
import math
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit
from scipy.stats import beta
from studies import one_run as study

from primum.errors import InputError
from primum.evidence.one_run import _chance, epsilon_of_guesses, one_run_epsilon

PEER = json.loads((Path(__file__).parent / "one_run_peer.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("number", range(study.SETS))
def test_agrees_with_jax_privacy(number: int) -> None:
    assert_allclose(study.ours(*study.score_set(number)), PEER["sets"][number]["at"], atol=1e-3)


def test_pure_privacy_is_the_log_odds_of_the_lower_limit() -> None:
    limit = beta.ppf(0.05, 90, 11)
    bound = epsilon_of_guesses(90, 100, canaries=10**6, delta=1e-300, error=0.05)
    assert_allclose(bound, math.log(limit / (1 - limit)), atol=1e-7)


def test_delta_moves_outcomes_by_enumeration() -> None:
    """Five canaries, all guessed: the chance allowed is the tail, plus what delta can lift over the line."""
    epsilon, right = 0.7, float(expit(0.7))
    pmf = np.zeros(6)
    for outcome in product((0, 1), repeat=5):
        hits = sum(outcome)
        pmf[hits] += right**hits * (1 - right) ** (5 - hits)
    lifted = max(pmf[4 - i : 4].sum() / i for i in range(1, 5))
    expected = pmf[4:].sum() + 2 * 5 * 0.01 * lifted
    assert_allclose(_chance(4, 5, 5, epsilon=epsilon, delta=0.01), expected)


@pytest.mark.parametrize("kind", ["randomised response", "gaussian"])
def test_bound_is_below_the_truth_and_not_idle(kind: str) -> None:
    bounds = []
    for run in range(60):
        scores, coins = study.drawn(kind, 2.0, canaries=600, seed=[5, run])
        bounds.append(one_run_epsilon(scores, coins).low)
    assert np.mean(np.array(bounds) > 2.0) <= 0.1
    assert np.median(bounds) > (1.5 if kind == "randomised response" else 0.3)


def test_error_of_one_guess_count_is_used_up() -> None:
    """At one fixed count the bound is exact: it exceeds the truth nearly as often as it may."""
    right = np.random.default_rng(0).binomial(200, expit(1.0), 4000)
    bounds = {
        int(k): epsilon_of_guesses(int(k), 200, canaries=200, delta=1e-9, error=0.05) for k in set(right)
    }
    exceeding = np.mean([bounds[int(k)] > 1.0 for k in right])
    assert 0.03 <= exceeding <= 0.055


def test_order_only_and_which_canary_comes_first_does_not_matter() -> None:
    scores, coins = study.drawn("gaussian", 4.0, canaries=400, seed=[1])
    found = one_run_epsilon(scores, coins)
    mixed = np.random.default_rng(0).permutation(400)
    assert found == one_run_epsilon(np.exp(scores[mixed]), coins[mixed])
    assert found.n == (int(coins.sum()), int((~coins).sum()))
    assert found.high == math.inf and found.value >= found.low > 0
    assert found.low > one_run_epsilon(scores, coins, level=0.999).low
    assert found.low > one_run_epsilon(scores, coins, delta=1e-3).low
    # Ruling out counts too, but a score the wrong way round proves nothing.
    assert one_run_epsilon(-scores, coins).low == 0


def test_ties_are_guessed_together_whatever_the_order() -> None:
    scores, coins = study.drawn("randomised response", 1.5, canaries=300, seed=[2])
    apart = np.lexsort((~coins, scores))
    assert one_run_epsilon(scores, coins) == one_run_epsilon(scores[apart], coins[apart])


def test_each_of_the_twelve_bounds_has_a_twelfth_of_the_error() -> None:
    coins = np.arange(64) < 32
    bound = epsilon_of_guesses(64, 64, canaries=64, delta=1e-5, error=0.05 / 12)
    assert_allclose(one_run_epsilon(100.0 - np.arange(64), coins).low, bound)


def test_scores_that_rule_out_are_used() -> None:
    """The lowest scores are never of planted canaries, all others tell nothing: only both ends see it."""
    random = np.random.default_rng(3)
    coins = random.random(2000) < 0.5
    scores = random.random(2000) - 2.0 * (~coins & (random.random(2000) < 0.3))
    assert one_run_epsilon(scores, coins).low > 0.5


def test_nothing_told_proves_nothing() -> None:
    coins = np.arange(100) % 2 == 0
    assert one_run_epsilon(np.ones(100), coins).low == 0
    assert one_run_epsilon([1.0], [True]).low == 0
    bounds = [epsilon_of_guesses(k, 20, canaries=20, delta=1e-5, error=0.05) for k in range(21)]
    assert bounds[:10] == [0.0] * 10 and all(a <= b for a, b in pairwise(bounds)) and bounds[-1] > 1.5
    assert epsilon_of_guesses(0, 0, canaries=20, delta=1e-5, error=0.05) == 0


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="one mark"):
        one_run_epsilon([1.0, 2.0], [True])
    with pytest.raises(InputError, match="not finite"):
        one_run_epsilon([1.0, math.nan], [True, False])
    with pytest.raises(InputError, match="delta"):
        one_run_epsilon([1.0, 2.0], [True, False], delta=0)
    with pytest.raises(InputError, match="level"):
        one_run_epsilon([1.0, 2.0], [True, False], level=1)

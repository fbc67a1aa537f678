import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import mannwhitneyu, permutation_test, rankdata

from primum.errors import InputError
from primum.evidence.permutation import mean_permutation_p_value, rank_permutation_p_value


def test_agrees_with_an_independent_permutation_test_and_with_the_rank_test() -> None:
    random = np.random.default_rng(0)
    members, others = random.normal(0.25, 1, 60).round(1), random.normal(0, 1, 80).round(1)
    ranks = rankdata(np.concatenate([members, others]))
    oracle = permutation_test(
        (ranks[:60], ranks[60:]),
        lambda one, two, axis: one.mean(axis) - two.mean(axis),
        alternative="greater",
        vectorized=True,
        n_resamples=9999,
        rng=1,
    )
    found = rank_permutation_p_value(members, others)
    assert_allclose(found, oracle.pvalue, atol=0.012)
    assert_allclose(found, mannwhitneyu(members, others, alternative="greater").pvalue, atol=0.012)
    # Ranks alone count.
    assert rank_permutation_p_value(np.exp(members), np.exp(others)) == found


def test_false_alarms_and_power() -> None:
    random = np.random.default_rng(2)

    def p_value(shift: float, seed: int) -> float:
        members, others = random.standard_t(2, (2, 40))
        return rank_permutation_p_value(members + shift, others, resamples=499, seed=seed)

    assert np.mean([p_value(0.0, seed) <= 0.05 for seed in range(400)]) <= 0.08
    assert np.mean([p_value(1.0, seed) <= 0.05 for seed in range(100)]) > 0.8


def test_what_all_score_alike_shows_nothing() -> None:
    assert rank_permutation_p_value([1.0] * 5, [1.0] * 5) == 1
    assert mean_permutation_p_value(np.ones(9), np.zeros(9), resamples=99) == 0.01
    with pytest.raises(InputError, match="not finite"):
        rank_permutation_p_value([np.nan], [1.0])

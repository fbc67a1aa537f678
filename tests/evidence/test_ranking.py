import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.special import expit, logit, ndtri
from scipy.stats import mannwhitneyu, t
from sklearn.metrics import roc_auc_score

from primum.errors import InputError
from primum.evidence.ranking import (
    FloatArray,
    auc,
    auc_bootstrap,
    auc_difference,
    auc_p_value,
    auc_stratified,
)

groups = st.lists(st.integers(-5, 5), min_size=2, max_size=25)


def brute_placements(members: FloatArray, others: FloatArray) -> tuple[FloatArray, FloatArray]:
    kernel = (members[:, None] > others) + 0.5 * (members[:, None] == others)
    return kernel.mean(axis=1), kernel.mean(axis=0)


def brute_interval(members: FloatArray, others: FloatArray, level: float) -> tuple[float, float]:
    """The documented formula again, by the m x n kernel, numpy.cov and scipy.stats.t."""
    above, below = brute_placements(members, others)
    value = above.mean()
    parts = [float(np.cov(above)) / above.size, float(np.cov(below)) / below.size]
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (above.size - 1) + parts[1] ** 2 / (below.size - 1))
    spread = math.sqrt(sum(parts) + value * (1 - value) / min(above.size, below.size) ** 2)
    half = t.isf((1 - level) / 2, freedom) * spread / (value * (1 - value))
    return float(expit(logit(value) - half)), float(expit(logit(value) + half))


@pytest.mark.parametrize(("m", "n", "decimals"), [(40, 70, 8), (70, 40, 0), (300, 200, 1)])
def test_agrees_with_brute_force_and_sklearn(m: int, n: int, decimals: int) -> None:
    random = np.random.default_rng(m)
    members, others = random.normal(0.7, 1, m).round(decimals), random.normal(0, 1, n).round(decimals)
    estimate = auc(members, others, level=0.9)
    reference = roc_auc_score(np.arange(m + n) < m, np.concatenate([members, others]))
    assert_allclose(estimate.value, reference, atol=1e-12)
    assert_allclose((estimate.low, estimate.high), brute_interval(members, others, 0.9), atol=1e-9)
    assert estimate.n == (m, n) and estimate.method == "delong-logit"


@settings(deadline=None, max_examples=60)
@given(groups, groups)
def test_only_the_order_counts_and_swapping_groups_mirrors(members: list[int], others: list[int]) -> None:
    first, second = np.array(members, float), np.array(others, float)
    estimate, stretched, swapped = auc(first, second), auc(np.exp(first), np.exp(second)), auc(second, first)
    assert (estimate.value, estimate.low, estimate.high) == (stretched.value, stretched.low, stretched.high)
    assert_allclose((swapped.value, swapped.low), (1 - estimate.value, 1 - estimate.high), atol=1e-9)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert auc_p_value(first, second) == auc_p_value(np.exp(first), np.exp(second))


@pytest.mark.parametrize(
    ("members", "others", "expected"),
    [
        (np.ones(50), np.zeros(80), (1, 0.025 ** (1 / 50), 1)),
        (np.zeros(80), np.ones(50), (0, 0, 1 - 0.025 ** (1 / 50))),
        (np.ones(50), np.ones(50), (0.5, 0.025 ** (1 / 50) / 2, 1 - 0.025 ** (1 / 50) / 2)),
        (np.ones(1), np.arange(4.0), (0.375, 0.375 * 0.025, 1 - 0.625 * 0.025)),
    ],
)
def test_bound_is_exact_where_the_variance_collapses(
    members: FloatArray, others: FloatArray, expected: tuple[float, ...]
) -> None:
    estimate = auc(members, others)
    assert_allclose((estimate.value, estimate.low, estimate.high), expected)
    assert estimate.method == "exact-pairs"


@pytest.mark.parametrize(
    ("true", "m", "n"), [(0.5, 300, 300), (0.97, 50, 50), (0.9, 10, 300), (0.97, 10, 300)]
)
def test_interval_covers_the_true_auc(true: float, m: int, n: int) -> None:
    random, shift = np.random.default_rng(0), math.sqrt(2) * ndtri(true)
    drawn = [auc(random.normal(shift, 1, m), random.normal(0, 1, n)) for _ in range(600)]
    assert np.mean([e.low <= true <= e.high for e in drawn]) >= 0.93


def test_p_value_is_scipys_and_uniform_at_most() -> None:
    random = np.random.default_rng(1)
    small, large = random.normal(1, 1, 12), random.normal(0, 1, 9)
    reference = mannwhitneyu(small, large, alternative="greater", method="exact").pvalue
    assert_allclose(auc_p_value(small, large), reference, atol=1e-12)
    assert_allclose(auc_p_value([2.0, 3.0, 4.0], [0.0, 1.0]), 1 / 10)
    tied, others = random.integers(0, 4, 400), random.integers(0, 4, 300)
    reference = mannwhitneyu(tied, others, alternative="greater", method="asymptotic").pvalue
    assert_allclose(auc_p_value(tied, others), reference, atol=1e-12)
    assert auc_p_value(np.ones(5), np.ones(5)) == 1
    nulls = [auc_p_value(random.normal(size=60), random.normal(size=90)) for _ in range(1000)]
    assert 0.03 <= np.mean(np.array(nulls) <= 0.05) <= 0.07


def test_difference_uses_the_paired_covariance() -> None:
    random = np.random.default_rng(2)
    m, n = 200, 260
    members, others = random.normal(0.8, 1, m), random.normal(0, 1, n)
    noisy, noisy_others = members + random.normal(0, 1, m), others + random.normal(0, 1, n)
    joined = auc_difference(members, others, noisy, noisy_others)
    above, below = brute_placements(members, others)
    above2, below2 = brute_placements(noisy, noisy_others)
    covariance = np.cov(above, above2) / m + np.cov(below, below2) / n
    spread = math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert_allclose(joined.value, above.mean() - above2.mean(), atol=1e-12)
    assert_allclose((joined.high - joined.low) / 2, 1.96 * spread, rtol=0.02)
    unpaired = math.sqrt(covariance[0, 0] + covariance[1, 1])
    assert joined.high - joined.low < 0.8 * 2 * 1.96 * unpaired


def test_difference_covers_and_is_honest_at_perfect_separation() -> None:
    random = np.random.default_rng(3)
    covered = 0
    for _ in range(400):
        members, others = random.normal(1, 1, 80), random.normal(0, 1, 80)
        noise = random.normal(0, 1, (2, 80))
        e = auc_difference(members, others, members + noise[0], others + noise[1])
        covered += e.low <= 0.7602499 - 0.6914625 <= e.high
    assert covered / 400 >= 0.93
    perfect = auc_difference(np.ones(60), np.zeros(60), np.ones(60), np.zeros(60))
    assert perfect.value == 0 and perfect.low < -0.05 and perfect.high > 0.05
    against_chance = auc_difference(np.ones(60), np.zeros(60), np.arange(60.0), np.arange(60.0))
    assert 0.35 < against_chance.low < 0.5 < against_chance.high < 0.65


def test_strata_remove_what_they_explain() -> None:
    random = np.random.default_rng(4)
    strata = np.concatenate([random.random(400) < 0.8, random.random(500) < 0.2]).astype(int)
    scores = random.normal(0, 1, 900) + 2 * strata
    crude = auc(scores[:400], scores[400:])
    within = auc_stratified(scores[:400], scores[400:], strata[:400], strata[400:])
    assert crude.low > 0.6 and within.low < 0.5 < within.high
    assert within.high - within.low < 1.6 * (crude.high - crude.low)
    first, second = scores[:400], scores[400:]
    each = [auc(first[strata[:400] == s], second[strata[400:] == s]) for s in (0, 1)]
    assert_allclose(within.value, np.average([e.value for e in each], weights=[math.prod(e.n) for e in each]))


def test_one_stratum_is_the_plain_auc_and_lone_strata_are_counted_out() -> None:
    random = np.random.default_rng(5)
    members, others = random.normal(0.5, 1, 60), random.normal(0, 1, 70)
    plain = auc(members, others)
    one = auc_stratified(members, others, ["a"] * 60, ["a"] * 70)
    assert_allclose((one.value, one.low, one.high), (plain.value, plain.low, plain.high))
    labels = ["a"] * 58 + ["alone"] * 2
    part = auc_stratified(members, others, labels, ["a"] * 70)
    assert part.n == (58, 70) and part.method.endswith("1 strata, 128 of 130 patients")
    with pytest.raises(InputError, match="No stratum"):
        auc_stratified(members, others, ["a"] * 60, ["b"] * 70)
    with pytest.raises(InputError, match="same patients"):
        auc_stratified(members, others, ["a"] * 6, ["a"] * 70)


def test_stratified_interval_covers_with_many_small_strata() -> None:
    random, covered = np.random.default_rng(6), 0
    for _ in range(150):
        strata, other_strata = random.integers(0, 40, 150), random.integers(0, 40, 150)
        members = random.normal(ndtri(0.75) * math.sqrt(2), 1, 150) + strata
        others = random.normal(0, 1, 150) + other_strata
        e = auc_stratified(members, others, strata, other_strata)
        covered += e.low <= 0.75 <= e.high
    assert covered / 150 >= 0.91


def test_stratified_bound_at_perfect_separation() -> None:
    strata = np.repeat([0, 1], 20)
    e = auc_stratified(np.ones(40), np.zeros(40), strata, strata)
    assert_allclose((e.low, e.high), (0.025 ** (1 / 40), 1))


def test_bootstrap_agrees_with_delong() -> None:
    random = np.random.default_rng(7)
    members, others = random.normal(0.6, 1, 300).round(1), random.normal(0, 1, 400).round(1)
    delong, bootstrap = auc(members, others), auc_bootstrap(members, others, seed=1)
    assert_allclose(bootstrap.value, delong.value)
    assert_allclose((bootstrap.low, bootstrap.high), (delong.low, delong.high), atol=0.006)
    assert bootstrap == auc_bootstrap(members, others, seed=1) != auc_bootstrap(members, others, seed=2)


@pytest.mark.parametrize("bad", [[], [math.nan, 1.0], [[1.0, 2.0]], [math.inf]])
@pytest.mark.parametrize("statistic", [auc, auc_p_value, auc_bootstrap])
def test_unusable_scores_are_refused(bad: list[float], statistic: object) -> None:
    assert callable(statistic)
    with pytest.raises(InputError, match="non-members"):
        statistic([1.0, 2.0], bad)
    with pytest.raises(InputError, match=r"of members|for members"):
        statistic(bad, [1.0, 2.0])


def test_level_must_be_a_share_and_pairs_must_match() -> None:
    with pytest.raises(InputError, match="level"):
        auc([1.0, 2.0], [0.0, 1.5], level=95)
    with pytest.raises(InputError, match="same patients"):
        auc_difference([1.0, 2.0], [0.0, 1.5], [1.0], [0.0, 1.5])


@pytest.mark.parametrize("wrong", [1, 5, 40])
def test_the_interval_is_narrow_just_below_one(wrong: int) -> None:
    """Variances near AUC 1 are tiny; no floor may turn them into an interval from 0 to 1."""
    members = np.concatenate([np.full(wrong, -0.5), np.linspace(2, 3, 300 - wrong)])
    found = auc(members, np.linspace(-1, 1, 1000))
    assert found.value > 0.85
    assert found.value - 0.12 < found.low < found.value < found.high < 1

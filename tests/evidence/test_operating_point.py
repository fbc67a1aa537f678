import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.special import ndtr
from scipy.stats import binomtest, fisher_exact, hypergeom, norm
from sklearn.metrics import roc_curve

from primum.errors import InputError
from primum.evidence.operating_point import (
    TooFewPatients,
    operating_point,
    pooled_size,
    pooled_threshold_p_value,
    roc_points,
    tpr_at_fpr,
    tpr_difference,
)

scores = st.lists(st.integers(0, 12), min_size=30, max_size=60)


@settings(deadline=None, max_examples=60)
@given(scores, scores, st.sampled_from([0.1, 0.17, 0.29, 0.5]))
def test_threshold_is_the_largest_attainable_rate_and_limits_are_exact(
    members: list[int], others: list[int], fpr: float
) -> None:
    point = operating_point(members, others, fpr=fpr)
    first, second = np.array(members), np.array(others)
    attainable = [float((second > t).mean()) for t in [-1, *others]]
    assert point.fpr.value == max(rate for rate in attainable if rate <= fpr + 1e-12)
    assert point.fpr.value == (second > point.threshold).mean()
    hits = int((first > point.threshold).sum())
    exact = binomtest(hits, len(members)).proportion_ci(0.95, method="exact")
    assert_allclose(
        (point.tpr.value, point.tpr.low, point.tpr.high), (hits / len(members), *exact), atol=1e-9
    )
    stretched = operating_point(np.exp(first), np.exp(second), fpr=fpr)
    assert (stretched.tpr, stretched.fpr) == (point.tpr, point.fpr)


def test_ties_are_non_members() -> None:
    point = operating_point([1.0] * 10 + [2.0] * 5, [1.0] * 100 + [0.0] * 200)
    assert (point.tpr.value, point.fpr.value, point.threshold) == (5 / 15, 0.0, 1.0)
    assert point.fpr.high <= 3.69 / 300


def test_interval_covers_the_population_rate_at_the_threshold_used() -> None:
    random, covered = np.random.default_rng(0), []
    for _ in range(800):
        point = operating_point(random.normal(1.5, 1, 200), random.normal(0, 1, 300))
        rates = ndtr(1.5 - point.threshold), ndtr(-point.threshold)
        pairs = zip((point.tpr, point.fpr), rates, strict=True)
        covered.append([e.low <= rate <= e.high for e, rate in pairs])
    assert (np.mean(covered, axis=0) >= 0.93).all()


def test_too_few_non_members_says_how_many() -> None:
    with pytest.raises(TooFewPatients, match="300") as refused:
        tpr_at_fpr(np.arange(50.0), np.arange(299.0))
    assert refused.value.needed == 300 and refused.value.exit_status == 2
    assert tpr_at_fpr(np.arange(50.0), np.arange(300.0)).name == "tpr"


def test_pooled_test_is_fishers_exact_test() -> None:
    random = np.random.default_rng(1)
    members, others = random.normal(0.8, 1, 120), random.normal(0, 1, 150)
    size = pooled_size(120, 150, fpr=0.05)
    edge = np.sort(np.concatenate([members, others]))[-size]
    hits = int((members >= edge).sum())
    table = np.array([[hits, size - hits], [120 - hits, 150 - size + hits]])
    expected = fisher_exact(table, alternative="greater").pvalue
    assert_allclose(pooled_threshold_p_value(members, others, fpr=0.05), expected, rtol=1e-9)


@pytest.mark.parametrize(("m", "n"), [(300, 300), (300, 1000), (1000, 300), (50, 60)])
def test_pooled_size_is_the_fewest_that_can_decide(m: int, n: int) -> None:
    size = pooled_size(m, n, fpr=1e-6)
    assert hypergeom.pmf(size, m + n, m, size) <= 0.001 < hypergeom.pmf(size - 1, m + n, m, size - 1)
    assert pooled_size(m, n, fpr=0.2) == math.ceil(0.2 * (m + n))
    assert pooled_size(3, 3, fpr=0.01) == 3


@pytest.mark.parametrize("decimals", [9, 1, 0])
@pytest.mark.parametrize("n", [100, 300])
def test_pooled_test_keeps_its_level_with_and_without_ties(n: int, decimals: int) -> None:
    random = np.random.default_rng(n + decimals)
    p_values = np.array(
        [
            pooled_threshold_p_value(
                random.normal(size=n).round(decimals), random.normal(size=n).round(decimals)
            )
            for _ in range(1000)
        ]
    )
    for alpha in (0.01, 0.05, 0.2):
        assert (p_values <= alpha).mean() <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / 1000)


def test_pooled_test_sees_saturated_scores() -> None:
    assert pooled_threshold_p_value(np.ones(300), np.zeros(300)) < 1e-100
    assert pooled_threshold_p_value(np.ones(300), np.ones(300)) == 1
    nine = np.concatenate([np.arange(2.0, 11.0), np.ones(291)])
    assert pooled_threshold_p_value(nine, np.ones(300)) == pytest.approx(hypergeom.pmf(9, 600, 300, 9))


def test_difference_covers_the_truth() -> None:
    random, covered = np.random.default_rng(2), 0
    truth = norm.sf(norm.isf(0.05) - 1.2) - norm.sf(norm.isf(0.05) - 0.6)
    for seed in range(150):
        shared, apart = random.normal(size=(2, 400)), random.normal(size=(2, 400))
        one, two = (shared + apart) / math.sqrt(2), (shared - apart) / math.sqrt(2)
        e = tpr_difference(one[0] + 1.2, one[1], two[0] + 0.6, two[1], fpr=0.05, resamples=300, seed=seed)
        covered += e.low <= truth <= e.high
    assert covered / 150 >= 0.9


def test_difference_is_paired_and_deterministic() -> None:
    random = np.random.default_rng(3)
    members, others = random.normal(2, 1, 300), random.normal(0, 1, 1000)
    same = tpr_difference(members, others, 2 * members, 2 * others)
    assert (same.value, same.method) == (0, "clopper-pearson-joined") and same.low < 0 < same.high
    mixed = tpr_difference(members, others, random.permutation(members), random.permutation(others))
    assert mixed.value == 0 and mixed.high - mixed.low > 0.05
    noise = members + random.normal(0, 0.1, 300), others + random.normal(0, 0.1, 1000)
    near = tpr_difference(members, others, *noise)
    assert near.high - near.low < 0.7 * (mixed.high - mixed.low)
    assert near == tpr_difference(members, others, *noise)
    with pytest.raises(InputError, match="same patients"):
        tpr_difference(members, others, members[:5], others)


def test_certain_difference_keeps_a_width() -> None:
    blind = np.tile([0.0, 1.0], 150)
    e = tpr_difference(np.ones(300), np.zeros(300), np.zeros(300), blind)
    assert (e.value, e.high) == (1, 1) and 0.97 < e.low < 1


def test_roc_points_lie_on_the_empirical_curve() -> None:
    random = np.random.default_rng(4)
    members, others = random.normal(1, 1, 200), random.normal(0, 1, 400)
    grid = [0.0, 0.001, 0.01, 0.1, 1.0]
    tpr, low, high = roc_points(members, others, grid=grid)
    labels = np.arange(600) < 200
    curve_fpr, curve_tpr, _ = roc_curve(labels, np.concatenate([members, others]), drop_intermediate=False)
    assert_allclose(tpr, [curve_tpr[curve_fpr <= rate].max() for rate in grid])
    assert ((low <= tpr) & (tpr <= high)).all() and (tpr[-1], high[-1]) == (1, 1)
    assert tpr[2] == tpr_at_fpr(members, others).value
    with pytest.raises(InputError, match="between 0 and 1"):
        roc_points(members, others, grid=[2.0])

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit, logit, ndtri

from primum.evidence.estimate import Estimate
from primum.evidence.pooling import partial_pooling
from primum.evidence.ranking import FloatArray, auc

WHOLE = Estimate("share_difference", 0.0, -0.1, 0.1, (900, 900), "welch-agresti-caffo")


def estimates(values: FloatArray, deviations: FloatArray, *, level: float = 0.95) -> list[Estimate]:
    reach = ndtri((1 + level) / 2) * deviations
    return [
        Estimate("share_difference", float(v), float(v - r), float(v + r), (50, 50), "raw", level)
        for v, r in zip(values, reach, strict=True)
    ]


@pytest.mark.parametrize(
    ("groups", "between", "gain"), [(4, 0.02, 0.8), (6, 0.05, 0.65), (12, 0.0, 0.3), (12, 0.15, 0.9)]
)
def test_pooled_values_are_nearer_the_truth_and_intervals_cover(
    groups: int, between: float, gain: float
) -> None:
    random = np.random.default_rng(groups)
    raw, shrunken, covered, noisiest = [], [], [], []
    for _ in range(400):
        deviations = random.uniform(0.02, 0.12, groups)
        truth = random.normal(0.03, between, groups)
        seen = random.normal(truth, deviations)
        pooled = partial_pooling(estimates(seen, deviations), WHOLE)
        raw.append(seen - truth)
        shrunken.append([one.value for one in pooled] - truth)
        inside = [one.low <= where <= one.high for one, where in zip(pooled, truth, strict=True)]
        covered.append(np.mean(inside))
        noisiest.append(inside[int(np.argmax(deviations))])
    assert np.square(shrunken).mean() < gain * np.square(raw).mean()
    assert np.mean(covered) >= 0.93 and np.mean(noisiest) >= 0.93


def test_equal_variances_give_james_and_stein() -> None:
    values, variance = np.array([0.02, 0.05, 0.11, -0.01, 0.08, 0.2]), 0.03**2
    pooled = partial_pooling(estimates(values, np.full(6, 0.03), level=0.9), WHOLE)
    distance = values - values.mean()
    expected = values - 3 * variance / (distance @ distance) * distance
    assert_allclose([one.value for one in pooled], expected)
    # Morris 1983 at equal variances: V (1 - (k - 1) / k B) + 2 / (k - 3) B^2 (y - mean)^2
    shrinkage = 3 * variance / (distance @ distance)
    errors = np.sqrt(variance * (1 - 5 / 6 * shrinkage) + 2 / 3 * shrinkage**2 * distance**2)
    assert_allclose([(one.high - one.low) / 2 for one in pooled], ndtri(0.95) * errors)
    assert {(one.name, one.method, one.level) for one in pooled} == {
        ("share_difference_pooled", "partial-pooling", 0.9)
    }


def test_certain_groups_move_least_and_all_toward_the_middle() -> None:
    deviations = np.array([0.01, 0.02, 0.05, 0.1, 0.2])
    values = np.array([0.0, 0.1, -0.05, 0.3, -0.3])
    moved = [one.value for one in partial_pooling(estimates(values, deviations), WHOLE)] - values
    assert abs(moved[0]) < 0.005 < abs(moved[3]) < abs(moved[4])
    assert moved[3] < 0 < moved[4]


def test_an_auc_is_pooled_on_the_logit_scale() -> None:
    random = np.random.default_rng(1)
    groups = [auc(random.normal(0.8, 1, n), random.normal(0, 1, n)) for n in (12, 20, 30, 60, 200)]
    pooled = partial_pooling(groups, groups[-1])
    on_logit = [
        Estimate("share_difference", logit(one.value), logit(one.low), logit(one.high), one.n, "raw")
        for one in groups
    ]
    again = partial_pooling(on_logit, WHOLE)
    assert_allclose(
        [(one.value, one.low, one.high) for one in pooled],
        [expit((one.value, one.low, one.high)) for one in again],
    )
    assert all(0 < one.low < one.value < one.high < 1 and one.name == "auc_pooled" for one in pooled)


def test_what_cannot_be_pooled_is_left_as_it_is() -> None:
    assert partial_pooling([], WHOLE) == ()
    for few in (1, 2, 3):
        given = estimates(np.linspace(0, 0.3, few), np.full(few, 0.05))
        kept = partial_pooling(given, WHOLE)
        assert [(one.value, one.low, one.high, one.method) for one in kept] == [
            (one.value, one.low, one.high, "raw") for one in given
        ]
        assert kept[0].name == "share_difference_pooled"
    five = estimates(np.array([0.0, 0.1, 0.05, 0.2]), np.full(4, 0.05))
    odd = [
        Estimate("share_difference", 0.5, 0.5, 0.5, (9, 9), "raw"),
        Estimate("share_difference", float("nan"), -1.0, 1.0, (9, 9), "raw"),
        Estimate("share_difference", 0.5, float("nan"), 1.0, (9, 9), "raw"),
    ]
    mixed = partial_pooling([*odd, *five], WHOLE)
    assert mixed[3:] == partial_pooling(five, WHOLE) and mixed[3].method == "partial-pooling"
    assert [one.method for one in mixed[:3]] == ["raw"] * 3 and mixed[0].low == 0.5
    perfect = [auc(np.ones(20), np.zeros(20)), *(auc([1.0, 2, 3, x], [0.0, 2, 2.5, 5]) for x in range(4))]
    assert partial_pooling(perfect, perfect[1])[0].high == 1

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit
from scipy.stats import fisher_exact, permutation_test, ttest_ind

from primum.errors import InputError
from primum.evidence.ranking import FloatArray
from primum.evidence.shares import (
    patients_needed_for_share,
    share_difference,
    share_excess_over_blind,
    share_p_value,
    smallest_detectable_share,
    stratified_share_difference,
)

Draw = Callable[[np.random.Generator, int], FloatArray]


def flat(random: np.random.Generator, n: int) -> FloatArray:
    return random.beta(1, 9, n)


def rare(random: np.random.Generator, n: int) -> FloatArray:
    return (random.random(n) < 0.02).astype(np.float64)


def codes(random: np.random.Generator, n: int) -> FloatArray:
    """Eight codes a patient, some patients far easier than others."""
    return random.binomial(8, random.beta(0.3, 2.7, n)) / 8


def least_squares(
    scores: FloatArray, arm: FloatArray, strata: FloatArray, *, extra: FloatArray
) -> tuple[float, float]:
    """Coefficient of the arm and its HC2 error by matrices, after the patients at 0 and 1 have joined."""
    levels = np.unique(strata)
    scores = np.concatenate([scores, np.tile([0.0, 1.0, 0.0, 1.0], levels.size)])
    arm = np.concatenate([arm, np.tile([1.0, 1.0, 0.0, 0.0], levels.size)])
    strata = np.concatenate([strata, np.repeat(levels, 4)])
    weight = np.diag(np.concatenate([np.ones(scores.size - 4 * levels.size), np.repeat(extra, 4)]))
    design = np.column_stack([arm, strata[:, None] == levels])
    inverse = np.linalg.inv(design.T @ weight @ design)
    slope = inverse @ design.T @ weight @ scores
    residual = scores - design @ slope
    hat = np.diag(design @ inverse @ design.T)
    middle = design.T @ weight @ np.diag(residual**2 / (1 - hat)) @ design
    return float(slope[0]), math.sqrt((inverse @ middle @ inverse)[0, 0])


@pytest.mark.parametrize("level", [0.9, 0.95])
@pytest.mark.parametrize("draw", [flat, rare, codes])
def test_share_interval_is_welchs_with_four_more_patients(draw: Draw, level: float) -> None:
    random = np.random.default_rng(0)
    members, others = draw(random, 40), draw(random, 70)
    found = share_difference(members, others, level=level)
    joined = ttest_ind(np.append(members, [0, 1]), np.append(others, [0, 1]), equal_var=False)
    assert_allclose((found.low, found.high), joined.confidence_interval(level), atol=1e-12)
    assert_allclose(found.value, members.mean() - others.mean(), atol=1e-12)
    assert (found.name, found.method) == ("share_difference", "welch-agresti-caffo")
    assert found.n == (40, 70)


def test_interval_has_width_and_holds_the_value_at_the_edges() -> None:
    nothing, everything = share_difference(np.zeros(50), np.zeros(50)), share_difference([1.0] * 9, [0.0] * 9)
    assert nothing.value == 0 and nothing.low < -0.02 and nothing.high > 0.02
    assert everything.value == everything.high == 1 and 0.3 < everything.low < 1
    assert share_difference([1.0], [0.0]).high == 1


@pytest.mark.parametrize(("draw", "mean"), [(flat, 0.1), (rare, 0.02), (codes, 0.1)])
@pytest.mark.parametrize(("m", "n"), [(60, 120), (250, 250)])
def test_share_errors_are_as_promised(draw: Draw, mean: float, m: int, n: int) -> None:
    random = np.random.default_rng(1)
    runs = [(draw(random, m), draw(random, n)) for _ in range(500)]
    intervals = [share_difference(*run) for run in runs]
    assert np.mean([found.low > 0 for found in intervals]) <= 0.04
    assert np.mean([found.high < 0 for found in intervals]) <= 0.04
    # a seed of its own for each run: one set of divisions for all would err the same way in all
    p_values = [share_p_value(*run, resamples=99, seed=seed) for seed, run in enumerate(runs)]
    assert np.mean(np.array(p_values) <= 0.05) <= 0.075
    # a tenth of members give away everything: the mean rises by a tenth of what was missing
    leaky = [(np.maximum(members, random.random(m) < 0.1), others) for members, others in runs]
    found = [share_difference(*run) for run in leaky]
    assert np.mean([one.low <= 0.1 * (1 - mean) <= one.high for one in found]) >= 0.93
    if m == 250:
        assert np.mean([share_p_value(*run, resamples=99) <= 0.05 for run in leaky[:40]]) > 0.7


def test_p_value_is_fishers_or_the_permutation_tests() -> None:
    random = np.random.default_rng(2)
    members, others = random.random(30) < 0.4, random.random(50) < 0.2
    table = np.array([[members.sum(), (~members).sum()], [others.sum(), (~others).sum()]])
    assert_allclose(share_p_value(members, others), fisher_exact(table, alternative="greater").pvalue)
    first, second = np.array([0.1, 0.5, 0.5, 0.9, 0.3, 0.7]), np.array([0.1, 0.2, 0.5, 0.4, 0.3, 0.7, 0.0])

    def gap(x: FloatArray, y: FloatArray) -> float:
        return float(x.mean() - y.mean())

    exact = permutation_test((first, second), gap, alternative="greater", n_resamples=10_000).pvalue
    assert_allclose(share_p_value(first, second), exact, atol=0.015)
    assert share_p_value(first, second) == share_p_value(first, second)
    assert share_p_value([0.3, 0.3], [0.3] * 5) == share_p_value([0.0], [0.0]) == 1
    assert share_p_value(np.ones(9) * 0.9, np.zeros(9), resamples=99) == 0.01


def test_p_value_in_many_blocks_is_nearly_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    members, others = random.random(20) * 0.9, random.random(30) * 0.8
    once = share_p_value(members, others, resamples=999)
    monkeypatch.setattr("primum.evidence.permutation._BLOCK", 1000)
    assert_allclose(share_p_value(members, others, resamples=999), once, atol=0.05)


def test_strata_are_weighted_least_squares() -> None:
    random = np.random.default_rng(4)
    strata, other_strata = random.integers(0, 6, 30), random.integers(1, 7, 20)
    members, others = flat(random, 30), codes(random, 20)
    found = stratified_share_difference(members, others, strata, other_strata)
    shared = np.intersect1d(strata, other_strata)
    weights, gaps = [], []
    for stratum in shared:
        one, two = members[strata == stratum], others[other_strata == stratum]
        weights.append(one.size * two.size / (one.size + two.size))
        gaps.append(one.mean() - two.mean())
    assert_allclose(found.value, np.average(gaps, weights=weights))
    inside, other_inside = np.isin(strata, shared), np.isin(other_strata, shared)
    centre, error = least_squares(
        np.concatenate([members[inside], others[other_inside]]),
        np.repeat([1.0, 0.0], [inside.sum(), other_inside.sum()]),
        np.concatenate([strata[inside], other_strata[other_inside]]),
        extra=np.array(weights) / sum(weights),
    )
    assert_allclose((found.low + found.high) / 2, centre)
    assert 1.96 < (found.high - found.low) / 2 / error < 2.2
    assert found.n == (inside.sum(), other_inside.sum())
    assert found.method == f"welch-agresti-caffo, {shared.size} strata, {sum(found.n)} of 50 patients"


def test_one_stratum_is_the_plain_difference_and_names_may_be_text() -> None:
    random = np.random.default_rng(5)
    members, others = codes(random, 30), codes(random, 40)
    plain = share_difference(members, others)
    found = stratified_share_difference(members, others, ["a"] * 30, ["a"] * 40)
    assert (found.value, found.low, found.high) == (plain.value, plain.low, plain.high)


@pytest.mark.parametrize(("strata", "n"), [(5, 60), (40, 60), (12, 250)])
def test_stratified_interval_covers_where_strata_differ(strata: int, n: int) -> None:
    random = np.random.default_rng(strata)
    base, many, few = random.random(strata) * 0.5, *random.dirichlet(np.ones(strata) * 2, 2)
    covered = []
    for _ in range(1000):
        ours, theirs = random.choice(strata, n, p=many), random.choice(strata, n, p=few)
        members = (random.random(n) < base[ours] + 0.05).astype(np.float64)
        others = (random.random(n) < base[theirs]).astype(np.float64)
        found = stratified_share_difference(members, others, ours, theirs)
        covered.append(found.low <= 0.05 <= found.high)
    assert np.mean(covered) >= 0.93


def test_what_the_blind_score_explains_is_not_called_a_leak() -> None:
    random = np.random.default_rng(7)
    raw, left, leak = [], [], []
    for _ in range(150):
        blind, other_blind = random.normal(0.36, 1, 800), random.normal(0, 1, 800)
        members = expit(blind + random.normal(size=800) - 2)
        others = expit(other_blind + random.normal(size=800) - 2)
        raw.append(share_difference(members, others).low > 0)
        left.append(share_excess_over_blind(members, others, blind, other_blind).low > 0)
        told = np.where(random.random(800) < 0.1, 1.0, members)
        leak.append(share_excess_over_blind(told, others, blind, other_blind).low > 0)
    assert np.mean(raw) > 0.9 and np.mean(left) <= 0.06 and np.mean(leak) > 0.9


def test_blind_scores_that_separate_or_tie() -> None:
    found = share_excess_over_blind([1.0, 0.0], [0.0, 0.0], [5, 6], [1, 2])
    assert math.isnan(found.value) and (found.low, found.high) == (-1, 1)
    assert found.name == "difference_beyond_blind"
    tied = share_excess_over_blind([1.0, 0.0], [0.0, 0.5, 0.0], [1, 1], [1, 1, 1])
    plain = share_difference([1.0, 0.0], [0.0, 0.5, 0.0])
    assert (tied.value, tied.low, tied.high, tied.n) == (plain.value, plain.low, plain.high, plain.n)


@pytest.mark.parametrize(
    ("deviation", "ratio", "draw"), [(0.095, 1.0, flat), (0.14, 0.5, rare), (0.14, 2.0, rare)]
)
def test_needed_patients_for_a_share(deviation: float, ratio: float, draw: Draw) -> None:
    random = np.random.default_rng(11)
    needed = patients_needed_for_share(0.04, deviation=deviation, ratio=ratio)
    others = math.ceil(needed * ratio)
    below = [share_difference(draw(random, needed), draw(random, others)).high < 0.04 for _ in range(600)]
    assert 0.76 <= np.mean(below) <= 0.92
    assert patients_needed_for_share(0.02, deviation=deviation) > 1.5 * needed


def test_needed_patients_where_nobody_gives_anything_away() -> None:
    needed = patients_needed_for_share(0.02, deviation=0)
    assert share_difference(np.zeros(needed), np.zeros(needed)).high < 0.02
    assert share_difference(np.zeros(needed - 1), np.zeros(needed - 1)).high >= 0.02


@pytest.mark.parametrize(("alpha", "shape"), [(0.05, (300, 300)), (0.002, (300, 200))])
def test_the_smallest_detectable_share_is_found_four_times_out_of_five(
    alpha: float, shape: tuple[int, int]
) -> None:
    random, (m, n) = np.random.default_rng(13), shape
    smallest = smallest_detectable_share(codes(random, 4000)[:m], codes(random, 4000)[:n], alpha=alpha)
    found = []
    for _ in range(300):
        members, others = np.clip(codes(random, m) + smallest, 0, 1), codes(random, n)
        lost = smallest - (members.mean() - others.mean())
        found.append(share_p_value(members, others) <= alpha)
        assert abs(lost) < 0.1
    assert 0.68 <= np.mean(found) <= 0.92


def test_where_nobody_gives_anything_away_fishers_test_sets_the_smallest_share() -> None:
    nothing, random = np.zeros(200), np.random.default_rng(14)
    smallest = smallest_detectable_share(nothing, nothing, alpha=0.002)
    found = [
        share_p_value((random.random(200) < smallest).astype(float), nothing) <= 0.002 for _ in range(400)
    ]
    assert 0.76 <= np.mean(found) <= 0.85
    assert smallest_detectable_share([0.0] * 3, [0.0] * 3) == 1.0
    with pytest.raises(InputError):
        smallest_detectable_share(nothing, nothing, alpha=0.0)


def test_bad_input_is_refused() -> None:
    for bad in ([1.2], [-0.1], [float("nan")], [], [[0.5]]):
        for pair in ((bad, [0.5]), ([0.5], bad)):
            with pytest.raises(InputError):
                share_difference(*pair)
            with pytest.raises(InputError):
                share_p_value(*pair)
    with pytest.raises(InputError, match="No stratum"):
        stratified_share_difference([0.5], [0.5], ["a"], ["b"])
    with pytest.raises(InputError, match="same patients"):
        stratified_share_difference([0.5], [0.5], ["a", "a"], ["a"])
    with pytest.raises(InputError, match="same patients"):
        share_excess_over_blind([0.5], [0.5], [1, 2], [1])
    for deviation, ratio in ((-0.1, 1.0), (1.0, 1.0), (0.1, 0.0)):
        with pytest.raises(InputError):
            patients_needed_for_share(0.1, deviation=deviation, ratio=ratio)
    with pytest.raises(InputError, match="material"):
        patients_needed_for_share(0.0, deviation=0.1)

import numpy as np
import pytest
from scipy import stats

from primum.errors import InputError
from primum.evidence.sites import (
    _heterogeneity,
    calibration_in_the_large,
    distances_from_others,
    served_alike_p_value,
)


def world(
    random: np.random.Generator, sizes: list[tuple[int, int]], means: list[float], shift: float = 0.0
) -> tuple[list[float], list[int], list[int]]:
    """Scores of ill and healthy at each site; `means` is how far apart they lie there."""
    scores: list[float] = []
    for place, ((ill, well), mean) in enumerate(zip(sizes, means, strict=True)):
        scores += [*random.normal(mean + shift * place, 1, ill), *random.normal(shift * place, 1, well)]
    has = [kind for ill, well in sizes for kind in [1] * ill + [0] * well]
    return scores, has, [place for place, one in enumerate(sizes) for _ in range(sum(one))]


def rejected(runs: int, sizes: list[tuple[int, int]], *, shift: float = 0.0, level: float = 0.05) -> int:
    random = np.random.default_rng(7)
    values = [world(random, sizes, [2.0] * len(sizes), shift) for _ in range(runs)]
    found = [served_alike_p_value(*one, resamples=99, seed=seed) for seed, one in enumerate(values)]
    return sum(p <= level for p in found)


@pytest.mark.parametrize(
    "sizes", [[(5, 5), (5, 5)], [(5, 30), (30, 5)], [(6 + 2 * i, 20 - i) for i in range(8)]]
)
def test_sites_that_are_served_alike_are_rarely_told_apart(sizes: list[tuple[int, int]]) -> None:
    assert rejected(100, sizes) <= stats.binom.ppf(0.999, 100, 0.05)


def test_it_is_no_test_that_never_rejects_and_a_shift_of_all_scores_is_no_difference() -> None:
    assert rejected(100, [(12, 12), (12, 12)], level=0.5) >= stats.binom.ppf(0.001, 100, 0.5)
    assert rejected(100, [(20, 20), (20, 20)], shift=1.5) <= stats.binom.ppf(0.999, 100, 0.05)


def test_a_site_that_is_served_worse_is_found() -> None:
    random = np.random.default_rng(1)
    sizes, means = [(30, 30), (30, 30), (30, 30)], [2.5, 0.3, 2.5]
    assert served_alike_p_value(*world(random, sizes, means), resamples=199) <= 0.01
    scores, has, site = world(random, [(9, 9)], [1.0])
    assert served_alike_p_value(scores, has, site, resamples=19) == 1.0


def test_the_statistic_is_cochrans_over_pairs_counted_one_by_one() -> None:
    random = np.random.default_rng(2)
    sizes = [(4, 7), (6, 3), (5, 5)]
    ill = random.integers(0, 6, 15).astype(float)
    well = random.integers(-2, 4, 15).astype(float)
    values, variances, start = [], [], [0, 0]
    for m, n in sizes:
        ours, theirs = ill[start[0] : start[0] + m], well[start[1] : start[1] + n]
        start = [start[0] + m, start[1] + n]
        wins = (ours[:, None] > theirs) + 0.5 * (ours[:, None] == theirs)
        few = min(m, n)
        usual = (wins.mean() * few + 0.5) / (few + 1)
        delong = wins.mean(1).var(ddof=1) / m + wins.mean(0).var(ddof=1) / n
        values.append(wins.mean())
        variances.append(delong + usual * (1 - usual) / few**2)
        assert wins.sum() == stats.mannwhitneyu(ours, theirs).statistic
    weights = 1 / np.array(variances)
    expected = weights @ (values - np.average(values, weights=weights)) ** 2
    at = np.concatenate(
        [np.repeat(np.arange(3), [m for m, _ in sizes]), np.repeat(np.arange(3), [n for _, n in sizes])]
    )
    shuffled = random.permutation(15)
    found = _heterogeneity(
        [ill[shuffled], well], np.concatenate([at[:15][shuffled], at[15:]]), np.array(sizes).T
    )
    assert found == pytest.approx(expected)


def test_refusals() -> None:
    with pytest.raises(InputError, match="both kinds"):
        served_alike_p_value([1.0, 2.0, 3.0], [1, 0, 1], [0, 0, 1])
    with pytest.raises(InputError, match="two sites or more"):
        distances_from_others([[3, 4]])
    with pytest.raises(InputError, match="two sites or more"):
        distances_from_others([[3, 4], [0, 0]])


def test_calibration_is_students_with_two_who_joined() -> None:
    random = np.random.default_rng(3)
    said, has = random.uniform(0, 1, 12), random.integers(0, 2, 12)
    found = calibration_in_the_large(said, has)
    joined = np.append(said - has, [0.5, -0.5])
    low, high = stats.t.interval(0.95, 13, loc=joined.mean(), scale=stats.sem(joined))
    assert (found.value, found.low, found.high) == pytest.approx((said.mean() - has.mean(), low, high))
    assert found.n == (12,)
    sharp = calibration_in_the_large([0.0] * 20, [0] * 20)
    assert sharp.value == 0 and sharp.high > 0.03


@pytest.mark.parametrize(("patients", "sharp"), [(10, 0.5), (10, 6.0), (40, 0.5), (40, 6.0)])
def test_a_calibrated_model_is_covered(patients: int, sharp: float) -> None:
    random, covered = np.random.default_rng(4), 0
    for _ in range(600):
        said = random.beta(0.5 / sharp, 0.5 / sharp, patients)
        found = calibration_in_the_large(said, random.random(patients) < said)
        covered += found.low <= 0 <= found.high
    assert covered >= stats.binom.ppf(0.001, 600, 0.95)


def test_distances_are_those_of_shares_and_chance_is_hypergeometric() -> None:
    table = np.array([[40, 10], [20, 30], [30, 30]])
    for (far, chance), row in zip(distances_from_others(table), table, strict=True):
        others = table.sum(0) - row
        shares = row / row.sum(), others / others.sum()
        assert far == pytest.approx(max(shares[0] - shares[1]))
        ill = np.arange(row.sum() + 1)
        dealt = np.abs(ill / row.sum() - (table[:, 1].sum() - ill) / others.sum())
        weights = stats.hypergeom.pmf(ill, table.sum(), table[:, 1].sum(), row.sum())
        assert weights[dealt > chance + 1e-9].sum() <= 0.05 / 3 + 0.01
        assert weights[dealt >= chance - 1e-9].sum() >= 0.05 / 3 - 0.01
    assert distances_from_others([[9, 0], [0, 9]])[0][0] == 1
    assert distances_from_others(table) == distances_from_others(table)


def test_sites_dealt_blindly_seldom_lie_beyond_chance() -> None:
    random, beyond = np.random.default_rng(5), 0
    sizes, runs = [30, 50, 80, 120], 80
    for _ in range(runs):
        labels = random.permutation(np.repeat([0, 1, 2], [150, 90, 40]))
        parts = np.split(labels, np.cumsum(sizes)[:-1])
        found = distances_from_others(np.stack([np.bincount(part, minlength=3) for part in parts]))
        beyond += any(far > chance for far, chance in found)
    assert beyond <= stats.binom.ppf(0.999, runs, 0.05)

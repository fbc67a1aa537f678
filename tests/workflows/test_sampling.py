"""The stated sample: even over strata, the same for a seed, whatever the shards."""

import numpy as np
import pytest

from primum.workflows.sampling import stratified_sample


@pytest.mark.parametrize("seed", range(5))
def test_each_stratum_is_drawn_in_proportion_on_both_sides(seed: int) -> None:
    rng = np.random.default_rng(seed)
    is_member, strata = rng.random(2000) < 0.3, rng.choice(4, 2000, p=[0.6, 0.25, 0.1, 0.05])
    rows = stratified_sample(is_member, strata, size=400, seed=seed)
    assert len(np.unique(rows)) == 400
    for side in (is_member, ~is_member):
        drawn = rows[side[rows]]
        assert len(drawn) == 200
        for stratum in range(4):
            expected = 200 * np.mean(strata[side] == stratum)
            assert abs(np.sum(strata[drawn] == stratum) - expected) <= 1


def test_a_small_side_is_taken_whole_and_a_seed_draws_the_same_people() -> None:
    is_member, strata = np.arange(300) < 40, np.zeros(300, np.int64)
    first, again, other = (stratified_sample(is_member, strata, size=100, seed=seed) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()
    assert (first < 40).sum() == 40
    assert (first >= 40).sum() == 50


def test_everyone_has_the_same_chance() -> None:
    is_member, strata = np.arange(60) < 30, np.arange(60) % 3
    drawn = np.zeros(60)
    for seed in range(600):
        drawn[stratified_sample(is_member, strata, size=20, seed=seed)] += 1
    # 200 expected, standard deviation 11.5.
    assert np.abs(drawn - 200).max() < 60

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import binomtest, hypergeom

from primum.errors import InputError
from primum.evidence.exposed import top_share, top_share_p_value


def test_by_hand() -> None:
    scores = np.arange(400.0)
    is_member = scores < 200
    group = np.isin(scores, [199, 198, *range(38)]) | (scores > 300)
    found = top_share(scores, is_member, group, share=0.02)
    # two of the four most exposed members, forty of two hundred members; others never count
    assert_allclose(found.value, 0.5 / 0.2)
    exact = binomtest(2, 4).proportion_ci(0.95, method="exact")
    assert_allclose((found.low, found.high), (exact.low / 0.2, exact.high / 0.2))
    assert (found.name, found.n, found.method) == ("over_representation", (200,), "clopper-pearson-scaled")
    assert_allclose(top_share_p_value(scores, is_member, group, share=0.02), hypergeom.sf(1, 200, 40, 4))


def test_at_least_one_is_exposed_and_ties_go_together() -> None:
    everyone, group = np.ones(50, bool), np.arange(50) < 10
    assert top_share(-np.arange(50.0), everyone, group).value == 5
    assert top_share(np.arange(50.0), everyone, group).value == 0
    tied = top_share(np.zeros(50), everyone, group)
    assert tied.value == 1 and top_share_p_value(np.zeros(50), everyone, group) == 1
    # eight tie at the edge of ten: with them thirteen, without them five
    scores = np.r_[np.full(5, 2.0), np.full(8, 1.0), np.zeros(37)]
    assert_allclose(top_share(scores, everyone, group, share=0.2).value, 10 / 13 * 5)
    # twelve more tie, so that leaving them out is nearer: the five alone
    scores = np.r_[np.full(5, 2.0), np.full(20, 1.0), np.zeros(25)]
    assert_allclose(top_share(scores, everyone, group, share=0.2).value, 5)


def test_false_alarms_and_coverage() -> None:
    random, everyone = np.random.default_rng(0), np.ones(1500, bool)
    alarms, covered = [], []
    for _ in range(500):
        scores, group = random.normal(size=1500), random.random(1500) < 0.2
        found = top_share(scores, everyone, group)
        covered.append(found.low <= 1 <= found.high)
        alarms.append(top_share_p_value(scores, everyone, group) <= 0.05)
    assert np.mean(alarms) <= 0.065 and np.mean(covered) >= 0.94
    scores += 1.5 * group
    assert top_share(scores, everyone, group).low > 1
    assert top_share_p_value(scores, everyone, group) < 0.001


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="No member is in the group"):
        top_share([1.0, 2.0], [True, False], [False, True])
    with pytest.raises(InputError, match="same patients"):
        top_share_p_value([1.0, 2.0], [True], [True, True])
    with pytest.raises(InputError, match="share"):
        top_share([1.0], [True], [True], share=0)

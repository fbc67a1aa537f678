import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from primum.errors import InputError
from primum.evidence.exposure import NO_EXPOSURE, canary_exposure


def by_counting(planted: list[float], twins: list[float]) -> float:
    ranks = [
        1 + sum(twin > one for twin in twins) + sum(twin == one for twin in twins) / 2 for one in planted
    ]
    return sum(math.log2(len(twins) + 1) - math.log2(rank) for rank in ranks) / len(planted)


def test_by_counting() -> None:
    random = np.random.default_rng(0)
    planted, twins = random.integers(0, 9, 6).astype(float), random.integers(0, 9, 14).astype(float)
    found = canary_exposure(planted, twins)
    assert_allclose(found.value, by_counting(planted.tolist(), twins.tolist()))
    assert found.low < found.value < found.high <= math.log2(15)
    assert (found.name, found.n) == ("exposure", (6, 14))


def test_before_every_twin_is_the_most_and_behind_every_one_is_nothing() -> None:
    twins = np.arange(31.0)
    assert canary_exposure([99.0, 98.0], twins).value == 5 and canary_exposure([-1.0, -2.0], twins).value == 0
    alone = canary_exposure([99.0], twins)
    assert (alone.value, alone.low, alone.high) == (5, 0, 5)


def test_of_a_model_that_knows_nothing() -> None:
    random = np.random.default_rng(1)
    values = [canary_exposure(random.random(5), random.random(400)).value for _ in range(400)]
    assert abs(np.mean(values) - NO_EXPOSURE) < 0.06


@pytest.mark.parametrize(("planted", "twins", "shift"), [(10, 50, 1.0), (50, 50, 2.0), (10, 50, 0.0)])
def test_the_interval_holds_the_mean_exposure(planted: int, twins: int, shift: float) -> None:
    random = np.random.default_rng(2)
    runs = [
        canary_exposure(random.normal(shift, 1, planted), random.normal(0, 1, twins)) for _ in range(1500)
    ]
    truth = np.mean([run.value for run in runs])
    assert np.mean([run.low <= truth <= run.high for run in runs]) >= 0.9


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="twins"):
        canary_exposure([1.0], [])
    with pytest.raises(InputError, match="planted records"):
        canary_exposure([math.inf], [1.0])

import math

import numpy as np
import pytest
from scipy import stats

from primum.errors import InputError
from primum.evidence.extraction_cost import extractable, first_established
from primum.evidence.measured import BoolArray, FloatArray

RUNGS = 8


def sides(members: int, others: int) -> BoolArray:
    return np.arange(members + others) < members


def ladder(rates: FloatArray, *, patients: int, rng: np.random.Generator) -> FloatArray:
    """Secrets that come out at each rung with the given rates, alike from rung to rung."""
    ease = stats.norm.cdf(0.9 * rng.normal(size=(patients, 1)) + 0.436 * rng.normal(size=(patients, RUNGS)))
    return (ease < rates).astype(np.float64)


@pytest.mark.parametrize("queries", [1, 2, 7, 100, 10_000])
def test_extractable_is_what_it_says_on_both_sides_of_the_edge(queries: int) -> None:
    edge = 1 - 0.5 ** (1 / queries)
    for p in (edge * 1.001, edge * 0.999):
        assert extractable(math.log(p), queries=queries) == (1 - (1 - p) ** queries >= 0.5)
    assert extractable(math.log(edge), queries=queries)


def test_extractable_at_the_ends_of_the_scale() -> None:
    assert extractable([0.0, -math.inf, math.nan], queries=1).tolist() == [True, False, False]
    # 1 - (1 - p)^n in plain arithmetic is 0 here, whatever n.
    assert extractable([-80.0], queries=10**35).tolist() == [True]
    assert extractable([-80.0], queries=10**34).tolist() == [False]
    with pytest.raises(InputError, match="at least once"):
        extractable([-1.0], queries=0)


def test_the_first_rung_is_the_lowest_that_passes_fisher_holm_and_matters() -> None:
    rng = np.random.default_rng(3)
    named = set()
    for _ in range(60):
        size = int(rng.integers(20, 200))
        slope = np.linspace(0, rng.uniform(0, 0.6), RUNGS)
        found = np.vstack(
            [
                ladder(0.1 + slope, patients=size, rng=rng),
                ladder(np.full(RUNGS, 0.1), patients=size + 9, rng=rng),
            ]
        )
        inside = sides(size, size + 9)
        counts = [
            [(column[side].sum(), (1 - column[side]).sum()) for side in (inside, ~inside)]
            for column in found.T
        ]
        raw = np.array([stats.fisher_exact(np.array(one), alternative="greater").pvalue for one in counts])
        order = np.argsort(raw)
        adjusted = np.empty(RUNGS)
        adjusted[order] = np.maximum.accumulate(raw[order] * np.arange(RUNGS, 0, -1))
        expected = [rung for rung in range(RUNGS) if adjusted[rung] < 0.05]
        assert first_established(found, inside) == (expected[0] if expected else None)
        named.add(first_established(found, inside))
    assert len(named) > 4


def test_a_difference_that_does_not_matter_is_not_named() -> None:
    found = np.zeros((4000, 1))
    found[:30] = 1
    assert first_established(found, sides(2000, 2000)) is None
    assert first_established(found, sides(2000, 2000), material=0.014) == 0


def test_patients_who_cannot_be_asked_leave_only_that_rung() -> None:
    found = np.repeat(sides(40, 40)[:, None], 3, axis=1).astype(np.float64)
    assert first_established(found, sides(40, 40)) == 0
    found[:40, 0] = np.nan
    found[3:40, 1] = np.nan
    assert first_established(found, sides(40, 40)) == 1
    found[1:3, 1] = 0
    assert first_established(found, sides(40, 40)) == 2


def test_secrets_and_sides_must_be_about_the_same_patients() -> None:
    with pytest.raises(InputError, match="one row for each patient"):
        first_established(np.zeros((3, 2)), sides(1, 1))


@pytest.mark.parametrize("rates", [np.linspace(0.02, 0.4, RUNGS), np.full(RUNGS, 0.03)])
def test_where_nothing_leaks_a_rung_is_named_in_at_most_five_runs_of_a_hundred(rates: FloatArray) -> None:
    rng, runs = np.random.default_rng(1), 250
    inside = sides(125, 125)
    named = sum(
        first_established(ladder(rates, patients=250, rng=rng), inside) is not None for _ in range(runs)
    )
    assert named / runs <= 0.05


def test_where_much_leaks_a_rung_is_named() -> None:
    rng = np.random.default_rng(2)
    rates = np.where(np.arange(RUNGS) >= 4, 0.3, 0.02)
    found = [
        first_established(
            np.vstack(
                [ladder(rates, patients=125, rng=rng), ladder(np.full(RUNGS, 0.02), patients=125, rng=rng)]
            ),
            sides(125, 125),
        )
        for _ in range(40)
    ]
    assert found.count(4) >= 36

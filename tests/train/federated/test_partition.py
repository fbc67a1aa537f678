"""Hospitals made of one data set: every case once, sizes and shares as unequal as asked."""

import numpy as np
import pytest

from primum.errors import InputError
from primum.train.federated.partition import unequal_sites

LABELS = np.random.default_rng(5).choice(3, 4000, p=(0.7, 0.25, 0.05))


@pytest.mark.parametrize("alpha", [0.01, 0.3, 1.0, 100.0])
def test_every_case_has_one_site_and_every_site_a_few_of_each_class(alpha: float) -> None:
    sites = unequal_sites(LABELS, sites=15, seed=1, alpha=alpha)
    assert (np.sort(np.concatenate(sites)) == np.arange(len(LABELS))).all()
    assert all(one.dtype == np.int64 and (np.diff(one) > 0).all() for one in sites)
    assert min(np.bincount(LABELS[one], minlength=3).min() for one in sites) >= 5


def test_a_seed_deals_alike_and_another_differently() -> None:
    first, again, other = (unequal_sites(LABELS, sites=5, seed=seed, alpha=1.0) for seed in (3, 3, 4))
    assert all((one == two).all() for one, two in zip(first, again, strict=True))
    assert [len(one) for one in first] != [len(one) for one in other]


def test_a_smaller_alpha_makes_sites_less_alike() -> None:
    def spread(alpha: float) -> tuple[float, float]:
        deals = [unequal_sites(LABELS, sites=10, seed=seed, alpha=alpha) for seed in range(20)]
        sizes = [np.std([len(one) for one in deal]) for deal in deals]
        shares = [np.std([(LABELS[one] == 0).mean() for one in deal]) for deal in deals]
        return float(np.mean(sizes)), float(np.mean(shares))

    unequal, middling, alike = spread(0.3), spread(3.0), spread(1000.0)
    assert unequal[0] > 2 * middling[0] > 4 * alike[0]
    assert unequal[1] > 1.5 * middling[1] > 3 * alike[1]


@pytest.mark.parametrize(("count", "sites"), [(4, 4), (7, 5), (40, 15)])
def test_no_site_is_empty_where_cases_are_scarce(count: int, sites: int) -> None:
    for seed in range(20):
        dealt = unequal_sites(np.arange(count) % 3, sites=sites, seed=seed, alpha=0.1)
        assert min(map(len, dealt)) >= 1
        assert len(np.unique(np.concatenate(dealt))) == sum(map(len, dealt)) == count


@pytest.mark.parametrize(("sites", "alpha"), [(0, 1.0), (4001, 1.0), (3, 0.0), (3, float("nan"))])
def test_what_cannot_be_dealt_is_refused(sites: int, alpha: float) -> None:
    with pytest.raises(InputError, match="4000 cases cannot be dealt"):
        unequal_sites(LABELS, sites=sites, seed=0, alpha=alpha)

"""Hospitals made of one data set: of unequal sizes, and with unequal shares of each class. Free of torch."""

from math import inf

import numpy as np

from primum.errors import InputError
from primum.records.ragged import IntArray

# Cases of each class that every site has, where the class has as many for all sites.
_FEW = 5


def unequal_sites(labels: IntArray, *, sites: int, seed: int, alpha: float) -> list[IntArray]:
    """Deal cases to sites that differ in size and in how often each class occurs.

    Sizes are drawn from a Dirichlet distribution over sites, shares of classes from one for each site around
    the shares of the whole. Every case goes to one site. Each site first gets 5 cases of each class, fewer
    where a class has fewer for each.

    Parameters
    ----------
    labels : array of int, shape (n,)
        Classes of the cases; dealt by case, so that of a patient with several, give one.
    sites : int
    seed : int
        The same seed deals the same.
    alpha : float
        Concentration: the smaller, the more sites differ; towards infinity all are alike.

    Returns
    -------
    list of int64 arrays
        For each site the places of its cases, ascending, one or more.

    Raises
    ------
    InputError
        Fewer cases than sites, no site, or alpha not above zero.

    References
    ----------
    Hsu, Qi & Brown, Measuring the effects of non-identical data distribution for federated visual
    classification, 2019: shares of classes. Sizes are ours.
    """
    if not 1 <= sites <= len(labels) or not 0 < alpha < inf:
        raise InputError(
            "{cases} cases cannot be dealt to {sites} sites with alpha {alpha}: ask for at least one site, "
            "at most as many as cases, and for an alpha above zero.",
            cases=len(labels),
            sites=sites,
            alpha=alpha,
        )
    rng = np.random.default_rng(seed)
    classes, counts = np.unique(labels, return_counts=True)
    sizes = rng.dirichlet(np.full(sites, alpha))
    # With a tiny alpha a site's draw may be zero throughout; it then gets its few cases and no more.
    mixes = rng.dirichlet(alpha * len(classes) * counts / len(labels), sites) + 1e-12
    home = np.empty(len(labels), np.int64)
    for mix, name, count in zip(mixes.T, classes, counts, strict=True):
        shares = sizes * mix + 1e-12
        few = np.repeat(np.arange(sites), min(_FEW, count // sites))
        rest = rng.choice(sites, count - len(few), p=shares / shares.sum())
        home[rng.permutation(np.flatnonzero(labels == name))] = np.concatenate([few, rest])
    for empty in np.setdiff1d(np.arange(sites), home):
        home[np.flatnonzero(home == np.bincount(home).argmax())[0]] = empty
    return [np.flatnonzero(home == site) for site in range(sites)]

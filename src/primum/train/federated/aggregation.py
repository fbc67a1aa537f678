"""Many sites' updates into one, so that a few malicious sites cannot steer it. Free of torch.

Only the mean respects weights. A site says itself how many cases it has: a rule that is to hold against sites
that lie counts every site once.

References
----------
Blanchard et al., Machine learning with adversaries: Byzantine tolerant gradient descent, NeurIPS 2017 (Krum,
Multi-Krum). Yin et al., Byzantine-robust distributed learning: towards optimal statistical rates, ICML 2018
(median, trimmed mean). El Mhamdi, Guerraoui & Rouault, The hidden vulnerability of distributed learning in
Byzantium, ICML 2018 (Bulyan).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from primum.errors import InputError

Floats = NDArray[np.float64]
Rule = Literal["mean", "median", "trimmed_mean", "krum", "multi_krum", "bulyan"]
RULES: tuple[Rule, ...] = get_args(Rule)
# Sites a rule needs so as to hold against f malicious ones: times f, and more.
_NEEDED: Mapping[Rule, tuple[int, int]] = {
    "trimmed_mean": (2, 1),
    "krum": (2, 3),
    "multi_krum": (2, 3),
    "bulyan": (4, 3),
}
# No weight of any model is this large, and squares of larger numbers overflow.
_LARGEST = 1e100


def usable_rows(updates: Floats, names: Sequence[str]) -> tuple[NDArray[np.bool_], list[InputError]]:
    """Say which updates may enter a round: one NaN would make every weight NaN.

    Parameters
    ----------
    updates : float array, shape (sites, d)
    names : sequence of str
        Of the sites.

    Returns
    -------
    array of bool, shape (sites,)
        True where all numbers are finite, and none above 1e100.
    list of InputError
        One sentence for each site left out, to be told or raised.
    """
    # NaN is not smaller than anything.
    usable = np.all(np.abs(updates) < _LARGEST, axis=1)
    return usable, [
        InputError(
            "The update of site {site} holds numbers that are NaN, infinite or absurdly large: it is left "
            "out of this round; look there for a learning rate that is too large, or for damaged cases.",
            site=names[int(row)],
        )
        for row in np.flatnonzero(~usable)
    ]


def clipped(updates: Floats, bound: float) -> Floats:
    """Shorten the updates longer than `bound`, shape (sites, d), without turning them.

    The only defence that needs no single update in the clear: each site can do it before encryption.

    Raises
    ------
    InputError
        The bound is not above zero.
    """
    if not bound > 0:
        raise InputError("The bound on the norm of an update must be above zero.")
    lengths = np.linalg.norm(updates, axis=1, keepdims=True)
    return np.asarray(updates * (bound / np.maximum(lengths, bound)))


def aggregated(updates: Floats, weights: Floats, *, rule: Rule, malicious: int = 0) -> Floats:
    """Make one update of many.

    Parameters
    ----------
    updates : float array, shape (sites, d)
        Finite: see `usable_rows`.
    weights : float array, shape (sites,)
        Above zero. Cases of each site; only "mean" looks at them.
    rule : {"mean", "median", "trimmed_mean", "krum", "multi_krum", "bulyan"}
        Trimmed mean leaves out the `malicious` largest and smallest of each coordinate. Krum takes the one
        update nearest to its n - f - 2 neighbours; Multi-Krum the mean of the n - f - 2 best by that score;
        Bulyan picks n - 2f by Krum, one after the other, and averages in each coordinate the n - 4f nearest
        to their median.
    malicious : int
        How many sites, f, the rule shall hold against. Mean holds against none whatever is asked, the median
        against fewer than half.

    Returns
    -------
    float array, shape (d,)

    Raises
    ------
    InputError
        Too few sites for the rule: n >= 2f + 1 for the trimmed mean, 2f + 3 for Krum and Multi-Krum, 4f + 3
        for Bulyan; or weights or updates that make no sense.
    """
    if malicious < 0 or not len(updates) or not usable_rows(updates, [""] * len(updates))[0].all():
        raise InputError("Aggregation needs updates of finite numbers, and no fewer than 0 malicious sites.")
    if weights.shape != updates.shape[:1] or not (weights > 0).all() or not np.isfinite(weights).all():
        raise InputError("Each site's weight must be a finite number above zero.")
    if rule == "mean":
        return np.asarray(np.average(updates, axis=0, weights=weights))
    if rule == "median":
        return np.median(updates, axis=0)
    _require(rule, len(updates), malicious)
    return _ROBUST[rule](updates, malicious)


def _require(rule: Rule, sites: int, malicious: int) -> None:
    times, more = _NEEDED[rule]
    if sites < times * malicious + more:
        raise InputError(
            "{rule} needs n ≥ {times}f + {more} sites: against {malicious} malicious sites {needed}, and "
            "there are {sites}. Take another rule, or assume fewer malicious sites.",
            rule=rule.replace("_", " "),
            times=times,
            more=more,
            malicious=malicious,
            needed=times * malicious + more,
            sites=sites,
        )


def krum_scores(distances: Floats, malicious: int) -> Floats:
    """Sum of each site's squared distances to its n - f - 2 nearest others, shape (n,); low is central.

    Parameters
    ----------
    distances : float array, shape (n, n)
        Squared.
    malicious : int
        f. Bulyan asks about ever fewer sites: at least one neighbour is counted, where there is one.
    """
    others = np.sort(distances, axis=1)[:, 1:]
    return np.asarray(others[:, : max(len(distances) - malicious - 2, 1)].sum(1))


def _trimmed_mean(updates: Floats, malicious: int) -> Floats:
    return np.asarray(np.sort(updates, axis=0)[malicious : len(updates) - malicious].mean(0))


def _krum(updates: Floats, malicious: int) -> Floats:
    best = int(krum_scores(cdist(updates, updates, "sqeuclidean"), malicious).argmin())
    return np.array(updates[best])


def _multi_krum(updates: Floats, malicious: int) -> Floats:
    scores = krum_scores(cdist(updates, updates, "sqeuclidean"), malicious)
    best = np.argsort(scores, kind="stable")[: len(updates) - malicious - 2]
    return np.asarray(updates[best].mean(0))


def bulyan_selection(updates: Floats, malicious: int) -> list[int]:
    """Return the n - 2f sites that Bulyan picks by Krum, each among those not yet picked, in this order."""
    distances = cdist(updates, updates, "sqeuclidean")
    left, picked = list(range(len(updates))), list[int]()
    while len(picked) < len(updates) - 2 * malicious:
        best = int(krum_scores(distances[np.ix_(left, left)], malicious).argmin())
        picked.append(left.pop(best))
    return picked


def _bulyan(updates: Floats, malicious: int) -> Floats:
    chosen = updates[bulyan_selection(updates, malicious)]
    far = np.abs(chosen - np.median(chosen, axis=0))
    nearest = np.argsort(far, axis=0, kind="stable")[: len(updates) - 4 * malicious]
    return np.asarray(np.take_along_axis(chosen, nearest, axis=0).mean(0))


_ROBUST: Mapping[Rule, Callable[[Floats, int], Floats]] = {
    "trimmed_mean": _trimmed_mean,
    "krum": _krum,
    "multi_krum": _multi_krum,
    "bulyan": _bulyan,
}

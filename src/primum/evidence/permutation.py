"""Permutation tests of members against others: what chance alone would have dealt them."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from primum.evidence.ranking import FloatArray, checked_scores

_BLOCK = 4_000_000


def mean_permutation_p_value(
    members: FloatArray, others: FloatArray, *, resamples: int = 9999, seed: int = 0
) -> float:
    """One-sided test that members do not score higher on average; small p is worse (a leak).

    Parameters
    ----------
    members, others : float64, shape (m,), (n,)
        One score a patient.
    resamples, seed : int
        Random divisions of all patients into groups of m and n; ties with what was seen count against a leak.

    References
    ----------
    Phipson & Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010) 39: p = (1 + as extreme) / (1 + resamples).
    """
    values, places = np.unique(np.concatenate([members, others]), return_inverse=True)
    counts, seen = np.bincount(places), np.bincount(places[: members.size], minlength=values.size)
    # only how often each value falls among members matters, not to whom
    random, block, extreme = np.random.default_rng(seed), max(1, _BLOCK // values.size), 0
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = random.multivariate_hypergeometric(counts, members.size, size=size, method="count")
        extreme += int((drawn @ values >= seen @ values - 1e-9).sum())
    return (1 + extreme) / (1 + resamples)


def rank_permutation_p_value(
    members: ArrayLike, others: ArrayLike, *, resamples: int = 9999, seed: int = 0
) -> float:
    """One-sided test that members do not rank above others, ties by midrank; small p is worse (a leak).

    Of the AUC, without the normal approximation of :func:`primum.evidence.ranking.auc_p_value`.

    Parameters, reference as :func:`mean_permutation_p_value`.

    Raises
    ------
    InputError
        When a group is empty or a score is not finite.
    """
    first, second = checked_scores(members, group="members"), checked_scores(others, group="non-members")
    ranks = rankdata(np.concatenate([first, second]))
    return mean_permutation_p_value(ranks[: first.size], ranks[first.size :], resamples=resamples, seed=seed)

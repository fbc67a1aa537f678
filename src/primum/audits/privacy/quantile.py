"""Is the model surer of a patient than of comparable patients whom it never saw? No shadow model needed.

Black-box: the attacker has patients of their own, asks the model about them and learns how sure it is of whom
it did not see, given what is known of a case. Whoever stands far above what was to be expected was likely
trained on. An easy case is no longer taken for a remembered one.

What is known must come from the case, not from the model: its last inner vector and the class fix the
log-odds, a regression on both finds them again and takes off what it should find (study: .72 where the plain
loss reads .81). For the same reason the regression is kept small: thirty trees of four leaves, which predict
the median. In the study they were as strong as larger trees and no weaker than a ridge.

References
----------
Bertran et al., Scalable membership inference attacks via quantile regression, NeurIPS 2023.
Friedman, Ann. Statist. 29 (2001) 1189 (boosted trees for the least absolute deviation).
"""

from typing import Protocol

import numpy as np

from primum.evidence.measured import BoolArray
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray

FOLDS = 5
TREES, LEAVES, LEARNING_RATE = 30, 4, 0.2
# More held-out cases than this teach so small a regression nothing.
MOST_LEARNED_FROM = 20_000
_AT_ONCE = 50_000


class Known(Protocol):
    """What is known of each case, written out for some of them at a time; an array is one."""

    def __getitem__(self, rows: IntArray, /) -> FloatArray:
        """Return the rows of cases, shape (k, d)."""
        ...


def quantile_scores(
    odds: FloatArray,
    *,
    known: Known,
    labels: IntArray,
    subject_ids: IntArray,
    is_member: BoolArray,
    seed: int,
) -> FloatArray:
    """Score each case by how far its log-odds lie above what held-out patients like it let expect.

    Held-out patients are dealt into five folds, each scored by the regression that learned from the other
    four. Members are dealt at random into the same five, so that on both sides a score comes from a
    regression of as many held-out patients, none of them the one who is scored.

    Parameters
    ----------
    odds : float64, shape (n,)
        Log-odds of the true class, natural: see :func:`primum.audits.privacy.confidence.log_odds`.
    known : Known
        From positions of cases, rows of float64, shape (n, d) for all:
        what is known of each case without the model; NaN where it is not known.
    labels, subject_ids : int64, shape (n,)
    is_member : bool, shape (n,)
    seed : int
        Of the folds.

    Returns
    -------
    float64, shape (n,)
        Natural log-odds above the median of held-out cases like it; 0 = as expected, higher = more
        member-like; NaN for everyone where fewer than five patients are held out.
    """
    # loaded on use: whoever only reads a report must not wait a second for it
    from sklearn.ensemble import HistGradientBoostingRegressor

    rng = np.random.default_rng(seed)
    scores, fold = np.full(len(odds), np.nan), np.empty(len(odds), np.int64)
    for side in (is_member, ~is_member):
        patients, place = np.unique(subject_ids[side], return_inverse=True)
        fold[side] = (rng.permutation(len(patients)) % FOLDS)[place]
    if len(np.unique(fold[~is_member])) < FOLDS:
        return scores
    for part in range(FOLDS):
        train = rng.permutation(np.flatnonzero(~is_member & (fold != part)))[:MOST_LEARNED_FROM]
        regression = HistGradientBoostingRegressor(
            loss="absolute_error",
            learning_rate=LEARNING_RATE,
            max_iter=TREES,
            max_leaf_nodes=LEAVES,
            early_stopping=False,
        )
        regression.fit(np.column_stack([known[train], labels[train]]), odds[train])
        asked = np.flatnonzero(fold == part)
        for rows in np.array_split(asked, 1 + len(asked) // _AT_ONCE):
            scores[rows] = odds[rows] - regression.predict(np.column_stack([known[rows], labels[rows]]))
    return scores

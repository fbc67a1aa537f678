"""The blind baseline: what is known of patients without looking at the model at all."""

import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from primum.errors import InputError
from primum.evidence.ranking import FloatArray

_INVERSE_PENALTY = 0.1
_RIDGE = 10.0
_COUNT_SCALE = 0.15
# More patients than this teach the baseline nothing that matters, and are not scaled all at once.
_MOST_LEARNED_FROM = 50_000

# Measurements, shape (k, d), and counts, shape (k, e), of some of the patients.
Part = tuple[FloatArray, sparse.csr_array]


def blind_scores(
    features: ArrayLike | sparse.sparray | sparse.spmatrix,
    is_member: ArrayLike,
    *,
    dense_columns: int = 0,
    seed: int = 0,
    folds: int = 5,
) -> FloatArray:
    """Score each patient by a classifier that saw the other folds' patients and never the model.

    Compare with :func:`primum.evidence.auc`: .5 means that the groups look alike; higher is worse for the
    *audit*, since a leak of that size could be a difference between the groups.

    Parameters
    ----------
    features : array_like or scipy.sparse, shape (n, d)
        One row a patient.
    is_member : array_like of bool, shape (n,)
    dense_columns : int
        How many leading columns are measurements (dates, age, sex), centred and scaled. The others are
        counts, scaled but not centred, and weighted by .15: a thousand noisy counts would else drown one
        shifted date, and with much less weight a site's codes would go unseen.
    seed : int
        Of the folds.
    folds : int
        Fewer where a group has fewer patients.

    Returns
    -------
    float64, shape (n,)
        Higher = more member-like. Centred within each fold without labels, so that folds can be pooled.

    Raises
    ------
    InputError
        When rows and labels do not match, a feature is not finite, or a group has fewer than two patients.

    References
    ----------
    Das, Zhang & Tramèr, Blind Baselines Beat Membership Inference Attacks for Foundation Models, 2024;
    L2 logistic regression cross-fitted by patient.
    """
    rows, labels = _checked(features, is_member)
    return blind_scores_of(partial(_part, rows, dense_columns), labels, seed=seed, folds=folds)


def blind_scores_of(
    part: Callable[[NDArray[np.int64]], Part], is_member: ArrayLike, *, seed: int = 0, folds: int = 5
) -> FloatArray:
    """Score as :func:`blind_scores` does, features written out for at most 50,000 patients at a time.

    Parameters
    ----------
    part : callable
        From positions of patients, shape (k,), to their measurements, float64, shape (k, d), and counts,
        csr_array, shape (k, e), all finite.
    is_member, seed, folds
        As :func:`blind_scores`.

    Raises
    ------
    InputError
        When a group has fewer than two patients.
    """
    labels = np.asarray(is_member, np.bool_)
    fewest = int(min(labels.sum(), (~labels).sum()))
    if fewest < 2:
        raise InputError("The blind baseline needs at least two members and two non-members.")
    return _cross_fitted(part, labels, folds=min(folds, fewest), seed=seed)


def blind_guesses(
    features: ArrayLike | sparse.sparray | sparse.spmatrix,
    labels: ArrayLike,
    *,
    dense_columns: int = 0,
    seed: int = 0,
    folds: int = 5,
) -> FloatArray:
    """Guess yes-or-no facts of each patient from other patients, members or not, and never from the model.

    Parameters
    ----------
    features, dense_columns
        As :func:`blind_scores`.
    labels : array_like of bool, shape (n, facts)
    seed : int
        Of the folds.
    folds : int
        Fewer with fewer patients; with one patient every guess is 0.

    Returns
    -------
    float64, shape (n, facts)
        Higher = rather yes.

    Raises
    ------
    InputError
        When rows and labels do not match, or a feature is not finite.

    References
    ----------
    Hoerl & Kennard, Technometrics 12 (1970) 55: ridge regression, of all facts in one solution.
    """
    facts = np.asarray(labels, np.float64)
    rows = _checked_rows(features, len(facts))
    measured, counts = _part(rows, dense_columns, slice(None))
    fold = np.random.default_rng(seed).permutation(len(facts)) % min(folds, max(1, len(facts)))
    guesses = np.zeros(facts.shape)
    for part in np.unique(fold) if len(facts) > 1 else ():
        train, test = np.flatnonzero(fold != part), np.flatnonzero(fold == part)
        scaled = _scaled((measured[train], counts[train]), (measured, counts))
        gram = (scaled[train].T @ scaled[train]).toarray() + _RIDGE * np.eye(scaled.shape[1])
        wanted = scaled[train].T @ (facts[train] - facts[train].mean(axis=0))
        guesses[test] = scaled[test] @ np.linalg.solve(gram, wanted)
    return guesses


def _part(rows: sparse.csr_array, dense_columns: int, some: NDArray[np.int64] | slice) -> Part:
    """Split rows into measurements and counts."""
    chosen = rows[some]
    measured = np.asarray(chosen[:, :dense_columns].toarray(), np.float64)
    return measured, sparse.csr_array(chosen[:, dense_columns:])


def _scaled(seen: Part, rows: Part) -> sparse.csr_array:
    """Scale rows by what the training rows say."""
    parts = [sparse.csr_array(_standardised(seen[0], rows[0])), _weighted(seen[1], rows[1])]
    return sparse.csr_array(sparse.hstack(parts, format="csr"))


def _cross_fitted(
    part: Callable[[NDArray[np.int64]], Part], labels: NDArray[np.bool_], *, folds: int, seed: int
) -> FloatArray:
    # loaded on use: whoever only reads a report must not wait a second for it
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    scores = np.empty(labels.size)
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # a fit stopped early is still a cross-fitted score: it can only be weaker, never wrong
        warnings.simplefilter("ignore", ConvergenceWarning)
        for train, test in splits.split(labels, labels):
            if len(train) > _MOST_LEARNED_FROM:
                train = np.random.default_rng(seed).permutation(train)[:_MOST_LEARNED_FROM]
            seen = part(train)
            model = LogisticRegression(C=_INVERSE_PENALTY, tol=1e-3, max_iter=200)
            model.fit(_scaled(seen, seen), labels[train])
            blocks = np.array_split(test, 1 + len(test) // _MOST_LEARNED_FROM)
            values = np.concatenate([model.decision_function(_scaled(seen, part(block))) for block in blocks])
            scores[test] = values - values.mean()
    return scores


def _checked(
    features: ArrayLike | sparse.sparray | sparse.spmatrix, is_member: ArrayLike
) -> tuple[sparse.csr_array, NDArray[np.bool_]]:
    labels = np.asarray(is_member, np.bool_)
    return _checked_rows(features, labels.size), labels


def _checked_rows(features: ArrayLike | sparse.sparray | sparse.spmatrix, patients: int) -> sparse.csr_array:
    rows = sparse.csr_array(features if sparse.issparse(features) else np.asarray(features, np.float64))
    if rows.ndim != 2 or rows.shape[0] != patients:
        raise InputError("The blind baseline needs one row of features for each label.")
    if not np.isfinite(rows.data).all():
        raise InputError("A feature of the blind baseline is not finite: fill in missing values first.")
    return rows


def _standardised(seen: FloatArray, rows: FloatArray) -> FloatArray:
    deviation = np.where(np.ptp(seen, axis=0) > 0, seen.std(axis=0), 1.0)
    centred: FloatArray = rows - seen.mean(axis=0)
    return centred / deviation


def _weighted(seen: sparse.csr_array, rows: sparse.csr_array) -> sparse.csr_array:
    variance = np.asarray(seen.power(2).mean(axis=0) - np.square(seen.mean(axis=0))).ravel()
    # a column that never varies in training has no scale: what it holds elsewhere is left out
    weights = np.divide(_COUNT_SCALE, np.sqrt(np.maximum(variance, 0)), where=variance > 1e-12,
                        out=np.zeros(variance.size))  # fmt: skip
    return sparse.csr_array(rows * weights)

"""What a model's own inner vectors and gradients say of a backdoor: described, never judged.

References
----------
Tran, Li & Madry, Spectral signatures in backdoor attacks, NeurIPS 2018.
Hayase, Kong, Somani & Oh, SPECTRE: defending against backdoor attacks using robust statistics, ICML 2021.
Chen et al., Detecting backdoor attacks on deep neural networks by activation clustering, SafeAI 2019 (2018).
Wang et al., Neural Cleanse: identifying and mitigating backdoor attacks in neural networks, IEEE S&P 2019.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primum.evidence.measured import BoolArray, FloatArray, IntArray
from primum.models.predictors import Differentiable, Predictor
from primum.records.cases import Cases

STEPS = 100
_FEWEST, _COMPONENTS, _MOST_CASES, _RATE, _CALLED = 20, 10, 64, 0.2, 0.9
_MOMENTS = 0.9, 0.999


def spectral_scores(embeddings: FloatArray, labels: IntArray) -> FloatArray:
    """How far each case is from its class inside the model, 1 half of the class; shape (n,); far is worse.

    Squared Mahalanobis distance on the class's first 10 principal components, by the mean and covariance of
    the half of it that lies closest together (least determinant), over its median. Poisoned cases lie far
    out (Tran 2018), but in few of them not on the very first component, and many shift mean and covariance:
    hence the robust ones (Hayase 2021). NaN in classes of fewer than 20 cases, or all alike.

    Parameters
    ----------
    embeddings : float64, shape (n, width)
    labels : int64, shape (n,)
    """
    from sklearn.covariance import MinCovDet

    found = np.full(len(labels), np.nan)
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        rows = _components(embeddings[mine])
        if len(mine) >= _FEWEST and rows.shape[1]:
            with warnings.catch_warnings():
                # of halves that lie in a plane: distances are then taken within it
                warnings.simplefilter("ignore")
                away = MinCovDet(random_state=0).fit(rows).mahalanobis(rows)
            found[mine] = away / max(float(np.median(away)), 1e-12)
    return found


def clusters(embeddings: FloatArray, labels: IntArray, *, seed: int) -> tuple[float, float]:
    """Split each class in two (Chen 2018) and return size and silhouette of the clearest split.

    Returns
    -------
    share, silhouette : float
        Of the class with the clearest split: the smaller part, and how clear it is from -1 to 1. A small part
        that is clearly apart is worse. NaN without a class of 20 cases.
    """
    best = (float("nan"), float("nan"))
    for label in np.unique(labels):
        part, apart = smaller_part(embeddings[labels == label], seed=seed)
        if not best[1] >= apart:
            best = float(part.mean()), apart
    return best


def smaller_part(embeddings: FloatArray, *, seed: int) -> tuple[BoolArray, float]:
    """Split one class in two and tell who is in the smaller part, shape (n,), and how clear the split is.

    The silhouette runs from -1 to 1; it is NaN, and nobody in the part, with fewer than 20 cases or where all
    are alike.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    rows = _components(embeddings)
    if len(rows) < _FEWEST or not rows.shape[1]:
        return np.zeros(len(rows), np.bool_), float("nan")
    parts = KMeans(2, n_init=3, random_state=seed).fit_predict(rows)
    apart = silhouette_score(rows, parts, sample_size=min(1000, len(rows)), random_state=seed)
    return parts == np.argmin(np.bincount(parts, minlength=2)), float(apart)


def _components(embeddings: FloatArray) -> FloatArray:
    """Project cases on the directions in which they differ, at most 10, shape (n, k)."""
    centred = embeddings - embeddings.mean(axis=0)
    values, vectors = np.linalg.svd(centred, full_matrices=False)[1:]
    kept = values[:_COMPONENTS] > 1e-9 * max(1.0, float(values.max(initial=0)))
    return np.asarray(centred @ vectors[:_COMPONENTS][kept].T)


def trigger_sizes(model: Predictor, cases: Cases, *, seed: int) -> list[float | None]:
    """Draw for each class the smallest mark that calls it up, in pixels; small is worse.

    None for a class that could not be called up; no class at all where the model shows no gradient.

    Parameters
    ----------
    model : Predictor
    cases : Cases
        Images of one shape; 64 of them are used.
    seed : int
    """
    inputs = cases.inputs
    if not isinstance(model, Differentiable) or not isinstance(inputs, np.ndarray) or inputs.ndim != 4:
        return []
    return [_smallest(model, cases, target, seed) for target in range(len(model.classes))]


def trigger_ratio(sizes: Sequence[float | None]) -> float | None:
    """Return the least of :func:`trigger_sizes` over the others' median; None of fewer than two.

    Far below 1 means that one class can be called up by something much smaller (Wang 2019: a backdoor). With
    few classes, ordinary ones differ as much: classes are not equally easy to imitate.
    """
    known = np.array([size for size in sizes if size is not None])
    if len(known) < 2:
        return None
    least = int(np.argmin(known))
    return float(known[least] / max(float(np.median(np.delete(known, least))), 1e-9))


def _smallest(model: Any, cases: Cases, target: int, seed: int) -> float | None:
    """Pixels of the smallest mark that turned nine of ten cases into the class, by Adam."""
    others = np.flatnonzero(cases.labels != target)
    if len(others) < _FEWEST:
        return None
    random = np.random.default_rng([seed, target])
    some = cases.select(np.sort(random.permutation(others)[:_MOST_CASES]))
    stored: NDArray[Any] = np.asarray(some.inputs)
    low, high = float(stored.min()), float(stored.max())
    pictures, wanted = stored.astype(np.float64), np.full(len(some), target)
    shape = pictures.shape[1:]
    free = np.concatenate([np.zeros((1, *shape[1:])), random.normal(0, 0.1, shape)])
    first, second = np.zeros_like(free), np.zeros_like(free)
    best, weight = None, 1e-3
    for step in range(1, STEPS + 1):
        mask, content = 1 / (1 + np.exp(-free[:1])), 1 / (1 + np.exp(-free[1:]))
        drawn = pictures * (1 - mask) + (low + (high - low) * content) * mask
        stamped = np.rint(drawn) if stored.dtype.kind in "iu" else drawn
        asked = replace(some, inputs=stamped.astype(stored.dtype), labels=wanted)
        loss, slope = model.loss_and_gradient(asked, wanted)
        called = float((loss < np.log(2)).mean())
        if called >= _CALLED:
            best = min(mask.sum(), np.inf if best is None else best)
        weight = min(max(weight * (1.5 if called >= _CALLED else 1 / 1.5), 1e-5), 1.0)
        of_mask = (slope * (low + (high - low) * content - pictures)).mean(0).sum(0, keepdims=True) + weight
        of_content = (slope * (high - low) * mask).mean(axis=0) * content * (1 - content)
        gradient = np.concatenate([of_mask * mask * (1 - mask), of_content])
        first = _MOMENTS[0] * first + (1 - _MOMENTS[0]) * gradient
        second = _MOMENTS[1] * second + (1 - _MOMENTS[1]) * gradient**2
        moved = first / (1 - _MOMENTS[0] ** step) / (np.sqrt(second / (1 - _MOMENTS[1] ** step)) + 1e-12)
        free = free - _RATE * moved
    return None if best is None else float(best)

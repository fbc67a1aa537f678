"""How many labels are wrong, from out-of-fold scores, without blaming cases that are merely hard to tell.

Hard cases lie where the two classes overlap: as a score moves away from there, a clean label becomes ever
more certain. A wrong label does not care for the score: some share of even the clearest cases bears it. So
the question is whether the certainty of labels levels off below 1 at the ends of the scores. Both classes are
taken as normal on some monotone scale of the score (binormal; only ranks of scores are used), then log-odds
of the label are quadratic on that scale; on top of that each class may have a share of flipped labels. Their
likelihood ratio is judged by a parametric bootstrap from the fit without flips, in which all cases of a
patient err together.

References
----------
Metz, Herman & Shen, Maximum likelihood estimation of receiver operating characteristic curves from
continuously distributed data, Stat. Med. 17:1033-1053, 1998 (binormal up to a monotone scale).
Besag & Clifford, Sequential Monte Carlo p-values, Biometrika 78:301-304, 1991.
Natarajan et al., Learning with noisy labels, NeurIPS 2013 (class-conditional flips).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

BOOTSTRAPS, RESAMPLES = 1999, 400
_BINS, _FEWEST_A_BIN, _STEPS, _NEWTON, _RIDGE, _BLOCK = 100, 8, 60, 12, 0.01, 250
_MOST_FLIPPED = 0.45
# Once so many drawn worlds are as extreme, p is .1 or so or more, and no further one is drawn.
_ENOUGH = 25


@dataclass(frozen=True, eq=False)
class Flips:
    """Labels of one class against the rest.

    Attributes
    ----------
    share : float
        Of all labels, those that are wrong; each patient counts once, whatever the number of cases.
    resampled : float64, shape (400,)
        The same under resampling of patients.
    p_value : float
        One-sided: no label is flipped.
    suspicion : float64, shape (n,)
        How probably each given label is wrong.
    without, fitted : float64, shape (n,)
        How probably a case of this score bears the class: had no label been flipped, and as found.
    """

    share: float
    resampled: FloatArray
    p_value: float
    suspicion: FloatArray
    without: FloatArray
    fitted: FloatArray


def flipped_labels(score: FloatArray, given: NDArray[np.bool_], patient: IntArray, *, seed: int = 0) -> Flips:
    """Estimate how many labels are flipped; 0 is good, more is worse.

    Parameters
    ----------
    score : float64, shape (n,)
        Out of fold: made without this patient's labels. Higher: rather the class. Only its ranks count.
    given : bool, shape (n,)
        Whether the label as given is the class; both values must occur.
    patient : int64, shape (n,)
        Whole numbers from 0.
    seed : int
    """
    random = np.random.default_rng(seed)
    people = int(patient.max()) + 1
    seen = _observed(score, given, patient)
    weight, place, design, bins = seen.weight, seen.place, seen.design, len(seen.design)
    certain = special.expit(_logistic(design, seen.positive, seen.total)[0] @ design.T)[place]
    as_extreme, drawn = 0, 0
    while drawn < BOOTSTRAPS and as_extreme < _ENOUGH:
        together = random.random((min(_BLOCK, BOOTSTRAPS - drawn), people))
        simulated = _rows((together[:, patient] < certain) * weight, place, bins)
        chance = _ratio(design, simulated, np.broadcast_to(seen.total, simulated.shape))[0]
        as_extreme, drawn = as_extreme + int((chance >= seen.ratio - 1e-9).sum()), drawn + len(chance)
    again = random.multinomial(people, np.full(people, 1 / people), size=RESAMPLES)[:, patient] * weight
    resampled = _ratio(design, _rows(again * given, place, bins), _rows(again, place, bins))[1]
    fitted, p_value = seen.fitted, (1 + as_extreme) / (1 + drawn)
    clean, told = fitted.truly[0][place], fitted.told[0][place]
    return Flips(float(fitted.share[0]), resampled.share, p_value, _wrong(seen, given), clean, told)


def label_suspicion(score: FloatArray, given: NDArray[np.bool_], patient: IntArray) -> FloatArray:
    """How probably each given label is wrong, shape (n,), near 1 is worse: :func:`flipped_labels` undrawn.

    Parameters
    ----------
    score : float64, shape (n,)
    given : bool, shape (n,)
    patient : int64, shape (n,)
        As of :func:`flipped_labels`.
    """
    return _wrong(_observed(score, given, patient), given)


@dataclass(frozen=True, eq=False)
class _Observed:
    """Labels counted by bins of the score, each patient once, and what fits these counts."""

    weight: FloatArray
    place: IntArray
    total: FloatArray
    positive: FloatArray
    design: FloatArray
    ratio: float
    fitted: "_Fit"


def _observed(score: FloatArray, given: NDArray[np.bool_], patient: IntArray) -> _Observed:
    weight = 1 / np.bincount(patient)[patient]
    bins = max(8, min(_BINS, len(score) // _FEWEST_A_BIN))
    place = (bins * (stats.rankdata(score) - 0.5) / len(score)).astype(np.int64)
    # scores that tie leave bins without a case
    place = np.unique(place, return_inverse=True)[1].astype(np.int64)
    total, positive = (
        np.asarray(np.bincount(place, values)[None], np.float64) for values in (weight, weight * given)
    )
    design = _scale(total[0], positive[0])
    ratio, fitted = _ratio(design, positive, total)
    return _Observed(weight, place, total, positive, design, float(ratio[0]), fitted)


def _wrong(seen: _Observed, given: NDArray[np.bool_]) -> FloatArray:
    fitted, place = seen.fitted, seen.place
    return np.asarray(np.where(given, fitted.wrong_positive[0][place], fitted.wrong_negative[0][place]))


@dataclass(frozen=True, eq=False)
class _Fit:
    """Of each row of counts: share of wrong labels, log-likelihood; by bin, how probably a label is wrong.

    `truly` and `told`, shape (k, bins): how probably the class is true, and how probably the label says so.
    """

    share: FloatArray
    likelihood: FloatArray
    wrong_positive: FloatArray
    wrong_negative: FloatArray
    truly: FloatArray
    told: FloatArray


def _rows(values: FloatArray, place: IntArray, bins: int) -> FloatArray:
    """Sum the columns of each bin, from shape (k, n) to (k, bins)."""
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(bins))
    return np.asarray(np.add.reduceat(values[:, order], starts, axis=1))


def _scale(total: FloatArray, positive: FloatArray) -> FloatArray:
    """Place bins where both classes would be normal, flips allowed for; columns 1, z and z squared."""
    middle = (np.cumsum(total) - total / 2) / total.sum()
    grid = np.linspace(-6, 14, 1001)

    def latent(parameters: FloatArray) -> tuple[FloatArray, float]:
        apart, spread = np.exp(parameters[:2])
        share = special.expit(parameters[2])
        below = (1 - share) * special.ndtr(grid) + share * special.ndtr((grid - apart) / spread)
        return np.interp(middle, below, grid), float(share)

    def loss(parameters: FloatArray) -> float:
        z, share = latent(parameters)
        apart, spread = np.exp(parameters[:2])
        low, high = _MOST_FLIPPED * special.expit(parameters[3:])
        odds = np.log(share / (1 - share) / spread) + (z**2 - ((z - apart) / spread) ** 2) / 2
        told = low + (1 - low - high) * special.expit(odds)
        prior = 0.5 * (parameters[1] / 0.3) ** 2 + 0.5 * ((parameters[0] - 0.7) / 1.0) ** 2
        return float(prior - _likelihood(told, positive, total))

    share = float(np.clip(positive.sum() / total.sum(), 0.01, 0.99))
    start = np.array([0.7, 0.0, special.logit(share), -4.0, -4.0])
    found = optimize.minimize(
        loss, start, method="L-BFGS-B", bounds=[(-3, 2.2), (-1, 1), (-6, 6), (-9, 9), (-9, 9)]
    )
    z = latent(found.x)[0]
    z = (z - z.mean()) / max(float(z.std()), 1e-9)
    return np.column_stack([np.ones_like(z), z, z**2])


def _likelihood(told: FloatArray, positive: FloatArray, total: FloatArray) -> FloatArray:
    told = np.clip(told, 1e-12, 1 - 1e-12)
    each = positive * np.log(told) + (total - positive) * np.log1p(-told)
    return np.asarray(each.sum(axis=-1))


def _logistic(
    design: FloatArray,
    positive: FloatArray,
    total: FloatArray,
    start: FloatArray | None = None,
    steps: int = _NEWTON,
) -> FloatArray:
    """Fit log-odds to each row of counts by Newton's method with a slight ridge; shape (k, 3)."""
    weights = np.zeros((len(positive), design.shape[1])) if start is None else start
    ridge = _RIDGE * np.eye(design.shape[1])
    squares = (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)
    for _ in range(steps):
        told = special.expit(weights @ design.T)
        slope = (positive - total * told) @ design - weights @ ridge
        curve = ((total * told * (1 - told)) @ squares).reshape(-1, *ridge.shape) + ridge
        step = np.linalg.solve(curve, slope[:, :, None])[:, :, 0]
        weights = weights + step * np.minimum(
            1, 3 / np.maximum(np.abs(step).max(axis=1, keepdims=True), 1e-9)
        )
    return weights


def _flips(design: FloatArray, positive: FloatArray, total: FloatArray) -> _Fit:
    """Fit log-odds and a share of flipped labels of each class to each row of counts, by EM."""
    weights = _logistic(design, positive, total)
    low = high = np.full((len(positive), 1), 0.02)
    for _ in range(_STEPS):
        told = special.expit(weights @ design.T)
        seen = low + (1 - low - high) * told
        wrong_positive = low * (1 - told) / np.maximum(seen, 1e-300)
        wrong_negative = high * told / np.maximum(1 - seen, 1e-300)
        truly = positive * (1 - wrong_positive) + (total - positive) * wrong_negative
        low = (positive * wrong_positive).sum(1, keepdims=True) / (total - truly).sum(1, keepdims=True)
        high = ((total - positive) * wrong_negative).sum(1, keepdims=True) / truly.sum(1, keepdims=True)
        low, high = np.minimum(low, _MOST_FLIPPED), np.minimum(high, _MOST_FLIPPED)
        weights = _logistic(design, truly, total, weights, steps=2)
    share = (positive * wrong_positive + (total - positive) * wrong_negative).sum(axis=1) / total.sum(axis=1)
    true = special.expit(weights @ design.T)
    told = low + (1 - low - high) * true
    penalty = _RIDGE * (weights**2).sum(axis=1) / 2
    return _Fit(
        share, _likelihood(told, positive, total) - penalty, wrong_positive, wrong_negative, true, told
    )


def _ratio(design: FloatArray, positive: FloatArray, total: FloatArray) -> tuple[FloatArray, _Fit]:
    """Twice the gain in log-likelihood that flips bring, never below 0."""
    plain = _logistic(design, positive, total)
    told = special.expit(plain @ design.T)
    without = _likelihood(told, positive, total) - _RIDGE * (plain**2).sum(axis=1) / 2
    fitted = _flips(design, positive, total)
    ratio = np.maximum(0, 2 * (fitted.likelihood - without))
    # what EM leaves of its start where no flips are at least as likely is no estimate
    return ratio, replace(fitted, share=np.where(ratio > 0, fitted.share, 0.0))

"""Many tests, one error budget: Holm, Benjamini-Hochberg, Simes."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from primum.errors import InputError
from primum.evidence.ranking import FloatArray, checked_share

BoolArray = NDArray[np.bool_]


def holm(p_values: ArrayLike, *, weights: ArrayLike | None = None) -> FloatArray:
    """Adjust p-values so that the chance of any false alarm stays below the level they are compared with.

    Parameters
    ----------
    p_values : array_like, shape (k,)
        Any dependence; may be empty.
    weights : array_like, shape (k,), optional
        Share of the error budget that each hypothesis gets first, positive, on any scale; equal by default.
        Once a hypothesis is rejected, the others divide its share among them.

    Returns
    -------
    float64, shape (k,)
        In the order given; smaller is worse, never below the raw p.

    Raises
    ------
    InputError
        When a value is not a probability, or a weight not a positive number for each.

    References
    ----------
    Holm, Scand. J. Statist. 6 (1979) 65; unequal weights as in the same paper.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).round(6).tolist()
    [0.03, 0.06, 0.06]
    >>> holm([0.01, 0.04, 0.03], weights=[1, 2, 1]).round(6).tolist()
    [0.04, 0.06, 0.06]
    """
    raw = _checked(p_values)
    shares = np.ones_like(raw) if weights is None else np.asarray(weights, np.float64)
    if shares.shape != raw.shape or not ((shares > 0) & (shares < np.inf)).all():
        raise InputError("Weights must be positive numbers, one for each p-value.")
    order = np.argsort(raw / shares, kind="stable")
    remaining = np.cumsum(shares[order][::-1])[::-1]
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate((raw / shares)[order] * remaining))
    return adjusted


def benjamini_hochberg(p_values: ArrayLike, *, rate: float) -> BoolArray:
    """Say which hypotheses to reject so that false ones are at most `rate` of the rejected, on average.

    Parameters
    ----------
    p_values : array_like, shape (k,)
        Independent or positively dependent; may be empty.
    rate : float
        False discovery rate; for patients, the share of those named who should not have been.

    Returns
    -------
    bool, shape (k,)

    Raises
    ------
    InputError
        When a value is not a probability.

    References
    ----------
    Benjamini & Hochberg, J. R. Statist. Soc. B 57 (1995) 289.

    Examples
    --------
    >>> benjamini_hochberg([0.001, 0.9, 0.03], rate=0.05).tolist()
    [True, False, True]
    """
    raw = _checked(p_values)
    ordered = np.sort(raw)
    steps = checked_share(rate, name="rate") * np.arange(1, raw.size + 1) / max(raw.size, 1)
    passing = ordered[ordered <= steps]
    return raw <= passing[-1] if passing.size else np.zeros(raw.shape, np.bool_)


def simes(p_values: ArrayLike) -> float:
    """One p-value for "none of these hypotheses is false"; smaller is worse.

    Parameters
    ----------
    p_values : array_like, shape (k,)
        Independent or positively dependent, at least one.

    Raises
    ------
    InputError
        When there is no value or one is not a probability.

    References
    ----------
    Simes, Biometrika 73 (1986) 751.

    Examples
    --------
    >>> simes([0.01, 0.9])
    0.02
    """
    raw = _checked(p_values)
    if not raw.size:
        raise InputError("There is no p-value to combine: give at least one.")
    return float(min(1.0, (np.sort(raw) * raw.size / np.arange(1, raw.size + 1)).min()))


def _checked(p_values: ArrayLike) -> FloatArray:
    raw = np.asarray(p_values, np.float64)
    if raw.ndim != 1 or not ((raw >= 0) & (raw <= 1)).all():
        raise InputError("p-values must be a list of numbers between 0 and 1.")
    return raw

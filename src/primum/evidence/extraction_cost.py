"""Extraction cost: what an attacker must know, and how often ask, before secrets of members come out."""

import math

import numpy as np
from numpy.typing import ArrayLike

from primum.errors import InputError
from primum.evidence.measured import BoolArray
from primum.evidence.multiplicity import holm
from primum.evidence.shares import (
    share_p_value,
)

MATERIAL_SHARE = 0.02
# A probability of one half, after a logarithm and back, is still one half.
_SLACK = 1e-12


def extractable(log_p: ArrayLike, *, queries: int) -> BoolArray:
    """Tell whether an answer of natural log-probability `log_p` is likely among `queries` samples.

    That is ``1 - (1 - p)^n >= 1/2``, computed as ``p >= 1 - 2^(-1/n)`` on the logarithmic scale, where
    neither small p nor large n loses digits. True is worse; NaN gives False.

    Parameters
    ----------
    log_p : array_like
        Any shape.
    queries : int

    Raises
    ------
    InputError
        When `queries` is below 1.

    References
    ----------
    Hayes et al., Measuring memorization in language models via probabilistic extraction, NAACL 2025.

    Examples
    --------
    >>> extractable(np.log([0.5, 0.49]), queries=1).tolist()
    [True, False]
    >>> extractable(np.log([0.007, 0.006]), queries=100).tolist()
    [True, False]
    """
    if queries < 1:
        raise InputError("An attacker asks at least once, not {queries} times.", queries=queries)
    least = math.log(-math.expm1(-math.log(2) / queries))
    found: BoolArray = np.asarray(log_p, np.float64) >= least - _SLACK
    return found


def first_established(
    found: ArrayLike, is_member: ArrayLike, *, level: float = 0.05, material: float = MATERIAL_SHARE
) -> int | None:
    """Return the first rung of a ladder at which secrets come out of more members than held-out patients.

    A rung counts when the one-sided p-value of Fisher's exact test, adjusted by Holm over the rungs, is below
    `level` and members exceed held-out patients by `material` or more. None is good news; otherwise a lower
    rung is worse: less must be known. Where nothing leaks, a rung is named with probability `level` at most.

    Parameters
    ----------
    found : array_like, shape (n, rungs)
        1 = the secret comes out, 0 = not, NaN = cannot be asked, which leaves the patient out of that rung.
    is_member : array_like of bool, shape (n,)
    level, material : float

    Raises
    ------
    InputError
        When the two disagree on the number of patients, or a value is not between 0 and 1.

    References
    ----------
    Fisher, Statistical Methods for Research Workers, section 21.02; Holm, Scand. J. Statist. 6 (1979) 65.
    """
    values, members = np.asarray(found, np.float64), np.asarray(is_member, np.bool_)
    if values.ndim != 2 or members.shape != values.shape[:1]:
        raise InputError("Secrets must have one row for each patient, and each patient must be on a side.")
    p_values, differences = np.ones(values.shape[1]), np.zeros(values.shape[1])
    for rung, column in enumerate(values.T):
        inside, outside = (column[side & ~np.isnan(column)] for side in (members, ~members))
        if len(inside) and len(outside):
            p_values[rung] = share_p_value(inside, outside)
            differences[rung] = inside.mean() - outside.mean()
    named = np.flatnonzero((holm(p_values) < level) & (differences >= material))
    return int(named[0]) if len(named) else None

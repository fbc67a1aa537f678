"""Canary exposure: how far ahead of records that were never planted a planted record ranks.

References
----------
Carlini, Liu, Erlingsson, Kos & Song, The secret sharer, USENIX Security 2019.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t

from primum.evidence.estimate import Estimate
from primum.evidence.ranking import checked_scores, checked_share

# Mean exposure of a record of which the model knows nothing: its rank is then anywhere.
NO_EXPOSURE = 1 / math.log(2)


def canary_exposure(planted: ArrayLike, twins: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Mean exposure in bits: log2 of (N + 1) minus log2 of each planted record's rank among N twins.

    A record that was not learned has about 1.44 bits on average (a little less when there are few twins);
    higher is worse, up to log2(N + 1), where every planted record stands before every twin and the true
    exposure may be larger still.

    Parameters
    ----------
    planted, twins : array_like, shape (n,), (N,)
        One score a record, higher = more likely planted; twins were drawn alike and never planted.
    level : float

    Returns
    -------
    Estimate
        Student's interval, with the parts of the variance that planted records and twins bring; the whole
        possible range when only one record was planted. `n` counts planted records and twins.

    Raises
    ------
    InputError
        A group is empty or a score is not finite.

    References
    ----------
    Carlini et al., USENIX Security 2019 (exposure by rank).

    Examples
    --------
    >>> canary_exposure([9.0, 8.0], [1.0, 2.0, 3.0]).value
    2.0
    """
    first, second = checked_scores(planted, group="planted records"), checked_scores(twins, group="twins")
    count, most = len(first), math.log2(len(second) + 1)
    above = (second > first[:, None]) + 0.5 * (second == first[:, None])
    rank = 1 + above.sum(axis=1)
    bits = most - np.log2(rank)
    value, tail = float(bits.mean()), (1 - checked_share(level, name="level")) / 2
    if count == 1:
        return Estimate("exposure", value, 0.0, most, (1, len(second)), "exposure-rank", level)
    # What each twin costs: the bits that a planted record would gain without it.
    moved = np.log2(rank[:, None] / (rank[:, None] - above)).mean(axis=0)
    variance = float(bits.var(ddof=1) / count + len(second) * moved.var())
    half = float(t.isf(tail, count - 1)) * math.sqrt(variance)
    low, high = max(0.0, value - half), min(most, value + half)
    return Estimate("exposure", value, low, high, (count, len(second)), "exposure-rank", level)

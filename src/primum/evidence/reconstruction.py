"""How many records were reconstructed from updates: counts with exact bounds, beside what chance gives."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri
from scipy.stats import binom

from primum.errors import InputError
from primum.evidence.estimate import Estimate
from primum.evidence.operating_point import proportion_limits
from primum.evidence.ranking import checked_scores, checked_share


def reconstructed_share(count: int, trials: int, *, level: float = 0.95) -> Estimate:
    """Share of trials in which a true record was reconstructed; 0 is best, above is worse.

    Parameters
    ----------
    count, trials : int
        A trial is one record of one observed update; several noises on one record are several trials, and say
        nothing of records that were not tried.
    level : float
        Two-sided coverage.

    Returns
    -------
    Estimate
        Clopper-Pearson: none of N is reported as at most 3.69/N.

    Raises
    ------
    InputError
        No trials, or more successes than trials.

    References
    ----------
    Clopper & Pearson, Biometrika 26 (1934) 404.

    Examples
    --------
    >>> f"{reconstructed_share(0, 37_664).high:.2e}"
    '9.79e-05'
    """
    _check(count, trials)
    tail = (1 - checked_share(level, name="level")) / 2
    low, high = proportion_limits(np.array([float(count)]), trials, tail=tail)
    limits = float(low[0]), float(high[0])
    return Estimate("reconstructed_share", count / trials, *limits, (trials,), "clopper-pearson", level)


def reconstructed_p_value(count: int, trials: int, *, chance: float) -> float:
    """Test that records are named no more often than by chance; small p is worse.

    Parameters
    ----------
    count, trials : int
    chance : float
        The most with which a record is named by an attacker to whom the update says nothing.

    Raises
    ------
    InputError
        No trials, more successes than trials, or a chance that is not between 0 and 1.
    """
    _check(count, trials)
    return float(binom.sf(count - 1, trials, checked_share(chance, name="chance")))


def share_correlation(guesses: ArrayLike, truth: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Correlation of what was guessed of updates with what was true: 0 tells nothing, 1 is worst.

    Parameters
    ----------
    guesses, truth : array_like, shape (k,)
        One share an update; four updates or more.
    level : float

    Returns
    -------
    Estimate
        Pearson's, with Fisher's interval; 0 where either never varies.

    Raises
    ------
    InputError
        Fewer than four updates, or numbers that are not finite.

    References
    ----------
    Fisher, Metron 1 (1921) 3.
    """
    first, second = checked_scores(guesses, group="guesses"), checked_scores(truth, group="shares")
    if first.size != second.size or first.size < 4:
        raise InputError("A property needs one guess and one truth of four updates or more.")
    varies = first.std() > 0 and second.std() > 0
    value = float(np.clip(np.corrcoef(first, second)[0, 1], -1, 1)) if varies else 0.0
    reach = float(ndtri((1 + checked_share(level, name="level")) / 2)) / math.sqrt(first.size - 3)
    low, high = np.tanh(np.arctanh(np.clip(value, -1 + 1e-12, 1 - 1e-12)) + np.array([-reach, reach]))
    return Estimate("share_correlation", value, float(low), float(high), (first.size,), "fisher-z", level)


def _check(count: int, trials: int) -> None:
    if not 0 <= count <= trials or not trials:
        raise InputError(
            "Reconstructions must be counted among one trial or more, not {count} of {trials}.",
            count=count,
            trials=trials,
        )

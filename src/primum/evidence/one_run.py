"""A lower bound on the privacy loss from one training: fair coins planted records, scores guess the coins.

References
----------
Steinke, Nasr & Jagielski, Privacy auditing with one (1) training run, NeurIPS 2023.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import binom, rankdata

from primum.errors import InputError
from primum.evidence.estimate import Estimate
from primum.evidence.ranking import checked_scores, checked_share

# Shares of the canaries that are guessed at one end of the scores; fixed before any score is seen.
GUESSED_SHARES = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
_LARGEST = 60.0


def one_run_epsilon(
    scores: ArrayLike, included: ArrayLike, *, delta: float = 1e-5, level: float = 0.95
) -> Estimate:
    """Smallest epsilon that guessing which canaries were planted leaves possible for the one training.

    0 means that nothing is proved, never that nothing leaks; higher is worse. The highest scores are guessed
    planted, or the highest planted and the lowest not, at six shares of the canaries; the best of the twelve
    bounds is taken, each at a twelfth of the error (Bonferroni). All other canaries are left unguessed.

    Parameters
    ----------
    scores : array_like, shape (m,)
        One score a canary, higher = more likely planted. Each canary is one record, and at most one copy of
        it was planted; a bound from d copies is about groups of d, and proves epsilon / d of one (group
        privacy).
    included : array_like of bool, shape (m,)
        Whether it was planted: a fair coin of its own decided for each canary. Where it decided which of a
        pair was planted, give the difference of the two scores and whether it was the first; epsilon is then
        that of replacing one record by another.
    delta : float
    level : float
        One-sided: the bound exceeds the true epsilon with probability at most ``1 - level``.

    Returns
    -------
    Estimate
        `low` is the claim, in nats; `value` the uncorrected log-odds of a right guess at the same share (inf
        where every guess is right); `high` is inf. `n` counts planted and other canaries.

    Raises
    ------
    InputError
        A score is not finite, there is none, or `included` does not match.

    References
    ----------
    Steinke, Nasr & Jagielski, NeurIPS 2023, theorem 5.2.
    """
    values, coins = checked_scores(scores, group="canaries"), np.asarray(included, np.bool_)
    checked_share(delta, name="delta")
    error = (1 - checked_share(level, name="level")) / (2 * len(GUESSED_SHARES))
    if coins.shape != values.shape:
        raise InputError("Each canary needs one score and one mark that says whether it was planted.")
    # Ties have their middle rank, so that neither the order of the canaries nor a coin moves the threshold.
    rank, total = rankdata(values), len(values)
    low, best = 0.0, (0, 0)
    for share in GUESSED_SHARES:
        count = share * total
        planted, other = rank > total - count + 0.5, rank < count + 0.5
        for correct, guesses in (
            ((planted & coins).sum(), planted.sum()),
            ((planted & coins).sum() + (other & ~coins).sum(), planted.sum() + other.sum()),
        ):
            bound = epsilon_of_guesses(int(correct), int(guesses), canaries=total, delta=delta, error=error)
            if bound >= low and guesses:
                low, best = bound, (int(correct), int(guesses))
    value = max(0.0, float(logit(best[0] / max(1, best[1]))))
    method = f"one-run guesses, one-sided, delta {delta:g}"
    return Estimate("epsilon", value, low, math.inf, (int(coins.sum()), int((~coins).sum())), method, level)


def epsilon_of_guesses(correct: int, guesses: int, *, canaries: int, delta: float, error: float) -> float:
    """Largest epsilon that so many right guesses refute at `error`; 0 when they refute none. Higher is worse.

    Examples
    --------
    >>> round(epsilon_of_guesses(90, 100, canaries=100, delta=1e-5, error=0.05), 3)
    1.63
    >>> epsilon_of_guesses(50, 100, canaries=100, delta=1e-5, error=0.05)
    0.0
    """

    def left(epsilon: float) -> float:
        return _chance(correct, guesses, canaries, epsilon=epsilon, delta=delta) - error

    if not guesses or left(0.0) > 0:
        return 0.0
    return float(brentq(left, 0.0, _LARGEST, xtol=1e-9))


def _chance(correct: int, guesses: int, canaries: int, *, epsilon: float, delta: float) -> float:
    """Most probable that so many guesses, or more, are right under (epsilon, delta)-privacy.

    Without delta each guess is right with probability at most 1 / (1 + exp(-epsilon)), whatever the others; a
    delta for each canary moves some outcomes with i fewer right guesses above the line.
    """
    right = expit(epsilon)
    tail = binom.sf(correct - 1, guesses, right)
    fewer = np.arange(1, correct + 1)
    moved = (binom.sf(correct - 1 - fewer, guesses, right) - tail) / fewer
    return float(min(1.0, tail + 2 * canaries * delta * moved.max(initial=0.0)))

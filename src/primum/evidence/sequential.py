"""Tests that may be looked at after every patient: evidence that one of two concurrent groups does worse.

Each test is a bet against its null hypothesis. Its e-value is what one unit of money has become; under the
null it reaches 1 / alpha with probability at most alpha over the whole run, however long that is and whenever
somebody looks (Ville's inequality). 1 or below means no evidence; above is worse.

Two groups are compared **within blocks** of patients settled one after the other, never with a past rate: the
mix of patients changes. A block has a fixed number of patients: one that ended when both groups were there
would end with the rarer group, and a trend would pass for a difference. Given how many of a block are of each
group, the null says that chance alone dealt the outcomes; where chance decided the groups this holds whatever
the rates are and however they drift.

Three kinds of tests:

``"shares"``
    Yes or no, two groups; null: the tested group's odds of a yes are not above the reference's. The number of
    yes in the tested group is hypergeometric then, and the bet is on larger odds: its non-central law over
    the central one. The base rate need not be known.
``"means"``
    Values between 0 and 1, two groups; null: the tested group's mean is not above the reference's. The bet is
    on the difference of the means of a block; nothing else of the distributions matters.
``"bound"``
    Yes or no, one group; null: the share of yes, given what came before, is at most `bound`.

How large the effect is and when it begins are not known: several bets run beside each other, and a tenth of
the money is kept back and given to them little by little, so that they can still win after losing for long.

References
----------
Ville, Étude critique de la notion de collectif (1939); Turner, Ly & Grünwald, Generic E-variables for exact
sequential k-sample tests that allow for optional stopping, J. Stat. Plan. Inference 230 (2024) 106116;
Waudby-Smith & Ramdas, Estimating means of bounded random variables by betting, JRSS B 86 (2024) 1;
Fisher, The Design of Experiments (1935), section 21.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit, logsumexp

from primum.errors import InputError
from primum.evidence.measured import FloatArray

Kind = Literal["shares", "means", "bound"]
# Patients a block. 1 / size of the information is lost to chance in how the groups fall into it; a longer
# block answers later, and the bets on means must be smaller in it.
SHARES_BLOCK: Final = 20
MEANS_BLOCK: Final = 8
LOG_ODDS: Final = (0.2, 0.45, 0.9, 1.8, 3.6)
# A bet loses at most 0.45 * 2 of the money: a block of 8 weighs its difference by 4 * 4 / 8 at most.
STAKES: Final = (0.06, 0.12, 0.24, 0.45)
# Of the money, what is kept back; RESERVE / (j (j + 1)) of it goes to the bets before the j-th step.
RESERVE: Final = 0.1
MOST_STRATA: Final = 16


@lru_cache(maxsize=8)
def _odds_table(size: int) -> FloatArray:
    """Log of each bet's factor, by bet, tested patients, yes among all, yes among the tested."""
    table = np.full((len(LOG_ODDS), size + 1, size + 1, size + 1), np.nan)
    for tested in range(size + 1):
        for events in range(size + 1):
            low, high = max(0, events - (size - tested)), min(tested, events)
            counts = np.arange(low, high + 1)
            ways = [math.comb(tested, k) * math.comb(size - tested, events - k) for k in counts.tolist()]
            chance = np.array(ways, np.float64) / math.comb(size, events)
            for bet, log_odds in enumerate(LOG_ODDS):
                gain = log_odds * counts
                table[bet, tested, events, low : high + 1] = gain - logsumexp(gain, b=chance)
    return table


def shares_log_factors(
    tested: ArrayLike, tested_events: ArrayLike, events: ArrayLike, *, size: int = SHARES_BLOCK
) -> FloatArray:
    """Log of what blocks of yes and no multiply each bet with.

    Parameters
    ----------
    tested, tested_events, events : array_like of int, shape (...)
        Of each block: patients of the tested group, a yes among those, and a yes among all.
    size : int
        Patients of both groups in a block.

    Returns
    -------
    float64, shape (len(LOG_ODDS), ...)
        ``log_odds * k - log E[exp(log_odds * K)]``, K hypergeometric. 0 where the block tells nothing; the
        mean of its exponential is 1 when the odds are equal, and less when those of the tested are lower.
        ``nan`` for counts that cannot be.
    """
    places = (np.asarray(tested), np.asarray(events), np.asarray(tested_events))
    return np.asarray(_odds_table(size)[:, *places])


def means_log_factors(
    tested: ArrayLike, tested_sum: ArrayLike, reference_sum: ArrayLike, *, size: int = MEANS_BLOCK
) -> FloatArray:
    """Log of what blocks of values between 0 and 1 multiply each bet with.

    Parameters
    ----------
    tested : array_like of int, shape (...)
        Patients of the tested group in each block.
    tested_sum, reference_sum : array_like, shape (...)
        Sum of the values in either group.
    size : int
        Patients of both groups in a block, at most :data:`MEANS_BLOCK`.

    Returns
    -------
    float64, shape (len(STAKES), ...)
        ``log(1 + stake * m n / (m + n) * difference of means)``; 0 where a group is empty.
    """
    count = np.asarray(tested, np.float64)
    other = size - count
    # m n / (m + n) times the difference of the means: no division by an empty group.
    weighed = (other * np.asarray(tested_sum) - count * np.asarray(reference_sum)) / size
    return np.asarray(np.log1p(np.multiply.outer(np.array(STAKES), np.asarray(weighed))))


def bound_log_factors(events: ArrayLike, *, bound: float) -> FloatArray:
    """Log of what each patient's yes (1) or no (0) multiplies each bet against a share of `bound` with.

    Returns
    -------
    float64, shape (len(LOG_ODDS), ...)
        Likelihood ratio of a share whose odds are larger by :data:`LOG_ODDS`, to `bound`.
    """
    yes = np.asarray(events, np.float64)
    larger = expit(logit(bound) + np.array(LOG_ODDS))
    won, lost = np.log(larger / bound), np.log((1 - larger) / (1 - bound))
    return np.asarray(np.multiply.outer(won, yes) + np.multiply.outer(lost, 1 - yes))


def log_e_values(log_factors: ArrayLike) -> FloatArray:
    """Log of the e-value after each step of whole runs at once.

    Parameters
    ----------
    log_factors : array_like, shape (bets, ..., steps)
        What each step, a block or a patient, multiplies each bet with.

    Returns
    -------
    float64, shape (..., steps)
        What :class:`SequentialTest` says after each step; 0 means no evidence, above is worse.
    """
    factors = np.asarray(log_factors, np.float64)
    steps = np.arange(1, factors.shape[-1] + 1)
    given = np.log(RESERVE / (steps * (steps + 1)) + np.where(steps == 1, 1 - RESERVE, 0))
    product = np.cumsum(factors, axis=-1)
    # Money given before step j has been multiplied with the factors from j on.
    bets = product + np.logaddexp.accumulate(given - (product - factors), axis=-1)
    total = logsumexp(bets, axis=0) - math.log(len(factors))
    return np.asarray(np.logaddexp(total, np.log(RESERVE / (steps + 1))))


@dataclass(frozen=True)
class Block:
    """How many patients, and the sum of their values, in either group.

    `last` is, of a block not yet full, how many patients the test had seen when one last joined the block.
    """

    tested: int = 0
    reference: int = 0
    tested_sum: float = 0.0
    reference_sum: float = 0.0
    last: int = 0

    def joined(self, value: float, *, tested: bool) -> "Block":
        """With one patient more."""
        if tested:
            return replace(self, tested=self.tested + 1, tested_sum=self.tested_sum + value)
        return replace(self, reference=self.reference + 1, reference_sum=self.reference_sum + value)

    @property
    def difference(self) -> float:
        """Mean of the tested group minus that of the reference; above 0 is worse, ``nan`` without both."""
        if not self.tested or not self.reference:
            return math.nan
        return self.tested_sum / self.tested - self.reference_sum / self.reference


@dataclass(frozen=True)
class SequentialTest:
    """One test under way: a few numbers, however many patients were seen.

    Attributes
    ----------
    kind : {"shares", "means", "bound"}
    bound : float or None
        Largest share that the null allows, between 0 and 1; of the kind ``"bound"`` only.
    steps : int
        Blocks that were full; patients, of the kind ``"bound"``.
    log_wealth : tuple of float
        Log of what each bet has become.
    waiting : mapping of str to Block
        Blocks not yet full, by stratum.
    seen : Block
        All patients so far.

    Examples
    --------
    >>> test = SequentialTest.begin("bound", bound=0.1)
    >>> for _ in range(4):
    ...     test = test.add(1)
    >>> round(test.e_value)
    846
    """

    kind: Kind
    bound: float | None
    steps: int
    log_wealth: tuple[float, ...]
    waiting: Mapping[str, Block] = field(default_factory=dict)
    seen: Block = Block()

    @classmethod
    def begin(cls, kind: Kind, *, bound: float | None = None) -> "SequentialTest":
        """Start with an e-value of 1.

        Raises
        ------
        InputError
            A test of the kind ``"bound"`` has no bound between 0 and 1.
        """
        if (kind == "bound") != (bound is not None) or (bound is not None and not 0 < bound < 1):
            raise InputError("A share is tested against a bound between 0 and 1: give one.")
        bets = _bets(kind)
        return cls(kind, bound, 0, (math.log((1 - RESERVE) / bets),) * bets)

    def add(self, value: float, *, tested: bool = True, stratum: str = "") -> "SequentialTest":
        """Count one patient, in the order in which their outcomes became known.

        Parameters
        ----------
        value : float
            Between 0 and 1, higher is worse; 0 or 1 unless the kind is ``"means"``.
        tested : bool
            Of the tested group, or of the reference.
        stratum : str
            Only patients of the same stratum share a block. It must not follow from the outcome; where chance
            dealt the groups at changing odds, give each odds its own.

        Raises
        ------
        InputError
            The value is not one of those.
        """
        if not 0 <= value <= 1 or (self.kind != "means" and value not in (0, 1)):
            raise InputError(
                "An outcome is 0 or 1, or lies between them where means are compared: correct what is fed to "
                "the test."
            )
        seen = self.seen.joined(value, tested=tested)
        if self.bound is not None:
            return self._multiplied(bound_log_factors(value, bound=self.bound), self.waiting, seen)
        waiting = {**self.waiting}
        block = waiting.pop(stratum, Block()).joined(value, tested=tested)
        if block.tested + block.reference == _size(self.kind):
            return self._multiplied(_block_log_factors(self.kind, block), waiting, seen)
        if len(waiting) >= MOST_STRATA:
            # What was left of strata that are over goes first; strata still fed must have time to fill.
            waiting.pop(min(waiting, key=lambda name: (waiting[name].last, name)))
        block = replace(block, last=seen.tested + seen.reference)
        return replace(self, waiting={**waiting, stratum: block}, seen=seen)

    def _multiplied(self, factors: FloatArray, waiting: Mapping[str, Block], seen: Block) -> "SequentialTest":
        step = self.steps + 1
        given = math.log(RESERVE / (step * (step + 1)) / len(self.log_wealth))
        wealth = tuple(float(log) for log in np.logaddexp(self.log_wealth, given) + factors)
        return replace(self, steps=step, log_wealth=wealth, waiting=waiting, seen=seen)

    @property
    def log_e_value(self) -> float:
        """Log of the e-value; 0 means no evidence, above is worse."""
        money = (*self.log_wealth, math.log(RESERVE / (self.steps + 1)))
        largest = max(money)
        return largest + math.log(math.fsum(math.exp(log - largest) for log in money))

    @property
    def e_value(self) -> float:
        """Money made of one unit, at most 1e300; 1 means no evidence, above is worse."""
        return math.exp(min(self.log_e_value, math.log(1e300)))

    @property
    def sound(self) -> bool:
        """Whether patients can have led to these numbers: to be asked of a test that was read from a file."""
        size = _size(self.kind)
        blocks = (*self.waiting.values(), self.seen)
        return (
            len(self.log_wealth) == _bets(self.kind)
            and all(math.isfinite(log) for log in self.log_wealth)
            and (self.kind == "bound") == (self.bound is not None)
            and (self.bound is None or 0 < self.bound < 1)
            and 0 <= self.steps <= self.seen.tested + self.seen.reference
            and len(self.waiting) <= MOST_STRATA
            and all(0 <= one.tested_sum <= one.tested for one in blocks)
            and all(0 <= one.reference_sum <= one.reference for one in blocks)
            and all(0 < one.tested + one.reference < size for one in self.waiting.values())
            and all(0 <= one.last <= self.seen.tested + self.seen.reference for one in blocks)
            and (
                self.kind == "means"
                or all(one.tested_sum % 1 == one.reference_sum % 1 == 0 for one in blocks)
            )
        )


def _bets(kind: Kind) -> int:
    return len(STAKES if kind == "means" else LOG_ODDS)


def _size(kind: Kind) -> int:
    return MEANS_BLOCK if kind == "means" else SHARES_BLOCK


def _block_log_factors(kind: Kind, block: Block) -> FloatArray:
    if kind == "means":
        return means_log_factors(block.tested, block.tested_sum, block.reference_sum)
    yes = int(block.tested_sum)
    return shares_log_factors(block.tested, yes, yes + int(block.reference_sum))

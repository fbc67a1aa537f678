"""What a private run spends: privacy-loss distributions (PLD) of dp-accounting, one patient more or less.

A step adds Gaussian noise to a sum to which one patient adds a vector of norm 1 at most (in units of the
clip), over patients drawn by independent coins, or over all of them.

References
----------
Balle & Wang, Improving the Gaussian mechanism for differential privacy, ICML 2018.
Doroshenko et al., Connect the dots: tighter discrete approximations of privacy loss distributions, PETS 2022.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

from dp_accounting import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
    calibrate_dp_mechanism,
)
from dp_accounting.pld import PLDAccountant

from primum.errors import InputError

Unit = Literal["patient", "record", "site"]
# Losses are rounded up, never down. The finer grid, of what was spent, costs about 1e-4 of epsilon; the
# coarser, of the search for a noise, up to .01 where few are drawn over many steps: docs/studies/ledger.md.
_FINE, _COARSE = 1e-4, 1e-3


@dataclass(frozen=True)
class Mechanism:
    """Equal noisy sums, one after the other.

    Attributes
    ----------
    of : str
        What is summed: ``gradients``, ``centre``.
    noise_multiplier : float
        Deviation of the noise over the most that one patient adds.
    sampling_rate : float
        Probability with which each patient takes part; 1: everyone does.
    steps : int
    """

    of: str
    noise_multiplier: float
    sampling_rate: float
    steps: int


@dataclass(frozen=True)
class PrivacyLedger:
    """What a private run promises and what it spent.

    Attributes
    ----------
    epsilon, delta : float
        Recomputed by the accountant from what was run, adding or removing one unit.
    unit : {"patient", "record", "site"}
        Whom the promise is made to; a site is a hospital with all of its patients.
    mechanisms : tuple of Mechanism
    clip : float
        Largest norm of what one unit adds to a sum of gradients.
    patients, records : int
        Who was promised, and their records: cases, or histories. Of sites, how many there are, twice.
    randomness_is_secret : bool
        False when noise and sampling had a seed: then the promise does not hold against who knows it.
    outside : tuple of str
        What was made or chosen from data without being paid for: codes, see ``docs/train.md``.
    """

    epsilon: float
    delta: float
    unit: Unit
    mechanisms: tuple[Mechanism, ...]
    clip: float
    patients: int
    records: int
    randomness_is_secret: bool
    outside: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """Steps on gradients."""
        return sum(one.steps for one in self.mechanisms if one.of == "gradients")

    def as_json(self) -> dict[str, Any]:
        """Return all of it, and how it was counted."""
        return {**asdict(self), "accountant": "PLD", "adjacency": "add_or_remove_one", "sampling": "poisson"}


def epsilon_spent(mechanisms: Sequence[Mechanism], delta: float) -> float:
    """Epsilon at `delta` of all mechanisms together; 0 when nothing was asked.

    Examples
    --------
    >>> round(epsilon_spent([Mechanism("gradients", 1.0, 1.0, 1)], 1e-5), 2)
    4.38
    """
    if not any(one.steps for one in mechanisms):
        return 0.0
    return _spent(tuple(mechanisms), delta)


# A site between hospitals asks for the same after each of its rounds.
@lru_cache(1024)
def _spent(mechanisms: tuple[Mechanism, ...], delta: float) -> float:
    return float(_accountant(_FINE).compose(_event(mechanisms)).get_epsilon(delta))


def noise_for(
    epsilon: float, delta: float, *, steps: int, sampling_rate: float, beside: Sequence[Mechanism] = ()
) -> float:
    """Return the least noise multiplier of so many steps that keeps the promise, with what is spent beside.

    Raises
    ------
    InputError
        An epsilon or delta that is none, or that no noise reaches.
    """
    if not epsilon > 0:
        raise InputError("Epsilon must be above zero, not {epsilon}.", epsilon=epsilon)
    if not 0 < delta < 1:
        raise InputError("Delta must lie between zero and one, not {delta}.", delta=delta)
    try:
        return _calibrated(epsilon, delta, steps, sampling_rate, tuple(beside))
    except (ValueError, RuntimeError, ArithmeticError) as error:
        raise InputError(
            "No noise gives epsilon {epsilon} at delta {delta}: ask for a larger epsilon.",
            epsilon=epsilon,
            delta=delta,
        ) from error


@lru_cache
def _calibrated(
    epsilon: float, delta: float, steps: int, sampling_rate: float, beside: tuple[Mechanism, ...]
) -> float:
    """Search once what every site of a training between hospitals asks for."""
    noise = calibrate_dp_mechanism(
        lambda: _accountant(_COARSE),
        lambda multiplier: _event([*beside, Mechanism("gradients", multiplier, sampling_rate, steps)]),
        epsilon,
        delta,
        tol=1e-3,
    )
    return float(noise)


def _accountant(grid: float) -> PLDAccountant:
    return PLDAccountant(value_discretization_interval=grid)


def _event(mechanisms: Sequence[Mechanism]) -> DpEvent:
    return ComposedDpEvent([SelfComposedDpEvent(_step(one), one.steps) for one in mechanisms if one.steps])


def _step(mechanism: Mechanism) -> DpEvent:
    """Everyone at once is a plain Gaussian step, which is a little cheaper to compute."""
    noised = GaussianDpEvent(mechanism.noise_multiplier)
    return noised if mechanism.sampling_rate == 1 else PoissonSampledDpEvent(mechanism.sampling_rate, noised)

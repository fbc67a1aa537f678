"""A number that may be shown to a person: value, interval, sample, method."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """One measured quantity with its interval.

    Attributes
    ----------
    name : str
        What is measured, e.g. ``"auc"``.
    value, low, high : float
        Point value and interval at `level`; ``nan`` where the method gives only a bound.
    n : tuple of int
        Patients behind it, members first, non-members second.
    method : str
        How the interval was made, e.g. ``"delong-logit"``.
    level : float
        Coverage the interval promises, two-sided.
    """

    name: str
    value: float
    low: float
    high: float
    n: tuple[int, ...]
    method: str
    level: float = 0.95

"""What is watched of a canary: five streams, what the policy says of them, what became known of a case."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, get_args

from primum.errors import InputError

Arm = Literal["live", "canary"]
Stream = Literal["error_rate", "refusals", "agreement", "latency", "calibration"]
STREAMS: Final[tuple[Stream, ...]] = get_args(Stream)
# Most of the budget to what harms most; docs/studies/canary.md shows the delays that follow.
WEIGHTS: Final[Mapping[str, float]] = MappingProxyType(
    {"error_rate": 0.6, "refusals": 0.1, "agreement": 0.1, "latency": 0.1, "calibration": 0.1}
)


@dataclass(frozen=True)
class Watch:
    """What the policy says of a canary.

    Attributes
    ----------
    false_rollback : float
        Largest probability that a canary that is no worse is rolled back, over its whole run.
    weights : mapping of str to float
        The part of `false_rollback` that each stream may use; together at most 1. A stream without a part
        is counted and never rolls back.
    disagreement : float
        Largest share of patients on whom canary and live model may decide differently.
    latency_limit_ms : float
        Answers that take longer are late.

    Raises
    ------
    InputError
        A value is outside what it can be; names it.
    """

    false_rollback: float = 0.05
    weights: Mapping[str, float] = field(default_factory=lambda: dict(WEIGHTS))
    disagreement: float = 0.1
    latency_limit_ms: float = 1000.0

    def __post_init__(self) -> None:
        parts = [self.weights[name] for name in sorted(self.weights)]
        checks = {
            "false_rollback": 0 < self.false_rollback < 1,
            "weights": set(self.weights) <= {*STREAMS}
            and all(0 <= part <= 1 for part in parts)
            and 0 < sum(parts) <= 1 + 1e-9,
            "disagreement": 0 < self.disagreement < 1,
            "latency_limit_ms": 0 < self.latency_limit_ms < math.inf,
        }
        for name, right in checks.items():
            if not right:
                raise InputError(
                    "The watch over the canary has no usable {name}: shares lie between 0 and 1, weights "
                    "name known streams and add up to 1 at most, limits are above 0.",
                    name=name,
                )

    def threshold(self, stream: Stream) -> float:
        """Return the e-value at which `stream` rolls the canary back; infinite without a part."""
        part = self.false_rollback * self.weights.get(stream, 0.0)
        return 1 / part if part else math.inf


@dataclass(frozen=True)
class Outcome:
    """What became known of one case of one patient; None where nothing is known, or not yet.

    Attributes
    ----------
    arm : {"live", "canary"}
        Who answered the patient.
    share : float
        Share of the canary when the case was routed, between 0 and 1; 0 before the canary began.
    period : int
        When the case was routed: the number of the week, or of any period of some hundreds of patients.
        Patients of different periods are not compared. Always 0: all are, in the order in which outcomes
        become known.
    error : bool or None
        The answer was wrong, by the label that came.
    refused : bool or None
        No answer was given.
    disagreed : bool or None
        The other model answered the same case beside, and decided otherwise.
    latency_ms : float or None
        Until the answer.
    brier : float or None
        Brier score of the answer's probabilities, between 0 and 1: see :func:`brier_score`.
    """

    arm: Arm
    share: float
    error: bool | None = None
    refused: bool | None = None
    disagreed: bool | None = None
    latency_ms: float | None = None
    brier: float | None = None
    period: int = 0

    def values(self, watch: Watch) -> dict[Stream, float]:
        """Tell what each stream sees of it, higher is worse; nothing of what is not known."""
        known: dict[Stream, float | bool | None] = {
            "error_rate": self.error,
            "refusals": self.refused,
            "agreement": self.disagreed,
            "latency": None if self.latency_ms is None else self.latency_ms > watch.latency_limit_ms,
            "calibration": self.brier,
        }
        return {stream: float(value) for stream, value in known.items() if value is not None}


def brier_score(probabilities: Collection[float], label: int) -> float:
    """Half the squared distance of `probabilities` from the class that came: 0 is best, 1 is worst.

    References
    ----------
    Brier, Monthly Weather Review 78 (1950) 1, halved.

    Examples
    --------
    >>> round(brier_score([0.8, 0.2], 0), 3)
    0.04
    """
    return min(1.0, sum((share - (place == label)) ** 2 for place, share in enumerate(probabilities)) / 2)

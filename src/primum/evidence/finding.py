"""The one currency of Primum: a named test, on one model and one data set, with its verdict."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from primum.evidence.estimate import Estimate

Verdict = Literal[
    "leak",
    "fragile",
    "unfair",
    "tainted",  # harm, in the family's own word
    "none_found",
    "inconclusive",
    "confounded",
    "not_applicable",
    "descriptive",  # reported beside a claim; claims nothing itself, so it cannot alarm
]
HARM_WORDS: tuple[Verdict, ...] = ("leak", "fragile", "unfair", "tainted")
Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Message:
    """A sentence to be said in the reader's language: a stable code and its parameters."""

    code: str
    parameters: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True)
class Series:
    """The points of one plot, as named columns of equal length; counts under 5 are None."""

    name: str
    columns: Mapping[str, tuple[float | None, ...]]


@dataclass(frozen=True)
class Finding:
    """What one test found.

    Attributes
    ----------
    test : str
        Stable identifier, e.g. ``"membership.combined.auc@sex=F"``.
    verdict : Verdict
        In the order of the contract; see :mod:`primum.evidence.verdicts`.
    harmful : bool
        True exactly when `verdict` is one of :data:`HARM_WORDS`.
    primary : bool
        The one test of its family that decides between exit status 0 and 3.
    p_value, p_adjusted : float or None
        One-sided, raw and Holm-adjusted; None when the finding carries no claim.
    material : float or None
        The smallest effect that matters, on the scale of the first estimate.
    estimates : tuple of Estimate
        First the one that is judged, then what stands beside it.
    model, data : str
        sha256 digests of the manifests.
    subgroups : tuple of str
        Whom it is about, e.g. ``("sex=F",)``; empty means every patient.
    attacker : str
        Code of the attacker assumed, e.g. ``"scores"``.
    membership : {"observed", "randomised"}
        Whether who trained the model was decided by chance.
    settings : mapping
        Everything that shaped the number: thresholds, counts, identities of reference models.
    seed : int
    references : tuple of str
        Literature keys.
    reasons : tuple of Message
        Why this verdict, as codes and parameters.
    series : tuple of Series
        Plots.
    """

    test: str
    verdict: Verdict
    harmful: bool
    model: str
    data: str
    primary: bool = False
    p_value: float | None = None
    p_adjusted: float | None = None
    material: float | None = None
    estimates: tuple[Estimate, ...] = ()
    subgroups: tuple[str, ...] = ()
    attacker: str = "none"
    membership: Literal["observed", "randomised"] = "observed"
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    seed: int = 0
    references: tuple[str, ...] = ()
    reasons: tuple[Message, ...] = ()
    series: tuple[Series, ...] = ()

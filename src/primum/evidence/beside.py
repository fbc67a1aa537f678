"""The families that compare no members with held-out patients: their tests, and what makes claims of them."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from primum.evidence import explanations, robustness, tainted
from primum.evidence.contrast import Frame
from primum.evidence.equity import RULES as EQUITY_RULES
from primum.evidence.equity import equity_claims
from primum.evidence.finding import Finding
from primum.evidence.observed import Observed, ObservedFamily
from primum.evidence.rule import Rule
from primum.evidence.verdicts import Claim


class ClaimsOf(Protocol):
    """From what a family observed to its claims and what it only describes."""

    def __call__(
        self, observed: Observed, frame: Frame, *, only: Sequence[str] = ()
    ) -> tuple[list[Claim], list[Finding]]:
        """Judge nothing yet: the error budget is the command's."""
        ...


RULES_BESIDE: Mapping[ObservedFamily, Mapping[str, Rule]] = {
    "robustness": robustness.RULES,
    "data": tainted.RULES,
    "equity": EQUITY_RULES,
    "explanations": explanations.RULES,
}
CLAIMS_BESIDE: Mapping[ObservedFamily, ClaimsOf] = {
    "robustness": robustness.robustness_claims,
    "data": tainted.tainted_claims,
    "equity": equity_claims,
    "explanations": explanations.explanations_claims,
}

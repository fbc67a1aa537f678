"""An audit: what was tested, on whom, and every finding; the content of ``findings.json``."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from primum.evidence.finding import Finding, Scalar
from primum.evidence.identity import ModelRef

SCHEMA = "1.0"
FINDINGS, REPORT, RUN = "findings.json", "report.html", "run.json"


@dataclass(frozen=True)
class Audit:
    """The result of one audit; holds no patient identifier and no record text.

    Attributes
    ----------
    model : ModelRef
    data : mapping of str to str
        Role (``"members"``, ``"held_out"``, ``"reference"``) to the digest of its files.
    patients : mapping of str to int
        Role to number of patients scored.
    command : str
        What reproduces it.
    seed : int
    findings : tuple of Finding
        ``data.overlap`` first.
    context : mapping
        What a reader must know beside the findings: parameters, context length, vocabulary coverage, utility
        (``held_out_loss``, ``unigram_loss``: nats per clinical token, lower is better), package version.
    """

    model: ModelRef
    data: Mapping[str, str]
    patients: Mapping[str, int]
    command: str
    seed: int
    findings: tuple[Finding, ...]
    context: Mapping[str, Scalar] = field(default_factory=dict)
    schema: str = SCHEMA

    @property
    def exit_status(self) -> int:
        """0 nothing found by any primary test, 1 harm, 3 some primary test could not tell."""
        if any(finding.harmful for finding in self.findings):
            return 1
        undecided = {"inconclusive", "confounded"}
        return 3 if any(f.primary and f.verdict in undecided for f in self.findings) else 0

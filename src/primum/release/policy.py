"""The policy of releases as data: ``release.toml``.

What is required of a model, who must sign, which changes are minor. Thresholds are set on the ends of
intervals; there is no way to set one on a point estimate.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from primum.evidence.finding import Verdict
from primum.release.outcomes import WEIGHTS, Watch

Phase = Literal["approved", "shadow", "canary", "live"]
PHASES: Final[tuple[Phase, ...]] = get_args(Phase)


@dataclass(frozen=True)
class Person:
    """Somebody who signs, with one key and one role.

    Attributes
    ----------
    name : str
        As the trail writes it: letters, digits and ``_.:@/+=-``.
    role : str
    key : str
        Ed25519 public key, 64 hexadecimal digits.
    """

    name: str
    role: str
    key: str


@dataclass(frozen=True)
class Auditor:
    """Whose signed findings are believed: a name, and an Ed25519 public key in hexadecimal."""

    name: str
    key: str


@dataclass(frozen=True)
class Requirement:
    """One rule about findings.

    Attributes
    ----------
    test : str
        Exact name of a test, group included, or a beginning and ``*``.
    verdict : tuple of str
        Verdicts that pass; empty: any, and then an interval must be asked for.
    estimate : str or None
        Name of the estimate whose interval is looked at; None: the first.
    bound : {"low", "high"} or None
        Which end of the interval is compared.
    above, below : float or None
        The low end must lie above, the high end below.
    max_age_days : int or None
        Since the finding was made; None: that of ``[findings]``.
    certified : bool
        The finding must be about a test set that was sealed in this registry.
    """

    test: str
    verdict: tuple[Verdict, ...] = ()
    estimate: str | None = None
    bound: Literal["low", "high"] | None = None
    above: float | None = None
    below: float | None = None
    max_age_days: int | None = None
    certified: bool = False


@dataclass(frozen=True)
class Approval:
    """Whose signatures a release needs.

    Attributes
    ----------
    quorum : int
        How many persons must approve.
    roles : tuple of str
        Who may. The authors of a model never may.
    required_roles : tuple of str
        At least one person of each of these must be among them.
    phases : tuple of str
        The steps that need signatures of their own: always ``approved``.
    max_age_days : int
        After that a signature counts no more.
    """

    quorum: int
    roles: tuple[str, ...]
    required_roles: tuple[str, ...] = ()
    phases: tuple[Phase, ...] = ("approved",)
    max_age_days: int = 365


@dataclass(frozen=True)
class Operation:
    """Which roles may carry a model from state to state."""

    roles: tuple[str, ...] = ("operator",)


@dataclass(frozen=True)
class Findings:
    """Which findings are taken at all.

    Attributes
    ----------
    accept_unsigned, accept_declared : bool
        Findings that nobody signed; findings of a model whose bytes nobody read.
    max_age_days : int
    """

    accept_unsigned: bool = False
    accept_declared: bool = False
    max_age_days: int = 365


@dataclass(frozen=True)
class TestSets:
    """Certified test sets.

    Attributes
    ----------
    roles : tuple of str
        Who may seal one; empty: any person of the policy.
    seals : int
        How many persons must have sealed it.
    most_uses : int
        Above so many uses, status warns that it is worn out.
    """

    __test__ = False  # pytest would look for tests in it

    roles: tuple[str, ...] = ()
    seals: int = 1
    most_uses: int = 20


@dataclass(frozen=True)
class CanaryRules:
    """What a canary may do, and what it is watched by: see :class:`primum.release.outcomes.Watch`.

    Attributes
    ----------
    largest_share : float
    fewest_days : int
        Before it may go live.
    """

    largest_share: float = 0.5
    fewest_days: int = 0
    false_rollback: float = 0.05
    weights: Mapping[str, float] = field(default_factory=lambda: dict(WEIGHTS))
    disagreement: float = 0.1
    latency_limit_ms: float = 1000.0

    def watch(self) -> Watch:
        """Return what the canary's tests are set up with."""
        return Watch(self.false_rollback, self.weights, self.disagreement, self.latency_limit_ms)


@dataclass(frozen=True)
class MinorChange:
    """A predetermined change control plan: when a change is minor, and which gates then differ.

    Attributes
    ----------
    plan : str
        Its name; the card of a minor change names it.
    may_change : tuple of str
        Files that may differ from the parent's; every other file must be the same.
    data : {"same", "declared"}
        Training data of the parent, or those and what `declared` lists.
    declared : tuple of str
        Digests of data that the plan foresaw.
    largest_loss : mapping of str to float
        By test, and at least one: how far the low end of its interval may lie below the parent's.
    waived : tuple of str
        Tests that need not be made anew: the parent's findings stand for them.
    quorum : int
        Signatures that a minor change needs.
    required_roles : tuple of str

    References
    ----------
    FDA, Marketing Submission Recommendations for a Predetermined Change Control Plan for Artificial
    Intelligence-Enabled Device Software Functions (2024); Regulation (EU) 2024/1689, article 43(4).
    """

    plan: str
    may_change: tuple[str, ...]
    largest_loss: Mapping[str, float]
    quorum: int
    data: Literal["same", "declared"] = "same"
    declared: tuple[str, ...] = ()
    waived: tuple[str, ...] = ()
    required_roles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Policy:
    """All of ``release.toml``; its digest is that of the file's bytes.

    Attributes
    ----------
    name : str
    approval : Approval
    person, auditor : tuple
    require : tuple of Requirement
    operation, findings, test_sets, canary : tables
    minor_change : MinorChange or None
        None: every change is a new release.
    """

    name: str
    approval: Approval
    person: tuple[Person, ...]
    require: tuple[Requirement, ...]
    auditor: tuple[Auditor, ...] = ()
    operation: Operation = field(default_factory=Operation)
    findings: Findings = field(default_factory=Findings)
    test_sets: TestSets = field(default_factory=TestSets)
    canary: CanaryRules = field(default_factory=CanaryRules)
    minor_change: MinorChange | None = None

    def holder(self, key: str) -> Person | None:
        """Return the person whose key this is."""
        return next((one for one in self.person if one.key == key), None)

    def auditor_of(self, key: str) -> Auditor | None:
        """Return the auditor whose key this is."""
        return next((one for one in self.auditor if one.key == key), None)


def policy_digest(content: bytes) -> str:
    """sha256, hexadecimal, of the bytes of a policy."""
    return hashlib.sha256(content).hexdigest()

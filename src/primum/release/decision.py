"""The decision: every rule of the policy, what it saw, and whether it passes. Findings in, decision out."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Final, Literal

from primum.evidence.audit import Audit
from primum.evidence.canonical import canonical_bytes
from primum.evidence.estimate import Estimate
from primum.evidence.finding import Finding, Scalar
from primum.release.policy import Policy, Requirement
from primum.release.statement import moment

SCHEMA: Final = "1.0"
CONVERSION: Final = "conversion.onnx"
# What an attacker of these kinds needs, a converted file does not show: weights and gradients.
WHITE_BOX: Final = frozenset({"weights", "embedding", "evader", "one_for_all", "sticker"})
# Settings of a conversion that hold: see workflows/conversion.py.
FEWEST_CASES: Final = 1000
LARGEST_DIFFERENCE: Final = 1e-4
Reason = Literal[
    "passed",
    "parent",  # the parent's finding stands for it, by the plan
    "missing",
    "not_accepted",  # there is one, but unsigned, by an unknown auditor, or of declared identity
    "verdict",
    "harmful",
    "interval",
    "no_interval",
    "expired",
    "not_certified",
    "plan",
    "no_parent",
    "files",
    "data",
    "loss",
    "canary_days",
]


@dataclass(frozen=True)
class Taken:
    """Findings as they were taken in.

    Attributes
    ----------
    digest : str
        sha256 of ``findings.json``.
    audit : Audit
    date : str
        When they were made, or taken in where that is not known.
    signer : str or None
        Public key of whoever signed; None: nobody.
    """

    digest: str
    audit: Audit
    date: str
    signer: str | None


@dataclass(frozen=True)
class Seen:
    """One rule and what it saw.

    Attributes
    ----------
    rule : str
        A test, or ``minor.…``, ``findings.harm``, ``canary.days``.
    passed : bool
    reason : str
    saw : mapping
        Verdict, interval, age in days, digest of the findings, ``twin`` where they are of another file.
    """

    rule: str
    passed: bool
    reason: Reason
    saw: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """What the policy says of a model at one moment.

    Attributes
    ----------
    model, card, policy : str
        Digests.
    findings : tuple of str
        Digests of all findings of the model or its twins, sorted.
    change : {"whole", "minor"}
    parent : str or None
    round : int
        How often the model was reopened; signatures of an earlier round count no more.
    date : str
    rules : tuple of Seen
    """

    model: str
    card: str
    policy: str
    findings: tuple[str, ...]
    change: Literal["whole", "minor"]
    parent: str | None
    round: int
    date: str
    rules: tuple[Seen, ...]
    schema: str = SCHEMA

    @property
    def passed(self) -> bool:
        """Whether every rule passes."""
        return all(one.passed for one in self.rules)

    @cached_property
    def digest(self) -> str:
        """sha256, hexadecimal, of its canonical bytes."""
        return hashlib.sha256(canonical_bytes(self)).hexdigest()


@dataclass(frozen=True)
class Candidates:
    """The findings that a policy may look at, for one model.

    Attributes
    ----------
    taken : sequence of Taken
        In the order in which they came.
    model : str
    policy : Policy
    certified : frozenset of str
        Digests of test sets that enough persons sealed.
    date : str
    """

    taken: Sequence[Taken]
    model: str
    policy: Policy
    certified: frozenset[str]
    date: str

    def age(self, one: Taken) -> int:
        """Whole days since findings were made."""
        return (moment(self.date) - moment(one.date)) // timedelta(days=1)

    def accepted(self, one: Taken) -> bool:
        """Tell whether the policy takes findings at all."""
        rules = self.policy.findings
        signed = rules.accept_unsigned or (
            one.signer is not None and bool(self.policy.auditor_of(one.signer))
        )
        return signed and (rules.accept_declared or one.audit.model.identity == "computed")

    def twins(self) -> frozenset[str]:
        """Digests of models whose findings a conversion lets pass to this one."""
        return frozenset(
            str(finding.settings["twin"])
            for one in self.taken
            if self.accepted(one) and self.age(one) <= self.policy.findings.max_age_days
            for finding in one.audit.findings
            if finding.model == self.model and converts(finding)
        )

    def relevant(self) -> tuple[Taken, ...]:
        """Return the findings of this model and, where a conversion holds, of its twins."""
        wanted = self.twins() | {self.model}
        return tuple(one for one in self.taken if one.audit.model.digest in wanted)

    def of(self, test: str) -> Iterator[tuple[Taken, Finding]]:
        """Yield the findings of a test, or of all whose names begin so, accepted or not."""
        for one in self.relevant():
            for finding in one.audit.findings:
                named = finding.test.startswith(test[:-1]) if test.endswith("*") else finding.test == test
                if named and finding.model == one.audit.model.digest:
                    yield one, finding


def converts(finding: Finding) -> bool:
    """Tell whether a finding shows that two files answer alike: 1,000 cases, 1e-4, equal decisions."""
    settings = finding.settings
    largest, cases = settings.get("largest_difference"), settings.get("cases")
    return (
        finding.test == CONVERSION
        and finding.verdict == "none_found"
        and isinstance(settings.get("twin"), str)
        and settings.get("equal_decisions") is True
        and isinstance(cases, int | float)
        and cases >= FEWEST_CASES
        and isinstance(largest, int | float)
        and 0 <= largest <= LARGEST_DIFFERENCE
    )


def judge_requirement(rule: Requirement, given: Candidates) -> Seen:
    """Judge one rule about findings.

    Of several findings of one test the newest counts, but a harmful one is not outvoted by a later one.
    """
    found = list(given.of(rule.test))
    accepted = [(one, finding) for one, finding in found if given.accepted(one)]
    if not accepted:
        return Seen(rule.test, False, "not_accepted" if found else "missing")
    newest: dict[str, tuple[Taken, Finding]] = {}
    for one, finding in accepted:
        kept = newest.get(finding.test)
        # Later of equals: what came in last.
        if kept is None or moment(one.date) >= moment(kept[0].date):
            newest[finding.test] = (one, finding)
    harmful = [pair for pair in accepted if pair[1].harmful]
    judged = [_judged(rule, given, one, finding) for one, finding in (*harmful, *newest.values())]
    return next((one for one in judged if not one.passed), judged[-1])


def _judged(rule: Requirement, given: Candidates, one: Taken, finding: Finding) -> Seen:
    saw: dict[str, Scalar] = {"verdict": finding.verdict, "findings": one.digest, "age_days": given.age(one)}
    if finding.test != rule.test:
        saw["test"] = finding.test
    if finding.model != given.model:
        saw["twin"] = finding.model
        saw["measured_on_the_twin"] = finding.attacker in WHITE_BOX
    chosen = _estimate(rule, finding)
    if chosen is not None:
        # Not finite becomes null in canonical JSON: keep it so from the start.
        saw |= {name: value if value == value else None for name, value in _ends(chosen)}
    reason = _reason(rule, given, one, finding, chosen)
    return Seen(rule.test, reason == "passed", reason, saw)


def _ends(estimate: Estimate) -> tuple[tuple[str, float], tuple[str, float]]:
    return ("low", estimate.low), ("high", estimate.high)


def _estimate(rule: Requirement, finding: Finding) -> Estimate | None:
    named = (one for one in finding.estimates if rule.estimate in (None, one.name))
    return next(named, None)


def _reason(
    rule: Requirement, given: Candidates, one: Taken, finding: Finding, chosen: Estimate | None
) -> Reason:
    most = given.policy.findings.max_age_days if rule.max_age_days is None else rule.max_age_days
    if finding.harmful and finding.verdict not in rule.verdict:
        return "harmful"
    if not 0 <= given.age(one) <= most:
        return "expired"
    if rule.certified and finding.data not in given.certified:
        return "not_certified"
    if rule.verdict and finding.verdict not in rule.verdict:
        return "verdict"
    if rule.bound is None:
        return "passed"
    if chosen is None:
        return "no_interval"
    end = chosen.low if rule.bound == "low" else chosen.high
    if end != end:
        return "no_interval"
    within = end > rule.above if rule.above is not None else rule.below is not None and end < rule.below
    return "passed" if within else "interval"


def judge_harm(given: Candidates) -> Seen:
    """Refuse any harmful finding that no rule of the policy allows by name."""
    for one, finding in given.of("*"):
        rules = [rule for rule in given.policy.require if _names(rule, finding.test)]
        if (
            given.accepted(one)
            and finding.harmful
            and not any(finding.verdict in rule.verdict for rule in rules)
        ):
            saw: dict[str, Scalar] = {
                "test": finding.test,
                "verdict": finding.verdict,
                "findings": one.digest,
            }
            return Seen("findings.harm", False, "harmful", saw)
    return Seen("findings.harm", True, "passed")


def _names(rule: Requirement, test: str) -> bool:
    return test.startswith(rule.test[:-1]) if rule.test.endswith("*") else rule.test == test

"""Which signatures of the committee count, which do not and why."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from primum.release.decision import Decision
from primum.release.policy import Phase, Policy
from primum.release.statement import Signed, moment

Why = Literal[
    "counts",
    "rejects",
    "revoked",
    "superseded",  # the same person said something else since
    "signature",
    "unknown_key",
    "name_or_role",  # of the statement, not those of the key's holder
    "role",
    "author",
    "model",
    "card",
    "policy",
    "findings",
    "round",
    "failed",  # what was signed is a decision that does not pass
    "unknown_decision",
    "expired",
    "other_action",
]


@dataclass(frozen=True)
class Subject:
    """What a signature must be about to count now.

    Attributes
    ----------
    model, card, policy : str
        Digests.
    findings : tuple of str
        Sorted.
    round : int
    authors : frozenset of str
        Names that do not count, whoever holds the key.
    """

    model: str
    card: str
    policy: str
    findings: tuple[str, ...]
    round: int
    authors: frozenset[str]


@dataclass(frozen=True)
class Counted:
    """A ballot, and whether it counts."""

    ballot: Signed
    why: Why

    @property
    def counts(self) -> bool:
        """Whether it is one of the quorum."""
        return self.why == "counts"


def is_author(name: str, authors: Collection[str]) -> bool:
    """Tell whether somebody is among the authors, however a card spells capitals."""
    return name.casefold() in {one.casefold() for one in authors}


def action_of(phase: Phase) -> str:
    """Name the action that a signature for a phase states."""
    return "approve" if phase == "approved" else f"approve.{phase}"


def count_ballots(
    ballots: Sequence[Signed],
    *,
    phase: Phase,
    subject: Subject,
    policy: Policy,
    decisions: Mapping[str, Decision],
    revoked: Collection[str],
    date: str,
) -> tuple[Counted, ...]:
    """Judge each ballot, in the order in which they came.

    A person counts once, with their last word about this phase or a rejection.

    Parameters
    ----------
    ballots : sequence of Signed
    phase : Phase
    subject : Subject
    policy : Policy
    decisions : mapping of str to Decision
        Those that were kept.
    revoked : collection of str
        Digests of ballots that were revoked.
    date : str
        Now.
    """
    counted: list[Counted] = []
    for ballot in ballots:
        why = _why(ballot, phase, subject, policy, decisions, date)
        counted.append(Counted(ballot, "revoked" if ballot.digest in revoked and why == "counts" else why))
    last: dict[str, int] = {}
    for place, one in enumerate(counted):
        if one.why in ("counts", "rejects", "revoked"):
            last[one.ballot.statement.name] = place
    return tuple(
        Counted(one.ballot, "superseded")
        if one.why in ("counts", "rejects") and last[one.ballot.statement.name] != place
        else one
        for place, one in enumerate(counted)
    )


def _why(
    ballot: Signed,
    phase: Phase,
    subject: Subject,
    policy: Policy,
    decisions: Mapping[str, Decision],
    date: str,
) -> Why:
    said = ballot.statement
    holder = policy.holder(ballot.key)
    checks: tuple[tuple[Why, bool], ...] = (
        ("other_action", said.action not in (action_of(phase), "reject")),
        ("signature", not ballot.holds),
        ("unknown_key", holder is None),
        ("name_or_role", holder is not None and (said.name, said.role) != (holder.name, holder.role)),
        ("role", said.role not in policy.approval.roles),
        ("author", is_author(said.name, subject.authors)),
        ("model", said.model != subject.model),
        ("policy", said.policy != subject.policy),
        ("card", said.card != subject.card),
        ("findings", said.findings != subject.findings),
    )
    for why, wrong in checks:
        if wrong:
            return why
    if said.action == "reject":
        return "rejects"
    decision = decisions.get(said.decision)
    if decision is None:
        return "unknown_decision"
    now = subject.model, subject.card, subject.policy, subject.findings
    if (decision.model, decision.card, decision.policy, decision.findings) != now:
        return "findings"
    if decision.round != subject.round:
        return "round"
    if not decision.passed:
        return "failed"
    age = moment(date) - moment(said.date)
    return (
        "counts" if -timedelta(days=1) <= age <= timedelta(days=policy.approval.max_age_days) else "expired"
    )


def quorum_of(policy: Policy, *, minor: bool) -> tuple[int, tuple[str, ...]]:
    """Return how many must approve, and the roles that must be among them."""
    plan = policy.minor_change
    if minor and plan is not None:
        return plan.quorum, plan.required_roles
    return policy.approval.quorum, policy.approval.required_roles


def has_quorum(counted: Sequence[Counted], policy: Policy, *, minor: bool) -> bool:
    """Tell whether enough persons, of the roles that are required, approve."""
    people = {one.ballot.statement.name: one.ballot.statement.role for one in counted if one.counts}
    quorum, roles = quorum_of(policy, minor=minor)
    return len(people) >= quorum and set(roles) <= set(people.values())

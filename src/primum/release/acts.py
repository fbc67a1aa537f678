"""What people do with a registered model: ask for a decision, sign, take a step; and adopt a policy."""

from dataclasses import replace
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from primum.errors import InputError
from primum.evidence.canonical import canonical_bytes
from primum.release.approvals import action_of, has_quorum
from primum.release.artefact import read_artefact, require_same
from primum.release.canary import Decision as CanaryDecision
from primum.release.decision import Decision
from primum.release.evaluate import evaluate, subject_of
from primum.release.event import (
    BallotCast,
    Body,
    Decided,
    Kind,
    PolicyAdopted,
    Stepped,
)
from primum.release.folding import policy_ballots
from primum.release.policy import Person, Phase, Policy, policy_digest
from primum.release.policy_checks import read_policy
from primum.release.registry import Registry
from primum.release.standing import Standing, card_of, policy_of, read_decision
from primum.release.statement import Signed, Statement, sign_statement
from primum.release.states import TABLE, Action

Word = Literal["approve", "reject", "revoke"]


def decide(registry: Registry, digest: str, *, by: str) -> Decision:
    """Ask the policy, and keep the answer: what members sign is a decision that was kept."""
    kept: list[Decision] = []

    def build(standing: Standing, date: str) -> tuple[Kind, Body]:
        decision = evaluate(standing, digest, registry.shelf, date=date)
        kept.append(decision)
        return "decision", Decided(digest, registry.shelf.put(canonical_bytes(decision)))

    registry.commit(by, build)
    return kept[-1]


def cast(
    registry: Registry,
    digest: str,
    word: Word,
    *,
    key: Ed25519PrivateKey,
    comment: str = "",
    phase: Phase = "approved",
) -> Signed:
    """Approve, reject or revoke, as the person of the policy whose key this is.

    Raises
    ------
    InputError
        The key is of nobody, of another role or of an author; there is no decision that passes; nothing was
        signed that could be revoked.
    """
    standing = registry.standing
    person = person_of(policy_of(standing, registry.shelf), key)
    signed: list[Signed] = []

    def build(standing: Standing, date: str) -> tuple[Kind, Body]:
        subject = subject_of(standing, digest, registry.shelf, date=date)
        statement = Statement(
            action=action_of(phase) if word == "approve" else word,
            name=person.name,
            role=person.role,
            date=date,
            comment=comment,
            model=digest,
            card=subject.card,
            policy=subject.policy,
            findings=subject.findings,
            decision=_latest(registry, standing, digest, word, date),
        )
        signed.append(sign_statement(statement, key))
        return "ballot", BallotCast(digest, signed[-1])

    registry.commit(person.name, build)
    return signed[-1]


def _latest(registry: Registry, standing: Standing, digest: str, word: Word, date: str) -> str:
    """Return the last decision about what stands now; an approval needs one, and that it passes."""
    subject = subject_of(standing, digest, registry.shelf, date=date)
    for one in reversed(standing.model(digest).decisions):
        decision = read_decision(registry.shelf, one)
        now = subject.card, subject.policy, subject.findings, subject.round
        if (decision.card, decision.policy, decision.findings, decision.round) != now:
            break
        if word == "approve" and not decision.passed:
            raise InputError(
                "The policy does not allow this model: a decision that fails cannot be approved."
            )
        return one
    if word == "approve":
        raise InputError(
            "There is no decision about this model as it stands now: ask for one with primum release decide."
        )
    return ""


def adopt(
    registry: Registry,
    content: bytes,
    *,
    key: Ed25519PrivateKey,
    comment: str = "",
    file: str = "release.toml",
) -> bool:
    """Sign for another policy, under the one in force; it holds once the quorum has signed.

    Returns
    -------
    bool
        Whether it holds now.

    Raises
    ------
    InputError
        The policy cannot be used, or the key is of nobody who approves.
    """
    read_policy(content, file=file)
    standing = registry.standing
    person = person_of(policy_of(standing, registry.shelf), key)
    digest = policy_digest(content)

    def build(standing: Standing, date: str) -> tuple[Kind, Body]:
        registry.shelf.put(content)
        said = Statement(
            "adopt", person.name, person.role, date, comment, policy=standing.policy, subject=digest
        )
        return "ballot", BallotCast("", sign_statement(said, key))

    after = registry.commit(person.name, build)
    policy = policy_of(after, registry.shelf)
    if not has_quorum(policy_ballots(after, digest, registry.shelf), policy, minor=False):
        return False
    registry.commit(person.name, lambda standing, date: ("policy", PolicyAdopted(digest)))
    return True


def step(
    registry: Registry,
    digest: str,
    action: Action,
    *,
    key: Ed25519PrivateKey | None = None,
    by: str | None = None,
    share: float | None = None,
    reason: str = "",
    statistic: str = "",
    patients: int = 0,
) -> Standing:
    """Take a step: the table, the policy and the signatures must allow it, and the bytes be those registered.

    Parameters
    ----------
    registry : Registry
    digest : str
    action : Action
    key : Ed25519PrivateKey or None
        Of an operator; only ``roll_back`` needs none.
    by : str or None
        Who rolls back, where there is no key.
    share : float or None
        Of a canary.
    reason, statistic : str
    patients : int
        Of a rollback: why, by which figure, over how many patients.

    Raises
    ------
    InputError
        It is not allowed; nothing was changed.
    """
    standing = registry.standing
    person = None if key is None else person_of(policy_of(standing, registry.shelf), key)
    if person is None and by is None:
        raise InputError("This step needs the signature of an operator: give --key.")
    known = TABLE.get((standing.model(digest).state, action))
    if known is not None and known.gate is not None:
        require_intact(registry, digest)

    def build(standing: Standing, date: str) -> tuple[Kind, Body]:
        body = Stepped(digest, action, share, reason=reason, statistic=statistic, patients=patients)
        rule = TABLE.get((standing.model(digest).state, action))
        if rule is not None and rule.gate is not None:
            decision = evaluate(standing, digest, registry.shelf, date=date)
            body = replace(body, decision=registry.shelf.put(canonical_bytes(decision)))
        if key is not None:
            body = replace(body, by=signed_act(registry, standing, key, action, digest, date, share=share))
        return "step", body

    return registry.commit(person.name if person else str(by), build)


def roll_back_if(registry: Registry, digest: str, decision: CanaryDecision, *, by: str) -> bool:
    """Roll the canary back when its watch says so, and return whether it did; from the next request on.

    Parameters
    ----------
    registry : Registry
    digest : str
        Of the canary.
    decision : primum.release.canary.Decision
        What is said after each outcome.
    by : str
        The service that watches.
    """
    if not decision.roll_back or registry.standing.model(digest).state != "canary":
        return False
    statistic = "" if decision.statistic is None else f"{decision.statistic:.4g}"
    step(
        registry,
        digest,
        "roll_back",
        by=by,
        reason=decision.reason,
        statistic=statistic,
        patients=decision.patients,
    )
    return True


def require_intact(registry: Registry, digest: str) -> None:
    """Hash the kept files of a model again.

    Raises
    ------
    InputError
        They are no longer those that were registered; names the first that differs.
    """
    model = registry.standing.model(digest)
    more = {name: one for name, one in model.files.items() if name.startswith("factory ")}
    require_same(read_artefact(registry.artefact(digest), more=more), digest, files=model.files)


def person_of(policy: Policy, key: Ed25519PrivateKey) -> Person:
    """Return the person of the policy whose key this is.

    Raises
    ------
    InputError
        It is of nobody.
    """
    person = policy.holder(key.public_key().public_bytes_raw().hex())
    if person is None:
        raise InputError("The policy knows nobody with this key: whoever signs is named in it, with the key.")
    return person


def signed_act(
    registry: Registry,
    standing: Standing,
    key: Ed25519PrivateKey,
    action: str,
    digest: str,
    date: str,
    *,
    share: float | None = None,
) -> Signed:
    """Sign an act of this moment, as the person of the policy whose key this is."""
    person = person_of(policy_of(standing, registry.shelf), key)
    said = Statement(
        action,
        person.name,
        person.role,
        date,
        model=digest,
        policy=standing.policy,
        head=standing.head,
        share=share,
    )
    return sign_statement(said, key)


def card_name(registry: Registry, digest: str) -> str:
    """Return ``name:version`` of a model."""
    card = card_of(registry.standing.model(digest), registry.shelf)
    return f"{card.name}:{card.version}"

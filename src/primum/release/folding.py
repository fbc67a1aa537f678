"""One event more: the only code that changes where things stand, for who writes and for whoever reads.

A registry is opened by applying its events one by one. What an event may do is therefore checked when it is
written and again whenever it is read: a history that was altered by hand into a release that nobody signed
cannot be opened.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from primum.errors import InputError, clean_text
from primum.evidence.canonical import canonical_bytes
from primum.evidence.identity import manifest_digest
from primum.release.approvals import Counted, has_quorum, is_author
from primum.release.evaluate import evaluate
from primum.release.event import (
    SCHEMA,
    BallotCast,
    Decided,
    Event,
    FindingsTaken,
    PolicyAdopted,
    Registered,
    Sealed,
    Used,
)
from primum.release.policy_checks import read_policy
from primum.release.shelf import Shelf
from primum.release.standing import (
    FindingsRef,
    ModelStanding,
    Standing,
    TestSetStanding,
    card_of,
    policy_of,
    read_decision,
)
from primum.release.statement import Signed, moment
from primum.release.states import State
from primum.release.steps import require_signed, take_step
from primum.release.taken import holds_signature


def apply(standing: Standing, event: Event, shelf: Shelf) -> Standing:
    """Return where things stand after an event.

    Raises
    ------
    InputError
        The event does not follow, or may not happen: a step that the table has not, a signature that is
        missing or does not count, a decision that does not pass.
    """
    if (event.number, event.previous, event.schema) != (standing.number, standing.head, SCHEMA):
        raise InputError(
            "Event {number} of the registry does not follow the one before: the history was altered or cut; "
            "copy the registry again, whole.",
            number=event.number,
        )
    if standing.date and moment(event.date) < moment(standing.date):
        raise InputError(
            "Event {number} of the registry is older than the one before: set the clock of this machine.",
            number=event.number,
        )
    after: Standing = _APPLY[event.kind](standing, event.body, event, shelf)
    return replace(after, number=event.number + 1, head=event.digest, date=event.date)


def _policy(standing: Standing, body: PolicyAdopted, event: Event, shelf: Shelf) -> Standing:
    read_policy(shelf.get(body.policy))
    if standing.policy:
        if body.policy == standing.policy:
            raise InputError("This policy is in force already.")
        counted = policy_ballots(standing, body.policy, shelf)
        if not has_quorum(counted, policy_of(standing, shelf), minor=False):
            raise InputError(
                "The new policy lacks signatures: under the policy in force {quorum} persons must adopt it.",
                quorum=policy_of(standing, shelf).approval.quorum,
            )
    return replace(standing, policy=body.policy, policy_since=event.date, ballots=())


def policy_ballots(standing: Standing, policy: str, shelf: Shelf) -> tuple[Counted, ...]:
    """Judge the signatures for another policy, each person's once."""
    now, found = policy_of(standing, shelf), {}
    for one in standing.ballots:
        said, holder = one.statement, now.holder(one.key)
        right = (
            holder is not None
            and (said.name, said.role) == (holder.name, holder.role)
            and holder.role in now.approval.roles
            and (said.action, said.subject, said.policy) == ("adopt", policy, standing.policy)
            # Else a signature would serve again when an older policy comes back into force.
            and moment(said.date) >= moment(standing.policy_since)
        )
        if right and one.holds:
            found[said.name] = Counted(one, "counts")
    return tuple(found.values())


def _registered(standing: Standing, body: Registered, event: Event, shelf: Shelf) -> Standing:
    policy = policy_of(standing, shelf)
    known = standing.models.get(body.model)
    fresh = ModelStanding(body.model, body.card, body.files, frozenset(), frozenset(), since=event.date)
    model = replace(known or fresh, card=body.card)
    card = card_of(model, shelf)
    if manifest_digest(body.files) != body.model:
        raise InputError("Event {number} of the registry gives a model other files.", number=event.number)
    if card.parent == body.model:
        raise InputError("The card names the model as its own parent: name the one that it changes.")
    authors = model.authors | {*card.authors}
    if body.by is not None:
        # Who registers a model is of its makers.
        require_signed(body.by, "register", body.model, standing, shelf)
        holder = policy.holder(body.by.key)
        authors |= {holder.name} if holder else set()
    data = model.data | {*card.data, *body.data}
    return standing.with_model(replace(model, authors=authors, data=data))


def _findings(standing: Standing, body: FindingsTaken, event: Event, shelf: Shelf) -> Standing:
    model = standing.model(body.model)
    if body.key is not None and not holds_signature(
        shelf.get(body.findings), report=body.report, key=body.key, signature=body.signature or ""
    ):
        raise InputError(
            "The signature of the findings in event {number} does not hold.", number=event.number
        )
    if any((one.digest, one.key) == (body.findings, body.key) for one in model.findings):
        raise InputError("These findings are in the registry already.")
    taken = FindingsRef(body.findings, min(body.date, event.date, key=moment), body.key)
    return standing.with_model(replace(model, findings=(*model.findings, taken)))


def _decision(standing: Standing, body: Decided, event: Event, shelf: Shelf) -> Standing:
    model, kept = standing.model(body.model), read_decision(shelf, body.decision)
    again = evaluate(standing, body.model, shelf, date=event.date)
    if canonical_bytes(kept) != canonical_bytes(again):
        raise InputError(
            "The decision in event {number} is not what the policy says of these findings.",
            number=event.number,
        )
    return standing.with_model(replace(model, decisions=(*model.decisions, body.decision)))


def _ballot(standing: Standing, body: BallotCast, event: Event, shelf: Shelf) -> Standing:
    said, policy = body.ballot.statement, policy_of(standing, shelf)
    holder = policy.holder(body.ballot.key)
    if holder is None or (said.name, said.role) != (holder.name, holder.role) or not body.ballot.holds:
        raise InputError("The signature is not that of a person of the policy: nothing was counted.")
    if holder.role not in policy.approval.roles:
        raise InputError("The role {role} does not approve under this policy.", role=clean_text(holder.role))
    if said.model != body.model or moment(said.date) > moment(event.date):
        raise InputError("The signature is about another model, or dated after it came.")
    if not body.model:
        if said.action != "adopt" or said.policy != standing.policy:
            raise InputError("The signature adopts no policy under the one in force.")
        return replace(standing, ballots=(*standing.ballots, body.ballot))
    model = standing.model(body.model)
    if any(one.digest == body.ballot.digest for one in model.ballots) or body.ballot.digest in model.revoked:
        raise InputError("This signature was counted before: each serves once.")
    if said.action == "revoke":
        return _revoked(standing, model, body.ballot, event, shelf)
    if is_author(holder.name, model.authors) and said.action != "reject":
        raise InputError(
            "{name} is an author of the model and cannot approve it.", name=clean_text(holder.name)
        )
    if said.action != "reject" and said.action.partition(".")[0] != "approve":
        raise InputError("The signature neither approves nor rejects.")
    return standing.with_model(replace(model, ballots=(*model.ballots, body.ballot)))


def _revoked(
    standing: Standing, model: ModelStanding, ballot: Signed, event: Event, shelf: Shelf
) -> Standing:
    """Take a signature back: every approval of that person, past and pending, counts no more."""
    name = ballot.statement.name
    mine = frozenset(one.digest for one in model.ballots if one.statement.name == name)
    if not mine - model.revoked:
        raise InputError(
            "{name} signed nothing about this model that could be revoked.", name=clean_text(name)
        )
    model = replace(model, revoked=model.revoked | mine | {ballot.digest})
    left = tuple(Counted(one, "counts") for one in model.relied if one.digest not in model.revoked)
    minor = card_of(model, shelf).change == "minor"
    if not model.relied or has_quorum(left, policy_of(standing, shelf), minor=minor):
        return standing.with_model(model)
    model = replace(model, broken=True)
    # Who is live stays so until somebody stops it, which needs nobody's signature; status says it aloud.
    fallen: Mapping[State, State] = {"approved": "candidate", "shadow": "candidate", "canary": "rolled_back"}
    if model.state not in fallen:
        return standing.with_model(model)
    after = fallen[model.state]
    standing = replace(standing, rolled_back=model.digest) if after == "rolled_back" else standing
    return standing.with_model(replace(model, state=after, since=event.date))


def _sealed(standing: Standing, body: Sealed, event: Event, shelf: Shelf) -> Standing:
    said, holder = body.by.statement, policy_of(standing, shelf).holder(body.by.key)
    if holder is None or (said.name, said.role) != (holder.name, holder.role) or not body.by.holds:
        raise InputError("The signature is not that of a person of the policy: nothing was sealed.")
    if (said.action, said.subject) != ("seal", body.test_set):
        raise InputError("The signature is about another test set.")
    known = standing.test_sets.get(body.test_set) or TestSetStanding(body.test_set, body.seal, ())
    if any(one.statement.name == holder.name for one in known.sealed_by):
        raise InputError("{name} has sealed this test set already.", name=clean_text(holder.name))
    shelf.get(body.seal)
    sealed = replace(known, sealed_by=(*known.sealed_by, body.by))
    return replace(standing, test_sets={**standing.test_sets, body.test_set: sealed})


def _used(standing: Standing, body: Used, event: Event, shelf: Shelf) -> Standing:
    known = standing.test_sets.get(body.test_set)
    if known is None:
        raise InputError("This test set is not sealed in the registry: seal it first.")
    used = replace(known, uses=known.uses + 1)
    return replace(standing, test_sets={**standing.test_sets, body.test_set: used})


_APPLY: Final[Mapping[str, Callable[[Standing, Any, Event, Shelf], Standing]]] = MappingProxyType(
    {
        "policy": _policy,
        "registered": _registered,
        "findings": _findings,
        "decision": _decision,
        "ballot": _ballot,
        "step": take_step,
        "sealed": _sealed,
        "used": _used,
    }
)

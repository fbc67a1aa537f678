"""An event of the registry as the trail writes it: digests and short words; what people write is a digest."""

import hashlib
import re
from typing import Final

from primum.release.event import (
    BallotCast,
    Decided,
    Event,
    FindingsTaken,
    PolicyAdopted,
    Registered,
    Sealed,
    Stepped,
    Used,
)
from primum.release.shelf import Shelf
from primum.release.standing import Standing, card_of, read_decision
from primum.release.statement import Signed
from primum.trail.entry import Entry, Value

_WORD: Final = re.compile(r"[\w.:@/+=-]{1,256}", re.ASCII)
_MILLION: Final = 1_000_000


def entry_of(event: Event, before: Standing, after: Standing, shelf: Shelf) -> Entry:
    """Make the entry of an event.

    Parameters
    ----------
    event : Event
    before, after : Standing
        Where things stood, and stand with it. A share is written in millionths.
    shelf : Shelf
    """
    body = event.body
    details: dict[str, Value]
    match body:
        case PolicyAdopted():
            kind, details, model = "release.decision", {"policy": body.policy, "phase": "policy"}, None
        case Registered():
            kind, details, model = "release.registered", _registered(body, after, shelf), body.model
        case FindingsTaken():
            details = {"findings": body.findings}
            details |= {"key": body.key} if body.key else {}
            kind, model = "release.findings", body.model
        case Decided():
            kind, details, model = "release.decision", _decided(body.decision, shelf), body.model
        case BallotCast():
            kind, details, model = *_ballot(body, before, after), body.model or None
        case Stepped():
            kind, details, model = *_stepped(body, before, after), body.model
        case Sealed():
            details = {"test_set": body.test_set, **_by(body.by)}
            kind, model = "test_set.sealed", None
        case Used():
            details = {
                "test_set": body.test_set,
                "uses": after.test_sets[body.test_set].uses,
                "purpose": as_word(body.purpose),
            }
            kind, model = "test_set.used", body.model
    return Entry(kind, event.by, model=model, details={**details, "event": event.digest})


def as_word(text: str) -> str:
    """Keep a short word as it is; of anything else, and of nothing, say only which text it is.

    Examples
    --------
    >>> as_word("error_rate"), as_word("a long story")[:12]
    ('error_rate', 'sha256:f9f7f')
    """
    return text if _WORD.fullmatch(text) else "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _by(signed: Signed) -> dict[str, Value]:
    return {"role": signed.statement.role, "key": signed.key, "signature": signed.signature}


def _registered(body: Registered, after: Standing, shelf: Shelf) -> dict[str, Value]:
    card = card_of(after.models[body.model], shelf)
    details: dict[str, Value] = {
        "card": body.card,
        "format": body.format,
        "name": card.name,
        "version": card.version,
        "data": tuple(sorted(after.models[body.model].data)),
    }
    details |= {"parent": card.parent} if card.parent else {}
    return details | ({"receipt": body.receipt} if body.receipt else {})


def _decided(digest: str, shelf: Shelf) -> dict[str, Value]:
    decision = read_decision(shelf, digest)
    passed = sum(one.passed for one in decision.rules)
    return {
        "policy": decision.policy,
        "decision": digest,
        "passed": passed,
        "failed": len(decision.rules) - passed,
        "change": decision.change,
    }


def _ballot(body: BallotCast, before: Standing, after: Standing) -> tuple[str, dict[str, Value]]:
    said = body.ballot.statement
    action, _, phase = said.action.partition(".")
    kind = {"reject": "rejection", "revoke": "revocation"}.get(action, "approval")
    details: dict[str, Value] = {"policy": said.policy, **_by(body.ballot)}
    details |= {"decision": said.decision} if said.decision else {}
    details |= (
        {"comment": "sha256:" + hashlib.sha256(said.comment.encode()).hexdigest()} if said.comment else {}
    )
    if kind == "approval":
        details["phase"] = "policy" if action == "adopt" else phase or "approved"
    if action == "adopt":
        details["decision"] = said.subject
    elif kind == "revocation" and before.models[body.model].state != after.models[body.model].state:
        details |= {"before": before.models[body.model].state, "after": after.models[body.model].state}
    return kind, details


def _stepped(body: Stepped, before: Standing, after: Standing) -> tuple[str, dict[str, Value]]:
    was, now = before.models[body.model].state, after.models[body.model].state
    details: dict[str, Value] = {"before": was, "after": now}
    details |= {"reason": as_word(body.reason)} if body.reason else {}
    live, others = after.only("live"), before.only("live")
    if before.only("canary") not in (None, body.model, after.only("canary"), live):
        details["ends"] = str(before.only("canary"))
    if body.action == "roll_back":
        details |= {"statistic": as_word(body.statistic)} if body.statistic else {}
        details |= {"patients": body.patients} if body.patients else {}
        details |= {"to": live} if was == "live" and live else {}
        return "release.rollback", details
    details["policy"] = after.policy
    details |= {"decision": body.decision} if body.decision else {}
    details |= {"share": round(body.share * _MILLION)} if body.share is not None else {}
    details |= {"replaces": others} if others and live == body.model and others != live else {}
    return "release.state", details

"""From where a model stands to the decision of the policy, and to the signatures that count."""

from datetime import timedelta
from functools import lru_cache

from primum.errors import InputError
from primum.evidence.audit import Audit
from primum.evidence.documents import Misfit, decode_bytes
from primum.release.approvals import Counted, Subject, count_ballots, has_quorum
from primum.release.change import Version, judge_change, judge_waived
from primum.release.decision import Candidates, Decision, Seen, Taken, judge_harm, judge_requirement
from primum.release.policy import PHASES, Phase, Policy
from primum.release.shelf import Shelf
from primum.release.standing import ModelStanding, Standing, card_of, policy_of, read_decision
from primum.release.statement import moment


def evaluate(standing: Standing, digest: str, shelf: Shelf, *, date: str) -> Decision:
    """Ask the policy in force about a model.

    Parameters
    ----------
    standing : Standing
    digest : str
        Of the model.
    shelf : Shelf
    date : str
        Now; ages are counted from it.

    Returns
    -------
    Decision
        Every rule with what it saw.
    """
    model, policy = standing.model(digest), policy_of(standing, shelf)
    card = card_of(model, shelf)
    new, old = _version(standing, model, shelf, policy, date), None
    if card.parent in standing.models:
        old = _version(standing, standing.model(str(card.parent)), shelf, policy, date)
    changes = judge_change(card, policy.minor_change, new, old)
    minor = card.change == "minor" and all(one.passed for one in changes)
    rules: list[Seen] = [*changes, judge_harm(new.findings)]
    for rule in policy.require:
        if minor and old is not None and policy.minor_change is not None:
            rules.append(judge_waived(rule, policy.minor_change, new, old))
        else:
            rules.append(judge_requirement(rule, new.findings))
    return Decision(
        model=digest,
        card=model.card,
        policy=standing.policy,
        findings=_counted(new.findings),
        change=card.change,
        parent=card.parent,
        round=model.round,
        date=date,
        rules=tuple(rules),
    )


def subject_of(standing: Standing, digest: str, shelf: Shelf, *, date: str) -> Subject:
    """Say what a signature must be about to count now."""
    model, policy = standing.model(digest), policy_of(standing, shelf)
    found = _candidates(standing, model, shelf, policy, date)
    return Subject(digest, model.card, standing.policy, _counted(found), model.round, model.authors)


def counted_ballots(
    standing: Standing, digest: str, shelf: Shelf, *, phase: Phase, date: str
) -> tuple[Counted, ...]:
    """Judge every signature about a model, for one phase."""
    model = standing.model(digest)
    return count_ballots(
        model.ballots,
        phase=phase,
        subject=subject_of(standing, digest, shelf, date=date),
        policy=policy_of(standing, shelf),
        decisions={one: read_decision(shelf, one) for one in model.decisions},
        revoked=model.revoked,
        date=date,
    )


def phases_before(policy: Policy, phase: Phase) -> tuple[Phase, ...]:
    """Name the phases up to this one that need signatures of their own."""
    upto = PHASES[: PHASES.index(phase) + 1]
    return tuple(one for one in upto if one in policy.approval.phases)


def missing_quorum(standing: Standing, digest: str, shelf: Shelf, *, phase: Phase, date: str) -> Phase | None:
    """Name the first phase, up to this one, that lacks signatures."""
    policy, card = policy_of(standing, shelf), card_of(standing.model(digest), shelf)
    for one in phases_before(policy, phase):
        counted = counted_ballots(standing, digest, shelf, phase=one, date=date)
        if not has_quorum(counted, policy, minor=card.change == "minor"):
            return one
    return None


def canary_ready(model: ModelStanding, policy: Policy, *, date: str) -> bool:
    """Tell whether a canary has been watched long enough to go live."""
    return moment(date) - moment(model.since) >= timedelta(days=policy.canary.fewest_days)


def certified_sets(standing: Standing, policy: Policy) -> frozenset[str]:
    """Digests of the test sets that enough persons of the right roles sealed."""
    found = set()
    for one in standing.test_sets.values():
        holders = (policy.holder(seal.key) for seal in one.sealed_by)
        roles = policy.test_sets.roles
        names = {holder.name for holder in holders if holder and (not roles or holder.role in roles)}
        if len(names) >= policy.test_sets.seals:
            found.add(one.digest)
    return frozenset(found)


def _version(standing: Standing, model: ModelStanding, shelf: Shelf, policy: Policy, date: str) -> Version:
    found = _candidates(standing, model, shelf, policy, date)
    return Version(model.files, model.data, found, model.was_live)


def _candidates(
    standing: Standing, model: ModelStanding, shelf: Shelf, policy: Policy, date: str
) -> Candidates:
    """Gather the findings of a model and of those that a conversion may name as its twins."""
    taken = [_taken(shelf, ref.digest, ref.date, ref.key) for ref in model.findings]
    own = Candidates(taken, model.digest, policy, certified_sets(standing, policy), date)
    for twin in sorted(own.twins() & standing.models.keys()):
        taken += [_taken(shelf, ref.digest, ref.date, ref.key) for ref in standing.models[twin].findings]
    return Candidates(taken, own.model, policy, own.certified, date)


def _counted(found: Candidates) -> tuple[str, ...]:
    return tuple(sorted({one.digest for one in found.relevant()}))


def _taken(shelf: Shelf, digest: str, date: str, key: str | None) -> Taken:
    return Taken(digest, audit_of(shelf, digest), date, key)


def audit_of(shelf: Shelf, digest: str) -> Audit:
    """Read findings that were taken in."""
    return _audit(shelf.get(digest))


@lru_cache(maxsize=256)
def _audit(content: bytes) -> Audit:
    try:
        audit: Audit = decode_bytes(Audit, content)
    except Misfit as error:
        raise InputError(
            "Findings in the registry cannot be read: copy the registry again, whole."
        ) from error
    return audit

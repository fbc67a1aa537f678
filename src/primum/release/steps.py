"""One step of a model from state to state: what must hold for it, and what follows for the others."""

from dataclasses import replace

from primum.errors import InputError, clean_text
from primum.release.evaluate import canary_ready, counted_ballots, evaluate, missing_quorum, phases_before
from primum.release.event import Event, Stepped
from primum.release.policy import Phase
from primum.release.shelf import Shelf
from primum.release.standing import ModelStanding, Standing, policy_of, read_decision
from primum.release.statement import Signed
from primum.release.states import TABLE, Actor, Step, may_act


def take_step(standing: Standing, body: Stepped, event: Event, shelf: Shelf) -> Standing:
    """Return where things stand after a step.

    Raises
    ------
    InputError
        The table has no such step, another model is in the way, the decision does not pass, or a signature
        is missing.
    """
    model = standing.model(body.model)
    step = TABLE.get((model.state, body.action))
    if step is None:
        raise InputError(
            "A model that is {state} cannot {action}: see the table of states in docs/release.md.",
            state=model.state,
            action=body.action,
        )
    _require_place(standing, model, step)
    if body.by is not None:
        require_signed(body.by, body.action, body.model, standing, shelf)
    if step.signed:
        _require_operator(standing, body, shelf)
    if step.gate is not None:
        model = _through_gate(standing, model, step.gate, body, event, shelf)
    share = _share(standing, body, shelf)
    return _moved(standing, model, step, body, event, share)


def _require_place(standing: Standing, model: ModelStanding, step: Step) -> None:
    live = standing.only("live")
    if step.first and live is not None:
        raise InputError("Another model is live: a model goes live through a canary beside it.")
    if step.beside and live is None:
        raise InputError("No model is live: a canary is compared with one. The first goes live from shadow.")
    holder = standing.only(step.after) if step.after in ("shadow", "canary") else None
    if holder not in (None, model.digest):
        raise InputError(
            "The model {model} is {state} already: one at a time.", model=str(holder)[:12], state=step.after
        )


def _require_operator(standing: Standing, body: Stepped, shelf: Shelf) -> None:
    policy = policy_of(standing, shelf)
    if body.by is None:
        raise InputError("This step needs the signature of an operator: give --key.")
    holder = policy.holder(body.by.key)
    actor: Actor = "operator" if holder and holder.role in policy.operation.roles else "member"
    if not may_act(actor, body.action):
        raise InputError(
            "This step needs the signature of an operator of the policy: this key is not of one."
        )
    if body.by.statement.share != body.share:
        raise InputError("The share that was signed is another one.")


def require_signed(by: Signed, action: str, model: str, standing: Standing, shelf: Shelf) -> None:
    """Refuse a signature that is not of a person of the policy, for this act, now."""
    said, holder = by.statement, policy_of(standing, shelf).holder(by.key)
    if holder is None or (said.name, said.role) != (holder.name, holder.role) or not by.holds:
        raise InputError("The signature is not that of a person of the policy: nothing was done.")
    if (said.action, said.model, said.policy, said.head) != (action, model, standing.policy, standing.head):
        raise InputError("The signature is about another act, another policy or an earlier moment.")


def _through_gate(
    standing: Standing, model: ModelStanding, gate: Phase, body: Stepped, event: Event, shelf: Shelf
) -> ModelStanding:
    """Require a decision that passes now, and the signatures; remember which ones."""
    decision = evaluate(standing, model.digest, shelf, date=event.date)
    failing = [one.rule for one in decision.rules if not one.passed]
    if failing:
        raise InputError(
            "The policy does not allow it: {count} of {all} rules fail, {rule} for one. primum release "
            "decide shows them all.",
            count=len(failing),
            all=len(decision.rules),
            rule=clean_text(failing[0])[:80],
        )
    if body.decision != decision.digest or decision.digest != read_decision(shelf, body.decision).digest:
        raise InputError("The step names another decision than the one that holds now.")
    lacking = missing_quorum(standing, model.digest, shelf, phase=gate, date=event.date)
    if lacking is not None:
        raise InputError(
            "The committee has not signed: too few approvals count for the phase {phase}. primum release "
            "status shows which do, and why others do not.",
            phase=lacking,
        )
    policy = policy_of(standing, shelf)
    if gate == "live" and model.state == "canary" and not canary_ready(model, policy, date=event.date):
        raise InputError("The policy asks for {days} days as a canary: wait.", days=policy.canary.fewest_days)
    relied = {
        one.ballot.digest: one.ballot
        for phase in phases_before(policy, gate)
        for one in counted_ballots(standing, model.digest, shelf, phase=phase, date=event.date)
        if one.counts
    }
    decisions = model.decisions if body.decision in model.decisions else (*model.decisions, body.decision)
    return replace(model, relied=tuple(relied.values()), broken=False, decisions=decisions)


def _share(standing: Standing, body: Stepped, shelf: Shelf) -> float:
    if body.action != "canary":
        if body.share is not None:
            raise InputError("A share is for canaries only.")
        return standing.share
    largest = policy_of(standing, shelf).canary.largest_share
    if body.share is None or not 0 < body.share <= largest:
        raise InputError("The share of a canary must lie above 0 and be {largest} at most.", largest=largest)
    return body.share


def _moved(
    standing: Standing, model: ModelStanding, step: Step, body: Stepped, event: Event, share: float
) -> Standing:
    before, live = model.state, standing.only("live")
    again = body.action == "reopen"
    standing = replace(standing, share=share if step.after == "canary" else standing.share)
    since = model.since if before == step.after else event.date
    model = replace(
        model,
        state=step.after,
        since=since,
        round=model.round + again,
        was_live=model.was_live or step.after == "live",
    )
    if again:
        model = replace(model, ballots=(), relied=(), broken=False)
    standing = standing.with_model(model)
    if body.action in ("retire", "reopen"):
        # Who does so by hand does not want it back when another is rolled back.
        standing = replace(standing, former=tuple(one for one in standing.former if one != model.digest))
    if step.after == "live" and live is not None:
        replaced = replace(standing.model(live), state="retired", since=event.date)
        return replace(standing.with_model(replaced), former=(*standing.former, live))
    if step.after == "rolled_back":
        standing = replace(standing, rolled_back=model.digest)
        back = restorable(standing) if before == "live" else None
        if back is not None:
            restored = replace(standing.model(back), state="live", since=event.date)
            place = standing.former.index(back)
            standing = replace(standing.with_model(restored), former=standing.former[:place])
    return _without_orphan(standing, event)


def restorable(standing: Standing) -> str | None:
    """Return the model that answers again when the live one is rolled back: the last it replaced, if any.

    It was released before, with signatures that nobody took back since; who retired it by hand, or revoked
    them, does not want it back.
    """
    for digest in reversed(standing.former):
        model = standing.models[digest]
        if model.state == "retired" and model.was_live and not model.broken:
            return digest
    return None


def _without_orphan(standing: Standing, event: Event) -> Standing:
    """Roll a canary back that has no live model beside it any more."""
    canary = standing.only("canary")
    if canary is None or standing.only("live") is not None:
        return standing
    ended = replace(standing.model(canary), state="rolled_back", since=event.date)
    return replace(standing.with_model(ended), rolled_back=canary)

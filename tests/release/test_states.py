"""The state machine, enumerated: roles by states by actions, and every path that could lead to ``live``."""

from collections import deque
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, cast, get_args

import pytest
from tests.release.bench import ROLES, Bench, digest_of, fresh
from tests.release.world import clean, finding, key_of, policy_text

from primum.errors import InputError
from primum.release.decision import Seen
from primum.release.event import BallotCast, PolicyAdopted, Stepped
from primum.release.statement import Statement, sign_statement
from primum.release.states import ACTIONS, STATES, TABLE, Action, Actor, State, may_act

# The table once more, by hand: a step that is not in it does not exist.
ALLOWED = """
candidate admit approved
approved shadow shadow
shadow canary canary
canary canary canary
canary live live
shadow live live
approved roll_back rolled_back
shadow roll_back rolled_back
canary roll_back rolled_back
live roll_back rolled_back
candidate retire retired
approved retire retired
shadow retire retired
live retire retired
rolled_back reopen candidate
retired reopen candidate
"""
ENDS = {(before, action): after for before, action, after in map(str.split, ALLOWED.strip().splitlines())}
# Who signs the step, and with what role in the policy; None: nobody.
SIGNERS = {"otto": "operator", "ada": "clinician", "sam": "data_steward", "stranger": "operator", None: ""}


def test_the_table_is_the_one_written_by_hand() -> None:
    assert {key: step.after for key, step in TABLE.items()} == ENDS


def in_state(state: State, *, beside: bool) -> Bench:
    """A model with findings and signatures in order, put into a state; another one live beside it or not."""
    bench = fresh()
    if beside:
        bench = bench.live("other")
    bench = bench.ready("a").approved("a")
    model = replace(bench.model("a"), state=state, since=bench.date)
    return replace(bench, standing=bench.standing.with_model(model))


@pytest.mark.parametrize("beside", [False, True])
def test_roles_by_states_by_actions(beside: bool) -> None:
    for state in STATES:
        if state == "live" and beside:
            continue  # two live models cannot be
        bench = in_state(state, beside=beside)
        for action, (signer, role) in product(ACTIONS, SIGNERS.items()):
            expected = ENDS.get((state, action))
            if signer != "otto" and action != "roll_back":
                expected = None
            if signer == "stranger":
                expected = None  # a signature that does not hold is refused even where none is needed
            if action == "canary" and not beside:
                expected = None
            if (state, action) == ("canary", "live") and not beside:
                expected = None
            if (state, action) == ("shadow", "live") and beside:
                expected = None
            try:
                after = bench.steps("a", action, by=signer, role=role).model("a").state
            except InputError:
                after = None
            assert after == expected, (state, action, signer, beside)


def test_who_may_act() -> None:
    allowed = {(actor, action) for actor in get_args(Actor) for action in ACTIONS if may_act(actor, action)}
    assert allowed == {("operator", one) for one in ACTIONS} | {(one, "roll_back") for one in get_args(Actor)}


# What becomes of one member's signature; only the first counts.
DEFECTS = (
    "valid",
    "none",
    "author",
    "revoked",
    "rejected_since",
    "other_model",
    "other_card",
    "other_policy",
    "other_findings",
    "other_action",
    "other_round",
    "failing_decision",
    "no_decision",
    "expired",
    "future",
    "unknown_key",
    "second_key",
    "role",
    "forged",
)


def test_every_combination_of_signatures() -> None:
    """Three members, each with a signature that is right or wrong in one way: 6,859 ballot boxes."""
    from primum.release.approvals import count_ballots, has_quorum
    from primum.release.evaluate import subject_of
    from primum.release.standing import policy_of, read_decision

    bench = fresh().ready("a")
    other_round = replace(bench.model("a"), round=1)
    reopened = replace(bench, standing=bench.standing.with_model(other_round)).decides("a")
    later = bench.later(100)
    subject = subject_of(bench.standing, digest_of("a"), bench.shelf, date=later.date)
    policy = policy_of(bench.standing, bench.shelf)
    kept = {one: read_decision(bench.shelf, one) for one in bench.model("a").decisions}
    kept |= {one: read_decision(reopened.shelf, one) for one in reopened.model("a").decisions}
    # Of the same model, card, policy and findings: only what it says is another.
    said_no = replace(next(iter(kept.values())), rules=(Seen("a", False, "missing"),))
    failing, kept[said_no.digest] = said_no.digest, said_no
    changes: dict[str, dict[str, Any]] = {
        "other_model": {"model": "11" * 32},
        "other_card": {"card": "11" * 32},
        "other_policy": {"policy": "11" * 32},
        "other_findings": {"findings": ("11" * 32,)},
        "other_action": {"action": "approve.live"},
        "other_round": {"decision": reopened.model("a").decisions[-1]},
        "failing_decision": {"decision": failing},
        "no_decision": {"decision": "11" * 32},
        "expired": {"date": "2025-10-01T00:00:00+00:00"},
        "future": {"date": "2030-10-01T00:00:00+00:00"},
        "role": {"role": "operator"},
    }
    box = {}
    for who in ("ada", "ben", "cleo"):
        for defect in DEFECTS:
            said = bench.statement("a", who, **changes.get(defect, {}))
            signed = sign_statement(
                said, key_of({"unknown_key": "stranger", "second_key": who + "2"}.get(defect, who))
            )
            if defect == "forged":
                signed = replace(signed, statement=replace(said, comment="another"))
            reject = sign_statement(replace(said, action="reject"), key_of(who))
            box[who, defect] = (
                [signed, reject] if defect == "rejected_since" else [] if defect == "none" else [signed]
            )
    for combination in product(DEFECTS, repeat=3):
        given = dict(zip(("ada", "ben", "cleo"), combination, strict=True))
        ballots = [one for who, defect in given.items() for one in box[who, defect]]
        authors = frozenset(who for who, defect in given.items() if defect == "author") | {"mia"}
        revoked = {one.digest for who, d in given.items() if d == "revoked" for one in box[who, d]}
        counted = count_ballots(
            ballots,
            phase="approved",
            subject=replace(subject, authors=authors),
            policy=policy,
            decisions=kept,
            revoked=revoked,
            date=later.date,
        )
        right = sum(defect == "valid" for defect in combination)
        assert sum(one.counts for one in counted) == right, combination
        assert has_quorum(counted, policy, minor=False) == (right >= 2), combination


def test_a_person_counts_once_however_often_they_sign() -> None:
    bench = fresh().ready("a").casts("a", "ada", comment="once").casts("a", "ada", comment="twice")
    with pytest.raises(InputError, match="too few approvals"):
        bench.steps("a", "admit")
    assert bench.casts("a", "ben").steps("a", "admit").model("a").state == "approved"


def test_required_roles_must_be_among_them() -> None:
    bench = fresh(policy_text(approval='required_roles = ["clinician"]')).ready("a")
    with pytest.raises(InputError, match="too few approvals"):
        bench.approved("a", "ben", "cleo").steps("a", "admit")
    assert bench.approved("a", "ada", "cleo").steps("a", "admit").model("a").state == "approved"


def test_a_phase_may_need_signatures_of_its_own() -> None:
    bench = fresh(policy_text(approval='phases = ["approved", "live"]')).ready("a").approved("a")
    bench = bench.steps("a", "admit").steps("a", "shadow")
    with pytest.raises(InputError, match="phase live"):
        bench.steps("a", "live")
    bench = bench.casts("a", "ada", "approve.live").casts("a", "ben", "approve.live")
    assert bench.steps("a", "live").model("a").state == "live"


@dataclass(frozen=True)
class Believed:
    """What the enumeration itself keeps book of, independently: who stands by the model as it is now."""

    valid: frozenset[str] = frozenset()
    findings: int = 0
    policy: int = 0
    days: int = 0
    decided: bool = False
    live_once: bool = False


# Findings grow old long before signatures do.
AGES = "[findings]\nmax_age_days = 30\n"
POLICIES = (policy_text(AGES), policy_text(AGES + "# another\n"))
MEMBERS = ("ada", "ben")
Moved = tuple[Bench, Believed]


def moves(bench: Bench, known: Believed) -> dict[str, Moved | None]:
    """Every move and where it leads; None: it was refused."""
    found: dict[str, Moved | None] = {}

    def tried(name: str, move: object, then: Believed) -> None:
        try:
            found[name] = (move(), then)  # type: ignore[operator]
        except InputError:
            found[name] = None

    many = str(len(bench.model("a").ballots))
    for who in (*MEMBERS, "cleo"):
        counts = known.decided and who in MEMBERS
        then = replace(known, valid=known.valid | {who}) if counts else known
        tried(f"approve {who}", lambda who=who: bench.casts("a", who, comment=many), then)
        out = replace(known, valid=known.valid - {who})
        tried(f"reject {who}", lambda who=who: bench.casts("a", who, "reject", comment=many), out)
        tried(f"revoke {who}", lambda who=who: bench.casts("a", who, "revoke", comment=many), out)
    tried("decide", lambda: bench.decides("a"), replace(known, decided=known.days == 0))
    for action in ACTIONS:
        again = replace(known, valid=frozenset(), decided=False) if action == "reopen" else known
        tried(f"{action} otto", lambda action=action: bench.steps("a", action), again)
        if bench.model("a").state not in {before for before, one in TABLE if one == action}:
            continue  # refused whoever signs, as the table of roles by states by actions shows
        tried(
            f"{action} ada", lambda action=action: bench.steps("a", action, by="ada", role="clinician"), again
        )
        tried(f"{action} nobody", lambda action=action: bench.steps("a", action, by=None), again)
    if known.findings == 0:
        more = [*clean(), finding("equity.more", "descriptive")]
        stale = replace(known, findings=1, valid=frozenset(), decided=False, days=0)
        tried("findings", lambda: bench.findings("a", more), stale)
    if known.policy == 0:
        stale = replace(known, policy=1, valid=frozenset(), decided=False)
        tried("policy", lambda: adopted(bench, POLICIES[1]), stale)
    if known.days == 0:
        old = replace(known, days=40, decided=False)
        tried("a month passes", lambda: bench.later(40), old)
    return found


def adopted(bench: Bench, content: bytes, *members: str) -> Bench:
    digest = bench.shelf.put(content)
    for who in members or MEMBERS:
        said = Statement("adopt", who, ROLES[who], bench.date, policy=bench.standing.policy, subject=digest)
        bench = bench.happens("ballot", BallotCast("", sign_statement(said, key_of(who))))
    return bench.happens("policy", PolicyAdopted(digest))


@pytest.mark.parametrize("beside", [False, True])
def test_no_path_leads_to_live_without_the_signatures(beside: bool) -> None:
    """Every reachable situation of one model, two members and an author, by breadth first; with another live.

    A forward step succeeds only when both members stand by the model as it is, by this test's own book; and
    it always succeeds then, where the table has it and findings are young.
    """
    bench = fresh(POLICIES[0])
    bench = bench.live("other") if beside else bench
    bench = bench.registers("a", authors=["mia", "cleo"]).findings("a", clean()).decides("a")
    # Another policy in the one case, another live model in the other: both at once takes twice as long.
    start = (bench, Believed(decided=True, policy=int(beside)))
    seen, waiting, live, tried = set(), deque([start]), 0, 0
    while waiting:
        bench, known = waiting.popleft()
        before = bench.model("a").state
        for name, after in moves(bench, known).items():
            tried += 1
            action, _, who = name.partition(" ")
            forward = action in ("admit", "shadow", "canary", "live")
            stands = known.valid >= set(MEMBERS) and known.days == 0
            if forward:
                step = TABLE.get((before, cast(Action, action)))
                other = bench.standing.only("live") not in (None, digest_of("a"))
                way = step is not None and not (step.first and other) and not (step.beside and not other)
                right = who == "otto" and way and stands
                assert (after is not None) == right, (before, name, known)
            if after is None:
                continue
            state = after[0].model("a").state
            if state == "live" and before != "live":
                assert action == "live" and stands, (name, known)
                live += 1
            if state == "live":
                assert known.live_once or stands
            nxt = (after[0], replace(after[1], live_once=after[1].live_once or state == "live"))
            model, served = after[0].model("a"), after[0].standing.only("live")
            key = (state, nxt[1], model.broken, len(model.relied), served)
            if key not in seen:
                seen.add(key)
                waiting.append(nxt)
    assert live >= 1
    assert len(seen) > 100
    assert tried > 3000


def test_old_findings_stop_a_model_that_everybody_signed() -> None:
    bench = fresh(POLICIES[0]).ready("a").approved("a").steps("a", "admit").later(31)
    with pytest.raises(InputError, match="2 of 3 rules fail"):
        bench.steps("a", "shadow")
    assert bench.findings("a", clean()).later(0).model("a").state == "approved"


def admission(bench: Bench) -> Statement:
    """What the operator signs to admit the model, now."""
    now = bench.standing
    return Statement(
        "admit", "otto", "operator", bench.date, model=digest_of("a"), policy=now.policy, head=now.head
    )


def test_a_step_names_the_decision_that_holds_now() -> None:
    bench = fresh().ready("a").approved("a").later(1)
    kept = bench.model("a").decisions[-1]
    said = admission(bench)
    step = Stepped(digest_of("a"), "admit", by=sign_statement(said, key_of("otto")), decision=kept)
    with pytest.raises(InputError, match="another decision"):
        bench.happens("step", step)


@pytest.mark.parametrize(
    "other",
    [
        {"head": "11" * 32},
        {"action": "live"},
        {"model": "11" * 32},
        {"policy": "11" * 32},
        {"share": 0.2},
        {"role": "clinician"},
        {"name": "ada"},
    ],
)
def test_the_signature_of_a_step_serves_for_this_step_only(other: dict[str, Any]) -> None:
    bench = fresh().ready("a").approved("a")
    said = admission(bench)
    decision = bench.model("a").decisions[-1]

    def taken(statement: Statement) -> Stepped:
        signed = sign_statement(statement, key_of("otto"))
        return Stepped(digest_of("a"), "admit", by=signed, decision=decision)

    with pytest.raises(InputError):
        bench.happens("step", taken(replace(said, **other)))
    assert bench.happens("step", taken(said)).model("a").state == "approved"


def test_a_signature_is_not_counted_a_second_time() -> None:
    bench = fresh().ready("a")
    signed = BallotCast(digest_of("a"), bench.ballot("a", "ada"))
    bench = bench.happens("ballot", signed).casts("a", "ben").casts("a", "ada", "revoke")
    with pytest.raises(InputError, match="counted before"):
        bench.happens("ballot", signed)
    with pytest.raises(InputError, match="too few approvals"):
        bench.steps("a", "admit")


def test_signatures_for_a_policy_do_not_serve_again_when_an_older_one_comes_back() -> None:
    lax = policy_text().replace(b"quorum = 2", b"quorum = 1")
    bench = fresh()
    digest = bench.shelf.put(lax)
    old = []
    for who in MEMBERS:
        said = Statement("adopt", who, ROLES[who], bench.date, policy=bench.standing.policy, subject=digest)
        old.append(BallotCast("", sign_statement(said, key_of(who))))
        bench = bench.happens("ballot", old[-1])
    bench = bench.later(1).happens("policy", PolicyAdopted(digest))
    bench = adopted(bench.later(1), policy_text(), "ada")
    for one in old:
        bench = bench.happens("ballot", one)
    with pytest.raises(InputError, match="2 persons must adopt it"):
        bench.happens("policy", PolicyAdopted(digest))


def test_actions_are_those_of_the_table() -> None:
    assert {action for _, action in TABLE} == set(get_args(Action))

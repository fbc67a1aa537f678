"""What ``primum release`` shows: text from data is printed as it is, no markup in it is obeyed."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from primum.cli import release_words
from primum.cli.release_words import ACTIONS, EVENTS, REASONS, STATES, STYLES, WHYS
from primum.errors import clean_text
from primum.report.language import NOTHING, Language

if TYPE_CHECKING:
    from primum.release.approvals import Counted
    from primum.release.decision import Decision, Seen
    from primum.release.registry import Kept, Registry
    from primum.release.standing import ModelStanding


def table_of(headings: Sequence[str], rows: Sequence[Sequence[RenderableType]], language: Language) -> Table:
    """Make a table; headings are said in the language."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for heading in headings:
        table.add_column(Text(language.text(heading)), overflow="fold")
    for row in rows:
        table.add_row(*(Text(clean_text(cell)) if isinstance(cell, str) else cell for cell in row))
    return table


def state_word(state: str, language: Language) -> Text:
    """Say a state."""
    return Text(language.text(STATES[state]), style=STYLES.get(state, ""))


def status_of_all(registry: "Registry", language: Language) -> RenderableType:
    """Show every model, what is served, and the test sets."""
    from primum.release.standing import policy_of

    standing = registry.standing
    policy, served = policy_of(standing, registry.shelf), registry.serving()
    lines = [
        language.text("Policy: {name} ({digest})", name=policy.name, digest=standing.policy[:12]),
        language.text("Live: {model}", model=_named(registry, served.live)),
        language.text(
            "Canary: {model}, {share} of the patients",
            model=_named(registry, served.canary),
            share=language.percent(served.share, 1),
        )
        if served.canary
        else language.text("Canary: {model}", model=NOTHING),
        language.text("Shadow: {model}", model=_named(registry, served.shadow)),
    ]
    headings = release_words.OF_ALL
    rows = [_row(registry, one, language) for one in standing.models.values()]
    parts: list[RenderableType] = [Text("\n".join(lines)), Text(), table_of(headings, rows, language)]
    parts += [Text(one, style="bold yellow") for one in warnings(registry, language)]
    if standing.test_sets:
        parts += [Text(), _test_sets(registry, language)]
    return Group(*parts)


def _named(registry: "Registry", digest: str | None) -> str:
    from primum.release.acts import card_name

    return NOTHING if digest is None else f"{card_name(registry, digest)} ({digest[:12]})"


def _row(registry: "Registry", model: "ModelStanding", language: Language) -> Sequence[RenderableType]:
    from primum.release.acts import card_name
    from primum.release.evaluate import evaluate

    decision = evaluate(registry.standing, model.digest, registry.shelf, date=registry.now())
    failing = sum(not one.passed for one in decision.rules)
    return (
        card_name(registry, model.digest),
        model.digest[:12],
        state_word(model.state, language),
        language.date(model.since),
        language.text("{count} of {all}", count=failing, all=len(decision.rules)),
        _quorum(registry, model, language),
    )


def _quorum(registry: "Registry", model: "ModelStanding", language: Language) -> str:
    from primum.release.approvals import quorum_of
    from primum.release.evaluate import counted_ballots
    from primum.release.standing import card_of, policy_of

    counted = counted_ballots(
        registry.standing, model.digest, registry.shelf, phase="approved", date=registry.now()
    )
    minor = card_of(model, registry.shelf).change == "minor"
    quorum, _ = quorum_of(policy_of(registry.standing, registry.shelf), minor=minor)
    return language.text("{count} of {all}", count=sum(one.counts for one in counted), all=quorum)


def warnings(registry: "Registry", language: Language) -> Iterator[str]:
    """Say what somebody should look at."""
    from primum.release.standing import policy_of

    standing = registry.standing
    policy = policy_of(standing, registry.shelf)
    for model in standing.models.values():
        if model.broken and model.state == "live":
            yield language.text(
                "{model} is live, and approvals that it rests on were revoked: roll it back, or approve it "
                "anew.",
                model=_named(registry, model.digest),
            )
    for one in standing.test_sets.values():
        if one.uses > policy.test_sets.most_uses:
            yield language.text(
                "A test set has served {uses} times, more than the {most} of the policy: what does well on "
                "it may only fit it. Seal a new one.",
                uses=one.uses,
                most=policy.test_sets.most_uses,
            )


def _test_sets(registry: "Registry", language: Language) -> RenderableType:
    from primum.release.test_sets import read_seal

    rows = []
    for digest, one in registry.standing.test_sets.items():
        names = ", ".join(seal.statement.name for seal in one.sealed_by)
        rows.append((read_seal(registry, digest).name, digest[:12], names, str(one.uses)))
    return table_of(release_words.OF_TEST_SETS, rows, language)


def status_of_one(registry: "Registry", model: "ModelStanding", language: Language) -> RenderableType:
    """Show one model: its card, the rules, who signed."""
    from primum.release.evaluate import counted_ballots, evaluate
    from primum.release.standing import card_of

    card, date = card_of(model, registry.shelf), registry.now()
    head = Text.assemble(f"{clean_text(card.name)}:{clean_text(card.version)} ", model.digest[:12], " ")
    head.append_text(state_word(model.state, language))
    decision = evaluate(registry.standing, model.digest, registry.shelf, date=date)
    counted = counted_ballots(registry.standing, model.digest, registry.shelf, phase="approved", date=date)
    about = Text(
        "\n".join(
            (
                clean_text(card.intended_use),
                language.text("Authors: {names}", names=", ".join(sorted(model.authors))),
            )
        )
    )
    return Group(head, about, Text(), decision_table(decision, language), Text(), _ballots(counted, language))


def decision_table(decision: "Decision", language: Language) -> RenderableType:
    """Show every rule, what it saw, and whether it passes."""
    rows = [
        (
            one.rule,
            Text(language.text("passes"), "green")
            if one.passed
            else Text(language.text("fails"), "bold red"),
            language.text(REASONS[one.reason]),
            _saw(one, language),
        )
        for one in decision.rules
    ]
    return table_of(release_words.OF_RULES, rows, language)


def _saw(seen: "Seen", language: Language) -> str:
    said = dict(seen.saw)
    parts = [str(said[name]) for name in ("test", "verdict", "file", "plan") if said.get(name) is not None]
    low, high = said.get("low"), said.get("high")
    if isinstance(low, int | float) and isinstance(high, int | float):
        parts.append(f"[{language.interval(float(low), float(high), digits=3)}]")
    elif isinstance(low, int | float) and isinstance(said.get("parent_low"), int | float):
        parts.append(
            language.text(
                "low end {low}, the parent's {parent}",
                low=language.number(float(low), 3),
                parent=language.number(float(str(said["parent_low"])), 3),
            )
        )
    if isinstance(said.get("age_days"), int):
        parts.append(language.text("{days} days old", days=said["age_days"]))
    if said.get("twin"):
        white = said.get("measured_on_the_twin")
        parts.append(language.text("measured on the twin") if white else language.text("by conversion"))
    return ", ".join(parts)


def _ballots(counted: "Sequence[Counted]", language: Language) -> RenderableType:
    rows = [
        (
            one.ballot.statement.name,
            one.ballot.statement.role,
            language.date(one.ballot.statement.date),
            Text(language.text(WHYS[one.why]), "green" if one.counts else "yellow"),
            one.ballot.statement.comment,
        )
        for one in counted
    ]
    return table_of(release_words.OF_BALLOTS, rows, language)


def history_table(registry: "Registry", events: "Sequence[Kept]", language: Language) -> RenderableType:
    """Show what happened, and where the trail says so."""
    rows = []
    for kept in events:
        event = kept.event
        model = str(getattr(event.body, "model", ""))
        rows.append(
            (
                str(event.number),
                event.date[:16].replace("T", " "),
                event.by,
                _happened(kept, language),
                model[:12] or NOTHING,
                f"{kept.position.shard}/{kept.position.number}",
            )
        )
    return table_of(release_words.OF_HISTORY, rows, language)


def _happened(kept: "Kept", language: Language) -> str:
    from primum.release.event import BallotCast, Sealed, Stepped, Used
    from primum.release.states import TABLE

    body = kept.event.body
    if isinstance(body, BallotCast):
        said = body.ballot.statement
        return language.text(EVENTS[said.action.partition(".")[0]], name=said.name, role=said.role)
    if isinstance(body, Stepped):
        state = next(step.after for (_, action), step in TABLE.items() if action == body.action)
        words = {"action": language.text(ACTIONS[body.action]), "state": language.text(STATES[state])}
        if body.share is not None:
            return language.text(EVENTS["share"], share=language.percent(body.share, 1), **words)
        told = language.text(EVENTS["step"], **words)
        return f"{told} ({clean_text(body.reason)})" if body.reason else told
    if isinstance(body, Sealed):
        return language.text(EVENTS["sealed"], name=body.by.statement.name, role=body.by.statement.role)
    if isinstance(body, Used):
        return language.text(EVENTS["used"], purpose=body.purpose)
    return language.text(EVENTS[kept.event.kind])

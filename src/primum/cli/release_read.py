"""``primum release status | history | diff``: a registry as it stands, read without a trail."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from primum.cli import options, release_options
from primum.report.language import NOTHING, Language, message, preferred_language

if TYPE_CHECKING:
    from primum.evidence.estimate import Estimate
    from primum.release.compared import Difference

_HERE = Path("registry")
_KINDS = {"card": message("card"), "file": message("file"), "finding": message("finding")}
ModelOrNone = Annotated[str | None, typer.Argument()]


def add_reading(app: typer.Typer) -> None:
    """Add the verbs that only read."""
    app.command(
        "status",
        help=message(
            "Show every model with its state, or one with each rule and signature.\n\n"
            "Example: primum release status chest:2"
        ),
    )(status)
    app.command(
        "history",
        help=message(
            "Show what happened, who did it, and where the trail says so.\n\n"
            "Example: primum release history chest:2"
        ),
    )(history)
    app.command(
        "diff",
        help=message(
            "Show what differs between two models: cards, files, findings.\n\n"
            "Example: primum release diff chest:1 chest:2"
        ),
    )(diff)
    app.command(
        "check",
        help=message(
            "Compare the registry with the trail, and every file of each model with what was registered.\n\n"
            "Exit status: 0 they agree, 1 something was altered or cut off, 2 unreadable, 4 the machine.\n\n"
            "Example: primum release check --registry registry --trail trail.db"
        ),
    )(check)


def status(
    of_model: ModelOrNone = None,
    repair: Annotated[
        bool,
        typer.Option("--repair", help=message("Finish what a crash left, and write what is served again.")),
    ] = False,
    registry: release_options.RegistryFolder = _HERE,
    trail: release_options.TrailAddress = None,
    lang: options.Lang = None,
) -> int:
    """Show where everything stands."""
    from primum.cli.release_shown import status_of_all, status_of_one
    from primum.release.registry import Registry

    if repair:
        with release_options.opened(registry, trail) as one:
            one.repair()
    language, opened = Language(lang or preferred_language()), Registry(registry)
    shown = (
        status_of_all(opened, language)
        if of_model is None
        else status_of_one(opened, opened.find(of_model), language)
    )
    Console(highlight=False).print(shown)
    return 0


def history(
    of_model: ModelOrNone = None,
    registry: release_options.RegistryFolder = _HERE,
    lang: options.Lang = None,
) -> int:
    """Show what happened."""
    from primum.cli.release_shown import history_table
    from primum.release.registry import Registry

    language, opened = Language(lang or preferred_language()), Registry(registry)
    events = opened.history()
    if of_model is not None:
        digest = opened.find(of_model).digest
        events = tuple(one for one in events if getattr(one.event.body, "model", None) == digest)
    Console(highlight=False).print(history_table(opened, events, language))
    return 0


def diff(
    first: release_options.Registered,
    second: release_options.Registered,
    registry: release_options.RegistryFolder = _HERE,
    lang: options.Lang = None,
) -> int:
    """Show what differs."""
    from primum.cli.release_shown import table_of
    from primum.release.compared import differences
    from primum.release.registry import Registry

    language, opened = Language(lang or preferred_language()), Registry(registry)
    models = opened.find(first), opened.find(second)
    found = differences(opened, *models)
    if not found:
        print(language.text("Nothing differs."))
        return 0
    rows = [
        (
            language.text(_KINDS[one.kind]),
            one.name,
            _cell(one, one.first, one.verdicts[0], language),
            _cell(one, one.second, one.verdicts[1], language),
        )
        for one in found
    ]
    headings = (message("What"), message("Name"), message("First"), message("Second"))
    Console(highlight=False).print(table_of(headings, rows, language))
    return 0


def check(
    registry: release_options.RegistryFolder = _HERE,
    trail: release_options.TrailAddress = None,
    lang: options.Lang = None,
) -> int:
    """Say whether registry, files and trail agree."""
    from primum.errors import InputError
    from primum.release.acts import require_intact
    from primum.release.against_trail import compare
    from primum.release.registry import Registry

    language, opened = Language(lang or preferred_language()), Registry(registry)
    opened.serving()
    altered: list[str] = []
    for digest in opened.standing.models:
        try:
            require_intact(opened, digest)
        except InputError as error:
            altered.append(language.error(error))
    if trail is not None:
        found = compare(opened.history(), *_written(trail))
        if found.expired:
            sentence = message(
                "{count} events are past their time in the trail: of their records only the hashes are left, "
                "and they are the right ones."
            )
            print(language.text(sentence, count=len(found.expired)))
        for numbers, sentence in (
            (found.missing, message("The trail has no record of event {number} of the registry.")),
            (found.lost, message("Record {number} of the trail is of an event that the registry lacks.")),
        ):
            altered += [language.text(sentence, number=number) for number in numbers[:20]]
    for one in altered:
        print(one)
    if not altered:
        sentence = message("Registry, files and trail agree: {count} events.")
        if trail is None:
            sentence = message(
                "Registry and files agree: {count} events. Whether its end was cut off, only "
                "the trail can show: give --trail."
            )
        print(language.text(sentence, count=len(opened.history())))
    return 1 if altered else 0


def _written(trail: str) -> "tuple[list[tuple[int, int, str]], set[tuple[int, int, str]]]":
    """Read which events the trail has, and which records of such are past their time."""
    from primum.errors import InputError
    from primum.trail.queries import Query, expired, find
    from primum.trail.record import read_record
    from primum.trail.store import Store

    store, kinds = Store(trail), ("release", "approval", "rejection", "revocation", "test_set")
    try:
        with store.reading() as connection:
            there = [
                (one.shard, one.number, str(details["event"]))
                for one in find(connection, Query(kinds=kinds))
                if "event" in (details := read_record(one.body)["details"])
            ]
            return there, set(expired(connection, kinds))
    except ValueError as error:
        raise InputError("The trail holds what is no record: run primum trail verify.") from error
    finally:
        store.close()


def _cell(one: "Difference", value: "str | Estimate | None", verdict: str | None, language: Language) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, str):
        return value[:12] if one.kind == "file" else value
    interval = language.interval(value.low, value.high, digits=3)
    return f"{verdict} {language.number(value.value, 3)} [{interval}]"

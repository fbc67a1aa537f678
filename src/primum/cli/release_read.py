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


def _cell(one: "Difference", value: "str | Estimate | None", verdict: str | None, language: Language) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, str):
        return value[:12] if one.kind == "file" else value
    interval = language.interval(value.low, value.high, digits=3)
    return f"{verdict} {language.number(value.value, 3)} [{interval}]"

"""``primum inspect-updates``."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer
from rich.console import Console

from primum.cli import options
from primum.errors import InputError
from primum.report.language import Language, message, preferred_language

if TYPE_CHECKING:
    from primum.evidence.audit import Audit
    from primum.evidence.identity import ModelRef

HELP = message(
    "Attack what sites send in federated training, and say whether it names their patients.\n\n"
    "Exit status: 0 nothing found, 1 harm found, 2 unusable input, 3 it could not be told, 4 the machine.\n\n"
    "Example: primum inspect-updates round-*.safetensors --model model/ --factory net:make --gallery cases/ "
    "--out report/\n\n"
    "Example: primum inspect-updates round-*.safetensors --model model/ --gallery records/ --out report/"
)


def inspect_updates_command(
    updates: Annotated[list[Path], typer.Argument()],
    model: Annotated[Path, typer.Option("--model", help=message("Folder of the model that sites train."))],
    gallery: Annotated[
        Path,
        typer.Option(
            "--gallery",
            help=message(
                "Cases or health records: those of the sites in train, those that no site used in held_out."
            ),
        ),
    ],
    factory: options.Factory = None,
    search: Annotated[
        bool, typer.Option("--search", help=message("Also search for images of small batches: seconds each."))
    ] = False,
    asked: Annotated[
        str | None,
        typer.Option(
            "--property",
            help=message(
                "Also guess what share of each site's patients has this: column=value of cases, or a code."
            ),
        ),
    ] = None,
    out: options.Out = None,
    lang: options.Lang = None,
    seed: options.Seed = 0,
) -> int:
    """Attack the updates, write the findings and show them."""
    from primum.report.files import write_audit
    from primum.report.show import summary_table
    from primum.workflows.command import written_command
    from primum.workflows.outputs import refuse_full, run_facts, whole_folder

    language = Language(lang or preferred_language())
    command = written_command(click.get_current_context().obj or [])
    ref, attack = _opened(model, gallery, factory=factory, searched=search)
    target = out or Path(f"primum-{datetime.now(UTC):%Y%m%d}-{ref.digest[:8]}")
    refuse_full(target)
    audit = attack(updates, asked=asked, command=command, seed=seed)
    with whole_folder(target) as folder:
        write_audit(folder, audit, run=run_facts({}), language=language)
    console = Console(highlight=False)
    console.print(summary_table(audit, language, width=console.width))
    print(language.text("Report: {path}", path=str(target / "report.html")))
    return audit.exit_status


def _opened(
    model: Path, gallery: Path, *, factory: str | None, searched: bool
) -> "tuple[ModelRef, Callable[..., Audit]]":
    """Open model and gallery of the same kind, and return what attacks updates of it."""
    from primum.records.case_folder import is_cases, open_cases

    if is_cases(gallery):
        from primum.models.classifier_doors import open_classifier
        from primum.workflows.inspect_updates import inspect_updates

        opened = open_classifier(model, factory=factory)
        return opened.ref, partial(
            inspect_updates, model=opened, gallery=open_cases(gallery), searched=searched
        )
    from primum.models.doors import open_model
    from primum.records.opened import open_records
    from primum.workflows.inspect_record_updates import inspect_record_updates

    for option, given in (("--factory", factory is not None), ("--search", searched)):
        if given:
            raise InputError(
                "{option} is for classifiers, and this is a model of records: leave it out.", option=option
            )
    records = open_model(model)
    return records.ref, partial(inspect_record_updates, model=records, gallery=open_records(gallery))

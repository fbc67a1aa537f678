"""``primum inspect-updates``."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import click
import typer
from rich.console import Console

from primum.cli import options
from primum.report.language import Language, message, preferred_language

HELP = message(
    "Attack what sites send in federated training, and say whether it names their patients.\n\n"
    "Exit status: 0 nothing found, 1 harm found, 2 unusable input, 3 it could not be told, 4 the machine.\n\n"
    "Example: primum inspect-updates round-*.safetensors --model model/ --factory net:make --gallery cases/ "
    "--out report/"
)


def inspect_updates_command(
    updates: Annotated[list[Path], typer.Argument()],
    model: Annotated[Path, typer.Option("--model", help=message("Folder of the model that sites train."))],
    gallery: Annotated[
        Path,
        typer.Option(
            "--gallery",
            help=message("Cases: those of the sites in train, cases that no site used in held_out."),
        ),
    ],
    factory: options.Factory = None,
    search: Annotated[
        bool, typer.Option("--search", help=message("Also search for images of small batches: seconds each."))
    ] = False,
    out: options.Out = None,
    lang: options.Lang = None,
    seed: options.Seed = 0,
) -> int:
    """Attack the updates, write the findings and show them."""
    from primum.models.classifier_doors import open_classifier
    from primum.records.case_folder import open_cases
    from primum.report.files import write_audit
    from primum.report.show import summary_table
    from primum.workflows.command import written_command
    from primum.workflows.inspect_updates import inspect_updates
    from primum.workflows.outputs import refuse_full, run_facts, whole_folder

    language = Language(lang or preferred_language())
    opened = open_classifier(model, factory=factory)
    target = out or Path(f"primum-{datetime.now(UTC):%Y%m%d}-{opened.ref.digest[:8]}")
    refuse_full(target)
    command = written_command(click.get_current_context().obj or [])
    audit = inspect_updates(updates, opened, open_cases(gallery), searched=search, command=command, seed=seed)
    with whole_folder(target) as folder:
        write_audit(folder, audit, run=run_facts({}), language=language)
    console = Console(highlight=False)
    console.print(summary_table(audit, language, width=console.width))
    print(language.text("Report: {path}", path=str(target / "report.html")))
    return audit.exit_status

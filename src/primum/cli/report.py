"""``primum report``: look again at an audit that was kept."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from primum.cli import options
from primum.report.language import Language, message, preferred_language

HELP = message(
    "Print the answer and every finding of an audit, in French or English.\n\n"
    "Example: primum report show primum-demo/leaky --lang fr --html rapport.html"
)
report_app = typer.Typer(
    help=message("Look again at an audit that was kept."), no_args_is_help=True, rich_markup_mode="rich"
)


@report_app.callback()
def _group() -> None:
    """Keep ``show`` a verb of its own while it is the only one."""


@report_app.command("show", help=HELP)
def show(
    directory: Annotated[Path, typer.Argument()],
    lang: options.Lang = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", help=message("Also write the page in this language to a file.")),
    ] = None,
) -> int:
    """Read an audit back and print it."""
    from primum.report.files import read_audit
    from primum.report.html import render
    from primum.report.show import summary_table
    from primum.workflows.outputs import replace_file

    language, console = Language(lang or preferred_language()), Console(highlight=False)
    audit, run = read_audit(directory)
    console.print(summary_table(audit, language, width=console.width))
    if html is not None:
        replace_file(html, render(audit, run, language=language))
    return 0

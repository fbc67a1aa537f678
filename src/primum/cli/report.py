"""``primum report``: look again at an audit that was kept."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from primum.cli import options
from primum.report.files import read_audit
from primum.report.html import render
from primum.report.language import Language, preferred_language
from primum.report.show import summary_table
from primum.workflows.outputs import replace_file

report_app = typer.Typer(
    help="Look again at an audit that was kept.", no_args_is_help=True, rich_markup_mode="rich"
)


@report_app.callback()
def _group() -> None:
    """Keep ``show`` a verb of its own while it is the only one."""


@report_app.command("show")
def show(
    directory: Annotated[Path, typer.Argument(help="Folder that an audit wrote.")],
    lang: options.Lang = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Also write the page in this language to a file.")
    ] = None,
) -> int:
    """Print the answer and every finding of an audit, in French or English.

    Example: primum report show primum-demo/leaky --lang fr --html rapport.html
    """
    language = Language(lang or preferred_language())
    audit, run = read_audit(directory)
    Console(highlight=False).print(summary_table(audit, language))
    if html is not None:
        replace_file(html, render(audit, run, language=language))
    return 0

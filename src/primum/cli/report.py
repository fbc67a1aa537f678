"""``primum report``: look again at an audit that was kept."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from primum.cli import options
from primum.errors import clean_text
from primum.report.language import Language, message, preferred_language

HELP = message(
    "Print the answer and every finding of an audit, in French or English.\n\n"
    "Example: primum report show primum-demo/leaky --lang fr --html rapport.html"
)
CHECK_HELP = message(
    "Check the signature of an audit: whether findings.json or report.html was altered.\n\n"
    "Exit status: 0 valid, 1 altered, 2 unreadable, 3 unsigned or no key given.\n\n"
    "Example: primum report check primum-20261122-3f9a3f9a --public-key signer.pem"
)
RECOMPUTE_HELP = message(
    "Judge the kept numbers again and compare every finding with findings.json.\n\n"
    "Exit status: 0 equal, 1 different, 2 unreadable, 4 the confidential scores are not there.\n\n"
    "Example: primum report recompute primum-demo/leaky"
)
SITES_HELP = message(
    "Write the page on sites that trained one model again, from sites.json, in French or English.\n\n"
    "Example: primum report sites model/ --lang fr --html sites.fr.html"
)
report_app = typer.Typer(
    help=message("Look again at an audit that was kept."), no_args_is_help=True, rich_markup_mode="rich"
)


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
    from primum.evidence.documents import read_audit
    from primum.report.html import render
    from primum.report.show import summary_table
    from primum.workflows.outputs import replace_file

    language, console = Language(lang or preferred_language()), Console(highlight=False)
    audit, run = read_audit(directory)
    console.print(summary_table(audit, language, width=console.width))
    if html is not None:
        replace_file(html, render(audit, run, language=language))
    return 0


@report_app.command("check", help=CHECK_HELP)
def check(
    directory: Annotated[Path, typer.Argument()],
    public_key: options.PublicKey = None,
    lang: options.Lang = None,
) -> int:
    """Say whether the files are what was signed."""
    from primum.evidence.signature import read_public_key
    from primum.report.check import check

    checked = check(directory, read_public_key(public_key) if public_key else None)
    print(Language(lang or preferred_language()).text(checked.sentence, files=", ".join(checked.files)))
    return checked.status


@report_app.command("recompute", help=RECOMPUTE_HELP)
def recompute(directory: Annotated[Path, typer.Argument()], lang: options.Lang = None) -> int:
    """Say which findings do not follow from the kept numbers."""
    from primum.workflows.recompute import recompute

    language = Language(lang or preferred_language())
    compared, differences = recompute(directory)
    for one in differences:
        print(clean_text(f"{one.test} {one.key}: {one.kept} → {one.recomputed}"))
    if differences:
        print(language.text("Different: {count} of {all} findings.", count=len(differences), all=compared))
        return 1
    print(language.text("Equal: all {count} findings follow from the kept numbers.", count=compared))
    return 0


@report_app.command("sites", help=SITES_HELP)
def sites(
    directory: Annotated[Path, typer.Argument()],
    lang: options.Lang = None,
    html: Annotated[
        Path | None, typer.Option("--html", help=message("Where to write; sites.html beside sites.json."))
    ] = None,
) -> int:
    """Make the page of a training between sites again."""
    from primum.report.site_report import page_of
    from primum.report.site_words import PAGE, SITES_PAGE
    from primum.workflows.outputs import replace_file

    language, target = Language(lang or preferred_language()), html or directory / SITES_PAGE
    replace_file(target, page_of(directory, language=language))
    print(language.text(PAGE, path=str(target)))
    return 0

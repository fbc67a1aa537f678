"""``primum demo``."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from primum.cli import options
from primum.cli.progress import Stages
from primum.evidence.audit import Audit
from primum.report.language import Language, message, preferred_language
from primum.report.sentences import estimate_interval, estimate_value, verdict_word
from primum.workflows.outputs import refuse_full, whole_folder

if TYPE_CHECKING:
    from primum.workflows.demo import DemoOutcome

_QUESTIONS = {
    "membership.combined.auc": message("Can training patients be told from others? (AUC, .5 is chance)"),
    "membership.combined.tpr": message("Share recognised when 1 outsider in 100 is wrongly accused"),
    "membership.canary": message("Can planted records be told from their twins? (AUC)"),
}
_HEADINGS = (message("Question"), message("Leaky model"), message("Protected model"))


def demo_command(
    kind: Annotated[Literal["ehr"], typer.Argument(help="What to demonstrate.")] = "ehr",
    out: Annotated[Path, typer.Option("--out", help="New or empty folder.")] = Path("primum-demo"),
    lang: options.Lang = None,
    seed: options.Seed = 0,
    size: Annotated[
        Literal["full", "small"], typer.Option("--size", help="small takes seconds and shows less.")
    ] = "full",
) -> int:
    """Train a leaky and a protected model on patients who do not exist, and audit both.

    Example: primum demo --lang fr
    """
    # torch takes seconds to load, and no other verb should wait for it.
    from primum.workflows.demo import SMALL, DemoSettings, run_demo

    language = Language(lang or preferred_language())
    refuse_full(out)
    stages = Stages(language)
    started = time.perf_counter()
    with whole_folder(out) as folder:
        outcome = run_demo(
            folder,
            settings=SMALL if size == "small" else DemoSettings(),
            language=language,
            seed=seed,
            shown_as=out,
            progress=stages,
        )
        stages.close()
    _show(outcome, out, language, seconds=time.perf_counter() - started)
    return 0


def _show(outcome: "DemoOutcome", out: Path, language: Language, *, seconds: float) -> None:
    console, ledger = Console(highlight=False), outcome.ledger
    console.print(_table(outcome.leaky, outcome.protected, language))
    for sentence in (
        language.text(
            "The protected model was trained on distinct patients with patient-level differential privacy, "
            "epsilon {epsilon} at delta {delta} (adding or removing one patient). Its noise has a fixed seed "
            "so that the demonstration can be repeated; a real run must not.",
            epsilon=language.number(ledger.epsilon, 2),
            delta=f"{ledger.delta:g}",
        ),
        language.text(
            "Protection has a price: compare the losses. With so few patients a private model predicts "
            "little better than counting codes."
        ),
        language.text("Finished in {seconds} s. Open these pages:", seconds=language.number(seconds, 0)),
        *(f"  {out / name / 'report.html'}" for name in ("leaky", "protected")),
    ):
        console.print(Text(sentence), soft_wrap=True)


def _table(leaky: Audit, protected: Audit, language: Language) -> Table:
    title = Text(language.text("What each model gives away"))
    table = Table(title=title, title_justify="left", show_edge=False, show_lines=True)
    for heading in _HEADINGS:
        table.add_column(Text(language.text(heading)), overflow="fold")
    for test, question in _QUESTIONS.items():
        cells = [_cell(audit, test, language) for audit in (leaky, protected)]
        table.add_row(Text(language.text(question)), *(Text(cell) for cell in cells))
    losses = [language.number(float(a.context["held_out_loss"] or 0), 2) for a in (leaky, protected)]
    question = language.text(
        "Loss on new patients, nats a code (lower is better; {unigram} by counting codes)",
        unigram=language.number(float(leaky.context["unigram_loss"] or 0), 2),
    )
    table.add_row(Text(question), *(Text(loss) for loss in losses))
    return table


def _cell(audit: Audit, test: str, language: Language) -> str:
    finding = next(finding for finding in audit.findings if finding.test == test)
    word = verdict_word(finding)
    said = f"{word.icon} {language.text(word.word)}"
    if not finding.estimates:
        return said
    first = finding.estimates[0]
    value, interval = estimate_value(first, language=language), estimate_interval(first, language=language)
    return f"{said}\n{value} [{interval}]"

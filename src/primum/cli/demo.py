"""``primum demo``."""

import time
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from primum.cli.progress import Stages
from primum.evidence.audit import Audit
from primum.evidence.finding import Finding
from primum.report.language import Language, preferred_language
from primum.report.sentences import estimate_interval, estimate_value, verdict_word
from primum.workflows.outputs import refuse_full, whole_folder


def demo_command(
    kind: Annotated[Literal["ehr"], typer.Argument(help="What to demonstrate.")] = "ehr",
    out: Annotated[Path, typer.Option("--out", help="New or empty folder.")] = Path("primum-demo"),
    lang: Annotated[
        Literal["fr", "en"] | None, typer.Option("--lang", help="Language of the reports; yours by default.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    size: Annotated[
        Literal["full", "small"], typer.Option("--size", help="small takes seconds and shows less.")
    ] = "full",
) -> int:
    """Train a leaky and a protected model on patients who do not exist, and audit both.

    Example: primum demo --lang fr
    """
    from primum.workflows.demo import DemoSettings, run_demo

    language = Language(lang or preferred_language())
    refuse_full(out)
    small = DemoSettings(
        members=60,
        tuning=60,
        held_out=320,
        leaky_epochs=12,
        private_steps=4,
        private_batch=30,
        width=64,
        layers=2,
    )
    stages = Stages(language)
    started = time.perf_counter()
    with whole_folder(out) as folder:
        outcome = run_demo(
            folder,
            settings=small if size == "small" else DemoSettings(),
            language=language,
            seed=seed,
            shown_as=out,
            progress=stages,
        )
        stages.close()
    console = Console(highlight=False)
    console.print(_table(outcome.leaky, outcome.protected, language))
    ledger = outcome.ledger
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
        language.text(
            "Reports: {leaky} and {protected}",
            leaky=str(out / "leaky" / "report.html"),
            protected=str(out / "protected" / "report.html"),
        ),
        language.text("Finished in {seconds} s.", seconds=language.number(time.perf_counter() - started, 0)),
    ):
        console.print(Text(sentence))
    return 0


def _table(leaky: Audit, protected: Audit, language: Language) -> Table:
    table = Table(
        title=Text(language.text("What each model gives away")), title_justify="left", show_edge=False
    )
    for heading in ("Question", "Leaky model", "Protected model"):
        table.add_column(Text(language.text(heading)), overflow="fold")
    questions = {
        "membership.combined.auc": "Can training patients be told from others? (AUC, .5 is chance)",
        "membership.combined.tpr": "Share recognised when 1 outsider in 100 is wrongly accused",
        "membership.canary": "Can planted records be told from their twins? (AUC)",
    }
    for test, question in questions.items():
        cells = [_cell(audit, test, language) for audit in (leaky, protected)]
        table.add_row(Text(language.text(question)), *(Text(cell) for cell in cells))
    losses = [language.number(float(a.context["held_out_loss"] or 0), 2) for a in (leaky, protected)]
    unigram = language.number(float(leaky.context["unigram_loss"] or 0), 2)
    name = language.text(
        "Loss on new patients, nats a code (lower is better; {unigram} by counting codes)", unigram=unigram
    )
    table.add_row(Text(name), *(Text(loss) for loss in losses))
    return table


def _cell(audit: Audit, test: str, language: Language) -> str:
    finding: Finding = next(finding for finding in audit.findings if finding.test == test)
    word = verdict_word(finding)
    said = f"{word.icon} {language.text(word.word)}"
    if not finding.estimates:
        return said
    first = finding.estimates[0]
    value, interval = estimate_value(first, language=language), estimate_interval(first, language=language)
    return f"{said}\n{value} [{interval}]"

"""What ``primum demo`` says when it is done: both models side by side."""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from primum.evidence.audit import Audit
from primum.report.language import Language, message
from primum.report.sentences import estimate_interval, estimate_value, verdict_word
from primum.workflows.demo import DemoOutcome

_QUESTIONS = {
    "membership.combined.auc": message("Can training patients be told from others? (AUC, .5 is chance)"),
    "membership.combined.tpr": message(
        "Share recognised when 1 outsider in 100 is wrongly accused (1% is chance)"
    ),
    "membership.canary": message("Can planted records be told from their twins? (AUC)"),
    "trajectory.codes": message("What came next in a record: share written, more than for outsiders"),
    "sensitive.inferred": message("Sensitive codes taken out: guessed better than for outsiders (AUC)"),
    "embedding.probe": message("Can training patients be told from embeddings? (AUC)"),
    "perturbation.combined": message("Do true age, sex, site and dates stand out? (AUC)"),
    "knowledge.cost": message("Secrets given away within 100 queries, more than for outsiders"),
    "extraction.passages": message("Patients with an extractable passage, more than outsiders"),
}
_HEADINGS = (message("Question"), message("Leaky model"), message("Protected model"))


def show_outcome(outcome: DemoOutcome, out: Path, language: Language, *, seconds: float) -> None:
    """Print the table, what it means, and where the reports are."""
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
            "no better than counting codes, or worse."
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

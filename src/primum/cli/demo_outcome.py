"""What ``primum demo`` says when it is done: both models side by side."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from primum.evidence.audit import Audit
from primum.report.language import Language, message
from primum.report.sentences import estimate_interval, estimate_value, verdict_word
from primum.workflows.demo import DemoOutcome
from primum.workflows.demo_cases import CaseDemoOutcome
from primum.workflows.demo_recipes import COPIES, LEAKY_EPOCHS, PROTECTED_EPOCHS, protected_images

_MEMBERSHIP = {
    "membership.combined.auc": message("Can training patients be told from others? (AUC, .5 is chance)"),
    "membership.combined.tpr": message(
        "Share recognised when 1 outsider in 100 is wrongly accused (1% is chance)"
    ),
}
_QUESTIONS = _MEMBERSHIP | {
    "membership.canary": message("Can planted records be told from their twins? (AUC)"),
    "trajectory.codes": message("What came next in a record: share written, more than for outsiders"),
    "sensitive.inferred": message("Sensitive codes taken out: guessed better than for outsiders (AUC)"),
    "embedding.probe": message("Can training patients be told from embeddings? (AUC)"),
    "perturbation.combined": message("Do true age, sex, site and dates stand out? (AUC)"),
    "knowledge.cost": message("Secrets given away within 100 queries, more than for outsiders"),
    "extraction.passages": message("Patients with an extractable passage, more than outsiders"),
}
_CASE_QUESTIONS = _MEMBERSHIP | {
    "attribute.inferred": message("Substance use, hidden: guessed better than of outsiders (AUC)"),
    "inversion.instance": message(
        "Hidden half of an image drawn again: more like the patient than for outsiders"
    ),
    "structure.stored": message("Patients whose row is kept inside the model, more than outsiders"),
    "robustness.evasion": message("Right answers turned by changes that nobody notices, more than by chance"),
    "equity.sensitivity": message("Ill patients found: worst group against everyone else"),
    "data.labels": message("Wrong labels in the training data"),
    "explanations.faithful": message("Missed of what an explanation could show"),
}
_LEAKY, _PROTECTED = message("Leaky model"), message("Protected model")
_SHIFTED = message("Protected model, set against the file's own test split")


def show_outcome(outcome: DemoOutcome, out: Path, language: Language, *, seconds: float) -> None:
    """Print the table, what it means, and where the reports are."""
    console, ledger, audits = Console(highlight=False), outcome.ledger, (outcome.leaky, outcome.protected)
    losses = [language.number(float(audit.context["held_out_loss"] or 0), 2) for audit in audits]
    question = language.text(
        "Loss on new patients, nats a code (lower is better; {unigram} by counting codes)",
        unigram=language.number(float(outcome.leaky.context["unigram_loss"] or 0), 2),
    )
    table = _table({_LEAKY: outcome.leaky, _PROTECTED: outcome.protected}, _QUESTIONS, language)
    table.add_row(Text(question), *map(Text, losses))
    console.print(table)
    sentences = (
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
    )
    _close(console, (*sentences, *_ending(out, ("leaky", "protected"), language, seconds)))


def show_case_outcome(outcome: CaseDemoOutcome, out: Path, language: Language, *, seconds: float) -> None:
    """Print the same of classifiers, with how often each is right."""
    console = Console(highlight=False)
    audits = {_LEAKY: outcome.leaky, _PROTECTED: outcome.protected}
    folders = ["leaky", "protected"]
    if outcome.shifted is not None:
        audits[_SHIFTED] = outcome.shifted
        folders.append("shifted")
    table = _table(audits, _CASE_QUESTIONS, language)
    for name, question in (
        ("held_out", message("Right answers on held-out cases, mean over classes")),
        ("training", message("Right answers on training cases, mean over classes")),
    ):
        values = [audit.context[f"{name}_balanced_accuracy"] for audit in audits.values()]
        table.add_row(Text(language.text(question)), *(Text(language.percent(float(v or 0))) for v in values))
    console.print(table)
    _close(console, (*_protection(outcome, language), *_ending(out, folders, language, seconds)))


def _protection(outcome: CaseDemoOutcome, language: Language) -> Iterator[str]:
    """Say what was done to the protected model, and what that is not."""
    if outcome.kind == "images":
        yield language.text(
            "Both models are the same network, a small one of {parameters} weights so that this takes "
            "minutes. The leaky one saw each training image {leaky} times; the protected one {protected} "
            "times, and as often each of {copies} copies, a little moved and some of them mirrored.",
            parameters=outcome.leaky.context["parameters"],
            leaky=LEAKY_EPOCHS,
            protected=PROTECTED_EPOCHS,
            copies=COPIES,
        )
    else:
        yield language.text(
            "The leaky model answers by the five most similar training patients, whom it keeps; the "
            "protected one is a logistic regression with a strong penalty, one number a column."
        )
    yield language.text(
        "Protected here means that less was found, and no more: no noise was added, and nothing is promised "
        "to anyone, as differential privacy would."
    )
    if outcome.kind == "images" and outcome.shifted is None:
        yield language.text(
            "An attacker who trains shadow models finds more, in the protected model too: repeat its audit "
            "with --recipe {recipe} --references 4.",
            recipe=f"{protected_images.__module__}:{protected_images.__name__}",
        )
    if outcome.shifted is not None:
        yield language.text(
            "The test split of the file differs from its train split, whatever the model: such patients "
            "cannot show what a model remembers. Hence a random half of the train split was held out."
        )


def _ending(out: Path, folders: Sequence[str], language: Language, seconds: float) -> Iterator[str]:
    yield language.text("Finished in {seconds} s. Open these pages:", seconds=language.number(seconds, 0))
    yield from (f"  {out / name / 'report.html'}" for name in folders)


def _close(console: Console, sentences: Sequence[str]) -> None:
    for sentence in sentences:
        console.print(Text(sentence), soft_wrap=True)


def _table(audits: Mapping[str, Audit], questions: Mapping[str, str], language: Language) -> Table:
    """One column a model; a question that could be asked of none is left out."""
    title = Text(language.text("What each model gives away"))
    table = Table(title=title, title_justify="left", show_edge=False, show_lines=True)
    for heading in (message("Question"), *audits):
        table.add_column(Text(language.text(heading)), overflow="fold")
    for test, question in questions.items():
        cells = [_cell(audit, test, language) for audit in audits.values()]
        if any(cells):
            table.add_row(Text(language.text(question)), *map(Text, cells))
    return table


def _cell(audit: Audit, test: str, language: Language) -> str:
    """Verdict and estimate; nothing where the test was not asked or is not for such a model."""
    finding = next((finding for finding in audit.findings if finding.test == test), None)
    if finding is None or finding.verdict == "not_applicable":
        return ""
    word = verdict_word(finding)
    said = f"{word.icon} {language.text(word.word)}"
    if not finding.estimates:
        return said
    first = finding.estimates[0]
    value, interval = estimate_value(first, language=language), estimate_interval(first, language=language)
    return f"{said}\n{value} [{interval}]"

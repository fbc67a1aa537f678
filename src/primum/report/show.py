"""The answer in a terminal."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from primum.evidence.audit import Audit
from primum.report import sentences
from primum.report.answers import answer
from primum.report.language import NOTHING, Language

_STYLES = {"harm": "bold red", "clear": "green", "unknown": "yellow", "confounded": "magenta", "quiet": "dim"}


def summary_table(audit: Audit, language: Language) -> RenderableType:
    """Show the answer and each finding: verdict, estimate with its interval, patients.

    Text from data is printed as it is: no markup in it is obeyed, control characters are gone.
    """
    said = answer(audit, language=language)
    headline = Text(f"{said.icon} {said.headline}", style=_STYLES[said.tone])
    table = Table(title_justify="left", show_edge=False, pad_edge=False)
    for heading in (
        language.text("Test"),
        language.text("Verdict"),
        language.text("Measured"),
        language.text("95% interval"),
        language.text("Patients: training / never seen"),
    ):
        table.add_column(Text(heading), overflow="fold")
    for finding in audit.findings:
        word = sentences.verdict_word(finding)
        first = finding.estimates[0] if finding.estimates else None
        cells = [NOTHING, NOTHING, NOTHING]
        if first:
            label = sentences.quantity(first.name, language=language).label
            cells = [
                f"{label} {sentences.estimate_value(first, language=language)}",
                sentences.estimate_interval(first, language=language),
                sentences.patients(first, language=language),
            ]
        table.add_row(
            Text(_name(finding.test, language)),
            Text(f"{word.icon} {language.text(word.word)}", style=_STYLES[word.tone]),
            *(Text(cell) for cell in cells),
        )
    sentences_said = [*said.sentences]
    if isinstance(known := audit.context.get("coverage"), int | float):
        sentences_said.append(
            language.text(
                "The model's vocabulary knows {share} of the recorded events.",
                share=language.percent(known, 1),
            )
        )
    lead = Text("\n".join(sentences_said))
    return Group(headline, lead, Text(), table)


def _name(test: str, language: Language) -> str:
    """Name a test; one about a group by the group alone, indented, so that a narrow terminal shows whom."""
    _, _, group = test.partition("@")
    return (
        f"  {sentences.group_name(group, language=language)}"
        if group
        else sentences.title_of(test, language=language)
    )

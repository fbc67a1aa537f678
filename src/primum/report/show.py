"""The answer in a terminal."""

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from primum.evidence.audit import Audit
from primum.evidence.finding import Finding
from primum.report import sentences
from primum.report.beyond import is_beyond, whole_answer
from primum.report.figures import grouped, is_by_group
from primum.report.glossary import TESTS
from primum.report.language import NOTHING, Language, message

_STYLES = {"harm": "bold red", "clear": "green", "unknown": "yellow", "confounded": "magenta", "quiet": "dim"}
_ROOM_FOR_PATIENTS = 100

_MOST_EXPOSED = message("most exposed group, after partial pooling: {group}")
_FARTHEST = message("group farthest from the others: {group}")


def summary_table(audit: Audit, language: Language, *, width: int) -> RenderableType:
    """Show the answer and each finding: verdict, estimate with its interval and, in 100 columns, patients.

    Text from data is printed as it is: no markup in it is obeyed, control characters are gone.
    """
    said = whole_answer(audit, language=language)
    headline = Text(f"{said.icon} {said.headline}", style=_STYLES[said.tone])
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column(Text(language.text("Test")), overflow="fold")
    table.add_column(Text(language.text("Verdict")), no_wrap=True)
    table.add_column(Text(language.text("Measured [95% interval]")), no_wrap=True)
    if width >= _ROOM_FOR_PATIENTS:
        told = "Patients" if any(map(is_beyond, audit.findings)) else "Patients: training / never seen"
        table.add_column(Text(language.text(told)), max_width=18)
    for name, finding in _rows(audit, language):
        cells = _cells(finding, language) if finding else ()
        table.add_row(name, *cells[: len(table.columns) - 1])
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


def _rows(audit: Audit, language: Language) -> Iterator[tuple[RenderableType, Finding | None]]:
    """Name each row, the findings of one test below its title; groups without a figure share a row, last."""
    tests: dict[str, list[Finding]] = {}
    most_exposed = {found[0].test for found in grouped(audit).values()}
    for finding in audit.findings:
        if not is_by_group(finding) or finding.test in most_exposed:
            tests.setdefault(_test_of(finding), []).append(finding)
    for test, findings in tests.items():
        title = sentences.title_of(test, language=language)
        if len(findings) == 1:
            yield Text(sentences.title_of(findings[0].test, language=language)), findings[0]
            continue
        if findings[0].test != test:
            yield Text(title), None
        rows: dict[str, tuple[list[str], Finding]] = {}
        for finding in sorted(findings, key=_is_silent):
            names, _ = rows.setdefault(
                finding.verdict if _is_silent(finding) else finding.test, ([], finding)
            )
            _, _, group = finding.test.partition("@")
            whole = sentences.title_of(finding.test, language=language).removeprefix(title).lstrip(", ")
            name = sentences.group_name(group, language=language) if group else whole
            if is_by_group(finding):
                said = _FARTHEST if finding.test.startswith("equity") else _MOST_EXPOSED
                name = language.text(said, group=name)
            names.append(name)
        for names, finding in rows.values():
            listed = Text(", ".join(names))
            yield (Padding(listed, (0, 0, 0, 2)) if listed else Text(title)), finding


def _is_silent(finding: Finding) -> bool:
    return bool(finding.subgroups) and not finding.estimates


def _test_of(finding: Finding) -> str:
    """Take the group and the measure off: ``membership.combined.auc@rare`` tests ``membership.combined``."""
    name = finding.test.partition("@")[0]
    above = name.rpartition(".")[0]
    return above if name not in TESTS and above in TESTS else name


def _cells(finding: Finding, language: Language) -> tuple[Text, ...]:
    word = sentences.verdict_word(finding)
    verdict = Text(f"{word.icon} {language.text(word.word)}", style=_STYLES[word.tone])
    if not finding.estimates:
        return verdict, Text(NOTHING), Text(NOTHING)
    first = finding.estimates[0]
    kind = "AUC " if first.name.startswith("auc") else ""
    value = sentences.estimate_value(first, language=language)
    interval = sentences.estimate_interval(first, language=language)
    return verdict, Text(f"{kind}{value} [{interval}]"), Text(sentences.patients(first, language=language))

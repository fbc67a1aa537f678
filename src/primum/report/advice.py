"""What was not found, and what to do next."""

from collections.abc import Iterator

from primum.evidence.audit import Audit
from primum.evidence.finding import Finding
from primum.evidence.membership import COMPONENTS
from primum.evidence.rules import RULES
from primum.report import classifier_words, sentences, updates_words
from primum.report.answers import find, tone_of, visible
from primum.report.attacks import estimate_of
from primum.report.language import Language, message

_STEPS = {
    "harm": (
        message(
            "Do not release this model, nor per-patient scores from it, outside the team that may see the "
            "records."
        ),
        message(
            "Train again so that it remembers less: stop earlier, remove duplicates, use patient-level "
            "differential privacy. Then audit the new model with the same patients."
        ),
        message(
            "Show this report to your data-protection officer: a model from which people can be recognised "
            "may itself be personal data (EDPB Opinion 28/2024)."
        ),
    ),
    "clear": (
        message("Keep this report with the model: it holds for exactly these files and these patients."),
        message("Audit again when the model, its training data or its use change."),
        message(
            "This audit tried the attacks listed above. Other attacks need other tests before a release."
        ),
    ),
    "unknown": (
        message("Do not release on the strength of this report: it is evidence neither way."),
        message("Add patients on the side that is short, training or held-out, and audit again."),
    ),
    "confounded": (
        message("Treat the model as untested: do not release on the strength of this report."),
        message(
            "Choose held-out patients from the same sites, period and selection as the training patients."
        ),
        message(
            "Better: split patients at random before training, or plant records; then nothing but the model "
            "can explain a difference."
        ),
    ),
}


def next_steps(audit: Audit, *, language: Language) -> tuple[str, ...]:
    """List what to do now, most urgent first."""
    if updates_words.of_updates(audit):
        return tuple(language.text(step) for step in updates_words.STEPS[tone_of(audit)])
    steps = [language.text(step) for step in _STEPS[tone_of(audit)]]
    combined = find(audit, "membership.combined.auc")
    classifier = combined is not None and combined.attacker in classifier_words.ATTACKERS
    if any(one.harmful and one.test == "structure.stored" for one in audit.findings):
        steps.insert(
            1,
            language.text(
                "The model's own files hold rows of training patients: choose a kind of model that keeps "
                "none."
            ),
        )
    if classifier and combined and combined.settings.get("score") not in ("rmia", "lira"):
        steps.append(
            language.text(
                "Train shadow models (--recipe module:name --references 32): the attack becomes stronger, "
                "and smaller leaks become visible."
            )
        )
    if combined and not classifier and combined.settings.get("score") != "ratio":
        steps.append(
            language.text(
                "Add a reference model (--reference, or --recipe): the attack becomes stronger, and smaller "
                "leaks become visible."
            )
        )
    if any(_sampled_and_undecided(finding, audit) for finding in audit.findings):
        steps.append(
            language.text(
                "Some attacks asked only a sample of the patients and could not tell: ask more of them "
                "(--sampled)."
            )
        )
    if any(finding.verdict == "tainted" for finding in audit.findings):
        steps.insert(
            0, language.text("Remove from the held-out side every patient who repeats a training patient.")
        )
    return tuple(steps)


def _sampled_and_undecided(finding: Finding, audit: Audit) -> bool:
    asked, there = finding.settings.get("members"), audit.patients.get("members", 0)
    undecided = finding.primary and finding.verdict == "inconclusive"
    return undecided and isinstance(asked, int) and asked < there


def not_found(audit: Audit, *, language: Language) -> tuple[str, ...]:
    """List what was looked for and not found, with how small an effect could have been seen."""
    whole = [finding for finding in audit.findings if not finding.subgroups]
    lines = [line for finding in whole if not _beside(finding) for line in _not_found(finding, language)]
    return (*lines, *_others(whole, language), *_groups(audit, language))


def _beside(finding: Finding) -> bool:
    """Tell whether a test stands beside the primary one of its attack; those are said by name only."""
    components = {f"membership.{name}." for names in COMPONENTS.values() for name in names}
    component = finding.test.startswith(tuple(components))
    return component or (finding.test in RULES and not finding.primary)


def _others(whole: list[Finding], language: Language) -> Iterator[str]:
    said = {
        "none_found": message("Beside these, nothing was found by: {tests}."),
        "inconclusive": message("Beside these, too few patients to tell: {tests}."),
        "confounded": message("Beside these, proving nothing: {tests}."),
        "not_applicable": message("Beside these, not tested: {tests}."),
    }
    for verdict, sentence in said.items():
        names = [
            sentences.title_of(finding.test, language=language)
            for finding in whole
            if _beside(finding) and finding.verdict == verdict
        ]
        if names:
            yield language.text(sentence, tests=" · ".join(names))


def _not_found(finding: Finding, language: Language) -> Iterator[str]:
    title = sentences.title_of(finding.test, language=language)
    why = " ".join(sentences.reason(item, language=language) for item in finding.reasons)
    first = estimate_of(finding, finding.estimates[0].name) if finding.estimates else None
    if finding.verdict == "not_applicable":
        yield language.text("{title}: not tested. {why}", title=title, why=why)
    elif finding.verdict == "inconclusive":
        template = message("{title}: could be anywhere in {interval}. {why}")
        interval = sentences.estimate_interval(first, language=language) if first else ""
        yield language.text(
            template if first else message("{title}: cannot tell. {why}"),
            title=title,
            interval=interval,
            why=why,
        )
    elif finding.verdict == "none_found" and first:
        percent = sentences.quantity(first.name, language=language).percent
        seen = " ".join(visible(finding, language=language))
        yield language.text(
            "{title}: none found. If there is an effect, it lies below {high} ({level:.0%} interval). {seen}",
            title=title,
            high=language.percent(first.high, 1) if percent else language.number(first.high),
            level=first.level,
            seen=seen,
        )
    elif finding.verdict == "none_found":
        yield language.text("{title}: none found. {why}", title=title, why=why)


def _groups(audit: Audit, language: Language) -> Iterator[str]:
    said = {
        "none_found": message("Groups in which nothing was found: {groups}."),
        "inconclusive": message("Groups too small to tell: {groups}."),
        "not_applicable": message("Groups not tested: {groups}."),
    }
    for verdict, sentence in said.items():
        concerned = [f for f in audit.findings if f.subgroups and f.verdict == verdict]
        names = dict.fromkeys(
            sentences.group_name(g, language=language) for f in concerned for g in f.subgroups
        )
        if names:
            yield language.text(sentence, groups=", ".join(names))

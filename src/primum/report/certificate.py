"""The page of a certification or a conversion: what was measured, on which test set, how worn that is."""

from collections.abc import Mapping
from dataclasses import dataclass

from primum.evidence.audit import Audit
from primum.evidence.estimate import Estimate
from primum.evidence.finding import Finding
from primum.report import sentences
from primum.report.language import NOTHING, Language, message
from primum.report.pages import templates

# Name of an estimate to what it is called, and which way is better.
NAMES = {
    "auc": (message("AUC"), message("Higher is better; .5 is chance.")),
    "sensitivity": (
        message("Sensitivity"),
        message("Of patients who have it, the share called. Higher is better."),
    ),
    "specificity": (
        message("Specificity"),
        message("Of patients who do not have it, the share not called. Higher is better."),
    ),
    "calibration_in_the_large": (
        message("Calibration in the large"),
        message("Outcomes minus probabilities, on average. 0 is right."),
    ),
    "calibration_slope": (
        message("Calibration slope"),
        message("1 is right; below it the model is too sure of itself."),
    ),
    "calibration_error": (message("Calibration error"), message("0 is right, higher is worse.")),
    "loss": (
        message("Loss, in nats a clinical event"),
        message("How badly new histories are foretold. Lower is better."),
    ),
    "largest_difference": (
        message("Largest difference of a probability"),
        message("Between the two files, over all cases. 0.0001 at most lets findings pass."),
    ),
}


@dataclass(frozen=True)
class Line:
    """One estimate in words."""

    name: str
    value: str
    interval: str
    patients: str
    meaning: str


def certificate(audit: Audit, run: Mapping[str, object], *, language: Language) -> str:
    """Write the page.

    Parameters
    ----------
    audit : Audit
        Of :mod:`primum.workflows.certify` or :mod:`primum.workflows.conversion`.
    run : mapping
        Date, machine, signer.
    language : Language

    Returns
    -------
    str
        One HTML document: no script, no link to any other file.
    """
    return (
        templates()
        .get_template("certificate.html")
        .render(
            _=language.text,
            language=language,
            audit=audit,
            lines=[line for one in audit.findings for line in _lines(one, language)],
            refused=[reason for one in audit.findings[:1] for reason in _reasons(one, language)],
            settings=dict(audit.findings[0].settings) if audit.findings else {},
            date=language.date(run.get("date", "")),
            signer=run.get("signer", NOTHING),
        )
    )


def lines_of(audit: Audit, *, language: Language) -> tuple[Line, ...]:
    """Put every estimate into words, for a terminal."""
    return tuple(line for one in audit.findings for line in _lines(one, language))


def _lines(finding: Finding, language: Language) -> list[Line]:
    return [_line(one, language) for one in finding.estimates]


def _line(one: Estimate, language: Language) -> Line:
    name, meaning = NAMES.get(one.name, (one.name, ""))
    if one.name == "largest_difference":
        said = language.text("{value:.1e}", value=one.value)
        return Line(language.text(name), said, said, NOTHING, language.text(meaning))
    return Line(
        language.text(name),
        language.number(one.value, 3),
        language.interval(one.low, one.high, digits=3),
        sentences.patients(one, language=language),
        language.text(meaning),
    )


def _reasons(finding: Finding, language: Language) -> list[str]:
    return [
        language.text(sentences.REASONS[one.code], **one.parameters)
        for one in finding.reasons
        if one.code in sentences.REASONS
    ]

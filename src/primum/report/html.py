"""The report: one self-contained HTML file that needs neither network nor script."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from primum.errors import clean_text
from primum.evidence.audit import Audit
from primum.evidence.estimate import Estimate
from primum.evidence.finding import Finding
from primum.report import advice, answers, plots, sentences
from primum.report.attacks import attacks, estimate_of
from primum.report.beyond import beyond, leading, privacy_of, steps_of, whole_answer
from primum.report.figures import figures, grouped, is_by_group
from primum.report.language import NOTHING, Language, message
from primum.report.literature import CITATIONS
from primum.report.pages import templates
from primum.report.summary import summary

_COMBINED = "membership.combined.auc"


@dataclass(frozen=True)
class Group:
    """One group of patients in the table of exposure."""

    name: str
    finding: Finding
    auc: Estimate | None
    tpr: Estimate | None
    harmful: bool


# Of a run record; a stage is its own English sentence, any other key falls back to itself.
_RUN = {
    "date": message("Date"),
    "signer": message("Public key of the signer"),
    "stages": message("Seconds"),
    "machine": message("Machine"),
    "versions": message("Versions"),
    "architecture": message("Architecture"),
    "processors": message("Processors"),
    "python": message("Python"),
    "system": message("System"),
    "overlap and coverage": message("overlap and coverage"),
}


def render(audit: Audit, run: Mapping[str, object], *, language: Language) -> str:
    """Write the report of an audit.

    Parameters
    ----------
    audit : Audit
    run : mapping
        Date, stages, machine, versions, as in ``run.json``.
    language : Language

    Returns
    -------
    str
        One HTML document: no script, no link to any other file, every text from data cleaned and escaped.
    """
    private, by_group, parts = privacy_of(audit), grouped(audit), beyond(audit, language=language)
    groups = exposure(private, language=language)
    return (
        templates()
        .get_template("report.html")
        .render(
            _=language.text,
            language=language,
            audit=audit,
            run=run,
            facts=_flat(run, language),
            answer=whole_answer(audit, language=language),
            people=None if leading(audit, parts) else answers.people(private),
            parts=parts,
            counted=language.text("Patients" if parts else "Patients: training / never seen"),
            summary=summary(audit, run, language=language),
            groups=groups,
            forest=_forest(audit, groups, language),
            not_found=advice.not_found(private, language=language),
            steps=steps_of(audit, language=language),
            attacks=attacks(private, language=language),
            plots=figures(private, language=language),
            by_group=by_group,
            collapsed=[finding for found in by_group.values() for finding in found],
            citations=_citations(audit),
            combined=answers.find(audit, _COMBINED),
            say=sentences,
        )
    )


def exposure(audit: Audit, *, language: Language) -> tuple[Group, ...]:
    """Rank the groups by how well they are recognised: leaks first, then by AUC, without a figure last."""
    recognition = [f for f in audit.findings if f.subgroups and not is_by_group(f)]
    groups = []
    for group in dict.fromkeys(group for finding in recognition for group in finding.subgroups):
        about = [finding for finding in recognition if finding.subgroups == (group,)]
        if not about:
            continue
        auc, tpr = (next((e for f in about if (e := estimate_of(f, n))), None) for n in ("auc", "tpr"))
        harmful = [finding for finding in about if finding.harmful]
        name = sentences.group_name(group, language=language)
        groups.append(Group(name, (harmful or about)[0], auc, tpr, bool(harmful)))
    return tuple(sorted(groups, key=lambda g: (not g.harmful, -g.auc.value if g.auc else math.inf, g.name)))


def _forest(audit: Audit, groups: tuple[Group, ...], language: Language) -> Markup | None:
    combined = answers.find(audit, _COMBINED)
    whole = estimate_of(combined, "auc")
    rows = [plots.Row(group.name, group.auc, group.harmful) for group in groups if group.auc]
    if combined and whole and rows:
        rows.append(plots.Row(language.text("All patients"), whole, combined.harmful))
    if not rows:
        return None
    return Markup(plots.forest(rows, material=combined.material if combined else None, language=language))


def _citations(audit: Audit) -> tuple[tuple[str, str], ...]:
    keys = sorted({key for finding in audit.findings for key in finding.references})
    return tuple((key, CITATIONS.get(key, clean_text(key))) for key in keys)


def _flat(run: Mapping[str, object], language: Language, prefix: str = "") -> dict[str, object]:
    """Flatten nested mappings, so that any record of a run becomes one list of names and values."""
    flat: dict[str, object] = {}
    for key, value in sorted(run.items()):
        word = _RUN.get(key, key)
        # A key with braces comes from a file and is no template.
        name = prefix + clean_text(word if set("{}") & set(word) else language.text(word))
        if isinstance(value, Mapping):
            flat |= _flat(value, language, f"{name} · ")
        else:
            flat[name] = NOTHING if value is None else value
    return flat

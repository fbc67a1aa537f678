"""The report: one self-contained HTML file that needs neither network nor script."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from primum.evidence.audit import Audit
from primum.evidence.estimate import Estimate
from primum.evidence.finding import Finding, Series
from primum.report import advice, answers, plots, sentences
from primum.report.language import NOTHING, Language, clean_text, message
from primum.report.literature import CITATIONS

_COMBINED = "membership.combined.auc"
_MOST_ROWS = 60


@dataclass(frozen=True)
class Group:
    """One group of patients in the table of exposure."""

    name: str
    finding: Finding
    auc: Estimate | None
    tpr: Estimate | None
    harmful: bool


@dataclass(frozen=True)
class Plot:
    """A drawing and its data, as columns of written values."""

    name: str
    title: str
    note: str
    svg: Markup
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    thinned: bool


_COLUMNS = {
    "fpr": message("Outsiders wrongly recognised"),
    "tpr": message("Training patients recognised"),
    "tpr_low": message("Lower bound"),
    "tpr_high": message("Upper bound"),
    "blind_tpr": message("Recognised without the model"),
    "score_low": message("Score from"),
    "score_high": message("Score to"),
    "members": message("Training patients"),
    "held_out": message("Patients never seen"),
    "null_low": message("If nothing had leaked, from"),
    "null_high": message("If nothing had leaked, to"),
    "copies": message("Times planted"),
    "auc": message("Recognition (AUC)"),
    "low": message("Lower bound"),
    "high": message("Upper bound"),
    "planted": message("Records planted"),
}
_COUNTS = {"members", "held_out", "planted"}
_SHARES = {"fpr", "tpr", "tpr_low", "tpr_high", "blind_tpr"}
_PLOTS = {
    "roc": (
        plots.roc,
        message("How many patients an attacker recognises"),
        message(
            "Each point is one way for the attacker to be more or less bold. Above the dotted line, the "
            "attacker does better than chance; above the dashed line, better than without the model. Higher "
            "is worse."
        ),
    ),
    "risk": (
        plots.risk,
        message("Scores of training patients, against what chance allows"),
        message(
            "If the model had learned nothing personal, the solid line would stay inside the grey band. "
            "Training patients beyond the band, on the right, are the ones at risk."
        ),
    ),
    "canary": (
        plots.canary,
        message("Planted records: how often must a record be seen to be remembered?"),
        message(
            "Invented records were planted once or several times before training. Higher is worse; 0.50 is "
            "pure chance."
        ),
    ),
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
    environment = Environment(
        loader=PackageLoader("primum.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["clean"] = clean_text
    groups = exposure(audit, language=language)
    return environment.get_template("report.html").render(
        _=language.text,
        language=language,
        audit=audit,
        run=_flat(run),
        answer=answers.answer(audit, language=language),
        people=answers.people(audit),
        groups=groups,
        forest=_forest(audit, groups, language),
        not_found=advice.not_found(audit, language=language),
        steps=advice.next_steps(audit, language=language),
        plots=_plots(audit, language),
        citations=_citations(audit),
        combined=answers.find(audit, _COMBINED),
        say=sentences,
    )


def exposure(audit: Audit, *, language: Language) -> tuple[Group, ...]:
    """Rank the groups of patients, leaks first, then by AUC, groups without a figure last."""
    names = dict.fromkeys(group for finding in audit.findings for group in finding.subgroups)
    groups = []
    for group in names:
        about = [finding for finding in audit.findings if finding.subgroups == (group,)]
        if not about:
            continue
        auc, tpr = (
            next((e for f in about if (e := answers.estimate_of(f, n))), None) for n in ("auc", "tpr")
        )
        harmful = [finding for finding in about if finding.harmful]
        name = sentences.group_name(group, language=language)
        groups.append(Group(name, (harmful or about)[0], auc, tpr, bool(harmful)))
    return tuple(sorted(groups, key=lambda g: (not g.harmful, -g.auc.value if g.auc else math.inf, g.name)))


def _forest(audit: Audit, groups: tuple[Group, ...], language: Language) -> Markup | None:
    combined = answers.find(audit, _COMBINED)
    whole = answers.estimate_of(combined, "auc")
    rows = [plots.Row(group.name, group.auc, group.harmful) for group in groups if group.auc]
    if combined and whole and rows:
        rows.append(plots.Row(language.text("All patients"), whole, combined.harmful))
    if not rows:
        return None
    return Markup(plots.forest(rows, material=combined.material if combined else None, language=language))


def _plots(audit: Audit, language: Language) -> tuple[Plot, ...]:
    drawn = []
    for series in (series for finding in audit.findings for series in finding.series):
        if series.name not in _PLOTS or not any(series.columns.values()):
            continue
        draw, title, note = _PLOTS[series.name]
        headings, rows = _table(series, language)
        drawn.append(
            Plot(
                series.name,
                language.text(title),
                language.text(note),
                Markup(draw(series, language=language)),
                headings,
                rows,
                len(rows) < max(len(column) for column in series.columns.values()),
            )
        )
    return tuple(drawn)


def _table(series: Series, language: Language) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    # Files keep keys in another order than the one in which columns are read.
    known = [name for name in _COLUMNS if name in series.columns]
    names = [*known, *sorted(set(series.columns) - set(known))]
    headings = tuple(sentences.named(_COLUMNS, name, language=language) for name in names)
    points = list(zip(*(series.columns[name] for name in names), strict=True))
    step = max(1, math.ceil(len(points) / _MOST_ROWS))
    kept = points[::step] if len(points) % step == 1 or step == 1 else [*points[::step], points[-1]]
    rows = (
        tuple(_cell(name, value, language) for name, value in zip(names, point, strict=True))
        for point in kept
    )
    return headings, tuple(rows)


def _cell(name: str, value: float | None, language: Language) -> str:
    if name in {"copies", "null_low", "null_high"} and value is not None:
        return language.number(value, 0)
    if name in _COUNTS:
        return sentences.count(value, language=language)
    return language.percent(value, 1) if name in _SHARES else language.number(value)


def _citations(audit: Audit) -> tuple[tuple[str, str], ...]:
    keys = sorted({key for finding in audit.findings for key in finding.references})
    return tuple((key, CITATIONS.get(key, clean_text(key))) for key in keys)


def _flat(run: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Flatten nested mappings, so that any record of a run becomes one list of names and values."""
    flat: dict[str, object] = {}
    for key, value in sorted(run.items()):
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key} · ")
        else:
            flat[f"{prefix}{key}"] = NOTHING if value is None else value
    return flat

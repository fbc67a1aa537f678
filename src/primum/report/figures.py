"""Every drawing of the report with the table of its values: series of findings, and groups of patients."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from markupsafe import Markup

from primum.evidence.audit import Audit
from primum.evidence.finding import Finding, Series
from primum.report import observed_plots, observed_words, plots, sentences
from primum.report.language import NOTHING, Language, message

_MOST_ROWS = 60


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
    "x": message("Place"),
    "fpr": message("Outsiders wrongly recognised"),
    "tpr": message("Training patients recognised"),
    "tpr_low": message("Lower bound"),
    "tpr_high": message("Upper bound"),
    "blind_tpr": message("Recognised without the model"),
    "score_low": message("Score from"),
    "score_high": message("Score to"),
    "members_mean": message("Mean of training patients"),
    "held_out_mean": message("Mean of patients never seen"),
    "difference": message("Difference"),
    "difference_low": message("Lower bound"),
    "difference_high": message("Upper bound"),
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
_COUNTS = {"members", "held_out", "planted", "patients"}
_WHOLE = {"copies", "null_low", "null_high"}
_SHARES = {"fpr", "tpr", "tpr_low", "tpr_high", "blind_tpr"}
_MEANS = {"members_mean", "held_out_mean", "difference", "difference_low", "difference_high"}

_KNOWN = message("events known before the secret (0: static facts)")
_OUT = message("secrets that come out")
_COST = message(
    "The secret is a rare or sensitive code. Where the solid line leaves the grey band upwards, it comes out "
    "of the model for more training patients than for patients it never saw: that is theft. Where both lines "
    "are high together, the code is easily guessed of anyone."
)
_NOTHING_KNOWN = {-1.0: message("nothing")}
_TRUE = {0.0: message("true")}
_LIKELIER = message("likelihood (log p, true = 0)")
_SWEPT = message(
    "Who the patient is was changed step by step. If the model had kept nothing personal, the solid line "
    "would stay inside the grey band; a solid line that falls away from the true value more steeply than the "
    "dashed one shows that the model has tied the record to this very person."
)
_CURVES = {
    "knowledge_depth": plots.Words(
        message("How deep the memory goes"),
        message(
            "The more of a patient's past is shown, the likelier the model finds the patient's rarest code. "
            "Where the solid line rises above the grey band, it does so for training patients beyond others: "
            "a sign of memory, readable only by someone who already knows the code. What a reference model "
            "finds likely is taken off, where there is one."
        ),
        _KNOWN,
        message("likelihood of the secret (log p)"),
        logarithmic=True,
        places=_NOTHING_KNOWN,
    ),
    **{
        f"extraction_cost_{queries}": plots.Words(
            title, _COST, _KNOWN, _OUT, percent=True, logarithmic=True, places=_NOTHING_KNOWN
        )
        for queries, title in (
            (1, message("Secrets drawn out by asking once")),
            (100, message("Secrets drawn out by asking 100 times")),
            (10_000, message("Secrets drawn out by asking 10,000 times")),
        )
    },
    "extraction": plots.Words(
        message("Passages drawn out word for word, by number of tries"),
        message(
            "Eight events that are not routine, word for word. Where the solid line leaves the grey band "
            "upwards, passages of training patients come out that the model could not have guessed."
        ),
        message("number of tries"),
        message("patients with such a passage"),
        percent=True,
        logarithmic=True,
    ),
    **{
        f"perturbation_{name}": plots.Words(title, _SWEPT, x, _LIKELIER, places=_TRUE)
        for name, title, x in (
            ("age", message("Changing the age"), message("age bands away from the true one")),
            ("sex", message("Changing the sex"), message("the true sex, then each other value")),
            ("site", message("Changing the site"), message("the true site, then other sites, largest first")),
            ("dates", message("Changing the dates"), message("time bands away from the true gaps")),
        )
    },
}
_DISTANCE = message("Continuing a record: how near the truth, against what chance allows")
_PLOTS: Mapping[str, tuple[Callable[..., str], str, str]] = {
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
        plots.RISK_TITLE,
        message(
            "If the model had learned nothing personal, the solid line would stay inside the grey band. "
            "Training patients beyond the band, on the right, are the ones at risk."
        ),
    ),
    "trajectory_distance": (
        partial(plots.risk, title=_DISTANCE),
        _DISTANCE,
        message(
            "The model wrote on from the beginning of each record. The further right, the nearer what it "
            "wrote lies to what really happened; training patients beyond the grey band, on the right, are "
            "the ones whose story it retells."
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
    **{
        name: (partial(plots.curves, words=words), words.title, words.note) for name, words in _CURVES.items()
    },
    **{name: (drawn, *observed_words.PLOTS[name]) for name, drawn in observed_plots.DRAWN.items()},
}


# Of groups: how to read them, headings of the first and of the last estimate.
_POOLED = (
    message(
        "Further right is worse; the dotted line is no leak at all, the solid line is where it "
        "starts to matter. Each group is drawn towards what all groups say, the more so the fewer "
        "patients it has (partial pooling): a small group then does not look extreme by chance alone."
    ),
    message("After partial pooling"),
    message("By itself"),
)
_PART = (
    message(
        "How often a group is met among the hundredth of training patients whom the model recognises best, "
        "against its part of all training patients: at the dotted line it has just its part; further right "
        "is worse. Patients never seen are beside it: what is as frequent among them is not memory. Groups "
        "with fewer than five such patients are not drawn."
    ),
    message("Training patients, times their part"),
    message("Patients never seen, times their part"),
)
_PATIENTS = message("Patients: training / never seen")


def figures(audit: Audit, *, language: Language) -> tuple[Plot, ...]:
    """Draw every series that this version knows, then the groups of patients of each attack."""
    return (*drawn(audit.findings, language=language), *_forests(audit, language))


def drawn(findings: Iterable[Finding], *, language: Language) -> Iterator[Plot]:
    """Draw every series that this version knows."""
    series = [one for finding in findings for one in finding.series]
    yield from (_plot(one, language) for one in series if one.name in _PLOTS and any(one.columns.values()))


def is_by_group(finding: Finding) -> bool:
    """Tell whether a finding describes one group in one attack; it claims nothing."""
    return bool(finding.subgroups) and finding.verdict == "descriptive"


def grouped(audit: Audit) -> dict[str, tuple[Finding, ...]]:
    """Gather such findings by test, the most exposed group first."""
    tests: dict[str, list[Finding]] = {}
    for finding in audit.findings:
        if is_by_group(finding) and finding.estimates:
            tests.setdefault(finding.test.partition("@")[0], []).append(finding)
    return {
        test: tuple(sorted(found, key=lambda one: (-one.estimates[0].value, one.test)))
        for test, found in tests.items()
    }


def _plot(series: Series, language: Language) -> Plot:
    draw, title, note = _PLOTS[series.name]
    headings, rows = _table(series, language)
    return Plot(
        series.name,
        language.text(title),
        language.text(note),
        Markup(draw(series, language=language)),
        headings,
        rows,
        len(rows) < max(len(column) for column in series.columns.values()),
    )


def _forests(audit: Audit, language: Language) -> Iterator[Plot]:
    whole = {finding.test: finding for finding in audit.findings}
    for test, found in grouped(audit).items():
        names = [sentences.group_name(one.subgroups[0], language=language) for one in found]
        rows = [plots.Row(name, one.estimates[0], False) for name, one in zip(names, found, strict=True)]
        everyone = whole.get(test)
        if everyone and everyone.estimates:
            rows.append(plots.Row(language.text("All patients"), everyone.estimates[0], everyone.harmful))
        title = language.text(
            "Who is most exposed: {attack}", attack=sentences.title_of(test, language=language)
        )
        measure = found[0].estimates[0].name.removesuffix("_pooled")
        svg = plots.forest(
            rows,
            material=everyone.material if everyone else None,
            language=language,
            name=f"forest-{test.replace('.', '-')}",
            title=title,
            scale=plots.SCALES[measure],
        )
        note, first, last = _PART if measure == "over_representation" else _POOLED
        headings = (message("Group"), first, message("Interval"), last, _PATIENTS)
        yield Plot(
            test,
            title,
            language.text(note),
            Markup(svg),
            tuple(language.text(heading) for heading in headings),
            tuple(_group_row(name, one, language) for name, one in zip(names, found, strict=True)),
            False,
        )


def _group_row(name: str, finding: Finding, language: Language) -> tuple[str, ...]:
    first, *others = finding.estimates
    return (
        name,
        sentences.estimate_value(first, language=language),
        sentences.estimate_interval(first, language=language),
        sentences.estimate_value(others[-1], language=language) if others else NOTHING,
        sentences.patients(first, language=language),
    )


def _table(series: Series, language: Language) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    # Files keep keys in another order than the one in which columns are read.
    known = [name for name in _COLUMNS if name in series.columns]
    names = [*known, *sorted(set(series.columns) - set(known))]
    words = _CURVES.get(series.name)
    titles = {**_COLUMNS, "x": words.x} if words else _COLUMNS
    if series.name in observed_words.PLOTS:
        titles = titles | observed_words.COLUMNS
    headings = tuple(_heading(titles, name, language) for name in names)
    points = list(zip(*(series.columns[name] for name in names), strict=True))
    step = max(1, math.ceil(len(points) / _MOST_ROWS))
    kept = points[::step] if len(points) % step == 1 or step == 1 else [*points[::step], points[-1]]
    rows = (
        tuple(_cell(name, value, words, language) for name, value in zip(names, point, strict=True))
        for point in kept
    )
    return headings, tuple(rows)


def _heading(titles: dict[str, str], name: str, language: Language) -> str:
    """Name a column; ``"observed:sex=F"`` is about one group."""
    what, _, group = name.partition(":")
    title = sentences.named(titles, what, language=language)
    about = sentences.group_name(group, language=language)
    return language.text("{title}: {group}", title=title, group=about) if group else title


def _cell(name: str, value: float | None, words: plots.Words | None, language: Language) -> str:
    if words and name == "x" and value is not None:
        return plots.place(value, words, language)
    if name in _WHOLE and value is not None:
        return language.number(value, 0)
    if name.partition(":")[0] in _COUNTS:
        return sentences.count(value, language=language)
    percent = name in _SHARES or (words is not None and words.percent and name in _MEANS)
    return language.percent(value, 1) if percent else language.number(value)

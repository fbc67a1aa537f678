"""Plots of the training data: labels that contradict their cases, and doubtful labels by site."""

from collections.abc import Iterable

import numpy as np

from primum.evidence.finding import Finding, Series
from primum.report.data_words import PLOTS
from primum.report.language import Language, message
from primum.report.plots import (
    BAND,
    BLUE,
    MUTED,
    Row,
    Scale,
    _column,
    _figure,
    _percents,
    _style,
    _svg,
    forest,
)

SCALES = {
    "site_difference": Scale(0, True, message("more doubtful labels: further right is worse")),
}


def label_certainty(series: Series, *, language: Language) -> str:
    """Draw how many labels contradict the case, from the surest no to the surest yes."""
    with _style():
        figure, axes = _figure(3.8)
        low, high = _column(series, "score_low"), _column(series, "score_high")
        edges, middle = np.append(low, high[-1:]), (low + high) / 2
        expected = _column(series, "expected_clean")
        label = language.text("to be expected of cases that are hard to tell")
        axes.stairs(expected, edges, fill=True, color=BAND, label=label)
        axes.stairs(expected, edges, color=MUTED, linewidth=1)
        label = language.text("with the wrong labels that were found")
        axes.plot(middle, _column(series, "expected_found"), color=BLUE, linewidth=2, label=label)
        seen = _column(series, "contradicting")
        label = language.text("labels as given (fewer than 5 are left out)")
        axes.plot(middle, seen, color=BLUE, marker="o", markersize=5, linestyle="none", label=label)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, max(0.1, 1.15 * float(np.nanmax([*seen, *expected], initial=0.0))))
        _percents(axes.yaxis, language)
        ends = message("clearly the one class"), message("hard to tell"), message("clearly the other")
        axes.set_xticks([0.17, 0.5, 0.83], [language.text(text) for text in ends])
        axes.tick_params(axis="x", length=0)
        axes.set_xlabel(language.text("training cases, as our classifier orders them"))
        axes.set_ylabel(language.text("labels that contradict the case"))
        figure.legend(loc="outside upper left", fontsize=9)
        title, note = (language.text(text) for text in PLOTS["label_certainty"])
        return _svg(figure, name=series.name, title=title, description=note)


def sites(findings: Iterable[Finding], *, language: Language, material: float | None = None) -> str:
    """Draw one interval for each site, from the findings ``data.site@site=…``, the worst on top."""
    rows = [Row(one.subgroups[0].partition("=")[2], one.estimates[0], one.harmful) for one in findings]
    return forest(
        sorted(rows, key=lambda row: -row.estimate.value),
        material=material,
        language=language,
        name="data_sites",
        title=language.text(PLOTS["data_sites"][0]),
        scale=SCALES["site_difference"],
    )

"""Plots of the equity family as inline SVG: groups against everyone else, calibration, decision curves."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from primum.evidence.estimate import Estimate
from primum.evidence.finding import Finding, Series
from primum.report import plots, sentences
from primum.report.equity_words import FOREST, PLOTS
from primum.report.language import Language, message
from primum.report.plots import BLUE, INK, MUTED, ORANGE

# Of an attribute with more groups, those with most points are drawn; the table holds all.
_MOST_PANELS, _PANELS_A_ROW = 12, 3
_OTHERS = "#b9c2ca"


def forest(
    findings: Sequence[Finding], *, material: float, language: Language, name: str = "equity-forest"
) -> str:
    """Draw how much worse each group is served, one line a group; the order is that of the findings.

    Parameters
    ----------
    findings : sequence of Finding
        ``equity.sensitivity@<group>``: the first estimate is the gap.
    material : float
        Where a gap starts to matter.
    """
    shown = [one for one in findings if one.estimates and math.isfinite(one.estimates[0].value)]
    with plots._style():
        figure, axes = plots._figure(1.5 + 0.34 * max(len(shown), 1))
        figure.set_figwidth(6.4)
        for position, finding in enumerate(shown):
            gap, colour = finding.estimates[0], ORANGE if finding.harmful else BLUE
            axes.plot([gap.low, gap.high], [position] * 2, color=colour, linewidth=2)
            axes.plot(gap.value, position, marker="D" if finding.harmful else "o", color=colour, markersize=7)
            alike = _named(finding, "sensitivity_gap_standardised")
            if alike:
                axes.plot(alike.value, position + 0.28, marker="s", color=MUTED, markersize=3.5)
        axes.axvline(0, color=MUTED, dashes=(1, 2), label=language.text("no difference"))
        axes.axvline(material, color=INK, linewidth=0.8, label=language.text("it matters from here on"))
        for words, marker, colour, size in (
            (language.text("shown beyond chance"), "D", ORANGE, 7),
            (language.text("among similar patients"), "s", MUTED, 3.5),
        ):
            axes.plot([], [], marker=marker, color=colour, markersize=size, linestyle="", label=words)
        figure.legend(loc="outside upper left", ncols=2)
        axes.set_yticks(range(len(shown)), [_row(one, language) for one in shown])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        plots._percents(axes.xaxis, language)
        label = language.text("fewer of the ill found than elsewhere (right: worse)")
        figure.supxlabel(label, fontsize=10.5, color=INK)
        title, note = FOREST
        return plots._svg(figure, name=name, title=language.text(title), description=language.text(note))


def calibration(series: Series, *, language: Language) -> str:
    """Draw what happened against what the model said, a panel for each group of one attribute."""
    groups = groups_of(series, "predicted")
    lines = {
        group: [plots._column(series, f"{key}:{group}") for key in ("predicted", "observed", "low", "high")]
        for group in groups
    }

    def draw(axes: Axes, group: str) -> None:
        others = [lines[other] for other in groups if other != group]
        for number, (said, happened, *_) in enumerate(others):
            told, label = np.isfinite(said), "" if number else language.text("other groups")
            axes.plot(said[told], happened[told], color=_OTHERS, linewidth=1.2, label=label)
        x, y, low, high = (column[np.isfinite(lines[group][0])] for column in lines[group])
        right, mine = language.text("the model is right"), language.text("the group, 95% interval")
        axes.plot([0, 1], [0, 1], color=MUTED, dashes=(1, 2), label=right)
        axes.plot(x, y, color=BLUE, linewidth=1.5, marker="o", markersize=4, label=mine)
        axes.vlines(x, low, high, color=BLUE, linewidth=1.2)
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks([0, 0.5, 1])
            plots._percents(axis, language)

    words = language.text("risk the model says"), language.text("really ill")
    return _panels(series, groups, draw, words=words, language=language)


def decision(series: Series, *, language: Language) -> str:
    """Draw the net benefit of the model and of treating everybody, a panel for each group."""
    threshold, groups = plots._column(series, "threshold"), groups_of(series, "benefit")
    lines = {
        group: [plots._column(series, f"{key}:{group}") for key in ("benefit", "everyone")]
        for group in groups
    }
    top = max((float(np.nanmax(column)) for pair in lines.values() for column in pair), default=1.0)
    limits = (-0.25 * max(top, 0.01), 1.1 * max(top, 0.01))

    def draw(axes: Axes, group: str) -> None:
        model, everyone = lines[group]
        axes.plot(threshold, _above(model, limits[0]), color=BLUE, label=language.text("use the model"))
        treated, label = _above(everyone, limits[0]), language.text("treat everybody")
        axes.plot(threshold, treated, color=ORANGE, dashes=(5, 2), label=label)
        axes.axhline(0, color=MUTED, dashes=(1, 2), label=language.text("treat nobody"))
        axes.set(xlim=(0, 1), ylim=limits)
        axes.set_xticks([0.1, 0.5, 0.9])
        plots._percents(axes.xaxis, language)
        plots._numbers(axes.yaxis, language)

    words = language.text("risk from which one treats"), language.text("net benefit")
    return _panels(series, groups, draw, words=words, language=language)


def _above(values: NDArray[np.float64], floor: float) -> NDArray[np.float64]:
    """Leave out what lies below the drawing: the picture has no clipping of its own."""
    return np.where(values >= floor, values, np.nan)


def groups_of(series: Series, key: str) -> list[str]:
    """Name the groups of a series that have points, those with most first where there are too many."""
    found = {
        name.partition(":")[2]: sum(value is not None for value in column)
        for name, column in series.columns.items()
        if name.startswith(f"{key}:")
    }
    known = [group for group, points in found.items() if points]
    kept = set(sorted(known, key=lambda group: -found[group])[:_MOST_PANELS])
    return [group for group in known if group in kept]


def group_name(group: str, *, language: Language) -> str:
    """Name a group by one or two attributes: ``"sex=F&age=80+"`` is "Women, Aged 80+"."""
    return ", ".join(sentences.group_name(part, language=language) for part in group.split("&"))


def _panels(
    series: Series,
    groups: Sequence[str],
    draw: Callable[[Axes, str], None],
    *,
    words: tuple[str, str],
    language: Language,
) -> str:
    columns = min(_PANELS_A_ROW, max(2, len(groups)))
    rows = max(1, math.ceil(len(groups) / columns))
    with plots._style():
        figure = Figure(figsize=(6.4, 0.8 + (6.6 / columns) * rows), layout="constrained")
        figure.patch.set_alpha(0)
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for axes in grid.flat[len(groups) :]:
            axes.set_visible(False)
        for axes, group in zip(grid.flat, groups, strict=False):
            axes.patch.set_alpha(0)
            draw(axes, group)
            axes.set_title(plots._label(group_name(group, language=language)), fontsize=10, color=INK)
            axes.tick_params(labelbottom=True)
        figure.supxlabel(words[0], fontsize=10.5, color=INK)
        figure.supylabel(words[1], fontsize=10.5, color=INK)
        if groups:
            figure.legend(*grid.flat[0].get_legend_handles_labels(), loc="outside upper left", ncols=3)
        title, note = PLOTS.get(series.name, (message("By group"), ""))
        text, described = language.text(title), language.text(note)
        return plots._svg(figure, name=series.name, title=text, description=described)


def _named(finding: Finding, name: str) -> Estimate | None:
    return next((one for one in finding.estimates if one.name == name), None)


def _row(finding: Finding, language: Language) -> str:
    """Write the group, and how many of its ill the model finds, beside everyone else's."""
    label = plots._label(group_name("&".join(finding.subgroups), language=language))
    inside, outside = _named(finding, "sensitivity"), _named(finding, "sensitivity_rest")
    if inside is None or outside is None:
        return label
    return language.text(
        "{group}: {inside} (others {outside})",
        group=label,
        inside=language.percent(inside.value),
        outside=language.percent(outside.value),
    )

"""Plots of the report on sites: whom the model serves, what each brought, how it pulled, whom it holds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Patch

from primum.errors import clean_text
from primum.report import plots
from primum.report.figures import Plot
from primum.report.language import NOTHING, Language, message
from primum.report.plots import BAND, BLUE, INK, MUTED, ORANGE

Told = Mapping[str, Any]
# Sites, rounds and classes beyond these are in the table alone.
_MOST_SITES, _MOST_ROUNDS, _MOST_CLASSES = 40, 60, 5
_COLOURS = (BLUE, "#e0a100", "#3d9e86", "#b56a9a", "#7cb7e8")
_AGREEMENT = LinearSegmentedColormap.from_list("agreement", [ORANGE, "#ffffff", BLUE])
_SILENT = "#a9b3bc"
_SITE = message("Site")
SERVED = (
    message("How well the model serves each site"),
    message(
        "Each dot is a site, its line the 95% interval; the solid line is all patients aside together, the "
        "dotted line is guessing. Further left is worse. Where lines overlap, the sites may well be served "
        "alike."
    ),
)
CALIBRATION = (
    message("Whether the risk it says is right at each site"),
    message(
        "The mean risk that the model says, less the share of patients who have the condition. At the dotted "
        "line both are the same; to the right the model says too high a risk there, to the left too low. A "
        "line that crosses the dotted one may be chance."
    ),
)
CONTRIBUTION = (
    message("What each site brought"),
    message(
        "Bars: the site's share of all records. Dots: the part of the model's way, all "
        "rounds together, that came from the site's updates; the parts of all sites add "
        "up to 100%. A dot beyond its bar: the site moved the model more than its size "
        "alone would; a dot left of zero: it pulled back. It says how much a site moved "
        "the model, not whether the model became better by it."
    ),
)
AGREEMENT = (
    message("How each site pulled, round by round"),
    message(
        "One square for each round. Blue: the site pulled the way that was taken; white: "
        "across; orange: against it; grey: no answer. Sites whose patients differ look "
        "paler without doing wrong. An orange row among blue ones is worth a question; "
        "where most rows are orange, the few blue ones decided the way."
    ),
)
CLASSES = (
    message("Which classes each site holds"),
    message(
        "Shares of each site's patients by class. Hospitals differ, and that is no fault; but a model may "
        "fit less well where the mix is unlike that of the others. Classes of fewer than five patients are "
        "not told, nor what they could be worked out from."
    ),
)


def intervals(
    name: str,
    words: tuple[str, str],
    rows: Sequence[tuple[str, float, float, float]],
    *,
    label: str,
    line: float | None,
    chance: float,
    percent: bool,
    language: Language,
) -> Plot:
    """Draw a dot and an interval for each site, in the order of the rows.

    Parameters
    ----------
    name : str
    words : tuple of str
        Title and how to read it, English.
    rows : sequence of (str, float, float, float)
        Site, value, limits.
    label : str
        Of the axis, English.
    line, chance : float
        Where the solid line (None: nowhere) and the dotted one are.
    percent : bool
    language : Language
    """
    with plots._style():
        figure, axes = _figure(0.9 + 0.31 * len(rows[:_MOST_SITES]))
        for position, (_, value, low, high) in enumerate(rows[:_MOST_SITES]):
            axes.plot([low, high], [position, position], color=BLUE, linewidth=2)
            axes.plot(value, position, marker="o", color=BLUE, markersize=7)
        axes.axvline(chance, color=MUTED, dashes=(1, 2))
        if line is not None:
            axes.axvline(line, color=INK, linewidth=0.9, zorder=0)
        _sites(axes, [row[0] for row in rows])
        (plots._percents if percent else plots._numbers)(axes.xaxis, language)
        _below(figure, language.text(label))
        write = language.percent if percent else language.number
        table = [
            (clean_text(site), write(value, 1 + (not percent)), language.interval(low, high, percent=percent))
            for site, value, low, high in rows
        ]
        headings = [language.text(one) for one in (_SITE, message("Measured"), message("95% interval"))]
        return _plot(figure, name, words, headings, table, language)


def contribution(sites: Sequence[Told], *, language: Language) -> Plot:
    """Draw each site's share of the records as a bar, and of the model's way as a dot."""
    ordered = sorted(sites, key=lambda one: -one["share"])
    shown = ordered[:_MOST_SITES]
    at, parts = range(len(shown)), [one["contribution"] for one in shown]
    with plots._style():
        figure, axes = _figure(1.2 + 0.31 * len(shown))
        axes.barh(
            at,
            [one["share"] for one in shown],
            color="#b7c6d4",
            height=0.62,
            label=language.text("share of the records"),
        )
        if None not in parts:
            axes.plot(
                parts, at, "o", color=BLUE, markersize=7, label=language.text("part of the model's way")
            )
        axes.axvline(0, color=MUTED, linewidth=0.8)
        _sites(axes, [one["site"] for one in ordered])
        plots._percents(axes.xaxis, language)
        figure.legend(loc="outside upper left", ncols=2)
        words = _SITE, message("Share of the records"), message("Part of the model's way")
        table = [
            (
                clean_text(one["site"]),
                language.percent(one["share"], 1),
                language.percent(one["contribution"], 1),
            )
            for one in ordered
        ]
        return _plot(figure, "site-contribution", CONTRIBUTION, [*map(language.text, words)], table, language)


def agreement(sites: Sequence[Told], *, language: Language) -> Plot:
    """Draw one strip of squares for each site, the one that agrees least on top."""
    ordered = sorted(sites, key=lambda one: math.inf if one["agreement"] is None else one["agreement"])
    shown = ordered[:_MOST_SITES]
    rounds = max(len(one["agreement_by_round"]) for one in shown)
    cosines = np.full((len(shown), rounds), np.nan)
    for row, one in zip(cosines, shown, strict=True):
        told = np.array(one["agreement_by_round"], float)
        row[: len(told)] = told
    step = math.ceil(rounds / _MOST_ROUNDS)
    edges = np.append(np.arange(0, rounds, step), rounds)
    with plots._style():
        figure, axes = _figure(1.35 + 0.31 * len(shown))
        axes.set_facecolor(_SILENT)
        axes.patch.set_alpha(1)
        axes.pcolormesh(
            edges + 0.5,
            np.arange(len(shown) + 1) - 0.5,
            np.ma.masked_invalid(cosines[:, ::step]),
            cmap=_AGREEMENT,
            vmin=-1,
            vmax=1,
            edgecolor="white",
            linewidth=0.6,
        )
        keys = [
            (1.0, message("the way that was taken")),
            (0.5, message("across")),
            (0.0, message("against it")),
        ]
        boxes = [
            Patch(facecolor=_AGREEMENT(at), edgecolor=MUTED, label=language.text(text)) for at, text in keys
        ]
        if np.isnan(cosines).any():
            boxes.append(Patch(facecolor=_SILENT, edgecolor=MUTED, label=language.text("no answer")))
        figure.legend(handles=boxes, loc="outside upper left", ncols=4, columnspacing=1.2, handlelength=1.2)
        _sites(axes, [one["site"] for one in ordered])
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlim(0.5, rounds + 0.5)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.spines["bottom"].set_visible(False)
        _below(figure, language.text("round"))
        words = _SITE, message("Mean agreement"), message("Lowest"), message("Rounds answered")
        table = [_agreed(one, language) for one in ordered]
        return _plot(figure, "site-agreement", AGREEMENT, [*map(language.text, words)], table, language)


def _agreed(one: Told, language: Language) -> tuple[str, ...]:
    told = [value for value in one["agreement_by_round"] if value is not None]
    lowest = language.number(min(told, default=None))
    return clean_text(one["site"]), language.number(one["agreement"]), lowest, str(one["rounds_answered"])


def classes(told: Told, *, language: Language) -> Plot:
    """Draw the shares of classes of each site; what may not be told is grey."""
    sites, names = told["sites"], told["classes"]
    shown = sites[:_MOST_SITES]
    left, at = np.zeros(len(shown)), np.arange(len(shown))
    with plots._style():
        figure, axes = _figure(1.25 + 0.31 * len(shown) + 0.2 * (min(len(names), _MOST_CLASSES) // 2))
        for place, (name, colour) in enumerate(zip(names, _COLOURS, strict=False)):
            shares = np.array([one["class_shares"][place] or 0.0 for one in shown])
            axes.barh(at, shares, left=left, color=colour, height=0.66, label=plots._label(name))
            left += shares
        if (left < 1 - 1e-9).any():
            label = language.text(
                "other classes, or too few to be told" if len(names) > _MOST_CLASSES else "too few to be told"
            )
            rest = np.where(left < 1 - 1e-9, 1 - left, 0)
            axes.barh(
                at,
                rest,
                left=left,
                color=BAND,
                edgecolor=MUTED,
                linewidth=0.5,
                height=0.66,
                label=label,
            )
        _sites(axes, [one["site"] for one in sites])
        axes.set_xlim(0, 1)
        plots._percents(axes.xaxis, language)
        figure.legend(loc="outside upper left", ncols=2)
        far = (message("Unlike the others"), message("What chance alone allows"))
        headings = (language.text(_SITE), *map(clean_text, names), *map(language.text, far))
        table = [_mixed(one, language) for one in sites]
        return _plot(figure, "site-classes", CLASSES, headings, table, language)


def _mixed(one: Told, language: Language) -> tuple[str, ...]:
    hidden = language.text("not told")
    shares = (hidden if share is None else language.percent(share) for share in one["class_shares"])
    far = (
        language.percent(one[key]) if one[key] is not None else NOTHING
        for key in ("distance", "distance_by_chance")
    )
    return clean_text(one["site"]), *shares, *far


def _figure(height: float) -> tuple[Any, Any]:
    figure, axes = plots._figure(height)
    figure.set_figwidth(6.4)
    return figure, axes


def _below(figure: Any, label: str) -> None:
    figure.supxlabel(label, fontsize=10.5, color=INK)


def _sites(axes: Any, names: Sequence[str]) -> None:
    shown = names[:_MOST_SITES]
    axes.set_yticks(range(len(shown)), [plots._label(name) for name in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _plot(
    figure: Any,
    name: str,
    words: tuple[str, str],
    headings: Sequence[str],
    table: Sequence[tuple[str, ...]],
    language: Language,
) -> Plot:
    title, note = (language.text(text) for text in words)
    if len(table) > _MOST_SITES:
        note += " " + language.text(
            "Drawn are {most} sites of {count}; the values below are of all.",
            most=_MOST_SITES,
            count=len(table),
        )
    svg = Markup(plots._svg(figure, name=name, title=title, description=note))
    return Plot(name, title, note, svg, tuple(headings), tuple(table), False)

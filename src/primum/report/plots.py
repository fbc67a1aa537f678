"""Plots as inline SVG: the same bytes for the same findings, one title and description each, no script."""

import math
import re
import warnings
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from io import StringIO
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from numpy.typing import NDArray

from primum.evidence.estimate import Estimate
from primum.evidence.finding import Series
from primum.evidence.text import clean_text
from primum.report.language import Language, message

# Okabe and Ito's palette, darkened where thin lines need it: told apart by every kind of colour vision.
INK, MUTED, BLUE, ORANGE, BAND = "#1d2733", "#5d6975", "#0b5fa5", "#b54708", "#dfe5ea"
_SVG = "http://www.w3.org/2000/svg"
_LONGEST_LABEL = 36
RISK_TITLE = message("Scores of training patients, against what chance allows")
_STYLE: dict[str, Any] = {
    "text.parse_math": False,
    "text.usetex": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "primum",
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.unicode_minus": True,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Words:
    """What is written on a plot of two curves, as English sentences; `places` names special values of x."""

    title: str
    note: str
    x: str
    y: str
    percent: bool = False
    logarithmic: bool = False
    places: Mapping[float, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One line of a forest plot."""

    label: str
    estimate: Estimate
    harmful: bool


def _style() -> AbstractContextManager[None]:
    # The defaults first, so that a user's matplotlibrc cannot change the bytes.
    settings: Any = {key: value for key, value in mpl.rcParamsDefault.items() if "backend" not in key}
    return mpl.rc_context(settings | _STYLE)


def roc(series: Series, *, language: Language) -> str:
    """Draw true against false positives on log axes, beside the blind baseline and chance."""
    with _style():
        figure, axes = _figure(4.2)
        false = _column(series, "fpr")
        shown = false > 0
        floor = max(float(np.min(false[shown], initial=1.0)), 1e-4)
        lines = {name: np.clip(_column(series, name), floor / 3, 1)[shown] for name in series.columns}
        axes.fill_between(
            lines["fpr"], lines["tpr_low"], lines["tpr_high"], color=BLUE, alpha=0.15, linewidth=0
        )
        axes.plot(lines["fpr"], lines["tpr"], color=BLUE, linewidth=2.4, label=language.text("the attack"))
        if "blind_tpr" in lines:
            label = language.text("without the model")
            axes.plot(
                lines["fpr"], lines["blind_tpr"], color=ORANGE, dashes=(5, 2), linewidth=1.8, label=label
            )
        axes.plot([floor, 1], [floor, 1], color=MUTED, dashes=(1, 2), label=language.text("pure chance"))
        for axis, scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
            scale("log")
            _percents(axis, language)
            axis.set_minor_locator(NullLocator())
        axes.set(xlim=(floor, 1), ylim=(floor / 3, 1.15))
        axes.set_xlabel(language.text("outsiders wrongly recognised"))
        axes.set_ylabel(language.text("training patients recognised"))
        axes.legend(loc="lower right")
        return _svg(
            figure,
            name="roc",
            title=language.text("How many patients an attacker recognises"),
            description=language.text(
                "Share of training patients recognised against the share of outsiders wrongly recognised, "
                "both on logarithmic scales. A curve above the dotted line of chance is worse. The table "
                "below holds every value."
            ),
        )


def risk(series: Series, *, language: Language, title: str = RISK_TITLE) -> str:
    """Draw training patients by score, against the band in which they would lie if nothing had leaked."""
    with _style():
        figure, axes = _figure(3.6)
        low, high = _column(series, "score_low"), _column(series, "score_high")
        edges = _finite_edges(np.append(low, high[-1:]))
        members = _column(series, "members")
        band = [np.nan_to_num(_column(series, name)) for name in ("null_low", "null_high")]
        axes.stairs(
            band[1],
            edges,
            baseline=band[0],
            fill=True,
            color=BAND,
            label=language.text("if nothing had leaked"),
        )
        told = np.isfinite(members)
        axes.stairs(
            np.where(told, members, 0),
            edges,
            color=BLUE,
            linewidth=2,
            label=language.text("training patients"),
        )
        hidden = np.where(told, 0, 4)
        if (~told).any():
            axes.stairs(hidden, edges, color=BLUE, linestyle=":", label=language.text("fewer than 5"))
        _numbers(axes.xaxis, language)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(language.text("score of the attack (right: looks more like a training patient)"))
        axes.set_ylabel(language.text("patients"))
        figure.legend(loc="outside upper left", ncols=2)
        return _svg(
            figure,
            name=series.name,
            title=language.text(title),
            description=language.text(
                "Number of training patients at each score, with the band expected if nothing had leaked. "
                "Bars above the band on the right are patients at risk. The table below holds every value."
            ),
        )


def canary(series: Series, *, language: Language) -> str:
    """Draw how well planted records are recognised against the number of times they were planted."""
    with _style():
        figure, axes = _figure(3.4)
        copies, value = _column(series, "copies"), _column(series, "auc")
        spread = np.array([value - _column(series, "low"), _column(series, "high") - value])
        axes.errorbar(
            copies, value, yerr=np.clip(spread, 0, None), color=BLUE, marker="o", capsize=3, linewidth=2
        )
        axes.axhline(0.5, color=MUTED, dashes=(1, 2))
        axes.set_xscale("log", base=2)
        axes.set_xticks(copies, [f"{round(copy)}" for copy in copies])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylim(min(0.4, float(np.nanmin(_column(series, "low"), initial=1.0))), 1.02)
        _numbers(axes.yaxis, language)
        axes.set_xlabel(language.text("times each record was planted"))
        axes.set_ylabel(language.text("recognition (AUC)"))
        return _svg(
            figure,
            name="canary",
            title=language.text("Planted records: how often must a record be seen to be remembered?"),
            description=language.text(
                "Recognition of planted records against how often they were planted; the dotted line is "
                "chance, higher is worse. The table below holds every value."
            ),
        )


def curves(series: Series, *, words: Words, language: Language) -> str:
    """Draw training patients and patients never seen at each place, and how sure their difference is."""
    with _style():
        figure, axes = _figure(3.6)
        known = np.isfinite(_column(series, "members_mean"))
        x = _column(series, "x")[known]
        lines = {name: _column(series, name)[known] for name in series.columns if name != "x"}
        others = lines["held_out_mean"]
        # The band is that of the difference, laid on the patients never seen: outside it the curves differ.
        half = (lines["difference_high"] - lines["difference_low"]) / 2
        limits = (0, 1) if words.percent else (-np.inf, np.inf)
        low, high = np.clip(others - half, *limits), np.clip(others + half, *limits)
        # From its first value on, which a logarithm then does not lose: -1, 0, 1, 2, 5 becomes 1, 2, 3, 4, 7.
        at = np.log(x - x.min(initial=np.inf) + 1) if words.logarithmic else x
        axes.fill_between(at, low, high, color=BAND, label=language.text("if nothing had leaked"))
        axes.plot(
            at,
            others,
            color=ORANGE,
            dashes=(5, 2),
            marker="s",
            clip_on=False,
            label=language.text("patients never seen"),
        )
        axes.plot(
            at,
            lines["members_mean"],
            color=BLUE,
            linewidth=2.2,
            marker="o",
            markersize=4.5,
            clip_on=False,
            label=language.text("training patients"),
        )
        ticks = _apart(at)
        axes.set_xticks(at[ticks], [place(value, words, language) for value in x[ticks]])
        axes.margins(y=0.08)
        if words.percent:
            axes.set_ylim(0, 1.08 * max(lines["members_mean"].max(initial=0.09), high.max(initial=0.09)))
            _percents(axes.yaxis, language)
        else:
            _numbers(axes.yaxis, language)
        axes.set_xlabel(language.text(words.x))
        axes.set_ylabel(language.text(words.y))
        figure.legend(loc="outside upper left", ncols=2)
        title, note = language.text(words.title), language.text(words.note)
        return _svg(figure, name=series.name, title=title, description=note)


@dataclass(frozen=True)
class Scale:
    """How estimates of groups are laid out: where nothing leaks, how they are written, what they are."""

    nothing: float
    percent: bool
    label: str


_RECOGNITION = Scale(0.5, False, message("recognition (AUC): further right is worse"))
SCALES = {
    "auc": _RECOGNITION,
    "share_difference": Scale(0, True, message("more than for patients never seen: further right is worse")),
    "auroc_difference": Scale(
        0, False, message("guessed better than for patients never seen (AUC): further right is worse")
    ),
    "over_representation": Scale(1, False, message("times its part: further right is worse")),
}


def forest(
    rows: Iterable[Row],
    *,
    material: float | None,
    language: Language,
    name: str = "forest",
    title: str | None = None,
    scale: Scale = _RECOGNITION,
) -> str:
    """Draw one interval for each group of patients, the most exposed on top."""
    shown = [row for row in rows if math.isfinite(row.estimate.value)]
    with _style():
        figure, axes = _figure(0.9 + 0.34 * max(len(shown), 1))
        for position, row in enumerate(shown):
            point, colour = row.estimate, ORANGE if row.harmful else BLUE
            ends = [point.low if math.isfinite(point.low) else point.value, point.high]
            axes.plot(ends, [position, position], color=colour, linewidth=2)
            axes.plot(point.value, position, marker="D" if row.harmful else "o", color=colour, markersize=7)
        axes.axvline(scale.nothing, color=MUTED, dashes=(1, 2))
        if material is not None:
            axes.axvline(material, color=INK, linewidth=0.8)
        axes.set_yticks(range(len(shown)), [_label(row.label) for row in shown])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        if scale.percent:
            _percents(axes.xaxis, language)
        else:
            _numbers(axes.xaxis, language)
        axes.set_xlabel(language.text(scale.label))
        return _svg(
            figure,
            name=name,
            title=title or language.text("Who is most exposed"),
            description=language.text(
                "Each group of patients with its interval, the most exposed on top. The dotted line is "
                "chance, the solid line is where it starts to matter, diamonds are leaks shown on their own. "
                "The table holds every value."
            ),
        )


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.4, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    return figure, axes


def _column(series: Series, name: str) -> NDArray[np.float64]:
    length = len(next(iter(series.columns.values()), ()))
    return np.array(series.columns.get(name, (None,) * length), dtype=np.float64)


def _finite_edges(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    inner = edges[np.isfinite(edges)]
    width = float(np.median(np.diff(inner))) if len(inner) > 1 else 1.0
    bounds = (inner[0] - width, inner[-1] + width) if len(inner) else (0.0, 1.0)
    outer = np.where(np.arange(len(edges)) == 0, *bounds)
    return np.where(np.isfinite(edges), edges, outer)


def place(value: float, words: Words, language: Language) -> str:
    """Write a place on the horizontal axis: its name if it has one, else its number."""
    return language.text(words.places.get(value, message("{n}")), n=round(value))


def _apart(at: NDArray[np.float64]) -> list[int]:
    """Choose places whose labels do not touch, from the left."""
    chosen: list[int] = []
    for position, value in enumerate(at):
        if not chosen or value - at[chosen[-1]] >= 0.05 * np.ptp(at):
            chosen.append(position)
    return chosen


def _label(text: str) -> str:
    cleaned = clean_text(text)
    return cleaned if len(cleaned) <= _LONGEST_LABEL else cleaned[: _LONGEST_LABEL - 1] + "…"


def _percents(axis: Any, language: Language) -> None:
    """Write shares as per cent, with a decimal where a tick would else be rounded."""

    def written(share: float, _: object) -> str:
        return language.percent(
            share, 0 if math.isclose(share * 100, round(share * 100), abs_tol=1e-6) else 1
        )

    axis.set_major_formatter(FuncFormatter(written))


def _numbers(axis: Any, language: Language) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: language.text("{value}", value=round(value, 4))))


def _svg(figure: Figure, *, name: str, title: str, description: str) -> str:
    """Serialise, with ids of its own: several plots share one page."""
    buffer = StringIO()
    with warnings.catch_warnings():
        # The browser draws the letters, so a letter that the layout font lacks is not a fault.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        # As Figure.savefig, which draws all of it once more beforehand: the same bytes, sooner.
        FigureCanvasSVG(figure).print_svg(  # type: ignore[no-untyped-call]
            buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(buffer.getvalue())
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == "id":
                element.set(key, f"{name}-{value}")
            elif key.endswith("href"):
                element.set(key, value.replace("#", f"#{name}-", 1))
            elif "url(#" in value:
                element.set(key, re.sub(r"url\(#", f"url(#{name}-", value))
    for child in root.findall(f"{{{_SVG}}}defs") + root.findall(f"{{{_SVG}}}metadata"):
        root.remove(child)  # a style for the whole page, and a date
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib.update({"role": "img", "aria-labelledby": f"{name}-title {name}-description"})
    for position, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(
            f"{{{_SVG}}}{tag}", {"id": f"{name}-{'description' if position else tag}"}
        )
        element.text = clean_text(text)
        root.insert(position, element)
    return ElementTree.tostring(root, encoding="unicode")

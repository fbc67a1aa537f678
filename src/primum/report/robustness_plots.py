"""Plots of how a classifier breaks: by strength, kind of corruption, place of a patch; what is certified."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import NDArray

from primum.evidence.finding import Series
from primum.evidence.robustness_answers import CORRUPTIONS
from primum.report.language import Language, message
from primum.report.plots import (
    BAND,
    BLUE,
    INK,
    MUTED,
    ORANGE,
    Scale,
    _column,
    _figure,
    _numbers,
    _style,
    _svg,
)
from primum.report.robustness_words import CORRUPTION_NAMES, PLOTS

# How groups (the class a verdict is turned away from) are laid out in a forest plot.
SCALES = {
    "turned_beyond_noise": Scale(0, True, message("turned beyond chance: further right is worse")),
}
_WORSE = LinearSegmentedColormap.from_list("worse", ["#ffffff", "#f3c9a5", ORANGE])
_MOST_LOST = 0.5
_MILD = 2


def strength(series: Series, *, language: Language) -> str:
    """Draw balanced accuracy and AUC against the strength of the attack, beside changes by chance."""
    with _style():
        figure, axes = _figure(3.9)
        at = _column(series, "strength")
        x = np.arange(len(at))
        kinds = (
            ("auc", BLUE, "o", message("AUC")),
            ("balanced_accuracy", ORANGE, "s", message("balanced accuracy")),
        )
        for key, colour, marker, name in kinds:
            value = _column(series, key)
            if not np.isfinite(value).any():
                continue
            low, high = _column(series, f"{key}_low"), _column(series, f"{key}_high")
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
            label = language.text("{what}, attacked", what=language.text(name))
            axes.plot(
                x, value, color=colour, marker=marker, markersize=5, linewidth=2.2, clip_on=False, label=label
            )
            label = language.text("{what}, changed at random", what=language.text(name))
            noisy = _column(series, f"noise_{key}")
            axes.plot(x, noisy, color=colour, linewidth=1.5, dashes=(4, 2), clip_on=False, label=label)
        axes.axhline(0.5, color=MUTED, dashes=(1, 2), linewidth=1)
        axes.set_xticks(x, [language.number(float(one), 0) for one in at])
        axes.set(ylim=(0, 1.02), xlim=(-0.15, len(at) - 0.85))
        _numbers(axes.yaxis, language)
        axes.set_xlabel(language.text("largest change of a value, in parts of 255 of its range"))
        axes.set_ylabel(language.text("how well the model tells classes apart"))
        figure.legend(loc="outside upper left", ncols=2, fontsize=9)
        return _drawn(figure, series, language)


def corruption(series: Series, *, language: Language) -> str:
    """Draw what each kind of corruption takes of the balanced accuracy at each severity."""
    kinds = [int(one) for one in dict.fromkeys(_column(series, "kind"))]
    severities = sorted(set(_column(series, "severity")))
    grid = np.full((len(kinds), len(severities)), np.nan)
    for kind, severity, lost in zip(
        *(_column(series, key) for key in ("kind", "severity", "lost")), strict=True
    ):
        grid[kinds.index(int(kind)), severities.index(severity)] = lost
    with _style():
        figure, axes = _figure(1.1 + 0.34 * len(kinds))
        _heat(axes, grid, most=_MOST_LOST, language=language, decimals=0, size=9.5)
        names = [CORRUPTIONS[one] for one in kinds]
        axes.set_yticks(np.arange(len(kinds)) + 0.5, [language.text(CORRUPTION_NAMES[one]) for one in names])
        axes.set_xticks(
            np.arange(len(severities)) + 0.5, [language.number(float(one), 0) for one in severities]
        )
        axes.axvline(_MILD, color=INK, linewidth=1.4)
        axes.set_xlabel(language.text("severity; left of the line: as in daily work"))
        return _drawn(figure, series, language)


def places(series: Series, *, language: Language) -> str:
    """Draw from which parts of the image patches turn verdicts."""
    rows, columns = (_column(series, key).astype(int) for key in ("row", "column"))
    grid = np.full((rows.max() + 1, columns.max() + 1), np.nan)
    grid[rows, columns] = _column(series, "turned")
    with _style():
        figure, axes = _figure(4.4)
        most = max(float(np.nanmax(grid, initial=0.0)), 0.01)
        _heat(axes, grid, most=most, language=language, decimals=0, size=8.5)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_aspect("equal")
        axes.set_xlabel(language.text("fields as they lie in the image"))
        return _drawn(figure, series, language)


def one_patch(series: Series, *, language: Language) -> str:
    """Draw the one patch that was put on every image."""
    rows, columns = (_column(series, key).astype(int) for key in ("row", "column"))
    grid = np.full((rows.max() + 1, columns.max() + 1), np.nan)
    grid[rows, columns] = _column(series, "value")
    with _style():
        figure, axes = _figure(2.6)
        axes.pcolormesh(grid, cmap="gray", vmin=0, vmax=1, edgecolors=MUTED, linewidth=0.6)
        axes.invert_yaxis()
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_aspect("equal")
        return _drawn(figure, series, language)


def certified(series: Series, *, language: Language) -> str:
    """Draw the balanced accuracy that is certain against the length of any change."""
    with _style():
        figure, axes = _figure(3.2)
        x, value = _column(series, "radius"), _column(series, "balanced_accuracy")
        low, high = (_column(series, f"balanced_accuracy_{end}") for end in ("low", "high"))
        axes.fill_between(x, low, high, color=BLUE, alpha=0.15, linewidth=0, step="pre")
        axes.step(x, value, color=BLUE, linewidth=2.2, where="pre")
        axes.set_ylim(0, 1.02)
        axes.set_xlim(0, max(float(np.nanmax(x, initial=0.0)), 1e-6))
        _numbers(axes.yaxis, language)
        _numbers(axes.xaxis, language)
        axes.set_xlabel(language.text("length of the change (1: one value from one end to the other)"))
        axes.set_ylabel(language.text("balanced accuracy that is certain"))
        return _drawn(figure, series, language)


def _heat(
    axes: Axes, grid: NDArray[np.float64], *, most: float, language: Language, decimals: int, size: float
) -> None:
    """Fill cells by how bad they are, and write the number into each; what is not told is grey."""
    axes.set_facecolor(BAND)
    axes.patch.set_alpha(1)
    axes.pcolormesh(
        np.ma.masked_invalid(np.clip(grid, 0, most)),
        cmap=_WORSE,
        vmin=0,
        vmax=most,
        edgecolors="#ffffff",
        linewidth=1.2,
    )
    for (row, column), value in np.ndenumerate(grid):
        text = "<5" if np.isnan(value) else language.percent(max(value, 0.0), decimals)
        colour = "#ffffff" if np.isfinite(value) and value > 0.7 * most else INK
        shown = text if np.isnan(value) or value >= 0.005 else "0"
        axes.text(column + 0.5, row + 0.5, shown, ha="center", va="center", color=colour, fontsize=size)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _drawn(figure: Any, series: Series, language: Language) -> str:
    title, note = PLOTS[series.name]
    return _svg(figure, name=series.name, title=language.text(title), description=language.text(note))


DRAWN: Mapping[str, Callable[..., str]] = {
    "robustness_strength": strength,
    "robustness_corruption": corruption,
    "robustness_patch_places": places,
    "robustness_patch": one_patch,
    "robustness_certified": certified,
}

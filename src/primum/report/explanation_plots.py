"""Plots of the explanation family as inline SVG: parts taken away or shown alone, and weights drawn anew."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from primum.evidence.explanations import MATERIAL_LIKENESS
from primum.evidence.finding import Series
from primum.report import plots
from primum.report.explanation_words import AXES, PLOTS
from primum.report.language import Language
from primum.report.plots import BAND, BLUE, INK, MUTED, ORANGE


def removal(series: Series, *, language: Language) -> str:
    """Draw the model's verdict as parts go, or come, in the order of the explanation and in others."""
    with plots._style():
        figure, axes = plots._figure(3.8)
        lines = {name: plots._column(series, name) for name in series.columns}
        x = lines["parts_changed"]
        axes.fill_between(
            x,
            lines["random_order_low"],
            lines["random_order_high"],
            color=BAND,
            label=language.text("random order"),
        )
        axes.plot(
            x,
            lines["model_free_order"],
            color=ORANGE,
            dashes=(5, 2),
            linewidth=1.8,
            label=language.text("order made without the model"),
        )
        axes.plot(
            x,
            lines["best_order"],
            color=MUTED,
            dashes=(1, 2),
            linewidth=1.8,
            label=language.text("best order found"),
        )
        axes.fill_between(
            x,
            lines["explained_order_low"],
            lines["explained_order_high"],
            color=BLUE,
            alpha=0.15,
            linewidth=0,
        )
        axes.plot(
            x,
            lines["explained_order"],
            color=BLUE,
            linewidth=2.4,
            label=language.text("order of the explanation"),
        )
        axes.set(xlim=(0, 1), ylim=(0, 1.03))
        for axis in (axes.xaxis, axes.yaxis):
            plots._percents(axis, language)
        return _finished(figure, axes, series.name, language)


def weights(series: Series, *, language: Language) -> str:
    """Draw how alike explanations stay as layer after layer is given random weights."""
    with plots._style():
        figure, axes = plots._figure(3.8)
        lines = {name: plots._column(series, name) for name in series.columns}
        x = lines["layers_redrawn"]
        axes.axhline(0, color=MUTED, dashes=(1, 2))
        axes.axhline(
            MATERIAL_LIKENESS, color=INK, linewidth=0.8, label=language.text("it matters from here on")
        )
        axes.fill_between(
            x, lines["likeness_low"], lines["likeness_high"], color=BLUE, alpha=0.15, linewidth=0
        )
        axes.plot(
            x,
            lines["likeness_absolute"],
            color=ORANGE,
            dashes=(5, 2),
            marker="s",
            markersize=4,
            label=language.text("sizes alone"),
        )
        axes.plot(
            x,
            lines["likeness"],
            color=BLUE,
            linewidth=2.4,
            marker="o",
            markersize=4.5,
            label=language.text("the explanation, 95% interval"),
        )
        axes.set_xticks(x, [f"{round(depth)}" for depth in x])
        axes.set_ylim(min(-0.25, float(lines["likeness_low"].min()) - 0.05), 1.05)
        plots._numbers(axes.yaxis, language)
        return _finished(figure, axes, series.name, language)


def _finished(figure: Figure, axes: Axes, name: str, language: Language) -> str:
    across, up = AXES[name]
    axes.set_xlabel(language.text(across))
    axes.set_ylabel(language.text(up))
    figure.legend(loc="outside upper left", ncols=2)
    title, note = PLOTS[name]
    return plots._svg(figure, name=name, title=language.text(title), description=language.text(note))


# By series.
DRAWN = {
    "explanations_deletion": removal,
    "explanations_insertion": removal,
    "explanations_weights": weights,
}

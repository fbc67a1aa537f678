"""The drawings of the four families beyond privacy: which function draws which series."""

from collections.abc import Callable, Mapping

from primum.report import data_plots, equity_plots, explanation_plots, robustness_plots
from primum.report.equity_words import PLOTS as OF_EQUITY

DRAWN: Mapping[str, Callable[..., str]] = {
    **robustness_plots.DRAWN,
    "label_certainty": data_plots.label_certainty,
    **{
        name: equity_plots.calibration if name.startswith("equity_calibration") else equity_plots.decision
        for name in OF_EQUITY
    },
    **explanation_plots.DRAWN,
}

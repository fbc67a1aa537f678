"""Points of the plots, coarse enough to show: rates on a fixed grid, counts of five patients or more."""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from primum.evidence.finding import Series
from primum.evidence.operating_point import roc_points

FloatArray = NDArray[np.float64]
SMALLEST_CELL = 5
_RISK_BINS = 24


def roc_series(
    members: FloatArray, others: FloatArray, blind_members: FloatArray, blind_others: FloatArray
) -> Series:
    """True-positive against false-positive rate, from one false positive among the held-out up to all."""
    grid = np.unique(np.concatenate([np.geomspace(1 / len(others), 1, 40), [0.01]]))
    rate, low, high = roc_points(members, others, grid=grid)
    blind, _, _ = roc_points(blind_members, blind_others, grid=grid)
    columns = {"fpr": grid, "tpr": rate, "tpr_low": low, "tpr_high": high, "blind_tpr": blind}
    return Series("roc", {name: tuple(map(float, column)) for name, column in columns.items()})


def risk_series(members: FloatArray, others: FloatArray) -> Series:
    """How many members lie at each score, beside the band expected had the model not seen them.

    The band is the 95 % Clopper-Pearson interval of the held-out share in the bin, times the members.
    """
    pooled = np.concatenate([members, others])
    first, last = np.quantile(pooled, [0.005, 0.995])
    edges = np.linspace(first, last, _RISK_BINS + 1)
    inside = [np.clip(group, edges[0], edges[-1]) for group in (members, others)]
    seen, unseen = (np.histogram(group, edges)[0] for group in inside)
    low = stats.beta.ppf(0.025, unseen, len(others) - unseen + 1) * len(members)
    high = stats.beta.ppf(0.975, unseen + 1, len(others) - unseen) * len(members)
    return Series(
        "risk",
        {
            "score_low": tuple(map(float, edges[:-1])),
            "score_high": tuple(map(float, edges[1:])),
            "members": _counts(seen),
            "held_out": _counts(unseen),
            "null_low": tuple(map(float, np.nan_to_num(low))),
            "null_high": tuple(map(float, np.nan_to_num(high, nan=float(len(members))))),
        },
    )


def _counts(values: NDArray[np.int64]) -> tuple[float | None, ...]:
    return tuple(float(value) if value == 0 or value >= SMALLEST_CELL else None for value in values)

"""Points of the plots, coarse enough to show: rates on a fixed grid, counts of five patients or more."""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from primum.evidence.finding import Series
from primum.evidence.operating_point import roc_points

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
SMALLEST_CELL = 5
_RISK_BINS = 24
_CURVE_COLUMNS = (
    "members_mean",
    "held_out_mean",
    "difference",
    "difference_low",
    "difference_high",
    "members",
    "held_out",
)


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


def curve_series(name: str, x: tuple[float, ...], values: FloatArray, is_member: BoolArray) -> Series:
    """Mean of members and of held-out patients at each place, and their difference with its 95 % interval.

    `values`, shape (n, places), is NaN where a patient has none; places with fewer than five patients on a
    side are left empty. The interval is Welch's.
    """
    columns: dict[str, list[float | None]] = {key: [] for key in _CURVE_COLUMNS}
    for place in values.T:
        sides = [place[side & np.isfinite(place)] for side in (is_member, ~is_member)]
        point: tuple[float | None, ...] = (None,) * len(_CURVE_COLUMNS)
        if min(map(len, sides)) >= SMALLEST_CELL:
            means = [float(side.mean()) for side in sides]
            difference, half = means[0] - means[1], _welch_half_width(*sides)
            bounds = (difference - half, difference + half)
            point = (*means, difference, *bounds, *(float(len(side)) for side in sides))
        for key, number in zip(_CURVE_COLUMNS, point, strict=True):
            columns[key].append(number)
    return Series(name, {"x": x, **{key: tuple(column) for key, column in columns.items()}})


def _welch_half_width(first: FloatArray, second: FloatArray) -> float:
    """Half the 95 % interval of a difference of means; 0 where nobody differs from anybody."""
    parts = [float(side.var(ddof=1)) / len(side) for side in (first, second)]
    if sum(parts) == 0:
        return 0.0
    freedom = sum(parts) ** 2 / sum(p**2 / (len(s) - 1) for p, s in zip(parts, (first, second), strict=True))
    return float(stats.t.ppf(0.975, freedom) * np.sqrt(sum(parts)))


def _counts(values: NDArray[np.int64]) -> tuple[float | None, ...]:
    return tuple(float(value) if value == 0 or value >= SMALLEST_CELL else None for value in values)

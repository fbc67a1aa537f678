"""``confidential/suspects.csv``: training cases that deserve a second look, and why, the surest first."""

import numpy as np
import polars as pl

from primum.evidence.observed import Observed
from primum.evidence.tainted import OUTLYING

# What the data family saw of a case, and the value from which it is told.
_WHY = {"flagged": 0.5, "copies": 0.5, "artificial": 0.5, "mark": 0.5, "outlier": OUTLYING}
_NAMES = {
    "flagged": "label",
    "copies": "copy",
    "artificial": "artificial",
    "mark": "mark",
    "outlier": "outlier",
}


def suspects_table(observed: Observed, *, marked: bool) -> pl.DataFrame | None:
    """List each suspected training case; None where none is.

    Parameters
    ----------
    observed : Observed
        Of the data family.
    marked : bool
        Whether the most suspicious mark was shown to belong to a class; else its carriers are not told.

    Returns
    -------
    DataFrame or None
        ``case``: its row in the table of cases, from 0; ``given``: its label; ``suspicion``: how surely the
        label is wrong, 0 to 1, null where that was not asked; ``why``: of label, copy, artificial, mark,
        outlier, those that hold.
    """
    columns = observed.columns
    if "case" not in columns:
        return None
    known = [name for name in _WHY if name in columns and (marked or name != "mark")]
    holds = (
        np.stack([np.nan_to_num(columns[name]) > _WHY[name] for name in known]) if known else np.zeros((0, 0))
    )
    rows = np.flatnonzero(holds.any(axis=0)) if known else np.empty(0, np.int64)
    if not len(rows):
        return None
    labels, nothing = observed.names["label"], np.full(len(columns["case"]), np.nan)
    told = {
        "case": columns["case"][rows].astype(np.int64),
        "given": [labels[int(label)] for label in columns["label"][rows]],
        "suspicion": columns.get("suspicion", nothing)[rows],
        "why": [
            ", ".join(_NAMES[name] for name, one in zip(known, holds[:, row], strict=True) if one)
            for row in rows
        ],
    }
    return pl.DataFrame(told, nan_to_null=True).sort(
        "suspicion", "case", descending=[True, False], nulls_last=True
    )

"""What the families outside the contrast observed, kept in the confidential folder: a table each."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from primum.evidence.finding import Message, Scalar, Series
from primum.evidence.observed import Observed, ObservedFamily
from primum.records.parquet_columns import write_parquet
from primum.workflows.confidential_table import KeptTable


@dataclass(frozen=True)
class KeptObserved:
    """Everything of an :class:`Observed` but its columns, which are in ``<family>.parquet``."""

    family: ObservedFamily
    columns: tuple[str, ...]
    names: Mapping[str, tuple[str, ...]]
    settings: Mapping[str, Scalar]
    refused: Mapping[str, Message]
    series: tuple[Series, ...]


def write_observed(folder: Path, observed: Observed) -> KeptObserved:
    """Write the table of one family, rows by their own numbers, and return what says how to read it."""
    arranged = observed.arranged()
    if arranged.columns:
        write_parquet(pl.DataFrame(arranged.columns, nan_to_null=True), folder / _file(observed.family))
    return KeptObserved(
        observed.family,
        tuple(arranged.columns),
        observed.names,
        observed.settings,
        observed.refused,
        observed.series,
    )


def read_observed(folder: Path, kept: KeptObserved) -> Observed:
    """Read one family again.

    Raises
    ------
    InputError
        The table is missing or broken, a column is missing, or holds what it cannot hold.
    """
    columns = {}
    if kept.columns:
        table = KeptTable(folder, _file(kept.family))
        columns = {name: table.column(name, pl.Float64, gaps=True) for name in kept.columns}
        for name in {"patient", *kept.names}:
            most = len(kept.names[name]) if name in kept.names else len(table.frame)
            if name not in columns or not _places(columns[name], most, gaps=name != "patient"):
                raise table.misfit(name)
    return Observed(kept.family, columns, kept.names, kept.settings, kept.refused, kept.series)


def _places(values: np.ndarray, most: int, *, gaps: bool) -> bool:
    """Tell whether these are whole numbers below `most`, from 0; from -1 (none) where gaps may be."""
    known = values[~np.isnan(values)]
    if len(known) < len(values) and not gaps:
        return False
    return bool(((known >= -gaps) & (known < most) & (known == np.floor(known))).all())


def _file(family: ObservedFamily) -> str:
    return f"{family}.parquet"

"""Rows of typed columns: what ``schema.toml`` declares, and its columns as numbers."""

import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from primum.errors import RecordsError
from primum.records.case_files.index import PLACES, SHARD_BYTES, Index
from primum.records.cases import Inputs
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray
from primum.records.tables import Kind, read_batches

_RESERVED = ("subject_id", "split", "label", *PLACES)
_MOST_BYTES, _MOST_COLUMNS = 1 << 20, 10_000
_KEYS = {"kind", "values", "minimum", "maximum", "missing", "sensitive", "neutral"}
_TRUTH = {"true": 1.0, "yes": 1.0, "1": 1.0, "false": 0.0, "no": 0.0, "0": 0.0}


@dataclass(frozen=True)
class Feature:
    """One column of the table.

    Attributes
    ----------
    name : str
    kind : {"number", "category", "boolean"}
    first, width : int
        Its columns in the inputs: one, of a category one for each value (1 where it is, 0 elsewhere).
    values : tuple of str
        Of a category.
    minimum, maximum : float
        Infinite where nothing is declared.
    missing : bool
        Whether a cell may be empty: NaN, of a category zeros throughout.
    sensitive : bool
        Whether an attacker would want to know it.
    neutral : bool
        Whether its owner holds that it does not tell who the patient is.
    """

    name: str
    kind: Literal["number", "category", "boolean"]
    first: int
    width: int = 1
    values: tuple[str, ...] = ()
    minimum: float = -math.inf
    maximum: float = math.inf
    missing: bool = False
    sensitive: bool = False
    neutral: bool = False

    @property
    def column(self) -> str:
        """Its name as tables are searched for it."""
        return self.name.strip().lower()

    def choices(self) -> FloatArray:
        """Return what its columns may hold, shape (values, width); of a number none, shape (0, 1)."""
        if self.kind == "category":
            return np.eye(self.width)
        return np.array([[0.0], [1.0]]) if self.kind == "boolean" else np.empty((0, 1))


def read_schema(file: Path) -> tuple[Feature, ...]:
    """Read ``schema.toml``: a table for each feature, in the order of the inputs' columns.

    Raises
    ------
    RecordsError
        No TOML, or a feature that is not declared as ``docs/cases.md`` says.
    """
    try:
        with file.open("rb") as stream:
            content = tomllib.loads(stream.read(_MOST_BYTES).decode())
    except (OSError, ValueError, RecursionError) as error:
        raise RecordsError(
            '{file} is not TOML: write [column], then kind = "number", "category" or "boolean", for each '
            "feature.",
            file=file.name,
        ) from error
    features: list[Feature] = []
    for name, declared in content.items():
        first = features[-1].first + features[-1].width if features else 0
        feature = _feature(name, declared, first)
        again = feature is not None and any(one.column == feature.column for one in features)
        if feature is None or again or first + feature.width > _MOST_COLUMNS:
            raise RecordsError(
                "{file}, feature number {number}: not declared as it must be (kind, and values of a "
                "category; minimum, maximum, missing, sensitive, neutral): see docs/cases.md.",
                file=file.name,
                number=len(features),
            )
        features.append(feature)
    if not features:
        raise RecordsError("{file} declares no feature: write one for each column.", file=file.name)
    return tuple(features)


def _feature(name: str, declared: Any, first: int) -> Feature | None:
    """Build one feature; None where it is not as it must be."""
    if (
        name.strip().lower() in ("", *_RESERVED)
        or not isinstance(declared, Mapping)
        or not declared.keys() <= _KEYS
    ):
        return None
    kind, values = declared.get("kind"), declared.get("values", [])
    bounds = [declared.get(*pair) for pair in (("minimum", -math.inf), ("maximum", math.inf))]
    flags = [declared.get(flag, False) for flag in ("missing", "sensitive", "neutral")]
    if (
        kind not in ("number", "category", "boolean")
        or not isinstance(values, list)
        or not all(isinstance(one, str) and one == one.strip() and one for one in values)
        or (kind == "category") != bool(values)
        or len(values) == 1
        or len(values) != len(set(values))
        or not all(isinstance(one, int | float) and not isinstance(one, bool) for one in bounds)
        or (kind != "number" and bounds != [-math.inf, math.inf])
        or not all(isinstance(one, bool) for one in flags)
    ):
        return None
    try:
        low, high = map(float, bounds)
    except OverflowError:
        return None
    if not low <= high:
        return None
    return Feature(name, kind, first, len(values) or 1, tuple(values), low, high, *flags)


@dataclass(frozen=True, eq=False)
class TableSource:
    """Cases whose inputs are columns of the same table."""

    index: Index
    table: Path
    features: tuple[Feature, ...]
    kind: str = "table"

    def files(self) -> tuple[Path, ...]:
        """Every file that is read besides the table."""
        return ()

    def blocks(self, rows: IntArray) -> Iterator[Inputs]:
        """Yield the rows of cases, rising, up to ``SHARD_BYTES`` at a time."""
        kinds = {one.column: Kind.NUMBER if one.kind == "number" else Kind.TEXT for one in self.features}
        gaps = {one.column for one in self.features if one.missing}
        needed = {name: kind for name, kind in kinds.items() if name not in gaps}
        optional = {name: kinds[name] for name in gaps}
        size = max(1, SHARD_BYTES // (8 * (self.features[-1].first + self.features[-1].width)))
        for first, batch in read_batches(self.table, needed, optional=optional):
            mine = rows[(rows >= first) & (rows < first + len(batch))]
            for begin in range(0, len(mine), size):
                taken = mine[begin : begin + size]
                yield self._encoded(batch[taken - first], taken)

    def _encoded(self, batch: pl.DataFrame, rows: IntArray) -> FloatArray:
        coded = [self._columns(feature, batch[feature.column], rows) for feature in self.features]
        return np.concatenate(coded, axis=1)

    def _columns(self, feature: Feature, cells: pl.Series, rows: IntArray) -> FloatArray:
        empty = cells.is_null().to_numpy()
        if feature.kind == "number":
            values = cells.to_numpy().astype(np.float64)
            bad = ~empty & ~((values >= feature.minimum) & (values <= feature.maximum))
        else:
            known = {one: float(place) for place, one in enumerate(feature.values)} or _TRUTH
            texts = cells.str.strip_chars()
            texts = texts if feature.values else texts.str.to_lowercase()
            found = texts.replace_strict(
                list(known), list(known.values()), default=None, return_dtype=pl.Float64
            )
            values = found.fill_null(np.nan).to_numpy()
            bad = ~empty & np.isnan(values)
        if bad.any():
            raise RecordsError(
                "{file}, row {row}, column {column}: schema.toml does not allow this: correct the cell or "
                "the schema.",
                **self.index.cell(int(rows[np.argmax(bad)]), feature.name),
            )
        return (
            (values[:, None] == np.arange(feature.width)).astype(np.float64)
            if feature.values
            else values[:, None]
        )

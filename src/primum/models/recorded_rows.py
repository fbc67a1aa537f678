"""Rows of the parquet files of recorded answers: columns of the types wanted, and some patients at a time."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa

from primum.errors import ModelError
from primum.records.parquet_columns import Room, room_for
from primum.records.ragged import IntArray

ID, NUMBERS, TOKENS = "int64", "list<double>", "list<int64> | list<string>"
TIME, TEXT, NUMBER = "timestamp[us]", "string", "double"


def check_columns(file: Path, columns: Mapping[str, str], *, optional: Sequence[str] = ()) -> None:
    """Refuse a file that cannot be read as these columns, or that fills the memory.

    Raises
    ------
    ModelError
        No parquet file, one that unpacks to far more than its size, a missing column, or another type in it.
    """
    _room(file, columns)
    try:
        schema = pl.read_parquet_schema(file)
    except Exception as error:  # polars raises its own kinds, and plain ones, for broken files
        raise _no_parquet(file) from error
    for name, kind in columns.items():
        if not (_fits(schema[name], kind) if name in schema else name in optional):
            raise ModelError(
                "{file} has no column {column} of {kind}: see docs/recorded.md for its columns.",
                file=file.name,
                column=name,
                kind=kind,
            )


def rows_of(
    file: Path, columns: Sequence[str], *, subject_ids: IntArray, gaps: Sequence[str] = ()
) -> pl.DataFrame:
    """Read the rows of some patients, in the order of the file; never more than theirs is in memory.

    Parameters
    ----------
    file : Path
    columns : sequence of str
        The first holds the patient.
    subject_ids : int64, shape (n,)
    gaps : sequence of str
        Columns whose cells may be empty.

    Raises
    ------
    ModelError
        A file that is cut, an empty cell, or text that fills the memory.
    """
    wanted = pl.Series(columns[0], subject_ids).implode()
    try:
        rows = pl.scan_parquet(file, glob=False).select(columns).filter(pl.col(columns[0]).is_in(wanted))
        found = rows.collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise ModelError("{file} is not a whole parquet file: write it again.", file=file.name) from error
    cells = [part.explode() if part.dtype == pl.List else part for part in found]
    # A text that repeats is there once, until each cell is looked at.
    text = sum(int(part.str.len_bytes().cast(pl.Int64).sum()) for part in cells if part.dtype == pl.String)
    _room(file, columns).require(text)
    if any(part.name not in gaps and part.null_count() for part in (*found, *cells)):
        raise ModelError("{file} has an empty cell: record every answer.", file=file.name)
    return found


def _room(file: Path, columns: Iterable[str]) -> Room:
    try:
        return room_for(file, name=file.name, columns=list(columns), refusal=ModelError)
    except (pa.ArrowException, OSError) as error:
        raise _no_parquet(file) from error


def _no_parquet(file: Path) -> ModelError:
    return ModelError("{file} is not a parquet file: write it again.", file=file.name)


def _fits(found: pl.DataType, kind: str) -> bool:
    if kind in (NUMBERS, TOKENS):
        inner = getattr(found, "inner", None)
        if not isinstance(found, pl.List) or not isinstance(inner, pl.DataType):
            return False
        return inner.is_numeric() if kind == NUMBERS else inner.is_integer() or inner == pl.String
    if kind == TIME:
        return isinstance(found, pl.Datetime) and found.time_zone is None
    if kind == TEXT:
        return found == pl.String
    return found.is_integer() if kind == ID else found.is_numeric() or found == pl.Null

"""Tables as hospitals export them, CSV, TSV or parquet, read a batch at a time and checked."""

import csv
import re
from collections.abc import Collection, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv as arrow_csv

from primum.errors import RecordsError
from primum.records.parquet_columns import room_for, written_out

_ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
_BATCH_ROWS, _BATCH_BYTES = 1 << 17, 1 << 23
_NULLS = ["", "NULL", "\\N"]
# A wall clock; whatever names a zone is set aside (docs/records.md says why).
_ZONE = r"^(\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}(?:\.\d+)?) ?(?:Z|UTC|[+-]\d{2}(?::?\d{2})?)$"
_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M")


class Kind(Enum):
    """What a column holds."""

    ID = 0
    NUMBER = 1
    TIME = 2
    TEXT = 3


_TYPES = {
    Kind.ID: pl.Int64(),
    Kind.NUMBER: pl.Float64(),
    Kind.TIME: pl.Datetime("us"),
    Kind.TEXT: pl.String(),
}


def table_files(folder: Path, names: Collection[str]) -> dict[str, Path]:
    """Find the file of each table in a folder, in any case and format; absent ones are left out.

    Raises
    ------
    RecordsError
        A table in two files, or a link out of the folder.
    """
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        name, dot, ending = file.name.lower().partition(".")
        if name not in names or dot + ending not in _ENDINGS:
            continue
        if not file.resolve().is_relative_to(folder.resolve()) or not file.is_file():
            raise RecordsError(
                "{file} is a link to a folder or out of this one: copy its target instead.", file=file.name
            )
        if name in found:
            raise RecordsError(
                "{path} holds the table {table} twice: keep one file of it.", path=str(folder), table=name
            )
        found[name] = file
    return found


def read_batches(
    file: Path, wanted: Mapping[str, Kind], *, optional: Mapping[str, Kind] | None = None
) -> Iterator[tuple[int, pl.DataFrame]]:
    """Read columns of a table as the kinds wanted, a batch at a time.

    Parameters
    ----------
    file : Path
        ``.csv``, ``.tsv`` (either may end in ``.gz``) or ``.parquet``. Columns in any case and order.
    wanted : mapping of str to Kind
        Columns that must be there, without empty cells.
    optional : mapping of str to Kind or None
        Columns that may be absent or have empty cells, which become nulls.

    Yields
    ------
    tuple of int and DataFrame
        The number of the first row, counted from 0, and the rows. ID is Int64, NUMBER Float64, TIME Datetime
        in microseconds without zone, TEXT String.

    Raises
    ------
    RecordsError
        A broken file, a missing column, an empty cell, or a cell of another kind.
    """
    kinds = {**wanted, **(optional or {})}
    row = 0
    try:
        for stored in _stored(file, kinds, wanted):
            columns = {}
            for name, kind in kinds.items():
                column = stored[name] if name in stored.columns else pl.Series(name, [None] * len(stored))
                columns[name] = _cast(column, kind)
                bad = columns[name].is_null() & (column.is_not_null() | (name in wanted))
                if bad.any():
                    place = int(bad.arg_max() or 0)
                    written = None if column.is_null()[place] else kind
                    raise _misfit(written, file=file.name, row=row + place, column=name)
            yield row, pl.DataFrame(columns)
            row += len(stored)
    except (pa.ArrowException, pl.exceptions.PolarsError, csv.Error, OSError, UnicodeError) as error:
        # The reader of CSV counts the header, from 1.
        said = re.search(r"Row #(\d+)", str(error))
        raise RecordsError(
            "{file} is truncated or broken at row {row} or later: export the table again.",
            file=file.name,
            row=max(0, int(said[1]) - 2) if said else row,
        ) from error


def _misfit(kind: Kind | None, **cell: str | int) -> RecordsError:
    """Say why a cell does not fit a column of this kind; None where it is empty."""
    if kind is None:
        return RecordsError(
            "{file}, row {row}, column {column}: the cell is empty: fill it or drop the row.", **cell
        )
    if kind is Kind.ID:
        return RecordsError(
            "{file}, row {row}, column {column}: this is not a whole number: correct it.", **cell
        )
    if kind is Kind.NUMBER:
        return RecordsError(
            "{file}, row {row}, column {column}: this is not a finite number: correct it or leave it empty.",
            **cell,
        )
    if kind is Kind.TIME:
        return RecordsError(
            "{file}, row {row}, column {column}: this is not a date: write YYYY-MM-DD, with hh:mm:ss if "
            "known.",
            **cell,
        )
    return RecordsError("{file}, row {row}, column {column}: this is not text: convert the column.", **cell)


def _stored(file: Path, kinds: Mapping[str, Kind], wanted: Collection[str]) -> Iterator[pl.DataFrame]:
    """Batches of the columns of a file as they are stored, under names in lower case."""
    parquet = file.suffix.lower() == ".parquet"
    header, parsing = (pq.read_schema(file).names, None) if parquet else _header(file)
    names = [name.strip().lower() for name in header]
    for name in kinds:
        if names.count(name) > 1 or (name in wanted and name not in names):
            raise RecordsError(
                "{file} has no column {column}, or has it twice: export the table again.",
                file=file.name,
                column=name,
            )
    chosen = {stored: name for stored, name in zip(header, names, strict=True) if name in kinds}
    if parquet:
        schema = pq.read_schema(file)
        for stored, name in chosen.items():
            if pa.types.is_nested(schema.field(stored).type):
                raise _misfit(kinds[name], file=file.name, row=0, column=name)
        room = room_for(file, name=file.name, columns=chosen)
        # As it is stored, a text that repeats is there once; buffered ahead, the whole file would be there.
        with pq.ParquetFile(file, read_dictionary=list(chosen), pre_buffer=False) as opened:
            for batch in opened.iter_batches(_BATCH_ROWS, columns=list(chosen)):
                room.require(written_out(batch.columns))
                yield _frame(batch, chosen)
    else:
        with _open_csv(file, list(chosen), parsing) as opened:
            for batch in opened:
                yield _frame(batch, chosen)


def _frame(batch: Any, chosen: Mapping[str, str]) -> pl.DataFrame:
    frame = pl.from_arrow(batch)
    assert isinstance(frame, pl.DataFrame)
    return frame.rename(dict(chosen))


def _header(file: Path) -> tuple[list[str], Any]:
    """Names of the columns, and how the rows are written."""
    with pa.input_stream(str(file)) as stream:
        line = stream.read(1 << 16).decode("utf-8-sig", "replace").partition("\n")[0].rstrip("\r")
    delimiter = "\t" if line.count("\t") > line.count(",") else ","
    # Vocabularies come in TSV without quoting, and their names hold single quotation marks.
    quoted = delimiter == "," or '"' in line
    parsing = arrow_csv.ParseOptions(
        delimiter=delimiter, quote_char='"' if quoted else False, newlines_in_values=quoted
    )
    return next(csv.reader([line], delimiter=delimiter), []), parsing


def _open_csv(file: Path, columns: list[str], parsing: Any) -> Any:
    """Open a table of text; an empty cell is null."""
    return arrow_csv.open_csv(
        file,
        arrow_csv.ReadOptions(use_threads=False, block_size=_BATCH_BYTES),
        parsing,
        arrow_csv.ConvertOptions(
            include_columns=columns,
            column_types=dict.fromkeys(columns, pa.large_string()),
            null_values=_NULLS,
            strings_can_be_null=True,
        ),
    )


def _cast(column: pl.Series, kind: Kind) -> pl.Series:
    """Cast what can be cast; the rest becomes null."""
    if column.dtype == pl.Categorical or isinstance(column.dtype, pl.Enum):
        column = column.cast(pl.String)
    text = column.dtype == pl.String
    if column.dtype == pl.Null or (kind is Kind.TEXT and not column.dtype.is_nested()):
        return column.cast(_TYPES[kind], strict=False)
    if kind is Kind.TIME:
        return _times(column) if text else _stored_times(column)
    numbers = column.str.strip_chars() if text else column
    if kind is Kind.ID:
        # A column of identifiers with gaps is often exported as decimals: 8507.0.
        return numbers.str.replace(r"\.0+$", "").cast(pl.Int64, strict=False) if text else _whole(numbers)
    number = numbers.cast(pl.Float64, strict=False)
    return number.set(~number.is_finite(), None)


def _whole(numbers: pl.Series) -> pl.Series:
    if numbers.dtype.is_float():
        numbers = numbers.set(numbers != numbers.floor(), None)
    elif not numbers.dtype.is_integer():
        numbers = pl.Series(numbers.name, [None] * len(numbers), pl.Int64)
    return numbers.cast(pl.Int64, strict=False)


def _stored_times(column: pl.Series) -> pl.Series:
    if isinstance(column.dtype, pl.Datetime):
        return column.dt.replace_time_zone(None).dt.cast_time_unit("us")
    if column.dtype == pl.Date:
        return column.cast(pl.Datetime("us"))
    return pl.Series(column.name, [None] * len(column), pl.Datetime("us"))


def _times(column: pl.Series) -> pl.Series:
    clock = column.str.strip_chars().str.replace("T", " ", literal=True).str.replace(_ZONE, "$1")
    times = clock.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
    for written in _FORMATS:
        times = times.fill_null(clock.str.to_datetime(written, strict=False, time_unit="us"))
    return times

"""Columns of one parquet file, of the types wanted, or a sentence that says which is not; and writing one."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from primum.errors import RecordsError

_MAY_BE_NULL = ("time", "numeric_value")
# What repeats costs next to nothing on disk, and much in memory: bytes that one byte of a file may become.
_MOST_BYTES_A_BYTE, _SMALLEST_CAP = 1000, 1 << 26
_TEXT = pa.large_string()


def write_parquet(table: pl.DataFrame, path: Path) -> None:
    """Write a parquet file.

    Raises
    ------
    OSError
        The disk refuses, which polars by itself calls an error of computing.
    """
    whole = io.BytesIO()
    table.write_parquet(whole)
    path.write_bytes(whole.getbuffer())


def read_columns(file: Path, wanted: Mapping[str, Any], *, name: str) -> pa.Table:
    """Read columns of a parquet file as the types wanted, without loss.

    Parameters
    ----------
    file : Path
    wanted : mapping of str to pyarrow type
        ``numeric_value`` may be absent; it and ``time`` may hold nulls.
    name : str
        What sentences call the file.

    Raises
    ------
    RecordsError
        The file is broken, or unpacks to more than 1,000 times its bytes (64 MiB are always allowed), or a
        column is missing, of another type, or has an empty cell.
    """
    try:
        with pq.ParquetFile(file) as opened:
            most = max(_SMALLEST_CAP, file.stat().st_size * _MOST_BYTES_A_BYTE)
            if opened.metadata.num_rows * 8 * len(wanted) > most:
                raise _bomb(name, most)
            stored = opened.schema_arrow
            for column in wanted:
                _check_column(stored, column, wanted[column], name=name)
        texts = [column for column, kind in wanted.items() if kind == _TEXT]
        with pq.ParquetFile(file, read_dictionary=texts) as opened:
            table = opened.read([column for column in wanted if column in stored.names])
        if sum(_written(table[column]) for column in texts) > most:
            raise _bomb(name, most)
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise RecordsError(
            "{file} is truncated or not parquet: copy it again from its source.", file=name
        ) from error
    columns = {}
    for column, kind in wanted.items():
        absent = column not in table.column_names
        columns[column] = pa.nulls(len(table), kind) if absent else _cast(table[column], kind, column, name)
        missing = pc.is_null(columns[column]).to_numpy(zero_copy_only=False)
        if column not in _MAY_BE_NULL and missing.any():
            raise RecordsError(
                "{file}, row {row}, column {column}: the cell is empty: fill it or drop the row.",
                file=name,
                row=int(np.argmax(missing)),
                column=column,
            )
    return pa.table(columns)


def _written(values: Any) -> int:
    """Bytes of a column of text when every cell is written out."""
    parts = (one for one in values.chunks if pa.types.is_dictionary(one.type))
    lengths = (pc.take(pc.binary_length(one.dictionary), one.indices) for one in parts)
    return sum(pc.sum(one).as_py() or 0 for one in lengths)


def _bomb(name: str, most: int) -> RecordsError:
    return RecordsError(
        "{file} unpacks to more than {most} bytes, far more than its size can mean: copy it again from its "
        "source.",
        file=name,
        most=most,
    )


def _check_column(stored: Any, column: str, wanted: Any, *, name: str) -> None:
    if stored.names.count(column) != 1:
        if column == "numeric_value" and column not in stored.names:
            return
        raise RecordsError(
            "{file} has no column {column}, or has it twice: MEDS 0.4 needs one.", file=name, column=column
        )
    found = stored.field(column).type
    found = found.value_type if pa.types.is_dictionary(found) else found
    fits = {
        pa.int64(): pa.types.is_integer(found),
        pa.float64(): pa.types.is_integer(found) or pa.types.is_floating(found),
        pa.timestamp("us"): pa.types.is_timestamp(found) and found.tz is None,
        _TEXT: pa.types.is_string(found) or pa.types.is_large_string(found),
        pa.bool_(): pa.types.is_boolean(found),
    }[wanted]
    if not fits and not pa.types.is_null(found):
        raise RecordsError(
            "{file}, column {column}: the type is {found}, not {wanted}: convert it.",
            file=name,
            column=column,
            found=str(found),
            wanted=str(wanted),
        )


def _cast(values: Any, kind: Any, column: str, name: str) -> Any:
    """Cast without loss; text must be UTF-8."""
    try:
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        cast = values.cast(kind)
        cast.validate(full=True)
    except (pa.ArrowException, ValueError) as error:
        raise RecordsError(
            "{file}, column {column}: a cell does not fit the type {wanted}: correct it.",
            file=name,
            column=column,
            wanted=str(kind),
        ) from error
    return cast

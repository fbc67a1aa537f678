"""Columns of one parquet file, of the types wanted, or a sentence that says which is not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from primum.errors import RecordsError

_MAY_BE_NULL = ("time", "numeric_value")


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
        The file is broken, or a column is missing, of another type, or has an empty cell.
    """
    try:
        with pq.ParquetFile(file) as opened:
            stored = opened.schema_arrow
            for column in wanted:
                _check_column(stored, column, wanted[column], name=name)
            table = opened.read([column for column in wanted if column in stored.names])
    except (pa.ArrowException, OSError) as error:
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
        pa.large_string(): pa.types.is_string(found) or pa.types.is_large_string(found),
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

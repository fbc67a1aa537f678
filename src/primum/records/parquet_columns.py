"""Columns of one parquet file, of the types wanted, or a sentence that says which is not; and writing one.

Every parquet file that others wrote passes :func:`room_for` before it is read.
"""

import io
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from primum.errors import InputError, RecordsError

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


@dataclass(frozen=True)
class Room:
    """How many bytes of memory one parquet file may fill.

    Attributes
    ----------
    name : str
        What sentences call the file.
    most : int
        1,000 times its bytes; 64 MiB are always allowed.
    refusal : type of InputError
    """

    name: str
    most: int
    refusal: type[InputError]

    def require(self, size: int) -> None:
        """Refuse what would fill more than `most` bytes.

        Raises
        ------
        InputError
            Of the kind `refusal`.
        """
        if size > self.most:
            raise self.refusal(
                "{file} unpacks to more than {most} bytes, far more than its size can mean: copy it again "
                "from its source.",
                file=self.name,
                most=self.most,
            )


def room_for(
    file: Path, *, name: str, columns: Collection[str] | None = None, refusal: type[InputError] = RecordsError
) -> Room:
    """Refuse a parquet file of which the footer tells that it fills far more memory than its size can mean.

    Text counts 8 bytes a cell here, for what repeats is stored once: whoever writes the cells out puts
    their bytes before :meth:`Room.require`.

    Parameters
    ----------
    file : Path
    name : str
        What sentences call the file.
    columns : collection of str or None
        Those that will be read; None for all.
    refusal : type of InputError

    Raises
    ------
    InputError
        Of the kind `refusal`.
    pyarrow.ArrowException, OSError
        The footer is broken, or a column's name is no UTF-8.
    """
    room = Room(name, max(_SMALLEST_CAP, file.stat().st_size * _MOST_BYTES_A_BYTE), refusal)
    try:
        whole = pq.ParquetFile(file)
    except UnicodeError as error:
        raise pa.ArrowInvalid(str(error)) from error
    with whole as opened:
        footer, size = opened.metadata, 0
        for place in range(footer.num_columns):
            if columns is None or opened.schema.column(place).path.partition(".")[0] in columns:
                # Zero for types whose cells have no fixed length of their own.
                width = max(8, opened.schema.column(place).length)
                parts = [footer.row_group(group).column(place) for group in range(footer.num_row_groups)]
                size += sum(max(part.num_values * width, part.total_uncompressed_size) for part in parts)
        asked = footer.num_columns if columns is None else len(columns)
        room.require(max(size, footer.num_rows * 8 * max(1, asked)))
    return room


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
        room = room_for(file, name=name, columns=wanted)
        with pq.ParquetFile(file) as opened:
            stored = opened.schema_arrow
            for column in wanted:
                _check_column(stored, column, wanted[column], name=name)
        texts = [column for column, kind in wanted.items() if kind == _TEXT]
        with pq.ParquetFile(file, read_dictionary=texts) as opened:
            table = opened.read([column for column in wanted if column in stored.names])
        room.require(sum(written_out(table[column].chunks) for column in texts))
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


def written_out(parts: Iterable[Any]) -> int:
    """Bytes of dictionary arrays of text when every cell is written out; other arrays count nothing."""
    coded = (part for part in parts if pa.types.is_dictionary(part.type))
    lengths = (pc.take(pc.binary_length(part.dictionary), part.indices) for part in coded)
    return sum(pc.sum(one.cast(pa.int64())).as_py() or 0 for one in lengths)


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

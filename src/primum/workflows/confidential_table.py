"""One parquet file of the confidential folder: whoever reads it again distrusts it."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from primum.errors import InputError, clean_text
from primum.records.parquet_columns import room_for

# No score is near it, and what statistics make of it, a square say, is still a number.
LARGEST = 1e100


class KeptTable:
    """One parquet file, distrusted."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        try:
            room_for(folder / name, name=name, refusal=InputError)
            with (folder / name).open("rb") as stream:  # of a path, polars would expand patterns
                self.frame = pl.read_parquet(stream)
            if self.frame.is_empty():
                raise OSError
        except (pa.ArrowException, pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise InputError(
                "{file} is missing, empty, cut or not parquet: take it from where the audit was written.",
                file=name,
            ) from error

    def column(self, name: str, kind: type[pl.DataType], *, gaps: bool = False) -> NDArray[Any]:
        """Give a column of this type, every cell a finite number unless `gaps` are expected (NaN)."""
        if self.frame.schema.get(name) != kind:
            raise self.misfit(name)
        column = self.frame[name]
        if not gaps and (column.null_count() or (kind is pl.Float64 and not column.is_finite().all())):
            raise self.misfit(name)
        values: NDArray[Any] = column.fill_null(np.nan).to_numpy() if gaps else column.to_numpy()
        if kind is pl.Float64 and (np.abs(values) > LARGEST).any():
            raise self.misfit(name)
        return values

    def misfit(self, column: str) -> InputError:
        """Say which column cannot be used."""
        return InputError(
            "{file}, column {column}: missing, of another type, or with a value that cannot be: take the "
            "file from where the audit was written.",
            file=self.name,
            column=clean_text(column),
        )

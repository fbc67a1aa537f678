"""Which subjects are canaries: patients planted a known number of times, and twins that were not."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from primum.errors import RecordsError
from primum.records.ragged import IntArray

COLUMNS = {"subject_id": pa.int64(), "canary": pa.int64(), "copies": pa.int64(), "planted": pa.bool_()}


@dataclass(frozen=True, eq=False)
class CanaryPlan:
    """One row a subject identifier that belongs to a canary.

    A fair coin decided which history of each pair was planted, so membership is randomised by design (Carlini
    et al., "The Secret Sharer", USENIX Security 2019; Steinke et al., NeurIPS 2023).

    Attributes
    ----------
    subject_ids : int64, shape (n,)
    canary : int64, shape (n,)
        The pair. A planted history and its never-planted twin carry the same number.
    copies : int64, shape (n,)
        How often the planted history of the pair is in the training split; its twin carries the same number.
    planted : bool, shape (n,)
        Whether this subject is a copy of the planted history.
    """

    subject_ids: IntArray
    canary: IntArray
    copies: IntArray
    planted: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.subject_ids)

    def to_arrow(self) -> pa.Table:
        """Return a table with the columns subject_id, canary, copies, planted."""
        columns = (self.subject_ids, self.canary, self.copies, self.planted)
        arrays = [pa.array(column, kind) for column, kind in zip(columns, COLUMNS.values(), strict=True)]
        return pa.table(arrays, names=list(COLUMNS))

    @classmethod
    def from_arrow(cls, table: pa.Table) -> "CanaryPlan":
        """Read the table of :meth:`to_arrow`.

        Raises
        ------
        RecordsError
            When a column is missing, has the wrong type or holds nulls, or a subject is listed twice.
        """
        for name, kind in COLUMNS.items():
            if name not in table.column_names or table[name].type != kind or table[name].null_count:
                raise RecordsError(
                    "The canary table needs a column {column} of type {type} without empty cells: "
                    "write it again or remove the file.",
                    column=name,
                    type=str(kind),
                )
        subject_ids, canary, copies, planted = (table[name].to_numpy() for name in COLUMNS)
        if len(np.unique(subject_ids)) < len(subject_ids):
            raise RecordsError("The canary table lists a subject twice: keep one row for each subject_id.")
        return cls(subject_ids, canary, copies, planted)

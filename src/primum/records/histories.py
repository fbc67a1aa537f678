"""Raw events of many patients, as they move: one shard at a time, no Python object per event."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from primum.errors import RecordsError
from primum.records.ragged import IntArray, offsets_of, take_runs

FloatArray = NDArray[np.float64]
TimeArray = NDArray[np.datetime64]


@dataclass(frozen=True)
class Timeline:
    """One patient, for examples, tests and reports; never for bulk work."""

    subject_id: str
    codes: tuple[str, ...]
    times: tuple[np.datetime64, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Histories:
    """Events of `n` patients, flat, patient after patient.

    Attributes
    ----------
    subject_ids : int64, shape (n,)
    offsets : int64, shape (n + 1,)
        Events of patient ``i`` are ``offsets[i]:offsets[i + 1]``.
    codes : tuple of str
        The dictionary of this shard.
    code_ids : int64, shape (events,)
        Positions in `codes`.
    times : datetime64[us], shape (events,)
        Sorted within a patient, NaT (static events) first.
    values : float64, shape (events,)
        NaN where the event has no number.
    """

    subject_ids: IntArray
    offsets: IntArray
    codes: tuple[str, ...]
    code_ids: IntArray
    times: TimeArray
    values: FloatArray

    def __len__(self) -> int:
        return len(self.subject_ids)

    def timeline(self, index: int) -> Timeline:
        """Show patient number `index` of the shard."""
        part = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        return Timeline(
            str(self.subject_ids[index]),
            tuple(self.codes[code] for code in self.code_ids[part]),
            tuple(self.times[part]),
            tuple(float(value) for value in self.values[part]),
        )

    def select(self, keep: IntArray) -> "Histories":
        """Take the patients at positions `keep`, in that order (positions may repeat)."""
        offsets, rows = take_runs(self.offsets, keep)
        return Histories(
            self.subject_ids[keep],
            offsets,
            self.codes,
            self.code_ids[rows],
            self.times[rows],
            self.values[rows],
        )

    def to_arrow(self) -> pa.Table:
        """Return the MEDS table: subject_id, time, code, numeric_value."""
        code = pa.DictionaryArray.from_arrays(
            pa.array(self.code_ids, pa.int32()), pa.array(self.codes, pa.string())
        )
        return pa.table(
            {
                "subject_id": pa.array(np.repeat(self.subject_ids, np.diff(self.offsets)), pa.int64()),
                "time": pa.array(self.times, pa.timestamp("us")),
                "code": code.cast(pa.string()),
                "numeric_value": pa.array(self.values, pa.float32(), from_pandas=True),
            }
        )


@runtime_checkable
class Records(Protocol):
    """Patients that can be read again and again, a shard at a time."""

    def shards(self) -> Iterator[Histories]:
        """Yield every patient once."""
        ...


@dataclass(frozen=True, eq=False)
class InMemory:
    """Records already in memory, as one or more shards."""

    parts: tuple[Histories, ...]

    def shards(self) -> Iterator[Histories]:
        """Yield the shards."""
        yield from self.parts


def concatenate(parts: list[Histories]) -> Histories:
    """Join shards into one, with one code dictionary.

    Raises
    ------
    RecordsError
        When there is nothing to join.
    """
    if not parts:
        raise RecordsError("There is no patient to read: the records are empty.")
    codes = sorted({code for part in parts for code in part.codes})
    position = {code: index for index, code in enumerate(codes)}
    remapped = [np.array([position[c] for c in p.codes], np.int64)[p.code_ids] for p in parts]
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    return Histories(
        np.concatenate([part.subject_ids for part in parts]),
        offsets_of(lengths),
        tuple(codes),
        np.concatenate(remapped),
        np.concatenate([part.times for part in parts]),
        np.concatenate([part.values for part in parts]),
    )

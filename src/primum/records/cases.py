"""Labelled inputs of a classifier - images, signals, rows, bags, sequences - each of one patient."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from primum.records.ragged import IntArray

# What a case may say of its patient, in the columns of cases.csv; anything else there is not read.
ATTRIBUTES = ("sex", "age", "site", "device", "skin_type", "ethnicity", "practitioner", "date")
NUMERIC_ATTRIBUTES = ("age",)

Inputs = NDArray[Any] | tuple[NDArray[Any], ...]


@dataclass(frozen=True, eq=False)
class Cases:
    """Cases of one shard, in one order.

    Attributes
    ----------
    case_ids : int64, shape (n,)
        The place of each case in its records as a whole, whatever the split: recorded answers know it so.
    subject_ids : int64, shape (n,)
        The patient of each case; where a data set has no patients, the case's own number.
    inputs : ndarray, shape (n, ...), or tuple of n ndarrays
        As they are stored (an image of 8 bits stays uint8): one array where all have one shape, else one
        each: bags of shape (tiles, ...), sequences. Images are (channels, height, width), volumes
        (channels, depth, height, width), signals (leads, samples), rows (features,), sequences uint8
        (letters,).
    labels : int64, shape (n,)
        Positions in the classes of the records.
    attributes : mapping of str to array, shape (n,)
        Of :data:`ATTRIBUTES`, those that are known: float64 for :data:`NUMERIC_ATTRIBUTES` (NaN where not
        known), datetime64[D] for date (NaT), text for the others ("" where not known).
    """

    case_ids: IntArray
    subject_ids: IntArray
    inputs: Inputs
    labels: IntArray
    attributes: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, keep: IntArray) -> "Cases":
        """Take the cases at positions `keep`, in that order (positions may repeat)."""
        inputs = self.inputs
        return Cases(
            self.case_ids[keep],
            self.subject_ids[keep],
            tuple(inputs[row] for row in keep.tolist()) if isinstance(inputs, tuple) else inputs[keep],
            self.labels[keep],
            {name: values[keep] for name, values in self.attributes.items()},
        )


@runtime_checkable
class CaseRecords(Protocol):
    """Cases that can be read again and again, a shard at a time.

    Without patients every text says "image-level".
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """Names that the labels stand for."""
        ...

    @property
    def has_patients(self) -> bool:
        """Whether it is known which cases are of one patient."""
        ...

    def subject_ids(self) -> IntArray:
        """Return the patients, each once, in rising order; no input is read."""
        ...

    def shards(self) -> Iterator[Cases]:
        """Yield every case once."""
        ...


@dataclass(frozen=True, eq=False)
class CasesInMemory:
    """Cases already in memory, as one or more shards."""

    parts: tuple[Cases, ...]
    classes: tuple[str, ...]
    has_patients: bool = True

    def subject_ids(self) -> IntArray:
        """Return the patients, each once, in rising order."""
        return np.unique(np.concatenate([part.subject_ids for part in self.parts]))

    def shards(self) -> Iterator[Cases]:
        """Yield the shards."""
        yield from self.parts


def join_cases(parts: Sequence[Cases]) -> Cases:
    """Put the cases of several shards one after the other; attributes that one of them lacks are left out.

    Raises
    ------
    ValueError
        There is nothing to join.
    """
    inputs: Inputs
    if (
        all(isinstance(part.inputs, np.ndarray) for part in parts)
        and len({part.inputs.shape[1:] for part in parts if isinstance(part.inputs, np.ndarray)}) == 1
    ):
        inputs = np.concatenate([np.asarray(part.inputs) for part in parts])
    else:
        inputs = tuple(one for part in parts for one in part.inputs)
    known = set.intersection(*(set(part.attributes) for part in parts)) if parts else set()
    return Cases(
        np.concatenate([part.case_ids for part in parts]),
        np.concatenate([part.subject_ids for part in parts]),
        inputs,
        np.concatenate([part.labels for part in parts]),
        {name: np.concatenate([part.attributes[name] for part in parts]) for name in sorted(known)},
    )

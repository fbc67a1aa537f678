"""Records seen through a list of patients to keep or to leave out."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from primum.records.cases import CaseRecords, Cases
from primum.records.histories import Histories, Records
from primum.records.ragged import IntArray


@dataclass(frozen=True, eq=False)
class Filtered:
    """Some patients of other records, still a shard at a time.

    Attributes
    ----------
    records : Records
    subject_ids : int64, shape (k,)
    keep : bool
        True keeps these patients, False leaves them out.
    """

    records: Records
    subject_ids: IntArray
    keep: bool = False

    def shards(self) -> Iterator[Histories]:
        """Yield what remains of each shard, empty shards left out."""
        for shard in self.records.shards():
            chosen = np.flatnonzero(np.isin(shard.subject_ids, self.subject_ids) == self.keep)
            if len(chosen) == len(shard):
                yield shard
            elif len(chosen):
                yield shard.select(chosen)


@dataclass(frozen=True, eq=False)
class _View:
    """Other records of cases, seen through something."""

    records: CaseRecords

    @property
    def classes(self) -> tuple[str, ...]:
        """Names that the labels stand for."""
        return self.records.classes

    @property
    def has_patients(self) -> bool:
        """Whether it is known which cases are of one patient."""
        return self.records.has_patients


@dataclass(frozen=True, eq=False)
class FilteredCases(_View):
    """Cases of some patients of other records, still a shard at a time; as :class:`Filtered`."""

    chosen: IntArray
    keep: bool = False

    def subject_ids(self) -> IntArray:
        """Return the patients that remain, each once, in rising order."""
        ids = self.records.subject_ids()
        kept: IntArray = ids[np.isin(ids, self.chosen) == self.keep]
        return kept

    def shards(self) -> Iterator[Cases]:
        """Yield what remains of each shard, empty shards left out."""
        for shard in self.records.shards():
            rows = np.flatnonzero(np.isin(shard.subject_ids, self.chosen) == self.keep)
            if len(rows) == len(shard):
                yield shard
            elif len(rows):
                yield shard.select(rows)


# Beyond any number that a file gives its cases.
_APART = 1 << 40


@dataclass(frozen=True, eq=False)
class Renumbered(_View):
    """Cases of a data set without patients, numbered apart from those of another that counts from 0, too."""

    def subject_ids(self) -> IntArray:
        """Return the cases' numbers as those of patients."""
        return self.records.subject_ids() + _APART

    def shards(self) -> Iterator[Cases]:
        """Yield the shards, numbered apart."""
        for shard in self.records.shards():
            yield replace(shard, subject_ids=shard.subject_ids + _APART)

"""MEDS 0.4 folders: read a file at a time and checked, or written.

The format: Medical Event Data Standard, https://github.com/Medical-Event-Data-Standard/meds.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from primum.errors import RecordsError
from primum.evidence.identity import manifest, manifest_digest
from primum.records.canaries import COLUMNS, CanaryPlan
from primum.records.histories import Histories
from primum.records.parquet_columns import read_columns
from primum.records.ragged import IntArray

_MEDS_VERSION = "0.4.1"
_SPLITS = Path("metadata", "subject_splits.parquet")
_CANARIES = Path("metadata", "canaries.parquet")
_IDS = {"subject_id": pa.int64()}
_EVENTS = {"time": pa.timestamp("us"), "code": pa.large_string(), "numeric_value": pa.float64()}
_SPLIT_ROWS = {**_IDS, "split": pa.large_string()}


@dataclass(frozen=True)
class _Patients:
    """Who is in one file: ids, the row at which each begins, and the split of each."""

    subject_ids: IntArray
    starts: IntArray
    splits: NDArray[np.str_]


@dataclass(frozen=True, eq=False)
class MedsFolder:
    """A folder of patients, ``data/**/*.parquet``, with ``metadata/subject_splits.parquet`` if there is one.

    Without that file the first folder under ``data/`` names the split. A patient with events and no split,
    or with a split and no event, is refused. Ids, files and splits are checked at first use; times, codes
    and numbers as each file is read. Sentences count rows from 0.

    Attributes
    ----------
    path : Path
    show_ids : bool
        Whether a sentence about a bad row may name the patient.

    Raises
    ------
    RecordsError
        Not a folder, no patient files, or a link that leaves the folder.
    """

    path: Path
    show_ids: bool = False

    def __post_init__(self) -> None:
        if not (self.path / "data").is_dir():
            raise RecordsError(
                "{path} is not a MEDS folder: give one that has data/ with parquet files in it.",
                path=str(self.path),
            )
        if not self._data_files:
            raise RecordsError(
                "{path}/data holds no parquet file: put the patients there.", path=str(self.path)
            )

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """Every parquet file of ``data/`` and ``metadata/``, sorted."""
        root, found = self.path.resolve(), []
        for top in ("data", "metadata"):
            for folder, folders, names in os.walk(self.path / top):
                for name in (".", *folders, *names):
                    entry = Path(folder, name)
                    # A link to a folder is not followed, so that its patients would be missed in silence.
                    if not entry.resolve().is_relative_to(root) or (entry.is_symlink() and entry.is_dir()):
                        raise RecordsError(
                            "{file} is a link to a folder or out of this one: copy its target instead.",
                            file=self._name(entry),
                        )
                found += [Path(folder, name) for name in names if name.endswith(".parquet")]
        return tuple(sorted(found))

    @property
    def _data_files(self) -> list[Path]:
        return [file for file in self.files if file.is_relative_to(self.path / "data")]

    def digest(self) -> str:
        """sha256, hexadecimal, of the manifest of :attr:`files`."""
        return manifest_digest(manifest(self.path, self.files))

    def splits(self) -> dict[str, int]:
        """Patients of each split, by name.

        Raises
        ------
        RecordsError
            A file, id or split that breaks the format.
        """
        counts = {} if self._assigned else {self._folder_split(file): 0 for file in self._data_files}
        for patients in self._index.values():
            for name, count in zip(*np.unique(patients.splits, return_counts=True), strict=True):
                counts[str(name)] = counts.get(str(name), 0) + int(count)
        return dict(sorted(counts.items()))

    def split(self, name: str) -> "MedsSplit":
        """Return the patients of one split.

        Raises
        ------
        RecordsError
            No such split, or nobody in it.
        """
        names = self.splits()
        if name not in names:
            raise RecordsError(
                "{path} has no split named {name}: it has {names}.",
                path=str(self.path),
                name=name,
                names=", ".join(names),
            )
        if not names[name]:
            raise RecordsError(
                "{path}: the split {name} holds no patient: add patients to it or name another.",
                path=str(self.path),
                name=name,
            )
        return MedsSplit(self, name)

    def canaries(self) -> CanaryPlan | None:
        """Which patients are canaries, from ``metadata/canaries.parquet``; None without that file.

        Raises
        ------
        RecordsError
            The file breaks its format.
        """
        file = self.path / _CANARIES
        return CanaryPlan.from_arrow(self._read(file, COLUMNS)) if file in self.files else None

    @cached_property
    def _assigned(self) -> tuple[IntArray, NDArray[np.str_]] | None:
        """Subject ids of the splits file, sorted, and their splits."""
        file = self.path / _SPLITS
        if file not in self.files:
            return None
        table = self._read(file, _SPLIT_ROWS)
        ids, splits = table["subject_id"].to_numpy(), np.array(table["split"].to_pylist(), np.str_)
        if (row := _first_repeat(ids)) is not None:
            raise RecordsError(
                "{file}, row {row}, column subject_id{who}: this patient has a split already: list it once.",
                **self._at(file, row, ids[row]),
            )
        order = np.argsort(ids)
        return ids[order], splits[order]

    @cached_property
    def _index(self) -> dict[Path, _Patients]:
        """Who is in which file, from one pass over the ids alone."""
        index = {}
        for file in self._data_files:
            rows = self._read(file, _IDS)["subject_id"].to_numpy()
            starts = np.flatnonzero(np.append(True, rows[1:] != rows[:-1])[: len(rows)])
            ids = rows[starts]
            if (place := _first_repeat(ids)) is not None:
                raise RecordsError(
                    "{file}, row {row}, column subject_id{who}: the rows of this patient are not together: "
                    "sort the file by patient, then by time.",
                    **self._at(file, int(starts[place]), ids[place]),
                )
            index[file] = _Patients(ids, starts, self._splits_of(file, ids, starts))
        self._check_once(index)
        return index

    def _splits_of(self, file: Path, ids: IntArray, starts: IntArray) -> NDArray[np.str_]:
        if self._assigned is None:
            return np.full(len(ids), self._folder_split(file))
        known, splits = self._assigned
        missing = np.flatnonzero(~np.isin(ids, known))
        if len(missing):
            raise RecordsError(
                "{file}, row {row}, column subject_id{who}: this patient has no split: add every patient to "
                "metadata/subject_splits.parquet.",
                **self._at(file, int(starts[missing[0]]), ids[missing[0]]),
            )
        return splits[np.searchsorted(known, ids)]

    def _folder_split(self, file: Path) -> str:
        parts = file.relative_to(self.path / "data").parts
        if len(parts) < 2:
            raise RecordsError(
                "{file} lies in no folder that names its split: move it to data/train, say, or write "
                "metadata/subject_splits.parquet.",
                file=self._name(file),
            )
        return parts[0]

    def _check_once(self, index: Mapping[Path, _Patients]) -> None:
        """Refuse a patient who is in two files, or who is listed and in none."""
        ids = np.concatenate([patients.subject_ids for patients in index.values()])
        if (place := _first_repeat(ids)) is not None:
            files = np.repeat(np.arange(len(index)), [len(patients.starts) for patients in index.values()])
            starts = np.concatenate([patients.starts for patients in index.values()])
            raise RecordsError(
                "{file}, row {row}, column subject_id{who}: this patient is in {other} too: keep each "
                "patient in one file.",
                **self._at(list(index)[files[place]], int(starts[place]), ids[place]),
                other=self._name(list(index)[files[np.argmax(ids == ids[place])]]),
            )
        absent = np.setdiff1d(self._assigned[0], ids) if self._assigned else ids[:0]
        if len(absent):
            raise RecordsError(
                "{file}, column subject_id{who}: {count} patients have a split but no event: take them out "
                "of this file.",
                file=str(_SPLITS),
                who=self._who(absent[0]),
                count=len(absent),
            )

    def _histories(self, file: Path) -> Histories:
        """Read and check the whole of one file."""
        patients, table = self._index[file], self._read(file, _EVENTS)
        codes = table["code"].combine_chunks().dictionary_encode()
        # Null times become the least integer, which is NaT and sorts first.
        times = table["time"].cast(pa.int64()).fill_null(np.iinfo(np.int64).min).to_numpy()
        values = table["numeric_value"].to_numpy()
        earlier = np.append(False, times[1:] < times[:-1])[: len(times)]
        earlier[patients.starts] = False
        if earlier.any():
            raise RecordsError(
                "{file}, row {row}, column time{who}: this event comes before the one above it: sort each "
                "patient by time, events without time first.",
                **self._at_event(file, int(np.argmax(earlier))),
            )
        if (infinite := np.isinf(values)).any():
            raise RecordsError(
                "{file}, row {row}, column numeric_value{who}: the number is infinite: leave it empty.",
                **self._at_event(file, int(np.argmax(infinite))),
            )
        return Histories(
            patients.subject_ids,
            np.append(patients.starts, len(times)).astype(np.int64),
            tuple(codes.dictionary.to_pylist()),
            codes.indices.to_numpy().astype(np.int64),
            times.view("datetime64[us]"),
            values,
        )

    def _read(self, file: Path, wanted: Mapping[str, Any]) -> pa.Table:
        return read_columns(file, wanted, name=self._name(file))

    def _name(self, file: Path) -> str:
        return str(file.relative_to(self.path))

    def _who(self, subject_id: int) -> str:
        return f" [{int(subject_id)}]" if self.show_ids else ""

    def _at(self, file: Path, row: int, subject_id: int) -> dict[str, Any]:
        return {"file": self._name(file), "row": row, "who": self._who(subject_id)}

    def _at_event(self, file: Path, row: int) -> dict[str, Any]:
        patients = self._index[file]
        place = np.searchsorted(patients.starts, row, side="right") - 1
        return self._at(file, row, patients.subject_ids[place])


@dataclass(frozen=True, eq=False)
class MedsSplit:
    """The patients of one split of a folder; :class:`primum.records.histories.Records`."""

    folder: MedsFolder
    name: str

    def __len__(self) -> int:
        return len(self.subject_ids)

    @property
    def subject_ids(self) -> IntArray:
        """Ids of the patients, in the order of :meth:`shards`."""
        index = self.folder._index.values()
        return np.concatenate([patients.subject_ids[self._keep(patients)] for patients in index])

    def shards(self) -> Iterator[Histories]:
        """Yield the patients, one file in memory at a time."""
        for file, patients in self.folder._index.items():
            keep = self._keep(patients)
            if len(keep):
                histories = self.folder._histories(file)
                yield histories if len(keep) == len(histories) else histories.select(keep)

    def _keep(self, patients: _Patients) -> IntArray:
        return np.flatnonzero(patients.splits == self.name)


def write_meds(
    path: Path,
    histories_by_split: Mapping[str, Iterable[Histories]],
    *,
    canaries: CanaryPlan | None = None,
    name: str = "cohort",
) -> None:
    """Write a MEDS folder, one file for each shard, that :class:`MedsFolder` reads back.

    Raises
    ------
    RecordsError
        The folder holds something already, or a split cannot name a folder.
    """
    if path.exists() and any(path.iterdir()):
        raise RecordsError("{path} is not empty: name a new folder.", path=str(path))
    ids: list[IntArray] = []
    splits: list[str] = []
    codes: set[str] = set()
    for split, shards in histories_by_split.items():
        if not re.fullmatch(r"\w[\w-]*", split):
            raise RecordsError(
                "{name} cannot name a split: use letters, digits, - and _ only.", name=repr(split)
            )
        (path / "data" / split).mkdir(parents=True)
        for number, shard in enumerate(shards):
            pq.write_table(shard.to_arrow(), path / "data" / split / f"{number}.parquet")
            ids.append(shard.subject_ids)
            splits += [split] * len(shard)
            codes.update(np.array(shard.codes, np.object_)[np.unique(shard.code_ids)])
    (path / "metadata").mkdir(parents=True, exist_ok=True)
    listed = pa.array(np.concatenate([np.empty(0, np.int64), *ids]))
    pq.write_table(pa.table({"subject_id": listed, "split": pa.array(splits, pa.string())}), path / _SPLITS)
    described = {
        "code": pa.array(sorted(codes), pa.string()),
        "description": pa.nulls(len(codes), pa.string()),
    }
    parents = {"parent_codes": pa.nulls(len(codes), pa.list_(pa.string()))}
    pq.write_table(pa.table({**described, **parents}), path / "metadata" / "codes.parquet")
    about = {"dataset_name": name, "meds_version": _MEDS_VERSION}
    (path / "metadata" / "dataset.json").write_text(json.dumps(about) + "\n", encoding="utf-8")
    if canaries is not None:
        pq.write_table(canaries.to_arrow(), path / _CANARIES)


def _first_repeat(ids: IntArray) -> int | None:
    """Position of the first id that has come before."""
    order = np.argsort(ids, kind="stable")
    again = order[1:][ids[order][1:] == ids[order][:-1]]
    return int(again.min()) if len(again) else None

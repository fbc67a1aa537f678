"""Records of another format, converted once into a private MEDS folder that lives while anyone reads it."""

import re
import shutil
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from primum.errors import RecordsError
from primum.evidence.identity import manifest, manifest_digest
from primum.records.canaries import CanaryPlan
from primum.records.histories import Records
from primum.records.meds import MedsFolder
from primum.records.parquet_columns import write_parquet
from primum.records.ragged import IntArray
from primum.records.tables import Kind, read_batches, table_files

TRAIN = "train"
EVENT = pl.Schema(
    {
        "subject_id": pl.Int64(),
        "time": pl.Datetime("us"),
        "code": pl.String(),
        "numeric_value": pl.Float64(),
    }
)
_PATIENTS_A_FILE, _MOST_FILES = 2_000, 256
_SPLITS = "subject_splits"


class RecordsFolder(Protocol):
    """Patients in a folder or archive of any format: what an audit asks of it."""

    @property
    def path(self) -> Path:
        """What the user gave."""
        ...

    def digest(self) -> str:
        """sha256, hexadecimal, of the manifest of every file that is read."""
        ...

    def splits(self) -> dict[str, int]:
        """Patients of each split, by name."""
        ...

    def split(self, name: str) -> Records:
        """Return the patients of one split."""
        ...

    def canaries(self) -> CanaryPlan | None:
        """Which patients are canaries; None where the format cannot say."""
        ...


@dataclass(frozen=True, eq=False)
class ConvertedFolder:
    """Patients of a format other than MEDS; a :class:`RecordsFolder`.

    Everything is checked and converted at first use, into a temporary folder that only its owner can read. It
    goes when nobody holds its patients any more, and at the latest when the program ends.

    Attributes
    ----------
    path : Path
        What the user gave; sentences name it.
    sources : tuple of Path
        The files that are read, all under `path`, or `path` itself.
    convert : callable
        Writes ``data/<split>/*.parquet`` into the folder that it is given.
    """

    path: Path
    sources: tuple[Path, ...]
    convert: Callable[[Path], None]

    def digest(self) -> str:
        """sha256, hexadecimal, of the manifest of `sources`."""
        root = self.path if self.path.is_dir() else self.path.parent
        return manifest_digest(manifest(root, self.sources))

    def splits(self) -> dict[str, int]:
        """Patients of each split, by name; ``train`` alone where no file lists splits.

        Raises
        ------
        RecordsError
            Records that break their format.
        """
        return self._meds.splits()

    def split(self, name: str) -> Records:
        """Return the patients of one split.

        Raises
        ------
        RecordsError
            No such split, or records that break their format.
        """
        try:
            return self._meds.split(name)
        except RecordsError as error:
            # The user has never seen the private folder.
            raise RecordsError(error.template, **{**error.parameters, "path": str(self.path)}) from None

    def canaries(self) -> CanaryPlan | None:
        """Only MEDS folders list canaries: None."""
        return None

    @cached_property
    def _meds(self) -> MedsFolder:
        private = Path(tempfile.mkdtemp(prefix="primum-"))
        try:
            self.convert(private)
            folder = MedsFolder(private)
        except BaseException:
            shutil.rmtree(private, ignore_errors=True)
            raise
        weakref.finalize(folder, shutil.rmtree, private, ignore_errors=True)
        return folder


class Shards:
    """Events in any order, spilled to disk by patient, then sorted into MEDS files a shard at a time.

    Memory holds one batch while events come in, and one shard of at most max(2,000, patients / 256) patients
    while they are sorted.

    Parameters
    ----------
    folder : Path
        A MEDS folder to be.
    subject_ids : int64, shape (n,)
        Every patient, sorted.
    splits : str, shape (n,)
        The split of each.
    """

    def __init__(self, folder: Path, subject_ids: IntArray, splits: NDArray[np.str_]) -> None:
        size = max(_PATIENTS_A_FILE, -(-len(subject_ids) // _MOST_FILES))
        self._subject_ids, self._shard_of = subject_ids, np.empty(len(subject_ids), np.int64)
        self._files: list[Path] = []
        self._writers: dict[int, Any] = {}
        for name in np.unique(splits):
            (folder / "data" / str(name)).mkdir(parents=True)
            places = np.flatnonzero(splits == name)
            self._shard_of[places] = len(self._files) + np.arange(len(places)) // size
            count = -(-len(places) // size)
            self._files += [folder / "data" / str(name) / f"{number:04}.parquet" for number in range(count)]

    def add(self, events: pl.DataFrame) -> None:
        """Take events of known patients, with the columns of ``EVENT``; order among equal times is kept."""
        places = np.searchsorted(self._subject_ids, events["subject_id"].to_numpy())
        parts = events.select(*EVENT, shard=pl.Series(self._shard_of[places])).partition_by(
            "shard", as_dict=True, include_key=False, maintain_order=True
        )
        for (shard,), part in parts.items():
            table = part.to_arrow(compat_level=pl.CompatLevel.oldest())
            if shard not in self._writers:
                options = pa.ipc.IpcWriteOptions(compression="lz4")
                self._writers[shard] = pa.ipc.new_stream(self._spill(shard), table.schema, options=options)
            self._writers[shard].write_table(table)

    def close(self) -> None:
        """Write the sorted files; what was spilled is removed."""
        for shard, writer in self._writers.items():
            writer.close()
            with pa.OSFile(str(self._spill(shard))) as stream:
                events = pl.from_arrow(pa.ipc.open_stream(stream).read_all())
            assert isinstance(events, pl.DataFrame)
            write_parquet(events.sort("subject_id", "time", maintain_order=True), self._files[shard])
            self._spill(shard).unlink()

    def _spill(self, shard: int) -> Path:
        return self._files[shard].with_suffix(".arrow")


def splits_file(folder: Path) -> tuple[Path, ...]:
    """Find ``subject_splits`` as parquet, CSV or TSV in a folder: one file or none.

    Raises
    ------
    RecordsError
        Two such files, or a link out of the folder.
    """
    return tuple(table_files(folder, (_SPLITS,)).values())


def read_splits(
    files: tuple[Path, ...], subject_ids: IntArray, identify: Callable[[pl.Series], pl.Series]
) -> NDArray[np.str_]:
    """Read the split of each patient from the file of :func:`splits_file`; ``train`` for all without one.

    Parameters
    ----------
    files : tuple of Path
        Empty, or one table with the columns subject_id and split.
    subject_ids : int64, shape (n,)
        Every patient, sorted.
    identify : callable
        Turns the written identifiers into subject ids, null where one is none.

    Returns
    -------
    str, shape (n,)

    Raises
    ------
    RecordsError
        A patient without a split, twice, or unknown, or a split that cannot name a folder.
    """
    splits = np.full(len(subject_ids), "" if files else TRAIN, np.object_)
    for file in files:
        for first, batch in read_batches(file, {"subject_id": Kind.TEXT, "split": Kind.TEXT}):
            ids = identify(batch["subject_id"])
            for row, (subject_id, split) in enumerate(zip(ids, batch["split"], strict=True), first):
                place = int(np.searchsorted(subject_ids, -1 if subject_id is None else subject_id))
                if place == len(subject_ids) or subject_ids[place] != subject_id:
                    raise RecordsError(
                        "{file}, row {row}, column subject_id: nobody among the patients has this id: take "
                        "the row out.",
                        file=file.name,
                        row=row,
                    )
                if splits[place]:
                    raise RecordsError(
                        "{file}, row {row}, column subject_id: this patient has a split already: list it "
                        "once.",
                        file=file.name,
                        row=row,
                    )
                if not re.fullmatch(r"\w[\w-]{0,63}", split):
                    raise RecordsError(
                        "{file}, row {row}, column split: this cannot name a split: use train, tuning and "
                        "held_out.",
                        file=file.name,
                        row=row,
                    )
                splits[place] = split
    if (splits == "").any():
        raise RecordsError(
            "{file}: {count} patients have no split: add a row for each.",
            file=files[0].name,
            count=int((splits == "").sum()),
        )
    return splits.astype(np.str_)

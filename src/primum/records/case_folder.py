"""The cases' front door: a folder with ``cases.csv``, or one ``.npz`` of images; see ``docs/cases.md``."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from primum.errors import RecordsError
from primum.evidence.identity import manifest, manifest_digest
from primum.records.case_files.arrays import open_rows
from primum.records.case_files.files import open_files
from primum.records.case_files.index import SPLITS, Index, read_index
from primum.records.case_files.letters import LettersSource
from primum.records.case_files.medmnist import open_medmnist
from primum.records.case_files.table import Feature, TableSource, read_schema
from primum.records.cases import Cases, Inputs
from primum.records.ragged import IntArray

_TABLES = ("cases.csv", "cases.parquet")
_CLASSES, _SCHEMA = "classes.txt", "schema.toml"


class Source(Protocol):
    """Where the inputs of cases are."""

    @property
    def kind(self) -> str:
        """One of image, volume, signal, table, bag, sequence."""
        ...

    def files(self) -> tuple[Path, ...]:
        """Every file that is read, but for the table, its schema and its classes."""
        ...

    def blocks(self, rows: IntArray) -> Iterator[Inputs]:
        """Yield the inputs of cases at rising positions, in memory that does not grow with their number."""
        ...


@dataclass(frozen=True, eq=False)
class CaseFolder:
    """Labelled cases on disk.

    Attributes
    ----------
    path : Path
        What the user gave.
    index : Index
        All but the inputs.
    source : Source
    features : tuple of Feature
        The columns of a table that has a schema; empty for every other kind.
    declared : tuple of Path
        The table, schema and classes.
    """

    path: Path
    index: Index
    source: Source
    features: tuple[Feature, ...] = ()
    declared: tuple[Path, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names that the labels stand for."""
        return self.index.classes

    @property
    def has_patients(self) -> bool:
        """Whether it is known which cases are of one patient."""
        return self.index.has_patients

    @property
    def kind(self) -> str:
        """One of image, volume, signal, table, bag, sequence.

        Raises
        ------
        RecordsError
            The first case cannot be read.
        """
        return self.source.kind

    def splits(self) -> tuple[str, ...]:
        """Names of the splits that hold cases: of train, tuning and held_out."""
        return tuple(name for name in SPLITS if SPLITS.index(name) in self.index.splits)

    def split(self, name: str) -> "CaseSplit":
        """Return the cases of one split.

        Raises
        ------
        RecordsError
            No such split.
        """
        if name not in self.splits():
            raise RecordsError(
                "{path} has no split named {name}: it has {names}.",
                path=str(self.path),
                name=name,
                names=", ".join(self.splits()),
            )
        return CaseSplit(self, name)

    def digest(self) -> str:
        """sha256, hexadecimal, of the manifest of every file that is read.

        Raises
        ------
        RecordsError
            A file that names others and cannot be read.
        """
        root = self.path.resolve()
        files = (*self.declared, *self.source.files())
        return manifest_digest(manifest(root if root.is_dir() else root.parent, files))


@dataclass(frozen=True, eq=False)
class CaseSplit:
    """Cases of one split; :class:`primum.records.cases.CaseRecords`."""

    folder: CaseFolder
    name: str

    @property
    def classes(self) -> tuple[str, ...]:
        """Names that the labels stand for."""
        return self.folder.classes

    @property
    def has_patients(self) -> bool:
        """Whether it is known which cases are of one patient."""
        return self.folder.has_patients

    def subject_ids(self) -> IntArray:
        """Return the patients of the split, each once, in rising order; no input is read."""
        index = self.folder.index
        return np.unique(index.subject_ids[index.splits == SPLITS.index(self.name)])

    def shards(self) -> Iterator[Cases]:
        """Yield every case once, in the order of the rows; a shard holds about 64 MiB of inputs.

        Raises
        ------
        RecordsError
            An input that is broken, unlike the first, or not finite.
        """
        index = self.folder.index
        rows, done = np.flatnonzero(index.splits == SPLITS.index(self.name)), 0
        for inputs in self.folder.source.blocks(rows):
            part = rows[done : done + len(inputs)]
            done += len(inputs)
            self._require_finite(inputs, part)
            attributes = {name: values[part] for name, values in index.attributes.items()}
            yield Cases(part, index.subject_ids[part], inputs, index.labels[part], attributes)

    def _require_finite(self, inputs: Inputs, rows: IntArray) -> None:
        """Gaps belong in tables only; tiles are left to the model, for a bag need not fit into memory."""
        if isinstance(inputs, tuple) or inputs.dtype.kind != "f":
            return
        unfit = np.isinf(inputs) if self.folder.kind == "table" else ~np.isfinite(inputs)
        bad = unfit.reshape(len(inputs), -1).any(axis=1)
        if bad.any():
            index = self.folder.index
            raise RecordsError(
                "{file}, row {row}, column {column}: the input holds NaN or infinity: correct it or drop "
                "the row.",
                **index.cell(int(rows[np.argmax(bad)]), index.place or "inputs"),
            )


def is_cases(path: Path) -> bool:
    """Tell whether this is a ``.npz`` file or a folder with ``cases.csv`` or ``cases.parquet``."""
    return (path.suffix.lower() == ".npz" and path.is_file()) or any(
        (path / name).is_file() for name in _TABLES
    )


def open_cases(path: Path, *, show_ids: bool = False) -> CaseFolder:
    """Open labelled cases.

    The table is checked here, as is that each file is there; the inputs as each shard is read.

    Parameters
    ----------
    path : Path
        A folder with ``cases.csv`` or ``cases.parquet``, or a ``.npz`` of images in the form of MedMNIST.
    show_ids : bool
        Whether a sentence about a bad row may name the patient.

    Raises
    ------
    RecordsError
        Neither is there, or it breaks its format.
    """
    if path.is_file():
        return CaseFolder(path, *open_medmnist(path.resolve()))
    root = path.resolve()
    tables = [root / name for name in _TABLES if (root / name).exists()]
    if len(tables) != 1:
        raise RecordsError(
            "{path} holds no cases, or holds them twice: give it cases.csv or cases.parquet, or give one "
            ".npz file.",
            path=str(path),
        )
    beside = [root / name for name in (_CLASSES, _SCHEMA) if (root / name).exists()]
    for file in (*tables, *beside):
        if file.resolve() != file or not file.is_file():
            raise RecordsError(
                "{file} is a link to a folder or out of this one: copy its target instead.", file=file.name
            )
    classes = root / _CLASSES
    index = read_index(tables[0], classes=classes if classes in beside else None, show_ids=show_ids)
    features: tuple[Feature, ...] = ()
    source: Source
    if index.place == "file":
        source = open_files(root, index)
    elif index.place == "row":
        source = open_rows(root, index)
    elif index.place == "sequence":
        source = LettersSource(index, tables[0])
    elif root / _SCHEMA in beside:
        features = read_schema(root / _SCHEMA)
        source = TableSource(index, tables[0], features)
    else:
        raise RecordsError(
            "{file} does not say where the inputs are: add a column file, row or sequence, or schema.toml.",
            file=tables[0].name,
        )
    return CaseFolder(path, index, source, features, (*tables, *beside))

"""Cases that are a file each, told apart by their endings."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primum.errors import RecordsError
from primum.records.case_files import dicom, images, letters, signals
from primum.records.case_files.arrays import read_array
from primum.records.case_files.index import Cell, Index, blocks_of
from primum.records.cases import Inputs
from primum.records.ragged import IntArray

Read = Callable[[Path, Cell], tuple[str, NDArray[Any]]]

_READERS: dict[str, Read] = {
    **dict.fromkeys(images.ENDINGS, images.read_image),
    **dict.fromkeys(letters.ENDINGS, letters.read_sequence),
    ".dcm": dicom.read_dicom,
    ".hea": signals.read_signal,
    ".npy": read_array,
    ".npz": read_array,
}


@dataclass(frozen=True, eq=False)
class FileSource:
    """Cases that are a file each, or a folder with a DICOM series.

    Attributes
    ----------
    index : Index
    paths : tuple of Path
        Where each case is, all inside one folder and no link among them.
    """

    index: Index
    paths: tuple[Path, ...]

    @property
    def kind(self) -> str:
        """What the first case is."""
        return self._first[0]

    @cached_property
    def _first(self) -> tuple[str, tuple[int, ...], Any]:
        kind, array = self._read(0)
        return kind, array.shape, array.dtype

    def files(self) -> tuple[Path, ...]:
        """Every file that is read besides the table."""
        found = dict[Path, None]()
        for row, path in enumerate(self.paths):
            reader, cell = _reader(path), self._cell(row)
            if reader is dicom.read_dicom:
                found |= dict.fromkeys(dicom.dicom_files(path, cell))
            elif reader is signals.read_signal:
                found |= dict.fromkeys(signals.signal_files(path, cell))
            else:
                found[path] = None
        return tuple(found)

    def blocks(self, rows: IntArray) -> Iterator[Inputs]:
        """Yield the inputs of cases, up to ``SHARD_BYTES`` at a time."""
        yield from blocks_of(map(self._checked, rows.tolist()), bags=self.kind == "bag")

    def _cell(self, row: int) -> dict[str, str | int]:
        assert self.index.where is not None
        return {**self.index.cell(row, "file"), "input": self.index.where[row]}

    def _read(self, row: int) -> tuple[str, NDArray[Any]]:
        reader = _reader(self.paths[row])
        if reader is None:
            raise RecordsError(
                "{file}, row {row}, column {column}: {input} ends like none of the formats that are read: "
                "PNG, JPEG, DICOM, npy, npz, WFDB (.hea), FASTA and text.",
                **self._cell(row),
            )
        return reader(self.paths[row], self._cell(row))

    def _checked(self, row: int) -> NDArray[Any]:
        """Read a case, which must be like the first: of its kind, type and size (bags: that of a tile)."""
        kind, array = self._read(row)
        wanted, shape, dtype = self._first
        if wanted == "bag":
            alike = array.shape[1:] == shape[1:]
        else:
            alike = wanted == "sequence" or array.shape == shape
        if kind != wanted or array.dtype != dtype or not alike:
            raise RecordsError(
                "{file}, row {row}, column {column}: {input} is {found}, and row 0 is {wanted}: bring all "
                "to one kind, size and type.",
                **self._cell(row),
                found=_described(kind, array.shape, array.dtype),
                wanted=_described(wanted, shape, dtype),
            )
        return array


def _described(kind: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    return f"{kind} {'×'.join(map(str, shape))} {dtype}"


def _reader(path: Path) -> Read | None:
    if path.is_dir() or (not path.suffix and dicom.is_dicom(path)):
        return dicom.read_dicom
    return _READERS.get(path.suffix.lower())


def open_files(root: Path, index: Index) -> FileSource:
    """Find the file of each case.

    Parameters
    ----------
    root : Path
        The folder, free of links.
    index : Index

    Raises
    ------
    RecordsError
        A file that is not there, or outside the folder or behind a link, or listed twice.
    """
    assert index.where is not None
    paths = dict[Path, None]()
    for row, name in enumerate(index.where):
        cell = {**index.cell(row, "file"), "input": name}
        path = _inside(root, name, cell)
        if path in paths:
            raise RecordsError(
                "{file}, row {row}, column {column}: this input is another case already: list it once.",
                **cell,
            )
        paths[path] = None
    return FileSource(index, tuple(paths))


def _inside(root: Path, name: str, cell: Cell) -> Path:
    try:
        path = root / name
        if not path.exists() and not path.suffix:
            path = path.with_name(f"{path.name}.hea")
        found, real = path.exists(), path.resolve() == path and root in path.parents and ":" not in name
    except (OSError, ValueError, RuntimeError):
        found, real = False, True
    if not real:
        raise RecordsError(
            "{file}, row {row}, column {column}: {input} leads out of the folder, through a link or over a "
            "colon: copy the file into the folder and name it from there.",
            **cell,
        )
    if not found:
        raise RecordsError(
            "{file}, row {row}, column {column}: {input} is not in the folder: correct the path or drop the "
            "row.",
            **cell,
        )
    return path

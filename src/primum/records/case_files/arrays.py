"""Arrays of numbers in ``.npy`` and ``.npz``, mapped rather than loaded, and cases as rows of them."""

import math
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from primum.errors import RecordsError
from primum.records.case_files.index import SHARD_BYTES, Cell, Index, readable
from primum.records.cases import Inputs
from primum.records.ragged import IntArray

Array = NDArray[Any]

# What repeats costs next to nothing when compressed: bytes that one byte of an archive may become on disk.
_MOST_BYTES_A_BYTE, _SMALLEST_CAP = 100, 1 << 28
# Each array that is mapped keeps a file open, and a system allows about a thousand.
_MAPPED_FROM = 1 << 22
_LOCAL_HEADER, _COPIED = 30, 1 << 20
# The name of an array in .npz, the kind that it says, and its dimensions without and with a channel.
_NAMED = {
    "tiles": ("bag", ()),
    "image": ("image", (2, 3)),
    "volume": ("volume", (3, 4)),
    "signal": ("signal", (2, 2)),
}


def mapped(file: Path, key: str | None = None) -> Array:
    """Map the array of a ``.npy`` file, or one array of a ``.npz`` file, read-only.

    What is compressed is first written to a temporary file without a name.

    Raises
    ------
    ValueError, OSError, zipfile.BadZipFile
        No numbers of a usual type, fewer bytes than declared, far more than its size can mean, or broken.
    KeyError
        No array of that name.
    """
    if key is None:
        with file.open("rb") as stream:
            return _mapped(stream, 0, file.stat().st_size)
    with zipfile.ZipFile(file) as archive, file.open("rb") as stream:
        member = archive.getinfo(f"{key}.npy")
        if member.compress_type == zipfile.ZIP_STORED and not member.flag_bits & 1:
            stream.seek(member.header_offset)
            name, extra = struct.unpack_from("<HH", stream.read(_LOCAL_HEADER), _LOCAL_HEADER - 4)
            return _mapped(stream, member.header_offset + _LOCAL_HEADER + name + extra, member.file_size)
        if member.file_size > max(_SMALLEST_CAP, file.stat().st_size * _MOST_BYTES_A_BYTE):
            raise ValueError(key)
        with archive.open(member) as packed, tempfile.TemporaryFile() as spilled:
            while part := packed.read(_COPIED):
                spilled.write(part)
            spilled.flush()
            return _mapped(spilled, 0, member.file_size)


def names_in(file: Path) -> set[str]:
    """Names of the arrays of a ``.npz`` file.

    Raises
    ------
    OSError, zipfile.BadZipFile
        It is none.
    """
    with zipfile.ZipFile(file) as archive:
        return {name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")}


def _mapped(stream: IO[bytes], start: int, size: int) -> Array:
    """Map an array in the format of ``.npy`` that fills `size` bytes from `start` on."""
    stream.seek(start)
    version = npy.read_magic(stream)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
    shape, by_column, dtype = read(stream)
    offset = stream.tell()
    if dtype.kind not in "biuf" or dtype.itemsize > 8 or not dtype.isnative:
        raise ValueError(dtype)
    if min(shape, default=0) < 1 or math.prod(shape) * dtype.itemsize != size - (offset - start):
        raise ValueError(shape)
    return np.memmap(stream, dtype, "r", offset, shape, "F" if by_column else "C")


def kind_of(dimensions: int, dtype: np.dtype[Any]) -> str:
    """Tell what one case is from how it is stored; "" where it is nothing known.

    Examples
    --------
    >>> kind_of(2, np.dtype("uint8")), kind_of(2, np.dtype("float32")), kind_of(4, np.dtype("float32"))
    ('image', 'signal', 'volume')
    """
    if dimensions == 1:
        return "sequence" if dtype == np.uint8 else "table"
    if dimensions == 2:
        return "image" if dtype in (np.uint8, np.uint16) else "signal"
    return {3: "image", 4: "volume"}.get(dimensions, "")


def as_stored(kind: str, array: Array, *, cases: int) -> Array:
    """Give grey images their channel, rows float64; `cases` is 1 where the first axis counts cases."""
    if kind == "table":
        return array.astype(np.float64)
    if (kind, array.ndim - cases) in (("image", 2), ("volume", 3)):
        return np.expand_dims(array, cases)
    return array


def read_array(path: Path, cell: Cell) -> tuple[str, Array]:
    """Read the case in a ``.npy`` or ``.npz`` file; bags of more than 4 MiB stay on disk.

    Returns
    -------
    tuple of str and ndarray
        Its kind and the case.

    Raises
    ------
    RecordsError
        No array of numbers, or one that is none of the kinds.
    """
    key, kind = None, ""
    with readable(cell):
        if path.suffix.lower() == ".npz":
            found = names_in(path) & set(_NAMED)
            if len(found) != 1:
                raise RecordsError(
                    "{file}, row {row}, column {column}: {input} must hold one array named tiles, image, "
                    "volume or signal: write it again.",
                    **cell,
                )
            (key,) = found
        array = mapped(path, key)
    if key is None:
        kind = kind_of(array.ndim, array.dtype)
        fits = bool(kind)
    else:
        kind, dimensions = _NAMED[key]
        fits = array.ndim in dimensions or (kind == "bag" and array.ndim > 1)
    if not fits:
        raise RecordsError(
            "{file}, row {row}, column {column}: {input} has {count} dimensions, which no input of its kind "
            "has: see docs/cases.md.",
            **cell,
            count=array.ndim,
        )
    if kind == "bag":
        return kind, array if array.nbytes > _MAPPED_FROM else np.array(array)
    return kind, as_stored(kind, np.array(array), cases=0)


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Cases that are rows of one array, or of several that follow each other.

    Attributes
    ----------
    kind : str
    paths : tuple of Path
    arrays : tuple of ndarray
        Mapped, of one shape but for the number of rows.
    positions : int64, shape (n,)
        The row of each case, counted through all arrays; rising where there are several.
    """

    kind: str
    paths: tuple[Path, ...]
    arrays: tuple[Array, ...]
    positions: IntArray

    def files(self) -> tuple[Path, ...]:
        """Every file that is read."""
        return self.paths

    def blocks(self, rows: IntArray) -> Iterator[Inputs]:
        """Yield the inputs of cases, up to ``SHARD_BYTES`` at a time."""
        places, size = self.positions[rows], max(1, SHARD_BYTES // self.arrays[0][:1].nbytes)
        start = 0
        for array in self.arrays:
            mine = places[(places >= start) & (places < start + len(array))] - start
            for begin in range(0, len(mine), size):
                yield as_stored(self.kind, np.asarray(array[mine[begin : begin + size]]), cases=1)
            start += len(array)


def open_rows(root: Path, index: Index) -> ArraySource:
    """Find ``inputs.npy`` or ``inputs.npz``, the rows of which the column ``row`` counts from 0.

    Raises
    ------
    RecordsError
        Neither file, no array of numbers in it, or a row that it does not have.
    """
    found = [root / name for name in ("inputs.npy", "inputs.npz") if (root / name).exists()]
    if len(found) != 1 or found[0].resolve() != found[0]:
        raise RecordsError(
            "{file} has the column row, which needs inputs.npy or inputs.npz beside it: one of them, no "
            "link.",
            file=index.name,
        )
    array = whole_array(found[0], "inputs" if found[0].suffix == ".npz" else None)
    kind = kind_of(array.ndim - 1, array.dtype)
    if not kind:
        raise RecordsError(
            "{input} has {count} dimensions, the cases among them: give it 2 to 5.",
            input=found[0].name,
            count=array.ndim,
        )
    assert index.where is not None
    positions = index.where.to_numpy()
    outside = (positions < 0) | (positions >= len(array))
    if outside.any():
        raise RecordsError(
            "{file}, row {row}, column {column}: {input} has {count} rows, counted from 0: correct the "
            "number.",
            **index.cell(int(np.argmax(outside)), "row"),
            input=found[0].name,
            count=len(array),
        )
    return ArraySource(kind, (found[0],), (array,), positions)


def whole_array(file: Path, key: str | None) -> Array:
    """Map an array that holds many cases.

    Raises
    ------
    RecordsError
        It is broken, or holds no numbers.
    """
    with whole(file, key):
        return mapped(file, key)


@contextmanager
def whole(file: Path, key: str | None) -> Iterator[None]:
    """Say of a file of many cases that it cannot be read; see :func:`readable`."""
    try:
        with readable({"file": "", "row": 0, "column": "", "input": file.name}):
            yield
    except RecordsError as error:
        raise RecordsError(
            "{input} holds no array of numbers named {key}, or is broken: write it with numpy.save or "
            "numpy.savez, without pickles.",
            input=file.name,
            key=key or "inputs",
        ) from error

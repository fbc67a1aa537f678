"""Who each case is of, its split, label and attributes: ``cases.csv`` or ``cases.parquet``."""

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
import polars as pl
from numpy.typing import NDArray

from primum.errors import MachineError, RecordsError
from primum.records.cases import ATTRIBUTES, Inputs
from primum.records.fhir import subject_id_of
from primum.records.ragged import IntArray
from primum.records.tables import Kind, read_batches

SPLITS = ("train", "tuning", "held_out")
PLACES = ("file", "row", "sequence")
# Inputs of one shard.
SHARD_BYTES = 1 << 26
# A longer text is no attribute, and as an array it would take its length for every case.
_MOST_LETTERS, _MOST_CLASSES_BYTES, _OLDEST = 64, 1 << 20, 130
_KINDS = {"age": Kind.NUMBER, "date": Kind.TIME, "row": Kind.ID}
_OPTIONAL = {name: _KINDS.get(name, Kind.TEXT) for name in ("subject_id", "split", *PLACES, *ATTRIBUTES)}
# Texts of which few differ.
_TEXTS = ("split", *(name for name in ATTRIBUTES if name not in _KINDS))
_WHOLE = r"^(0|-?[1-9]\d{0,17})$"

# What names a cell in a sentence: file, row, column, and the input that it leads to.
Cell = Mapping[str, str | int]


@dataclass(frozen=True, eq=False)
class Coded:
    """A text for each case, each different one kept once.

    Attributes
    ----------
    texts : str, shape (k,)
    places : int32, shape (n,)
        Position of each case's text.
    """

    texts: NDArray[np.str_]
    places: NDArray[np.int32]

    def __getitem__(self, rows: IntArray) -> NDArray[np.str_]:
        """Return the texts of cases."""
        chosen: NDArray[np.str_] = self.texts[self.places[rows]]
        return chosen


@dataclass(frozen=True, eq=False)
class Index:
    """Everything of the cases but their inputs, in the order of the rows.

    Attributes
    ----------
    name : str
        What sentences call the file.
    has_patients : bool
    subject_ids : int64, shape (n,)
    splits : int8, shape (n,)
        Positions in ``SPLITS``.
    labels : int64, shape (n,)
    classes : tuple of str
    attributes : mapping of str to array, shape (n,), or Coded
    place : str
        The column that says where the inputs are, of ``PLACES``; "" where they are columns themselves.
    where : Series
        That column; of ``sequence`` only whether there is one.
    written : Series or None
        The patients as they are written, where sentences may name them.
    """

    name: str
    has_patients: bool
    subject_ids: IntArray
    splits: NDArray[np.int8]
    labels: IntArray
    classes: tuple[str, ...]
    attributes: Mapping[str, NDArray[Any] | Coded]
    place: str = ""
    where: pl.Series | None = None
    written: pl.Series | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def cell(self, row: int, column: str) -> dict[str, str | int]:
        """Name one cell, and its patient where that is allowed."""
        who = "" if self.written is None else f" [{self.written[row]}]"
        return {"file": self.name, "row": f"{row}{who}", "column": column}


@contextmanager
def readable(cell: Cell) -> Iterator[None]:
    """Turn whatever a decoder raises about one input into a sentence; its warnings are dropped.

    Raises
    ------
    RecordsError
        The input cannot be decoded.
    MachineError
        The disk is full, or too many files are open.
    """
    with catch_warnings():
        simplefilter("ignore")
        try:
            yield
        except RecordsError:
            raise
        except Exception as error:  # decoders of others raise whatever they meet in a broken file
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EMFILE):
                raise MachineError(
                    "{input} could not be unpacked: free the disk that TMPDIR is on, or allow more open "
                    "files.",
                    input=cell["input"],
                ) from error
            raise RecordsError(
                "{file}, row {row}, column {column}: {input} is truncated, broken or not what its name says: "
                "export it again.",
                **cell,
            ) from error


def blocks_of(arrays: Iterator[NDArray[Any]], *, bags: bool) -> Iterator[Inputs]:
    """Put inputs together up to ``SHARD_BYTES``: as one array where all have one shape, bags one each."""
    held: list[NDArray[Any]] = []
    size = 0
    for array in arrays:
        held.append(array)
        size += array.nbytes
        if size >= SHARD_BYTES:
            yield _together(held, bags=bags)
            held, size = [], 0
    if held:
        yield _together(held, bags=bags)


def _together(held: Sequence[NDArray[Any]], *, bags: bool) -> Inputs:
    return tuple(held) if bags or len({one.shape for one in held}) > 1 else np.stack(held)


def read_index(file: Path, *, classes: Path | None, show_ids: bool) -> Index:
    """Read ``cases.csv`` or ``cases.parquet``; a column that is empty throughout counts as absent.

    Parameters
    ----------
    file : Path
    classes : Path or None
        Class names, one a line; None: the labels that occur, sorted.
    show_ids : bool
        Whether a sentence about a bad row may name the patient.

    Raises
    ------
    RecordsError
        A cell that is empty, of another kind, or outside what it may be.
    """
    batches = read_batches(file, {"label": Kind.TEXT}, optional=_OPTIONAL)
    parts = [_slim(batch, show_ids=show_ids) for _, batch in batches]
    rows = pl.concat(parts, how="vertical_relaxed") if parts else pl.DataFrame()
    if not len(rows):
        raise RecordsError("{file} holds no case: give it a row for each.", file=file.name)
    present = [name for name in PLACES if rows[name].is_not_null().any()]
    if len(present) > 1:
        raise RecordsError(
            "{file} says in the column {column} and in the column {other} where the inputs are: keep one.",
            file=file.name,
            column=present[0],
            other=present[1],
        )
    for name in present:
        _require(rows[name].is_not_null(), file=file.name, column=name)
        if name == "row":
            _refuse_twice(rows[name], file=file.name, column=name)
    has_patients, subject_ids = _subjects(rows, file=file.name)
    names, labels = _labels(rows["label"], classes, file=file.name)
    return Index(
        file.name,
        has_patients,
        subject_ids,
        _splits(rows["split"], file=file.name),
        labels,
        names,
        _attributes(rows, file=file.name),
        present[0] if present else "",
        rows[present[0]] if present else None,
        rows["written"] if show_ids and has_patients else None,
    )


def _slim(batch: pl.DataFrame, *, show_ids: bool) -> pl.DataFrame:
    """Keep little of each row: of repeated texts a number, of sequences whether there is one.

    A patient becomes a number, a whole number itself, a text the first 63 bits of its sha256; those that were
    texts stay beside it. Of empty columns nothing is kept.
    """
    written = _written_whole(batch["subject_id"])
    texts = written.set(written.str.contains(_WHOLE), None)
    names = texts.drop_nulls().unique()
    numbers = written.cast(pl.Int64, strict=False).set(texts.is_not_null(), None)
    if len(names):
        hashed = texts.replace_strict(names, [subject_id_of(one) for one in names], return_dtype=pl.Int64)
        numbers = numbers.fill_null(hashed)
    batch = batch.with_columns(
        numbers.alias("subject_id"),
        texts.alias("text_id"),
        (written if show_ids else pl.lit(None)).alias("written"),
        _written_whole(batch["label"]).alias("label"),
        pl.col(_TEXTS).str.strip_chars(),
        pl.col("sequence").is_not_null().replace(False, None),
    )
    batch = batch.with_columns(pl.col("label", *_TEXTS).cast(pl.Categorical))
    return batch.with_columns(
        pl.lit(None).alias(name) for name in batch.columns if batch[name].is_null().all()
    )


def _coded(column: pl.Series) -> tuple[list[str], NDArray[np.int32]]:
    """Return the different texts of a column without gaps, sorted, and the place of each row's."""
    texts = column.cast(pl.Categorical)
    found = sorted(texts.unique().cast(pl.String).to_list())
    places = texts.replace_strict(
        pl.Series(found, dtype=pl.Categorical), range(len(found)), return_dtype=pl.Int32
    )
    return found, places.to_numpy()


def _first(bad: pl.Series) -> int:
    return int(bad.arg_max() or 0)


def _require(filled: pl.Series, *, file: str, column: str) -> None:
    if not filled.all():
        raise RecordsError(
            "{file}, row {row}, column {column}: the cell is empty: fill it or drop the row.",
            file=file,
            row=_first(~filled),
            column=column,
        )


def _refuse_twice(places: pl.Series, *, file: str, column: str) -> None:
    again = ~places.is_first_distinct()
    if again.any():
        raise RecordsError(
            "{file}, row {row}, column {column}: this input is another case already: list it once.",
            file=file,
            row=_first(again),
            column=column,
        )


def _written_whole(texts: pl.Series) -> pl.Series:
    """Take blanks away, and the decimals of whole numbers, which exports add where a column has gaps."""
    stripped = texts.str.strip_chars().str.replace(r"^(-?\d+)\.0+$", "$1")
    return stripped.set(stripped == "", None)


def _subjects(rows: pl.DataFrame, *, file: str) -> tuple[bool, IntArray]:
    """Return each patient's number; without patients the case's own."""
    numbers, texts = rows["subject_id"], rows["text_id"]
    if numbers.is_null().all():
        return False, np.arange(len(rows), dtype=np.int64)
    _require(numbers.is_not_null(), file=file, column="subject_id")
    hashed = numbers.filter(texts.is_not_null())
    if (
        hashed.n_unique() < texts.drop_nulls().n_unique()
        or hashed.is_in(numbers.filter(texts.is_null()).implode()).any()
    ):
        raise RecordsError(
            "{file}, column subject_id: two patients get the same number: rename one of them.", file=file
        )
    return True, numbers.to_numpy()


def _splits(texts: pl.Series, *, file: str) -> NDArray[np.int8]:
    if texts.is_null().all():
        return np.zeros(len(texts), np.int8)
    found, places = _coded(texts.fill_null(""))
    known = np.array([one in SPLITS for one in found])[places]
    if not known.all():
        raise RecordsError(
            "{file}, row {row}, column split: this is no split: write train, tuning or held_out.",
            file=file,
            row=int(known.argmin()),
        )
    return np.array([SPLITS.index(one) for one in found], np.int8)[places]


def _labels(texts: pl.Series, classes: Path | None, *, file: str) -> tuple[tuple[str, ...], IntArray]:
    _require(texts.is_not_null(), file=file, column="label")
    found, places = _coded(texts)
    if classes is None:
        numbers = all(one.removeprefix("-").isascii() and one.removeprefix("-").isdigit() for one in found)
        # The length first: whole numbers of any length sort by value.
        names = tuple(sorted(found, key=(lambda one: (len(one), one)) if numbers else None))
        if len(names) < 2:
            raise RecordsError(
                "{file}, column label: there is one class only: list every class in classes.txt, one a line.",
                file=file,
            )
    else:
        names = _class_names(classes)
    known = {name: place for place, name in enumerate(names)}
    labels = np.array([known.get(one, -1) for one in found], np.int64)[places]
    if labels.min() < 0:
        raise RecordsError(
            "{file}, row {row}, column label: this is none of the classes of classes.txt: correct it or add "
            "the class.",
            file=file,
            row=int(labels.argmin()),
        )
    return names, labels


def _class_names(file: Path) -> tuple[str, ...]:
    try:
        with file.open("rb") as stream:
            lines = stream.read(_MOST_CLASSES_BYTES).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeError):
        lines = []
    names = tuple(line.strip() for line in lines if line.strip())
    if not 2 <= len(names) == len(set(names)):
        raise RecordsError(
            "{file} does not name the classes: write two or more, one a line, each once, in UTF-8.",
            file=file.name,
        )
    return names


def _attributes(rows: pl.DataFrame, *, file: str) -> dict[str, NDArray[Any] | Coded]:
    """Of ``ATTRIBUTES``, those with a value somewhere."""
    found: dict[str, NDArray[Any] | Coded] = {}
    for name in ATTRIBUTES:
        values = rows[name]
        if values.is_null().all():
            continue
        if name == "date":
            found[name] = values.to_numpy().astype("datetime64[D]")
        elif name == "age":
            _bound(values.is_between(0, _OLDEST), file=file)
            found[name] = values.to_numpy().astype(np.float64)
        else:
            texts, places = _coded(values.fill_null(""))
            long = np.array([len(one) > _MOST_LETTERS for one in texts])[places]
            if long.any():
                raise RecordsError(
                    "{file}, row {row}, column {column}: this has more than {most} letters: write a short "
                    "code.",
                    file=file,
                    row=int(long.argmax()),
                    column=name,
                    most=_MOST_LETTERS,
                )
            found[name] = Coded(np.array(texts, np.str_), places)
    return found


def _bound(fits: pl.Series, *, file: str) -> None:
    if not fits.fill_null(True).all():
        raise RecordsError(
            "{file}, row {row}, column age: an age lies between 0 and {oldest} years: correct it or leave it "
            "empty.",
            file=file,
            row=_first(~fits.fill_null(True)),
            oldest=_OLDEST,
        )

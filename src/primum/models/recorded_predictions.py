"""Recorded answers of a classifier: ``predictions.csv`` or ``.parquet``, and ``score_matrix.npz`` of many."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from primum.errors import ModelError
from primum.evidence.identity import ModelRef
from primum.models.checked_predictor import CheckedPredictor
from primum.models.classifier_card import CARD, Card, Output, parse_card
from primum.models.classifier_files import open_archive, read_files, ref_of
from primum.models.opened import OpenedClassifier
from primum.models.score_matrix import ScoreMatrix
from primum.records.cases import Cases
from primum.records.histories import FloatArray
from primum.records.parquet_columns import room_for
from primum.records.ragged import IntArray

PREDICTIONS = ("predictions.csv", "predictions.parquet")
SCORES = "score_matrix.npz"
CASE, LOGIT = "case_id", "logit_"


def open_predictions(path: Path) -> OpenedClassifier:
    """Open a folder of recorded predictions; its identity is declared, for no model is there to be hashed.

    Raises
    ------
    ModelError
        A file that cannot be read, no column ``case_id``, a case twice, a cell that is no number.
    """
    names = [name for name in PREDICTIONS if (path / name).exists()]
    if len(names) != 1:
        raise ModelError(
            "{path} must hold predictions.csv or predictions.parquet, one of them: see docs/classifiers.md.",
            path=str(path),
        )
    files = read_files(path, names[0], optional=(CARD,))
    if names[0].endswith(".parquet"):
        try:
            room_for(path / names[0], name=names[0], refusal=ModelError)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(names[0]) from error
    table = _table(files[names[0]], names[0])
    columns, classes, output = _columns(table, parse_card(files.get(CARD, b"")), names[0])
    cases = _numbers(table, CASE, names[0], pl.Int64)
    order = np.argsort(cases, kind="stable")
    if (np.diff(cases[order]) == 0).any():
        raise ModelError("{file} has a case twice: keep one row for each case_id.", file=names[0])
    rows = np.stack([_numbers(table, column, names[0], pl.Float64) for column in columns], axis=1)
    recorded = _Recorded(names[0], cases[order], rows[order])
    predictor = CheckedPredictor(classes, output, recorded.rows)
    return OpenedClassifier(_declared(path, files), predictor, 0, answers_anew=False)


@dataclass(frozen=True, eq=False)
class RecordedScores:
    """Scores of many models about the same cases, one of them the target: how published studies are kept.

    Attributes
    ----------
    ref : ModelRef
        The file, declared.
    matrix : ScoreMatrix
        Of every model, the target too: ``matrix.leave_out(target)`` takes it out.
    target : int
        Its row.
    subject_ids : int64, shape (n,)
        The case's own number where the file knows no patients.
    has_patients : bool
    labels : int64, shape (n,), or None
    """

    ref: ModelRef
    matrix: ScoreMatrix
    target: int
    subject_ids: IntArray
    has_patients: bool
    labels: IntArray | None


def read_score_matrix(path: Path) -> RecordedScores:
    """Read ``score_matrix.npz`` of a folder.

    Its arrays: scores, numbers, shape (models, n), log-odds of the true class; inside, bool, shape (models,
    n); target, one whole number, 0 when left out; subject_id and label, whole numbers, shape (n,), may be
    left out.

    Raises
    ------
    ModelError
        A file that is broken, unpacks to far more than its size, or lacks an array or has it in another form.
    """
    files = read_files(path, SCORES)
    with open_archive(files[SCORES], name=SCORES) as archive:
        scores = _array(archive, "scores", "biuf", None)
        inside = _array(archive, "inside", "b", None)
        if scores is None or inside is None or scores.ndim != 2 or scores.shape != inside.shape:
            raise _wrong_array("scores, inside")
        models, count = scores.shape
        target = _array(archive, "target", "iu", ())
        subjects = _array(archive, "subject_id", "iu", (count,))
        labels = _array(archive, "label", "iu", (count,))
    if not np.isfinite(scores).all():
        raise _wrong_array("scores")
    row = 0 if target is None else int(target)
    if not 0 <= row < models:
        raise _wrong_array("target")
    return RecordedScores(
        _declared(path, files),
        ScoreMatrix(scores.astype(np.float64), inside),
        row,
        np.arange(count) if subjects is None else subjects.astype(np.int64),
        subjects is not None,
        None if labels is None else labels.astype(np.int64),
    )


@dataclass(frozen=True, eq=False)
class _Recorded:
    file: str
    case_ids: IntArray
    values: FloatArray

    def rows(self, cases: Cases) -> FloatArray:
        """Return what was recorded for each case."""
        places = np.searchsorted(self.case_ids, cases.case_ids)
        found = places < len(self.case_ids)
        found[found] = self.case_ids[places[found]] == cases.case_ids[found]
        if not found.all():
            raise ModelError(
                "{file} has no row for {count} of {total} cases: record every case, case_id being its place "
                "in the records, from 0.",
                file=self.file,
                count=int((~found).sum()),
                total=len(found),
            )
        return self.values[places]


def _table(content: bytes, name: str) -> pl.DataFrame:
    try:
        if name.endswith(".parquet"):
            return pl.read_parquet(content)
        return pl.read_csv(content, infer_schema=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, UnicodeError) as error:
        raise _unreadable(name) from error


def _columns(table: pl.DataFrame, card: Card, name: str) -> tuple[list[str], tuple[str, ...], Output]:
    """Find the columns of the classes, which the card may name; logits where there are some."""
    logits = any(column.startswith(LOGIT) for column in table.columns)
    prefix, output = (LOGIT, "logits") if logits else ("", card.output or "probabilities")
    others = [column for column in table.columns if column != CASE and column.startswith(prefix)]
    classes = card.classes or tuple(column.removeprefix(prefix) for column in others)
    columns = [prefix + one for one in classes]
    absent = [column for column in (CASE, *columns) if column not in table.columns]
    if absent or len(columns) < 2:
        raise ModelError(
            "{file} has no column {column}: it needs case_id and one column for each of two classes or more, "
            "or logit_ and the class; see docs/classifiers.md.",
            file=name,
            column=absent[0][:100] if absent else "2",
        )
    given: Output = "logits" if output == "logits" else "probabilities"
    return columns, classes, given


def _numbers(table: pl.DataFrame, column: str, name: str, kind: type[pl.DataType]) -> NDArray[Any]:
    """Take a column as finite numbers, or say in which row there is none."""
    values = table[column]
    if values.dtype == pl.String or values.dtype.is_numeric():
        if values.dtype == pl.String:
            values = values.str.strip_chars()
        cast = values.cast(kind, strict=False)
        bad = cast.is_null() | ~cast.cast(pl.Float64).is_finite().fill_null(False)
        if values.dtype.is_float() and kind == pl.Int64:
            bad |= values != cast
        row = bad.arg_max()
    else:
        row, bad, cast = 0, pl.Series([True]), values
    if bad.any():
        raise ModelError(
            "{file}, row {row}, column {column}: no number: correct it, or name the columns of the classes "
            "in classifier.toml.",
            file=name,
            row=int(row or 0),
            column=column[:100],
        )
    return cast.to_numpy()


def _array(
    archive: zipfile.ZipFile, name: str, kinds: str, shape: tuple[int, ...] | None
) -> NDArray[Any] | None:
    """Read one array without pickles, whose header declares no more than what is there; None: not there."""
    if f"{name}.npy" not in archive.namelist():
        return None
    try:
        content = archive.read(f"{name}.npy")
        stream = io.BytesIO(content)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        found, _, dtype = read[np.lib.format.read_magic(stream)](stream)
        declared = dtype.itemsize
        for size in found:
            declared *= size
        if dtype.hasobject or declared != len(content) - stream.tell():
            raise ValueError(name)
        values = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except MemoryError:
        raise
    except Exception as error:  # zipfile, zlib and the header's parser have kinds of their own
        raise _wrong_array(name) from error
    if values.dtype.kind not in kinds or (shape is not None and values.shape != shape):
        raise _wrong_array(name)
    return values


def _declared(path: Path, files: dict[str, bytes]) -> ModelRef:
    ref = ref_of(path, files)
    return ModelRef(ref.name, ref.digest, "declared", ref.files)


def _unreadable(name: str) -> ModelError:
    return ModelError("{file} is truncated or not a table: write it again.", file=name)


def _wrong_array(name: str) -> ModelError:
    return ModelError(
        "score_matrix.npz, array {name}: missing, cut, or not of the type, shape and range that "
        "docs/classifiers.md asks for: write it again.",
        name=name,
    )

"""The recorded door: what a model answered once, kept in parquet files; nothing can be asked of it anew.

A folder with a vocabulary, a token profile, and some of

- ``scores.parquet``: subject_id, log_probs (a list: natural log p of each token after the first);
- ``embeddings.parquet``: subject_id, embedding (a list of numbers);
- ``trajectories.parquet``: patient_id, event_tokens, predicted_tokens, the columns of the published EHR suite
  (Tonekaboni et al., NeurIPS 2025; its split and trajectory are not needed): one row a sample, what was shown
  and what was written, tokens as ids or names.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from primum.errors import ModelError
from primum.evidence.identity import ModelRef, manifest, manifest_digest
from primum.models.opened import OpenedModel
from primum.models.protocols import Recording
from primum.records.histories import FloatArray
from primum.records.profile_guess import PROFILE, read_tokenizer
from primum.records.ragged import IntArray, offsets_of
from primum.records.tokenizer import Tokenizer
from primum.records.tokens import Kind, TokenBatch
from primum.records.vocabulary_forms import vocabulary_files

SCORES, EMBEDDINGS, TRAJECTORIES = "scores.parquet", "embeddings.parquet", "trajectories.parquet"
FILES = (SCORES, EMBEDDINGS, TRAJECTORIES)
_ID, _NUMBERS, _TOKENS = "int64", "list<double>", "list<int64> | list<string>"
_COLUMNS: Mapping[str, Mapping[str, str]] = {
    SCORES: {"subject_id": _ID, "log_probs": _NUMBERS},
    EMBEDDINGS: {"subject_id": _ID, "embedding": _NUMBERS},
    TRAJECTORIES: {"patient_id": _ID, "event_tokens": _TOKENS, "predicted_tokens": _TOKENS},
}
# Histories were recorded whole, whatever the model saw at once.
_CONTEXT = 1 << 20


def open_recorded(path: Path) -> OpenedModel:
    """Open a folder of recorded answers.

    Raises
    ------
    ModelError
        A file that is no parquet file, or lacks a column, or holds another type in it.
    VocabularyError
        A vocabulary or token profile that cannot be read.
    """
    tokenizer, _, guessed = read_tokenizer(path)
    shaping = [*vocabulary_files(path), *(file for file in [path / PROFILE] if file.is_file())]
    files = {name: path / name for name in FILES if (path / name).is_file()}
    for name, file in files.items():
        _check(file, _COLUMNS[name])
    digests = manifest(path, [*shaping, *files.values()])
    ref = ModelRef(path.resolve().name, manifest_digest(digests), "declared", digests)
    offered: dict[str, Callable[..., Any]] = {}
    if SCORES in files:
        offered["log_probs"] = _Scores(files[SCORES]).log_probs
    if EMBEDDINGS in files:
        offered["embed"] = _Embeddings(files[EMBEDDINGS]).embed
    anew = _Trajectories(files[TRAJECTORIES], tokenizer) if TRAJECTORIES in files else _Nothing()
    return OpenedModel(ref, _Answers(**offered), tokenizer, _CONTEXT, 0, guessed, anew)


class _Answers:
    """An object that has just the methods given, so that a test sees by its protocols what was recorded."""

    def __init__(self, **methods: Callable[..., Any]) -> None:
        self.__dict__.update(methods)


class _Nothing:
    """Answers nothing."""


@dataclass(frozen=True)
class _Scores:
    file: Path

    def log_probs(self, tokens: TokenBatch) -> list[FloatArray]:
        """Return what was recorded for each history."""
        rows = _lists(self.file, "subject_id", ("log_probs",), tokens.subject_ids)
        found = _of_each(rows, "log_probs", tokens.subject_ids, self.file)
        for values, length in zip(found, tokens.lengths.tolist(), strict=True):
            if len(values) != max(0, length - 1):
                raise ModelError(
                    "{file} has {have} numbers for a history of {length} tokens, where one for each but the "
                    "first is needed: record it with the vocabulary and token profile beside it.",
                    file=self.file.name,
                    have=len(values),
                    length=length,
                )
            if not (values <= 0).all():
                raise ModelError(
                    "{file} has a log-probability above 0 or not a number: record natural logarithms.",
                    file=self.file.name,
                )
        return found


@dataclass(frozen=True)
class _Embeddings:
    file: Path

    def embed(self, tokens: TokenBatch) -> FloatArray:
        """Return what was recorded for each history, shape (n, width)."""
        rows = _lists(self.file, "subject_id", ("embedding",), tokens.subject_ids)
        found = _of_each(rows, "embedding", tokens.subject_ids, self.file)
        widths = {len(vector) for vector in found}
        if len(widths) > 1:
            raise ModelError(
                "{file} has embeddings of {low} to {high} numbers: record one model alone.",
                file=self.file.name,
                low=min(widths),
                high=max(widths),
            )
        return np.stack(found) if found else np.empty((0, 0))


@dataclass(frozen=True)
class _Trajectories:
    file: Path
    tokenizer: Tokenizer

    def recorded(self, tokens: TokenBatch) -> Recording:
        """Return how much of each history was shown, and what was written then."""
        rows = _lists(self.file, "patient_id", ("event_tokens", "predicted_tokens"), tokens.subject_ids)
        shown = np.zeros(len(tokens), np.int64)
        written: list[list[IntArray]] = [[] for _ in range(len(tokens))]
        place = {subject: row for row, subject in enumerate(tokens.subject_ids.tolist())}
        for subject, prompt, answer in rows.iter_rows():
            row = place[subject]
            begun, answered = self._ids(prompt), self._ids(answer)
            length = _shown(tokens.tokens_of(row), begun, self._begin)
            if length and shown[row] in (0, length):
                shown[row] = length
                # Some recordings repeat the prompt before the answer: the prompt is no output.
                repeated = len(begun) and np.array_equal(answered[: len(begun)], begun)
                written[row].append(answered[len(begun) :] if repeated else answered)
        counts = {len(samples) for samples in written if samples}
        if len(counts) != 1:
            raise ModelError(
                "{file}: for the patients asked there are {low} to {high} trajectories whose event_tokens "
                "begin the patient's record: record as many for each, with the vocabulary beside it.",
                file=self.file.name,
                low=min(counts, default=0),
                high=max(counts, default=0),
            )
        return Recording(shown, [_batch(tokens, written, sample) for sample in range(counts.pop())])

    @property
    def _begin(self) -> int | None:
        name = self.tokenizer.profile.begin
        return None if name is None else self.tokenizer.vocabulary.id_of[name]

    def _ids(self, values: Sequence[int | str]) -> IntArray:
        """Turn names into ids; padding and what follows the end are left out."""
        vocabulary, profile = self.tokenizer.vocabulary, self.tokenizer.profile
        ids = np.array([vocabulary.id_of.get(v, -1) if isinstance(v, str) else v for v in values], np.int64)
        if ((ids < 0) | (ids >= len(vocabulary))).any():
            raise ModelError(
                "{file} has a token that the vocabulary beside it lacks: record both with one model.",
                file=self.file.name,
            )
        if profile.end is not None:
            ended = np.flatnonzero(ids == vocabulary.id_of[profile.end])
            ids = ids[: ended[0]] if len(ended) else ids
        return ids if profile.pad is None else ids[ids != vocabulary.id_of[profile.pad]]


def _shown(history: IntArray, prompt: IntArray, begin: int | None) -> int:
    """Tokens of the history that the prompt shows; 0 when it does not begin so. A begin token may lack."""
    lacks = len(history) and history[0] == begin and not (len(prompt) and prompt[0] == begin)
    length = len(prompt) + bool(lacks)
    return length if len(prompt) and np.array_equal(history[bool(lacks) : length], prompt) else 0


def _batch(tokens: TokenBatch, written: Sequence[Sequence[IntArray]], sample: int) -> TokenBatch:
    rows = [samples[sample] if samples else np.empty(0, np.int64) for samples in written]
    token_ids = np.concatenate([np.empty(0, np.int64), *rows])
    return TokenBatch(
        tokens.subject_ids,
        offsets_of(np.array([len(row) for row in rows], np.int64)),
        token_ids,
        np.full(len(token_ids), Kind.CLINICAL, tokens.kinds.dtype),
        np.full(len(token_ids), -1, np.int64),
        tokens.vocabulary_size,
    )


def _check(file: Path, columns: Mapping[str, str]) -> None:
    try:
        schema = pl.read_parquet_schema(file)
    except Exception as error:  # polars raises its own kinds, and plain ones, for broken files
        raise ModelError("{file} is not a parquet file: write it again.", file=file.name) from error
    for name, kind in columns.items():
        if name not in schema or not _fits(schema[name], kind):
            raise ModelError(
                "{file} has no column {column} of {kind}: see docs/recorded.md for its columns.",
                file=file.name,
                column=name,
                kind=kind,
            )


def _fits(found: pl.DataType, kind: str) -> bool:
    if kind == _ID:
        return found.is_integer()
    inner = getattr(found, "inner", None)
    if not isinstance(inner, pl.DataType):
        return False
    return inner.is_numeric() if kind == _NUMBERS else inner.is_integer() or inner == pl.String


def _lists(file: Path, key: str, columns: Sequence[str], subject_ids: IntArray) -> pl.DataFrame:
    """Read the rows of some patients, in the order of the file; never more than theirs is in memory."""
    wanted = pl.Series(key, subject_ids).implode()
    try:
        rows = pl.scan_parquet(file).select(key, *columns).filter(pl.col(key).is_in(wanted))
        found = rows.collect()
    except pl.exceptions.PolarsError as error:
        raise ModelError("{file} is not a whole parquet file: write it again.", file=file.name) from error
    if any(found[name].null_count() or found[name].explode().null_count() for name in columns):
        raise ModelError("{file} has an empty cell: record every answer.", file=file.name)
    return found


def _of_each(rows: pl.DataFrame, column: str, subject_ids: IntArray, file: Path) -> list[FloatArray]:
    """One row of each patient, in order."""
    key = rows.columns[0]
    held = {subject: np.array(values, np.float64) for subject, values in rows.select(key, column).iter_rows()}
    if len(held) < len(rows) or any(subject not in held for subject in subject_ids.tolist()):
        raise ModelError(
            "{file} must have one row for each audited patient: some have none or two.", file=file.name
        )
    return [held[subject] for subject in subject_ids.tolist()]

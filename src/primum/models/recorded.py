"""The recorded door: what a model answered once, kept in parquet files; nothing can be asked of it anew.

A folder with a vocabulary, a token profile, and some of

- ``scores.parquet``: subject_id, log_probs (a list: natural log p of each token after the first);
- ``embeddings.parquet``: subject_id, embedding (a list of numbers);
- ``trajectories.parquet``: patient_id, event_tokens, predicted_tokens, the columns of the published EHR suite
  (Tonekaboni et al., NeurIPS 2025; its split and trajectory are not needed): one row a sample, what was shown
  and what was written, tokens as ids or names;
- instead of it ``trajectories/``, a folder of MEDS tables of generated events, one file a sample:
  subject_id, time, code, numeric_value, prediction_time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from primum.errors import ModelError
from primum.evidence.identity import ModelRef, manifest, manifest_digest
from primum.models.opened import OpenedModel
from primum.models.recorded_rows import ID, NUMBERS, check_columns, rows_of
from primum.models.recorded_trajectories import (
    EVENT_COLUMNS,
    TOKEN_COLUMNS,
    VALUE,
    EventTrajectories,
    TokenTrajectories,
)
from primum.records.histories import FloatArray
from primum.records.profile_guess import PROFILE, read_tokenizer
from primum.records.ragged import IntArray
from primum.records.tokens import TokenBatch
from primum.records.vocabulary_forms import vocabulary_files

SCORES, EMBEDDINGS, TRAJECTORIES = "scores.parquet", "embeddings.parquet", "trajectories.parquet"
FILES = (SCORES, EMBEDDINGS, TRAJECTORIES)
EVENTS = "trajectories"
_COLUMNS: Mapping[str, Mapping[str, str]] = {
    SCORES: {"subject_id": ID, "log_probs": NUMBERS},
    EMBEDDINGS: {"subject_id": ID, "embedding": NUMBERS},
    TRAJECTORIES: TOKEN_COLUMNS,
}
# Histories were recorded whole, whatever the model saw at once.
_CONTEXT = 1 << 20


def is_recorded(path: Path) -> bool:
    """Tell whether a folder holds recorded answers."""
    return any((path / name).is_file() for name in FILES) or bool(_event_files(path))


def open_recorded(path: Path) -> OpenedModel:
    """Open a folder of recorded answers.

    Raises
    ------
    ModelError
        A file that is no parquet file, or lacks a column, or holds another type in it; trajectories twice.
    VocabularyError
        A vocabulary or token profile that cannot be read.
    """
    tokenizer, _, guessed = read_tokenizer(path)
    shaping = [*vocabulary_files(path), *(file for file in [path / PROFILE] if file.is_file())]
    files = {name: path / name for name in FILES if (path / name).is_file()}
    for name, file in files.items():
        check_columns(file, _COLUMNS[name])
    events = _event_files(path)
    if events and TRAJECTORIES in files:
        raise ModelError("{path} holds trajectories as a file and as a folder: keep one.", path=str(path))
    for file in events:
        check_columns(file, EVENT_COLUMNS, optional=(VALUE,))
    digests = manifest(path, [*shaping, *files.values(), *events])
    ref = ModelRef(path.resolve().name, manifest_digest(digests), "declared", digests)
    offered: dict[str, Callable[..., Any]] = {}
    if SCORES in files:
        offered["log_probs"] = _Scores(files[SCORES]).log_probs
    if EMBEDDINGS in files:
        offered["embed"] = _Embeddings(files[EMBEDDINGS]).embed
    anew: object = _Nothing()
    if TRAJECTORIES in files:
        anew = TokenTrajectories(files[TRAJECTORIES], tokenizer)
    elif events:
        anew = EventTrajectories(events, tokenizer)
    return OpenedModel(ref, _Answers(**offered), tokenizer, _CONTEXT, 0, guessed, anew)


def _event_files(path: Path) -> tuple[Path, ...]:
    """Find the files of generated events, in any folders below."""
    return tuple(sorted(file for file in (path / EVENTS).glob("**/*.parquet") if file.is_file()))


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
        rows = rows_of(self.file, ("subject_id", "log_probs"), subject_ids=tokens.subject_ids)
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
        rows = rows_of(self.file, ("subject_id", "embedding"), subject_ids=tokens.subject_ids)
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


def _of_each(rows: pl.DataFrame, column: str, subject_ids: IntArray, file: Path) -> list[FloatArray]:
    """One row of each patient, in order."""
    key = rows.columns[0]
    held = {subject: np.array(values, np.float64) for subject, values in rows.select(key, column).iter_rows()}
    if len(held) < len(rows) or any(subject not in held for subject in subject_ids.tolist()):
        raise ModelError(
            "{file} must have one row for each audited patient: some have none or two.", file=file.name
        )
    return [held[subject] for subject in subject_ids.tolist()]

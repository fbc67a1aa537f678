"""Recorded continuations, in tokens or as the events of MEDS, and how much of each record had been shown."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from primum.errors import ModelError
from primum.models.protocols import Recording
from primum.models.recorded_rows import ID, NUMBER, TEXT, TIME, TOKENS, rows_of
from primum.records.histories import Histories, TimeArray
from primum.records.ragged import IntArray, offsets_of
from primum.records.tokenizer import Tokenizer
from primum.records.tokens import Kind, TokenBatch

TOKEN_COLUMNS = {"patient_id": ID, "event_tokens": TOKENS, "predicted_tokens": TOKENS}
VALUE = "numeric_value"
EVENT_COLUMNS = {"subject_id": ID, "time": TIME, "code": TEXT, VALUE: NUMBER, "prediction_time": TIME}


@dataclass(frozen=True)
class TokenTrajectories:
    """One row a sample, its prompt and what was written; a :class:`primum.models.protocols.Recorded`."""

    file: Path
    tokenizer: Tokenizer

    def recorded(self, tokens: TokenBatch, times: TimeArray) -> Recording:
        """Return how much of each history was shown, and what was written then."""
        rows = rows_of(self.file, tuple(TOKEN_COLUMNS), subject_ids=tokens.subject_ids)
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
        return Recording(shown, _batches(tokens, written, counts.pop()))

    @property
    def _begin(self) -> int | None:
        name = self.tokenizer.profile.begin
        return None if name is None else self.tokenizer.vocabulary.id_of[name]

    def _ids(self, values: Sequence[int | str]) -> IntArray:
        """Turn names into ids; padding and what follows the end are left out."""
        vocabulary = self.tokenizer.vocabulary
        ids = np.array([vocabulary.id_of.get(v, -1) if isinstance(v, str) else v for v in values], np.int64)
        if ((ids < 0) | (ids >= len(vocabulary))).any():
            raise _unknown(self.file)
        return _ended(ids, self.tokenizer)


@dataclass(frozen=True)
class EventTrajectories:
    """One file a sample, one row an event; a :class:`primum.models.protocols.Recorded`.

    The columns are those of MEDS and ``prediction_time``, as MEDS_EIC_AR writes and
    MEDS_trajectory_evaluation reads them: the record up to ``prediction_time`` was shown.
    """

    files: tuple[Path, ...]
    tokenizer: Tokenizer

    def recorded(self, tokens: TokenBatch, times: TimeArray) -> Recording:
        """Return how much of each history was shown, and what was written then.

        Of a patient with several prediction times the earliest counts.
        """
        parts = [self._events(file, tokens) for file in self.files]
        predicted = pl.concat(parts).group_by("place").agg(pl.col("prediction_time").min())
        shown = np.zeros(len(tokens), np.int64)
        last = np.full(len(tokens), np.datetime64("NaT"), "datetime64[us]")
        for place, until in zip(predicted["place"], predicted["prediction_time"].to_numpy(), strict=True):
            own = slice(int(tokens.offsets[place]), int(tokens.offsets[place + 1]))
            told = (tokens.event_index[own] >= 0) & (np.isnat(times[own]) | (times[own] <= until))
            if told.any():
                shown[place] = np.flatnonzero(told)[-1] + 1
                last[place] = times[own][shown[place] - 1]
        written: list[list[IntArray]] = [[] for _ in range(len(tokens))]
        for file, part in zip(self.files, parts, strict=True):
            part = part.join(predicted, on=["place", "prediction_time"], how="semi", maintain_order="left")
            part = part.filter(pl.Series(shown > 0).gather(part["place"]))
            for place, ids in self._written(part, last, file):
                written[place].append(ids)
        counts = {len(samples) for samples in written if samples}
        if len(counts) != 1:
            raise ModelError(
                "For the patients asked there are {low} to {high} trajectories after some of the patient's "
                "record: record as many for each, one file a sample.",
                low=min(counts, default=0),
                high=max(counts, default=0),
            )
        return Recording(shown, _batches(tokens, written, counts.pop()))

    def _events(self, file: Path, tokens: TokenBatch) -> pl.DataFrame:
        """Read the events of these patients, by their `place` among them and time."""
        held = pl.read_parquet_schema(file)
        columns = [name for name in EVENT_COLUMNS if name in held]
        ids = tokens.subject_ids
        rows = rows_of(file, columns, subject_ids=ids, gaps=(VALUE,))
        return rows.select(
            pl.col("subject_id")
            .replace_strict(ids, np.arange(len(ids)), return_dtype=pl.Int64)
            .alias("place"),
            pl.col("time", "prediction_time").cast(pl.Datetime("us")),
            "code",
            (pl.col(VALUE) if VALUE in held else pl.lit(None)).cast(pl.Float64).alias(VALUE),
        ).sort("place", "time", maintain_order=True)

    def _written(self, events: pl.DataFrame, last: TimeArray, file: Path) -> Iterator[tuple[int, IntArray]]:
        """Give the tokens of each patient; `last`, shape (patients,), is when the last event shown was."""
        profile, vocabulary = self.tokenizer.profile, self.tokenizer.vocabulary
        token_of = {code: profile.rewritten(code) for code in events["code"].unique()}
        if any(token not in vocabulary.id_of for token in token_of.values()):
            raise _unknown(file)
        began = events.group_by("place", maintain_order=True).agg(pl.col("time").min())
        places, first = began["place"].to_numpy(), began["time"].to_numpy()
        if (first < last[places]).any():
            raise ModelError(
                "{file} has an event before the last one that was shown: write only what the model wrote.",
                file=file.name,
            )
        # The last event shown, by any name: what the first gap is counted from.
        shown = began.select(
            "place",
            pl.Series("time", np.where(np.isnat(last[places]), first, last[places])),
            pl.lit(self._some_code).alias("code"),
            pl.lit(None, pl.Float64).alias(VALUE),
        )
        # Times tell the gaps, whether or not the model's own tokens of them are among the events.
        gaps = [code for code, token in token_of.items() if token in profile.gap_tokens]
        rest = events.filter(~pl.col("code").is_in(gaps)).select(shown.columns)
        batch = self.tokenizer.encode(_histories(pl.concat([shown, rest])))
        for row, place in enumerate(places.tolist()):
            own = slice(int(batch.offsets[row]), int(batch.offsets[row + 1]))
            ids, kinds, after = batch.token_ids[own], batch.kinds[own], batch.event_index[own] > 0
            start = int(np.argmax(after)) if after.any() else len(ids)
            led = 0 < start < len(ids) and kinds[start - 1] == Kind.GAP
            yield place, _ended(ids[start - led :], self.tokenizer)

    @cached_property
    def _some_code(self) -> str:
        profile, vocabulary = self.tokenizer.profile, self.tokenizer.vocabulary
        clinical = np.flatnonzero(self.tokenizer.kinds == Kind.CLINICAL)
        codes = (self.tokenizer.code_of(vocabulary.tokens[token]) for token in clinical)
        return next((code for code in codes if code not in profile.ignored_codes), "")


def _histories(events: pl.DataFrame) -> Histories:
    """Patients by place, each one's events by time; those of one time stay in order."""
    events = events.sort("place", "time", maintain_order=True)
    places, counts = np.unique(events["place"].to_numpy(), return_counts=True)
    codes, code_ids = np.unique(events["code"].to_numpy(), return_inverse=True)
    return Histories(
        places,
        offsets_of(counts),
        tuple(codes.tolist()),
        code_ids,
        events["time"].to_numpy(),
        events[VALUE].fill_null(np.nan).to_numpy(),
    )


def _shown(history: IntArray, prompt: IntArray, begin: int | None) -> int:
    """Tokens of the history that the prompt shows; 0 when it does not begin so. A begin token may lack."""
    lacks = len(history) and history[0] == begin and not (len(prompt) and prompt[0] == begin)
    length = len(prompt) + bool(lacks)
    return length if len(prompt) and np.array_equal(history[bool(lacks) : length], prompt) else 0


def _ended(ids: IntArray, tokenizer: Tokenizer) -> IntArray:
    """Leave out padding and what follows the end."""
    profile, id_of = tokenizer.profile, tokenizer.vocabulary.id_of
    if profile.end is not None:
        ended = np.flatnonzero(ids == id_of[profile.end])
        ids = ids[: ended[0]] if len(ended) else ids
    return ids if profile.pad is None else ids[ids != id_of[profile.pad]]


def _unknown(file: Path) -> ModelError:
    return ModelError(
        "{file} has a token that the vocabulary beside it lacks: record both with one model.", file=file.name
    )


def _batches(tokens: TokenBatch, written: Sequence[Sequence[IntArray]], samples: int) -> list[TokenBatch]:
    return [_batch(tokens, written, sample) for sample in range(samples)]


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

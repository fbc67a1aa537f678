"""What a model answered once, kept in files, is worth what it is worth asked in person."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests import tiny

from primum.audits.privacy.subjects import Subjects
from primum.audits.privacy.trajectory import SAMPLES, TEMPERATURE, _ask, trajectory
from primum.errors import ModelError
from primum.evidence.measured import Measured
from primum.models.causal import CausalModel
from primum.models.doors import open_model
from primum.models.opened import OpenedModel
from primum.models.protocols import Embedder, Generator, Recorded, Sampling, Scorer
from primum.models.recorded import EMBEDDINGS, EVENTS, FILES, SCORES, TRAJECTORIES
from primum.records.attributes import describe
from primum.records.families import families_of
from primum.records.histories import Histories, InMemory
from primum.records.ragged import offsets_of
from primum.records.tokenizer import Tokenizer
from primum.records.tokens import Kind, TokenBatch, event_times

CONTEXT = 128
Rows = Mapping[str, Any]


@pytest.fixture(scope="module")
def people() -> Histories:
    return tiny.cohort(train=60)["train"]


@pytest.fixture(scope="module")
def subjects(people: Histories) -> Subjects:
    tokenizer = tiny.tokenizer_of(InMemory((people,)))
    tokens = tokenizer.encode(people)
    names = tuple(map(tokenizer.code_of, tokenizer.vocabulary.tokens))
    return Subjects(
        rows=np.arange(len(tokens)),
        tokens=tokens,
        is_member=np.arange(len(tokens)) % 2 == 0,
        table=describe(people),
        tokenizer=tokenizer,
        families=families_of(names),
        holders=np.bincount(tokens.token_ids, minlength=len(names)),
        audited=len(tokens),
        context=CONTEXT,
        seed=3,
        times=event_times(tokens, people),
    )


@pytest.fixture(scope="module")
def model(subjects: Subjects) -> CausalModel:
    return tiny.build(vocabulary=len(subjects.tokenizer.vocabulary), context=CONTEXT)


@cache
def answers(model: CausalModel, subjects: Subjects) -> dict[str, Rows]:
    """Record everything that can be recorded."""
    tokens, tokenizer = subjects.tokens, subjects.tokenizer
    asked = _ask(subjects, None)
    end = tokenizer.vocabulary.id_of[str(tokenizer.profile.end)]
    samples = model.continue_from(
        asked.prompts,
        samples=SAMPLES,
        max_tokens=asked.max_tokens,
        sampling=Sampling(temperature=TEMPERATURE, stop=(end,)),
        seed=subjects.seed,
    )
    rows = [
        (int(prompt_of), asked.prompts.tokens_of(row).tolist(), batch.tokens_of(row).tolist(), number)
        for number, batch in enumerate(samples)
        for row, prompt_of in enumerate(asked.prompts.subject_ids)
    ]
    ids, prompts, written, numbers = zip(*rows, strict=True)
    return {
        SCORES: {
            "subject_id": tokens.subject_ids,
            "log_probs": [p.tolist() for p in model.log_probs(tokens)],
        },
        EMBEDDINGS: {"subject_id": tokens.subject_ids, "embedding": model.embed(tokens).tolist()},
        TRAJECTORIES: {
            "patient_id": ids,
            "split": ["train"] * len(ids),
            "event_tokens": prompts,
            "predicted_tokens": written,
            "trajectory": numbers,
        },
    }


def opened(path: Path, tokenizer: Tokenizer, recorded: Mapping[str, Rows]) -> OpenedModel:
    tokenizer.vocabulary.write(path / "vocab.json")
    tokenizer.profile.write(path / "token_profile.json")
    for name, rows in recorded.items():
        pl.DataFrame(rows).write_parquet(path / name)
    return open_model(path)


def test_scores_and_embeddings_are_those_of_the_model(
    tmp_path: Path, model: CausalModel, subjects: Subjects
) -> None:
    door = opened(tmp_path, subjects.tokenizer, answers(model, subjects))
    scorer, answering = door.scorer, door.answering
    assert isinstance(scorer, Scorer) and isinstance(scorer, Embedder)
    some = subjects.tokens.select(np.array([5, 2, 9]))
    for kept, asked in zip(scorer.log_probs(some), model.log_probs(some), strict=True):
        np.testing.assert_allclose(kept, asked, atol=1e-5)
    np.testing.assert_allclose(scorer.embed(some), model.embed(some), atol=1e-5)
    assert isinstance(answering, Recorded)
    assert not isinstance(answering, Generator | Scorer)
    assert door.ref.identity == "declared"
    assert set(door.ref.files) == {"vocab.json", "token_profile.json", *FILES}


def as_names(rows: dict[str, Any], tokenizer: Tokenizer) -> None:
    for column in ("event_tokens", "predicted_tokens"):
        rows[column] = [[tokenizer.vocabulary.tokens[token] for token in tokens] for tokens in rows[column]]


def with_prompt(rows: dict[str, Any], tokenizer: Tokenizer) -> None:
    pairs = zip(rows["event_tokens"], rows["predicted_tokens"], strict=True)
    rows["predicted_tokens"] = [prompt + written for prompt, written in pairs]


def padded(rows: dict[str, Any], tokenizer: Tokenizer) -> None:
    pad = tokenizer.vocabulary.id_of[str(tokenizer.profile.pad)]
    end = tokenizer.vocabulary.id_of[str(tokenizer.profile.end)]
    rows["predicted_tokens"] = [[*written, end, pad, pad] for written in rows["predicted_tokens"]]


def without_begin(rows: dict[str, Any], tokenizer: Tokenizer) -> None:
    rows["event_tokens"] = [prompt[1:] for prompt in rows["event_tokens"]]


@pytest.mark.parametrize("written", [None, as_names, with_prompt, padded, without_begin])
def test_kept_trajectories_are_scored_like_fresh_ones(
    tmp_path: Path,
    model: CausalModel,
    subjects: Subjects,
    written: Callable[[dict[str, Any], Tokenizer], None] | None,
) -> None:
    rows = dict(answers(model, subjects)[TRAJECTORIES])
    if written:
        written(rows, subjects.tokenizer)
    door = opened(tmp_path, subjects.tokenizer, {TRAJECTORIES: rows})
    kept, fresh = (trajectory(one, (), subjects) for one in (door.answering, model))
    for test in ("trajectory.codes", "trajectory.verbatim", "trajectory.distance"):
        np.testing.assert_array_equal(kept.scores[test], fresh.scores[test])
    assert kept.settings["samples"] == SAMPLES
    assert kept.settings["known_events"] == 10
    assert kept.refused["trajectory.likelihood"].parameters == {"protocol": "Scorer"}


def test_prompts_of_another_length_are_told_by_the_recording(
    tmp_path: Path, model: CausalModel, subjects: Subjects
) -> None:
    """Sixteen tokens of the record instead of ten events; a patient without a recording is not asked."""
    tokens = subjects.tokens
    chosen = np.flatnonzero(tokens.lengths > 40)[1:]
    rows = [(int(tokens.subject_ids[row]), tokens.tokens_of(row)[:16].tolist()) for row in chosen]
    kept = {
        "patient_id": [subject for subject, _ in rows],
        "event_tokens": [prompt for _, prompt in rows],
        "predicted_tokens": [tokens.tokens_of(row)[16:].tolist() for row in chosen],
    }
    measured: Measured = trajectory(
        opened(tmp_path, subjects.tokenizer, {TRAJECTORIES: kept}).answering, (), subjects
    )
    codes = measured.scores["trajectory.codes"]
    assert set(np.flatnonzero(~np.isnan(codes))) <= set(chosen.tolist())
    # Who writes the truth recovers all of it.
    assert np.nanmin(codes) == 1
    assert measured.settings["samples"] == 1


def until(people: Histories, *, row: int, time: np.datetime64) -> Histories:
    """The record of one patient at or before a time."""
    one = people.select(np.array([row]))
    keep = np.isnat(one.times) | (one.times <= time)
    return Histories(
        one.subject_ids,
        offsets_of(np.array([keep.sum()])),
        one.codes,
        one.code_ids[keep],
        one.times[keep],
        one.values[keep],
    )


def as_events(
    ids: list[int], tokenizer: Tokenizer, time: np.datetime64
) -> tuple[list[int], list[dict[str, Any]]]:
    """Read codes and gaps one by one: what of them events can say, with values, as tokens and as events."""
    profile, names = tokenizer.profile, tokenizer.vocabulary.tokens
    said: list[int] = []
    rows: list[dict[str, Any]] = []
    gap: int | None = None
    for token in ids:
        name = names[token]
        if name in profile.gap_tokens:
            gap = token
        elif tokenizer.kinds[token] == Kind.CLINICAL:
            if gap is not None:
                days = profile.gap_edges_days[profile.gap_tokens.index(names[gap])]
                time = time + np.timedelta64(round(days * 86_400_000_000), "us")
                # Some write their gaps as events too.
                rows.append({"time": time.item(), "code": names[gap], "numeric_value": days})
                said.append(gap)
            code = tokenizer.code_of(name)
            rows.append({"time": time.item(), "code": code, "numeric_value": None})
            said.append(token)
            gap = None
            if edges := profile.value_edges.get(code, ()):
                # An untrained model seldom writes a value where one belongs.
                place = len(said) % (len(edges) + 1)
                rows[-1]["numeric_value"] = edges[place - 1] if place else edges[0] - 1
                said.append(tokenizer.vocabulary.id_of[profile.value_tokens[place]])
    ending = {"time": time.item(), "code": profile.end, "numeric_value": None}
    return said, [*rows, ending, {**ending, "code": tokenizer.code_of(names[-1])}]


@pytest.fixture(scope="module")
def both_forms(
    model: CausalModel, subjects: Subjects, people: Histories
) -> tuple[dict[str, list[Any]], list[pl.DataFrame]]:
    """Two samples of every other patient, as trajectories of tokens and as two files of events."""
    tokenizer = subjects.tokenizer
    asked, begun, ends = range(0, len(people), 2), [], []
    for row in asked:
        timed = people.times[people.offsets[row] : people.offsets[row + 1]]
        timed = timed[~np.isnat(timed)]
        time = timed[1 + len(timed) // 5] + np.timedelta64(row % 3, "h")
        ends.append((timed[timed <= time].max(), time))
        begun.append(tokenizer.encode(until(people, row=row, time=time)).tokens_of(0)[:-1])
    offsets = offsets_of(np.array([len(one) for one in begun]))
    ids = np.concatenate(begun)
    nothing = np.zeros(len(ids), np.int64)
    size = len(tokenizer.vocabulary)
    prompts = TokenBatch(people.subject_ids[asked], offsets, ids, nothing.astype(np.uint8), nothing, size)
    tokens: dict[str, list[Any]] = {"patient_id": [], "event_tokens": [], "predicted_tokens": []}
    files = []
    for sample in model.continue_from(prompts, samples=2, max_tokens=30, sampling=Sampling(), seed=1):
        file: list[dict[str, Any]] = []
        for place, (last, time) in enumerate(ends):
            said, rows = as_events(sample.tokens_of(place).tolist(), tokenizer, last)
            subject = int(prompts.subject_ids[place])
            file += [{"subject_id": subject, "prediction_time": time.item(), **one} for one in rows]
            # A later question about the same patient is left alone.
            late = (time + np.timedelta64(400, "D")).item()
            again = {"subject_id": subject, "prediction_time": late, **rows[-1], "time": late}
            file += [again] * (place % 4)
            for column, value in zip(tokens, (subject, begun[place].tolist(), said), strict=True):
                tokens[column].append(value)
        files.append(pl.DataFrame(file, schema_overrides={"numeric_value": pl.Float64}))
    return tokens, files


def opened_events(path: Path, tokenizer: Tokenizer, files: list[pl.DataFrame]) -> OpenedModel:
    for number, file in enumerate(files):
        (path / EVENTS / "held_out").mkdir(parents=True, exist_ok=True)
        file.write_parquet(path / EVENTS / "held_out" / f"{number}.parquet")
    return opened(path, tokenizer, {})


def test_generated_events_are_the_same_as_their_tokens(
    tmp_path: Path, subjects: Subjects, both_forms: tuple[dict[str, list[Any]], list[pl.DataFrame]]
) -> None:
    (tmp_path / "tokens").mkdir()
    tokens = opened(tmp_path / "tokens", subjects.tokenizer, {TRAJECTORIES: both_forms[0]}).answering
    door = opened_events(tmp_path / "events", subjects.tokenizer, both_forms[1])
    assert set(door.ref.files) >= {"trajectories/held_out/0.parquet", "trajectories/held_out/1.parquet"}
    events = door.answering
    assert isinstance(tokens, Recorded) and isinstance(events, Recorded)
    one, other = (each.recorded(subjects.tokens, subjects.times) for each in (tokens, events))
    np.testing.assert_array_equal(one.shown, other.shown)
    assert (one.shown > 0).sum() == len(subjects) / 2
    for kept, read in zip(one.samples, other.samples, strict=True):
        np.testing.assert_array_equal(kept.offsets, read.offsets)
        np.testing.assert_array_equal(kept.token_ids, read.token_ids)
    kinds = subjects.tokenizer.kinds[other.samples[0].token_ids]
    assert {Kind.CLINICAL, Kind.GAP, Kind.VALUE} == set(kinds.tolist())
    first, second = (trajectory(each, (), subjects) for each in (tokens, events))
    for test in ("trajectory.codes", "trajectory.verbatim", "trajectory.distance"):
        assert np.isfinite(first.scores[test]).sum() > 5
        np.testing.assert_array_equal(first.scores[test], second.scores[test])
    assert first.settings == second.settings


def test_a_wrong_time_of_prediction_shows_another_record(
    tmp_path: Path, subjects: Subjects, both_forms: tuple[dict[str, list[Any]], list[pl.DataFrame]]
) -> None:
    """Before any event only who the patient is was shown."""
    early = [file.with_columns(prediction_time=pl.datetime(1800, 1, 1)) for file in both_forms[1]]
    events = opened_events(tmp_path / "events", subjects.tokenizer, early).answering
    assert isinstance(events, Recorded)
    shown = events.recorded(subjects.tokens, subjects.times).shown
    assert 0 < shown.max() < subjects.anatomy.header.max()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (pl.col("subject_id") + 10**6, "0 to 0 trajectories"),
        (pl.col("prediction_time").cast(pl.String), "no column prediction_time of timestamp"),
        (pl.col("time").dt.replace_time_zone("UTC"), "no column time of timestamp"),
        (pl.col("code").str.len_bytes(), "no column code of string"),
        (pl.col("numeric_value").cast(pl.String), "no column numeric_value of double"),
        (pl.lit(None, pl.Datetime("us")).alias("time"), "empty cell"),
        (pl.lit("?").alias("code"), "vocabulary beside it lacks"),
        (pl.col("time") - pl.duration(days=40_000), "before the last one that was shown"),
    ],
)
def test_events_that_cannot_be_used_are_refused(
    tmp_path: Path,
    subjects: Subjects,
    both_forms: tuple[dict[str, list[Any]], list[pl.DataFrame]],
    change: pl.Expr,
    says: str,
) -> None:
    with pytest.raises(ModelError, match=says) as error:
        files = [file.with_columns(change) for file in both_forms[1]]
        trajectory(opened_events(tmp_path / "events", subjects.tokenizer, files).answering, (), subjects)
    assert "\n" not in str(error.value)


def test_a_patient_in_fewer_files_is_refused(
    tmp_path: Path, subjects: Subjects, both_forms: tuple[dict[str, list[Any]], list[pl.DataFrame]]
) -> None:
    files = both_forms[1]
    fewer = [files[0], files[1].filter(pl.col("subject_id") > pl.col("subject_id").min())]
    answering = opened_events(tmp_path / "events", subjects.tokenizer, fewer).answering
    with pytest.raises(ModelError, match="1 to 2 trajectories"):
        trajectory(answering, (), subjects)


def test_trajectories_in_both_forms_are_refused(
    tmp_path: Path, subjects: Subjects, both_forms: tuple[dict[str, list[Any]], list[pl.DataFrame]]
) -> None:
    opened(tmp_path, subjects.tokenizer, {TRAJECTORIES: both_forms[0]})
    with pytest.raises(ModelError, match="keep one"):
        opened_events(tmp_path, subjects.tokenizer, both_forms[1])


def broken(rows: dict[str, Rows], file: str, column: str, value: object) -> dict[str, Rows]:
    return {file: {**rows[file], column: value}}


@pytest.mark.parametrize(
    ("file", "column", "change", "says"),
    [
        (SCORES, "log_probs", lambda v: [row[:-1] for row in v], "one for each but the first"),
        (SCORES, "log_probs", lambda v: [[0.5 for _ in row] for row in v], "above 0"),
        (SCORES, "log_probs", lambda v: [[float("nan") for _ in row] for row in v], "not a number"),
        (SCORES, "log_probs", lambda v: [[None, *row[1:]] for row in v], "empty cell"),
        (SCORES, "log_probs", lambda v: [0.5 for _ in v], "no column log_probs"),
        (SCORES, "subject_id", lambda v: [v[0] for _ in v], "one row for each"),
        (EMBEDDINGS, "embedding", lambda v: [row[: 3 + place % 2] for place, row in enumerate(v)], "3 to 4"),
        (TRAJECTORIES, "event_tokens", lambda v: [[7] for _ in v], "0 to 0 trajectories"),
        (TRAJECTORIES, "predicted_tokens", lambda v: [[10**6] for _ in v], "vocabulary beside it lacks"),
        (TRAJECTORIES, "predicted_tokens", lambda v: [["?"] for _ in v], "vocabulary beside it lacks"),
    ],
)
def test_answers_that_cannot_be_used_are_refused(
    tmp_path: Path,
    model: CausalModel,
    subjects: Subjects,
    file: str,
    column: str,
    change: Callable[[Any], Any],
    says: str,
) -> None:
    rows = answers(model, subjects)
    kept = broken(rows, file, column, change(list(rows[file][column])))
    with pytest.raises(ModelError, match=says) as error:
        door = opened(tmp_path, subjects.tokenizer, kept)
        if isinstance(door.scorer, Scorer):
            door.scorer.log_probs(subjects.tokens)
        if isinstance(door.scorer, Embedder):
            door.scorer.embed(subjects.tokens)
        trajectory(door.answering, (), subjects)
    assert file in str(error.value)
    assert not any(str(subject) in str(error.value) for subject in subjects.tokens.subject_ids if subject > 9)


@pytest.mark.parametrize("cut", [0, 10, 200])
def test_a_cut_file_is_refused(tmp_path: Path, model: CausalModel, subjects: Subjects, cut: int) -> None:
    opened(tmp_path, subjects.tokenizer, {SCORES: answers(model, subjects)[SCORES]})
    file = tmp_path / SCORES
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(ModelError, match="not a parquet file"):
        open_model(tmp_path)

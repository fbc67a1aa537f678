"""What a model answered once, kept in files, is worth what it is worth asked in person."""

from collections.abc import Callable, Mapping
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
from primum.models.recorded import EMBEDDINGS, FILES, SCORES, TRAJECTORIES
from primum.records.attributes import describe
from primum.records.families import families_of
from primum.records.histories import InMemory
from primum.records.tokenizer import Tokenizer

CONTEXT = 128
Rows = Mapping[str, Any]


@pytest.fixture(scope="module")
def subjects() -> Subjects:
    people = tiny.cohort(train=60)["train"]
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
    )


@pytest.fixture(scope="module")
def model(subjects: Subjects) -> CausalModel:
    return tiny.build(vocabulary=len(subjects.tokenizer.vocabulary), context=CONTEXT)


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

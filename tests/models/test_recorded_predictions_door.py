"""Recorded predictions and score matrices: what is in them, and what must not be."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from primum.errors import ModelError
from primum.models.classifier_doors import is_classifier, open_classifier
from primum.models.recorded_predictions import read_score_matrix
from primum.records.cases import Cases

IDS = np.array([7, 2, 5])
ROWS = np.array([[0.5, 0.5], [0.25, 0.75], [1.0, 0.0]])


def about(ids: Any) -> Cases:
    """Cases with inputs that no recording ever looks at."""
    places = np.asarray(ids, np.int64)
    return Cases(places, places, np.full((len(places), 2), "never read"), np.zeros_like(places))


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_rows_are_found_by_case(tmp_path: Path, form: str) -> None:
    table = pl.DataFrame({"well": ROWS[:, 0], "case_id": IDS, "ill": ROWS[:, 1]})
    getattr(table, f"write_{form}")(tmp_path / f"predictions.{form}")
    opened = open_classifier(tmp_path)
    assert is_classifier(tmp_path)
    assert (opened.predictor.classes, opened.ref.identity, opened.parameters) == (
        ("well", "ill"),
        "declared",
        0,
    )
    assert opened.predictor.logits(about(IDS)) is None
    assert opened.predictor.predict_proba(about([5, 7, 5])).tolist() == [[1, 0], [0.5, 0.5], [1, 0]]
    for ids, missing in (([5, 6], 1), ([0, 8], 2)):
        with pytest.raises(ModelError, match=f"no row for {missing} of 2 cases"):
            opened.predictor.predict_proba(about(ids))


def test_logits_go_before_probabilities(tmp_path: Path) -> None:
    (tmp_path / "predictions.csv").write_text("case_id,logit_well,logit_ill,well,ill\n0,-800,800,0,1\n")
    model = open_classifier(tmp_path).predictor
    assert model.classes == ("well", "ill")
    logits = model.logits(about([0]))
    assert logits is not None
    assert logits.tolist() == [[-800, 800]]


def test_the_card_names_the_columns(tmp_path: Path) -> None:
    (tmp_path / "predictions.csv").write_text("case_id,split,ill,well\n0,train,0.25,0.75\n")
    with pytest.raises(ModelError, match=r"row 0, column split: no number: .* classifier\.toml"):
        open_classifier(tmp_path)
    (tmp_path / "classifier.toml").write_text('classes = ["well", "ill"]')
    assert open_classifier(tmp_path).predictor.predict_proba(about([0])).tolist() == [[0.75, 0.25]]
    (tmp_path / "classifier.toml").write_text('classes = ["well", "dead"]')
    with pytest.raises(ModelError, match="has no column dead"):
        open_classifier(tmp_path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("case_id,a,b\n0,1,0\n0,1,0\n", "has a case twice"),
        ("case,a,b\n0,1,0\n", "has no column case_id"),
        ("case_id,a\n0,1\n", "two classes or more"),
        ("case_id,a,b\n0,1,0\n1,,1\n", "row 1, column a: no number"),
        ("case_id,a,b\n0,1,0\n1,0,nan\n", "row 1, column b: no number"),
        ("case_id,a,b\n0,1,inf\n", "row 0, column b: no number"),
        ("case_id,a,b\n0,1,PATIENT\n", "row 0, column b: no number"),
        ("case_id,a,b\n0.5,1,0\n", "row 0, column case_id: no number"),
        ("case_id,a,b\n99999999999999999999,1,0\n", "row 0, column case_id: no number"),
        ("", "truncated or not a table"),
        ("case_id,a,b\n0,1,0,3,4\n", "truncated or not a table"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "predictions.csv").write_text(text)
    with pytest.raises(ModelError, match=sentence) as caught:
        open_classifier(tmp_path)
    assert "PATIENT" not in str(caught.value)


def test_parquet_that_cannot_be_used(tmp_path: Path) -> None:
    file = tmp_path / "predictions.parquet"
    for content in (b"", b"PAR1" * 20):
        file.write_bytes(content)
        with pytest.raises(ModelError, match="truncated or not a table"):
            open_classifier(tmp_path)
    wrong: list[tuple[str, Any]] = [("case_id", [0.5]), ("a", [[1.0]]), ("a", [None]), ("a", [True])]
    for column, values in wrong:
        table: dict[str, Any] = {"case_id": [0], "a": [0.5], "b": [0.5]}
        pl.DataFrame({**table, column: values}).write_parquet(file)
        with pytest.raises(ModelError, match=f"row 0, column {column}: no number"):
            open_classifier(tmp_path)
    pl.DataFrame({"case_id": np.zeros(1 << 22, int), "a": 0.5, "b": 0.5}).write_parquet(file)
    with pytest.raises(ModelError, match="unpacks to more than"):
        open_classifier(tmp_path)
    (tmp_path / "predictions.csv").write_text("")
    with pytest.raises(ModelError, match="one of them"):
        open_classifier(tmp_path)


def test_rows_that_are_no_probabilities(tmp_path: Path) -> None:
    (tmp_path / "predictions.csv").write_text("case_id,a,b\n0,0.5,0.6\n")
    with pytest.raises(ModelError, match="no probabilities"):
        open_classifier(tmp_path).predictor.predict_proba(about([0]))


def matrix(folder: Path, **arrays: Any) -> None:
    random = np.random.default_rng(0)
    whole: dict[str, Any] = {"scores": random.normal(size=(4, 6)), "inside": random.random((4, 6)) < 0.5}
    whole |= arrays
    np.savez(folder / "score_matrix.npz", **{name: one for name, one in whole.items() if one is not None})


def test_a_score_matrix(tmp_path: Path) -> None:
    scores = np.arange(24, dtype=np.float32).reshape(4, 6)
    matrix(tmp_path, scores=scores, subject_id=np.arange(6) // 2, label=np.arange(6) % 2, target=2)
    found = read_score_matrix(tmp_path)
    assert (found.target, found.has_patients, found.ref.identity) == (2, True, "declared")
    assert found.matrix.scores.dtype == np.float64
    np.testing.assert_array_equal(found.matrix.scores, scores)
    np.testing.assert_array_equal(found.subject_ids, [0, 0, 1, 1, 2, 2])
    assert found.labels is not None
    matrix(tmp_path)
    bare = read_score_matrix(tmp_path)
    assert (bare.target, bare.has_patients, bare.labels) == (0, False, None)
    np.testing.assert_array_equal(bare.subject_ids, np.arange(6))
    assert is_classifier(tmp_path)
    with pytest.raises(ModelError, match="scores of many models and no predictions"):
        open_classifier(tmp_path)


@pytest.mark.parametrize(
    ("arrays", "name"),
    [
        ({"scores": None}, "scores, inside"),
        ({"inside": np.ones((4, 5), bool)}, "scores, inside"),
        ({"inside": np.ones((4, 6))}, "inside"),
        ({"scores": np.full((4, 6), np.nan)}, "scores"),
        ({"scores": np.full((4, 6), "1")}, "scores"),
        ({"scores": np.array([[object()] * 6] * 4, object)}, "scores"),
        ({"target": 4}, "target"),
        ({"target": -1}, "target"),
        ({"target": np.array([0])}, "target"),
        ({"subject_id": np.arange(5)}, "subject_id"),
        ({"label": np.zeros(6)}, "label"),
    ],
)
def test_score_matrices_that_cannot_be_used(tmp_path: Path, arrays: dict[str, Any], name: str) -> None:
    matrix(tmp_path, **arrays)
    with pytest.raises(ModelError, match=f"array {name}: missing, cut"):
        read_score_matrix(tmp_path)


def declaring(shape: str, size: int) -> bytes:
    """Write an array of `size` bytes whose header declares another shape."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (64 - (10 + len(header) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(size)


@pytest.mark.parametrize(
    "shape", [f"({1 << 20}, {1 << 40})", "(4, 7)", "(4, 5)", "(-1, 6)", "3", "(", "(4.0, 6)"]
)
def test_headers_that_declare_something_else(tmp_path: Path, shape: str) -> None:
    with zipfile.ZipFile(tmp_path / "score_matrix.npz", "w") as archive:
        archive.writestr("scores.npy", declaring(shape, 4 * 6 * 8))
    with pytest.raises(ModelError, match="array scores: missing, cut"):
        read_score_matrix(tmp_path)


def test_a_matrix_that_fills_the_memory(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "score_matrix.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("scores.npy", bytes((1 << 28) + 1))
    with pytest.raises(ModelError, match="unpacks to more than"):
        read_score_matrix(tmp_path)


def test_mutated_matrices_give_one_sentence(tmp_path: Path) -> None:
    matrix(tmp_path)
    file, random = tmp_path / "score_matrix.npz", np.random.default_rng(0)
    whole, refused = file.read_bytes(), 0
    for _ in range(300):
        content = np.frombuffer(whole, np.uint8).copy()
        content[random.integers(0, len(content), 3)] = random.integers(0, 256, 3)
        file.write_bytes(content[: random.integers(1, len(content) + 200)].tobytes())
        try:
            read_score_matrix(tmp_path)
        except ModelError:
            refused += 1
    assert refused > 200

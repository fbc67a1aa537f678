import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from primum.errors import InputError
from primum.records.case_folder import open_cases
from primum.records.case_writer import write_cases
from primum.records.cases import ATTRIBUTES, Cases, join_cases
from primum.records.synthetic_cases import (
    SYNTHETIC_CASES,
    BagSettings,
    CaseSettings,
    ImageSettings,
    SequenceSettings,
    split_patients,
    synthetic_bags,
    synthetic_images,
    synthetic_sequences,
    synthetic_table,
    table_schema,
)
from primum.records.synthetic_cases.marginals import marginals_table

KINDS = tuple(SYNTHETIC_CASES)
FIRST = {"image": ImageSettings(), "bag": BagSettings(), "sequence": SequenceSettings()}
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "synthetic_cases.md"


def draw(kind: str, patients: int, *, seed: int = 0, difficulty: float = 1.0) -> Cases:
    settings = replace(FIRST.get(kind, CaseSettings()), difficulty=difficulty)
    return SYNTHETIC_CASES[kind][0](patients, seed=seed, settings=settings)


def same(first: Any, second: Any) -> bool:
    return len(first) == len(second) and all(
        np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == "f")
        for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_patient_is_the_same_whatever_the_number(kind: str) -> None:
    few, many = draw(kind, 70), draw(kind, 150)
    part = many.select(np.flatnonzero(many.subject_ids <= 70))
    assert same(few.inputs, part.inputs)
    assert few.case_ids.tolist() == list(range(len(few)))
    for name in ("subject_ids", "labels", "case_ids"):
        np.testing.assert_array_equal(getattr(few, name), getattr(part, name))
    for name, values in few.attributes.items():
        np.testing.assert_array_equal(values, part.attributes[name])
    assert np.unique(many.subject_ids).tolist() == list(range(1, 151))
    other = draw(kind, 70, seed=1)
    assert not same(few.inputs, other.inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_the_label_is_never_wrong_and_difficulty_changes_the_ill_alone(kind: str) -> None:
    plain, harder = draw(kind, 64), draw(kind, 64, difficulty=3)
    np.testing.assert_array_equal(plain.labels, harder.labels)
    changed = np.array([not same([a], [b]) for a, b in zip(plain.inputs, harder.inputs, strict=True)])
    assert not changed[plain.labels == 0].any()
    assert changed[plain.labels == 1].mean() > 0.9


def test_opacities_are_graded() -> None:
    plain, none = draw("image", 200), draw("image", 200, difficulty=1e9)
    seen = np.abs(np.asarray(plain.inputs, float) - none.inputs).mean((1, 2, 3))[plain.labels == 1]
    low, high = np.percentile(seen, [10, 90])
    assert seen.min() > 0 and high > 2.5 * low


@pytest.mark.parametrize("kind", ["image", "volume", "signal", "table", "sequence"])
def test_two_visits_of_one_patient_are_more_alike_than_of_two(kind: str) -> None:
    """The nearest other case of a case is the same patient's ten times as often as by chance."""
    cases = draw(kind, 130)
    if kind == "signal":  # beats do not begin together: compare what they look like on average
        flat = np.abs(np.fft.rfft(cases.inputs, axis=2)).reshape(len(cases), -1)
    elif kind == "sequence":
        reference = np.median(np.asarray(cases.inputs), axis=0)
        flat = (np.asarray(cases.inputs) != reference).astype(float)
    else:
        flat = np.nan_to_num(np.asarray(cases.inputs, float).reshape(len(cases), -1), nan=0.0)
        flat = flat[:, 1:17] if kind == "table" else flat  # what is measured
        flat = (flat - flat.mean(0)) / (flat.std(0) + 1e-9)
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    alike = unit @ unit.T
    np.fill_diagonal(alike, -np.inf)
    others = np.bincount(cases.subject_ids)[cases.subject_ids] - 1
    hits = (cases.subject_ids[alike.argmax(1)] == cases.subject_ids)[others > 0].mean()
    assert hits > 10 * others[others > 0].mean() / len(cases)


def test_first_and_later_patients_cannot_be_told_apart() -> None:
    cases = draw("image", 1_500)
    thumbnails = np.asarray(cases.inputs, float).reshape(-1, 7, 4, 7, 4).mean((2, 4)).reshape(-1, 49)
    late = cases.subject_ids > 750
    half = cases.subject_ids % 2 == 0
    model = LogisticRegression(C=0.01, max_iter=300).fit(thumbnails[half] / 50, late[half])
    score = model.decision_function(thumbnails[~half] / 50)
    assert abs(roc_auc_score(late[~half], score) - 0.5) < 0.05


def test_attributes_are_those_of_a_hospital() -> None:
    cases = draw("table", 500)
    known = cases.attributes
    assert set(known) == set(ATTRIBUTES) - {"ethnicity"}
    assert known["age"].dtype == np.float64 and known["date"].dtype == np.dtype("datetime64[D]")
    assert (known["age"] >= 18).all() and (known["age"] <= 110).all()
    again = np.diff(cases.subject_ids) == 0
    assert (np.diff(known["date"])[again] > np.timedelta64(0, "D")).all()
    assert (np.diff(known["age"])[again] >= 0).all()
    for name in ("sex", "skin_type", "site"):
        assert (known[name][1:] == known[name][:-1])[again].all()
    for name, number in (("device", 2), ("practitioner", 4)):
        places = {(one, site) for one, site in zip(known[name], known["site"], strict=True)}
        assert len(places) == len(set(known[name])) == 3 * number
    assert set(np.bincount(cases.subject_ids)[1:]) == {1, 2, 3, 4}
    assert 0.4 < cases.labels.mean() < 0.6


def test_site_and_device_show_in_the_image() -> None:
    cases = draw("image", 600, difficulty=1e9)
    corner = np.asarray(cases.inputs, float)[:, 0, :2, :2].std((1, 2))
    noise = {name: corner[cases.attributes["device"] == name].mean() for name in ("D1", "D5")}
    assert noise["D5"] > 1.2 * noise["D1"]
    bright = np.asarray(cases.inputs, float)[:, 0, 10:20, 13:15].mean((1, 2))
    assert bright[cases.attributes["site"] == "C"].mean() < bright[cases.attributes["site"] == "A"].mean() - 5


@pytest.mark.parametrize("size", [8, 28, 64])
def test_images_of_any_size(size: int) -> None:
    cases = synthetic_images(5, seed=0, settings=ImageSettings(size=size))
    assert np.asarray(cases.inputs).shape[1:] == (1, size, size) and cases.inputs[0].dtype == np.uint8
    np.testing.assert_array_equal(cases.labels, draw("image", 5).labels)


def test_two_thousand_images_in_two_seconds() -> None:
    began = time.process_time()
    assert len(draw("image", 1_000)) > 1_900
    assert time.process_time() - began < 2


def test_a_motif_is_there_when_the_label_says_so() -> None:
    cases = draw("sequence", 64)
    copies = np.array([one.tobytes().count(b"GATTACAGGCAT") for one in cases.inputs])
    assert (copies[cases.labels == 0] == 0).mean() > 0.99 and (copies[cases.labels == 1] > 0).all()
    assert np.unique(np.asarray(cases.inputs)).tolist() == sorted(b"ACGT")
    assert np.asarray(cases.inputs).shape[1] == 10_000
    assert len(draw("sequence", 3).inputs[0]) == 10_000
    assert synthetic_sequences(2, seed=0, settings=SequenceSettings(letters=300)).inputs[0].shape == (300,)


def test_bags_have_as_many_tiles_as_asked() -> None:
    cases = synthetic_bags(80, seed=0, settings=BagSettings(fewest=2, most=5))
    assert isinstance(cases.inputs, tuple)
    assert {len(bag) for bag in cases.inputs} == {2, 3, 4, 5}
    assert {bag.shape[1:] for bag in cases.inputs} == {(1, 16, 16)}


def test_splits_share_no_patient() -> None:
    cases = draw("table", 60)
    splits = split_patients(cases, {"train": 30, "tuning": 10, "held_out": 20})
    assert [len(np.unique(part.subject_ids)) for part in splits.values()] == [30, 10, 20]
    assert same(join_cases(list(splits.values())).inputs, cases.inputs)
    assert len(split_patients(cases, {"train": 5})["train"]) == (cases.subject_ids <= 5).sum()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read(kind: str, tmp_path: Path) -> None:
    splits = split_patients(draw(kind, 30), {"train": 15, "tuning": 5, "held_out": 10})
    classes = SYNTHETIC_CASES[kind][1]
    write_cases(tmp_path / "cases", splits, classes, schema=table_schema() if kind == "table" else None)
    opened = open_cases(tmp_path / "cases")
    assert (opened.kind, opened.classes, opened.has_patients) == (kind, classes, True)
    assert set(opened.splits()) == set(splits)
    for name, written in splits.items():
        read = join_cases(list(opened.split(name).shards()))
        assert same(read.inputs, written.inputs) and read.inputs[0].dtype == written.inputs[0].dtype
        for column in ("subject_ids", "labels", "case_ids"):
            np.testing.assert_array_equal(getattr(read, column), getattr(written, column))
        assert set(read.attributes) == set(written.attributes)
        for column, values in written.attributes.items():
            np.testing.assert_array_equal(read.attributes[column], values)


def test_the_sensitive_answer_is_declared(tmp_path: Path) -> None:
    write_cases(tmp_path, {"train": draw("table", 5)}, SYNTHETIC_CASES["table"][1], schema=table_schema())
    features = open_cases(tmp_path).features
    assert [one.name for one in features if one.sensitive] == ["substance_use"]
    assert (
        len(features) == 25
        and features[-1].first + 1 == np.asarray(synthetic_table(1, seed=0).inputs).shape[1]
    )


def test_unknown_attributes_are_written_as_empty_cells(tmp_path: Path) -> None:
    cases = draw("image", 3)
    age, date = cases.attributes["age"].copy(), cases.attributes["date"].copy()
    age[0], date[1] = np.nan, np.datetime64("NaT")
    write_cases(tmp_path, {"train": replace(cases, attributes={"age": age, "date": date})}, ("a", "b"))
    read = join_cases(list(open_cases(tmp_path).split("train").shards())).attributes
    assert np.isnan(read["age"]).tolist() == [True] + [False] * (len(cases) - 1)
    assert np.isnat(read["date"]).tolist() == [False, True] + [False] * (len(cases) - 2)


def test_the_documented_table_is_what_the_command_prints() -> None:
    assert marginals_table(seed=0) in DOCUMENTATION.read_text("utf-8")


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (lambda: draw("image", 0), "at least one patient"),
        (lambda: draw("image", 1, seed=-1), "seed of 0 or more"),
        (lambda: CaseSettings(difficulty=0), "difficulty must be above 0; it is 0"),
        (lambda: ImageSettings(size=7), "8 pixels a side"),
        (lambda: BagSettings(fewest=0), "at least one tile"),
        (lambda: BagSettings(fewest=9, most=8), "at least one tile"),
        (lambda: SequenceSettings(letters=100), "200 letters"),
        (lambda: split_patients(draw("table", 5), {"train": 6}), "ask for 6 patients, and there are 5"),
        (lambda: write_cases(Path(__file__).parent, {}, ()), "is not empty"),
    ],
)
def test_bad_settings_are_refused_in_a_sentence(bad: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=re.escape(sentence)):
        bad()

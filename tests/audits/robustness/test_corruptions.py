"""Corruptions: of the type and range of the data, growing with severity, the same for the same seed."""

import numpy as np
import pytest

from primum.audits.privacy.label_only import Kind
from primum.audits.robustness.corruptions import LEVELS, Surroundings, corrupt
from primum.audits.robustness.room import Room
from primum.evidence.robustness_answers import CORRUPTIONS
from primum.records.case_files.table import Feature
from primum.records.cases import Cases
from primum.records.synthetic_cases import SYNTHETIC_CASES

FEATURES = (
    Feature("age", "number", 0, missing=True),
    Feature("ill", "boolean", 1),
    Feature("site", "category", 2, 3, ("a", "b", "c"), missing=True),
)


def rows() -> Cases:
    rng = np.random.default_rng(0)
    values = np.column_stack(
        [rng.integers(20, 90, 60), rng.integers(0, 2, 60), np.eye(3)[rng.integers(0, 3, 60)]]
    ).astype(np.float64)
    return Cases(np.arange(60), np.arange(60), values, np.zeros(60, np.int64))


def given(kind: Kind) -> tuple[Cases, Surroundings]:
    cases = rows() if kind == "table" else SYNTHETIC_CASES[kind][0](12, seed=1)
    first = cases.inputs[0]
    if kind == "table":
        room = Room(np.min(cases.inputs, axis=0), np.max(cases.inputs, axis=0), np.arange(5) == 0)
        return cases, Surroundings(kind, room, np.ones(5, np.bool_), FEATURES, np.empty(0))
    if kind == "signal":
        room = Room(np.array(-3.0), np.array(3.0), np.array(True))
    else:
        room = Room(np.array(0.0), np.array(255.0), np.array(True))
    letters = np.unique(np.concatenate(list(cases.inputs))) if kind == "sequence" else np.empty(0)
    return cases, Surroundings(kind, room, np.zeros(first.shape[-1], np.bool_), (), letters)


def distance(made: Cases, cases: Cases, *, counted: bool) -> float:
    """Sum over cases of how many values changed, or by how much."""
    total = 0.0
    for one, old in zip(made.inputs, cases.inputs, strict=True):
        total += float((one != old).mean() if counted else np.abs(one.astype(np.float64) - old).mean())
    return total


@pytest.mark.parametrize("kind", ["image", "volume", "signal", "table", "bag", "sequence"])
def test_worse_with_severity_and_still_what_records_hold(kind: Kind) -> None:
    cases, around = given(kind)
    assert len(around.corruptions()) >= 2
    for corruption in around.corruptions():
        moved: list[float] = []
        for severity in (1, 3, 5):
            made = corrupt(cases, corruption, severity=severity, around=around, seed=3)
            again = corrupt(cases, corruption, severity=severity, around=around, seed=3)
            for one, same, old in zip(made.inputs, again.inputs, cases.inputs, strict=True):
                assert one.dtype == old.dtype
                np.testing.assert_array_equal(one, same)
            if corruption == "tiles":
                moved.append(-sum(len(one) for one in made.inputs))
                assert min(len(one) for one in made.inputs) >= 1
            else:
                moved.append(distance(made, cases, counted=kind in ("sequence", "table")))
        assert moved[0] <= moved[1] <= moved[2], corruption
        assert moved[0] < moved[2], corruption


def test_a_case_is_corrupted_alike_whatever_stands_beside_it() -> None:
    cases, around = given("image")
    alone = corrupt(cases.select(np.array([4])), "noise", severity=3, around=around, seed=0)
    beside = corrupt(cases, "noise", severity=3, around=around, seed=0)
    np.testing.assert_array_equal(alone.inputs[0], beside.inputs[4])


def test_cells_go_missing_only_where_the_schema_lets_them() -> None:
    cases, around = given("table")
    made = np.asarray(corrupt(cases, "missing", severity=5, around=around, seed=0).inputs)
    assert 0.2 < np.isnan(made[:, 0]).mean() < 0.6
    assert 0.2 < (made[:, 2:].sum(axis=1) == 0).mean() < 0.6
    np.testing.assert_array_equal(made[:, 1], np.asarray(cases.inputs)[:, 1])
    noisy = np.asarray(corrupt(cases, "noise", severity=5, around=around, seed=0).inputs)
    np.testing.assert_array_equal(noisy[:, 1:], np.asarray(cases.inputs)[:, 1:])
    assert (noisy[:, 0] % 1 == 0).all() and noisy[:, 0].min() >= around.room.low[0]
    never = Surroundings("table", around.room, around.whole, FEATURES[1:2], around.letters)
    assert never.corruptions() == ("noise",)


def test_a_quarter_turn_a_square_and_a_smear_do_what_they_say() -> None:
    _, around = given("image")
    plain = np.zeros((1, 1, 28, 28), np.uint8)
    plain[0, 0, 14, 14] = 200
    one = Cases(np.zeros(1, np.int64), np.zeros(1, np.int64), plain, np.zeros(1, np.int64))
    smeared = np.asarray(corrupt(one, "motion", severity=5, around=around, seed=1).inputs)[0, 0]
    lines = [int((smeared.sum(axis=axis) > 0).sum()) for axis in (0, 1)]
    assert sorted(lines) == [1, 9]
    white = np.full((1, 1, 28, 28), 255, np.uint8)
    bright = Cases(one.case_ids, one.subject_ids, white, one.labels)
    covered = np.asarray(corrupt(bright, "occlusion", severity=5, around=around, seed=1).inputs)
    assert (covered == 0).mean() == pytest.approx(0.2, abs=0.02)


def test_every_kind_has_five_levels_and_a_number() -> None:
    assert set(LEVELS) == set(CORRUPTIONS)
    assert {len(one) for one in LEVELS.values()} == {5}

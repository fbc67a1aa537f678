from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    BaggingClassifier,
    GradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from tests.audits.nets import cases_of, subjects_of

from primum.audits.privacy.case_subjects import CaseSubjects
from primum.audits.privacy.structure import TESTS, read_structure
from primum.evidence.identity import ModelRef
from primum.evidence.measured import FloatArray, IntArray, Measured
from primum.evidence.shares import share_p_value
from primum.models.opened import OpenedClassifier
from primum.records.cases import Cases

# The 99.9 % point of a binomial with 100 runs at 5 %.
RUNS, MOST = 100, 13
STORED, LEAVES, CLASSES = TESTS


class Silent:
    """Structure is read without asking the model."""

    classes = ("no", "yes")

    def logits(self, cases: Cases) -> FloatArray | None:
        raise AssertionError

    def predict_proba(self, cases: Cases) -> FloatArray:
        raise AssertionError


def drawn(count: int, *, seed: int) -> tuple[FloatArray, IntArray]:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, 5))
    return rows, (rows[:, 0] + rng.standard_normal(count) > 0).astype(np.int64)


def read(model: Any, subjects: CaseSubjects, *, parameters: int = 10) -> Measured:
    ref = ModelRef("forest", "0" * 64, "computed", {})
    return read_structure(OpenedClassifier(ref, Silent(), parameters, model), subjects)


def told(model: Any, *, count: int = 60) -> tuple[Measured, CaseSubjects]:
    """Train on the first half of the patients."""
    rows, labels = drawn(2 * count, seed=3)
    subjects = subjects_of(cases_of(rows, labels), members=count)
    return read(model.fit(rows[:count], labels[:count]), subjects), subjects


@pytest.mark.parametrize(
    "model",
    [
        KNeighborsClassifier(),
        make_pipeline(StandardScaler(), KNeighborsClassifier(algorithm="kd_tree")),
        make_pipeline(StandardScaler(), PCA(4), KNeighborsClassifier()),
        GaussianProcessClassifier(),
        VotingClassifier([("a", make_pipeline(StandardScaler(), KNeighborsClassifier())), ("b", SVC())]),
        StackingClassifier([("a", KNeighborsClassifier())], final_estimator=KNeighborsClassifier()),
        BaggingClassifier(make_pipeline(StandardScaler(), KNeighborsClassifier()), random_state=0),
        CalibratedClassifierCV(make_pipeline(StandardScaler(), KNeighborsClassifier()), cv=2),
    ],
    ids=lambda model: type(model).__name__,
)
def test_every_row_that_is_kept_is_found(model: Any) -> None:
    measured, subjects = told(model)
    assert measured.scores[STORED].tolist() == subjects.is_member.astype(float).tolist()
    assert set(measured.refused) == {LEAVES, CLASSES}
    assert {said.code for said in measured.refused.values()} == {"no_trees"}


def test_rows_are_prepared_as_the_door_does() -> None:
    """Images of 8 bits are divided by 255, columns have their names, a sparse transform is read."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 1, 3, 3)).astype(np.uint8), np.arange(40) % 2
    model = KNeighborsClassifier().fit(images[:20].reshape(20, -1) / 255, labels[:20])
    measured = read(model, subjects_of(cases_of(images, labels), members=20))
    assert measured.scores[STORED].tolist() == [1.0] * 20 + [0.0] * 20
    rows = rng.integers(0, 9, (40, 3)).astype(float)
    columns = [
        ("code", OneHotEncoder(handle_unknown="ignore"), ["c"]),
        ("rest", StandardScaler(), ["a", "b"]),
    ]
    named = make_pipeline(ColumnTransformer(columns, sparse_threshold=1), SVC())
    named.fit(pl.DataFrame(rows[:20], schema=["a", "b", "c"]), labels[:20])
    expected = np.zeros(20)
    expected[named[-1].support_] = 1
    measured = read(named, subjects_of(cases_of(rows, labels), members=20))
    assert measured.scores[STORED][:20].tolist() == expected.tolist()
    tree = DecisionTreeClassifier().fit(pl.DataFrame(rows[:20], schema=["a", "b", "c"]), labels[:20])
    assert read(tree, subjects_of(cases_of(rows, labels), members=20)).settings["trees"] == 1


def test_support_vectors_are_the_rows_found() -> None:
    model = make_pipeline(StandardScaler(), SVC())
    measured, _ = told(model)
    expected = np.zeros(120)
    expected[model[-1].support_] = 1
    assert measured.scores[STORED].tolist() == expected.tolist()
    assert measured.settings["rows_kept"] == len(model[-1].support_)


def test_a_twin_of_a_kept_row_is_found_and_a_near_one_is_not() -> None:
    rows, labels = drawn(40, seed=1)
    rows[30] = rows[0]
    rows[31] = rows[1] + 1e-5
    rows[2, 3], rows[32] = 0.0, rows[2]
    rows[32, 3] = -0.0
    model = KNeighborsClassifier().fit(rows[:20], labels[:20])
    measured = read(model, subjects_of(cases_of(rows, labels), members=20))
    assert np.flatnonzero(measured.scores[STORED][20:]).tolist() == [10, 12]


def test_one_kept_case_of_a_patient_is_enough() -> None:
    rows, labels = drawn(40, seed=1)
    cases = Cases(np.arange(40), np.arange(40) // 2, rows, labels)
    model = KNeighborsClassifier().fit(rows[1:20:2], labels[1:20:2])
    measured = read(model, subjects_of(cases, members=10))
    assert measured.scores[STORED].tolist() == [1.0] * 10 + [0.0] * 10
    assert measured.settings["records"] == 20


def test_a_model_of_coefficients_keeps_nobody() -> None:
    measured, _ = told(LogisticRegression())
    assert not measured.scores[STORED].any()
    assert measured.settings["rows_kept"] == 0
    assert measured.settings["as_many_parameters_as_records"] is False


def test_leaves_by_hand() -> None:
    """Cut at .5: seven members left, all healthy; on the right two ill and one healthy."""
    place = np.array([0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 1])
    labels = np.array([0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1])
    cases = cases_of(place[:, None].astype(float), labels)
    model = DecisionTreeClassifier().fit(cases.inputs[:10], labels[:10])
    measured = read(model, subjects_of(cases, members=10), parameters=10)
    assert measured.scores[LEAVES].tolist() == [0] * 7 + [1] * 3 + [0, 0, 1]
    assert measured.scores[CLASSES].tolist() == [1] * 7 + [0] * 3 + [1, 1, 0]
    assert measured.settings == {
        "parameters": 10,
        "records": 10,
        "as_many_parameters_as_records": True,
        "rows_kept": 0,
        "trees": 1,
        "smallest_leaf": "< 5",
        "members_in_leaves_under_5": "< 5",
        "members_in_leaves_under_10": 10,
        "members_in_leaves_of_one_class": 7,
    }


def test_leaves_agree_with_rows_sent_down_by_hand() -> None:
    rows, labels = drawn(400, seed=5)
    model = DecisionTreeClassifier(min_samples_leaf=3, random_state=0).fit(rows[:200], labels[:200])
    measured = read(model, subjects_of(cases_of(rows, labels), members=200))
    leaf = model.apply(rows)
    shared = [labels[:200][leaf[:200] == one] for one in leaf]
    sizes = np.array([len(one) for one in shared])
    np.testing.assert_array_equal(measured.scores[LEAVES], sizes < 5)
    np.testing.assert_array_equal(measured.scores[CLASSES], [len(set(one.tolist())) == 1 for one in shared])
    assert measured.settings["members_in_leaves_under_10"] == int((sizes[:200] < 10).sum())
    assert measured.settings["members_in_leaves_under_5"] == int((sizes[:200] < 5).sum())
    # SACRO-ML 2.0.1 counts the same on this tree: k below 5, below 10, classes disclosed.
    assert [int(measured.scores[LEAVES][:200].sum()), int((sizes[:200] < 10).sum())] == [69, 109]
    assert measured.settings["members_in_leaves_of_one_class"] == 159


def test_patients_are_counted_not_their_cases() -> None:
    rows, labels = np.zeros((40, 1)), np.arange(40) % 2
    cases = Cases(np.arange(40), np.arange(40) // 4, rows, labels)
    model = DecisionTreeClassifier().fit(rows, labels)
    measured = read(model, subjects_of(cases, members=6))
    assert measured.settings["smallest_leaf"] == 6
    assert measured.settings["members_in_leaves_under_10"] == 6
    assert measured.settings["members_in_leaves_under_5"] == 0


@pytest.mark.parametrize(
    ("model", "trees"),
    [
        (RandomForestClassifier(7, random_state=0), 7),
        (GradientBoostingClassifier(n_estimators=6, random_state=0), 6),
        (BaggingClassifier(n_estimators=4, random_state=0), 4),
        (CalibratedClassifierCV(RandomForestClassifier(3, random_state=0), cv=2), 6),
        (make_pipeline(StandardScaler(), RandomForestClassifier(2, random_state=0)), 2),
    ],
    ids=lambda model: type(model).__name__,
)
def test_every_tree_is_read(model: Any, trees: int) -> None:
    measured, _ = told(model)
    assert measured.settings["trees"] == trees
    assert not measured.scores[STORED].any()
    assert not measured.refused
    assert set(np.unique(measured.scores[LEAVES] * trees).tolist()) <= set(np.arange(trees + 1.0))


def test_false_alarms_of_fresh_patients() -> None:
    """Models of other patients: leaves are as small for members as for held-out ones."""
    rows, labels = drawn(200, seed=7)
    forest = RandomForestClassifier(5, min_samples_leaf=3, random_state=0).fit(rows, labels)
    p_values = []
    for run in range(RUNS):
        subjects = subjects_of(cases_of(*drawn(160, seed=100 + run)), members=80)
        scores = read(forest, subjects).scores
        assert not scores[STORED].any()
        p_values.append([share_p_value(scores[test][:80], scores[test][80:], seed=run) for test in TESTS[1:]])
    assert ((np.array(p_values) < 0.05).sum(axis=0) <= MOST).all()


def test_without_a_structure_or_one_shape_it_is_refused() -> None:
    rows, labels = drawn(20, seed=0)
    bags = cases_of(rows, labels)
    bags = Cases(bags.case_ids, bags.subject_ids, tuple(rows), labels)
    for model, cases in ((None, cases_of(rows, labels)), (KNeighborsClassifier().fit(rows, labels), bags)):
        measured = read(model, subjects_of(cases, members=10))
        assert set(measured.refused) == set(TESTS)
        assert {said.code for said in measured.refused.values()} == {"no_structure"}

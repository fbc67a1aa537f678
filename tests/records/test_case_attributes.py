import numpy as np
import pytest

from primum.errors import RecordsError
from primum.records.attributes import strata
from primum.records.case_attributes import CaseTable, case_subgroups, describe_cases
from primum.records.cases import Cases

CLASSES = ("normal", "ill", "odd")


def table() -> tuple[CaseTable, Cases]:
    """Forty patients of one to three cases, in shuffled order."""
    rng = np.random.default_rng(0)
    subject = np.repeat(np.arange(100, 140), rng.integers(1, 4, 40))
    order = rng.permutation(len(subject))
    number = subject - 100
    attributes = {
        "sex": np.where(number % 5 == 0, "", np.where(number % 2, "F", "M")),
        "age": np.where(number % 7 == 0, np.nan, 20.0 + number),
        "site": np.where(number < 3, "tiny", "A"),
        "skin_type": np.where(number < 20, "II", "V"),
        "device": np.full(len(subject), "scanner"),
        "date": np.datetime64("2020-01-01") + number,
    }
    labels = np.where(number < 4, 2, number % 2)
    cases = Cases(np.arange(len(subject)), subject, np.zeros((len(subject), 2)), labels, attributes).select(
        order
    )
    return describe_cases(
        [cases.select(np.arange(0, len(order), 2)), cases.select(np.arange(1, len(order), 2))],
        classes=CLASSES,
    ), cases


def test_one_row_a_patient() -> None:
    found, cases = table()
    assert np.array_equal(found.patients.subject_ids, np.arange(100, 140))
    assert np.array_equal(
        found.patients.events, [(cases.subject_ids == one).sum() for one in range(100, 140)]
    )
    assert found.patients.sex[[0, 1, 2]].tolist() == ["?", "F", "M"]
    assert np.isnan(found.patients.age[[0, 7]]).all()
    assert found.patients.age[1] == 21
    assert (
        found.patients.first_day[3]
        == found.patients.last_day[3]
        == (np.datetime64("2020-01-04") - np.datetime64("1970-01-01")).astype(int)
    )
    interleaved = np.concatenate([cases.subject_ids[::2], cases.subject_ids[1::2]])
    assert np.array_equal(found.patients.subject_ids[found.position], interleaved)
    assert found.holds[:, 2].sum() == 4
    assert set(found.groups) == {"device", "skin_type"}


def test_subgroups_are_named_as_elsewhere_and_never_small() -> None:
    found, _ = table()
    groups = case_subgroups(found, np.arange(40) % 2 == 0)
    assert {
        "sex=F",
        "sex=M",
        "age=18-39",
        "age=40-59",
        "site=A",
        "skin_type=II",
        "skin_type=V",
        "device=scanner",
    } <= set(groups)
    assert {"class=normal", "class=ill"} <= set(groups)
    # three patients at one site and four of one class are too few to be named
    assert not {"site=tiny", "class=odd"} & set(groups)
    assert all(group.sum() >= 5 for group in groups.values())
    assert np.array_equal(groups["sex=F"], found.patients.sex == "F")


def test_rare_leaves_the_patient_out() -> None:
    labels = np.array([2] * 6 + [0] * 30)
    ids = np.arange(36)
    found = describe_cases([Cases(ids, ids, np.zeros((36, 1)), labels)], classes=CLASSES)
    member = np.ones(36, np.bool_)
    assert np.array_equal(case_subgroups(found, member)["rare"], labels == 2)
    more = describe_cases([Cases(ids, ids, np.zeros((36, 1)), np.where(ids < 7, 2, 0))], classes=CLASSES)
    assert "rare" not in case_subgroups(more, member)


def test_without_attributes_nobody_is_singled_out() -> None:
    ids = np.arange(20)
    found = describe_cases([Cases(ids, ids, np.zeros((20, 1)), ids % 2)], classes=CLASSES)
    groups = case_subgroups(found, np.zeros(20, np.bool_))
    assert "small-cell" not in groups
    assert len(np.unique(strata(found.patients))) == 1


def test_texts_that_differ() -> None:
    attributes = {"sex": np.array(["F", "M", "", "F"]), "site": np.array(["", "B", "C", "C"])}
    found = describe_cases(
        [Cases(np.arange(4), np.array([1, 1, 2, 2]), np.zeros((4, 1)), np.zeros(4, np.int64), attributes)],
        classes=CLASSES,
    )
    assert found.patients.sex.tolist() == ["?", "F"]
    assert found.patients.site.tolist() == ["B", "C"]


def test_strata_follow_sex_age_and_number_of_cases() -> None:
    found, _ = table()
    numbers = strata(found.patients)
    for number in np.unique(numbers):
        assert len(set(found.patients.sex[numbers == number])) == 1


def test_nothing_to_describe() -> None:
    with pytest.raises(RecordsError, match="empty"):
        describe_cases([], classes=CLASSES)

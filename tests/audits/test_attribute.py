from collections.abc import Callable

import numpy as np
import pytest
from tests.audits.nets import Embedding, Net, cases_of, subjects_of

from primum.audits.privacy.attribute import infer_from_outputs, infer_inputs
from primum.audits.privacy.case_subjects import CaseSubjects
from primum.evidence.guesses import auroc_difference, auroc_difference_p_value, auroc_of
from primum.evidence.measured import FloatArray, Guesses
from primum.records.case_files.table import Feature
from primum.records.cases import Cases

FLAG = Feature("smoker", "boolean", 0)
# The 99.9 % point of a binomial with 100 runs at 5 %.
RUNS, MOST = 100, 13


class Formula:
    """A model of two classes whose probability of the second is a function of the row."""

    classes = ("no", "yes")

    def __init__(self, chance: Callable[[FloatArray], FloatArray]) -> None:
        self.chance = chance

    def logits(self, cases: Cases) -> None:
        return None

    def predict_proba(self, cases: Cases) -> FloatArray:
        second = self.chance(np.asarray(cases.inputs))
        return np.stack([1 - second, second], axis=1)


def table(count: int, *, seed: int, columns: int = 12) -> Cases:
    """A flag, then numbers of which one goes with the flag and two make the class."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, columns))
    rows[:, 0] = rng.random(count) < 0.4
    rows[:, 1] += rows[:, 0]
    labels = (rows[:, 0] + rows[:, 2] + rows[:, 3] + rng.standard_normal(count) > 0.4).astype(np.int64)
    return cases_of(rows, labels)


def sides(guesses: Guesses, subjects: CaseSubjects) -> tuple[float, float, float]:
    """AUROC on members, on held-out patients, and the p-value."""
    four = guesses.sides(subjects.is_member)
    return auroc_of(four[0][:, 0], four[1][:, 0]), auroc_of(four[2][:, 0], four[3][:, 0]), \
        auroc_difference_p_value(*four)  # fmt: skip


def test_a_memorised_attribute_is_found() -> None:
    """Classes that cannot be learnt but by heart."""
    rows = np.asarray(table(400, seed=1).inputs)
    cases = cases_of(rows, np.random.default_rng(1).integers(2, size=400))
    net = Net(12, width=64, seed=0).trained(cases.select(np.arange(200)), epochs=200, rate=1e-2)
    subjects = subjects_of(cases, members=200)
    guesses = infer_inputs(net, subjects, [FLAG]).guesses["attribute.inferred"]
    assert guesses.names == ("smoker",)
    assert auroc_difference(*guesses.sides(subjects.is_member)).low > 0.1
    assert sides(guesses, subjects)[2] < 1e-3


def test_what_anyone_can_guess_is_no_leak() -> None:
    """A model of other patients that uses the attribute guesses it well, on both sides."""
    net = Net(12, width=16, seed=0).trained(table(2000, seed=9), epochs=150, rate=1e-2)
    subjects = subjects_of(table(800, seed=4), members=400)
    guesses = infer_inputs(net, subjects, [FLAG]).guesses["attribute.inferred"]
    members, others, p_value = sides(guesses, subjects)
    assert min(members, others) > 0.6
    assert p_value > 0.05
    assert guesses.blind is not None
    assert auroc_of(guesses.blind[:, 0], guesses.labels[:, 0]) > 0.75


def test_false_alarms_of_fresh_patients() -> None:
    """One model of 225 parameters, of patients who are never audited; 100 audits of 100 a side."""
    net = Embedding(12, width=15, seed=3).trained(table(300, seed=8), epochs=150, rate=1e-2)
    found = []
    for run in range(RUNS):
        cases = table(200, seed=100 + run)
        smoker = np.asarray(cases.inputs)[:, 0] > 0
        told = {"sex": np.where(smoker, "F", "M"), "age": np.where(smoker, 50.0, 70.0)}
        cases = Cases(cases.case_ids, cases.subject_ids, cases.inputs, cases.labels, told)
        subjects = subjects_of(cases, members=100, seed=run)
        both = infer_inputs(net, subjects, [FLAG, Feature("level", "number", 4)]).guesses, \
            infer_from_outputs(net, subjects).guesses  # fmt: skip
        for guesses in (both[0]["attribute.inferred"], both[1]["attribute.outputs"]):
            four = guesses.sides(subjects.is_member)
            found.append((auroc_difference(*four).value, auroc_difference_p_value(*four)))
    for values in (np.array(found)[::2], np.array(found)[1::2]):
        assert abs(values[:, 0].mean()) < 3 * values[:, 0].std() / RUNS**0.5
        assert (values[:, 1] < 0.05).sum() <= MOST


def test_the_score_by_hand() -> None:
    """log p of the true class under the higher value minus the mean under both."""
    rows = np.array([[0.0, 1.0], [1.0, 2.0], [1.0, 0.5]])
    model = Formula(lambda given: 0.1 + 0.2 * given[:, 0] + 0.1 * given[:, 1])
    cases = cases_of(rows, np.array([1, 0, 1]))
    guesses = infer_inputs(model, subjects_of(cases, members=2), [FLAG]).guesses["attribute.inferred"]
    pairs = np.array([[0.2, 0.4], [0.7, 0.5], [0.15, 0.35]])
    expected = np.log(pairs[:, 1]) - np.log(pairs).mean(axis=1)
    np.testing.assert_allclose(guesses.scores[:, 0], expected, rtol=1e-12)
    assert guesses.labels[:, 0].tolist() == [False, True, True]


def test_cases_of_one_patient_are_averaged() -> None:
    rows = np.array([[0.0, 1.0], [1.0, 2.0], [1.0, 0.5]])
    model = Formula(lambda given: 0.1 + 0.2 * given[:, 0] + 0.1 * given[:, 1])
    single = cases_of(rows, np.array([1, 0, 1]))
    joint = Cases(single.case_ids, np.array([0, 1, 0]), rows, single.labels)
    one, two = (
        infer_inputs(model, subjects_of(cases, members=1), [FLAG]).guesses["attribute.inferred"]
        for cases in (single, joint)
    )
    np.testing.assert_allclose(two.scores[:, 0], [one.scores[[0, 2], 0].mean(), one.scores[1, 0]])
    assert two.labels[:, 0].tolist() == [True, True]


def test_numbers_are_asked_in_bands_and_rare_categories_not_at_all() -> None:
    rng = np.random.default_rng(0)
    number = rng.standard_normal(200)
    number[:3] = np.nan
    kinds = np.minimum(rng.integers(0, 90, 200) // 7, 12)
    seen: list[FloatArray] = []

    def chance(given: FloatArray) -> FloatArray:
        seen.append(given)
        return np.full(len(given), 0.5)

    coded = np.eye(13)[kinds]
    coded[:5] = 0
    kinds[:5] = -1
    cases = cases_of(np.column_stack([number, coded]), rng.integers(2, size=200))
    asked = [
        Feature("lab", "number", 0),
        Feature("kind", "category", 1, 13, values=tuple("abcdefghijklm")),
    ]
    guesses = infer_inputs(Formula(chance), subjects_of(cases, members=100), asked)
    found = guesses.guesses["attribute.inferred"]
    assert found.names[:4] == ("lab 1", "lab 2", "lab 3", "lab 4")
    assert len(found.names) == 14
    assert guesses.settings["queries"] == 14
    bands = found.labels[:, :4]
    assert bands[:3].sum() == 0
    assert (bands[3:].sum(axis=1) == 1).all()
    for band, given in zip(bands.T, seen[:4], strict=True):
        assert np.unique(given[:, 0]).tolist() == [np.median(number[band])]
    for column, given in enumerate(seen[4:], start=4):
        (kind,) = np.unique(given[:, 1:].argmax(axis=1))
        np.testing.assert_array_equal(found.labels[:, column], kinds == kind)
        assert found.names[column] == f"kind {'abcdefghijklm'[kind]}"
    dropped = np.bincount(kinds[5:], minlength=13)[~np.any([given[0, 1:] > 0 for given in seen[4:]], axis=0)]
    assert len(dropped) == 3
    assert dropped.max() <= np.sort(np.bincount(kinds[5:]))[3]


def test_a_category_without_a_value_is_no_value() -> None:
    coded = np.eye(2)[np.arange(30) % 2]
    coded[:6] = 0
    subjects = subjects_of(cases_of(np.column_stack([np.ones(30), coded]), np.arange(30) % 2), members=15)
    model = Formula(lambda given: np.full(len(given), 0.5))
    sort = Feature("sort", "category", 1, 2, values=("a", "b"))
    found = infer_inputs(model, subjects, [sort]).guesses["attribute.inferred"]
    assert found.names == ("sort",)
    np.testing.assert_array_equal(found.labels[:, 0], coded[:, 0] == 1)


def test_outputs_that_remember_sex_are_found() -> None:
    rng = np.random.default_rng(4)
    sex, cases = np.where(rng.random(400) < 0.5, "F", "M"), table(400, seed=3)

    class Remembers(Embedding):
        def embed(self, cases: Cases) -> FloatArray:
            vectors = super().embed(cases)
            vectors[:, 0] = np.where(cases.case_ids < 200, sex[cases.case_ids] == "F", 0.5)
            return vectors

    cases = Cases(cases.case_ids, cases.subject_ids, cases.inputs, cases.labels, {"sex": sex})
    subjects = subjects_of(cases, members=200)
    found = infer_from_outputs(Remembers(12, width=8, seed=0), subjects)
    members, others, p_value = sides(found.guesses["attribute.outputs"], subjects)
    assert members > 0.9 > 0.65 > others
    assert p_value < 1e-3
    assert found.settings == {"embeddings": True, "dimensions": 8}


def test_facts_are_values_that_ten_have_and_ages_in_bands() -> None:
    cases = table(60, seed=5)
    age = np.concatenate([np.full(20, 30.0), np.full(20, 65.0), np.full(15, 90.0), np.full(5, np.nan)])
    told = {"age": age, "sex": np.repeat(["F", "M", ""], 20), "skin_type": np.repeat(["I", "V"], [9, 51])}
    cases = Cases(cases.case_ids, cases.subject_ids, cases.inputs, cases.labels, told)
    found = infer_from_outputs(Net(12, width=8, seed=0), subjects_of(cases, members=30))
    guesses = found.guesses["attribute.outputs"]
    assert guesses.names == ("sex M", "age 0", "age 2", "age 3", "skin_type V")
    assert guesses.labels.sum(axis=0).tolist() == [20, 20, 20, 15, 51]
    assert found.settings == {"embeddings": False, "dimensions": 2}


def test_wide_vectors_are_projected() -> None:
    cases = table(40, seed=5)
    cases = Cases(
        cases.case_ids, cases.subject_ids, cases.inputs, cases.labels, {"sex": np.tile(["F", "M"], 20)}
    )
    found = infer_from_outputs(Embedding(12, width=300, seed=0), subjects_of(cases, members=20))
    assert found.settings["dimensions"] == 256


def test_who_is_a_member_changes_no_guess() -> None:
    net, cases = Net(12, width=8, seed=0), table(60, seed=6)
    one, other = (
        infer_inputs(net, subjects_of(cases, members=members), [FLAG]).guesses["attribute.inferred"]
        for members in (20, 40)
    )
    np.testing.assert_array_equal(one.scores, other.scores)
    np.testing.assert_array_equal(one.blind, other.blind)


@pytest.mark.parametrize("attributes", [[], [Feature("constant", "number", 1)]])
def test_without_a_sensitive_input_it_is_refused(attributes: list[Feature]) -> None:
    cases = cases_of(np.column_stack([np.arange(20.0), np.ones(20)]), np.arange(20) % 2)
    model = Formula(lambda given: np.full(len(given), 0.5))
    images = cases_of(np.zeros((20, 1, 4, 4), np.uint8), np.arange(20) % 2)
    for one, asked in ((cases, attributes), (images, [FLAG])):
        measured = infer_inputs(model, subjects_of(one, members=10), asked)
        assert measured.refused["attribute.inferred"].code == "no_sensitive_input"
    measured = infer_from_outputs(model, subjects_of(cases, members=10))
    assert measured.refused["attribute.outputs"].code == "no_attributes"

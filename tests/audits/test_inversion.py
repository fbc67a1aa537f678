from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.audits.nets import Net, cases_of, subjects_of

from primum.audits.privacy.inversion import LINE_UP, STEPS, invert, line_ups, thumbnails
from primum.evidence.measured import FloatArray, IntArray
from primum.evidence.shares import share_difference, share_p_value
from primum.records.cases import Cases
from primum.records.synthetic_cases.images import ImageSettings, synthetic_images

TESTS = ("inversion.instance", "inversion.class")
# The 99.9 % point of a binomial with 100 runs at 5 %.
RUNS, MOST = 100, 13


def images(patients: int, *, seed: int) -> Cases:
    """Synthetic images of 12 by 12, one a patient, whose classes cannot be learnt but by heart."""
    drawn = synthetic_images(patients, seed=seed, settings=ImageSettings(size=12))
    first = np.unique(drawn.subject_ids, return_index=True)[1]
    labels = np.random.default_rng(seed).integers(2, size=patients)
    return cases_of(np.asarray(drawn.inputs)[first], labels)


def sides(scores: FloatArray, members: int) -> tuple[FloatArray, FloatArray]:
    return scores[:members], scores[members:]


class Linear:
    """A model whose gradient is the same pattern everywhere, away for class 0 and towards for class 1."""

    classes = ("no", "yes")

    def __init__(self, pattern: FloatArray) -> None:
        self.pattern = pattern
        self.asked: list[NDArray[Any]] = []

    def logits(self, cases: Cases) -> FloatArray:
        second = (np.asarray(cases.inputs) * self.pattern).reshape(len(cases), -1).sum(axis=1)
        return np.stack([0 * second, second], axis=1)

    def predict_proba(self, cases: Cases) -> FloatArray:
        return np.full((len(cases), 2), 0.5)

    def loss_and_gradient(self, cases: Cases, labels: IntArray) -> tuple[FloatArray, FloatArray]:
        self.asked.append(np.asarray(cases.inputs))
        sign = np.where(labels == 1, -1.0, 1.0).reshape(-1, *(1,) * self.pattern.ndim)
        return np.zeros(len(cases)), sign * self.pattern


def test_patients_learnt_by_heart_are_drawn() -> None:
    """4,706 parameters, 100 patients, 150 epochs."""
    cases = images(260, seed=1)
    net = Net(144, width=32, seed=1, scale=255).trained(cases.select(np.arange(100)), epochs=150)
    measured = invert(net, subjects_of(cases, members=100))
    for test in TESTS:
        members, others = sides(measured.scores[test], 100)
        assert share_difference(members, others).value > 0.02
        assert share_p_value(members, others) < 0.01
    assert len(net.asked) == 2 * STEPS


def test_false_alarms_of_fresh_patients() -> None:
    """One model of 1,178 parameters, of patients who are never audited; 100 audits of 40 a side."""
    net = Net(144, width=8, seed=2, scale=255).trained(images(60, seed=5), epochs=200)
    pool, random, found = images(1000, seed=6), np.random.default_rng(0), []
    for run in range(RUNS):
        # Pictures are drawn once; which of them are audited, and on which side, is drawn each time.
        cases = pool.select(random.permutation(1000)[:80])
        subjects = subjects_of(cases_of(np.asarray(cases.inputs), cases.labels), members=40, seed=run)
        scores = invert(net, subjects).scores
        for test in TESTS:
            members, others = sides(scores[test], 40)
            found.append((members.mean() - others.mean(), share_p_value(members, others, seed=run)))
    for values in (np.array(found)[::2], np.array(found)[1::2]):
        assert abs(values[:, 0].mean()) < 3 * values[:, 0].std() / RUNS**0.5
        assert (values[:, 1] < 0.05).sum() <= MOST


def test_chance_is_one_in_the_line_up() -> None:
    shares = line_ups(np.random.default_rng(0).standard_normal((50, 400)))
    assert shares.mean() == pytest.approx(1 / LINE_UP, abs=0.002)
    assert np.isnan(line_ups(np.ones((3, 1)))).all()


def test_line_ups_agree_with_line_ups_drawn_by_lot() -> None:
    random = np.random.default_rng(1)
    likeness = random.standard_normal((1, 15))
    told = line_ups(likeness)[0]
    for person in range(15):
        others = np.delete(likeness[0], person)
        nine = random.choice(others, (4000, LINE_UP - 1))
        assert (nine < likeness[0, person]).all(axis=1).mean() == pytest.approx(told[person], abs=0.03)


def test_a_linear_model_draws_its_own_pattern() -> None:
    """Whoever has the pattern in the hidden half is found, whatever the shown half is."""
    random = np.random.default_rng(2)
    pattern = np.zeros((1, 6, 8))
    pattern[..., 4:] = random.standard_normal((1, 6, 4))
    inputs = random.standard_normal((40, 1, 6, 8))
    labels = np.ones(40, np.int64)
    inputs[7] += 6 * pattern[0]
    model = Linear(pattern)
    scores = invert(model, subjects_of(cases_of(inputs, labels), members=20)).scores
    for test in TESTS:
        assert scores[test].argmax() == 7
    assert scores["inversion.instance"][7] == 1
    assert scores["inversion.instance"].mean() == pytest.approx(1 / LINE_UP, abs=0.015)


def test_the_hidden_half_is_hidden_and_the_shown_half_stays() -> None:
    random = np.random.default_rng(3)
    inputs = random.integers(40, 200, (30, 1, 6, 9)).astype(np.uint8)
    model = Linear(random.standard_normal((1, 6, 9)))
    invert(model, subjects_of(cases_of(inputs, np.arange(30) % 2), members=15))
    completed, whole = model.asked[:STEPS], model.asked[STEPS:]
    first = completed[0][..., 4:]
    np.testing.assert_array_equal(first, np.broadcast_to(np.rint(inputs.mean(axis=0))[..., 4:], first.shape))
    for asked in completed:
        np.testing.assert_array_equal(asked[..., :4], inputs[..., :4])
    assert (completed[-1][..., 4:] != first).any()
    assert {asked.shape for asked in whole} == {(16, 1, 6, 9)}
    for asked in model.asked:
        assert asked.dtype == np.uint8
        assert ((asked >= inputs.min(axis=0)) & (asked <= inputs.max(axis=0))).all()


def test_a_step_is_a_tenth_of_a_deviation_an_input() -> None:
    inputs = np.random.default_rng(4).normal(5, [1.0, 2.0, 3.0, 0.0], (2000, 4))
    model = Linear(np.array([1.0, 1.0, 1.0, 1.0]))
    invert(model, subjects_of(cases_of(inputs, np.ones(2000, np.int64)), members=20))
    moved = (model.asked[1] - model.asked[0])[0, 2:]
    # Two are hidden, one of which never varies: the step is all the other's.
    assert moved == pytest.approx([0.1 * 2**0.5 * inputs[:, 2].std(), 0])
    np.testing.assert_allclose(model.asked[2][0, 2] - inputs[:, 2].mean(), 1.9 * moved[0], rtol=1e-9)


def test_thumbnails_are_means_of_blocks_of_length_one() -> None:
    standard = np.random.default_rng(5).standard_normal((3, 2, 32, 48))
    expected = standard.reshape(3, 2, 16, 2, 16, 3).mean(axis=(3, 5)).reshape(3, -1)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(thumbnails(standard), expected, atol=1e-12)
    assert thumbnails(np.ones((2, 12, 1000))).shape == (2, 12 * 16)
    assert thumbnails(np.ones((2, 40))).shape == (2, 40)
    assert thumbnails(np.ones((2, 1, 7, 20, 5))).shape == (2, 7 * 16 * 5)


def test_missing_numbers_and_several_cases_a_patient() -> None:
    random = np.random.default_rng(6)
    inputs = random.standard_normal((30, 6))
    inputs[3, 4] = np.nan
    labels = np.r_[np.zeros(28, np.int64), 1, 0]
    cases = Cases(np.arange(30), np.r_[np.arange(29), 4], inputs, labels)
    scores = invert(Net(6, width=4, seed=0), subjects_of(cases, members=14)).scores
    for test in TESTS:
        assert len(scores[test]) == 29
        assert np.isnan(scores[test]).tolist() == [False] * 28 + [True]


def test_who_is_a_member_changes_no_score() -> None:
    net, cases = Net(144, width=8, seed=0, scale=255), images(30, seed=7)
    one, other = (invert(net, subjects_of(cases, members=members)).scores for members in (10, 20))
    for test in TESTS:
        np.testing.assert_array_equal(one[test], other[test])


@pytest.mark.parametrize(
    "inputs",
    [
        lambda: np.zeros((4, 20), np.uint8),
        lambda: tuple(np.zeros((n + 1, 1, 4, 4)) for n in range(4)),
    ],
)
def test_letters_and_bags_are_refused(inputs: Callable[[], NDArray[Any]]) -> None:
    cases = cases_of(inputs(), np.arange(4) % 2)
    measured = invert(Net(20, width=2, seed=0), subjects_of(cases, members=2))
    assert dict.fromkeys(TESTS, "model_cannot") == {
        test: said.code for test, said in measured.refused.items()
    }


def test_a_model_without_gradient_is_refused() -> None:
    class Closed:
        classes = ("no", "yes")

        def logits(self, cases: Cases) -> None:
            return None

        def predict_proba(self, cases: Cases) -> FloatArray:
            return np.full((len(cases), 2), 0.5)

    measured = invert(Closed(), subjects_of(images(4, seed=0), members=2))
    assert [said.parameters for said in measured.refused.values()] == [{"protocol": "Differentiable"}] * 2

"""Certificates: of a linear model the radius is known exactly, and none may promise more."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import beta

from primum.audits.robustness.room import Room
from primum.audits.robustness.smoothing import ABSTAINS, certify
from primum.errors import InputError
from primum.records.cases import Cases

ROOM = Room(np.array(0.0), np.array(1.0), np.array(True))


@dataclass
class Line:
    """Class 1 beyond a hyperplane."""

    weights: np.ndarray
    bias: float
    classes: tuple[str, ...] = ("no", "yes")

    def logits(self, cases: Cases) -> np.ndarray:
        far = np.asarray(cases.inputs, np.float64).reshape(len(cases), -1) @ self.weights + self.bias
        return np.stack([np.zeros(len(far)), far], axis=1)

    def predict_proba(self, cases: Cases) -> np.ndarray:
        odds = np.exp(-np.abs(self.logits(cases)[:, 1]))
        high, yes = 1 / (1 + odds), self.logits(cases)[:, 1] > 0
        return np.stack([np.where(yes, 1 - high, high), np.where(yes, high, 1 - high)], axis=1)


def cases_of(inputs: np.ndarray) -> Cases:
    rows = np.arange(len(inputs))
    return Cases(rows, rows, inputs, np.zeros(len(rows), np.int64))


def test_a_linear_models_radius_is_its_distance_and_never_more() -> None:
    rng = np.random.default_rng(0)
    model = Line(rng.normal(size=12), 0.1)
    cases = cases_of(rng.normal(size=(120, 3, 2, 2)))
    distance = np.abs(model.logits(cases)[:, 1]) / np.linalg.norm(model.weights)
    found = certify(model, cases, ROOM, sigma=0.5, samples=400, seed=1)
    right = np.where(model.logits(cases)[:, 1] > 0, 1, 0)
    sure = found.classes != ABSTAINS
    assert sure.mean() > 0.6
    np.testing.assert_array_equal(found.classes[sure], right[sure])
    # One certificate in a thousand may be wrong.
    assert (found.radii > distance).sum() <= 1
    # What 400 questions can show at most, and near it where the truth is known.
    near = sure & (distance < 0.5)
    bound = 0.5 * ndtri(beta.ppf(0.001, 400 * ndtr(distance / 0.5), 400 * ndtr(-distance / 0.5) + 1))
    assert np.median(np.abs(found.radii - bound)[near]) < 0.04


def test_all_votes_for_one_class_give_the_largest_radius_there_is() -> None:
    found = certify(Line(np.zeros(4), 1.0), cases_of(np.zeros((3, 4))), ROOM, sigma=0.1, samples=100, seed=0)
    assert found.classes.tolist() == [1, 1, 1]
    assert found.radii == pytest.approx(0.1 * ndtri(0.001 ** (1 / 100)))


def test_who_stands_on_the_border_is_promised_nothing() -> None:
    found = certify(Line(np.ones(4), 0.0), cases_of(np.zeros((20, 4))), ROOM, sigma=0.1, seed=0)
    assert (found.classes == ABSTAINS).mean() > 0.9
    assert found.radii[found.classes == ABSTAINS].max() == 0


def test_numbers_that_may_not_be_changed_get_no_noise() -> None:
    room = Room(np.zeros(2), np.ones(2), np.array([True, False]))
    found = certify(
        Line(np.array([0.0, 1.0]), -0.5), cases_of(np.tile([0.5, 0.6], (4, 1))), room, sigma=9, seed=0
    )
    assert found.classes.tolist() == [1] * 4


def test_without_noise_there_is_no_certificate() -> None:
    with pytest.raises(InputError):
        certify(Line(np.ones(4), 0.0), cases_of(np.zeros((1, 4))), ROOM, sigma=0, seed=0)

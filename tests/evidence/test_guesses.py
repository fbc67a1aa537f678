import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import ndtri
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from primum.errors import InputError
from primum.evidence.guesses import (
    auroc_difference,
    auroc_difference_beyond_blind,
    auroc_difference_p_value,
    auroc_of,
    patients_needed_for_auroc_difference,
    smallest_detectable_auroc_difference,
)
from primum.evidence.operating_point import TooFewPatients
from primum.evidence.placements import BoolArray
from primum.evidence.ranking import FloatArray

Table = tuple[FloatArray, BoolArray]
PREVALENCES = np.array([0.05, 0.1, 0.2, 0.4])


def guesses(
    random: np.random.Generator, n: int, *, auroc: float, prevalences: FloatArray = PREVALENCES
) -> Table:
    """Scores and labels of known AUROC, both correlated at .5 between the categories of a patient."""
    shape = (n, prevalences.size)

    def noise() -> FloatArray:
        return math.sqrt(0.5) * random.normal(size=(n, 1)) + math.sqrt(0.5) * random.normal(size=shape)

    labels = noise() > ndtri(1 - prevalences)
    return noise() + labels * (math.sqrt(2) * ndtri(auroc)), labels


def test_auroc_difference_against_brute_force() -> None:
    random = np.random.default_rng(8)
    (scores, labels), (others, truths) = (guesses(random, n, auroc=a) for n, a in ((200, 0.8), (150, 0.7)))
    scores, others = scores.round(1), others.round(1)
    found = auroc_difference(scores, labels, others, truths, level=0.9)
    usable = [c for c in range(4) if min(labels[:, c].sum(), truths[:, c].sum()) >= 10]
    assert usable == [1, 2, 3]
    influences, values = [], []
    for table, truth in ((scores, labels), (others, truths)):
        influence, value = np.zeros(len(table)), 0.0
        for c in usable:
            yes, no = table[truth[:, c], c], table[~truth[:, c], c]
            kernel = (yes[:, None] > no) + 0.5 * (yes[:, None] == no)
            value += roc_auc_score(truth[:, c], table[:, c]) / len(usable)
            assert_allclose(auroc_of(table[:, c], truth[:, c]), kernel.mean())
            for mask, part in ((truth[:, c], kernel.mean(axis=1)), (~truth[:, c], kernel.mean(axis=0))):
                influence[mask] += (part - part.mean()) / math.sqrt(part.size * (part.size - 1)) / len(usable)
        influences.append(influence)
        values.append(value)
    assert_allclose(found.value, values[0] - values[1])
    parts = [float(influence @ influence) for influence in influences]
    freedoms = [part**2 / float((i**4).sum()) for part, i in zip(parts, influences, strict=True)]
    error = math.sqrt(sum(parts))
    freedom = sum(parts) ** 2 / sum(part**2 / own for part, own in zip(parts, freedoms, strict=True))
    assert_allclose((found.high - found.low) / 2, student.isf(0.05, freedom) * error)
    assert (found.name, found.method, found.n) == ("auroc_difference", "delong-placements", (200, 150))
    p_value = auroc_difference_p_value(scores, labels, others, truths)
    assert_allclose(p_value, student.sf(found.value / error, freedom))


def test_a_category_told_twice_adds_no_certainty() -> None:
    random = np.random.default_rng(9)
    one, two = (guesses(random, 120, auroc=0.7, prevalences=np.array([0.3])) for _ in "ab")
    once = auroc_difference(*one, *two)
    twice = auroc_difference(*(np.repeat(table, 2, axis=1) for table in (*one, *two)))
    assert_allclose((twice.low, twice.high), (once.low, once.high))


@pytest.mark.parametrize(("n", "runs"), [(150, 400), (300, 400), (700, 300)])
def test_generalisation_is_no_leak_and_the_interval_covers(n: int, runs: int) -> None:
    random = np.random.default_rng(n)
    alarms, covered, values = [], [], []
    for _ in range(runs):
        tables = *guesses(random, n, auroc=0.75), *guesses(random, n, auroc=0.75)
        found = auroc_difference(*tables)
        values.append(found.value)
        alarms.append(auroc_difference_p_value(*tables) <= 0.05)
        covered.append(found.low <= 0 <= found.high)
    assert abs(np.mean(values)) <= 0.005
    assert np.mean(alarms) <= 0.08 and np.mean(covered) >= 0.93


def test_interval_covers_a_leak() -> None:
    random = np.random.default_rng(10)
    runs = [
        auroc_difference(*guesses(random, 300, auroc=0.92), *guesses(random, 300, auroc=0.75))
        for _ in range(300)
    ]
    assert np.mean([run.low <= 0.17 <= run.high for run in runs]) >= 0.93
    assert np.mean([run.low > 0 for run in runs]) > 0.95


def easier(
    random: np.random.Generator, n: int, *, auroc: float, own: float
) -> tuple[FloatArray, BoolArray, FloatArray]:
    """Scores of the model, labels and blind scores; both see the same signal, the model `own` more."""
    signal, labels = guesses(random, n, auroc=auroc)
    noise = 0.5 * random.normal(size=(2, *signal.shape))
    return signal + noise[0] + own * labels, labels, signal + noise[1]


def test_what_is_easier_to_guess_for_anyone_is_not_beyond_blind() -> None:
    random = np.random.default_rng(15)
    plain, beyond, covered, seen = [], [], [], []
    for _ in range(300):
        members, labels, blind = easier(random, 250, auroc=0.9, own=0.0)
        others, truths, without = easier(random, 250, auroc=0.75, own=0.0)
        plain.append(auroc_difference(members, labels, others, truths).low > 0)
        found = auroc_difference_beyond_blind(members, labels, others, truths, blind=(blind, without))
        beyond.append(found.low > 0)
        covered.append(found.low <= 0 <= found.high)
        knowing, labels, blind = easier(random, 250, auroc=0.75, own=0.7)
        seen.append(
            auroc_difference_beyond_blind(knowing, labels, others, truths, blind=(blind, without)).low > 0
        )
    assert np.mean(plain) > 0.9
    assert np.mean(beyond) <= 0.05 and np.mean(covered) >= 0.93
    assert np.mean(seen) > 0.8
    assert found.name == "auroc_difference_beyond_blind"


def test_guesses_equal_to_the_blind_ones_keep_a_width() -> None:
    random = np.random.default_rng(16)
    (one, labels), (two, truths) = guesses(random, 200, auroc=0.8), guesses(random, 200, auroc=0.7)
    found = auroc_difference_beyond_blind(one, labels, two, truths, blind=(one, two))
    assert found.value == 0 and found.high > 0


def test_the_smallest_detectable_difference_is_found_four_times_out_of_five() -> None:
    random = np.random.default_rng(17)
    tables = *guesses(random, 600, auroc=0.8), *guesses(random, 600, auroc=0.8)
    smallest = smallest_detectable_auroc_difference(*tables, alpha=0.01)
    found = [
        auroc_difference_p_value(
            *guesses(random, 600, auroc=0.75 + smallest / 2), *guesses(random, 600, auroc=0.75 - smallest / 2)
        )
        <= 0.01
        for _ in range(300)
    ]
    assert 0.68 <= np.mean(found) <= 0.92


def test_perfect_guesses_keep_a_width() -> None:
    labels = np.arange(40)[:, None] < 15
    found = auroc_difference(labels.astype(float), labels, labels.astype(float), labels)
    assert found.value == 0 and found.high > 0.03
    assert auroc_difference_p_value(labels.astype(float), labels, labels.astype(float), labels) == 0.5


def test_too_few_of_a_kind() -> None:
    scores, labels = np.zeros((50, 2)), np.arange(50)[:, None] < [4, 5]
    with pytest.raises(TooFewPatients, match="10 patients with it and 10 without") as error:
        auroc_difference(scores, labels, scores, labels)
    assert error.value.needed == 100
    # nine without it are as few as nine with it, ten are enough
    for count in (9, 41):
        one = scores[:, :1], np.arange(50)[:, None] < count
        with pytest.raises(TooFewPatients):
            auroc_difference_p_value(*one, *one)
    one = scores[:, :1], np.arange(50)[:, None] < 10
    assert auroc_difference(*one, *one).value == 0


@pytest.mark.parametrize("ratio", [1.0, 2.0])
def test_needed_patients_for_an_auroc(ratio: float) -> None:
    random, prevalence = np.random.default_rng(12), np.array([0.25])
    needed = patients_needed_for_auroc_difference(0.12, prevalence=prevalence, ratio=ratio)
    others = math.ceil(needed * ratio)
    below = [
        auroc_difference(
            *guesses(random, needed, auroc=0.5, prevalences=prevalence),
            *guesses(random, others, auroc=0.5, prevalences=prevalence),
        ).high
        < 0.12
        for _ in range(600)
    ]
    assert 0.74 <= np.mean(below) <= 0.86
    assert patients_needed_for_auroc_difference(0.12, prevalence=[0.25] * 4) == pytest.approx(
        patients_needed_for_auroc_difference(0.12, prevalence=0.25) / 4, abs=1
    )
    assert patients_needed_for_auroc_difference(0.9, prevalence=0.1, ratio=0.5) == 200


def test_bad_input_is_refused() -> None:
    table, labels = np.zeros((30, 2)), np.arange(30)[:, None] < [15, 15]
    with pytest.raises(InputError, match="one shape"):
        auroc_difference(table[:, 0], labels[:, 0], table, labels)
    with pytest.raises(InputError, match="same categories"):
        auroc_difference(table, labels, table[:, :1], labels[:, :1])
    with pytest.raises(InputError, match="not finite"):
        auroc_difference(table + np.nan, labels, table, labels)
    with pytest.raises(InputError):
        auroc_of([1.0, 2.0], [True, True])
    for prevalence, power in ((1.0, 0.8), ([], 0.8), (0.2, 1.0)):
        with pytest.raises(InputError):
            patients_needed_for_auroc_difference(0.1, prevalence=prevalence, power=power)

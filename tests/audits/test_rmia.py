"""RMIA against the paper's definition, pair by pair, and where the truth is known."""

import tracemalloc

import numpy as np
import pytest
from scipy.special import expit

from primum.audits.privacy.rmia import rmia
from primum.evidence.ranking import auc
from primum.models import score_matrix
from primum.models.score_matrix import ScoreMatrix

FloatArray = np.typing.NDArray[np.float64]
CASES, PEOPLE = 300, 200


class World:
    """References on half of the cases each (or of none), and people of a population who trained nothing."""

    def __init__(self, seed: int, *, references: int, effect: float = 0.0, online: bool = False) -> None:
        random = np.random.default_rng([2, seed])
        self.is_member = random.permutation(CASES) < CASES // 2
        hard = 2 * random.standard_normal(CASES + PEOPLE)
        inside = np.zeros((references + 1, CASES + PEOPLE), bool)
        inside[0, :CASES] = self.is_member
        if online:
            for number in range(1, references + 1, 2):
                inside[number, :CASES] = random.permutation(CASES) < CASES // 2
                inside[number + 1, :CASES] = ~inside[number, :CASES]
        scores = hard + effect * inside + 0.5 * random.standard_normal(inside.shape)
        self.target, self.population = scores[0, :CASES], scores[0, CASES:]
        self.matrix = ScoreMatrix(scores[1:, :CASES], inside[1:, :CASES])
        self.people = ScoreMatrix(scores[1:, CASES:], inside[1:, CASES:])

    def scores(self, *, online: bool = False, gamma: float = 1.0, coefficient: float = 0.3) -> FloatArray:
        return rmia(
            self.target,
            self.matrix,
            self.population,
            self.people,
            online=online,
            gamma=gamma,
            coefficient=coefficient,
        )

    def seen(self, *, online: bool) -> float:
        scores = self.scores(online=online)
        return auc(scores[self.is_member], scores[~self.is_member]).value


def usual(matrix: ScoreMatrix, case: int, *, online: bool, coefficient: float) -> float:
    probability, inside = expit(matrix.scores[:, case]), matrix.inside[:, case]
    without = float(probability[~inside].mean())
    if online:
        return (float(probability[inside].mean()) + without) / 2
    return ((1 + coefficient) * without + 1 - coefficient) / 2


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize(("gamma", "coefficient"), [(1.0, 0.3), (2.0, 0.0), (1.1, 1.0)])
def test_share_of_the_population_as_in_the_paper(online: bool, gamma: float, coefficient: float) -> None:
    world = World(0, references=4, effect=1, online=online)
    people = [
        expit(world.population[person]) / usual(world.people, person, online=False, coefficient=coefficient)
        for person in range(PEOPLE)
    ]
    expected = []
    for case in range(CASES):
        ratio = expit(world.target[case]) / usual(world.matrix, case, online=online, coefficient=coefficient)
        expected.append(sum(ratio >= gamma * person for person in people))
    found = world.scores(online=online, gamma=gamma, coefficient=coefficient)
    assert np.floor(found * (PEOPLE + 1)).tolist() == expected
    assert 5 < len(set(expected)) <= PEOPLE + 1


def test_a_case_dominates_its_equal() -> None:
    world = World(0, references=2)
    found = rmia(world.target, world.matrix, world.target, world.matrix, online=False)
    assert sorted(np.floor(found * (CASES + 1)).tolist()) == list(range(1, CASES + 1))


def test_cases_that_dominate_equally_many_are_ordered_by_their_ratio() -> None:
    world = World(0, references=1)
    found = world.scores(coefficient=1.0)
    ratio = np.log(expit(world.target)) - np.log(expit(world.matrix.scores[0]))
    assert np.array_equal(np.argsort(found), np.argsort(ratio))
    assert found.min() > 0
    assert found.max() < 1


@pytest.mark.parametrize(("references", "online"), [(1, False), (2, False), (4, False), (2, True), (4, True)])
def test_nothing_where_nobody_is_remembered(references: int, online: bool) -> None:
    found = [World(seed, references=references, online=online).seen(online=online) for seed in range(100)]
    assert abs(np.mean(found) - 0.5) < 3 * np.std(found) / len(found) ** 0.5


def test_more_references_and_online_find_more() -> None:
    def found(references: int, *, online: bool) -> float:
        worlds = (World(seed, references=references, effect=0.5, online=online) for seed in range(20))
        return float(np.mean([world.seen(online=online) for world in worlds]))

    one, four, online = found(1, online=False), found(4, online=False), found(4, online=True)
    assert 0.6 < one < four
    assert online > four


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(0, references=3)
    whole = world.scores()
    monkeypatch.setattr(score_matrix, "BLOCK", 50)
    assert np.array_equal(world.scores(), whole)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_matrix, "BLOCK", 1 << 14)
    scores = np.random.default_rng(0).standard_normal((8, 200_000))
    matrix = ScoreMatrix(scores, np.zeros(scores.shape, bool))
    tracemalloc.start()
    rmia(scores[0], matrix, scores[1], matrix, online=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < scores.nbytes  # some numbers a case, not some a case and reference


def test_a_case_that_no_reference_knows_cannot_be_asked() -> None:
    world = World(0, references=2, online=True)
    world.matrix.inside[:, 0] = True
    world.matrix.inside[:, 1] = False
    assert np.isnan(world.scores(online=True)[:3]).tolist() == [True, True, False]
    assert np.isnan(world.scores(online=False)[:3]).tolist() == [True, False, False]


def test_people_who_trained_every_reference_are_no_population() -> None:
    world = World(0, references=2)
    world.people.inside[:] = True
    with pytest.raises(ValueError, match="population"):
        world.scores()
    with pytest.raises(ValueError, match="each case"):
        rmia(world.target[1:], world.matrix, world.population, world.people, online=False)


def test_extreme_scores_stay_finite() -> None:
    far = np.array([[1e4, -1e4, 800.0, -800.0]])
    matrix = ScoreMatrix(far, np.zeros(far.shape, bool))
    for coefficient in (0.0, 1.0):
        found = rmia(-far[0], matrix, far[0], matrix, online=False, coefficient=coefficient)
        assert np.isfinite(found).all()

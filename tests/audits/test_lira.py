"""LiRA against a plain loop over cases, where the truth is known, and in the traps of half splits."""

import tracemalloc

import numpy as np
import pytest
from scipy import stats

from primum.audits.privacy.lira import lira
from primum.evidence.ranking import auc
from primum.models import score_matrix
from primum.models.score_matrix import SATURATED, ScoreMatrix, log_odds

FloatArray = np.typing.NDArray[np.float64]
CASES = 400


def world(
    seed: int, *, pairs: int, effect: float = 0.0, neighbours: float = 0.0, cases: int = CASES
) -> ScoreMatrix:
    """Models in halves and complements; a case's score may depend on its own membership or on others'."""
    random = np.random.default_rng([1, seed])
    halves = np.array([random.permutation(cases) < cases // 2 for _ in range(pairs)])
    inside = np.stack([halves, ~halves], axis=1).reshape(-1, cases)
    scores = effect * inside + 2 * random.standard_normal(cases)
    if neighbours:
        weights = random.standard_normal((cases, cases)) * neighbours / np.sqrt(cases)
        np.fill_diagonal(weights, 0)
        scores = scores + (2 * inside - 1) @ weights
    return ScoreMatrix(scores + 0.5 * random.standard_normal(inside.shape), inside)


def seen(scores: FloatArray, inside: np.typing.NDArray[np.bool_]) -> float:
    return auc(scores[inside], scores[~inside]).value


def by_loop(target: FloatArray, matrix: ScoreMatrix, *, online: bool, fixed: bool) -> FloatArray:
    """The same attack, case by case, with scipy's densities."""
    sides = (matrix.inside, ~matrix.inside)
    rows = [[matrix.scores[side[:, case], case] for side in sides] for case in range(len(target))]
    shared = []
    for side in range(2):
        squares = sum(len(row[side]) * np.var(row[side]) for row in rows)
        shared.append(squares / sum(len(row[side]) - 1 for row in rows))
    found = []
    for score, row in zip(target, rows, strict=True):
        variances = [
            shared[side]
            if fixed
            else (len(row[side]) * np.var(row[side]) + 4 * shared[side]) / (len(row[side]) + 3)
            for side in range(2)
        ]
        within, without = (
            stats.norm(np.mean(one), np.sqrt(var)) for one, var in zip(row, variances, strict=True)
        )
        ratio = within.logpdf(score) - without.logpdf(score)
        found.append(ratio if online else (score - without.mean()) / without.std())
    return np.array(found)


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("fixed", [True, False])
def test_as_a_plain_loop_says(online: bool, fixed: bool) -> None:
    target, matrix = world(0, pairs=6, effect=1, cases=40).leave_out(3)
    found = lira(target, matrix, online=online, fixed_variance=fixed)
    np.testing.assert_allclose(found, by_loop(target, matrix, online=online, fixed=fixed), rtol=1e-9)


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("fixed", [True, False])
def test_nothing_where_nobody_is_remembered(online: bool, fixed: bool) -> None:
    found = []
    for seed in range(120):
        target, matrix = (models := world(seed, pairs=4)).leave_out(0)
        found.append(seen(lira(target, matrix, online=online, fixed_variance=fixed), models.inside[0]))
    assert abs(np.mean(found) - 0.5) < 3 * np.std(found) / len(found) ** 0.5
    assert 0.02 < np.std(found) < 0.04  # of two groups of 200: .029


def test_likelihood_ratio_is_as_strong_as_theory_allows() -> None:
    # With means and variances known, the AUC of a shift of one unit at a deviation of .5 is Phi(2 / sqrt 2).
    target, matrix = (models := world(0, pairs=200, effect=1)).leave_out(0)
    for fixed in (True, False):
        found = seen(lira(target, matrix, online=True, fixed_variance=fixed), models.inside[0])
        assert found == pytest.approx(stats.norm.cdf(np.sqrt(2)), abs=0.03)


def test_the_targets_complement_is_dropped() -> None:
    # Scores depend on who else trained, never on one's own membership: nothing may be found.
    kept: list[float] = []
    dropped: list[float] = []
    for seed in range(60):
        models = world(seed, pairs=4, neighbours=1)
        target, matrix = models.leave_out(0)
        others = models.models(slice(1, None))
        assert len(others) == 7
        assert len(matrix) == 6
        for shadows, found in ((others, kept), (matrix, dropped)):
            found.append(seen(lira(target, shadows, online=True, fixed_variance=True), models.inside[0]))
    assert np.mean(kept) > 0.54
    assert abs(np.mean(dropped) - 0.5) < 3 * np.std(dropped) / len(dropped) ** 0.5


def test_other_models_than_the_complement_stay() -> None:
    models = world(0, pairs=3)
    nearly = ~models.inside[0]
    nearly[0] = not nearly[0]
    inside = np.concatenate([models.inside, models.inside[:1], nearly[None]])
    study = ScoreMatrix(np.concatenate([models.scores, models.scores[:2]]), inside)
    target, matrix = study.leave_out(0)
    assert np.array_equal(target, models.scores[0])
    assert np.array_equal(matrix.inside, inside[2:])
    assert len(study.fair_to(np.zeros(CASES, bool))) == len(study)


def test_a_case_without_shadows_cannot_be_asked() -> None:
    scores = np.random.default_rng(0).standard_normal((4, 3))
    inside = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 0], [1, 0, 0]], bool)
    matrix = ScoreMatrix(scores, inside)
    for fixed in (True, False):
        online = lira(np.zeros(3), matrix, online=True, fixed_variance=fixed)
        offline = lira(np.zeros(3), matrix, online=False, fixed_variance=fixed)
        assert np.isnan(online).tolist() == [True, False, True]
        assert np.isnan(offline).tolist() == [True, False, False]


@pytest.mark.parametrize("fixed", [True, False])
def test_blocks_change_nothing_and_bound_the_memory(fixed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    target, matrix = world(0, pairs=6, effect=1).leave_out(0)
    target[3] = matrix.scores[1, 300] = SATURATED
    whole = lira(target, matrix, online=True, fixed_variance=fixed)
    monkeypatch.setattr(score_matrix, "BLOCK", 100)
    np.testing.assert_allclose(lira(target, matrix, online=True, fixed_variance=fixed), whole, rtol=1e-9)
    monkeypatch.setattr(score_matrix, "BLOCK", 1 << 14)
    wide = ScoreMatrix(np.tile(matrix.scores, (2, 200)), np.tile(matrix.inside, (2, 200)))
    tracemalloc.start()
    lira(np.tile(target, 200), wide, online=True, fixed_variance=fixed)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.8 * wide.scores.nbytes  # some numbers a case, not some a case and model


def test_no_cases_no_scores() -> None:
    nobody = ScoreMatrix(np.empty((4, 0)), np.empty((4, 0), bool))
    assert lira(np.empty(0), nobody, online=True, fixed_variance=True).shape == (0,)


def test_certainty_is_put_at_twice_the_furthest_odds() -> None:
    matrix = world(0, pairs=3)
    matrix.scores[0, 0] = SATURATED
    matrix.scores[1, 1] = -SATURATED
    target = np.full(CASES, SATURATED)
    edge = np.abs(matrix.scores[np.abs(matrix.scores) < SATURATED]).max() + np.log(2)
    plain = ScoreMatrix(np.clip(matrix.scores, -edge, edge), matrix.inside)
    for online in (True, False):
        found = lira(target, matrix, online=online, fixed_variance=True)
        assert np.array_equal(found, lira(np.full(CASES, edge), plain, online=online, fixed_variance=True))


def test_log_odds_of_logits_are_not_clipped() -> None:
    matrix = world(0, pairs=3)
    far = ScoreMatrix(matrix.scores * 100, matrix.inside)
    for online in (True, False):
        near = lira(matrix.scores[0], matrix, online=online, fixed_variance=True)
        found = lira(far.scores[0], far, online=online, fixed_variance=True)
        np.testing.assert_allclose(found, near, rtol=1e-9)


def test_shadows_that_all_agree_give_finite_scores() -> None:
    matrix = ScoreMatrix(np.full((4, 3), SATURATED), np.array([[1, 0, 1], [0, 1, 0]] * 2, bool))
    assert np.isfinite(lira(np.full(3, SATURATED), matrix, online=True, fixed_variance=False)).all()


def test_other_cases_are_refused() -> None:
    with pytest.raises(ValueError, match="each case"):
        lira(np.zeros(3), world(0, pairs=1), online=True, fixed_variance=True)
    with pytest.raises(ValueError, match="one shape"):
        ScoreMatrix(np.zeros((2, 3)), np.zeros((3, 2), bool))


def test_log_odds_agree_from_logits_and_from_probabilities() -> None:
    random = np.random.default_rng(0)
    logits, labels = 5 * random.standard_normal((200, 4)), random.integers(4, size=200)
    powers = np.exp(logits.astype(np.longdouble))
    true = powers[np.arange(200), labels]
    truth = np.log(true / (powers.sum(axis=1) - true)).astype(np.float64)
    probabilities = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float64)
    np.testing.assert_allclose(log_odds(logits, labels, source="logits"), truth, rtol=1e-10)
    np.testing.assert_allclose(log_odds(probabilities, labels, source="probabilities"), truth, rtol=1e-10)


def test_log_odds_at_the_ends() -> None:
    certain = np.array([[1.0, 0.0], [1.0, 0.0], [1 - 1e-12, 1e-12]])
    found = log_odds(certain, np.array([0, 1, 0]), source="probabilities")
    assert found[:2].tolist() == [SATURATED, -SATURATED]
    assert found[2] == pytest.approx(27.631, abs=1e-3)
    wide = np.array([[1e4, 0.0, -1e4]])
    assert log_odds(wide, np.array([2]), source="logits").tolist() == [-2e4]

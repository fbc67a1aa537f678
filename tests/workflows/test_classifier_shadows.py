import numpy as np

from primum.models.score_matrix import SATURATED, ScoreMatrix
from primum.workflows.case_gather import CaseGroup, CasePeople, people_of
from primum.workflows.classifier_shadows import Shadows, bounded, calibrated


def people(odds: np.ndarray) -> CasePeople:
    """Members first, one case each."""

    rows = np.arange(len(odds))
    known, buckets = np.zeros((len(rows), 2), np.float32), np.zeros((len(rows), 0), np.int16)
    answers = np.full((len(rows), 2), 0.5, np.float32)
    cases = CaseGroup(rows, rows, rows % 2, {}, known, buckets, {"loss": odds}, answers, True)
    return people_of(cases, len(odds) // 2, classes=("no", "yes"), seed=0)


def shadows(models: int, cases: int) -> Shadows:
    rng = np.random.default_rng(models)
    inside = np.zeros((models, cases), np.bool_)
    inside[::2, : cases // 4] = inside[::2, cases // 2 : 3 * cases // 4] = True
    inside[1::2] = ~inside[0]
    return Shadows(ScoreMatrix(rng.standard_normal((models, cases)), inside), np.zeros(cases, np.bool_))


def test_one_shadow_says_nothing_of_those_it_trained_on_so_it_scores_nobody() -> None:
    known = people(np.random.default_rng(0).standard_normal(40))
    assert calibrated(known, shadows(1, 40)) == {}
    assert calibrated(known, shadows(2, 40)).keys() == {"rmia"}
    assert np.isfinite(calibrated(known, shadows(2, 40))["rmia"]).all()


def test_what_all_trees_agree_on_does_not_drown_a_mean() -> None:
    odds = np.random.default_rng(0).standard_normal(40).clip(-2, 2)
    odds[[0, 21]] = SATURATED, -SATURATED
    given = shadows(4, 40)
    given.matrix.scores[:, 3] = [3.0, SATURATED, 0.0, -SATURATED]
    found, matrix = bounded(people(odds), given)
    edge = 3 + np.log(2)
    np.testing.assert_allclose(found.cases.scores["loss"][[0, 21]], [edge, -edge])
    np.testing.assert_array_equal(np.delete(found.cases.scores["loss"], [0, 21]), np.delete(odds, [0, 21]))
    assert matrix is not None
    np.testing.assert_allclose(matrix.matrix.scores[:, 3], [3, edge, 0, -edge])
    alone, nothing = bounded(people(odds), None)
    assert nothing is None
    assert alone.cases.scores["loss"].max() < 3

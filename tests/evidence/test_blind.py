import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from scipy import sparse
from sklearn.linear_model import Ridge

from primum.errors import InputError
from primum.evidence import blind
from primum.evidence.blind import _scaled, blind_guesses, blind_scores, blind_scores_of
from primum.evidence.estimate import Estimate
from primum.evidence.ranking import FloatArray, auc

MEASURED, COUNTS = 10, 1024


def cohort(members: int, others: int, seed: int) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Patients of one population: dates in days, ages, flags, then Zipf-like code counts."""
    random, n = np.random.default_rng(seed), members + others
    rates = 6 / (np.arange(COUNTS) + 3.0)
    counts = random.poisson(rates * random.gamma(1, 1, (n, 1)), (n, COUNTS))
    dates, flags = random.uniform(17_000, 18_500, (n, 4)), random.random((n, 6)) < 0.4
    return np.column_stack([dates, flags, np.log1p(counts)]), np.arange(n) < members


def ranked(features: FloatArray, is_member: NDArray[np.bool_]) -> Estimate:
    scores = blind_scores(sparse.csr_array(features), is_member, dense_columns=MEASURED)
    return auc(scores[is_member], scores[~is_member])


def test_centred_and_rarely_alarming_when_the_groups_are_alike() -> None:
    results = [ranked(*cohort(300, 300, seed)) for seed in range(25)]
    values = np.array([e.value for e in results])
    assert abs(values.mean() - 0.5) < 0.02
    assert sum(e.value >= 0.6 and e.low > 0.5 for e in results) <= 1


@pytest.mark.parametrize(
    ("shift", "least"), [("flag", 0.85), ("year", 0.61), ("site", 0.9), ("rare code", 0.62)]
)
def test_one_shifted_column_is_not_drowned(shift: str, least: float) -> None:
    features, is_member = cohort(300, 300, 1)
    random = np.random.default_rng(2)
    if shift == "flag":
        features[:, 6] = random.random(600) < np.where(is_member, 0.1, 0.9)
    elif shift == "year":
        features[:, 2] += np.where(is_member, 0, 365)
    elif shift == "site":
        features[:, 700], features[:, 900] = is_member, ~is_member
    else:
        features[:, 800] = random.random(600) < np.where(is_member, 0.9, 0.1)
    assert ranked(features, is_member).value > least


def test_dense_and_sparse_agree_and_folds_are_centred() -> None:
    features, is_member = cohort(60, 90, 3)
    dense = blind_scores(features, is_member, dense_columns=MEASURED, seed=5)
    again = blind_scores(sparse.csr_matrix(features), is_member, dense_columns=MEASURED, seed=5)
    assert np.array_equal(dense, again) and abs(dense.mean()) < 1e-9
    assert not np.array_equal(dense, blind_scores(features, is_member, dense_columns=MEASURED, seed=6))


def test_no_patient_is_scored_by_a_model_that_saw_it() -> None:
    """A column that marks single patients separates perfectly in training and tells nothing about others."""
    is_member = np.arange(80) < 40
    marks = np.column_stack([np.eye(80), np.random.default_rng(4).normal(size=80)])
    assert 0.3 < ranked(np.column_stack([np.zeros((80, MEASURED)), marks]), is_member).value < 0.7


def test_constant_columns_and_small_groups() -> None:
    is_member = np.arange(30) < 3
    scores = blind_scores(np.ones((30, 4)), is_member, dense_columns=2)
    assert np.array_equal(scores, np.zeros(30))


def test_written_out_in_parts_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    features, is_member = cohort(60, 60, 8)
    sizes: list[int] = []

    def part(some: NDArray[np.int64]) -> blind.Part:
        sizes.append(len(some))
        return features[some, :MEASURED], sparse.csr_array(features[some, MEASURED:])

    whole = blind_scores(features, is_member, dense_columns=MEASURED, seed=2)
    assert np.array_equal(blind_scores_of(part, is_member, seed=2), whole)
    sizes.clear()
    monkeypatch.setattr(blind, "_MOST_LEARNED_FROM", 50)
    few = blind_scores_of(part, is_member, seed=2)
    assert max(sizes) == 50
    assert np.corrcoef(few, whole)[0, 1] > 0.5
    with pytest.raises(InputError, match="two members"):
        blind_scores_of(part, np.arange(120) < 1)


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="one row"):
        blind_scores(np.ones((3, 2)), [True, False])
    with pytest.raises(InputError, match="not finite"):
        blind_scores([[np.nan], [1.0], [1.0], [1.0]], [True, True, False, False])
    with pytest.raises(InputError, match="two members"):
        blind_scores(np.ones((3, 2)), [True, False, False])


def facts(features: FloatArray, seed: int) -> NDArray[np.bool_]:
    """Two facts: one that a code tells, one that nothing tells."""
    random = np.random.default_rng(seed)
    told = features[:, 30] + 0.3 * random.standard_normal(len(features)) > 0.5
    return np.stack([told, random.random(len(features)) < 0.3], axis=1)


def test_guesses_know_what_others_records_tell_and_nothing_else() -> None:
    features, _ = cohort(400, 400, 6)
    labels = facts(features, 7)
    guesses = blind_guesses(sparse.csr_array(features), labels, dense_columns=MEASURED)
    told, not_told = (auc(guesses[has, c], guesses[~has, c]).value for c, has in enumerate(labels.T))
    assert told > 0.7
    assert 0.42 < not_told < 0.58


def test_no_fact_is_guessed_by_who_saw_it_and_the_solution_is_ridge_regression() -> None:
    features, _ = cohort(60, 60, 8)
    labels = facts(features, 9)
    guesses = blind_guesses(features, labels, dense_columns=MEASURED, seed=3)
    other = labels.copy()
    other[5] = ~other[5]
    assert np.array_equal(blind_guesses(features, other, dense_columns=MEASURED, seed=3)[5], guesses[5])
    fold = np.random.default_rng(3).permutation(120) % 5
    train, test = np.flatnonzero(fold != fold[5]), np.flatnonzero(fold == fold[5])
    measured, counts = features[:, :MEASURED], sparse.csr_array(features[:, MEASURED:])
    scaled = _scaled((measured[train], counts[train]), (measured, counts)).toarray()
    wanted = labels[train] - labels[train].mean(axis=0)
    oracle = Ridge(alpha=10.0, fit_intercept=False).fit(scaled[train], wanted)
    assert_allclose(guesses[test], oracle.predict(scaled[test]), atol=1e-8)


def test_guesses_of_hardly_anyone_and_of_a_wrong_shape() -> None:
    assert blind_guesses(np.ones((1, 3)), np.ones((1, 2), bool)).tolist() == [[0.0, 0.0]]
    assert blind_guesses(np.empty((4, 0)), np.eye(4, 2) > 0).tolist() == [[0.0, 0.0]] * 4
    with pytest.raises(InputError, match="one row"):
        blind_guesses(np.ones((3, 2)), np.ones((2, 1), bool))


def test_of_many_patients_some_are_learned_from_and_all_are_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    features, member = cohort(300, 300, 8)
    features = features[:, :MEASURED]
    features[member, 0] += 1_000
    everyone = blind_scores(features, member, dense_columns=MEASURED)
    monkeypatch.setattr("primum.evidence.blind._MOST_LEARNED_FROM", 150)
    some = blind_scores(features, member, dense_columns=MEASURED)
    assert not np.array_equal(some, everyone)
    assert np.corrcoef(some, everyone)[0, 1] > 0.8
    assert auc(some[member], some[~member]).value > 0.8

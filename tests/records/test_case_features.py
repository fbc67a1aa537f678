import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from primum.evidence.blind import blind_scores_of
from primum.evidence.estimate import Estimate
from primum.evidence.ranking import auc
from primum.records.case_features import HASHED, HASHED_COLUMNS, CaseFeatures, case_rows, coarse
from primum.records.cases import Cases, Inputs

_REAL = Path(os.environ.get("PRIMUM_REAL_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
PNEUMONIA = _REAL / "images-medmnist" / "pneumoniamnist.npz"


def cases(inputs: Inputs, *, each: int = 1, **attributes: object) -> Cases:
    count = len(inputs)
    labels = np.random.default_rng(0).integers(0, 2, count)
    ids = np.arange(count)
    known = {name: np.asarray(values) for name, values in attributes.items()}
    return Cases(ids, ids // each, inputs, labels, known)


def features_of(one: Cases) -> CaseFeatures:
    return CaseFeatures(*case_rows(one), one.labels, 2, np.unique(one.subject_ids, return_inverse=True)[1])


def told(one: Cases, is_member: np.ndarray) -> Estimate:
    score = blind_scores_of(features_of(one).of_patients, is_member)
    return auc(score[is_member], score[~is_member])


def test_rows_are_means_over_the_cases_of_a_patient_in_whatever_order() -> None:
    rng = np.random.default_rng(0)
    when = np.array(["2001-01-01", "NaT", "2003-05-05"] * 4, "datetime64[D]")
    whole = cases(
        rng.random((12, 1, 8, 9)), each=3, site=["A", "B", ""] * 4, age=[1.0, np.nan, 3] * 4, date=when
    )
    measured, counts = features_of(whole).of_patients(np.arange(4))
    shuffled, other = features_of(whole.select(rng.permutation(12))).of_patients(np.array([3, 1]))
    assert np.allclose(measured[[3, 1]], shuffled)
    assert np.allclose(counts.toarray()[[3, 1]], other.toarray())
    assert measured[:, 0] == pytest.approx(np.log(4))
    assert measured[:, 1:] == pytest.approx(features_of(whole)[np.arange(12)].reshape(4, 3, -1).mean(axis=1))
    no_age_no_date = measured[:, -2:]
    assert np.hstack([measured[:, 1:3], no_age_no_date]) == pytest.approx(
        np.tile([4 / 3, 4.34 / 3, 1 / 3, 1 / 3], (4, 1)), rel=0.01
    )
    assert counts.sum(axis=1) == pytest.approx(1)
    assert counts.shape == (4, HASHED_COLUMNS)
    assert sorted(set(counts.toarray().ravel().round(6))) == [0, round(1 / 3, 6)]


def test_a_case_takes_few_bytes() -> None:
    one = cases(np.random.default_rng(0).normal(size=(7, 3)), site=["A"] * 7)
    known, buckets = case_rows(one)
    assert (known.nbytes, buckets.nbytes) == (7 * 4 * (4 + 3), 7 * 2 * len(HASHED))
    assert (buckets >= 0).tolist() == [[True, False, False, False, False]] * 7


def shifted(kind: str, by: float) -> Inputs:
    """200 inputs alike and 200 that differ."""
    rng = np.random.default_rng(len(kind))
    move = by * (np.arange(400) >= 200)
    if kind == "images":
        return (
            (rng.normal(100, 20, (400, 3, 16, 16)) + 10 * move[:, None, None, None])
            .clip(0, 255)
            .astype(np.uint8)
        )
    if kind == "volumes":
        return rng.normal(0, 1, (400, 1, 4, 8, 8)) + move[:, None, None, None, None] * 0.1
    if kind == "signals":
        return rng.normal(0, 1, (400, 12, 60)) * (1 + 0.1 * move[:, None, None])
    if kind == "rows":
        rows = rng.normal(0, 1, (400, 5))
        rows[:, 2] += move
        rows[::7, 3] = np.nan
        return rows
    if kind == "letters":
        share = np.array([0.25, 0.25, 0.25, 0.25])
        other = share + by * np.array([0.1, -0.1, 0, 0])
        return tuple(
            rng.choice(np.frombuffer(b"ACGt", np.uint8), 100 + row % 9, p=other if row >= 200 else share)
            for row in range(400)
        )
    return tuple(rng.normal(0, 1, (int(5 + row % 5 + 3 * move[row]), 1, 6, 6)) for row in range(400))


@pytest.mark.parametrize("kind", ["images", "volumes", "signals", "rows", "letters", "bags"])
def test_a_shift_is_seen_and_none_is_not(kind: str) -> None:
    member = np.arange(400) < 200
    assert told(cases(shifted(kind, 1.0)), member).low > 0.6
    same = cases(shifted(kind, 0.0))
    chance = [told(same, np.random.default_rng(seed).permutation(member)).value for seed in range(6)]
    assert abs(np.mean(chance) - 0.5) < 0.03


@pytest.mark.parametrize("name", ["site", "practitioner", "sex", "date", "age", "cases"])
def test_a_shift_of_attributes_is_seen(name: str) -> None:
    rng = np.random.default_rng(4)
    member = np.arange(400) < 200
    inputs = rng.normal(0, 1, (400, 4))
    if name == "cases":
        one = cases(inputs)
        more = one.select(np.concatenate([np.arange(400), np.arange(120)]))
        assert told(more, member).low > 0.55
        return
    codes = np.where(rng.random(400) < np.where(member, 0.7, 0.3), 0, 1)
    values = {
        "sex": np.array(["F", "M"])[codes],
        "age": 40.0 + 9 * codes,
        "date": np.datetime64("2019-01-01") + 300 * codes,
    }.get(name, np.array(["A", "B"])[codes])
    assert told(replace(cases(inputs), attributes={name: values}), member).low > 0.55


def test_coarse_agrees_with_whole_blocks_and_keeps_the_mean() -> None:
    pictures = np.random.default_rng(0).random((3, 12, 18))
    blocks = pictures.reshape(3, 6, 2, 6, 3).mean(axis=(2, 4))
    assert np.allclose(coarse(pictures, rows=6, columns=6), blocks)
    assert np.allclose(coarse(pictures, rows=5, columns=7).mean(axis=(1, 2)), pictures.mean(axis=(1, 2)))


def test_strange_inputs_stay_finite() -> None:
    values = np.array([np.inf, -np.inf, np.nan, 1.0])
    for inputs in (np.tile(values, (3, 1)), np.tile(values, (3, 1, 2, 1)), (np.zeros((0, 1, 4, 4)),) * 3):
        assert np.isfinite(features_of(cases(inputs))[np.arange(3)]).all()


@pytest.mark.real_data
@pytest.mark.skipif(not PNEUMONIA.exists(), reason="the real images are not here")
def test_the_official_test_split_of_pneumoniamnist_is_shifted() -> None:
    stored = np.load(PNEUMONIA)
    images = np.concatenate([stored["train_images"], stored["test_images"]])[:, None]
    labels = np.concatenate([stored["train_labels"], stored["test_labels"]]).ravel().astype(np.int64)
    ids = np.arange(len(images))
    member = ids < len(stored["train_images"])
    features = features_of(Cases(ids, ids, images, labels))
    score = blind_scores_of(features.of_patients, member)
    official = auc(score[member], score[~member])
    assert official.value >= 0.60
    assert official.low > 0.5
    rows = np.random.default_rng(0).permutation(np.flatnonzero(member))[:2400]
    half = np.arange(2400) < 1200
    score = blind_scores_of(lambda some: features.of_patients(rows[some]), half)
    assert abs(auc(score[half], score[~half]).value - 0.5) < 0.04

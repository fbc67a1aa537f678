import numpy as np
import pytest

from primum.audits.data.features import COMPONENTS, features_of, principal
from primum.audits.data.looks import ARTIFICIAL, artificial_cases, outlying
from primum.records.synthetic_cases import SYNTHETIC_CASES


@pytest.mark.parametrize("kind", SYNTHETIC_CASES)
def test_real_cases_are_real_and_have_features(kind: str) -> None:
    cases = SYNTHETIC_CASES[kind][0](20, seed=3)
    assert not artificial_cases(cases.inputs).any()
    features = features_of(cases.inputs)
    assert len(features) == len(cases)
    assert np.isfinite(features).all()
    some = features_of(cases.select(np.arange(4, 9)).inputs)
    assert np.allclose(some, features[4:9])


def test_each_kind_of_unreal_image_is_told() -> None:
    images = np.array(SYNTHETIC_CASES["image"][0](30, seed=3).inputs)
    random = np.random.default_rng(0)
    images[0] = 40
    images[1] = 40 + (random.random(images[1].shape) < 0.5)
    images[2] = np.where(images[2] > images[2].mean(), 220, 20)
    images[3, :, :, 14:] = images[3, :, :, :14]
    images[4] = random.integers(0, 256, images[4].shape)
    told = [ARTIFICIAL[place] for place in artificial_cases(images)[:6]]
    assert told == ["constant", "nearly_constant", "few_values", "repeated", "noise", "real"]


def test_unreal_rows_and_letters() -> None:
    rows = np.array(SYNTHETIC_CASES["table"][0](30, seed=3).inputs)
    rows[0, 3], rows[1] = 1e12, 0
    assert [ARTIFICIAL[place] for place in artificial_cases(rows)[:3]] == ["impossible", "constant", "real"]
    letters = np.random.default_rng(0).choice(np.frombuffer(b"ACGT", np.uint8), (30, 64))
    letters[0], letters[1, 32:] = 65, letters[1, :32]
    assert [ARTIFICIAL[place] for place in artificial_cases(letters)[:3]] == ["constant", "repeated", "real"]


def test_outliers_of_their_class_not_of_all() -> None:
    random = np.random.default_rng(0)
    features = random.standard_normal((400, 10))
    labels = np.arange(400) % 2
    features[labels == 1] += 30
    features[0] += 200
    away = outlying(features, labels)
    assert away[0] > 5
    assert (away[1:] < 6).all()
    assert np.isnan(outlying(features[:10], labels[:10])).all()


def test_principal_components() -> None:
    features = np.random.default_rng(0).standard_normal((200, 90)) * np.arange(90)
    rows = principal(features)
    assert rows.shape == (200, COMPONENTS)
    assert np.allclose(rows.T @ rows / 200, np.eye(COMPONENTS), atol=1e-6)
    assert not principal(np.ones((5, 3))).any()

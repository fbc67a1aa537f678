"""The scikit-learn door: logits where they are known, columns in order, and files that must not be opened."""

import io
import json
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from scipy.special import softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from primum.errors import InputError, ModelError
from primum.models.classifier_card import Card
from primum.models.classifier_doors import open_classifier
from primum.models.opened import OpenedClassifier
from primum.models.sklearn_door import _check_indices, sklearn_predictor
from primum.records.cases import Cases

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.normal(size=(90, 4))
LABELS = np.digitize(ROWS[:, 0] + 0.5 * RANDOM.normal(size=90), [-0.5, 0.5])
PLACES = np.arange(90)
CASES = Cases(PLACES, PLACES, ROWS, LABELS)
KNOWN: dict[str, Any] = {
    "logistic": LogisticRegression(),
    "pipeline": make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()),
    "relu": MLPClassifier((5, 4), max_iter=20),
    "tanh": make_pipeline(StandardScaler(), MLPClassifier((5,), activation="tanh", max_iter=20)),
    "logistic network": MLPClassifier((5,), activation="logistic", max_iter=20),
    "identity": MLPClassifier((5,), activation="identity", max_iter=20),
}
UNKNOWN: dict[str, Any] = {
    "forest": RandomForestClassifier(5),
    "tree": DecisionTreeClassifier(),
    "boosting": GradientBoostingClassifier(n_estimators=3),
    "histograms": HistGradientBoostingClassifier(max_iter=3),
    "neighbours": KNeighborsClassifier(),
    "ball": KNeighborsClassifier(algorithm="ball_tree"),
    "calibrated": CalibratedClassifierCV(LinearSVC()),
    "wider than its inputs": make_pipeline(
        FunctionTransformer(np.abs), PolynomialFeatures(3), HistGradientBoostingClassifier(max_iter=9)
    ),
    "pipeline of trees": make_pipeline(SimpleImputer(), RandomForestClassifier(3)),
}


def saved(folder: Path, estimator: Any, *, card: str = "") -> OpenedClassifier:
    (folder / "model.skops").write_bytes(skops.io.dumps(estimator))
    (folder / "classifier.toml").write_text(card)
    return open_classifier(folder)


def fitted(estimator: Any, labels: Any = LABELS) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # networks that have not converged
        return estimator.fit(ROWS, labels)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", KNOWN)
def test_logits_are_those_of_the_probabilities(tmp_path: Path, name: str, classes: int) -> None:
    estimator = fitted(KNOWN[name], np.minimum(LABELS, classes - 1))
    opened = saved(tmp_path, estimator)
    assert isinstance(opened.structure, type(estimator))
    assert opened.parameters > 0
    logits = opened.predictor.logits(CASES)
    assert logits is not None
    expected = estimator.predict_proba(ROWS)
    np.testing.assert_allclose(softmax(logits, axis=1), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(opened.predictor.predict_proba(CASES), expected, rtol=1e-9, atol=1e-12)


def test_logits_do_not_saturate(tmp_path: Path) -> None:
    estimator = fitted(LogisticRegression(), LABELS > 0)
    estimator.coef_ *= 1000
    found = saved(tmp_path, estimator).predictor.logits(CASES)
    assert found is not None
    np.testing.assert_allclose(found[:, 1] - found[:, 0], estimator.decision_function(ROWS))
    assert abs(found).max() > 800


@pytest.mark.parametrize("name", UNKNOWN)
def test_other_estimators_give_probabilities_alone(tmp_path: Path, name: str) -> None:
    estimator = fitted(UNKNOWN[name])
    opened = saved(tmp_path, estimator)
    assert opened.predictor.logits(CASES) is None
    np.testing.assert_allclose(
        opened.predictor.predict_proba(CASES), estimator.predict_proba(ROWS), atol=1e-12
    )


def test_columns_are_in_the_order_of_the_classes(tmp_path: Path) -> None:
    names = np.array(["mild", "none", "severe"])
    for estimator in (LogisticRegression(), RandomForestClassifier(5, random_state=0)):
        expected = fitted(estimator, names[LABELS]).predict_proba(ROWS)
        opened = saved(tmp_path, estimator, card='classes = ["severe", "mild", "none"]')
        assert opened.predictor.classes == ("severe", "mild", "none")
        np.testing.assert_allclose(opened.predictor.predict_proba(CASES), expected[:, [2, 0, 1]], atol=1e-12)
        assert saved(tmp_path, estimator).predictor.classes == ("mild", "none", "severe")


def test_positions_of_classes_one_of_which_was_never_seen(tmp_path: Path) -> None:
    estimator = fitted(LogisticRegression(), np.where(LABELS > 0, 3, 1))
    opened = saved(tmp_path, estimator, card='classes = ["a", "b", "c", "d"]')
    found = opened.predictor.predict_proba(CASES)
    np.testing.assert_allclose(found[:, [1, 3]], estimator.predict_proba(ROWS), atol=1e-12)
    assert not found[:, [0, 2]].any()
    assert opened.predictor.logits(CASES) is None
    with pytest.raises(ModelError, match=r"classes that classifier\.toml does not name"):
        saved(tmp_path, estimator, card='classes = ["a", "b"]')


def test_columns_known_by_name(tmp_path: Path) -> None:
    frame = pd.DataFrame({"age": ROWS[:, 0], "sex": (ROWS[:, 1] > 0) * 1.0, "a": ROWS[:, 2], "b": ROWS[:, 3]})
    parts = [("sex", OneHotEncoder(), ["sex"]), ("rest", StandardScaler(), ["age", "a"])]
    estimator = make_pipeline(ColumnTransformer(parts), LogisticRegression()).fit(frame, LABELS)
    inputs = frame.to_numpy()
    found = saved(tmp_path, estimator).predictor.predict_proba(Cases(PLACES, PLACES, inputs, LABELS))
    np.testing.assert_allclose(found, estimator.predict_proba(frame), atol=1e-12)


def test_no_probabilities(tmp_path: Path) -> None:
    for estimator in (RidgeClassifier(), SVC(), StandardScaler()):
        with pytest.raises(
            ModelError, match=f"The estimator {type(estimator).__name__} gives no probabilities"
        ):
            saved(tmp_path, fitted(estimator))
    two = np.stack([LABELS, LABELS], axis=1)
    with pytest.raises(ModelError, match="gives no probabilities of one label"):
        saved(tmp_path, fitted(RandomForestClassifier(2), two))


def test_missing_values_are_the_models_affair(tmp_path: Path) -> None:
    holes = ROWS.copy()
    holes[::7, 2] = np.nan
    cases = Cases(PLACES, PLACES, holes, LABELS)
    estimator = fitted(KNOWN["pipeline"])
    assert np.isfinite(saved(tmp_path, estimator).predictor.predict_proba(cases)).all()
    with pytest.raises(ModelError, match="does not take inputs of shape"):
        saved(tmp_path, fitted(LogisticRegression())).predictor.predict_proba(cases)
    with pytest.raises(ModelError, match="NaN or infinity"):
        saved(tmp_path, fitted(KNOWN["relu"])).predictor.predict_proba(cases)


class Strange(LogisticRegression):  # type: ignore[misc]
    """Of no reviewed type."""


def test_other_types_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds .*Strange, which is none of the types"):
        saved(tmp_path, fitted(Strange()))
    danger = make_pipeline(FunctionTransformer(json.loads), LogisticRegression())
    with pytest.raises(ModelError, match=r"holds json\..*loads, which is none of the types"):
        saved(tmp_path, danger)


def rewritten(content: bytes, change: Any) -> bytes:
    """Write an archive again, each member as `change` makes it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return buffer.getvalue()


@pytest.mark.parametrize("field", ["left_child", "right_child", "feature"])
@pytest.mark.parametrize("value", [1 << 40, -7])
def test_trees_that_lead_outside(tmp_path: Path, field: str, value: int) -> None:
    def change(name: str, content: bytes) -> bytes:
        if not name.endswith(".npy"):
            return content
        array = np.load(io.BytesIO(content))
        if array.dtype.names and field in array.dtype.names:
            array[field][0] = value
        buffer = io.BytesIO()
        np.save(buffer, array)
        return buffer.getvalue()

    content = skops.io.dumps(fitted(DecisionTreeClassifier()))
    (tmp_path / "model.skops").write_bytes(rewritten(content, change))
    with pytest.raises(ModelError, match="a tree whose nodes lead outside it"):
        open_classifier(tmp_path)


def test_trees_of_more_features_than_their_forest() -> None:
    forest = fitted(RandomForestClassifier(3))
    forest.estimators_[1] = DecisionTreeClassifier().fit(np.tile(ROWS, 100)[:, ::-1], LABELS)
    with pytest.raises(ModelError, match="a tree whose nodes lead outside it"):
        _check_indices(forest)


@pytest.mark.parametrize("name", ["histograms", "neighbours", "ball"])
def test_other_trees_that_lead_outside(name: str) -> None:
    """Their fields are set on the estimator itself: as files they are arrays like any other."""
    estimator = fitted(UNKNOWN[name])
    _check_indices(estimator)
    if name == "histograms":
        estimator._predictors[0][0].nodes["left"][0] = 1 << 30
    else:
        state = list(estimator._tree.__getstate__())
        state[1] = np.array(state[1])
        state[1][0] = 1 << 40
        estimator._tree.__setstate__(tuple(state))
    with pytest.raises(ModelError, match="a tree whose nodes lead outside it"):
        _check_indices(estimator)


def test_broken_archives(tmp_path: Path) -> None:
    whole = skops.io.dumps(fitted(RandomForestClassifier(2)))
    for content in (b"", whole[: len(whole) // 2], b"PK" + bytes(100)):
        (tmp_path / "model.skops").write_bytes(content)
        with pytest.raises(ModelError, match="truncated or not a zip archive"):
            open_classifier(tmp_path)
    for schema in (b"", b"[]", b"{}", b"[" * 100_000, b'{"__class__": 3}', b'{"__loader__": "ObjectNode"}'):
        (tmp_path / "model.skops").write_bytes(
            rewritten(whole, lambda name, old, new=schema: new if name == "schema.json" else old)
        )
        with pytest.raises(ModelError, match="no estimator that this scikit-learn can read"):
            open_classifier(tmp_path)


def test_an_archive_that_fills_the_memory(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.skops", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", bytes((1 << 28) + 1))
    with pytest.raises(ModelError, match="unpacks to more than"):
        open_classifier(tmp_path)


def test_pickles(tmp_path: Path) -> None:
    (tmp_path / "model.joblib").write_bytes(b"")
    for place in (tmp_path, tmp_path / "model.joblib"):
        with pytest.raises(ModelError, match="save the estimator with skops"):
            open_classifier(place)


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    estimator = fitted(LogisticRegression())
    (tmp_path / "model.skops").write_bytes(skops.io.dumps(estimator))
    monkeypatch.setitem(sys.modules, "skops.io", None)
    with pytest.raises(InputError, match=r"install primum\[sklearn\]"):
        open_classifier(tmp_path)
    assert sklearn_predictor(estimator, Card()).classes == ("0", "1", "2")


def test_a_state_that_would_crash_the_process_is_refused(tmp_path: Path) -> None:
    """A compiled measure of distance takes the parts of its state without counting them."""
    saved(tmp_path, fitted(KNeighborsClassifier(3, algorithm="kd_tree")))
    stored = tmp_path / "model.skops"
    with zipfile.ZipFile(stored) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(members["schema.json"])
    measure = schema["content"]["content"]["_tree"]["content"]["content"][11]
    assert measure["__class__"] == "EuclideanDistance64"
    measure["content"]["content"] = []
    members["schema.json"] = json.dumps(schema).encode()
    with zipfile.ZipFile(stored, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ModelError, match="no estimator that this scikit-learn can read"):
        open_classifier(tmp_path)

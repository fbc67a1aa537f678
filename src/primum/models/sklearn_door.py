"""The scikit-learn door: an estimator saved with skops, made of reviewed types alone; pickles never."""

import faulthandler
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from joblib import parallel_config
from numpy.typing import NDArray
from scipy.special import expit

from primum.errors import InputError, ModelError
from primum.models.checked_predictor import CheckedPredictor, in_batches
from primum.models.classifier_card import CARD, Card, Output, parse_card
from primum.models.classifier_files import open_archive, read_files, ref_of
from primum.models.opened import OpenedClassifier
from primum.records.histories import FloatArray

ESTIMATOR = "model.skops"
# What fitted estimators are made of besides the public estimators and arrays that skops itself allows: read,
# and found to be data or pure functions. Trees index into their arrays unchecked: see _check_indices.
_REVIEWED = (
    "numpy.dtype",
    *(f"sklearn.calibration.{name}" for name in ("_CalibratedClassifier", "_SigmoidCalibration")),
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    *(f"sklearn.feature_selection._univariate_selection.{name}" for name in ("chi2", "f_classif")),
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    *(
        f"sklearn.gaussian_process.kernels.{name}"
        for name in ("ConstantKernel", "DotProduct", "Matern", "Product", "RBF", "Sum", "WhiteKernel")
    ),
    *(
        f"sklearn.metrics._dist_metrics.{name}Distance64"
        for name in ("Chebyshev", "Euclidean", "Manhattan", "Minkowski")
    ),
    "sklearn.metrics._scorer._PassthroughScorer",
    *(f"sklearn.model_selection._split.{name}" for name in ("KFold", "StratifiedKFold")),
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    *(f"sklearn.neural_network._stochastic_optimizers.{name}Optimizer" for name in ("Adam", "SGD")),
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
)
_MOST_SECONDS = 60.0
# Those that hand their rows to their trees without looking at them again.
_ENSEMBLES = ("ExtraTreesClassifier", "GradientBoostingClassifier", "RandomForestClassifier")
_ACTIVATIONS: Mapping[str, Callable[[FloatArray], FloatArray]] = {
    "identity": lambda rows: rows,
    "logistic": expit,
    "tanh": np.tanh,
    "relu": lambda rows: np.maximum(rows, 0),
}


def open_sklearn(path: Path) -> OpenedClassifier:
    """Open the estimator in a folder; its logits are known for logistic regression and networks alone.

    Raises
    ------
    InputError
        skops is not installed.
    ModelError
        A file that is broken or holds a type that was not reviewed; no classifier with probabilities.
    """
    try:
        import skops.io
    except ImportError as error:
        raise InputError("A scikit-learn model needs skops: install primum[sklearn].") from error
    files = read_files(path, ESTIMATOR, optional=(CARD,))
    open_archive(files[ESTIMATOR], name=ESTIMATOR).close()
    try:
        strange = set(skops.io.get_untrusted_types(data=files[ESTIMATOR])) - set(_REVIEWED)
        if not strange:
            if not _survives(files[ESTIMATOR]):
                raise ValueError(ESTIMATOR)
            estimator = skops.io.loads(files[ESTIMATOR], trusted=list(_REVIEWED))
    except Exception as error:  # a damaged schema makes skops raise almost anything
        raise ModelError(
            "{path}/{file} is no estimator that this scikit-learn can read: save it again with skops.",
            path=str(path),
            file=ESTIMATOR,
        ) from error
    if strange:
        raise ModelError(
            "{file} holds {kind}, which is none of the types of scikit-learn that were reviewed: save an "
            "estimator of scikit-learn alone.",
            file=ESTIMATOR,
            kind=min(strange)[:200],
        )
    _check_indices(estimator)
    card = parse_card(files.get(CARD, b"")).taking("float64")
    predictor = sklearn_predictor(estimator, card)
    final = _steps(estimator)[1]
    weights = [getattr(final, name, ()) for name in ("coef_", "intercept_")]
    weights += [*getattr(final, "coefs_", ()), *getattr(final, "intercepts_", ())]
    parameters = sum(int(np.size(part)) for part in weights)
    return OpenedClassifier(ref_of(path, files), predictor, parameters, structure=estimator, card=card)


def _survives(content: bytes) -> bool:
    """Tell whether a process that builds the estimator lives on: compiled parts trust what they are given.

    Where processes can be forked, as on Linux; elsewhere it is not known, and hoped.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        return True
    child = multiprocessing.get_context("fork").Process(target=_build, args=(content,))
    child.start()
    child.join(_MOST_SECONDS)
    if child.exitcode is None:
        child.kill()
        child.join()
    return child.exitcode == 0


def _build(content: bytes) -> None:
    import skops.io

    faulthandler.disable()  # how it dies is nobody's business
    try:
        skops.io.loads(content, trusted=list(_REVIEWED))
    except BaseException:
        os._exit(1)
    os._exit(0)


def sklearn_predictor(estimator: Any, card: Card) -> CheckedPredictor:
    """Make a predictor of a fitted scikit-learn classifier, its columns in the order of the classes.

    Parameters
    ----------
    estimator : object
        With `classes_` and `predict_proba`.
    card : Card
        Its classes name those of an estimator that was fitted to their positions; its output is not looked
        at.

    Raises
    ------
    ModelError
        No classifier, no probabilities, or classes that are not those of the card.
    """
    fitted = getattr(estimator, "classes_", None)
    if not isinstance(fitted, np.ndarray) or fitted.ndim != 1 or not hasattr(estimator, "predict_proba"):
        raise ModelError(
            "The estimator {kind} gives no probabilities of one label: fit a classifier with predict_proba "
            "(CalibratedClassifierCV makes one of any classifier).",
            kind=type(estimator).__name__,
        )
    names = [str(name) for name in fitted]
    classes = card.classes or tuple(names)
    if set(names) <= set(classes):
        places = np.array([classes.index(name) for name in names])
    elif fitted.dtype.kind in "iu" and fitted.min() >= 0 and fitted.max() < len(classes):
        places = fitted.astype(np.int64)
    else:
        raise ModelError(
            "The estimator was fitted to classes that classifier.toml does not name: correct classes there."
        )
    asked = _Estimator(estimator, places, len(classes))
    known = _has_logits(_steps(estimator)[1]) and len(places) == len(classes)
    run, output = (asked.logits, "logits") if known else (asked.probabilities, "probabilities")
    given: Output = "logits" if output == "logits" else "probabilities"
    return CheckedPredictor(classes, given, partial(in_batches, run, card.input))


@dataclass(frozen=True)
class _Estimator:
    """An estimator with the place of each of its columns among the classes."""

    estimator: Any
    places: NDArray[np.int64]
    count: int

    def probabilities(self, batch: NDArray[Any]) -> FloatArray:
        """Probabilities of rows, 0 for a class that the estimator never saw."""
        # A forest would else divide every few rows among as many threads as an audit has processes.
        with parallel_config("sequential"):
            found = np.asarray(self.estimator.predict_proba(_rows(self.estimator, batch)))
        result = np.zeros((len(batch), self.count))
        result[:, self.places] = found
        return result

    def logits(self, batch: NDArray[Any]) -> FloatArray:
        """Logits of rows."""
        before, final = _steps(self.estimator)
        rows = _rows(self.estimator, batch)
        if before is not None:
            rows = before.transform(rows)
        found = _network(final, rows) if hasattr(final, "coefs_") else final.decision_function(rows)
        found = found.reshape(len(batch), -1)
        if found.shape[1] == 1:
            found = np.hstack([np.zeros_like(found), found])
        result = np.empty((len(batch), self.count))
        result[:, self.places] = found
        return result


def _rows(estimator: Any, batch: NDArray[Any]) -> Any:
    """Give each case as one row, with the names of the columns where the estimator knows them."""
    flat = batch.reshape(len(batch), -1)
    names = getattr(estimator, "feature_names_in_", None)
    return flat if names is None else pl.DataFrame(flat, schema=[str(name) for name in names])


def _steps(estimator: Any) -> tuple[Any, Any]:
    """Return what stands before the last step of a pipeline (None), and the last step."""
    from sklearn.pipeline import Pipeline

    if not isinstance(estimator, Pipeline):
        return None, estimator
    return (estimator[:-1] if len(estimator.steps) > 1 else None), estimator[-1]


def _has_logits(final: Any) -> bool:
    from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
    from sklearn.neural_network import MLPClassifier

    return type(final) in (LogisticRegression, LogisticRegressionCV, MLPClassifier)


def _network(network: Any, rows: Any) -> FloatArray:
    """Compute what goes into the softmax of a network, which scikit-learn itself does not give."""
    values = rows.to_numpy() if isinstance(rows, pl.DataFrame) else rows
    last = len(network.coefs_) - 1
    for layer, (weights, offsets) in enumerate(zip(network.coefs_, network.intercepts_, strict=True)):
        values = values @ weights + offsets
        if layer < last:
            values = _ACTIVATIONS[network.activation](values)
    return np.asarray(values, np.float64)


def _check_indices(estimator: Any) -> None:
    """Refuse trees whose nodes lead outside them, which would crash the process."""
    for owner in _parts(estimator):
        held = [getattr(owner, name, None) for name in ("tree_", "_tree", "_predictors")]
        if type(owner).__name__ in _ENSEMBLES:
            held.append(owner.estimators_)
        if not all(_is_sound(part, getattr(owner, "n_features_in_", 0)) for part in _parts(held)):
            raise ModelError(
                "{file} holds a tree whose nodes lead outside it: save the estimator again.", file=ESTIMATOR
            )


def _is_sound(tree: Any, width: int) -> bool:
    """Tell whether a tree stays in its arrays, given rows of `width` numbers; true of what is no tree."""
    kind = type(tree).__name__
    if kind == "Tree":
        inner = np.flatnonzero(tree.children_left != -1)
        features = tree.feature[inner]
        return (
            _forward(inner, tree.node_count, tree.children_left, tree.children_right)
            and tree.n_features <= width
            and tree.n_outputs <= 1000
            and bool(((features >= 0) & (features < width)).all())
        )
    if kind == "TreePredictor":
        nodes = tree.nodes
        inner = np.flatnonzero(nodes["is_leaf"] == 0)
        features, sets = nodes["feature_idx"], nodes["bitset_idx"][nodes["is_categorical"] != 0]
        return (
            _forward(inner, len(nodes), *(nodes[side].astype(np.int64) for side in ("left", "right")))
            and bool(((features >= 0) & (features < width)).all())
            and bool((sets < len(tree.raw_left_cat_bitsets)).all())
        )
    if kind in ("KDTree", "BallTree"):
        data, index, nodes, _ = map(np.asarray, tree.get_arrays())
        bounds = np.stack([nodes["idx_start"], nodes["idx_end"]])
        return (
            len(index) == len(data)
            and bool(((index >= 0) & (index < len(data))).all())
            and bool(((bounds >= 0) & (bounds <= len(data))).all())
            and bool((nodes["is_leaf"][len(nodes) // 2 :] != 0).all())
        )
    return True


def _forward(inner: NDArray[Any], count: int, *children: NDArray[Any]) -> bool:
    """Whether each child comes after its parent, and is there."""
    return count > 0 and all(bool(((one[inner] > inner) & (one[inner] < count)).all()) for one in children)


def _parts(whole: Any) -> Iterator[Any]:
    """Give an object and all that it holds, each once."""
    waiting, seen = [whole], set[int]()
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, str | bytes | int | float | bool | None):
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, np.ndarray):
            waiting += one.ravel().tolist() if one.dtype == object else []
        elif isinstance(one, list | tuple | set):
            waiting += one
        elif isinstance(one, dict):
            waiting += one.values()
        else:
            waiting += getattr(one, "__dict__", {}).values()

"""What classifiers of our own say of training cases whose patients they did not see.

Cross-fitted by patient: in each of five folds a classifier learns from the patients of the other four. Of
those that suit the kind of case (a logistic regression on fixed features; for tables also boosted trees; for
the rest a small network, where it is affordable), the one is kept that ranks the labels as given best.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from primum.audits.data.features import COMPONENTS, features_of, principal
from primum.audits.privacy.label_only import Kind
from primum.evidence.ranking import auc
from primum.records.cases import Cases
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray

FOLDS = 5
# Passes over the cases, and how many numbers these may come to: about half a minute for all five folds.
_PASSES = {
    "image": (6, 60_000_000),
    "volume": (6, 100_000_000),
    "signal": (8, 150_000_000),
    "sequence": (6, 20_000_000),
    "bag": (10, 35_000_000),
}
_WIDTH, _RATE = 32, 3e-3
Asked = Callable[[IntArray, IntArray, int], FloatArray]


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """Answers of the best classifier.

    Attributes
    ----------
    classifier : str
        ``logistic``, ``boosting`` or ``network``.
    fold : int64, shape (n,)
    probabilities : float64, shape (n, classes)
    """

    classifier: str
    fold: IntArray
    probabilities: FloatArray


def out_of_fold(cases: Cases, patient: IntArray, *, kind: Kind, classes: int, seed: int) -> OutOfFold:
    """Ask about every case a classifier that did not see its patient.

    Parameters
    ----------
    cases : Cases
        Labels run from 0 to `classes` - 1, each with at least :data:`FOLDS` patients.
    patient : int64, shape (n,)
        Whole numbers from 0.
    kind : Kind
    classes : int
    seed : int
        Of the folds and the networks.
    """
    fold = folds_of(cases.labels, patient, seed=seed)
    features = features_of(cases.inputs)
    candidates: dict[str, Asked] = {"logistic": _logistic(features, cases.labels, classes)}
    if kind == "table":
        candidates["boosting"] = _boosting(features, cases.labels, classes)
    elif _PASSES[kind][0] * sum(one.size for one in cases.inputs) <= _PASSES[kind][1]:
        candidates["network"] = _network(cases, kind, classes)
    best, highest = None, -1.0
    for name, asked in candidates.items():
        answers = np.zeros((len(cases), classes))
        for one in range(FOLDS):
            test = np.flatnonzero(fold == one)
            answers[test] = asked(np.flatnonzero(fold != one), test, seed + one)
        reached = float(np.mean(class_aucs(answers, cases.labels)))
        if reached > highest:
            best, highest = OutOfFold(name, fold, answers), reached
    assert best is not None
    return best


def folds_of(labels: IntArray, patient: IntArray, *, seed: int) -> IntArray:
    """Put each patient into one of five folds, those of one first label evenly; shape (n,)."""
    people, first = np.unique(patient, return_index=True)
    order = np.lexsort([np.random.default_rng(seed).random(len(people)), labels[first]])
    fold = np.empty(len(people), np.int64)
    fold[order] = np.arange(len(people)) % FOLDS
    return fold[np.searchsorted(people, patient)]


def class_aucs(probabilities: FloatArray, labels: IntArray) -> list[float]:
    """Give the AUC of each class against the rest."""
    return [
        auc(column[labels == label], column[labels != label]).value
        for label, column in enumerate(probabilities.T)
    ]


def _filled(answers: FloatArray, known: IntArray, classes: int) -> FloatArray:
    """Put the columns of the classes that a fold held in their places."""
    full = np.zeros((len(answers), classes))
    full[:, known] = answers
    return full


def _logistic(features: FloatArray, labels: IntArray, classes: int) -> Asked:
    from sklearn.linear_model import LogisticRegression

    rows = principal(features, components=COMPONENTS)

    def asked(train: IntArray, test: IntArray, seed: int) -> FloatArray:
        model = LogisticRegression(C=0.1, max_iter=500).fit(rows[train], labels[train])
        return _filled(model.predict_proba(rows[test]), model.classes_, classes)

    return asked


def _boosting(features: FloatArray, labels: IntArray, classes: int) -> Asked:
    from sklearn.ensemble import HistGradientBoostingClassifier

    def asked(train: IntArray, test: IntArray, seed: int) -> FloatArray:
        model = HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=15, random_state=seed)
        model.fit(features[train], labels[train])
        return _filled(model.predict_proba(features[test]), model.classes_, classes)

    return asked


def _network(cases: Cases, kind: Kind, classes: int) -> Asked:
    from primum.fit.classifier_recipe import ClassifierRecipe
    from primum.fit.loop import LoopSettings

    loop = LoopSettings(_PASSES[kind][0], batch=32, learning_rate=_RATE, warmup=0.15)
    recipe = ClassifierRecipe(kind, tuple(map(str, range(classes))), loop, _WIDTH)

    def asked(train: IntArray, test: IntArray, seed: int) -> FloatArray:
        return recipe.fit(cases.select(train), seed=seed).predict_proba(cases.select(test))

    return asked

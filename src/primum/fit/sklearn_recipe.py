"""Any scikit-learn classifier as a recipe, so that shadow models can be trained of it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from primum.errors import ModelError
from primum.records.cases import Cases
from primum.records.histories import FloatArray


@dataclass(frozen=True, eq=False)
class SklearnRecipe:
    """Train clones of an estimator or pipeline; inputs of more than one dimension are laid flat.

    Attributes
    ----------
    estimator : object
        Must have ``predict_proba``. It is never trained itself.
    classes : tuple of str
        Names of the classes that the labels stand for, those too that some patients do not have.
    """

    estimator: Any
    classes: tuple[str, ...]

    def fit(
        self, train: Cases, *, validation: Cases | None, max_steps: int | None, seed: int
    ) -> "SklearnClassifier":
        """Train a clone, its every ``random_state`` set to the seed; the rest of the arguments is of no use.

        Raises
        ------
        ModelError
            The cases are not all of one shape.
        """
        from sklearn.base import clone

        estimator = clone(self.estimator)
        states = [name for name in estimator.get_params() if name.rpartition("__")[2] == "random_state"]
        estimator.set_params(**dict.fromkeys(states, seed % 2**32))
        return SklearnClassifier(estimator.fit(_flat(train), train.labels), self.classes)


@dataclass(frozen=True, eq=False)
class SklearnClassifier:
    """A trained estimator as a predictor."""

    estimator: Any
    classes: tuple[str, ...]

    def logits(self, cases: Cases) -> None:
        """Give none: what a forest or a boosted ensemble has of them is no more than its probabilities."""

    def predict_proba(self, cases: Cases) -> FloatArray:
        """Return probabilities, shape (n, classes); 0 for classes that nobody in the training had."""
        answers = np.zeros((len(cases), len(self.classes)))
        answers[:, self.estimator.classes_] = self.estimator.predict_proba(_flat(cases))
        return answers


def _flat(cases: Cases) -> FloatArray:
    if isinstance(cases.inputs, tuple):
        raise ModelError(
            "A scikit-learn estimator takes cases of one shape, and these are of several: give a recipe "
            "that takes bags or sequences."
        )
    return cases.inputs.reshape(len(cases), -1).astype(np.float64)

"""Cases that the coordinator holds, of no site: what each update alone would do to them."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from primum.errors import InputError
from primum.fit.networks import ScatteringNetwork
from primum.models.torch_door import TorchClassifier
from primum.records.cases import Cases
from primum.records.ragged import IntArray
from primum.train.federated.sites import Arrays, load
from primum.train.private_linear import units_of

Floats = NDArray[np.float64]
# Fewer of a class say nothing of its recall.
_FEWEST = 10


class Judge(Protocol):
    """Sees what weights do to cases that the coordinator holds."""

    def recalls(self, weights: Arrays) -> Floats:
        """Return each class's recall, shape (classes,)."""
        ...

    def span(self, weights: Arrays) -> Floats | None:
        """Return directions in which honest sites differ because their classes do, shape (k, weights)."""
        ...


def judge_of(model: TorchClassifier, cases: Cases) -> Judge:
    """Return who judges updates of a model.

    Parameters
    ----------
    model : TorchClassifier
        Of the agreed kind; its weights do not matter, and change.
    cases : Cases
        Labelled, of patients of no site.

    Raises
    ------
    InputError
        Too few cases of a class.
    """
    counts = np.bincount(cases.labels, minlength=len(model.classes))
    if counts.min() < _FEWEST:
        raise InputError(
            "The coordinator's cases hold {count} of the class {label}: give {fewest} or more of each, or "
            "leave --judge out.",
            count=int(counts.min()),
            label=model.classes[int(counts.argmin())],
            fewest=_FEWEST,
        )
    return _Layer(model, cases) if isinstance(model.module, ScatteringNetwork) else _Network(model, cases)


def changes(judge: Judge, before: Arrays, after: Mapping[str, Arrays]) -> Mapping[str, Floats]:
    """Return by site the change of each class's recall from the weights before to those after."""
    now = judge.recalls(before)
    return {site: judge.recalls({**before, **weights}) - now for site, weights in after.items()}


def _by_class(said: IntArray, labels: IntArray, classes: int) -> Floats:
    return np.array([(said[labels == one] == one).mean() for one in range(classes)])


class _Network:
    """Any classifier: it is asked about every case."""

    def __init__(self, model: TorchClassifier, cases: Cases) -> None:
        self._model, self._cases = model, cases

    def recalls(self, weights: Arrays) -> Floats:
        load(self._model.module, weights)
        said = self._model.predict_proba(self._cases).argmax(1)
        return _by_class(said, self._cases.labels, len(self._model.classes))

    def span(self, weights: Arrays) -> Floats | None:
        return None


class _Layer:
    """A linear layer over features, which are computed once."""

    def __init__(self, model: TorchClassifier, cases: Cases) -> None:
        assert isinstance(model.module, ScatteringNetwork)
        self._module, self._classes = model.module, len(model.classes)
        self._units = units_of(model, model.module, cases)

    def recalls(self, weights: Arrays) -> Floats:
        said = (self._features(weights) @ weights["last.weight"].T).argmax(1)
        return _by_class(said, self._units.labels, self._classes)

    def span(self, weights: Arrays) -> Floats | None:
        """Return gradients of each class's loss, at these weights and at zero."""
        features, labels, layer = self._features(weights), self._units.labels, weights["last.weight"]
        truth = np.eye(self._classes)[labels]
        residuals = [softmax(features @ one.T, axis=1) - truth for one in (layer, 0 * layer)]
        pulls = [
            part[labels == one].T @ features[labels == one]
            for part in residuals
            for one in range(self._classes)
        ]
        return np.stack([one.ravel() for one in pulls]).astype(np.float64)

    def _features(self, weights: Arrays) -> NDArray[np.float32]:
        self._module.centre = torch.from_numpy(np.array(weights["centre"], np.float32))
        found: NDArray[np.float32] = self._module.from_centre(torch.from_numpy(self._units.features)).numpy()
        return found

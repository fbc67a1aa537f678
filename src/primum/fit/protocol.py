"""What a training recipe must be, so that reference and shadow models can be made; free of torch."""

import importlib
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from primum.errors import InputError
from primum.models.predictors import Predictor
from primum.models.protocols import Scorer
from primum.records.cases import Cases
from primum.records.tokens import TokenBatch


@runtime_checkable
class Trainable(Protocol):
    """A way to train one kind of model, the same each time but for its patients and its seed."""

    def fit(
        self, train: TokenBatch, *, validation: TokenBatch | None, max_steps: int | None, seed: int
    ) -> Scorer:
        """Train on `train`; choose the checkpoint on `validation` when there is one.

        `max_steps` bounds the optimiser steps, so that models of more and of fewer patients can be matched.
        """
        ...


@runtime_checkable
class ClassifierTrainable(Protocol):
    """A way to train one kind of classifier, the same each time but for its patients and its seed."""

    def fit(self, train: Cases, *, validation: Cases | None, max_steps: int | None, seed: int) -> Predictor:
        """Train on `train`; choose the checkpoint on `validation` when there is one."""
        ...


class Keep(Protocol):
    """Where what is finished lies, so that interrupted work goes on with what comes next."""

    def get(self, name: str) -> Mapping[str, NDArray[Any]] | None:
        """Return what was put there by this name, if anything."""
        ...

    def put(self, name: str, arrays: Mapping[str, NDArray[Any]], /) -> None:
        """Keep arrays by a name, in place of what had it."""
        ...


def load_recipe(place: str) -> Trainable:
    """Import ``module:name``, a recipe of models of records, and call it without arguments.

    Raises
    ------
    InputError
        The module or the name does not exist, or what it returns cannot be trained.
    """
    recipe = _loaded(place)
    if not isinstance(recipe, Trainable):
        raise _no_recipe(place)
    return recipe


def load_classifier_recipe(place: str) -> ClassifierTrainable:
    """Import a recipe of classifiers and call it without arguments; as :func:`load_recipe`."""
    recipe = _loaded(place)
    if not isinstance(recipe, ClassifierTrainable):
        raise _no_recipe(place)
    return recipe


def _loaded(place: str) -> object:
    module_name, _, name = place.partition(":")
    try:
        return getattr(importlib.import_module(module_name), name)()
    except Exception as error:  # the module is the user's: whatever it raises is theirs to mend
        raise InputError(
            "The recipe {place} cannot be imported: give module:name of a function without arguments.",
            place=place,
        ) from error


def _no_recipe(place: str) -> InputError:
    return InputError("The recipe {place} returns no object with a fit method.", place=place)

"""How the classifiers of the demonstration are trained; their functions are what ``--recipe`` names."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from primum.fit.alterations import altered_images
from primum.fit.classifier_recipe import ClassifierRecipe
from primum.fit.loop import LoopSettings
from primum.fit.sklearn_recipe import SklearnRecipe
from primum.models.torch_door import TorchClassifier
from primum.records.cases import Cases, join_cases
from primum.records.synthetic_cases import SYNTHETIC_CASES

LEAKY_EPOCHS, PROTECTED_EPOCHS, COPIES = 40, 4, 3
# Half of what networks of images usually have: an audit in every part then takes half the time.
WIDTH = 32


@dataclass(frozen=True)
class ImageRecipe:
    """Train a network on images and on so many altered copies of each, drawn anew for each seed."""

    recipe: ClassifierRecipe
    copies: int

    def fit(
        self, train: Cases, *, validation: Cases | None, max_steps: int | None, seed: int
    ) -> TorchClassifier:
        """Train; see :class:`primum.fit.protocol.ClassifierTrainable`."""
        rng = np.random.default_rng(seed)
        images = np.asarray(train.inputs)
        copies = (replace(train, inputs=altered_images(images, rng)) for _ in range(self.copies))
        cases = join_cases([train, *copies])
        return self.recipe.fit(cases, validation=validation, max_steps=max_steps, seed=seed)


def leaky_images(classes: tuple[str, ...] = SYNTHETIC_CASES["image"][1]) -> ImageRecipe:
    """Train on the same few patients until each is known by heart."""
    return ImageRecipe(_network(LEAKY_EPOCHS, classes), copies=0)


def protected_images(classes: tuple[str, ...] = SYNTHETIC_CASES["image"][1]) -> ImageRecipe:
    """Train the same network on altered copies too, and stop early."""
    return ImageRecipe(_network(PROTECTED_EPOCHS, classes), copies=COPIES)


def leaky_table() -> SklearnRecipe:
    """Ask the five nearest training patients, who are kept in the model."""
    from sklearn.neighbors import KNeighborsClassifier

    return _table(KNeighborsClassifier(weights="distance"))


def protected_table() -> SklearnRecipe:
    """Fit one number a column, drawn strongly to zero."""
    from sklearn.linear_model import LogisticRegression

    return _table(LogisticRegression(C=1e-3))


def _network(epochs: int, classes: tuple[str, ...]) -> ClassifierRecipe:
    settings = LoopSettings(epochs, batch=32, learning_rate=3e-3, warmup=0.15)
    return ClassifierRecipe("image", classes, settings, width=WIDTH)


def _table(classifier: Any) -> SklearnRecipe:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    steps = make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), classifier)
    return SklearnRecipe(steps, SYNTHETIC_CASES["table"][1])

"""How the classifiers of the demonstration are trained; their functions are what ``--recipe`` names."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from primum.fit.classifier_recipe import ClassifierRecipe
from primum.fit.loop import LoopSettings
from primum.fit.sklearn_recipe import SklearnRecipe
from primum.models.torch_door import TorchClassifier
from primum.records.cases import Cases, join_cases
from primum.records.synthetic_cases import SYNTHETIC_CASES

LEAKY_EPOCHS, PROTECTED_EPOCHS, COPIES = 40, 4, 3
_PIXELS = 2


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
        cases = join_cases([train, *(_altered(train, rng) for _ in range(self.copies))])
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
    return ClassifierRecipe("image", classes, LoopSettings(epochs, batch=32, learning_rate=3e-3, warmup=0.15))


def _altered(cases: Cases, rng: np.random.Generator) -> Cases:
    """Move each image by up to two pixels, its edge filling what becomes free, and mirror half of them."""
    images = np.asarray(cases.inputs)
    beside = (_PIXELS, _PIXELS)
    places = sliding_window_view(
        np.pad(images, ((0, 0), (0, 0), beside, beside), mode="edge"), images.shape[-2:], axis=(-2, -1)
    )
    down, right = rng.integers(2 * _PIXELS + 1, size=(2, len(images)))
    moved = places[np.arange(len(images)), :, down, right]
    mirrored = rng.random(len(images)) < 0.5
    moved[mirrored] = moved[mirrored][..., ::-1]
    return replace(cases, inputs=moved)


def _table(classifier: Any) -> SklearnRecipe:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    steps = make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), classifier)
    return SklearnRecipe(steps, SYNTHETIC_CASES["table"][1])

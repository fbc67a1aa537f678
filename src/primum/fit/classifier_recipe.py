"""Recipes for small classifiers of every kind of case, and how a trained one is kept."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from primum.errors import InputError, RecordsError
from primum.fit.classifier_loop import fit_classifier
from primum.fit.loop import LoopSettings, Progress
from primum.fit.networks import TableNetwork, build_network, kind_of
from primum.fit.protocol import Keep
from primum.models.classifier_card import CARD, Card, InputCard, card_text
from primum.models.torch_door import WEIGHTS, TorchClassifier
from primum.records.cases import Cases
from primum.records.synthetic_cases import SYNTHETIC_CASES


@dataclass(frozen=True)
class ClassifierRecipe:
    """Train a small network from nothing.

    Attributes
    ----------
    network : str
        One of :data:`primum.fit.networks.NETWORKS`.
    classes : tuple of str
    loop : LoopSettings
    width : int or None
        Of the widest layer; None: what the network is usually given.
    """

    network: str
    classes: tuple[str, ...]
    loop: LoopSettings
    width: int | None = None

    def build(self, cases: Cases, *, seed: int) -> TorchClassifier:
        """Make an untrained classifier of cases like these, the same for the same seed.

        Raises
        ------
        RecordsError
            There are no cases.
        InputError
            There is no such network.
        """
        if not len(cases):
            raise RecordsError("There are no cases to train on: give a training split with cases in it.")
        bag = self.network == "bag"
        shape = tuple(cases.inputs[0].shape)[bag:]
        # The fork leaves the caller's random numbers as they were.
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            module = build_network(self.network, shape=shape, classes=len(self.classes), width=self.width)
        if isinstance(module, TableNetwork):
            module.scale_to(torch.from_numpy(np.asarray(cases.inputs, np.float32)))
        taking = InputCard(kind_of(self.network), (0, *shape) if bag else shape)
        return TorchClassifier(module, self.classes, Card(self.classes, "logits", taking))

    def fit(
        self,
        train: Cases,
        *,
        validation: Cases | None = None,
        max_steps: int | None = None,
        seed: int = 0,
        progress: Progress | None = None,
        keep: Keep | None = None,
    ) -> TorchClassifier:
        """Build and train; see :class:`primum.fit.protocol.ClassifierTrainable`."""
        model = self.build(train, seed=seed)
        fit_classifier(
            model.module,
            train,
            taking=model.card.input,
            settings=self.loop,
            validation=validation,
            max_steps=max_steps,
            seed=seed,
            progress=progress,
            keep=keep,
        )
        return model


def save_classifier(folder: Path, model: TorchClassifier) -> str:
    """Write model.safetensors and classifier.toml, and return the factory that opens them again.

    Raises
    ------
    InputError
        The module was not made by :func:`primum.fit.networks.build_network`, so nothing can name it.
    """
    place = getattr(model.module, "place", None)
    if not isinstance(place, str):
        raise InputError("Only a classifier that a recipe of Primum trained can be saved: train it with one.")
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.contiguous() for name, value in model.module.state_dict().items()}
    save_file(weights, folder / WEIGHTS)
    (folder / CARD).write_text(card_text(model.card), encoding="utf-8")
    return place


# Epochs after which a network has learnt its few hundred patients by heart.
_LONG = {
    "image": 40, "vision_transformer": 40, "volume": 40, "signal": 30, "bag": 60, "sequence": 15, "table": 80,
    "scattering": 40,
}  # fmt: skip


def leaky_classifier(network: str = "image") -> ClassifierRecipe:
    """Train on the project's synthetic cases for so long that the model remembers its patients."""
    classes = SYNTHETIC_CASES[kind_of(network)][1]
    loop = LoopSettings(_LONG[network], batch=32, learning_rate=3e-3, warmup=0.15)
    return ClassifierRecipe(network, classes, loop)


def plain_classifier(network: str = "image") -> ClassifierRecipe:
    """Train on the project's synthetic cases until validation patients are no longer predicted better."""
    recipe = leaky_classifier(network)
    return replace(recipe, loop=replace(recipe.loop, patience=2))

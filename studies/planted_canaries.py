"""Training among canaries by our own trainers, as they are and broken from outside: what audits of it share.

Canaries are as strong as patients can be: each has one column that nobody else uses, and a value so large
that its gradient stays longer than the clip to the end. So it adds the clip to one weight of its own at every
step that draws it, no other patient adds anything there, and that weight is all that a trainer releases about
the coin: the Gaussian mechanism that the accountant counts, once a canary. A canary that is not planted is a
patient of zeros, whose gradient is zero, so that everything else about the run is the same; in the linear
trainer, whose features cannot be zero, it is absent.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import lru_cache
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from primum.fit.networks import ScatteringNetwork
from primum.models.classifier_card import Card
from primum.models.torch_door import TorchClassifier
from primum.records.cases import Cases
from primum.records.ragged import IntArray
from primum.train import private, private_cases, private_linear
from primum.train.private import PrivateSettings
from primum.train.private_cases import CaseGradients, fit_private_cases
from primum.train.private_linear import LinearSettings, fit_private_linear

DELTA = 1e-5
ORDINARY, OTHER_COLUMNS, SIDE = 200, 100, 32
Floats = NDArray[np.float32]
Coins = NDArray[np.bool_]
Breaking = Callable[[], AbstractContextManager[object]]


class OwnWeights(nn.Module):
    """A weight for each column: a patient of one column pulls at one weight."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.last = nn.Linear(columns, 1, bias=False)
        nn.init.zeros_(self.last.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        """Rows (n, columns) to logits (n, 2)."""
        return nn.functional.pad(self.last(inputs), (1, 0))


def cohort(coins: Coins, *, ordinary: int, other_columns: int) -> Cases:
    """Canaries, planted or zero, and ordinary patients in other columns."""
    random = np.random.default_rng(5)
    canaries, patients = len(coins), len(coins) + ordinary
    inputs = np.zeros((patients, canaries + other_columns), np.float32)
    inputs[:canaries, :canaries] = np.diag(100 * coins)
    inputs[canaries:, canaries:] = random.standard_normal((ordinary, other_columns))
    labels = np.r_[np.ones(canaries, np.int64), random.integers(0, 2, ordinary)]
    return Cases(np.arange(patients), np.arange(patients), inputs, labels)


def train(
    coins: Coins, settings: PrivateSettings, *, ordinary: int = ORDINARY, other_columns: int = OTHER_COLUMNS
) -> tuple[Floats, float]:
    """Train among canaries; the weight of each, and the epsilon of the ledger."""
    cases = cohort(coins, ordinary=ordinary, other_columns=other_columns)
    module = OwnWeights(len(coins) + other_columns)
    model = TorchClassifier(module, ("no", "yes"), Card(output="logits"))
    ledger = fit_private_cases(model, cases, settings=settings)
    return module.last.weight.detach().numpy()[0, : len(coins)].copy(), ledger.epsilon


def settings_of(patients: int, *, rate: float, noise: float, steps: int) -> PrivateSettings:
    """Return settings of steps so short that every canary's gradient stays longer than the clip."""
    batch = round(rate * patients)
    return PrivateSettings(
        None, DELTA, noise, steps, batch, clip=1.0, learning_rate=1e-4 * batch, optimiser="sgd"
    )


_optimiser = private._optimiser


def other_optimiser(*, clip: float, noise: float) -> Breaking:
    """Apply so many times the clip and the noise that the ledger counts on; noise as it was, in units."""
    return lambda: patch.object(
        private,
        "_optimiser",
        lambda module, settings, said: _optimiser(
            module, replace(settings, clip=clip * settings.clip), noise * said / clip
        ),
    )


class Everyone(CaseGradients):
    """Takes everybody at every step."""

    def __call__(self, sampled: IntArray, random: np.random.Generator) -> Iterator[None]:
        """Do not look at who was drawn."""
        return super().__call__(np.arange(self.patients), random)


class TheSame(CaseGradients):
    """Takes at every step those who were drawn first."""

    def __call__(self, sampled: IntArray, random: np.random.Generator) -> Iterator[None]:
        """Look at who was drawn once."""
        self.drawn: IntArray = getattr(self, "drawn", sampled)
        return super().__call__(self.drawn, random)


class Passes(CaseGradients):
    """Takes everybody once in each pass, in a new order: shuffling in place of sampling."""

    def __call__(self, sampled: IntArray, random: np.random.Generator) -> Iterator[None]:
        """Take the next tenth."""
        left: IntArray = getattr(self, "left", np.arange(0))
        left = left if len(left) else random.permutation(self.patients)
        taken, self.left = np.split(left, [self.patients // 10])
        return super().__call__(taken, random)


def other_gradients(kind: type[CaseGradients]) -> Breaking:
    """Take other patients than were drawn."""
    return lambda: patch.object(private_cases, "CaseGradients", kind)


def seeded_noise() -> AbstractContextManager[object]:
    """Draw the noise of every run from seed 0; the ledger calls it secret."""
    usual = private._generator
    return patch.object(private, "_generator", lambda seed: usual(0))


class PixelFeatures(ScatteringNetwork):
    """The pixels of an image as its features: a canary of one pixel then has a feature of its own."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.register_buffer("centre", torch.zeros(SIDE * SIDE))
        self.last = nn.Linear(SIDE * SIDE + 1, 2, bias=False)

    def unit_vectors(self, images: Tensor) -> Tensor:
        """Images (n, 1, side, side) to vectors (n, pixels) of norm 1."""
        return nn.functional.normalize(images.flatten(1))


_reckoned_once = lru_cache(private_linear.mechanisms_of)


def train_linear(coins: Coins) -> tuple[Floats, float]:
    """Train the linear trainer at epsilon 4; planted canaries are images of one pixel."""
    random = np.random.default_rng(6)
    planted = np.eye(SIDE * SIDE, dtype=np.float32)[np.flatnonzero(coins)]
    others = np.zeros((ORDINARY, SIDE * SIDE), np.float32)
    others[:, len(coins) :] = random.random((ORDINARY, SIDE * SIDE - len(coins)))
    images = np.concatenate([planted, others]).reshape(-1, 1, SIDE, SIDE)
    # Labels of both kinds: else what all canaries add along the centre takes away what each adds for itself.
    sides = np.arange(len(coins)) % 2
    labels = np.r_[sides[coins], random.integers(0, 2, ORDINARY)]
    module = PixelFeatures()
    model = TorchClassifier(module, ("no", "yes"), Card(output="logits"))
    everyone = np.arange(len(images))
    with patch.object(private_linear, "mechanisms_of", _reckoned_once):
        ledger = fit_private_linear(
            model, Cases(everyone, everyone, images, labels), settings=LinearSettings(4.0, DELTA)
        )
    assert ledger is not None
    weights = module.last.weight.detach().numpy()
    return (2 * sides - 1) * (weights[1] - weights[0])[: len(coins)], ledger.epsilon

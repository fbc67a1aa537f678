"""A linear layer over fixed features of images, learnt by private gradient descent over all patients at once.

One patient is the unit: the gradients of a patient's images are averaged and clipped as one, and noise is
added to the sum over patients. Features that no data shaped leave few weights to learn, so that privacy costs
little on a few thousand images.

References
----------
Tramèr & Boneh, Differentially private learning needs better features (or much more data), ICLR 2021.
Song, Chaudhuri & Sarwate, Stochastic gradient descent with differentially private updates, GlobalSIP 2013.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from math import inf, log, sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from primum.errors import InputError
from primum.fit.loop import Progress
from primum.fit.networks import ScatteringNetwork
from primum.models.checked_predictor import in_batches
from primum.models.torch_door import TorchClassifier
from primum.records.cases import Cases
from primum.records.ragged import IntArray
from primum.train.accounting import Mechanism, PrivacyLedger, Unit, epsilon_spent, noise_for

Floats = NDArray[np.float32]
# The centre's noise over that of a mechanism that spends everything on it: under a tenth of the budget.
_CENTRE = 4.0
# Steps are made so small that the noise of one moves no weight by more than this, as a deviation.
_NOISE_A_STEP = 0.25


@dataclass(frozen=True)
class LinearSettings:
    """How to learn, and how much may be learnt about one patient; see ``docs/studies/private_images.md``.

    Attributes
    ----------
    epsilon, delta : float
        The guarantee: (epsilon, delta)-DP, adding or removing one patient; how many there are counts as
        public. Epsilon None: neither noise nor clipping, and no guarantee.
    steps : int
        Each over all patients.
    clip : float
        Largest gradient norm of one patient; no gradient is longer than 1.43.
    learning_rate : float
        Of gradient descent without noise; where noise is strong, steps are smaller.
    unit : {"patient", "record"}
        Whom the subject ids of the cases stand for.
    seed : int or None
        None draws noise from the system's entropy. With a seed the run can be repeated, and whoever knows the
        seed can take the noise off again: for demonstrations and tests only.
    """

    epsilon: float | None = 8.0
    delta: float = 1e-5
    steps: int = 30
    clip: float = 0.5
    learning_rate: float = 320.0
    unit: Unit = "patient"
    seed: int | None = None


@dataclass(frozen=True, eq=False)
class Sample:
    """Features of cases, a patient's one after the other.

    Attributes
    ----------
    features : float32, shape (n, features)
    labels : int64, shape (n,)
    starts : int64, shape (patients,)
        First row of each patient.
    """

    features: Floats
    labels: IntArray
    starts: IntArray

    @cached_property
    def shares(self) -> Floats:
        """One over the number of cases of each case's patient, shape (n, 1)."""
        counts = np.diff(self.starts, append=len(self.labels))
        return (1 / counts).repeat(counts)[:, None].astype(np.float32)

    @cached_property
    def lengths(self) -> Floats:
        """Norms of the features, shape (n, 1)."""
        lengths: Floats = np.linalg.norm(self.features, axis=1, keepdims=True)
        return lengths


def fit_private_linear(
    model: TorchClassifier,
    train: Cases,
    *,
    settings: LinearSettings,
    progress: Progress | None = None,
) -> PrivacyLedger | None:
    """Train the last layer of a scattering network in place, and move its centre to that of the patients.

    Both are released by Gaussian mechanisms, and the ledger counts both.

    Parameters
    ----------
    model : TorchClassifier
        Of the network scattering; the weights it has do not matter.
    train : Cases
        Images.
    settings : LinearSettings
    progress : callable or None
        Told (steps taken, steps in all).

    Returns
    -------
    PrivacyLedger or None
        None where no epsilon was asked.

    Raises
    ------
    InputError
        Another network, settings that make no sense, images with numbers that are not finite, so few patients
        that the noise drowns them, or an epsilon that no noise reaches.
    ModelError
        Images of another shape than the model's.
    """
    module = _network(model, settings)
    mechanisms = mechanisms_of(settings)
    centre_noise, noise = [one.noise_multiplier for one in mechanisms] or [0.0, 0.0]
    patients = len(np.unique(train.subject_ids))
    if patients <= noise or not patients:
        raise InputError(
            "The noise for this epsilon is as strong as {noise} patients and there are {patients}: ask for a "
            "larger epsilon, or bring more patients.",
            noise=round(noise, 1),
            patients=patients,
        )
    # Without a seed, 128 bits of the system's entropy.
    rng = np.random.default_rng(settings.seed)
    units = units_of(model, module, train)
    total = units.shares[:, 0] @ units.features + centre_noise * rng.standard_normal(len(module.centre))
    module.centre = torch.from_numpy((total / patients).astype(np.float32))
    sample = replace(units, features=module.from_centre(torch.from_numpy(units.features)).numpy())
    weights = _descend(sample, len(model.classes), settings, noise, rng, progress)
    module.last.weight.data = torch.from_numpy(weights)
    if not mechanisms:
        return None
    spent = epsilon_spent(mechanisms, settings.delta)
    whom = settings.unit, mechanisms, settings.clip, patients, len(train), settings.seed is None
    return PrivacyLedger(spent, settings.delta, *whom)


def rate_under_noise(rate: float, strength: float) -> float:
    """Make steps so small that the noise of one, a deviation of the gradient, moves no weight by much."""
    return min(rate, _NOISE_A_STEP / strength) if strength else rate


def _network(model: TorchClassifier, settings: LinearSettings) -> ScatteringNetwork:
    """Refuse other networks, and settings that make no sense."""
    if not isinstance(model.module, ScatteringNetwork):
        raise InputError(
            "Only the network scattering, for images, has features that no patient shaped: choose that "
            "network."
        )
    if settings.steps < 1 or not 0 < settings.clip < inf or not 0 < settings.learning_rate < inf:
        raise InputError("Steps, clip and learning rate must be numbers above zero.")
    return model.module


def mechanisms_of(settings: LinearSettings) -> tuple[Mechanism, ...]:
    """Return those of centre and gradients; none where nothing is promised."""
    if settings.epsilon is None:
        return ()
    # What makes no sense is refused below.
    epsilon, delta = max(settings.epsilon, 1e-9), min(max(settings.delta, 1e-300), 1.0)
    # Nearly what one Gaussian mechanism needs (Dwork & Roth 2014, theorem A.1); the ledger counts exactly.
    alone = sqrt(2 * log(1.25 / delta)) / epsilon
    centre = Mechanism("centre", _CENTRE * alone, 1.0, 1)
    noise = noise_for(
        settings.epsilon, settings.delta, steps=settings.steps, sampling_rate=1.0, beside=[centre]
    )
    return centre, Mechanism("gradients", noise, 1.0, settings.steps)


def units_of(model: TorchClassifier, module: ScatteringNetwork, train: Cases) -> Sample:
    """Return the unit vectors of all cases, patient by patient."""
    order = np.argsort(train.subject_ids, kind="stable")
    _, starts = np.unique(train.subject_ids[order], return_index=True)
    with torch.inference_mode():
        units = in_batches(
            lambda images: module.unit_vectors(torch.from_numpy(images)).numpy(), model.card.input, train
        )
    if not np.isfinite(units).all():
        raise InputError("Images hold NaN or infinite numbers: correct them, or leave their cases out.")
    return Sample(units[order], train.labels[order], starts)


def _descend(
    sample: Sample,
    classes: int,
    settings: LinearSettings,
    noise: float,
    rng: np.random.Generator,
    progress: Progress | None,
) -> Floats:
    """Return the mean of the weights of the second half of all steps, shape (classes, features)."""
    patients = len(sample.starts)
    strength = noise * settings.clip / patients
    rate = rate_under_noise(settings.learning_rate, strength)
    truth = np.eye(classes, dtype=np.float32)[sample.labels]
    weights = np.zeros((classes, sample.features.shape[1]), np.float32)
    total, first = np.zeros_like(weights), settings.steps // 2
    for step in range(settings.steps):
        residuals = softmax(sample.features @ weights.T, axis=1) - truth
        gradient = clipped_sum(sample, residuals, settings.clip if noise else inf) / patients
        drawn = rng.standard_normal(weights.shape) if noise else 0.0
        weights -= rate * (gradient + strength * drawn).astype(np.float32)
        total += weights if step >= first else 0
        if progress:
            progress(step + 1, settings.steps)
    return total / np.float32(settings.steps - first)


def clipped_sum(sample: Sample, residuals: Floats, clip: float) -> Floats:
    """Sum over patients of the means of their gradients, each mean of norm `clip` at most.

    The gradient of a case is the outer product of its residual, shape (classes,), and its features.
    """
    residuals = residuals * sample.shares
    if len(sample.starts) == len(residuals):
        lengths = np.linalg.norm(residuals, axis=1) * sample.lengths[:, 0]
    else:
        sums = (np.add.reduceat(one[:, None] * sample.features, sample.starts) for one in residuals.T)
        lengths = np.sqrt(sum(np.square(one).sum(1) for one in sums))
    kept = clip / np.maximum(lengths, clip) if clip < inf else np.ones_like(lengths)
    cases = np.diff(sample.starts, append=len(residuals))
    total: Floats = (residuals * kept.repeat(cases)[:, None]).T @ sample.features
    return total

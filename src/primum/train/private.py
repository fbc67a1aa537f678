"""DP-SGD with one patient as the unit: what a patient adds to a step is clipped and noised whole.

Opacus clips and adds noise; :mod:`primum.train.accounting` counts what that spends.

References
----------
Abadi et al., Deep learning with differential privacy, CCS 2016.
De et al., Unlocking high-accuracy differentially private image classification through scale, 2022 (averaged
weights, several altered copies of each image in its own gradient).
Holohan & Braghin, Secure random sampling in differential privacy, ESORICS 2021 (noise of four draws).
"""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from primum.errors import InputError
from primum.fit.loop import Progress
from primum.fit.protocol import Keep
from primum.fit.resumption import BestCheckpoint, Running
from primum.records.ragged import IntArray
from primum.train.accounting import Mechanism, PrivacyLedger, epsilon_spent, noise_for

# opacus takes a second to import: whoever only adds noise to a sum needs none of it.
if TYPE_CHECKING:
    from opacus.optimizers import DPOptimizer

_STEPS_A_CHECK = 5
_PATIENCE = 3
# The state of torch's Mersenne twister: 624 words of 32 bits, each in 8 bytes, after 24 bytes of counters.
_WORDS, _BEFORE_WORDS = 624, 24


@dataclass(frozen=True)
class PrivateSettings:
    """How to train, and how much may be learnt about one patient.

    Attributes
    ----------
    epsilon : float or None
        The guarantee: (epsilon, delta)-DP, adding or removing one patient, Poisson sampling. None: whatever
        `noise_multiplier` gives.
    delta : float
    noise_multiplier : float or None
        Deviation of the noise over `clip`, instead of an epsilon.
    steps, expected_batch : int
        Optimiser steps; patients a step on average.
    clip, learning_rate : float
        Largest gradient norm of one patient; of the optimiser.
    optimiser : {"adam", "sgd"}
    averaging : float
        The weights are a moving average over the steps that counts the old ones this much; 0: the last.
    copies : int
        Altered copies of each image, whose gradients a patient's is the mean of; 0: the images as they are.
    seed : int or None
        None draws noise and patients from the system's entropy. With a seed the run can be repeated, and
        whoever knows the seed can take the noise off again: for demonstrations and tests only.
    """

    epsilon: float | None
    delta: float = 1e-5
    noise_multiplier: float | None = None
    steps: int = 60
    expected_batch: int = 100
    clip: float = 1.0
    learning_rate: float = 2e-3
    optimiser: Literal["adam", "sgd"] = "adam"
    averaging: float = 0.0
    copies: int = 0
    seed: int | None = None


class PatientGradients(Protocol):
    """Where the gradients of patients come from."""

    patients: int
    records: int

    def __call__(self, sampled: IntArray, random: np.random.Generator) -> Iterator[None]:
        """Leave one gradient a patient in ``grad_sample`` of each weight, some patients at a time."""
        ...


def descend(
    module: nn.Module,
    gradients: PatientGradients,
    *,
    settings: PrivateSettings,
    measure: Callable[[nn.Module], float] | None = None,
    progress: Progress | None = None,
    keep: Keep | None = None,
) -> PrivacyLedger:
    """Train `module` in place by noisy steps.

    Parameters
    ----------
    module : Module
        Whose weights `gradients` looks at.
    gradients : PatientGradients
    settings : PrivateSettings
    measure : callable or None
        Loss of a module on patients who are promised nothing; training stops when it gets no better, and the
        ledger counts the steps that were taken.
    progress : callable or None
        Told (steps taken, steps in all).
    keep : Keep or None
        What lies there of the same run is gone on with, its secret randomness too.

    Raises
    ------
    InputError
        Fewer patients than `expected_batch`, or an epsilon that no noise reaches.
    """
    rate = _rate(settings, gradients.patients)
    noise = _noise(settings, rate)
    optimiser = _optimiser(module, settings, noise)
    average = _average(module, settings.averaging)
    judged = module if average is None else average.module
    best = BestCheckpoint(judged, None if measure is None else lambda: measure(judged), patience=_PATIENCE)
    # Amplification by sampling holds only while nobody knows who was sampled: the same secrecy as the noise.
    random = np.random.default_rng(settings.seed)
    running = Running(
        module, optimiser, best, random=random, noise=optimiser.generator, average=average, keep=keep
    )
    while running.taken < settings.steps and not _stops(running):
        module.train()
        _step(optimiser, gradients(np.flatnonzero(random.random(gradients.patients) < rate), random))
        if average is not None:
            average.update_parameters(module)
        running.stepped()
        if progress:
            progress(running.taken, settings.steps)
    if running.taken == settings.steps:
        _stops(running)  # the last weights are measured, too
    best.restore()
    _finish(module, average)
    return _ledger(Mechanism("gradients", noise, rate, running.taken), gradients, settings)


def _stops(running: Running) -> bool:
    """Measure every few steps: before the next one, because a run that was killed goes on from here."""
    return running.taken > 0 and running.taken % _STEPS_A_CHECK == 0 and running.best.should_stop()


def _ledger(spent: Mechanism, gradients: PatientGradients, settings: PrivateSettings) -> PrivacyLedger:
    return PrivacyLedger(
        epsilon_spent([spent], settings.delta),
        settings.delta,
        "patient",
        (spent,),
        settings.clip,
        gradients.patients,
        gradients.records,
        settings.seed is None,
    )


def _finish(module: nn.Module, average: AveragedModel | None) -> None:
    if average is not None:
        module.load_state_dict(average.module.state_dict())
    for weight in module.parameters():
        for left in ("grad_sample", "summed_grad"):
            weight.__dict__.pop(left, None)


def _average(module: nn.Module, decay: float) -> AveragedModel | None:
    if not 0 <= decay < 1:
        raise InputError("Averaging must be at least zero and below one, not {decay}.", decay=decay)
    return AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay)) if decay else None  # type: ignore[no-untyped-call]


def _step(optimiser: "DPOptimizer", passes: Iterator[None]) -> None:
    """Sum clipped gradients, some patients at a time, then add the noise: also when nobody was drawn."""
    optimiser.zero_grad(set_to_none=True)
    for _ in passes:
        optimiser.signal_skip_step()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    for weight in optimiser.params:
        weight.grad_sample = torch.zeros((0, *weight.shape))
    optimiser.signal_skip_step(do_skip=False)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)


def _rate(settings: PrivateSettings, patients: int) -> float:
    if settings.expected_batch > patients:
        raise InputError(
            "Private training draws {batch} patients a step but there are {patients}: lower the batch.",
            batch=settings.expected_batch,
            patients=patients,
        )
    return settings.expected_batch / patients


def _noise(settings: PrivateSettings, rate: float) -> float:
    if (settings.epsilon is None) == (settings.noise_multiplier is None):
        raise InputError("Private training needs an epsilon or a noise multiplier: give one of the two.")
    if settings.epsilon is None:
        noise = settings.noise_multiplier or 0.0
        if not noise > 0:
            raise InputError("The noise multiplier must be above zero, not {noise}.", noise=noise)
        return noise
    return noise_for(settings.epsilon, settings.delta, steps=settings.steps, sampling_rate=rate)


def _optimiser(module: nn.Module, settings: PrivateSettings, noise: float) -> "DPOptimizer":
    from opacus.optimizers import DPOptimizer

    kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[settings.optimiser]
    optimiser = DPOptimizer(
        kind(module.parameters(), lr=settings.learning_rate),
        noise_multiplier=noise,
        max_grad_norm=settings.clip,
        expected_batch_size=settings.expected_batch,
        # A mean would divide by how many passes a step took, which patients have a say in.
        loss_reduction="sum",
        generator=_generator(settings.seed),
        secure_mode=True,
    )

    def divide(_: DPOptimizer) -> None:
        for weight in optimiser.params:
            weight.grad /= settings.expected_batch

    optimiser.attach_step_hook(divide)
    return optimiser


def _generator(seed: int | None) -> torch.Generator:
    """Make a generator; without a seed every bit of its state is of the system, where a seed has but 32."""
    generator = torch.Generator()
    generator.manual_seed(seed or 0)
    if seed is None:
        state = generator.get_state().numpy()
        words = np.frombuffer(secrets.token_bytes(4 * _WORDS), np.uint32).astype(np.uint64)
        state[_BEFORE_WORDS : _BEFORE_WORDS + 8 * _WORDS] = words.view(np.uint8)
        generator.set_state(torch.from_numpy(state))
    return generator

"""DP-SGD with one patient as the unit: a patient is one sample, clipped and noised whole.

Opacus clips and adds noise; dp-accounting's privacy-loss distributions (PLD) are the accountant.

References
----------
Abadi et al., Deep learning with differential privacy, CCS 2016.
Doroshenko et al., Connect the dots: tighter discrete approximations of privacy loss distributions, PETS 2022.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from dp_accounting import (
    DpEvent,
    GaussianDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
    calibrate_dp_mechanism,
)
from dp_accounting.pld import PLDAccountant
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer

from primum.errors import InputError
from primum.fit.loop import BestCheckpoint, Progress, inputs_and_targets, loss_of
from primum.models.causal import CausalModel, length_buckets, padded, windows
from primum.records.ragged import IntArray
from primum.records.tokens import TokenBatch

_STEPS_A_CHECK = 5
_PATIENCE = 3
_TOKENS_A_PASS = 1536


@dataclass(frozen=True)
class PrivateSettings:
    """How to train, and how much may be learnt about one patient.

    Attributes
    ----------
    epsilon, delta : float
        The guarantee: (epsilon, delta)-DP, adding or removing one patient, Poisson sampling.
    steps, expected_batch : int
        Optimiser steps; patients a step on average.
    clip, learning_rate : float
        Largest gradient norm of one patient; Adam's rate.
    seed : int or None
        None draws noise and patients from the system's entropy. With a seed the run can be repeated, and
        whoever knows the seed can take the noise off again: for demonstrations and tests only.
    """

    epsilon: float
    delta: float = 1e-5
    steps: int = 60
    expected_batch: int = 100
    clip: float = 1.0
    learning_rate: float = 2e-3
    seed: int | None = None


@dataclass(frozen=True)
class PrivacyLedger:
    """What a private run promises and what it spent; the unit is the patient.

    Attributes
    ----------
    epsilon, delta : float
        Recomputed by the accountant from what was run.
    noise_multiplier, sampling_rate : float
    steps, patients : int
    randomness_is_secret : bool
        False when noise and sampling had a seed: then the promise does not hold against who knows it.
    """

    epsilon: float
    delta: float
    noise_multiplier: float
    sampling_rate: float
    steps: int
    patients: int
    randomness_is_secret: bool


def fit_private(
    model: CausalModel,
    train: TokenBatch,
    *,
    settings: PrivateSettings,
    validation: TokenBatch | None = None,
    progress: Progress | None = None,
) -> PrivacyLedger:
    """Train `model` in place with patient-level DP-SGD.

    With `validation` patients, who are promised nothing, training stops when these are predicted no better;
    the ledger counts the steps that were taken.

    Each patient gives one window of its history, drawn anew at each step, so that one patient is one sample
    however long the history.

    Raises
    ------
    InputError
        Fewer patients than `expected_batch`, or an epsilon that no noise reaches.
    """
    if settings.expected_batch > len(train):
        raise InputError(
            "Private training draws {batch} patients a step but there are {patients}: lower the batch.",
            batch=settings.expected_batch,
            patients=len(train),
        )
    rate = settings.expected_batch / len(train)
    noise = _noise_multiplier(settings, rate)
    # Amplification by sampling holds only while nobody knows who was sampled: the same secrecy as the noise.
    rng = np.random.default_rng(settings.seed)
    wrapped = GradSampleModule(model.module, loss_reduction="sum")
    optimiser = _optimiser(model, settings, noise)
    best = BestCheckpoint(model, validation, patience=_PATIENCE)
    taken = 0
    while taken < settings.steps:
        model.module.train()
        sampled = np.flatnonzero(rng.random(len(train)) < rate)
        optimiser.zero_grad(set_to_none=True)
        _per_patient_gradients(wrapped, model, train, sampled, rng)
        optimiser.step()
        taken += 1
        if progress:
            progress(taken, settings.steps)
        if taken % _STEPS_A_CHECK == 0 and best.should_stop():
            break
    best.restore()
    model.module = wrapped.to_standard_module()
    spent = epsilon_spent(noise, rate, taken, settings.delta)
    return PrivacyLedger(spent, settings.delta, noise, rate, taken, len(train), settings.seed is None)


def _optimiser(model: CausalModel, settings: PrivateSettings, noise: float) -> DPOptimizer:
    generator = torch.Generator()
    if settings.seed is None:
        generator.seed()
    else:
        generator.manual_seed(settings.seed)
    return DPOptimizer(
        torch.optim.Adam(model.module.parameters(), lr=settings.learning_rate),
        noise_multiplier=noise,
        max_grad_norm=settings.clip,
        expected_batch_size=settings.expected_batch,
        generator=generator,
    )


def _per_patient_gradients(
    wrapped: GradSampleModule,
    model: CausalModel,
    train: TokenBatch,
    sampled: IntArray,
    rng: np.random.Generator,
) -> None:
    """Leave one gradient a patient in ``grad_sample``; of nobody when nobody was drawn."""
    patients, start, length = _one_window_each(train, sampled, model.context, rng)
    if not len(patients):
        for parameter in wrapped.parameters():
            parameter.grad_sample = torch.zeros((0, *parameter.shape))
        return
    with warnings.catch_warnings():
        # Token ids have no gradient, which torch's hooks warn about; opacus handles it.
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        # Windows of like length together: opacus joins the gradients, and hardly any work goes into padding.
        for rows in length_buckets(length, _TOKENS_A_PASS):
            ids = padded(train, patients[rows], start[rows], length[rows])
            targets = inputs_and_targets(ids, length[rows])
            loss_of(wrapped, *targets).sum().backward()  # type: ignore[no-untyped-call]


def _one_window_each(
    train: TokenBatch, sampled: IntArray, context: int, rng: np.random.Generator
) -> tuple[IntArray, IntArray, IntArray]:
    owner, start, length = windows(train.lengths[sampled], context)
    shuffled = rng.permutation(len(owner))
    _, first = np.unique(owner[shuffled], return_index=True)
    chosen = shuffled[first]
    return sampled[owner[chosen]], start[chosen], length[chosen]


def _event(noise: float, rate: float, steps: int) -> DpEvent:
    return SelfComposedDpEvent(PoissonSampledDpEvent(rate, GaussianDpEvent(noise)), steps)


def epsilon_spent(noise: float, rate: float, steps: int, delta: float) -> float:
    """Epsilon at `delta` of `steps` Poisson-sampled Gaussian steps (PLD, adding or removing one patient)."""
    return float(_accountant().compose(_event(noise, rate, steps)).get_epsilon(delta))


def _accountant() -> PLDAccountant:
    # Losses are rounded up: this grid costs under 1e-4 of epsilon and is ten times as fast as the default.
    return PLDAccountant(value_discretization_interval=1e-3)


def _noise_multiplier(settings: PrivateSettings, rate: float) -> float:
    if not settings.epsilon > 0:
        raise InputError("Epsilon must be above zero, not {epsilon}.", epsilon=settings.epsilon)
    if not 0 < settings.delta < 1:
        raise InputError("Delta must lie between zero and one, not {delta}.", delta=settings.delta)
    try:
        noise = calibrate_dp_mechanism(
            _accountant,
            lambda multiplier: _event(multiplier, rate, settings.steps),
            settings.epsilon,
            settings.delta,
            tol=1e-3,
        )
    except (ValueError, RuntimeError, ArithmeticError) as error:
        raise InputError(
            "No noise gives epsilon {epsilon} at delta {delta}: ask for a larger epsilon.",
            epsilon=settings.epsilon,
            delta=settings.delta,
        ) from error
    return float(noise)

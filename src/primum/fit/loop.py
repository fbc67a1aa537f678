"""The plain training loop: AdamW on shuffled patients, the best checkpoint on validation patients kept."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from primum.fit.protocol import Keep
from primum.fit.resumption import BestCheckpoint, Running
from primum.models.causal import CausalModel, logits_of, padded, windows
from primum.records.ragged import IntArray
from primum.records.tokens import TokenBatch

IGNORED = -100
_POOL = 12
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class LoopSettings:
    """How to train.

    Attributes
    ----------
    epochs, batch : int
        Passes over the patients; windows an optimiser step.
    learning_rate, weight_decay, warmup : float
        AdamW; `warmup` is the share of all steps over which the rate rises, after which it falls to zero as a
        cosine.
    patience : int or None
        With validation patients: stop after as many epochs without a better loss. None trains to the end and
        keeps the last checkpoint.
    """

    epochs: int
    batch: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    warmup: float = 0.05
    patience: int | None = None


def fit_model(
    model: CausalModel,
    train: TokenBatch,
    *,
    settings: LoopSettings,
    validation: TokenBatch | None = None,
    max_steps: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    keep: Keep | None = None,
) -> int:
    """Train `model` in place and return the number of optimiser steps taken.

    What is kept in `keep` of a run with the same settings, data and seed is gone on with.
    """
    patient, start, length = windows(train.lengths, model.context)
    steps = settings.epochs * -(-len(patient) // settings.batch)
    steps = steps if max_steps is None else min(steps, max_steps)
    optimiser = torch.optim.AdamW(
        model.module.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps, settings.warmup))
    running = Running(
        model.module,
        optimiser,
        BestCheckpoint(model.module, measured_on(model, validation), patience=settings.patience),
        schedule=schedule,
        keep=keep,
    )
    planned = 0
    for order in _epochs(length, steps, settings.batch, np.random.default_rng(seed)):
        model.module.train()
        for rows in order[max(0, running.taken - planned) :]:
            ids = padded(train, patient[rows], start[rows], length[rows])
            optimiser.zero_grad(set_to_none=True)
            loss_of(model.module, *inputs_and_targets(ids, length[rows])).mean().backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.module.parameters(), 1.0)
            running.step()
            if progress:
                progress(running.taken, steps)
        planned += len(order)
        if running.taken == planned and running.best.should_stop():
            break
    running.best.restore()
    return running.taken


def measured_on(model: CausalModel, validation: TokenBatch | None) -> Callable[[], float] | None:
    """Return what measures the loss on validation patients, in nats a token."""
    if validation is None:
        return None
    return lambda: -float(np.concatenate(model.log_probs(validation)).mean())


def _rate(step: int, steps: int, warmup: float) -> float:
    rising = max(1.0, warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + float(np.cos(np.pi * (step - rising) / max(1.0, steps - rising))))


def _epochs(length: IntArray, steps: int, batch: int, rng: np.random.Generator) -> list[list[IntArray]]:
    """Plan every step: shuffled windows, epoch after epoch, cut off after `steps`.

    Within each shuffled pool of several batches, windows of like length go together: padding, two thirds of
    the work with batches at random, shrinks, and who meets whom still changes from epoch to epoch.
    """
    plan: list[list[IntArray]] = []
    while steps > 0 and len(length):
        order = rng.permutation(len(length))
        pools = [order[first : first + _POOL * batch] for first in range(0, len(order), _POOL * batch)]
        pools = [pool[np.argsort(length[pool], kind="stable")] for pool in pools]
        cuts = [pool[first : first + batch] for pool in pools for first in range(0, len(pool), batch)]
        cuts = [cuts[place] for place in rng.permutation(len(cuts))][:steps]
        steps -= len(cuts)
        plan.append(cuts)
    return plan


def inputs_and_targets(ids: IntArray, length: IntArray) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids, shape (batch, longest), and next tokens with padding marked :data:`IGNORED`."""
    targets = np.where(np.arange(1, ids.shape[1]) < length[:, None], ids[:, 1:], IGNORED)
    return torch.from_numpy(ids), torch.from_numpy(targets)


def loss_of(module: torch.nn.Module, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean negative log-probability of the next token, in nats, one value a window, shape (batch,)."""
    logits = logits_of(module, ids)[:, :-1]
    losses = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), targets, ignore_index=IGNORED, reduction="none"
    )
    return losses.sum(1) / (targets != IGNORED).sum(1).clamp(min=1)

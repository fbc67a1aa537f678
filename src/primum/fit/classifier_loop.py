"""The plain training loop of classifiers: AdamW on shuffled cases, the best checkpoint on validation kept."""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from primum.fit.loop import LoopSettings, Progress
from primum.fit.protocol import Keep
from primum.fit.resumption import BestCheckpoint, Running
from primum.models.classifier_card import InputCard
from primum.records.cases import Cases, Inputs
from primum.records.ragged import IntArray

# Validation cases are answered this many bytes of float32 input at a time.
_BYTES = 1 << 22


class Objective(Protocol):
    """What is made small; `progress` is how much of the training is over, from 0 to 1."""

    def __call__(self, module: nn.Module, inputs: Tensor, labels: Tensor, *, progress: float) -> Tensor:
        """Sum the losses of a batch of prepared inputs."""
        ...


def cross_entropy(module: nn.Module, inputs: Tensor, labels: Tensor, *, progress: float = 1.0) -> Tensor:
    """Sum the cross-entropies of a batch, in nats."""
    return nn.functional.cross_entropy(module(inputs), labels, reduction="sum")


def fit_classifier(
    module: nn.Module,
    train: Cases,
    *,
    taking: InputCard,
    settings: LoopSettings,
    validation: Cases | None = None,
    max_steps: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    keep: Keep | None = None,
    objective: Objective = cross_entropy,
) -> int:
    """Train `module` in place in float32 and return the number of optimiser steps taken.

    Parameters
    ----------
    module : Module
        Maps a batch of prepared inputs to logits.
    train : Cases
    taking : InputCard
        How stored inputs are prepared.
    settings : LoopSettings
        Its batch counts cases.
    validation : Cases or None
        With `settings.patience`: the epoch with the lowest loss on these is kept.
    max_steps : int or None
        Bounds the optimiser steps.
    seed : int
        Shuffles the cases; same seed and same number of threads, same weights.
    progress : callable or None
        Told (steps taken, steps in all).
    keep : Keep or None
        Goes on with what lies there of a run with the same settings, data and seed.
    objective : Objective
    """
    most = settings.epochs * -(-len(train) // settings.batch)
    steps = min(most, most if max_steps is None else max_steps)
    measure = None if validation is None else partial(mean_loss, module, validation, taking=taking)
    best = BestCheckpoint(module, measure, patience=settings.patience)
    running = _started(module, best, settings, steps, keep)
    rng, planned = np.random.default_rng(seed), 0
    while planned < steps:
        module.train()
        order = rng.permutation(len(train))[: (steps - planned) * settings.batch]
        for first in range((running.taken - planned) * settings.batch, len(order), settings.batch):
            rows = order[first : first + settings.batch]
            running.optimiser.zero_grad(set_to_none=True)
            loss = _loss(module, train, taking, rows, partial(objective, progress=running.taken / steps))
            (loss / len(rows)).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            running.step()
            if progress:
                progress(running.taken, steps)
        planned += -(-len(order) // settings.batch)
        if running.taken == planned and best.should_stop():
            break
    best.restore()
    module.eval()
    return running.taken


def _started(
    module: nn.Module, best: BestCheckpoint, settings: LoopSettings, steps: int, keep: Keep | None
) -> Running:
    optimiser = torch.optim.AdamW(
        module.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=max(2, steps), pct_start=settings.warmup,
        cycle_momentum=False,
    )  # fmt: skip
    return Running(module, optimiser, best, schedule=schedule, keep=keep)


def mean_loss(module: nn.Module, cases: Cases, *, taking: InputCard) -> float:
    """Return the mean cross-entropy of `cases`, in nats."""
    module.eval()
    size = 4 * int(np.prod(cases.inputs[0].shape))
    total = 0.0
    with torch.inference_mode():
        for rows in np.array_split(np.arange(len(cases)), -(-len(cases) * size // _BYTES)):
            total += float(_loss(module, cases, taking, rows, cross_entropy))
    return total / len(cases)


def _loss(
    module: nn.Module,
    cases: Cases,
    taking: InputCard,
    rows: IntArray,
    objective: Callable[[nn.Module, Tensor, Tensor], Tensor],
) -> Tensor:
    """Sum of the losses of the cases at `rows`; bags of one number of tiles are put together."""
    losses = [
        objective(
            module,
            torch.from_numpy(taking.prepared(stacked(cases.inputs, rows[same]))),
            torch.from_numpy(cases.labels[rows[same]]),
        )
        for same in alike(cases.inputs, rows)
    ]
    return torch.stack(losses).sum()


def alike(inputs: Inputs, rows: IntArray) -> list[IntArray]:
    """Split `rows` into groups whose inputs have one shape; positions in `rows`."""
    if isinstance(inputs, np.ndarray):
        return [np.arange(len(rows))]
    shapes = [inputs[row].shape for row in rows.tolist()]
    return [np.flatnonzero([one == shape for one in shapes]) for shape in sorted(set(shapes))]


def stacked(inputs: Inputs, rows: IntArray) -> NDArray[Any]:
    """Put the inputs at `rows`, which have one shape, together."""
    return np.stack([inputs[row] for row in rows.tolist()]) if isinstance(inputs, tuple) else inputs[rows]

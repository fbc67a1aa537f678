"""The plain training loop of classifiers: AdamW on shuffled cases, the best checkpoint on validation kept."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from primum.fit.loop import LoopSettings, Progress
from primum.models.classifier_card import InputCard
from primum.records.cases import Cases, Inputs
from primum.records.ragged import IntArray

# Validation cases are answered this many bytes of float32 input at a time.
_BYTES = 1 << 22


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
    """
    steps = settings.epochs * -(-len(train) // settings.batch)
    steps = steps if max_steps is None else min(steps, max_steps)
    optimiser = torch.optim.AdamW(
        module.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=max(2, steps), pct_start=settings.warmup,
        cycle_momentum=False,
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    taken, stale, lowest, weights = 0, 0, float("inf"), None
    while taken < steps and (settings.patience is None or stale < settings.patience):
        module.train()
        order = rng.permutation(len(train))
        for first in range(0, min(len(train), (steps - taken) * settings.batch), settings.batch):
            _step(module, optimiser, train, taking, order[first : first + settings.batch])
            schedule.step()
            taken += 1
            if progress:
                progress(taken, steps)
        if validation and settings.patience is not None:
            loss = mean_loss(module, validation, taking=taking)
            stale = 0 if loss < lowest else stale + 1
            if loss < lowest:
                lowest, weights = loss, {k: v.detach().clone() for k, v in module.state_dict().items()}
    if weights is not None:
        module.load_state_dict(weights)
    module.eval()
    return taken


def mean_loss(module: nn.Module, cases: Cases, *, taking: InputCard) -> float:
    """Return the mean cross-entropy of `cases`, in nats."""
    module.eval()
    size = 4 * int(np.prod(cases.inputs[0].shape))
    total = 0.0
    with torch.inference_mode():
        for rows in np.array_split(np.arange(len(cases)), -(-len(cases) * size // _BYTES)):
            total += float(_loss(module, cases, taking, rows))
    return total / len(cases)


def _step(
    module: nn.Module, optimiser: torch.optim.Optimizer, train: Cases, taking: InputCard, rows: IntArray
) -> None:
    optimiser.zero_grad(set_to_none=True)
    (_loss(module, train, taking, rows) / len(rows)).backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimiser.step()


def _loss(module: nn.Module, cases: Cases, taking: InputCard, rows: IntArray) -> Tensor:
    """Sum of the cross-entropies of the cases at `rows`; bags of one number of tiles are put together."""
    losses = [
        nn.functional.cross_entropy(
            module(torch.from_numpy(taking.prepared(_stacked(cases.inputs, alike)))),
            torch.from_numpy(cases.labels[alike]),
            reduction="sum",
        )
        for alike in _alike(cases.inputs, rows)
    ]
    return torch.stack(losses).sum()


def _alike(inputs: Inputs, rows: IntArray) -> list[IntArray]:
    """Split rows into groups whose inputs have one shape."""
    if isinstance(inputs, np.ndarray):
        return [rows]
    shapes = [inputs[row].shape for row in rows.tolist()]
    return [rows[[one == shape for one in shapes]] for shape in sorted(set(shapes))]


def _stacked(inputs: Inputs, rows: IntArray) -> NDArray[Any]:
    return np.stack([inputs[row] for row in rows.tolist()]) if isinstance(inputs, tuple) else inputs[rows]

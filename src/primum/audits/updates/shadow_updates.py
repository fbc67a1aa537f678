"""What share of those behind an update has a property, guessed from updates that the attacker makes.

References
----------
Melis et al., Exploiting unintended feature leakage in collaborative learning, IEEE S&P 2019.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from primum.audits.updates.membership import guess_shares
from primum.errors import InputError
from primum.evidence.measured import BoolArray
from primum.fit.updates import Tensors, Update
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray

if TYPE_CHECKING:
    import torch
    from torch import nn

_SHADOWS, _TRIED = 64, 8
_HIGHEST_RATE = 1e30
# More of these are not needed to tell shares apart, and would take hours and gigabytes.
_MOST_CASES, _MOST_STEPS, _MOST_NUMBERS = 256, 200, 50_000


def loss_of_cases(
    module: "nn.Module", inputs: NDArray[np.float32], labels: IntArray
) -> "Callable[[IntArray], torch.Tensor]":
    """Return what gives the mean cross-entropy of cases at some places, prepared, shape (n, ...)."""
    import torch

    given, truth = torch.from_numpy(inputs), torch.from_numpy(labels)
    return lambda rows: torch.nn.functional.cross_entropy(module(given[rows]), truth[rows])


def guess_property(
    module: "nn.Module",
    loss: "Callable[[IntArray], torch.Tensor]",
    updates: Sequence[Update],
    has: BoolArray,
    *,
    seed: int,
) -> FloatArray:
    """Guess the share of each update's cases that have a property.

    Shadows are made of the attacker's own cases at the same weights by as many steps, once for all updates
    for which these are the same: by AdamW or by plain descent, whichever is more like the updates.

    Parameters
    ----------
    module : Module
        Of the updates' weights, which are loaded into it.
    loss : callable
        Mean loss of the attacker's cases at these places, under the module.
    updates : sequence of Update
    has : bool, shape (n,)
        Which of the attacker's cases have the property: some, not all.
    seed : int
        Of the cases in each shadow.

    Returns
    -------
    float64, shape (k,)
        Between 0 and 1.

    Raises
    ------
    InputError
        An update whose learning rate leads to infinite numbers.
    """
    alike: dict[tuple[object, ...], list[int]] = {}
    for place, one in enumerate(updates):
        weights = b"".join(np.ascontiguousarray(one.before[name]).tobytes() for name in sorted(one.before))
        pace = (one.local_steps, one.batch) if one.kind == "delta" else ()
        alike.setdefault((sha256(weights).digest(), one.kind, *pace, *sorted(one.sent)), []).append(place)
    guesses = np.empty(len(updates))
    for places in alike.values():
        guesses[places] = _guessed(module, loss, [updates[place] for place in places], has, seed)
    return np.clip(guesses, 0, 1)


def _guessed(
    module: "nn.Module",
    loss: "Callable[[IntArray], torch.Tensor]",
    updates: Sequence[Update],
    has: BoolArray,
    seed: int,
) -> FloatArray:
    import torch

    first, random = updates[0], np.random.default_rng(seed)
    names = [name for name, _ in module.named_parameters() if name in first.sent]
    size = min(int(np.median([one.cases for one in updates])), _MOST_CASES)
    drawn, folds = _cases(has, size, random)
    gradient = first.kind == "gradient"
    if gradient:
        # One step of plain descent, but for its sign.
        first = replace(first, local_steps=1, batch=size, learning_rate=1.0)
    if first.learning_rate > _HIGHEST_RATE:
        raise _wild()

    def made(chosen: Sequence[IntArray], kind: Any) -> FloatArray:
        each = (_stepped(module, loss, first, one, kind) for one in chosen)
        return (-1 if gradient else 1) * np.stack([_flat(one, names) for one in each])

    sent = np.stack([_flat(one.sent, names) for one in updates])
    likest: Any = torch.optim.SGD
    if not gradient:
        towards = sent.mean(0)
        likest = max(
            (torch.optim.AdamW, torch.optim.SGD),
            key=lambda kind: _cosine(made(drawn[:_TRIED], kind).mean(0), towards),
        )
    shadows = made(drawn, likest)
    if not np.isfinite(shadows).all():
        raise _wild()
    ratio = np.linalg.norm(shadows, axis=1).mean() / max(float(np.linalg.norm(sent, axis=1).mean()), 1e-300)
    # Rates that change over steps, clipping and noise make all updates longer or shorter.
    if gradient and 0.5 < ratio < 2:
        ratio = 1.0
    shares = np.array([has[chosen].mean() for chosen in drawn])
    return guess_shares(shadows, shares, ratio * sent, folds=folds)


def _cases(has: BoolArray, size: int, random: np.random.Generator) -> tuple[list[IntArray], IntArray]:
    """Draw the cases of each shadow, of shares from 0 to 1, and say which half of all cases they are of."""
    drawn, folds = list[IntArray](), random.permutation(_SHADOWS) % 2
    halves = [random.permutation(np.flatnonzero(side)) for side in (has, ~has)]
    for share, fold in zip(random.permutation(np.linspace(0, 1, _SHADOWS)), folds.tolist(), strict=True):
        count = random.binomial(size, share)
        # Of a single case with or without the property both halves have it.
        parts = [side[fold::2] if len(side) > 1 else side for side in halves]
        both = [random.choice(part, many) for part, many in zip(parts, (count, size - count), strict=True)]
        drawn.append(random.permutation(np.concatenate(both)))
    return drawn, folds


def _stepped(
    module: "nn.Module",
    loss: "Callable[[IntArray], torch.Tensor]",
    update: Update,
    chosen: IntArray,
    kind: Any,
) -> Tensors:
    import torch

    state = {name: torch.from_numpy(np.array(value)) for name, value in update.before.items()}
    module.load_state_dict(state, strict=False)
    module.eval()
    optimiser = kind(module.parameters(), lr=update.learning_rate, weight_decay=0.0)
    for step in range(min(update.local_steps, _MOST_STEPS)):
        rows = (np.arange(min(update.batch, len(chosen))) + step * update.batch) % len(chosen)
        optimiser.zero_grad(set_to_none=True)
        loss(chosen[rows]).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return {name: value.detach().numpy() - update.before[name] for name, value in module.named_parameters()}


def _flat(tensors: Tensors, names: list[str]) -> FloatArray:
    """Put tensors after one another, evenly thinned."""
    flat = np.concatenate([np.asarray(tensors[name], np.float64).ravel() for name in names])
    return flat[:: 1 + len(flat) // _MOST_NUMBERS]


def _cosine(first: FloatArray, second: FloatArray) -> float:
    return float(first @ second / max(float(np.linalg.norm(first) * np.linalg.norm(second)), 1e-300))


def _wild() -> InputError:
    return InputError(
        "--property: training by the steps and learning rate that an update names leads to infinite numbers: "
        "leave it out."
    )

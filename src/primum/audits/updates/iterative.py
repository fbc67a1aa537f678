"""Cases drawn from an update by search: whose update would be like the one that was sent?

References
----------
Zhu, Liu & Han, Deep leakage from gradients, NeurIPS 2019.
Geiping et al., Inverting gradients: how easy is it to break privacy in federated learning?, NeurIPS 2020.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from primum.fit.updates import Update
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Search:
    """How long to search, and for what.

    Attributes
    ----------
    steps, restarts : int
        Of the optimiser, from so many random starts; the best one is kept.
    rate : float
        Of Adam: of the whole range of inputs, falling to a hundredth.
    total_variation : float
        Weight of the mean difference of neighbours in an image, beside the cosine distance of 2 at most.
    optimiser : {"adam", "lbfgs"}
        Adam on signs of gradients, within the range of inputs, for networks with corners (ReLU); L-BFGS for
        smooth ones.
    """

    steps: int = 300
    restarts: int = 2
    rate: float = 0.1
    total_variation: float = 0.01
    optimiser: Literal["adam", "lbfgs"] = "adam"


def search_inputs(
    module: "nn.Module",
    update: Update,
    *,
    shape: tuple[int, ...],
    labels: IntArray,
    search: Search,
    seed: int,
) -> tuple[FloatArray, float]:
    r"""Draw the cases of an update.

    Each start makes what the site would have sent of the inputs drawn so far: a gradient, or the difference
    of weights after its local steps of plain gradient descent, through which the search goes back. What is
    made small is one less the cosine to what was sent, so that clipping hides nothing.

    Parameters
    ----------
    module : Module
        Of the weights' names and shapes; its own weights do not matter and are left alone.
    update : Update
    shape : tuple of int
        Of one prepared input, of numbers between 0 and 1.
    labels : int64, shape (cases,)
        In the order in which the site's batches go over its cases; see :mod:`primum.audits.updates.analytic`.
    search : Search
    seed : int
        Of the starts.

    Returns
    -------
    float64, shape (cases, \*shape), and float
        What was drawn, in no order that can be told; how far what it would have sent is from what was, 0 is
        the same direction.
    """
    import torch

    kind = torch.float64 if search.optimiser == "lbfgs" else torch.float32
    buffers = {name: value.to(kind) for name, value in module.named_buffers() if value.is_floating_point()}
    before = buffers | {name: torch.from_numpy(value).to(kind) for name, value in update.before.items()}
    sent = {name: torch.from_numpy(value).to(kind) for name, value in update.sent.items()}
    truth, random = torch.from_numpy(labels), torch.Generator().manual_seed(seed)

    def distance(inputs: "torch.Tensor") -> "torch.Tensor":
        made = _made(module, before, inputs, truth, update)
        away = 1 - _cosine(list(made.values()), list(sent.values()))
        return away + search.total_variation * _variation(inputs) if search.total_variation else away

    descend = _lbfgs if search.optimiser == "lbfgs" else _adam
    best, nearest = np.zeros((len(labels), *shape)), np.inf
    for _ in range(search.restarts):
        inputs = torch.rand((len(labels), *shape), generator=random, dtype=kind, requires_grad=True)
        descend(distance, inputs, search)
        left = float(distance(inputs).detach())
        if left < nearest:
            best, nearest = inputs.detach().double().numpy(), left
    return best, nearest


def _made(
    module: "nn.Module",
    before: "Mapping[str, torch.Tensor]",
    inputs: "torch.Tensor",
    labels: "torch.Tensor",
    update: Update,
) -> "dict[str, torch.Tensor]":
    """Return what a site with these cases would have sent, so that it can be gone back through."""
    import torch
    from torch.func import functional_call

    weights = {name: before[name].detach().requires_grad_() for name in update.sent}
    now, rounds = weights, -(-len(labels) // update.batch)
    for step in range(update.local_steps):
        rows = slice(step % rounds * update.batch, (step % rounds + 1) * update.batch)
        answers = functional_call(module, {**before, **now}, (inputs[rows],))
        loss = torch.nn.functional.cross_entropy(answers, labels[rows])
        gradients = torch.autograd.grad(loss, list(now.values()), create_graph=True)
        if update.kind == "gradient":
            return dict(zip(now, gradients, strict=True))
        steps = zip(now.items(), gradients, strict=True)
        now = {name: value - update.learning_rate * gradient for (name, value), gradient in steps}
    return {name: now[name] - weights[name] for name in weights}


def _cosine(first: "list[torch.Tensor]", second: "list[torch.Tensor]") -> "torch.Tensor":
    """Cosine of two updates, all their tensors as one vector."""
    import torch

    product = torch.stack([(a * b).sum() for a, b in zip(first, second, strict=True)]).sum()
    lengths = [
        torch.stack([one.square().sum() for one in all_]).sum().clamp(min=1e-30) for all_ in (first, second)
    ]
    return product / (lengths[0] * lengths[1]).sqrt()


def _variation(inputs: "torch.Tensor") -> "torch.Tensor":
    """Mean absolute difference of neighbours along the axes after the channels."""
    import torch

    axes = range(2, inputs.ndim)
    parts = [torch.diff(inputs, dim=axis).abs().mean() for axis in axes]
    return torch.stack(parts).sum() if parts else inputs.sum() * 0


def _adam(distance: "Callable[[torch.Tensor], torch.Tensor]", inputs: "torch.Tensor", search: Search) -> None:
    import torch

    optimiser = torch.optim.Adam([inputs], lr=search.rate)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.01 ** (1 / search.steps))
    for _ in range(search.steps):
        (gradient,) = torch.autograd.grad(distance(inputs), inputs)
        inputs.grad = gradient.sign()
        optimiser.step()
        schedule.step()
        inputs.data.clamp_(0, 1)


def _lbfgs(
    distance: "Callable[[torch.Tensor], torch.Tensor]", inputs: "torch.Tensor", search: Search
) -> None:
    import torch

    optimiser = torch.optim.LBFGS(
        [inputs], max_iter=search.steps, tolerance_grad=1e-12, tolerance_change=1e-14, history_size=50,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> float:
        left = distance(inputs)
        (inputs.grad,) = torch.autograd.grad(left, inputs)
        return float(left.detach())

    optimiser.step(closure)  # type: ignore[no-untyped-call]

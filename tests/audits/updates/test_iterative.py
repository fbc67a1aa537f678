"""Search finds the case of a small smooth network, also behind clipping and local steps, but not noise."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from primum.audits.updates.iterative import Search, search_inputs
from primum.fit.updates import Update

Captured = Callable[..., Update]
SHAPE = (1, 6, 6)
SMOOTH = Search(steps=100, restarts=1, total_variation=0.0, optimiser="lbfgs")


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.Sigmoid(), nn.Conv2d(6, 6, 3, padding=1), nn.Sigmoid(),
        nn.Flatten(),
        nn.Linear(216, 3),
    )  # fmt: skip
    for weight in module.parameters():
        nn.init.uniform_(weight, -0.5, 0.5)
    return module.double()


def cases(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    inputs = torch.rand((count, *SHAPE), generator=random, dtype=torch.float64)
    return inputs, torch.arange(count) % 3


def error(update: Update, inputs: torch.Tensor, labels: torch.Tensor, search: Search = SMOOTH) -> float:
    """Largest difference of what is drawn and the truth, whichever case is which."""
    drawn, _ = search_inputs(network(), update, shape=SHAPE, labels=labels.numpy(), search=search, seed=1)
    away = np.abs(drawn[:, None] - inputs.numpy()).reshape(len(drawn), len(inputs), -1).max(2)
    return float(away.min(0).max())


def test_one_case_and_its_clipped_gradient(captured: Captured) -> None:
    inputs, labels = cases(1)
    update = captured(network(), inputs, labels)
    assert error(update, inputs, labels) < 0.05
    clipped = replace(update, sent={name: 1e-3 * value for name, value in update.sent.items()})
    assert error(clipped, inputs, labels) < 0.05


def test_local_steps_are_gone_back_through(captured: Captured) -> None:
    inputs, labels = cases(2)
    update = captured(network(), inputs, labels, steps=4, batch=1, rate=0.5)
    assert error(update, inputs, labels) < 0.05
    single = replace(update, local_steps=1, batch=2)
    assert error(single, inputs, labels) > 0.2


def test_noise_leaves_nothing(captured: Captured) -> None:
    inputs, labels = cases(1)
    update = captured(network(), inputs, labels)
    rng = np.random.default_rng(0)
    noisy = {name: value + rng.standard_normal(value.shape) for name, value in update.sent.items()}
    assert error(replace(update, sent=noisy), inputs, labels) > 0.3
    signs = Search(steps=30, restarts=1)
    drawn, _ = search_inputs(
        network(), replace(update, sent=noisy), shape=SHAPE, labels=labels.numpy(), search=signs, seed=1
    )
    assert 0 == drawn.min() < drawn.max() == 1


def test_signs_stay_in_range_and_come_near_smooth_images(captured: Captured) -> None:
    rows = torch.linspace(0, 1, 6, dtype=torch.float64)
    inputs, labels = (rows[:, None] * rows)[None, None], torch.tensor([1])
    update = captured(network(), inputs, labels)
    search = Search(steps=120, restarts=2, total_variation=1e-4)
    drawn, left = search_inputs(network(), update, shape=SHAPE, labels=labels.numpy(), search=search, seed=0)
    assert left < 0.01
    assert np.corrcoef(drawn.ravel(), inputs.ravel())[0, 1] > 0.95


def test_the_module_is_left_alone_and_the_same_seed_draws_the_same(captured: Captured) -> None:
    inputs, labels = cases(1)
    module = network(seed=5)
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    update = captured(network(), inputs, labels)
    few = replace(SMOOTH, steps=10)
    first, second = (
        search_inputs(module, update, shape=SHAPE, labels=labels.numpy(), search=few, seed=3)[0] for _ in "ab"
    )
    np.testing.assert_array_equal(first, second)
    assert all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())


def test_more_starts_never_end_further_away(captured: Captured) -> None:
    inputs, labels = cases(2)
    update = captured(network(), inputs, labels)
    ends = [
        search_inputs(
            network(),
            update,
            shape=SHAPE,
            labels=labels.numpy(),
            search=replace(SMOOTH, steps=8, restarts=many),
            seed=0,
        )[1]
        for many in (1, 4)
    ]
    assert ends[1] <= ends[0]

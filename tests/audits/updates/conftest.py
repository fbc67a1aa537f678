"""Updates of small networks, as a site would send them."""

from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from primum.fit.updates import Update

Captured = Callable[..., Update]


@pytest.fixture
def captured() -> Captured:
    """Make an update of `module` by plain gradient descent over `steps` batches in order; 0: a gradient."""

    def make(
        module: nn.Module,
        inputs: Tensor,
        labels: Tensor,
        *,
        steps: int = 0,
        batch: int = 0,
        rate: float = 0.1,
    ) -> Update:
        before = {name: value.detach().clone() for name, value in module.state_dict().items()}
        size = batch or len(labels)
        weights = dict(module.named_parameters())
        for step in range(max(steps, 1)):
            rows = (torch.arange(size) + step * size) % len(labels)
            loss = nn.functional.cross_entropy(module(inputs[rows]), labels[rows])
            gradients = torch.autograd.grad(loss, list(weights.values()))
            if not steps:
                sent = dict(zip(weights, gradients, strict=True))
                break
            with torch.no_grad():
                for weight, gradient in zip(weights.values(), gradients, strict=True):
                    weight.sub_(rate * gradient)
        else:
            sent = {name: weight.detach() - before[name] for name, weight in weights.items()}
        module.load_state_dict(before)
        held = {name: value.numpy() for name, value in before.items()}
        given = {name: value.detach().numpy().copy() for name, value in sent.items()}
        kind: Literal["gradient", "delta"] = "delta" if steps else "gradient"
        return Update("site", 0, kind, len(labels), max(steps, 1), size, rate, held, given)

    return make

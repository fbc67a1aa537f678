"""Several networks as one: what they say on average."""

import importlib
import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """The logarithm of the mean of the members' probabilities, which serves as logits.

    Parameters
    ----------
    members : sequence of Module
        Each from inputs to logits, shape (n, classes).
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, inputs: Tensor) -> Tensor:
        """Answer inputs (n, ...) by logits."""
        each = torch.stack([torch.log_softmax(one(inputs), -1) for one in self.members])
        return torch.logsumexp(each, 0) - float(torch.log(torch.tensor(float(len(self.members)))))


def ensemble_of(members: Sequence[nn.Module], *, place: str) -> Ensemble:
    """Put together networks that the factory `place` made."""
    ensemble = Ensemble(members)
    ensemble.place = f"{__name__}:{len(members)}_of_{place}"  # type: ignore[assignment]
    return ensemble


def __getattr__(name: str) -> Callable[[], nn.Module]:
    """Return a factory for names like ``4_of_primum.fit.networks:image_1x28x28_2_64``."""
    said = re.fullmatch(r"([1-9]\d{0,2})_of_([\w.]+):(\w+)", name)
    if said is None:
        raise AttributeError(name)
    make: Callable[[], nn.Module] = getattr(importlib.import_module(said[2]), said[3])

    def factory() -> nn.Module:
        return ensemble_of([make() for _ in range(int(said[1]))], place=f"{said[2]}:{said[3]}")

    # Whoever looks for the source finds that of the members.
    factory.__wrapped__ = make  # type: ignore[attr-defined]
    return factory

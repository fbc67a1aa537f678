"""Training on changed images: what the audit would try is tried at every step, and learnt from.

References
----------
Madry et al., Towards deep learning models resistant to adversarial attacks, ICLR 2018.
Zhang et al., Theoretically principled trade-off between robustness and accuracy, ICML 2019 (TRADES).
Rao, Stutz & Schiele, Adversarial training against location-optimized adversarial patches, ECCV-W 2020.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from primum.errors import InputError

Method = Literal["pgd", "trades", "patch"]


@dataclass(frozen=True)
class AdversarialSettings:
    """What each training image is changed by.

    Attributes
    ----------
    method : {"pgd", "trades", "patch"}
        ``pgd`` learns from the changed images alone, ``trades`` from the images, and from how far answers
        about the changed ones are from those; ``patch`` from both, a square of each being replaced.
    budget : float
        Largest change of a pixel, in parts of the range (8 / 255, say); not of patches, which hold anything.
    steps : int
        Of the attack.
    weight : float
        What the changed images count for: TRADES's beta; of patches, their share from 0 to 1.
    patch : int
        Side of the square, in pixels.
    warmup : float
        The share of the training over which the budget grows to its full size.
    """

    method: Method = "pgd"
    budget: float = 8 / 255
    steps: int = 7
    weight: float = 6.0
    patch: int = 3
    warmup: float = 0.3

    def __post_init__(self) -> None:
        if not 0 < self.budget <= 1:
            raise InputError(
                "The budget is a part of the range of a pixel, above 0 and at most 1, not {budget}.",
                budget=self.budget,
            )
        if not self.weight > 0:
            raise InputError("The weight must be above zero, not {weight}.", weight=self.weight)


class AdversarialObjective:
    """The loss of a batch, as :func:`primum.fit.classifier_loop.fit_classifier` asks for it.

    Parameters
    ----------
    settings : AdversarialSettings
    low, high : float
        The range of a pixel, as the network is given it.
    """

    def __init__(self, settings: AdversarialSettings, *, low: float, high: float) -> None:
        self.settings, self.low, self.high = settings, low, high

    def __call__(self, module: nn.Module, inputs: Tensor, labels: Tensor, *, progress: float) -> Tensor:
        """Sum the losses of a batch.

        Parameters
        ----------
        module : Module
        inputs : Tensor, shape (n, channels, height, width)
        labels : Tensor, shape (n,)
        progress : float
            How much of the training is over, 0 to 1.
        """
        said, grown = self.settings, min(1.0, (progress + 1e-9) / max(self.settings.warmup, 1e-9))
        module.eval()  # what is attacked is what will answer
        budget = grown * said.budget * (self.high - self.low)
        if said.method == "patch":
            changed = self._patched(module, inputs, labels)
        else:
            changed = self._pgd(module, inputs, labels, budget)
        module.train()
        if said.method == "pgd":
            return functional.cross_entropy(module(changed), labels, reduction="sum")
        answers, other = module(inputs), module(changed)
        plain = functional.cross_entropy(answers, labels, reduction="sum")
        if said.method == "patch":
            share = grown * min(said.weight, 1.0)
            return (1 - share) * plain + share * functional.cross_entropy(other, labels, reduction="sum")
        return plain + said.weight * _divergence(answers, other)

    def _pgd(self, module: nn.Module, inputs: Tensor, labels: Tensor, budget: float) -> Tensor:
        with torch.no_grad():
            answers = module(inputs)
        trades = self.settings.method == "trades"
        # At the image itself the divergence is flat.
        start = 0.001 * torch.randn_like(inputs) if trades else budget * (2 * torch.rand_like(inputs) - 1)
        changed = (inputs + start).clamp(self.low, self.high)
        for _ in range(self.settings.steps):
            changed.requires_grad_()
            other = module(changed)
            loss = (
                _divergence(answers, other)
                if trades
                else functional.cross_entropy(other, labels, reduction="sum")
            )
            (slope,) = torch.autograd.grad(loss, changed)
            moved = changed.detach() + 2.5 * budget / self.settings.steps * slope.sign()
            changed = (inputs + (moved - inputs).clamp(-budget, budget)).clamp(self.low, self.high)
        return changed.detach()

    def _patched(self, module: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        """Replace of each image the square that its gradient names, and climb in it."""
        where = self._square(module, inputs, labels)
        noise = torch.rand_like(inputs)
        changed = torch.where(where, self.low + (self.high - self.low) * noise, inputs)
        for _ in range(self.settings.steps):
            changed.requires_grad_()
            loss = functional.cross_entropy(module(changed), labels, reduction="sum")
            (slope,) = torch.autograd.grad(loss, changed)
            step = 0.5 * (self.high - self.low) * slope.sign()
            moved = (changed.detach() + step).clamp(self.low, self.high)
            changed = torch.where(where, moved, inputs)
        return changed.detach()

    def _square(self, module: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        """Choose for each image one of the squares with the steepest gradients, the steeper the likelier."""
        size = self.settings.patch
        watched = inputs.detach().requires_grad_()
        (slope,) = torch.autograd.grad(
            functional.cross_entropy(module(watched), labels, reduction="sum"), watched
        )
        steep = functional.avg_pool2d(slope.abs().sum(1, keepdim=True), size, stride=1)
        flat = steep.flatten(1)
        chances = flat / flat.amax(1, keepdim=True).clamp(min=1e-12)
        chosen = torch.multinomial(chances**2 + 1e-6, 1)[:, 0]
        corner = torch.zeros_like(flat).scatter_(1, chosen[:, None], 1.0).reshape(steep.shape)
        spread = functional.max_pool2d(functional.pad(corner, [size - 1] * 4), size, stride=1)
        return spread.bool().expand_as(inputs)


def _divergence(answers: Tensor, other: Tensor) -> Tensor:
    """Kullback-Leibler divergence of answers about changed images from those about the images, summed."""
    return functional.kl_div(
        functional.log_softmax(other, 1), functional.softmax(answers, 1), reduction="sum"
    )

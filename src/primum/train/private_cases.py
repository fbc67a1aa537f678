"""Private training of classifiers: one gradient a patient, the mean over the patient's cases."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from primum.errors import InputError
from primum.fit.alterations import altered_images
from primum.fit.classifier_loop import alike, mean_loss, stacked
from primum.fit.loop import Progress
from primum.fit.protocol import Keep
from primum.models.classifier_card import InputCard
from primum.models.torch_door import TorchClassifier
from primum.records.cases import Cases
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray, offsets_of
from primum.train.accounting import PrivacyLedger
from primum.train.private import PrivateSettings, descend

MOST_CASES = 8
_GRADIENT_BYTES, _INPUT_BYTES = 1 << 26, 1 << 22
_MIXING = (nn.modules.batchnorm._BatchNorm,)


def fit_private_cases(
    model: TorchClassifier,
    train: Cases,
    *,
    settings: PrivateSettings,
    validation: Cases | None = None,
    progress: Progress | None = None,
    keep: Keep | None = None,
) -> PrivacyLedger:
    """Train a classifier in place with patient-level DP-SGD; see :func:`primum.train.private.descend`.

    Raises
    ------
    InputError
        Fewer patients than the batch, an epsilon that no noise reaches, altered copies of what is no image,
        or a network that normalises over its batch, so that patients cannot be told apart.
    """
    for part in model.module.modules():
        if isinstance(part, _MIXING):
            raise InputError(
                "The network normalises over its batch, where patients cannot be told apart: use group "
                "normalisation instead of {part}.",
                part=type(part).__name__,
            )
    if settings.copies and not (isinstance(train.inputs, np.ndarray) and train.inputs.ndim == 4):
        raise InputError("Altered copies are made of images only: leave out --copies.")
    taking = model.card.input
    measure = None if validation is None else partial(mean_loss, cases=validation, taking=taking)
    gradients = CaseGradients(model.module, train, taking=taking, copies=settings.copies)
    ledger = descend(
        model.module, gradients, settings=settings, measure=measure, progress=progress, keep=keep
    )
    model.module.eval()
    return ledger


class CaseGradients:
    """One gradient a patient: the mean over the patient's cases, eight of them at most, and altered copies.

    Parameters
    ----------
    module : Module
    train : Cases
    taking : InputCard
    copies : int
    """

    def __init__(self, module: nn.Module, train: Cases, *, taking: InputCard, copies: int = 0) -> None:
        self.module, self.train, self.taking, self.copies = module, train, taking, copies
        people, owner = np.unique(train.subject_ids, return_inverse=True)
        self.patients, self.records = len(people), len(train)
        self._rows = np.argsort(owner, kind="stable")
        self._offsets = offsets_of(np.bincount(owner, minlength=len(people)))
        self._of_each = vmap(grad(self._loss), in_dims=(None, 0, 0), randomness="different")

    def __call__(self, sampled: IntArray, random: np.random.Generator) -> Iterator[None]:
        """Go over the drawn patients, as many at a time as memory allows."""
        weights = sum(weight.numel() for weight in self.module.parameters())
        together = max(1, _GRADIENT_BYTES // (4 * weights * MOST_CASES))
        for first in range(0, len(sampled), together):
            rows = [self._drawn(patient, random) for patient in sampled[first : first + together].tolist()]
            self._leave_gradients(rows, random)
            yield

    def _drawn(self, patient: int, random: np.random.Generator) -> IntArray:
        rows = self._rows[self._offsets[patient] : self._offsets[patient + 1]]
        if len(rows) > MOST_CASES:
            rows = random.choice(rows, MOST_CASES, replace=False)
        return np.repeat(rows, max(1, self.copies))

    def _leave_gradients(self, rows: list[IntArray], random: np.random.Generator) -> None:
        """Sum over each patient's cases, weighted so that the sum is a mean."""
        owner = np.repeat(np.arange(len(rows)), [len(one) for one in rows])
        share = np.repeat([1 / len(one) for one in rows], [len(one) for one in rows])
        every = np.concatenate(rows)
        named = dict(self.module.named_parameters())
        summed = {name: torch.zeros((len(rows), *weight.shape)) for name, weight in named.items()}
        size = 4 * int(np.prod(self.train.inputs[0].shape))
        step = max(1, _INPUT_BYTES // max(1, size))
        for same in alike(self.train.inputs, every):
            for at in range(0, len(same), step):
                part = same[at : at + step]
                self._add(summed, every[part], owner[part], share[part], random)
        for name, weight in named.items():
            weight.grad_sample = summed[name]  # type: ignore[attr-defined]

    def _add(
        self,
        summed: dict[str, Tensor],
        rows: IntArray,
        owner: IntArray,
        share: FloatArray,
        random: np.random.Generator,
    ) -> None:
        stored = stacked(self.train.inputs, rows)
        inputs = self.taking.prepared(altered_images(stored, random) if self.copies else stored)
        weights = {name: weight.detach() for name, weight in self.module.named_parameters()}
        labels = torch.from_numpy(self.train.labels[rows])
        # The faster kernels of attention cannot be asked for one gradient a case.
        with sdpa_kernel(SDPBackend.MATH):
            found = self._of_each(weights, torch.from_numpy(inputs), labels)
        place = torch.from_numpy(owner)
        for name, gradient in found.items():
            by = torch.from_numpy(share.astype(np.float32)).view(-1, *(1,) * (gradient.ndim - 1))
            summed[name].index_add_(0, place, gradient * by)

    def _loss(self, weights: dict[str, Tensor], case: Tensor, label: Tensor) -> Tensor:
        logits: Tensor = functional_call(self.module, weights, (case[None],))
        return nn.functional.cross_entropy(logits, label[None])

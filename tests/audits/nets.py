"""A small network that shows its gradient and its inner vectors, trained as long as one likes."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from primum.audits.privacy.case_subjects import CaseSubjects
from primum.evidence.measured import FloatArray, IntArray
from primum.records.cases import Cases


def cases_of(inputs: NDArray[Any], labels: IntArray) -> Cases:
    """One case a patient."""
    count = np.arange(len(labels))
    return Cases(count, count, inputs, labels)


def subjects_of(cases: Cases, *, members: int, seed: int = 0) -> CaseSubjects:
    """The first `members` patients are members."""
    ids, place = np.unique(cases.subject_ids, return_inverse=True)
    return CaseSubjects(np.arange(len(ids)), np.arange(len(ids)) < members, cases, place, seed)


class Net:
    """Two linear layers on flat inputs divided by `scale`; keeps what it was asked for gradients."""

    classes = ("no", "yes")

    def __init__(self, size: int, *, width: int, seed: int, scale: float = 1.0) -> None:
        torch.manual_seed(seed)
        self.inner = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(size, width), torch.nn.ReLU())
        self.last = torch.nn.Linear(width, 2)
        self.inner.double()
        self.last.double()
        self.scale = scale
        self.asked: list[NDArray[Any]] = []

    def trained(self, cases: Cases, *, epochs: int, rate: float = 3e-3) -> "Net":
        parameters = [*self.inner.parameters(), *self.last.parameters()]
        optimiser = torch.optim.Adam(parameters, rate)
        for _ in range(epochs):
            optimiser.zero_grad()
            torch.autograd.backward(self._losses(self._tensor(cases), cases.labels).mean())
            optimiser.step()
        return self

    def logits(self, cases: Cases) -> FloatArray:
        with torch.no_grad():
            return np.asarray(self.last(self.inner(self._tensor(cases))).numpy())

    def predict_proba(self, cases: Cases) -> FloatArray:
        return np.asarray(torch.softmax(torch.from_numpy(self.logits(cases)), 1).numpy())

    def loss_and_gradient(self, cases: Cases, labels: IntArray) -> tuple[FloatArray, FloatArray]:
        self.asked.append(np.asarray(cases.inputs))
        given = self._tensor(cases).requires_grad_()
        losses = self._losses(given, labels)
        (gradient,) = torch.autograd.grad(losses.sum(), given)
        return losses.detach().numpy(), gradient.numpy() / self.scale

    def _tensor(self, cases: Cases) -> torch.Tensor:
        return torch.from_numpy(np.asarray(cases.inputs).astype(np.float64) / self.scale)

    def _losses(self, given: torch.Tensor, labels: IntArray) -> torch.Tensor:
        rows = self.last(self.inner(given))
        return torch.nn.functional.cross_entropy(rows, torch.from_numpy(labels), reduction="none")


class Embedding(Net):
    """Shows its inner vectors too."""

    def embed(self, cases: Cases) -> FloatArray:
        with torch.no_grad():
            return np.asarray(self.inner(self._tensor(cases)).numpy())

"""What a hospital does in a round: it learns from its own patients and answers with agreed tensors alone."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import nn

from primum.fit.loop import LoopSettings
from primum.fit.networks import ScatteringNetwork
from primum.models.torch_door import TorchClassifier
from primum.records.cases import Cases
from primum.train.accounting import Mechanism, PrivacyLedger, Unit, epsilon_spent
from primum.train.federated.suspicion import RATE_OF_SEVERAL
from primum.train.private import PrivateSettings
from primum.train.private_linear import LinearSettings, clipped_sum, mechanisms_of, units_of

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Round:
    """What the coordinator asks of every site.

    Attributes
    ----------
    number : int
        From 1; 0 asks for what is agreed on before any training, the centre of features.
    epochs : int
        Passes over the site's patients; of a linear layer, steps of gradient descent over all of them.
    learning_rate : float
    proximal : float
        FedProx's mu: half of it times the squared distance from the round's weights is added to the loss.
    seed : int
        Of the order of patients.
    """

    number: int
    epochs: int
    learning_rate: float
    proximal: float = 0.0
    seed: int = 0


class Site(Protocol):
    """A hospital that takes part.

    Attributes
    ----------
    name : str
    patients, records : int
        Who trains there.
    noise : float
        Deviation of what is added to the sum of their gradients, of which the length of a step must know; 0:
        nothing, or steps that do not depend on it. It follows from what was promised, and is no secret.
    """

    name: str
    patients: int
    records: int
    noise: float

    def train(self, weights: Arrays, asked: Round) -> Arrays:
        """Learn from the site's patients and return the tensors that were agreed on."""
        ...

    def ledger(self, rounds: int) -> PrivacyLedger | None:
        """Return what each patient of the site was promised after so many rounds; None: nothing."""
        ...


class NetworkSite:
    """A site that trains all of a network: plainly, near the weights of the round, or by DP-SGD.

    Parameters
    ----------
    name : str
    learner : CaseLearner or RecordLearner
        Of the site's own patients.
    model : TorchClassifier or CausalModel
        Of the agreed kind; its weights do not matter.
    loop : LoopSettings
        Its batch, decay and warm-up.
    private : PrivateSettings or None
        Noise multiplier, batch and clip of each round, whose steps are `steps`.
    unit : {"patient", "record"}
        Whom the subject ids stand for.
    """

    def __init__(
        self,
        name: str,
        learner: Any,
        model: Any,
        *,
        loop: LoopSettings,
        private: PrivateSettings | None = None,
        unit: Unit = "patient",
    ) -> None:
        self.name, self.learner, self.model, self.private = name, learner, model, private
        self.loop, self._unit, self.noise = loop, unit, 0.0
        self.patients, self.records = len(learner.patients), learner.records

    def train(self, weights: Arrays, asked: Round) -> Arrays:
        """See :class:`Site`."""
        module = self.learner.module(self.model)
        load(module, weights)
        if self.private is not None:
            seed = _seed(self.private.seed, asked.number)
            settings = replace(self.private, learning_rate=asked.learning_rate, seed=seed)
            self.learner.fit_private(self.model, settings=settings)
        else:
            loop = replace(self.loop, learning_rate=asked.learning_rate, patience=None)
            learner = replace(self.learner, validation=None, recipe=replace(self.learner.recipe, loop=loop))
            with near(module, asked.proximal):
                learner.fit(self.model, learner.patients, epochs=asked.epochs, seed=asked.seed)
        learnt = module.named_parameters()
        return {name: value.detach().numpy().copy() for name, value in learnt if name in weights}

    def pace(self, epochs: int) -> tuple[int, int]:
        """Return the steps of a round, and how many records (patients, under noise) one of them takes."""
        if self.private is not None:
            return self.private.steps, self.private.expected_batch
        batch = min(self.loop.batch, self.learner.samples)
        return epochs * -(-self.learner.samples // batch), batch

    def ledger(self, rounds: int) -> PrivacyLedger | None:
        """See :class:`Site`."""
        if self.private is None:
            return None
        one = self.private
        assert one.noise_multiplier is not None
        rate = one.expected_batch / self.patients
        spent = Mechanism("gradients", one.noise_multiplier, rate, rounds * one.steps)
        epsilon, secret = epsilon_spent([spent], one.delta), one.seed is None
        whom = self.patients, self.records, secret
        return PrivacyLedger(epsilon, one.delta, self._unit, (spent,), one.clip, *whom)


class LinearSite:
    """A site that trains a linear layer over features that no patient shaped.

    Parameters
    ----------
    name : str
    model : TorchClassifier
        Of the network scattering.
    cases : Cases
        The site's own.
    settings : LinearSettings
        Its epsilon and delta are promised to each patient of this site, over all rounds; its steps are all
        that will be taken. Epsilon None: neither noise nor clipping.
    """

    def __init__(self, name: str, model: TorchClassifier, cases: Cases, *, settings: LinearSettings) -> None:
        assert isinstance(model.module, ScatteringNetwork)
        self.name, self.settings, self.records = name, settings, len(cases)
        self._module = model.module
        self._units = units_of(model, self._module, cases)
        self.patients = len(self._units.starts)
        self._truth = np.eye(len(model.classes), dtype=np.float32)[self._units.labels]
        self._promised = mechanisms_of(settings)
        self._noise = [one.noise_multiplier for one in self._promised] or [0.0, 0.0]
        self.noise = self._noise[1] * settings.clip
        self._centred: tuple[bytes, Any] = b"", self._units

    def train(self, weights: Arrays, asked: Round) -> Arrays:
        """See :class:`Site`; round 0 answers with the centre of the site's features."""
        # Without a seed, 128 bits of the system's entropy.
        random = np.random.default_rng(_seed(self.settings.seed, asked.number))
        if asked.number == 0:
            total = self._units.shares[:, 0] @ self._units.features
            total = total + self._noise[0] * random.standard_normal(len(total))
            return {"centre": (total / self.patients).astype(np.float32)}
        sample = self._from(weights["centre"])
        layer = np.array(weights["last.weight"], np.float32)
        clip = self.settings.clip if self._promised else inf
        for _ in range(self.pace(asked.epochs)[0]):
            residuals = softmax(sample.features @ layer.T, axis=1) - self._truth
            gradient: NDArray[Any] = clipped_sum(sample, residuals, clip)
            if self._promised:
                gradient = gradient + self.noise * random.standard_normal(layer.shape)
            pull = asked.proximal * (layer - weights["last.weight"])
            layer = (layer - asked.learning_rate * (gradient / self.patients + pull)).astype(np.float32)
        return {"last.weight": layer}

    def pace(self, epochs: int) -> tuple[int, int]:
        """Return the steps of a round, each over all records; with noise each would be a step to pay for."""
        return 1 if self._promised else epochs, self.records

    def ledger(self, rounds: int) -> PrivacyLedger | None:
        """See :class:`Site`; a round is a step."""
        if not self._promised:
            return None
        done = self._promised[0], replace(self._promised[1], steps=rounds)
        one = self.settings
        spent, secret = epsilon_spent(done, one.delta), one.seed is None
        return PrivacyLedger(spent, one.delta, one.unit, done, one.clip, self.patients, self.records, secret)

    def _from(self, centre: NDArray[Any]) -> Any:
        """Return directions from the centre, which stays the same over the rounds."""
        known = centre.tobytes()
        if self._centred[0] != known:
            self._module.centre = torch.from_numpy(np.array(centre, np.float32))
            features = self._module.from_centre(torch.from_numpy(self._units.features)).numpy()
            self._centred = known, replace(self._units, features=features)
        return self._centred[1]


def usual_rate(steps: int) -> float:
    """Return how long steps of a linear layer are without noise, by how many a site takes in a round."""
    return LinearSettings().learning_rate if steps == 1 else RATE_OF_SEVERAL


def _seed(seed: int | None, number: int) -> int | None:
    """Noise must never be drawn twice: a seed gives another in each round."""
    return None if seed is None else seed * 1_000_003 + number


@contextmanager
def near(module: nn.Module, proximal: float) -> Iterator[None]:
    """Add ``proximal * (weights - weights now)`` to every gradient: that of FedProx's squared distance.

    References
    ----------
    Li et al., Federated optimization in heterogeneous networks, MLSys 2020.
    """

    def pulled(weight: nn.Parameter) -> Any:
        anchor = weight.detach().clone()

        def pull(now: torch.Tensor) -> None:
            assert now.grad is not None
            now.grad.add_(now.detach() - anchor, alpha=proximal)

        return weight.register_post_accumulate_grad_hook(pull)  # type: ignore[no-untyped-call]

    held = [pulled(weight) for weight in module.parameters() if proximal]
    try:
        yield
    finally:
        for one in held:
            one.remove()


def travelling(module: nn.Module) -> tuple[Arrays, tuple[str, ...]]:
    """Return the weights that sites start from, and which of them are agreed on before training."""
    state = {name: value.numpy().copy() for name, value in module.state_dict().items()}
    if isinstance(module, ScatteringNetwork):
        return {"centre": state["centre"], "last.weight": np.zeros_like(state["last.weight"])}, ("centre",)
    return {name: value for name, value in state.items() if value.dtype.kind == "f"}, ()


def fixed_in(module: nn.Module) -> tuple[str, ...]:
    """Return which of the weights that travel no site answers with: the scales that a table came with."""
    weights, before = travelling(module)
    learnt = dict(module.named_parameters())
    return tuple(name for name in weights if name not in learnt and name not in before)


def load(module: nn.Module, weights: Arrays) -> None:
    """Put weights into a module, all of them or those that are named."""
    state = {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}
    module.load_state_dict(state, strict=False)

"""Updates for the reconstruction study: networks, their cases, and what a site sends with each defence."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from primum.audits.updates.matching import Gallery
from primum.fit.networks import ScatteringNetwork, TableNetwork, build_network
from primum.fit.updates import Update
from primum.models.classifier_card import InputCard
from primum.records.cases import Cases
from primum.records.ragged import IntArray
from primum.train.accounting import noise_for
from primum.train.private import PrivateSettings, descend
from primum.train.private_cases import CaseGradients
from studies.attacks import DATA
from studies.equity_examples import ADULT, COLUMNS, NUMBERS, TOLD

SITE, PASSES, EPSILON, DELTA, CLIP = 314, 10, 8.0, 1e-5, 1.0
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Subjects:
    """Cases as the network takes them, and those of them that the attacker looks among."""

    inputs: Tensor
    labels: Tensor
    gallery: Gallery


@dataclass(frozen=True)
class Defence:
    """Clip of each case's gradient, and deviation of the noise over the clip on the sum of a batch."""

    name: str
    clip: float | None = None
    noise: float = 0.0


@cache
def multiplier(batch: int) -> float:
    """Noise of a site of 314 images that goes over them ten times, `batch` a step on average."""
    return noise_for(EPSILON, DELTA, steps=PASSES * SITE // batch, sampling_rate=batch / SITE)


def defences(batch: int) -> tuple[Defence, Defence, Defence]:
    return Defence("none"), Defence("clipped", CLIP), Defence("ε = 8", CLIP, multiplier(batch))


@cache
def images(split: str = "train") -> Subjects:
    with np.load(DATA) as held:
        inputs = held[f"{split}_images"][:, None].astype(np.float32) / 255
        labels = held[f"{split}_labels"].ravel().astype(np.int64)
    gallery = Gallery.of(inputs, np.arange(len(inputs)))
    return Subjects(torch.from_numpy(inputs), torch.from_numpy(labels), gallery)


@cache
def rows(count: int = 4708) -> tuple[Subjects, IntArray]:
    """Adult, no row twice; who of them is a woman, which is no column."""
    held = pl.read_csv(ADULT / "adult.data", has_header=False, new_columns=COLUMNS, comment_prefix="|")
    held = held.drop_nulls().with_columns(pl.col(pl.String).str.strip_chars(" ."))
    held = held.with_columns(pl.col(*NUMBERS).cast(pl.Float64)).unique(
        TOLD, keep="first", maintain_order=True
    )
    held = held.sample(count, seed=0)
    columns = [
        np.unique(held[name].to_numpy(), return_inverse=True)[1]
        if name not in NUMBERS
        else held[name].to_numpy()
        for name in TOLD
    ]
    inputs = np.stack(columns, 1).astype(np.float32)
    labels = torch.from_numpy((held["income"] == ">50K").to_numpy().astype(np.int64))
    women = (held["sex"] == "Female").to_numpy().astype(np.int64)
    return Subjects(torch.from_numpy(inputs), labels, Gallery.of(inputs, np.arange(count))), women


def perceptron(seed: int, hidden: int = 128) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, 2))


def lenet(seed: int) -> nn.Sequential:
    """Make the sigmoid network of Zhu et al. (2019), for one channel; weights as theirs, uniform to ± ½."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for before, stride in ((1, 2), (12, 2), (12, 1)):
        layers += [nn.Conv2d(before, 12, 5, padding=2, stride=stride), nn.Sigmoid()]
    module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(588, 2))
    for weight in module.parameters():
        nn.init.uniform_(weight, -0.5, 0.5)
    return module


def image_network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return build_network("image", shape=(1, 28, 28), classes=2)


def scattering(seed: int) -> ScatteringNetwork:
    torch.manual_seed(seed)
    module = build_network("scattering", shape=(1, 28, 28), classes=2)
    assert isinstance(module, ScatteringNetwork)
    with torch.inference_mode():
        units = torch.cat([module.unit_vectors(part) for part in torch.split(images().inputs, 512)])
    module.centre = units.mean(0).clone()
    return module


def table_network(seed: int) -> TableNetwork:
    torch.manual_seed(seed)
    module = build_network("table", shape=(len(TOLD),), classes=2)
    assert isinstance(module, TableNetwork)
    module.scale_to(rows()[0].inputs)
    return module


def case_gradients(module: nn.Module, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """One gradient a case, by tensor name; shape (n, ...)."""
    weights = {name: value.detach() for name, value in module.named_parameters()}

    def loss(given: dict[str, Tensor], one: Tensor, label: Tensor) -> Tensor:
        answers = functional_call(module, given, (one[None],))
        return nn.functional.cross_entropy(answers, label[None])

    found: dict[str, Tensor] = vmap(grad(loss), in_dims=(None, 0, 0))(weights, inputs, labels)
    return found


def lengths_of(each: Mapping[str, Tensor]) -> Tensor:
    """Norm of each case's gradient, shape (n,)."""
    return torch.stack([one.flatten(1).square().sum(1) for one in each.values()]).sum(0).sqrt()


def sent_of(each: Mapping[str, Tensor], defence: Defence, random: torch.Generator) -> dict[str, Tensor]:
    """Sum the clipped gradients, add the noise, divide by how many there are."""
    cases = len(next(iter(each.values())))
    kept = torch.ones(cases)
    if defence.clip is not None:
        kept = defence.clip / lengths_of(each).clamp(min=defence.clip)
    sums = {name: torch.tensordot(kept.to(one.dtype), one, 1) for name, one in each.items()}
    strength = defence.noise * (defence.clip or 1.0)
    return {
        name: (one + strength * torch.randn(one.shape, generator=random)) / cases if strength else one / cases
        for name, one in sums.items()
    }


def observed(
    module: nn.Module, subjects: Subjects, chosen: IntArray, defence: Defence, *, seed: int
) -> Update:
    """Return what a site sends after one step over the chosen cases."""
    each = case_gradients(module, subjects.inputs[chosen], subjects.labels[chosen])
    sent = sent_of(each, defence, torch.Generator().manual_seed(seed))
    before = {name: value.detach().numpy() for name, value in module.state_dict().items()}
    given = {name: value.numpy() for name, value in sent.items()}
    return Update("site", 0, "gradient", len(chosen), 1, len(chosen), 1.0, before, given)


def after_steps(
    module: nn.Module, subjects: Subjects, chosen: IntArray, *, steps: int, batch: int, rate: float
) -> Update:
    """Return what a site sends after local steps over batches of the chosen cases, in their order."""
    before = {name: value.detach().clone() for name, value in module.state_dict().items()}
    now = dict(before)
    for step in range(steps):
        part = chosen[(np.arange(batch) + step * batch) % len(chosen)]
        weights = {name: now[name].clone().requires_grad_() for name, _ in module.named_parameters()}
        answers = functional_call(module, {**now, **weights}, (subjects.inputs[part],))
        loss = nn.functional.cross_entropy(answers, subjects.labels[part])
        gradients = torch.autograd.grad(loss, list(weights.values()))
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
            now[name] = weight.detach() - rate * gradient
    sent = {name: (now[name] - before[name]).numpy() for name, _ in module.named_parameters()}
    held = {name: value.numpy() for name, value in before.items()}
    return Update("site", 0, "delta", len(chosen), steps, batch, rate, held, sent)


def into(module: nn.Module, layer: str, inputs: Tensor) -> Floats:
    """Return what goes into a linear layer, but for a constant, shape (n, width)."""
    seen: list[Tensor] = []
    handle = module.get_submodule(layer).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.inference_mode():
        for part in torch.split(inputs, 512):
            module(part)
    handle.remove()
    found: Floats = torch.cat(seen).float().numpy()
    return found[:, :-1] if isinstance(module, ScatteringNetwork) else found


def stored(module: nn.Module, drawn: NDArray[Any], what: str) -> NDArray[Any]:
    """Turn inputs of a table network's first layer into rows of the table; others are as they are."""
    if what != "record" or not isinstance(module, TableNetwork):
        return drawn
    row: NDArray[Any] = drawn[:, : len(TOLD)] * module.scale.numpy() + module.centre.numpy()
    return row


def layer_gradients(sent: Mapping[str, NDArray[Any]], name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Gradients of weights and bias of a linear layer; a constant .1 as its last input serves as a bias."""
    weight = sent[f"{name}.weight"]
    return (weight, sent[f"{name}.bias"]) if f"{name}.bias" in sent else (weight[:, :-1], 10 * weight[:, -1])


def last_layer(module: nn.Module) -> str:
    names = [name for name, one in module.named_modules() if isinstance(one, nn.Linear)]
    return str(names[-1])


def as_trained() -> tuple[float, float]:
    """Compare :func:`sent_of` with a step of private training: largest difference, and its noise over ours.

    Two batches under one seed have one noise, which their difference lacks.
    """
    module, subjects = perceptron(0), images()
    settings = PrivateSettings(
        epsilon=None, noise_multiplier=2.0, steps=1, expected_batch=8, clip=CLIP, learning_rate=1.0,
        optimiser="sgd", seed=1,
    )  # fmt: skip
    theirs, ours = [], []
    for first in (0, 100):
        part = slice(first, first + 8)
        inputs, labels, trained = subjects.inputs[part], subjects.labels[part], perceptron(0)
        cases = Cases(np.arange(8), np.arange(8), inputs.numpy(), labels.numpy())
        descend(trained, CaseGradients(trained, cases, taking=InputCard()), settings=settings)
        pairs = zip(module.parameters(), trained.parameters(), strict=True)
        theirs.append(torch.cat([(before - after).detach().flatten() for before, after in pairs]))
        sent = sent_of(case_gradients(module, inputs, labels), Defence("", CLIP), torch.Generator())
        ours.append(torch.cat([one.flatten() for one in sent.values()]))
    apart = (theirs[0] - theirs[1]) - (ours[0] - ours[1])
    return float(apart.abs().max()), float((theirs[0] - ours[0]).std()) * 8 / 2

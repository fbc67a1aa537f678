"""SCAFFOLD: do control variates at every site pay, beside FedAvg and FedProx?

PneumoniaMNIST (28 × 28), **image-level**, 15 unequal sites (Dirichlet, alpha 1, and .1: sites of nearly one
class), the convolutional network of docs/studies/fifteen_hospitals.md, 20 rounds of one pass in batches of
32. AUC on the 524 validation images, median (worst) of three partitions that no other study judges.

SCAFFOLD corrects each local step by the difference between the gradients of all sites and the site's own, as
they were in the last rounds (option II of Karimireddy et al., ICML 2020). That is defined for plain SGD, so
that FedAvg is shown with plain SGD too; the product's sites use AdamW. Rates of SGD are the best of three for
each method and alpha, on the first partition.

    python -m studies.scaffold
"""

import importlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from primum.models.torch_door import TorchClassifier
from primum.records.cases import Cases
from primum.train.federated.answering import answer
from primum.train.federated.local_grid import LocalGrid
from primum.train.federated.partition import unequal_sites
from primum.train.federated.rounds import run_rounds
from primum.train.federated.settings import FederatedSettings
from primum.train.federated.sites import NetworkSite, load, travelling
from primum.train.learners import CaseLearner
from studies.attacks import DATA, cases_of
from studies.fifteen_hospitals import IMAGE, LOOP, area
from studies.label_errors import once
from studies.tables import Table, write_page

SITES, ROUNDS, BATCH = 15, 20, 32
PARTITIONS, ALPHAS, RATES = (3001, 3002, 3003), (1.0, 0.1), (0.03, 0.1, 0.3)
KEPT = Path("studies/cache/scaffold.json")
Tensors = list[torch.Tensor]


def by_sgd(parts: Sequence[Cases], model: TorchClassifier, rate: float, *, controlled: bool) -> None:
    """Train between sites by plain SGD, with control variates or without."""
    weights = [one.detach() for one in model.module.parameters()]
    everyone, total = [torch.zeros_like(one) for one in weights], sum(map(len, parts))
    own = [[torch.zeros_like(one) for one in weights] for _ in parts]
    for number in range(ROUNDS):
        torch.manual_seed(number)
        start, mean = [one.clone() for one in weights], [torch.zeros_like(one) for one in weights]
        drift = [torch.zeros_like(one) for one in weights]
        for place, cases in enumerate(parts):
            steps = passed(model, cases, rate, everyone, own[place] if controlled else everyone)
            for at, weight in enumerate(weights):
                mean[at] += (weight - start[at]) * (len(cases) / total)
                if controlled:
                    fresh = own[place][at] - everyone[at] + (start[at] - weight) / (steps * rate)
                    drift[at] += (fresh - own[place][at]) / len(parts)
                    own[place][at] = fresh
                weight.copy_(start[at])
        for at, weight in enumerate(weights):
            weight += mean[at]
            everyone[at] += drift[at]


def passed(model: TorchClassifier, cases: Cases, rate: float, everyone: Tensors, own: Tensors) -> int:
    """Go over a site's cases once; return how many steps that took."""
    inputs, labels = torch.from_numpy(np.asarray(cases.inputs)).float() / 255, torch.from_numpy(cases.labels)
    batches = torch.split(torch.randperm(len(labels)), BATCH)
    learnt = list(model.module.parameters())
    for rows in batches:
        loss = nn.functional.cross_entropy(model.module(inputs[rows]), labels[rows])
        with torch.no_grad():
            for weight, gradient, all_of, one in zip(
                learnt, torch.autograd.grad(loss, learnt), everyone, own, strict=True
            ):
                weight.sub_(rate * (gradient + all_of - one))
    return len(batches)


def by_product(parts: Sequence[Cases], model: TorchClassifier, proximal: float) -> None:
    """Train as `primum train federated simulate` does."""
    sites = [
        NetworkSite(f"{place}", CaseLearner(IMAGE, cases), IMAGE.build(cases, seed=0), loop=LOOP)
        for place, cases in enumerate(parts)
    ]
    settings = FederatedSettings(ROUNDS, 1, 3e-3, proximal)
    grid = LocalGrid({place + 1: answer(one) for place, one in enumerate(sites)})
    load(model.module, run_rounds(grid, travelling(model.module)[0], settings=settings, sites=SITES).weights)


def trained(method: str, alpha: float, partition: int, rate: float = 0.0) -> list[Any]:
    """Train once; AUC on validation images."""
    with np.load(DATA) as data:
        train, held = cases_of(data, "train"), cases_of(data, "val")
    dealt = unequal_sites(train.labels, sites=SITES, seed=partition, alpha=alpha)
    parts = [train.select(rows) for rows in dealt]
    model = IMAGE.build(train, seed=partition)
    if "SGD" in method or method == "SCAFFOLD":
        by_sgd(parts, model, rate, controlled=method == "SCAFFOLD")
    else:
        by_product(parts, model, 0.01 if method == "FedProx, AdamW" else 0.0)
    return [area(model, held)]


def row(method: str, alpha: float) -> tuple[str, str]:
    """Choose a rate on the first partition; the median and worst of all."""
    rates = RATES if "AdamW" not in method else (0.0,)

    def one(partition: int, rate: float) -> Any:
        return once(
            f"{method}|{alpha}|{partition}|{rate}", partial(trained, method, alpha, partition, rate), KEPT
        )[0]

    rate = max(rates, key=partial(one, PARTITIONS[0]))
    values = [one(partition, rate) for partition in PARTITIONS]
    return f"{rate:g}" if rate else ".003", f"{np.median(values):.3f} ({min(values):.3f})"


def main() -> None:
    """Train everything and write the page."""
    torch.set_num_threads(1)
    table = Table("method", *(part for alpha in ALPHAS for part in (f"alpha {alpha:g}: rate", "AUC")))
    for method in ("FedAvg, AdamW", "FedProx, AdamW", "FedAvg, SGD", "SCAFFOLD"):
        table.add(method, *(cell for alpha in ALPHAS for cell in row(method, alpha)))
    write_page("scaffold", (__doc__ or "").rpartition("\n\n")[0], table)


if __name__ == "__main__":
    importlib.import_module("studies.scaffold").main()

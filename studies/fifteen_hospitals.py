"""Fifteen hospitals: what training apart costs, and what protecting each hospital's images costs besides.

PneumoniaMNIST (28 × 28; 4,708 training, 524 validation, 624 test images), **image-level**: the data set names
no patients, and epsilon promises nothing to a patient of several images. Fifteen sites of unequal sizes and
shares of ill images (Dirichlet, alpha 1), dealt anew for each partition. Rounds run
in one process on Flower's messages, by the code of `primum train federated`.

*Scattering*: a linear layer over 2,025 features that no image shaped; 30 rounds of one gradient step over all
images of each site. With protection **every site adds the noise of its own epsilon of 8** to its sums of
clipped gradients and to its sum of features, over all rounds: nobody needs to trust the coordinator.
Adjacency: one image of the site more or less; accountant: privacy-loss distributions (PLD); delta 1e-5. The
mean of the weights of the second half of the rounds is the model. Clip and steps are those of central
training (docs/studies/private_images.md); the rate under noise follows from noise and sizes.

*Convolutional network* (60,706 parameters, group normalisation), without protection: thirty rounds of one
pass, AdamW at each site, whose rate falls within a round. Chosen on validation images with partition 1001.

Steps over all images of every site add up to a step over all images in one place: how images are dealt
changes a sum of gradients by its last digits only, and what is lost is lost to fifteen times the noise.

Central: the same models on all images in one place. AUC is on the test images, asked once; brackets: lowest
and highest of partitions and noise seeds. Choices on validation images are not charged; what that would cost
the scattering model is the last table of docs/studies/private_images.md.

Peer: a published European consortium reports .97 federated against .98 central, and 1.2 points of AUC for
epsilon 8.
"""

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from primum.evidence.ranking import auc
from primum.fit.classifier_recipe import ClassifierRecipe
from primum.fit.loop import LoopSettings
from primum.models.torch_door import TorchClassifier
from primum.records.cases import Cases
from primum.train.federated.answering import answer
from primum.train.federated.local_grid import LocalGrid
from primum.train.federated.partition import unequal_sites
from primum.train.federated.rounds import FederatedSettings, result_of, run_rounds
from primum.train.federated.sites import LinearSite, NetworkSite, Site, load
from primum.train.learners import CaseLearner
from primum.train.private_linear import LinearSettings, fit_private_linear, mechanisms_of, rate_under_noise
from studies.attacks import DATA, cases_of
from studies.label_errors import once
from studies.private_images import CLASSES, Prepared, classifier, scattered
from studies.tables import Table, write_page

SITES, SEEDS, EPSILON = 15, 8, 8.0
JUDGED = range(2000, 2005)
KEPT = Path("studies/cache/fifteen_hospitals.json")
ROUNDS, RATE = 30, 3e-3
LINEAR = LinearSettings(epsilon=None)
LOOP = LoopSettings(1, batch=32, learning_rate=RATE, warmup=0.15)
IMAGE = ClassifierRecipe("image", CLASSES, LOOP)
Floats = NDArray[np.float64]


def area(model: TorchClassifier, cases: Cases) -> float:
    return float(roc_auc_score(cases.labels, model.predict_proba(cases)[:, 1]))


def dealt(cases: Cases, partition: int, alpha: float) -> list[Cases]:
    return [
        cases.select(rows) for rows in unequal_sites(cases.labels, sites=SITES, seed=partition, alpha=alpha)
    ]


def together(
    sites: list[Site], model: TorchClassifier, settings: FederatedSettings, before: tuple[str, ...]
) -> None:
    """Train between sites, and put the result into the model."""
    state = {name: value.numpy().copy() for name, value in model.module.state_dict().items()}
    travels = {"centre": state["centre"], "last.weight": 0 * state["last.weight"]} if before else state
    grid = LocalGrid({place + 1: answer(one) for place, one in enumerate(sites)})
    standing = run_rounds(grid, travels, settings=settings, before=before, sites=len(sites))
    load(model.module, result_of(standing, settings))


def linear(parts: list[Cases], epsilon: float | None, seed: int = 0) -> TorchClassifier:
    """Train the linear layer between sites; each has an epsilon of its own."""
    settings = replace(LINEAR, epsilon=epsilon)
    model, rate = classifier(Prepared()), LINEAR.learning_rate
    if epsilon:
        noise = mechanisms_of(settings)[1].noise_multiplier
        images = sum(map(len, parts))
        rate = rate_under_noise(rate, noise * settings.clip * len(parts) ** 0.5 / images)
    sites: list[Site] = [
        LinearSite(
            f"{place}", classifier(Prepared()), cases, settings=replace(settings, seed=1000 * seed + place)
        )
        for place, cases in enumerate(parts)
    ]
    asked = FederatedSettings(rounds=settings.steps, learning_rate=rate, averaged=True)
    together(sites, model, asked, ("centre",))
    return model


def network(parts: list[Cases], seed: int) -> TorchClassifier:
    """Train the convolutional network between sites."""
    everyone = parts[0]
    sites: list[Site] = [
        NetworkSite(f"{place}", CaseLearner(IMAGE, cases), IMAGE.build(everyone, seed=0), loop=LOOP)
        for place, cases in enumerate(parts)
    ]
    model = IMAGE.build(everyone, seed=seed)
    together(sites, model, FederatedSettings(rounds=ROUNDS, learning_rate=RATE, seed=seed), ())
    return model


def told(values: Floats) -> str:
    return f"{np.median(values):.4f} ({values.min():.4f}-{values.max():.4f})"


def scattering(table: Table, bars: Table, features: dict[str, Cases], alpha: float) -> None:
    """Add the rows of the linear layer."""
    train, test = features["train"], features["test"]
    central, private = classifier(Prepared()), []
    fit_private_linear(central, train, settings=LINEAR)
    whole = area(central, test)
    for seed in range(SEEDS):
        model = classifier(Prepared())
        fit_private_linear(model, train, settings=replace(LINEAR, epsilon=EPSILON, seed=seed))
        private.append(area(model, test))
    apart, noisy = [], []
    for partition in JUDGED:

        def row(partition: int = partition) -> list[object]:
            parts = dealt(train, partition, alpha)
            seeds = [100 * partition + seed for seed in range(SEEDS)]
            noised = [area(linear(parts, EPSILON, seed), test) for seed in seeds]
            return [area(linear(parts, None), test), *noised]

        found: Any = once(f"scattering|{alpha}|{partition}", row, KEPT)
        apart.append(found[0])
        noisy.append(found[1:])
    plain, each = np.array(apart), np.array(noisy)
    scores = central.predict_proba(test)[:, 1]
    over = auc(scores[test.labels == 1], scores[test.labels == 0])
    lost = plain[:, None] - each
    table.add(
        "scattering",
        alpha,
        f"{whole:.4f} ({over.low:.3f}-{over.high:.3f} over images)",
        told(np.array(private)),
        told(plain),
        told(each.ravel()),
    )
    bars.add(f"scattering, alpha {alpha:g}: central AUC ≥ .975", f"{whole:.4f}", whole >= 0.975)
    bars.add(
        f"scattering, alpha {alpha:g}: federated − central ≤ .005, worst partition",
        f"{float((whole - plain).max()):.4f}",
        float((whole - plain).max()) <= 0.005,
    )
    bars.add(
        f"scattering, alpha {alpha:g}: epsilon 8 at every site costs ≤ 1.2 points, median",
        f"{100 * float(np.median(lost)):.2f}",
        float(np.median(lost)) <= 0.012,
    )
    bars.add(
        f"scattering, alpha {alpha:g}: the same, stretch ≤ 1.0",
        f"{100 * float(np.median(lost)):.2f}",
        float(np.median(lost)) <= 0.010,
    )
    bars.add(
        f"scattering, alpha {alpha:g}: the same, worst partition and seed",
        f"{100 * float(lost.max()):.2f}",
        float(lost.max()) <= 0.012,
    )


def convolutional(table: Table, bars: Table) -> None:
    """Add the row of the network."""
    torch.set_num_threads(1)
    data = np.load(DATA)
    train, test = cases_of(data, "train"), cases_of(data, "test")
    central = []
    for seed in range(3):
        recipe = replace(IMAGE, loop=LoopSettings(8, batch=64, learning_rate=RATE, warmup=0.15))

        def alone(recipe: ClassifierRecipe = recipe, seed: int = seed) -> list[object]:
            return [area(recipe.fit(train, seed=seed), test)]

        one: Any = once(f"central|{seed}", alone, KEPT)
        central.append(one[0])
    apart = []
    for partition in JUDGED:

        def row(partition: int = partition) -> list[object]:
            return [area(network(dealt(train, partition, 1.0), partition), test)]

        found: Any = once(f"network|{ROUNDS}|{partition}", row, KEPT)
        apart.append(found[0])
    plain, whole = np.array(apart), float(np.mean(central))
    table.add("convolutional", 1.0, told(np.array(central)), "", told(plain), "")
    lost = whole - plain
    for which, one in (("median", float(np.median(lost))), ("worst partition", float(lost.max()))):
        bars.add(f"convolutional: federated − central ≤ .015, {which}", f"{one:.4f}", one <= 0.015)


def main() -> None:
    """Run, print and write the tables."""
    table = Table(
        "Model",
        "Alpha",
        "Central AUC",
        "Central, epsilon 8",
        "Federated",
        "Federated, epsilon 8 at every site",
    )
    bars = Table("Asked for", "Seen", "Holds")
    features, _ = scattered()
    scattering(table, bars, features, 1.0)
    convolutional(table, bars)
    write_page("fifteen_hospitals", __doc__, bars, table)


if __name__ == "__main__":
    importlib.import_module("studies.fifteen_hospitals").main()

"""Honest sites on other images than the detector was made on: how many would be accused?

The urn of `primum.train.federated.suspicion` was filled with partitions of PneumoniaMNIST, and judged on
others of the same images (docs/studies/malicious_sites.md). Here other images judge it: BreastMNIST (546
ultrasounds of 28 × 28, image-level) and the project's synthetic images (1,500 invented patients), dealt to 15
and to 8 unequal sites (Dirichlet, alpha 1), some of which have a dozen patients. A linear layer over
scattering features, 30 rounds of five steps of 80, as `primum train federated simulate` takes them, without
cases of the coordinator's. **Every accusation is false.** The budget is 5 % of trainings.

With `--epsilon 8` the command accuses nobody; the last rows say what would come of it if it did.
"""

import importlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from primum.fit.classifier_recipe import ClassifierRecipe
from primum.fit.loop import LoopSettings
from primum.records.cases import Cases
from primum.records.synthetic_cases import ImageSettings, synthetic_images
from primum.train.federated.answering import answer
from primum.train.federated.local_grid import LocalGrid
from primum.train.federated.partition import unequal_sites
from primum.train.federated.rounds import run_rounds
from primum.train.federated.settings import FederatedSettings
from primum.train.federated.sites import LinearSite, travelling
from primum.train.federated.suspicion import RATE_OF_SEVERAL, STEPS_APART, accused
from primum.train.private_linear import LinearSettings, mechanisms_of, rate_under_noise
from studies.attacks import DATA, cases_of
from studies.fifteen_hospitals import EXAMPLE
from studies.label_errors import once
from studies.tables import Table, write_page

RUNS, FIRST, EPSILON = 40, 20_000, 8.0
KEPT = Path("studies/cache/honest_sites.json")


def images(name: str) -> Cases:
    """Read or invent them."""
    if name == "synthetic":
        return synthetic_images(1500, seed=11, settings=ImageSettings(size=16))
    with np.load(DATA.with_name("breastmnist.npz")) as data:
        return cases_of(data, "train")


def trained(name: str, sites: int, rounds: int, epsilon: float | None) -> list[Any]:
    """Count trainings that accuse, sites that are accused, and the smallest site of such a training."""
    cases = images(name)
    recipe = ClassifierRecipe("scattering", ("a", "b"), LoopSettings(1))
    people, first = np.unique(cases.subject_ids, return_index=True)
    settings = LinearSettings(epsilon, steps=rounds)
    steps, rate = STEPS_APART, RATE_OF_SEVERAL
    if epsilon:
        noise = mechanisms_of(settings)[1].noise_multiplier * settings.clip
        steps, rate = 1, rate_under_noise(settings.learning_rate, noise * sites**0.5 / len(people))
    asked, found = FederatedSettings(rounds, steps, rate, averaged=True), []
    for seed in range(FIRST, FIRST + RUNS):
        parts = unequal_sites(cases.labels[first], sites=sites, seed=seed, alpha=1.0)
        rows = [np.flatnonzero(np.isin(cases.subject_ids, people[part])) for part in parts]
        made = [
            LinearSite(
                f"{at}",
                recipe.build(cases, seed=0),
                cases.select(one),
                settings=replace(settings, seed=seed * sites + at),
            )
            for at, one in enumerate(rows)
        ]
        travels, before = travelling(recipe.build(cases, seed=0).module)
        grid = LocalGrid({at + 1: answer(one) for at, one in enumerate(made)})
        standing = run_rounds(grid, travels, settings=asked, before=before, sites=sites)
        found.append(len(accused(standing.history)))
    return [sum(map(bool, found)), sum(found)]


def main() -> None:
    """Train everything and write the page."""
    torch.set_num_threads(1)
    table = Table(
        "images", "sites", "rounds", "epsilon at each site", "trainings that accuse", "accused sites"
    )
    rows = [(name, sites, 30, None) for name in ("breast", "synthetic") for sites in (15, 8)]
    rows += [("synthetic", 15, 30, EPSILON), ("synthetic", 8, 6, EPSILON)]  # type: ignore[list-item]
    for name, sites, rounds, epsilon in rows:
        row: Any = once(
            f"{name}|{sites}|{rounds}|{epsilon}", partial(trained, name, sites, rounds, epsilon), KEPT
        )
        told = [EXAMPLE["proportion"](*one) for one in ((row[0], RUNS), (row[1], RUNS * sites))]
        cells = [f"{one.value:.1%} ({one.low:.1%} to {one.high:.1%})" for one in told]
        table.add(name, sites, rounds, "" if epsilon is None else f"{epsilon:g}", *cells)
    write_page("honest_sites", __doc__, table)


if __name__ == "__main__":
    importlib.import_module("studies.honest_sites").main()

"""Fifteen hospitals train together: what it costs, what travels gives away, and who spoils it. One table.

Invented chest images, or a folder of cases; a linear layer over scattering features; each site's own epsilon.
Images are drawn out of gradients of one image each, the worst case. Peer: a published European consortium.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from primum.audits.updates.analytic import layer_input
from primum.audits.updates.matching import Gallery, match_one_each
from primum.evidence.estimate import Estimate
from primum.evidence.operating_point import proportion_limits
from primum.evidence.ranking import auc
from primum.evidence.reconstruction import reconstructed_share
from primum.fit.classifier_recipe import ClassifierRecipe
from primum.fit.loop import LoopSettings
from primum.models.torch_door import TorchClassifier
from primum.records.case_folder import open_cases
from primum.records.cases import Cases, join_cases
from primum.records.synthetic_cases import SYNTHETIC_CASES, ImageSettings, split_patients, synthetic_images
from primum.train.federated.answering import answer
from primum.train.federated.local_grid import LocalGrid
from primum.train.federated.malice import scaled
from primum.train.federated.partition import unequal_sites
from primum.train.federated.rounds import result_of, run_rounds
from primum.train.federated.settings import FederatedSettings
from primum.train.federated.sites import Arrays, LinearSite, Round, load, travelling
from primum.train.federated.suspicion import accused
from primum.train.private_linear import LinearSettings, fit_private_linear, mechanisms_of, rate_under_noise

SITES, MALICIOUS, EPSILON, ROUNDS = 15, 3, 8.0, 30
STEPS, RATE = 5, 80.0  # of each site in a round, and how long; with protection it takes one
PLAIN = LinearSettings(epsilon=None, steps=ROUNDS)


class Spoiler(LinearSite):
    """A hospital whose updates are turned round and ten times as long."""

    def train(self, weights: Arrays, asked: Round) -> Arrays:
        """Train, and spoil."""
        honest = super().train(weights, asked)
        return {name: weights[name] + scaled(value - weights[name], -10) for name, value in honest.items()}


def measured(model: TorchClassifier, cases: Cases) -> Estimate:
    """AUC on patients who trained nothing."""
    scores = model.predict_proba(cases)[:, 1]
    return auc(scores[cases.labels == 1], scores[cases.labels == 0])


def together(
    sides: dict[str, Cases], recipe: ClassifierRecipe, epsilon: float | None, bad: int = 0
) -> tuple[Estimate, int, int]:
    """Train between sites: the AUC on held-out patients, and how many bad and honest sites were accused."""
    train, settings = sides["train"], replace(PLAIN, epsilon=epsilon)
    people, first = np.unique(train.subject_ids, return_index=True)
    parts = unequal_sites(train.labels[first], sites=SITES, seed=1, alpha=1.0)
    sites = [
        (Spoiler if place < bad else LinearSite)(
            f"hospital {place + 1}",
            recipe.build(train, seed=0),
            train.select(np.flatnonzero(np.isin(train.subject_ids, people[part]))),
            settings=replace(settings, seed=100 + place),
        )
        for place, part in enumerate(parts)
    ]
    noise = mechanisms_of(settings)[1].noise_multiplier if epsilon else 0.0
    rate = rate_under_noise(settings.learning_rate, noise * settings.clip * SITES**0.5 / len(people))
    plan: Any = {"averaged": True, "rule": "multi_krum" if bad else "mean", "malicious": bad}
    asked = FederatedSettings(ROUNDS, STEPS, rate if epsilon else RATE, **plan)
    start, before = travelling((model := recipe.build(train, seed=0)).module)
    grid = LocalGrid({place + 1: answer(site) for place, site in enumerate(sites)})
    standing = run_rounds(grid, start, settings=asked, before=before, sites=SITES)
    load(model.module, result_of(standing, asked))
    blamed, guilty = {one.site for one in accused(standing.history)}, {site.name for site in sites[:bad]}
    return measured(model, sides["held_out"]), len(blamed & guilty), len(blamed - guilty)


def proportion(count: int, trials: int) -> Estimate:
    """Share with its exact interval."""
    (low,), (high,) = proportion_limits(np.array([float(count)]), trials, tail=0.025)
    return Estimate("accused", count / trials, float(low), float(high), (trials,), "clopper-pearson")


def drawn_out(cases: Cases, noise: float) -> Estimate:
    """Share of images drawn out of a perceptron's gradients, clipped at 1 and noised, one image each."""
    images = np.asarray(cases.inputs, np.float32) / 255
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Flatten(), nn.Linear(images[0].size, 64), nn.ReLU(), nn.Linear(64, 2))
    random, found = np.random.default_rng(0), []
    for image, label in zip(torch.from_numpy(images), torch.from_numpy(cases.labels), strict=True):
        loss = nn.functional.cross_entropy(layer(image[None]), label[None])
        weight, bias = (one.numpy() for one in torch.autograd.grad(loss, list(layer[1].parameters())))
        by = max(1.0, float(np.hypot(np.linalg.norm(weight), np.linalg.norm(bias)))) if noise else 1.0
        weight, bias = (one / by + noise * random.standard_normal(one.shape) for one in (weight, bias))
        found.append(layer_input(weight, bias, deviation=noise).reshape(image.shape))
    match = match_one_each(Gallery.of(images, cases.subject_ids), np.stack(found), np.arange(len(cases)))
    return reconstructed_share(int(match.reconstructed.sum()), len(cases))


def main(folder: str | None = None) -> dict[str, Estimate]:
    """Train, attack, and print the table."""
    images = synthetic_images(420, seed=5, settings=ImageSettings(size=28))
    sides = split_patients(images, {"train": 300, "held_out": 120})
    classes: tuple[str, ...] = SYNTHETIC_CASES["image"][1]
    if folder is not None:
        opened = open_cases(Path(folder))
        sides = {name: join_cases(list(opened.split(name).shards())) for name in ("train", "held_out")}
        classes = opened.classes
    recipe = ClassifierRecipe("scattering", classes, LoopSettings(1))
    central = recipe.build(sides["train"], seed=0)
    fit_private_linear(central, sides["train"], settings=PLAIN)
    few = sides["train"].select(np.arange(min(300, len(sides["train"]))))
    noise = mechanisms_of(replace(PLAIN, epsilon=EPSILON))[1].noise_multiplier
    spoilt, caught, wrongly = together(sides, recipe, None, MALICIOUS)
    apart, _, honest = together(sides, recipe, None)
    rows = {
        "AUC, all in one place": (measured(central, sides["held_out"]), ".98"),
        "AUC, fifteen hospitals": (apart, ".97"),
        "AUC, epsilon 8 at each of them": (together(sides, recipe, EPSILON)[0], "1.2 points less"),
        f"AUC, {MALICIOUS} of them malicious, Multi-Krum": (spoilt, "not told"),
        "Images drawn out of gradients": (drawn_out(few, 0.0), "12 %"),
        "Images drawn out, epsilon 8": (drawn_out(few, noise), ".01 %"),
        "Malicious hospitals accused": (proportion(caught, MALICIOUS), "not told"),
        "Honest hospitals accused": (proportion(wrongly + honest, 2 * SITES - MALICIOUS), "not told"),
    }
    for name, (one, peer) in rows.items():
        print(f"{name:42} {one.value:.3f} ({one.low:.3f} to {one.high:.3f})   peer: {peer}")
    return {name: one for name, (one, _) in rows.items()}


if __name__ == "__main__":
    main(*sys.argv[1:2])

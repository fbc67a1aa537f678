"""Fifteen hospitals: what training apart costs, and what protecting each hospital's images costs besides.

PneumoniaMNIST (28 × 28; 4,708 training, 524 validation, 624 test images), **image-level**: the data set names
no patients, and epsilon promises nothing to a patient of several images. Fifteen sites of unequal sizes and
shares of ill images (Dirichlet, alpha 1), dealt anew for each of five
partitions; eight noise seeds each. Rounds run in one process on Flower's messages, by the code of `primum
train federated`.

*Scattering*: a linear layer over 2,025 features that no image shaped; 30 rounds of five gradient steps of 80
over all images of each site (the usual of the command), or of one of 320. With protection, of one step, and
**every site adds the noise of its own epsilon of 8** to its sums of clipped gradients and to its sum of
features, over all rounds: nobody needs to trust the coordinator. Adjacency: one image of the site more or
less; accountant: privacy-loss distributions (PLD); delta 1e-5. The mean of the weights of the second half of
the rounds is the model. Clip and steps are those of central training (docs/studies/private_images.md); the
rate under noise follows from noise and sizes.

*Convolutional network* (60,706 parameters, group normalisation), without protection: thirty rounds of one
pass, AdamW at each site, whose rate falls within a round. Chosen on validation images with partition 1001.

One step over all images of every site adds up to a step over all images in one place: how images are dealt
changes a sum of gradients by its last digits only, and what is lost is lost to fifteen times the noise.

*Malicious*: three of the fifteen, drawn anew, send their update turned round and ten times as long; the
coordinator takes Multi-Krum's mean. *Drawn out*: each training image from the gradient of a perceptron that
saw it alone, the worst there is; with the clip of 1 and the noise of epsilon 8. Other networks, batches and
attacks, and the 37,664 trials with noise: docs/studies/reconstruction.md; other attackers:
docs/studies/malicious_sites.md.

Central: the same models on all images in one place. AUC is on the test images, asked once; brackets: lowest
and highest of partitions and noise seeds. Choices on validation images are not charged; what that would cost
the scattering model is the last table of docs/studies/private_images.md.

Peer: a published European consortium, which reports .97 federated against .98 central, 12 % of training
images reconstructed without protection and 0.01 % with epsilon 8, at 1.2 points of AUC.
"""

import importlib
import runpy
from dataclasses import replace
from functools import partial
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
from primum.train.federated.aggregation import Rule
from primum.train.federated.answering import answer
from primum.train.federated.local_grid import LocalGrid
from primum.train.federated.partition import unequal_sites
from primum.train.federated.rounds import result_of, run_rounds
from primum.train.federated.settings import FederatedSettings
from primum.train.federated.sites import LinearSite, NetworkSite, Site, load, travelling
from primum.train.federated.suspicion import accused
from primum.train.learners import CaseLearner
from primum.train.private_linear import LinearSettings, fit_private_linear, mechanisms_of, rate_under_noise
from studies.attacks import DATA, cases_of
from studies.label_errors import once
from studies.private_images import CLASSES, Prepared, classifier, scattered
from studies.tables import Table, write_page

SITES, SEEDS, EPSILON, MALICIOUS, STEPS = 15, 8, 8.0, 3, 5
JUDGED = range(2000, 2005)
KEPT = Path("studies/cache/fifteen_hospitals.json")
ROUNDS, RATE = 30, 3e-3
LINEAR = LinearSettings(epsilon=None)
LOOP = LoopSettings(1, batch=32, learning_rate=RATE, warmup=0.15)
IMAGE = ClassifierRecipe("image", CLASSES, LOOP)
# The same attackers and the same leak as in the example.
EXAMPLE = runpy.run_path("examples/fifteen_hospitals.py")
Floats = NDArray[np.float64]


def area(model: TorchClassifier, cases: Cases) -> float:
    return float(roc_auc_score(cases.labels, model.predict_proba(cases)[:, 1]))


def dealt(cases: Cases, partition: int, alpha: float) -> list[Cases]:
    return [
        cases.select(rows) for rows in unequal_sites(cases.labels, sites=SITES, seed=partition, alpha=alpha)
    ]


def together(sites: list[Site], model: TorchClassifier, settings: FederatedSettings) -> set[str]:
    """Train between sites, put the result into the model, and return who was accused."""
    travels, before = travelling(model.module)
    grid = LocalGrid({place + 1: answer(one) for place, one in enumerate(sites)})
    standing = run_rounds(grid, travels, settings=settings, before=before, sites=len(sites))
    load(model.module, result_of(standing, settings))
    return {one.site for one in accused(standing.history)}


def linear(
    parts: list[Cases],
    epsilon: float | None,
    seed: int = 0,
    steps: int = 1,
    bad: frozenset[int] = frozenset(),
) -> tuple[TorchClassifier, set[str]]:
    """Train the linear layer between sites; each has an epsilon of its own."""
    settings = replace(LINEAR, epsilon=epsilon)
    model, rate = classifier(Prepared()), LINEAR.learning_rate if steps == 1 else 80.0
    if epsilon:
        noise = mechanisms_of(settings)[1].noise_multiplier
        images = sum(map(len, parts))
        rate = rate_under_noise(rate, noise * settings.clip * len(parts) ** 0.5 / images)
    sites: list[Site] = [
        (EXAMPLE["Spoiler"] if place in bad else LinearSite)(
            f"{place}", classifier(Prepared()), cases, settings=replace(settings, seed=1000 * seed + place)
        )
        for place, cases in enumerate(parts)
    ]
    rule: Rule = "multi_krum" if bad else "mean"
    asked = FederatedSettings(settings.steps, steps, rate, rule=rule, malicious=len(bad), averaged=True)
    return model, together(sites, model, asked)


def network(parts: list[Cases], seed: int) -> TorchClassifier:
    """Train the convolutional network between sites."""
    everyone = parts[0]
    sites: list[Site] = [
        NetworkSite(f"{place}", CaseLearner(IMAGE, cases), IMAGE.build(everyone, seed=0), loop=LOOP)
        for place, cases in enumerate(parts)
    ]
    model = IMAGE.build(everyone, seed=seed)
    together(sites, model, FederatedSettings(rounds=ROUNDS, learning_rate=RATE, seed=seed))
    return model


def told(values: Floats, *, digits: int = 4) -> str:
    return f"{np.median(values):.{digits}f} ({values.min():.{digits}f}-{values.max():.{digits}f})"


def judged(train: Cases, test: Cases, partition: int) -> list[Any]:
    """Train on one partition in every way: AUCs, and who was accused of those who spoilt it and of others."""
    parts = dealt(train, partition, 1.0)
    bad = np.random.default_rng([partition, 7]).choice(SITES, MALICIOUS, replace=False).tolist()
    guilty = {str(one) for one in bad}
    (once_a_round, _), (usual, honest) = linear(parts, None), linear(parts, None, steps=STEPS)
    spoilt, caught = linear(parts, None, steps=STEPS, bad=frozenset(bad))
    noised = [linear(parts, EPSILON, 100 * partition + seed) for seed in range(SEEDS)]
    return [
        area(once_a_round, test),
        area(usual, test),
        area(spoilt, test),
        [area(model, test) for model, _ in noised],
        len(caught & guilty),
        [len(honest), len(caught - guilty), *(len(found) for _, found in noised)],
    ]


def scattering(table: Table, bars: Table, peers: Table) -> None:
    """Add the rows of the linear layer, and those that a reader compares with the peer's."""
    features, _ = scattered()
    train, test = features["train"], features["test"]
    central, private = classifier(Prepared()), []
    fit_private_linear(central, train, settings=LINEAR)
    whole = area(central, test)
    for seed in range(SEEDS):
        model = classifier(Prepared())
        fit_private_linear(model, train, settings=replace(LINEAR, epsilon=EPSILON, seed=seed))
        private.append(area(model, test))
    rows: Any = [
        once(f"accused|{partition}", partial(judged, train, test, partition), KEPT) for partition in JUDGED
    ]
    one, five, spoilt, each = (np.array([row[place] for row in rows]) for place in range(4))
    scores = central.predict_proba(test)[:, 1]
    over = auc(scores[test.labels == 1], scores[test.labels == 0])
    place = f"{whole:.4f} ({over.low:.4f}-{over.high:.4f} over images)"
    table.add("scattering, five steps of 80", place, "", told(five), "")
    table.add("scattering, one step of 320", place, told(np.array(private)), told(one), told(each.ravel()))
    lost = 100 * (five[:, None] - each)
    asked: list[tuple[str, float, float]] = [
        ("federated − central, points, worst partition", 100 * float((whole - five).max()), 0.5),
        ("the same, one step a round", 100 * float((whole - one).max()), 0.5),
        ("epsilon 8 at every site costs, points, median", float(np.median(lost)), 1.2),
        ("the same, worst partition and seed", float(lost.max()), 1.2),
        ("the same against one step a round, median", 100 * float(np.median(one[:, None] - each)), 1.2),
        ("stretch", float(np.median(lost)), 1.0),
        ("stretch against one step a round", 100 * float(np.median(one[:, None] - each)), 1.0),
    ]
    for name, seen, most in asked:
        bars.add(f"scattering: {name} ≤ {most:g}", f"{seen:.2f}", seen <= most)
    caught, wrong = sum(row[4] for row in rows), [count for row in rows for count in row[5]]
    honest = SITES * len(wrong) - MALICIOUS * len(rows)
    peers.add("AUC, all in one place", place, ".98")
    peers.add("AUC, fifteen hospitals", told(five), ".97")
    peers.add("AUC, epsilon 8 at every site", told(each.ravel()), "1.2 points less")
    peers.add("points of AUC that epsilon 8 costs", told(lost.ravel(), digits=2), "1.2")
    peers.add("AUC, three of them malicious", told(spoilt), "not told")
    peers.add("malicious sites accused", counted(caught, MALICIOUS * len(rows)), "not told")
    peers.add("honest sites accused", counted(sum(wrong), honest), "not told")
    runs = f"{counted(sum(count > 0 for count in wrong), len(wrong))} of trainings, budget 5 %"
    peers.add("trainings with an honest site accused", runs, "not told")


def drawn(peers: Table) -> None:
    """Add the share of training images that are drawn out of gradients."""
    train = cases_of(np.load(DATA), "train")
    noise = mechanisms_of(replace(LINEAR, epsilon=EPSILON))[1].noise_multiplier
    for name, deviation, peer in (("", 0.0, "12 %"), (", epsilon 8", noise, "0.01 %")):
        found: Any = once(f"drawn|{deviation:.3f}", partial(share, train, deviation), KEPT)
        peers.add(f"training images drawn out of gradients{name}", counted(*found), peer)


def share(train: Cases, deviation: float) -> list[Any]:
    """Count images drawn out, of all."""
    found = EXAMPLE["drawn_out"](train, deviation)
    return [round(found.value * len(train)), len(train)]


def counted(count: int, trials: int) -> str:
    found = EXAMPLE["proportion"](count, trials)
    return f"{found.value:.2%} ({count} of {trials:,}; {found.low:.2%} to {found.high:.2%})"


def convolutional(table: Table, bars: Table) -> None:
    """Add the row of the network."""
    torch.set_num_threads(1)
    data = np.load(DATA)
    train, test = cases_of(data, "train"), cases_of(data, "test")
    recipe = replace(IMAGE, loop=LoopSettings(8, batch=64, learning_rate=RATE, warmup=0.15))

    def alone(seed: int) -> list[Any]:
        return [area(recipe.fit(train, seed=seed), test)]

    def apart(partition: int) -> list[Any]:
        return [area(network(dealt(train, partition, 1.0), partition), test)]

    central: Any = [once(f"central|{seed}", partial(alone, seed), KEPT)[0] for seed in range(3)]
    plain: Any = [once(f"network|{ROUNDS}|{one}", partial(apart, one), KEPT)[0] for one in JUDGED]
    table.add("convolutional", told(np.array(central)), "", told(np.array(plain)), "")
    lost = 100 * (float(np.mean(central)) - np.array(plain))
    for which, one in (("median", float(np.median(lost))), ("worst partition", float(lost.max()))):
        bars.add(f"convolutional: federated − central, points, {which} ≤ 1.5", f"{one:.2f}", one <= 1.5)


def main() -> None:
    """Run, print and write the tables."""
    peers = Table("What", "Seen", "Peer")
    table = Table("Model", "Central", "Central, epsilon 8", "Federated", "Federated, epsilon 8 at every site")
    bars = Table("Asked for", "Seen", "Holds")
    scattering(table, bars, peers)
    drawn(peers)
    convolutional(table, bars)
    write_page("fifteen_hospitals", __doc__, peers, bars, table)


if __name__ == "__main__":
    importlib.import_module("studies.fifteen_hospitals").main()

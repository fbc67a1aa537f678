"""Private networks: what a CNN and a model of health records learn when their patients are protected.

**Images.** PneumoniaMNIST (28 × 28; 4,708 training, 524 validation, 624 test images), the convolutional
network of `primum.fit.networks`, group norm, trained from nothing by the code of `primum train private`. The
data set names no patients: **the unit is the image**, and epsilon here promises nothing to a patient with
several. Everything was chosen on the validation split, which is promised nothing; the test split was
asked once, at the end. Each seed draws first weights, sampling and noise anew.

**Health records.** Synthetic patients, one of them the unit with the whole history; a small Llama, 1,000
patients to train, 1,000 others to ask. Loss is of codes, in nats; the unigram counts the training patients'
codes, and is told which tokens are codes, which no model is. The audit is `primum audit`'s membership test
with the whole histories in hand, calibrated by a reference of other patients.

Adjacency: one unit more or less, Poisson sampling. Accountant: privacy-loss distributions (PLD). Delta is
1e-5. Clip is 1.

References: Abadi et al., Deep learning with differential privacy, CCS 2016; De et al., Unlocking
high-accuracy differentially private image classification through scale, 2022; Tramèr & Boneh, Differentially
private learning needs better features (or much more data), ICLR 2021.
"""

import importlib
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from primum.evidence.ranking import auc
from primum.fit.causal_recipe import SmallCausalRecipe
from primum.fit.classifier_recipe import ClassifierRecipe
from primum.fit.loop import LoopSettings
from primum.models.causal import CausalModel
from primum.records.cases import Cases
from primum.train.accounting import Mechanism, epsilon_spent
from primum.train.private import PrivateSettings
from primum.train.private_cases import fit_private_cases
from primum.train.private_linear import LinearSettings
from primum.train.private_records import fit_private
from studies.label_errors import once
from studies.private_images import CLASSES, DELTA, IMAGES, Prepared, areas, scattered
from studies.tables import Table, write_page
from studies.world import Pair, audited, finding, people, reference, target, tokenizer

KEPT = Path("studies/cache/private_networks.json")
PLAIN = LoopSettings(8, batch=64, learning_rate=3e-3, warmup=0.15)
SEEDS, FEW, PLAIN_SEEDS = 8, 1, 3
# What the validation images were asked about, at epsilon 8: width, and changes to the settings.
STEPPED = PrivateSettings(8.0, steps=150, expected_batch=512, learning_rate=4e-3, averaging=0.9)
TRIED: Sequence[tuple[int, Mapping[str, Any]]] = (
    (16, {"learning_rate": 2e-3}),
    (16, {}),
    (16, {"learning_rate": 8e-3}),
    (16, {"optimiser": "sgd", "learning_rate": 2.0}),
    (32, {"learning_rate": 2e-3}),
    (32, {}),
    (32, {"learning_rate": 8e-3}),
    (32, {"optimiser": "sgd", "learning_rate": 2.0}),
    (32, {"steps": 300}),
)
# Earlier looks, at width 64, which are not repeated.
EARLIER = {"adam 0.001": 0.9860, "adam 0.003": 0.9859, "sgd 1": 0.9867, "sgd 4": 0.9717}
CHOSEN_WIDTH, CHOSEN = 32, replace(STEPPED, steps=300)
SMALL_WIDTH, SMALL = 16, replace(STEPPED, learning_rate=8e-3)
ABLATION: Mapping[str, Mapping[str, Any]] = {
    "150 steps of 512, rate .008, averaging .9": {},
    "no averaging": {"averaging": 0.0},
    "600 steps of 128, rate .004": {"expected_batch": 128, "steps": 600, "learning_rate": 4e-3},
    "75 steps of 1,024": {"expected_batch": 1024, "steps": 75},
    "no group norm": {"normed": False},
    "60 steps of 100, rate .002, no averaging": {
        "expected_batch": 100, "steps": 60, "learning_rate": 2e-3, "averaging": 0.0,
    },
    "four altered copies": {"copies": 4},
}  # fmt: skip
PATIENTS, EPOCHS = 1000, 20
SIZE: Mapping[str, Any] = {"width": 32, "layers": 1}
RECORDS = PrivateSettings(8.0, steps=60, expected_batch=300, learning_rate=1e-2)
NOTES = f"""First table: the test split, asked by models whose settings were fixed before. Images: 95 %
interval over images drawn anew, for the middle seed (DeLong); all else is over seeds. The range of eight
seeds holds the median of all seeds in 99 of 100 cases, of three in 75. Without protection: width 64 (60,706
weights), 8 epochs of batches of 64, AdamW .003; at ε = 8: width {CHOSEN_WIDTH} (15,378 weights).

Second: validation, ε = 8, one seed. Wider and longer are better; half the width and twice the steps are worth
as much as the whole width, at the same cost. The last four were asked earlier.

Third: what choosing would cost, were it charged and every model released. On other patients the settings cost
nothing.

Fourth: validation, ε = 8, width {SMALL_WIDTH} (3,946 weights, cheaper), one thing changed at a time, one
seed a row: a difference of a point is not told from chance. What helps: group norm, four points; enough steps
at a high enough rate, eight. What does not: averaging; batches of 512 beside 128 at equal cost; batches of
1,024 leave too few steps. Four altered copies seem to cost two points, and cost four times the time: half of
them are mirrored, and a mirrored chest is no other film of the same patient. A linear layer over features
that no patient shaped beats every network here.

Fifth: untrained is the control of the audit, which must be at chance there. An epsilon allows no attack an
AUC above e^ε / (1 + e^ε), beside delta. Settings were chosen at ε = 8 on other patients, 1,000 to train and
300 to ask, among six: width 64 and two layers or 32 and one, 36 or 60 steps of 100 to 500, rate .002 to .02.
Unprotected: the same small network, {EPOCHS} epochs. Harmful: the whole family of membership claims.
A private model of 1,000 patients keeps little: at ε = 1 it knows less than who counts codes; at 4, 8 and 16
it keeps about a quarter, two fifths and a half of what the unprotected one gains on counting. Its patients
are not beyond telling from others either: at ε = 8 the AUC has left chance, as epsilon allows, though it is
far below the unprotected one."""
GUARANTEES: Sequence[float | None] = (1.0, 4.0, 8.0, 16.0, None)
Cells = list[Any]


def images(split: str) -> Cases:
    """Images of a split, each a patient of its own."""
    with np.load(IMAGES) as held:
        labels = held[f"{split}_labels"].ravel().astype(np.int64)
        return Cases(np.arange(len(labels)), np.arange(len(labels)), held[f"{split}_images"][:, None], labels)


def network(split: str, width: int, settings: PrivateSettings | None, seed: int, *, normed: bool) -> Cells:
    """Train, and ask a split: AUC and its interval over images, CPU-seconds, noise, weights."""
    train, asked, noise = images("train"), images(split), 0.0
    start = time.process_time()
    recipe = ClassifierRecipe("image", CLASSES, PLAIN, width=width)
    if settings is None:
        model = recipe.fit(train, seed=seed)
    else:
        model = recipe.build(train, seed=seed)
        if not normed:
            without_norm(model.module)
        ledger = fit_private_cases(model, train, settings=replace(settings, seed=seed))
        noise = ledger.mechanisms[0].noise_multiplier
    seconds = time.process_time() - start
    logits = model.logits(asked)
    assert logits is not None
    odds, ill = logits[:, 1] - logits[:, 0], asked.labels == 1
    found = auc(odds[ill], odds[~ill])
    weights = sum(one.numel() for one in model.module.parameters())
    return [found.value, found.low, found.high, seconds, noise, weights]


def without_norm(module: nn.Module) -> None:
    """Take the group norm off."""
    for name, part in module.named_children():
        if isinstance(part, nn.GroupNorm):
            setattr(module, name, nn.Identity())


def asked(
    split: str, width: int, settings: PrivateSettings | None, seeds: int, *, normed: bool = True
) -> list[Cells]:
    """Train with every seed; each is kept, so that an interrupted study goes on."""
    told = "plain" if settings is None else repr(settings)
    first = 0 if split == "val" else 100
    return [
        once(
            f"{split}|{width}|{told}|{normed}|{seed}",
            partial(network, split, width, settings, seed, normed=normed),
            KEPT,
        )
        for seed in range(first, first + seeds)
    ]


def column(runs: list[Cells], place: int = 0) -> list[float]:
    """One figure of every run."""
    return [float(run[place]) for run in runs]


def tried() -> tuple[Table, Table]:
    """Ask validation about settings; and what that choice would have cost, were it charged."""
    table = Table("width", "settings", "validation AUC", "CPU-seconds")
    spent: list[Mechanism] = []
    for width, changed in TRIED:
        settings = replace(STEPPED, **changed)
        run = asked("val", width, settings, 1)[0]
        table.add(width, _said(settings), f"{run[0]:.4f}", f"{run[3]:.0f}")
        spent.append(_mechanism(settings, run))
    for name, value in EARLIER.items():
        table.add(64, f"{name}, 150 steps of 512, averaging 0.9", f"{value:.4f}", "95")
        spent.append(spent[0])
    price = Table("what is released", "ε")
    chosen = _mechanism(CHOSEN, asked("val", CHOSEN_WIDTH, CHOSEN, 1)[0])
    price.add("the one model", f"{epsilon_spent([chosen], DELTA):.1f}")
    price.add(f"all {len(spent)} of the second table", f"{epsilon_spent(spent, DELTA):.1f}")
    return table, price


def _mechanism(settings: PrivateSettings, run: Cells) -> Mechanism:
    rate = settings.expected_batch / len(images("train"))
    return Mechanism("gradients", float(run[4]), rate, settings.steps)


def _said(settings: PrivateSettings) -> str:
    """Say what differs between settings here."""
    words = [
        f"{settings.optimiser} {settings.learning_rate:g}",
        f"{settings.steps} steps of {settings.expected_batch}",
    ]
    return ", ".join([*words, f"averaging {settings.averaging:g}"])


def ablation(seeds: int) -> Table:
    """Change one thing at a time, at one epsilon, on validation."""
    table = Table("training, ε = 8", "validation AUC, mean", "each seed", "CPU-seconds")
    for name, changed in ABLATION.items():
        how = dict(changed)
        normed = bool(how.pop("normed", True))
        runs = asked("val", SMALL_WIDTH, replace(SMALL, **how), seeds, normed=normed)
        _add(table, name, column(runs), float(np.mean(column(runs, 3))))
    wider = asked("val", CHOSEN_WIDTH, CHOSEN, 1)[0]
    _add(table, "(the network of the first table)", wider[:1], float(wider[3]))
    _add(table, "(linear layer over scattering)", once("scattering", scattering, KEPT), 0.0)
    return table


def _add(table: Table, name: str, values: Sequence[Any], seconds: float) -> None:
    each = ", ".join(f"{value:.4f}" for value in values)
    table.add(name, f"{np.mean(values):.4f}", each, f"{seconds:.0f}" if seconds else "")


def scattering() -> Cells:
    """Fit the linear layer over fixed features on the same images, at the same epsilon."""
    splits, _ = scattered()
    settings = LinearSettings(8.0, unit="record")
    return [float(one) for one in areas(Prepared(), splits["train"], splits["val"], settings, 2)]


def tested(seeds: int) -> Table:
    """Ask the test split."""
    table = Table("ε", "seeds", "median AUC", "worst", "best", "mean ± deviation", "images", "asked for")
    networks = (("none", 64, None, PLAIN_SEEDS, 0.955), ("8", CHOSEN_WIDTH, CHOSEN, seeds, 0.945))
    for name, width, settings, count, bar in networks:
        runs = asked("test", width, settings, count)
        found = np.array(column(runs))
        median, middle = float(np.median(found)), runs[int(np.argsort(found)[len(found) // 2])]
        table.add(
            name,
            count,
            f"{median:.4f}",
            f"{found.min():.4f}",
            f"{found.max():.4f}",
            f"{found.mean():.4f} ± {found.std(ddof=1):.4f}",
            f"{middle[1]:.3f} to {middle[2]:.3f}",
            f"≥ {bar}: {'holds' if median >= bar else '**missed**'}",
        )
    return table


def records(guarantee: float | str | None, seed: int) -> Cells:
    """Train on histories, and audit: losses, AUC with its interval, verdict, epsilon spent."""
    members = people(PATIENTS, seed=[36, seed])
    tokens = tokenizer().encode(members)
    model, spent = SmallCausalRecipe(PLAIN, **SIZE).build(tokens.vocabulary_size, seed=seed), 0.0
    if guarantee is None:
        model = target(members, epochs=EPOCHS, seed=seed, **SIZE)
    elif guarantee != "untrained":
        settings = replace(RECORDS, epsilon=float(guarantee), seed=seed)
        spent = fit_private(model, tokens, settings=settings).epsilon
    audit = audited(Pair(model, known(seed)), members, people(PATIENTS, seed=[37, seed]), seed=seed)
    area = finding(audit, "membership.ratio.auc").estimates[0]
    losses = [audit.context["held_out_loss"], audit.context["unigram_loss"]]
    return [*losses, area.value, area.low, area.high, audit.exit_status == 1, spent]


@cache
def known(seed: int) -> CausalModel:
    """Train the reference of a seed."""
    return reference(PATIENTS, seed=seed, epochs=EPOCHS, **SIZE)


def guaranteed(seeds: int) -> Table:
    """Put the models of health records together."""
    table = Table(
        "model", "seed", "loss, nats a code", "unigram", "membership AUC", "most that ε allows", "harmful"
    )
    every: tuple[float | str | None, ...] = ("untrained", *GUARANTEES)
    for one in every:
        name = f"ε = {one:g}" if isinstance(one, float) else one or "unprotected"
        most = f"{1 / (1 + exp(-one)):.4f}" if isinstance(one, float) else ""
        for seed in range(seeds if one != "untrained" else 1):
            run: Cells = once(f"records|{one}|{seed}", partial(records, one, seed), KEPT)
            told = f"{run[2]:.3f} ({run[3]:.3f} to {run[4]:.3f})"
            table.add(name, seed, run[0], run[1], told, most, "yes" if run[5] else "no")
    return table


def main(seeds: int = SEEDS, few: int = FEW) -> None:
    """Choose, measure, ask the test split, and write the page."""
    torch.set_num_threads(1)
    choice, price = tried()
    tables = tested(seeds), choice, price, ablation(few), guaranteed(few)
    write_page("private_networks", __doc__, *tables, notes=NOTES)


if __name__ == "__main__":
    importlib.import_module("studies.private_networks").main(*map(int, sys.argv[1:]))

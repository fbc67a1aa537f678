"""Malicious hospitals: what 1 to 5 of 15 can do to a federated model, by aggregation rule, and who is caught.

PneumoniaMNIST (28 × 28; 4,708 training, 524 validation, 624 test images), **image-level**: the data set names
no patients. A linear layer over 2,025 scattering features, learnt by 20 rounds of five gradient steps at each
of 15 sites, over all of a site's images at once; no transport, no noise. Sizes of sites and their shares of
ill images are drawn (Dirichlet, alpha 1 unless said). Validation images are the coordinator's: they give the
centre of the features, chose the steps, and give the detector recalls and span. Test images judge.

Attacks: *sign flip*; *scaling × 10* (an honest update, ten times as long); *sign flip × 10*; *label flip*
in all of the site's cases; *backdoor*: besides its cases the site learns that its ill images with a white
corner of 3 × 3 pixels are healthy; *backdoor × 10*; *a little is enough*, all attackers sending the same,
or each adding noise as wide as honest sites differ. Malicious sites are drawn anew in each partition. Rules
are told how many there are.

The detector was made with partitions of the seeds 1000 to 1199 and validation images. A first one, that knew
no span, was judged once on a test partition (9000) and saw no backdoor of several sites; then collusion was
measured outside of the span, again with 1000 to 1199, and judged on what is below: honest runs from 6000,
attacked ones from 9100, of which nothing was seen before. What attacks do to seed 1000 had been looked at
with test images too.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import beta
from sklearn.metrics import roc_auc_score

from primum.errors import InputError
from primum.fit.networks import ScatteringNetwork
from primum.records.ragged import IntArray
from primum.train.federated.aggregation import Rule, aggregated
from primum.train.federated.malice import a_little_is_enough, flipped_labels, marked, scaled
from primum.train.federated.partition import unequal_sites
from primum.train.federated.suspicion import History, accused, observe
from studies.attacks import DATA
from studies.tables import Table, write_page

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
SITES, ROUNDS, PARTITIONS = 15, 20, 5
RULES: tuple[Rule, ...] = ("mean", "median", "trimmed_mean", "krum", "multi_krum", "bulyan")
STEPS, RATES, COUNTS = (1, 5, 10), (20.0, 80.0, 320.0), (200, 60, 60, 20, 30, 20, 20, 20)
REFUSED = "refused"
# How strongly the update is scaled, what is done to cases, and how many sites do it.
ATTACKS = {
    "sign flip": (-1.0, "", (1, 2, 3, 4, 5)),
    "scaling × 10": (10.0, "", (1, 2, 3, 4, 5)),
    "sign flip × 10": (-10.0, "", (1, 3, 5)),
    "label flip": (1.0, "labels", (1, 2, 3, 4, 5)),
    "backdoor": (1.0, "mark", (1, 2, 3, 4, 5)),
    "backdoor × 10": (10.0, "mark", (1, 3, 5)),
    "a little is enough": (1.0, "", (1, 2, 3, 4, 5)),
    "a little, with noise": (1.0, "", (3, 5)),
}


@dataclass(frozen=True)
class Run:
    """One federated training; `alone`: accused sites are left out of the mean from then on."""

    seed: int
    attack: str = ""
    malicious: int = 0
    rule: Rule = "mean"
    assumed: int = 0
    watched: bool = False
    alone: bool = False
    alpha: float = 1.0
    sites: int = SITES
    steps: int = 5
    rate: float = 80.0
    rounds: int = ROUNDS


@dataclass(frozen=True)
class Images:
    """Features of all images, prepared once.

    `rows`: training images, then those that are ill once more with the mark, shape (n, features); `gram`:
    their products with each other; `copy`: of each training image, the row of its marked copy, or -1.
    """

    rows: Singles
    gram: Singles
    labels: IntArray
    copy: IntArray
    held: Singles
    held_ill: NDArray[np.bool_]
    test: Singles
    test_ill: NDArray[np.bool_]
    test_marked: Singles


@dataclass(frozen=True)
class Outcome:
    """What came out; `when`: in which round, from 1, each site was first accused, and `why`."""

    weights: Floats
    bad: IntArray
    when: Mapping[str, int]
    why: Mapping[str, str]

    def area(self, *, held: bool = False) -> float:
        data = images()
        rows, ill = (data.held, data.held_ill) if held else (data.test, data.test_ill)
        return float(roc_auc_score(ill, rows @ self.weights))

    def success(self) -> float:
        """Share of ill test images that the mark makes healthy."""
        return float((images().test_marked @ self.weights <= 0).mean())

    def caught(self) -> int:
        return len(self.when.keys() & {str(site) for site in self.bad})


@lru_cache
def images() -> Images:
    """Scatter everything once."""
    network = ScatteringNetwork((1, 28, 28), 2, 1)

    def units(pixels: NDArray[np.uint8]) -> Singles:
        with torch.inference_mode():
            parts = torch.split(torch.from_numpy(pixels)[:, None].float() / 255, 256)
            found: Singles = torch.cat([network.unit_vectors(part) for part in parts]).numpy()
        return found

    with np.load(DATA) as held:
        pixels = {split: held[f"{split}_images"] for split in ("train", "val", "test")}
        labels = {split: held[f"{split}_labels"].ravel().astype(np.int64) for split in pixels}
    validation = units(pixels["val"])
    network.centre = torch.from_numpy(validation.mean(0))

    def ready(found: Singles) -> Singles:
        directions: Singles = network.from_centre(torch.from_numpy(found)).numpy()
        return directions

    ill = {split: labels[split] == 1 for split in pixels}
    train, test = pixels["train"], pixels["test"]
    rows = np.concatenate([ready(units(train)), ready(units(marked(train[ill["train"]])))])
    copy = np.where(ill["train"], len(train) - 1 + np.cumsum(ill["train"]), -1)
    seen = ready(units(test)), ill["test"], ready(units(marked(test[ill["test"]])))
    return Images(rows, rows @ rows.T, labels["train"], copy, ready(validation), ill["val"], *seen)


@dataclass(frozen=True)
class Site:
    """What a site learns from: features, their products, labels, and how many of them are its own."""

    rows: Singles
    gram: Singles
    labels: Singles
    cases: int

    def update(self, weights: Floats, run: Run) -> Floats:
        """Full-batch gradient steps, taken among the cases: weights move by sums of rows."""
        odds = self.rows @ weights.astype(np.float32)
        total = np.zeros_like(odds)
        rate = np.float32(run.rate / len(odds))
        for _ in range(run.steps):
            step = rate * (self.labels - expit(odds))
            total += step
            odds += self.gram @ step
        return (total @ self.rows).astype(np.float64)


@lru_cache(2)
def sites_of(seed: int, alpha: float, sites: int, spoilt: str, bad: tuple[int, ...]) -> list[Site]:
    """Deal the training images, and let malicious sites spoil theirs."""
    data, found = images(), []
    for site, places in enumerate(unequal_sites(data.labels, sites=sites, seed=seed, alpha=alpha)):
        labels, cases = data.labels[places], len(places)
        if site in bad and spoilt == "labels":
            labels = flipped_labels(labels, 2)
        if site in bad and spoilt == "mark":
            copies = data.copy[places][data.copy[places] >= 0]
            places, labels = np.append(places, copies), np.append(labels, np.zeros(len(copies), np.int64))
        gram = data.gram[np.ix_(places, places)]
        found.append(Site(data.rows[places], gram, labels.astype(np.float32), cases))
    return found


def recalls_of(weights: Floats, updates: Floats) -> Floats:
    """Change of recall of both classes on the validation images with each update alone, (sites, 2)."""
    data = images()
    before = data.held @ weights.astype(np.float32)
    said = before[:, None] + data.held @ updates.T.astype(np.float32) > 0
    right, was = said == data.held_ill[:, None], (before > 0) == data.held_ill
    return np.stack([right[one].mean(0) - was[one].mean() for one in (data.held_ill, ~data.held_ill)], axis=1)


def span_of(weights: Floats) -> Floats:
    """Gradients of both classes' losses on the validation images, at these weights and at zero, (4, d)."""
    data = images()
    odds = data.held @ weights.astype(np.float32)
    pulls = [data.held_ill - expit(one) for one in (odds, 0 * odds)]
    return np.stack(
        [(pull[one] @ data.held[one]) for pull in pulls for one in (data.held_ill, ~data.held_ill)]
    ).astype(np.float64)


def federate(run: Run) -> Outcome:
    """Train once."""
    factor, spoilt, _ = ATTACKS.get(run.attack, (1.0, "", ()))
    rng = np.random.default_rng([run.seed, 7])
    bad = np.sort(rng.choice(run.sites, run.malicious, replace=False))
    sites = sites_of(run.seed, run.alpha, run.sites, spoilt, tuple(bad.tolist()))
    cases, names = np.array([float(site.cases) for site in sites]), [str(one) for one in range(run.sites)]
    history: History = {}
    when, why = dict[str, int](), dict[str, str]()
    weights = np.zeros(images().rows.shape[1])
    for number in range(run.rounds):
        updates = np.array([site.update(weights, run) for site in sites])
        updates[bad] = scaled(updates[bad], factor)
        if run.attack.startswith("a little"):
            honest = np.delete(updates, bad, axis=0)
            updates[bad] = a_little_is_enough(honest, run.malicious)
            if run.attack.endswith("noise"):
                updates[bad] += honest.std(0) * rng.standard_normal(updates[bad].shape)
        if run.watched:
            recalls = dict(zip(names, recalls_of(weights, updates), strict=True))
            sent = dict(zip(names, updates, strict=True))
            history = observe(history, sent, number=number, recalls=recalls, span=span_of(weights))
            for one in accused(history):
                when.setdefault(one.site, number + 1)
                why.setdefault(one.site, str(one.reason))
        kept = [row for row, name in enumerate(names) if not (run.alone and name in when)]
        weights += aggregated(updates[kept], cases[kept], rule=run.rule, malicious=run.assumed)
    return Outcome(weights, bad, when, why)


def chosen() -> Table:
    """AUC on validation by steps and rate: median and worst of three partitions."""
    table = Table("local steps", *(f"rate {rate:g}" for rate in RATES))
    for steps in STEPS:
        cells = []
        for rate in RATES:
            runs = [
                federate(Run(seed, steps=steps, rate=rate)).area(held=True) for seed in (2000, 2001, 2002)
            ]
            cells.append(said(runs))
        table.add(steps, *cells)
    return table


def said(
    values: Sequence[float], *, worst: Callable[[Sequence[float]], float] = min, form: str = ".3f"
) -> str:
    return f"{np.median(values):{form}} ({worst(values):{form}})"


def attacked(partitions: int) -> tuple[Table, Table, Table]:
    """Measure final AUC, backdoor success, and who was accused, by attack and by rule."""
    headings = [rule.replace("_", " ") for rule in RULES] + ["mean of the unaccused"]
    area = Table("attack", "malicious", *headings)
    success = Table("attack", "malicious", *headings)
    power = Table("attack", "malicious", "accused of them", "in round", "reasons", "honest sites accused")
    for attack, malicious in [("", 0), *((one, f) for one, how in ATTACKS.items() for f in how[2])]:
        found: list[list[Outcome]] = [[] for _ in headings]
        for seed in range(9100, 9100 + partitions):
            run = Run(seed, attack, malicious, assumed=malicious or 3)
            for column, rule in zip(found, RULES, strict=False):
                # Beyond its inequality Bulyan refuses, tested where it is made.
                if rule != "bulyan" or malicious <= 3:
                    column.append(federate(replace(run, rule=rule)))
            found[-1].append(federate(replace(run, watched=True, alone=True)))
        name = attack or "none"
        area.add(
            name,
            malicious,
            *(said([one.area() for one in column]) if column else REFUSED for column in found),
        )
        if not attack or attack.startswith("backdoor"):
            cells = [said([one.success() for one in column], worst=max, form=".1%") if column else REFUSED
                     for column in found]  # fmt: skip
            success.add(name, malicious, *cells)
        power.add(name, malicious, *watched_cells(found[-1], malicious))
    return area, success, power


def watched_cells(runs: Sequence[Outcome], malicious: int) -> list[str]:
    """Of malicious sites those accused, since when and why, and of honest ones."""
    bad = [{str(site) for site in one.bad} for one in runs]
    rounds = [
        one.when[site] for one, sites in zip(runs, bad, strict=True) for site in one.when.keys() & sites
    ]
    why = Counter(
        one.why[site] for one, sites in zip(runs, bad, strict=True) for site in one.when.keys() & sites
    )
    honest = sum(len(one.when) for one in runs) - len(rounds)
    return [
        f"{len(rounds)} of {malicious * len(runs)}" if malicious else "",
        f"{np.median(rounds):g} ({max(rounds)})" if rounds else "",
        ", ".join(f"{reason} {count}" for reason, count in why.most_common()),
        f"{honest} of {(SITES - malicious) * len(runs)}",
    ]


def false_alarms(counts: Sequence[int]) -> Table:
    """Count honest sites that are accused, by how much sites differ and how they learn."""
    table = Table(
        "sites", "alpha", "steps × rate", "rounds", "rule", "runs", "accusing runs", "95 % interval",
        "accused sites", "of all",
    )  # fmt: skip
    seed = 6000
    settings = [
        Run(0), Run(0, rounds=30), Run(0, alpha=0.3), Run(0, alpha=10.0),
        Run(0, steps=1, rate=320.0, rounds=30), Run(0, steps=10, rate=320.0),
        Run(0, rule="multi_krum", assumed=3), Run(0, sites=8),
    ]  # fmt: skip
    for run, count in zip(settings, counts, strict=True):
        outcomes = [federate(replace(run, seed=seed + one, watched=True)) for one in range(count)]
        seed += count
        total = sum(len(one.when) for one in outcomes)
        hit = sum(bool(one.when) for one in outcomes)
        low = beta.ppf(0.025, hit, count - hit + 1) if hit else 0.0
        high = beta.ppf(0.975, hit + 1, count - hit)
        table.add(
            run.sites,
            f"{run.alpha:g}",
            f"{run.steps} × {run.rate:g}",
            run.rounds,
            run.rule.replace("_", " "),
            count,
            hit,
            f"{low:.1%} to {high:.1%}",
            f"{total} of {run.sites * count}",
            f"{total / run.sites / count:.2%}",
        )
    return table


def refusal() -> str:
    """Hear what Bulyan says of four malicious sites among 15."""
    try:
        aggregated(np.zeros((SITES, 1)), np.ones(SITES), rule="bulyan", malicious=4)
    except InputError as error:
        return str(error)
    raise AssertionError("Bulyan took too few sites")


def notes(seconds: float) -> str:
    """Say what the tables show, and what they do not."""
    return f"""\
Final AUC on the test images, median (worst) of the partitions; nothing was attacked in the first row,
where rules assume three malicious sites. The last column leaves accused sites out of the mean from the
round of their accusation on. Bulyan beyond its inequality: "{refusal()}"

Second: share of ill test images that the mark makes healthy, median (worst).

Third: the detector, in the runs of the last column. Accused is who reaches an e-value of sites / .05, in
three rounds at the earliest; the round is the median (last). Reasons: *norm*, longer than others;
*direction*, turned from them; *collusion*, two that go together beyond what their classes explain;
*recall*, worse on the validation images.

Fourth: **honest runs, where every accusation is false**. The interval is of runs (Clopper-Pearson); the
budget is 5 % of runs. It is kept where the detector was made, five steps of 80. **Elsewhere it need not be**:
see one step of 320, a single gradient, which differs in the same way round after round; ten steps of 320
accused an honest site in 2 of 20 runs of other seeds. So `primum train federated simulate` takes five steps
of 80, and accuses nobody in other trainings; with epsilon 8 at every site see
docs/studies/fifteen_hospitals.md. All of it was made on these 4,708 images: other partitions of them are not
other hospitals.

Fifth: AUC on validation, median (worst) of three partitions. Taken are five steps of 80, in reach of the
best: longer steps take sites further apart. They were taken with the seeds 1000 to 1002, where the same
was seen; this table repeats it with others.

What is not seen: a backdoor in one site is as good as invisible (it is not alone in going its own way, and
does little: 4 % success, 15 % at worst), and five sites with a backdoor make a custom that no longer
stands out. There Krum and Multi-Krum hold, and the mean without the accused does not; on honest sites Krum
costs most. A little is enough from one site is the mean of the others; from several it is found only
because they send the same: **with noise of their own, none of 40 was accused**, and none did harm. A site
that stays six to eight deviations out, and never further, is not accused. No attacker here adapts to the
detector. Sign flips and label flips hardly move the AUC of this model, since most sites outvote them; ten
times as long, sign flips destroy it.

All of this: {seconds:.0f} CPU-seconds."""


def main(partitions: int = PARTITIONS, counts: Sequence[int] = COUNTS) -> None:
    """Write the page."""
    torch.set_num_threads(1)
    begun = time.process_time()
    choice = chosen()
    area, success, power = attacked(partitions)
    false = false_alarms(counts)
    spent = time.process_time() - begun
    write_page("malicious_sites", __doc__, area, success, power, false, choice, notes=notes(spent))


if __name__ == "__main__":
    main(1, [2] * 8) if "--quick" in sys.argv else main()

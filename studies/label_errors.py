"""Wrong labels: how many of those planted are found, beside the best that any score could do.

Shares of the labels of training cases are flipped at random, on the project's synthetic images (difficulty
.5, 1,200 patients with several cases each) and on PneumoniaMNIST's training images (image-level; left out
where the data are not there). `data.labels` sees only the flipped labels. *Found*: of the flipped, those on
the list of labels to look at again. *False*: of the list, those that had not been flipped. Share: of wrong
labels, as estimated, with its 95 % interval.

**The ceiling.** A list can be no better than the classifier that it leans on. Take the two classes as normal,
one deviation wide and √2·Φ⁻¹(AUC) apart (binormal), where the AUC is that of the out-of-fold answers against
the labels before they were flipped. The best list of any length then takes the cases whose posterior odds of
being flipped are highest (Neyman & Pearson). *Ceiling* is the share of the flipped on such a list that has as
many false as ours had, for a classifier that already knows the two distributions; being normal is an
idealisation, which a real classifier can exceed.

**False alarms.** Clean labels: scores from simulated worlds (300 and 1,500 patients), 40 draws each, and the
whole family on synthetic tables and images as they are. *Invisible* is the world in which the test must fail:
3 of 100 ill people show nothing, and nobody can tell them from healthy people with a wrong label.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from primum.audits.data.observe import observe_data
from primum.audits.privacy.label_only import Kind
from primum.evidence.contrast import Frame
from primum.evidence.label_noise import flipped_labels
from primum.evidence.ranking import auc
from primum.evidence.tainted import tainted_claims
from primum.evidence.verdicts import judge
from primum.records.cases import Cases, CasesInMemory
from primum.records.synthetic_cases import ImageSettings, synthetic_images, synthetic_table
from studies.tables import Table, write_page

IMAGES = Path(__file__).parents[2] / "shared/data/images-medmnist/pneumoniamnist.npz"
RATES, DRAWS = (0.0, 0.01, 0.02, 0.05, 0.1), 40
KEPT = Path("studies/cache/label_errors.json")
FRAME = Frame("study", "study", "nobody", "observed", 0)
Floats = NDArray[np.float64]


def pneumonia() -> Cases:
    """Training images, each a patient of its own."""
    with np.load(IMAGES) as held:
        images, labels = held["train_images"][:, None], held["train_labels"].ravel().astype(np.int64)
    return Cases(np.arange(len(labels)), np.arange(len(labels)), images, labels)


def ceiling(area: float, rate: float, share: float, false: float) -> float:
    """Best share of the flipped on a list of which no more than `false` are not flipped."""
    apart = np.sqrt(2) * ndtri(area)
    odds = np.linspace(-12, 12, 4001)
    yes = apart / 2 - (odds + np.log((1 - rate) * share / (rate * (1 - share)))) / apart
    no = apart / 2 + (odds + np.log((1 - rate) * (1 - share) / (rate * share))) / apart
    found = (1 - share) * ndtr(yes) + share * ndtr(apart - no)
    wrongly = share * ndtr(yes - apart) + (1 - share) * ndtr(-no)
    falsely = (1 - rate) * wrongly / np.maximum((1 - rate) * wrongly + rate * found, 1e-300)
    return float(found[falsely <= max(false, falsely.min())].max())


def once(key: str, make: Callable[[], list[object]], kept: Path = KEPT) -> list[object]:
    """Make a row, or take it from those that an interrupted run kept."""
    if key not in _kept(kept):
        made = make()
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(json.dumps({**_kept(kept), key: made}))
        print(key, made, flush=True)
    return _kept(kept)[key]


def _kept(kept: Path) -> dict[str, list[object]]:
    found: dict[str, list[object]] = json.loads(kept.read_text()) if kept.exists() else {}
    return found


def flips(name: str, cases: Cases, table: Table, *, seeds: int) -> None:
    """Flip, ask, compare."""
    for rate in RATES:
        for seed in range(seeds if rate else 1):
            cells = once(f"{name}|{rate:.0%}|{seed}", partial(row, cases, rate, seed))
            table.add(name, f"{rate:.0%}", seed, *cells)


def row(cases: Cases, rate: float, seed: int) -> list[object]:
    """Flip one share of the labels."""
    flipped = np.random.default_rng([seed, 41]).random(len(cases)) < rate
    given = replace(cases, labels=np.where(flipped, 1 - cases.labels, cases.labels))
    only = ("data.labels",)
    observed = observe_data(CasesInMemory((given,), ("0", "1")), kind="image", seed=seed, only=only)
    finding = judge(tainted_claims(observed, FRAME, only=only)[0])[0]
    listed, score = observed.columns["flagged"] > 0, observed.columns["score:1"]
    true = cases.labels == 1
    area = auc(score[true], score[~true]).value
    false = float((listed & ~flipped).sum() / max(1, listed.sum()))
    found = finding.estimates[0]
    power: list[object] = ["", "", ""]
    if rate:
        best = ceiling(area, rate, float(true.mean()), false)
        power = [float((listed & flipped).sum() / flipped.sum()), false, best]
    told = f"{found.value:.3f} ({found.low:.3f}-{found.high:.3f})"
    return [round(area, 4), *power, int(listed.sum()), told, finding.p_value, finding.verdict]


def world(
    name: str, patients: int, random: np.random.Generator
) -> tuple[Floats, NDArray[np.bool_], NDArray[np.int64]]:
    """Scores, clean labels and patients."""
    patient = np.arange(patients)
    ill = random.random(patients) < (random.uniform(0.2, 0.8) if name == "binormal" else 0.5)
    noise = random.standard_normal(patients)
    if name == "binormal":
        return np.where(ill, random.uniform(0.7, 4) + random.uniform(0.8, 1.3) * noise, noise), ill, patient
    if name == "severity":
        return noise + ill * random.uniform(1.5, 5, patients), ill, patient
    if name == "overconfident":
        return np.sinh(3 * (noise + 2.5 * ill)), ill, patient
    if name == "patients err as one":
        patient = np.repeat(patient, random.integers(1, 5, patients))
        score = 1.2 * noise[patient] + 0.2 * random.standard_normal(len(patient))
        return score, random.random(patients)[patient] < 1 / (1 + np.exp(-2.5 * score)), patient
    return noise + ill * np.where(random.random(patients) < 0.03, 0, 3.5), ill, patient


def null(name: str, patients: int) -> list[object]:
    """Count alarms of the label test in one clean world."""
    seen = []
    for draw in range(DRAWS):
        found = flipped_labels(*world(name, patients, np.random.default_rng([draw, patients])), seed=draw)
        tainted = found.p_value < 0.05 and found.share >= 0.02
        high = max(float(np.quantile(found.resampled, 0.975)), found.share + 3.69 / patients)
        seen.append((float(found.p_value < 0.05), float(tainted), float(high < 0.02), found.share))
    return [DRAWS, *map(float, np.mean(seen, axis=0))]


def nulls() -> Table:
    """Put all clean worlds together."""
    table = Table("Clean world", "Patients", "Draws", "p < .05", "Tainted", "None found", "Share, mean")
    for name in ("binormal", "severity", "overconfident", "patients err as one", "invisible"):
        for patients in (300, 1500):
            table.add(name, patients, *once(f"{name}|{patients}", partial(null, name, patients)))
    return table


def clean(kind: Kind, patients: int, seed: int) -> list[object]:
    """Tell, of each claim about clean cases, whether p < .05, whether harmful, whether none found."""
    draw = synthetic_table if kind == "table" else synthetic_images
    members = CasesInMemory((draw(patients, seed=900 + seed),), ("0", "1"))
    observed = observe_data(members, kind=kind, seed=seed)
    return [
        [one.test, (one.p_value or 0.0) < 0.05, one.harmful, one.verdict == "none_found"]
        for one in judge(tainted_claims(observed, FRAME)[0])
    ]


def whole() -> Table:
    """Count alarms of the family on clean synthetic cases."""
    table = Table("Clean cases", "Runs", "Test", "p < .05", "Tainted", "None found")
    sets: tuple[tuple[Kind, int, int], ...] = (("table", 400, 30), ("image", 300, 4))
    for kind, patients, runs in sets:
        told: dict[str, list[list[float]]] = {}
        for seed in range(runs):
            for one in once(f"whole {kind}|{seed}", partial(clean, kind, patients, seed)):
                test, *rest = cast(list[str], one)
                told.setdefault(test, []).append([float(value) for value in rest])
        for test, values in told.items():
            table.add(f"{kind}, {patients} patients", runs, test, *map(float, np.mean(values, axis=0)))
    return table


def main() -> None:
    """Run, print and write the tables."""
    table = Table(
        "Cases",
        "Flipped",
        "Seed",
        "AUC before",
        "Found",
        "False",
        "Ceiling",
        "Listed",
        "Share",
        "p",
        "Verdict",
    )
    flips(
        "synthetic images",
        synthetic_images(1200, seed=3, settings=ImageSettings(difficulty=0.5)),
        table,
        seeds=2,
    )
    if IMAGES.exists():
        flips("PneumoniaMNIST", pneumonia(), table, seeds=1)
    write_page("label_errors", __doc__, table, nulls(), whole())


if __name__ == "__main__":
    main()

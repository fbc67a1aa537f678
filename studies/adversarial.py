"""Training against attacks: what of the AUC is left under attack, and what it costs without one.

PneumoniaMNIST (28 × 28, image-level: the data set names no patients), the convolutional network of
`primum.fit.networks` (60,706 parameters, group normalisation), trained by `primum train adversarial`'s own
code for 8 epochs of batches of 64. Attacks are the audit's (`primum.audits.robustness`): PGD-20 with one
random start on all 624 test images, the 3 × 3 patch at the best place on 150 of them, drawn anew for each
seed; answers after rounding to whole grey levels. Epochs, rate, steps and weights were chosen on the
validation images, with another seed; the test images were asked once.

`python -m studies.adversarial validation` shows what was chosen from.
"""

import importlib
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from primum.audits.robustness.gradient import pgd
from primum.audits.robustness.patch import patch
from primum.audits.robustness.room import ask
from primum.fit.classifier_recipe import ClassifierRecipe
from primum.fit.loop import LoopSettings
from primum.models.torch_door import TorchClassifier
from primum.records.cases import Cases
from primum.train.adversarial import AdversarialSettings
from primum.train.learners import CaseLearner
from studies.attacks import CLASSES, DATA, ROOM, cases_of, told
from studies.label_errors import once
from studies.tables import Table, write_page

SEEDS, PATCHED = 3, 150
KEPT = Path("studies/cache/adversarial.json")
LOOP = LoopSettings(8, batch=64, learning_rate=3e-3, warmup=0.15)
WAYS: dict[str, AdversarialSettings | None] = {
    "plain": None,
    "PGD, 8/255": AdversarialSettings("pgd", 8 / 255, 5),
    "TRADES, 8/255": AdversarialSettings("trades", 8 / 255, 5, 6.0),
    "patch, 3 × 3": AdversarialSettings("patch", steps=5, weight=0.5, patch=3),
}
# What the validation images were asked about besides.
TRIED: dict[str, AdversarialSettings] = {
    "patch, share .8": AdversarialSettings("patch", steps=5, weight=0.8, patch=3),
    "patch, side 4": AdversarialSettings("patch", steps=5, weight=0.5, patch=4),
    "PGD, 10/255": AdversarialSettings("pgd", 10 / 255, 5),
}
NEEDED = {
    "PGD, 8/255": {"AUC": 0.935, "AUC at 4/255": 0.82, "AUC at 8/255": 0.65},
    "patch, 3 × 3": {"AUC": 0.955},
}


def of(split: str, settings: AdversarialSettings | None, seed: int) -> list[object]:
    """Train, and attack on a split: names and numbers."""
    torch.set_num_threads(1)
    data = np.load(DATA)
    learner = CaseLearner(ClassifierRecipe("image", CLASSES, LOOP), cases_of(data, "train"))
    if settings is not None:
        learner = learner.against(settings)
    model = learner.build(learner.patients, seed=seed)
    start = time.process_time()
    torch.manual_seed(seed)
    learner.fit(model, learner.patients, epochs=LOOP.epochs, seed=seed)
    seconds = time.process_time() - start
    return list({**attacked(model, cases_of(data, split), seed), "CPU-seconds": seconds}.items())


def attacked(model: TorchClassifier, cases: Cases, seed: int) -> dict[str, float]:
    """Attack a model."""
    white: Any = model
    few = cases.select(np.random.default_rng(seed).permutation(len(cases))[:PATCHED])
    before, found = ask(model, few).right, {"AUC": told(ask(model, cases))[0]}
    found["Balanced accuracy"] = told(ask(model, cases))[1]
    for grey in (4, 8):
        answers = pgd(white, cases, ROOM, budget=grey / 255, seed=seed)
        found[f"AUC at {grey}/255"], found[f"balanced at {grey}/255"], _ = told(answers)
    patched = patch(white, few, ROOM, kind="image", size=3, seed=seed)
    found["Turned by 3 × 3"] = float(1 - patched.right[before].mean())
    return found


def rows(split: str, ways: dict[str, Any], seeds: list[int]) -> dict[str, list[dict[str, float]]]:
    """Train every way with every seed; each is kept, so that an interrupted study goes on."""
    found: dict[str, list[dict[str, float]]] = {}
    for name, settings in ways.items():
        for seed in seeds:
            said: Any = once(f"{split}|{name}|{seed}", partial(of, split, settings, seed), KEPT)
            found.setdefault(name, []).append(dict(said))
    return found


def main() -> None:
    """Run, print and write the tables."""
    found = rows("test", WAYS, list(range(SEEDS)))
    names = list(next(iter(found.values()))[0])
    whole = Table("Training", *names)
    for name, runs in found.items():
        whole.add(name, *(_cell([run[one] for run in runs]) for one in names))
    asked = Table("Asked for", "Seen, mean of seeds", "Worst seed", "Holds")
    for name, bars in NEEDED.items():
        for what, bar in bars.items():
            seen = [run[what] for run in found[name]]
            mean = float(np.mean(seen))
            asked.add(f"{name}: {what} ≥ {bar}", mean, min(seen), mean >= bar)
    turned = [run["Turned by 3 × 3"] for run in found["patch, 3 × 3"]]
    mean = float(np.mean(turned))
    asked.add("patch, 3 × 3: turned ≤ 25 %", mean, max(turned), mean <= 0.25)
    write_page("adversarial", __doc__, asked, whole)


def _cell(values: list[float]) -> str:
    """Mean, and each seed in brackets."""
    digits = 3 if max(values) < 5 else 0
    return f"{np.mean(values):.{digits}f} ({', '.join(f'{value:.{digits}f}' for value in values)})"


if __name__ == "__main__":
    module = importlib.import_module("studies.adversarial")
    module.rows("val", {**module.WAYS, **module.TRIED}, [7]) if "validation" in sys.argv else module.main()

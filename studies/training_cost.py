"""What protected training costs beside plain training: time and memory.

Each row trains the convolutional network of `primum.fit.networks` (60,706 parameters) on 2,000 synthetic
images of 28 x 28 pixels, each seen twice, in a process of its own with one thread; three rounds, all rows in
turn, the median is told. Private: batches of 250 patients. Opacus's own way is its hooks (`GradSampleModule`)
under the same optimiser; ours asks for one gradient a patient by `vmap`. Memory is the most that the process
took, the libraries (torch, opacus, transformers) among it, which plain training loads too.

    python -m studies.training_cost
"""

import importlib
import json
import os
import resource
import subprocess
import sys
import time
from statistics import median

import numpy as np

from studies.tables import Table, write_page

IMAGES, PASSES, ROUNDS = 1000, 2, 3
ROWS = (
    "plain",
    "private",
    "private, opacus's hooks",
    "private, 4 copies",
    "adversarial, PGD of 5 steps",
    "adversarial, TRADES of 5 steps",
    "adversarial, patch of 5 steps",
)


def train(row: str) -> None:
    """Train one way; print seconds of the processor and MiB."""
    import torch

    from primum.fit.classifier_recipe import ClassifierRecipe
    from primum.fit.loop import LoopSettings
    from primum.records.synthetic_cases import synthetic_images
    from primum.train.adversarial import AdversarialSettings
    from primum.train.learners import CaseLearner
    from primum.train.private import PrivateSettings

    torch.set_num_threads(1)
    cases = synthetic_images(IMAGES, seed=1)
    cases = cases.select(np.arange(2000))
    learner = CaseLearner(
        ClassifierRecipe("image", ("no", "yes"), LoopSettings(PASSES, batch=50, learning_rate=1e-3)), cases
    )
    model = learner.build(learner.patients, seed=0)
    people = len(learner.patients)
    start = time.process_time()
    if row.startswith("private"):
        copies = 4 if "copies" in row else 0
        settings = PrivateSettings(
            None, noise_multiplier=1.0, steps=PASSES * people // 250, expected_batch=250, copies=copies
        )
        if "hooks" in row:
            _by_hooks(model, learner, settings)
        else:
            learner.fit_private(model, settings=settings)
    else:
        methods = {"PGD": "pgd", "TRADES": "trades", "patch": "patch"}
        for name, method in methods.items():
            if name in row:
                learner = learner.against(AdversarialSettings(method, steps=5))  # type: ignore[arg-type]
        learner.fit(model, learner.patients, epochs=PASSES, seed=0)
    seconds = time.process_time() - start
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024]))


def _by_hooks(model: object, learner: object, settings: object) -> None:
    """Do the same steps with the gradients that opacus collects: one case a patient's."""
    from typing import Any

    import torch
    from opacus import GradSampleModule

    from primum.train import private

    given: Any = (model, learner, settings)
    classifier, patients, how = given
    wrapped = GradSampleModule(classifier.module.train(), loss_reduction="sum")
    cases = patients.cases
    people, owner = np.unique(cases.subject_ids, return_inverse=True)

    class Hooked:
        patients, records = len(people), len(cases)

        def __call__(self, sampled: Any, random: Any) -> Any:
            for first in range(0, len(sampled), 64):
                part = sampled[first : first + 64]
                rows = np.flatnonzero(np.isin(owner, part))
                inputs = classifier.card.input.prepared(np.asarray(cases.inputs)[rows])
                logits = wrapped(torch.from_numpy(inputs).requires_grad_())
                labels = torch.from_numpy(cases.labels[rows])
                torch.nn.functional.cross_entropy(logits, labels, reduction="sum").backward()  # type: ignore[no-untyped-call]
                place = torch.from_numpy(np.searchsorted(np.sort(part), owner[rows]))
                for weight in classifier.module.parameters():
                    each = weight.grad_sample
                    weight.grad_sample = torch.zeros((len(part), *weight.shape)).index_add_(0, place, each)
                yield

    private.descend(classifier.module, Hooked(), settings=how)


def main() -> None:
    """Run, print and write the table."""
    found: dict[str, list[list[float]]] = {row: [] for row in ROWS}
    for _ in range(ROUNDS):
        for row in ROWS:
            words = [sys.executable, "-W", "ignore", "-m", "studies.training_cost", row]
            alone = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(words, capture_output=True, text=True, check=True, env=alone)
            found[row].append(json.loads(done.stdout.splitlines()[-1]))
            print(row, found[row][-1], file=sys.stderr, flush=True)
    table = Table("Training", "CPU-seconds", "Times plain", "Peak memory, MiB")
    plain = median(one[0] for one in found["plain"])
    for row, runs in found.items():
        seconds = median(one[0] for one in runs)
        table.add(row, round(seconds, 1), f"{seconds / plain:.1f}", int(median(one[1] for one in runs)))
    write_page("training_cost", __doc__, table)


if __name__ == "__main__":
    ours = importlib.import_module("studies.training_cost")
    ours.train(sys.argv[1]) if len(sys.argv) > 1 else ours.main()

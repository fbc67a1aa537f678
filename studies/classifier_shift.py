"""PneumoniaMNIST: its official test part is no fair held-out side, and half of its training part is.

The same network (15,378 parameters) is trained for eight epochs on all images of the training part and set
against the official test part, and for each of three seeds on a random half of the training part and set
against the other half. Images are not known by patient. The plain attack is the loss; no new questions are
asked of the model.

    python -m studies.classifier_shift pneumoniamnist.npz
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from primum.evidence.identity import ModelRef
from primum.fit.classifier_recipe import ClassifierRecipe
from primum.fit.loop import LoopSettings
from primum.models.opened import OpenedClassifier
from primum.records.case_folder import open_cases
from primum.records.cases import Cases, CasesInMemory, join_cases
from primum.workflows.classifier_audit import ClassifierPlan, run_classifier_audit
from studies.tables import Table, write_page

EPOCHS, WIDTH, SEEDS = 8, 32, 3


@dataclass(frozen=True)
class Seen:
    """What is told of one audit."""

    blind: float
    loss: float
    verdict: str
    exit_status: int
    accuracy: float


def audited(members: Cases, held_out: Cases, classes: tuple[str, ...], *, seed: int) -> Seen:
    """Train on the members and audit."""
    loop = LoopSettings(EPOCHS, batch=64, learning_rate=3e-3, warmup=0.15)
    model = ClassifierRecipe("image", classes, loop, WIDTH).fit(members, seed=seed)
    opened = OpenedClassifier(ModelRef("study", "0" * 64, "declared", {}), model, 0, answers_anew=False)
    sides = [CasesInMemory((one,), classes, has_patients=False) for one in (members, held_out)]
    plan = ClassifierPlan(opened, sides[0], sides[1], kind="image", only=("membership",), seed=seed)
    audit = run_classifier_audit(plan).audit
    found = {finding.test: finding for finding in audit.findings}
    combined = found["membership.combined.auc"]
    blind = next(one.value for one in combined.estimates if one.name == "blind_auc")
    return Seen(
        blind,
        found["membership.loss.auc"].estimates[0].value,
        combined.verdict,
        audit.exit_status,
        float(audit.context["held_out_balanced_accuracy"] or 0),
    )


def main(file: Path) -> None:
    """Run, print and write the table."""
    folder = open_cases(file)
    train, test = (join_cases(list(folder.split(name).shards())) for name in ("train", "held_out"))
    table = Table(
        "Sides", "Members", "Held-out", "Held-out balanced accuracy", "Blind AUC", "AUC of the loss",
        "Verdict", "Exit status", "Required", "Holds",
    )  # fmt: skip

    def add(name: str, members: Cases, held_out: Cases, seed: int, *, shifted: bool) -> None:
        seen = audited(members, held_out, folder.classes, seed=seed)
        holds = (seen.verdict == "confounded") == shifted and seen.verdict != "leak"
        said = "confounded" if shifted else "neither confounded nor leak"
        table.add(
            name, len(members), len(held_out), seen.accuracy, seen.blind, seen.loss, seen.verdict,
            seen.exit_status, said, holds,
        )  # fmt: skip

    add("official training and test part", train, test, 0, shifted=True)
    for seed in range(SEEDS):
        order = np.random.default_rng(seed).permutation(len(train))
        half, other = (train.select(np.sort(part)) for part in np.array_split(order, 2))
        add(f"random halves of the training part, seed {seed}", half, other, seed, shifted=False)
    write_page("classifier_shift", __doc__, table)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

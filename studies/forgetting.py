"""Forgetting patients: the same bits as never having seen them, what it costs, and whether they still show.

Synthetic tables of 1,000 training patients, the network `table` of `primum.fit.networks`, trained for so long
(80 passes in all) that training patients can be told from others. Patients to forget are drawn at random,
three draws a row. Equal: every weight after forgetting is bit by bit that of a training, from nothing, on
the other patients. Cost: optimiser steps of forgetting over those of that full training, and the same of the
processor. The AUC of the diagnosis is on 500 held-out patients.

Membership: the audit's log-odds of the true class, mean over a patient's cases, of the forgotten against the
held-out patients; .5 is chance, and the interval is the audit's (`primum.evidence.auc`). Before: the model
that was to forget them.
"""

import importlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from primum.evidence.ranking import auc
from primum.fit.classifier_recipe import ClassifierRecipe
from primum.fit.loop import LoopSettings
from primum.models.score_matrix import score_cases
from primum.models.torch_door import TorchClassifier
from primum.records.cases import Cases
from primum.records.synthetic_cases import SYNTHETIC_CASES, CaseSettings, synthetic_table
from primum.train.learners import CaseLearner
from primum.train.shards import ShardSettings, Stage, train_shards
from studies.tables import Table, write_page
from studies.world import in_parallel

PATIENTS, HELD_OUT, DRAWS = 1000, 500, 3
DIVISIONS = ((1, 1), (1, 5), (2, 5), (5, 1), (5, 5), (10, 5), (20, 5))
FORGOTTEN = (1, 10, 100)
RECIPE = ClassifierRecipe(
    "table", SYNTHETIC_CASES["table"][1], LoopSettings(80, batch=32, learning_rate=3e-3, warmup=0.15)
)
EVERYONE = synthetic_table(PATIENTS + HELD_OUT, seed=77, settings=CaseSettings(difficulty=2.0))


class Shelf(dict[str, Any]):
    """Keeps in memory."""

    def put(self, name: str, arrays: Mapping[str, Any], /) -> None:
        """Keep copies."""
        self[name] = {one: np.array(value) for one, value in arrays.items()}


def of(patients: np.ndarray) -> Cases:
    return EVERYONE.select(np.flatnonzero(np.isin(EVERYONE.subject_ids, patients)))


def trained(
    cases: Cases, settings: ShardSettings, shelf: Shelf
) -> tuple[TorchClassifier, list[Stage], float]:
    """Train, and take the time."""
    torch.set_num_threads(1)
    learner, start = CaseLearner(RECIPE, cases), time.process_time()
    models, stages = train_shards(learner, settings, described={}, keep=shelf)
    return learner.together(models), stages, time.process_time() - start


def recognised(model: TorchClassifier, patients: np.ndarray, others: np.ndarray) -> Any:
    """AUC of patients against others, by how sure the model is of their labels."""
    scores = []
    for people in (patients, others):
        cases = of(people)
        odds = score_cases(model, cases)[0]
        _, place = np.unique(cases.subject_ids, return_inverse=True)
        scores.append(np.bincount(place, odds) / np.bincount(place))
    return auc(*scores)


def one(job: tuple[int, int]) -> list[list[object]]:
    """Forget 1, 10 and 100 patients of one division."""
    settings = ShardSettings(*job, seed=5)
    people = np.unique(EVERYONE.subject_ids)
    rng = np.random.default_rng(12)
    order = rng.permutation(people)
    train, held_out = order[:PATIENTS], order[PATIENTS:]
    shelf = Shelf()
    before, *_ = trained(of(train), settings, shelf)
    cases, rows = of(held_out), []
    diagnosis = before.predict_proba(cases)[:, 1]
    right = auc(diagnosis[cases.labels == 1], diagnosis[cases.labels == 0]).value
    for count in FORGOTTEN:
        equal, steps, seconds, all_gone, still = True, [], [], [], []
        for _ in range(DRAWS):
            gone = rng.choice(train, count, replace=False)
            rest = of(np.setdiff1d(train, gone))
            after, repeated, took = trained(rest, settings, Shelf(shelf))
            fresh, every, whole = trained(rest, settings, Shelf())
            equal &= _same(after, fresh)
            anew = sum(stage.steps for stage in repeated if not stage.found)
            steps.append(anew / sum(stage.steps for stage in every))
            seconds.append(took / whole)
            if count == max(FORGOTTEN):
                all_gone.append(recognised(before, gone, held_out))
                still.append(recognised(after, gone, held_out))
        seen = ["", ""]
        if count == max(FORGOTTEN):
            seen = [
                "; ".join(f"{a.value:.2f} ({a.low:.2f}-{a.high:.2f})" for a in part)
                for part in (all_gone, still)
            ]
        cost = f"{np.mean(steps):.0%}", f"{np.mean(seconds):.0%}"
        rows.append([*job, right, count, equal, *cost, *seen])
    return rows


def _same(one: TorchClassifier, other: TorchClassifier) -> bool:
    first, second = one.module.state_dict(), other.module.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def main() -> None:
    """Run, print and write the table."""
    table = Table(
        "Shards",
        "Slices",
        "AUC of the diagnosis",
        "Forgotten",
        "Equal bit by bit",
        "Steps, of a full training",
        "Time, of a full training",
        "Recognised before",
        "Recognised after",
    )
    for rows in in_parallel(one, DIVISIONS):
        for row in rows:
            table.add(*row)
    write_page("forgetting", __doc__, table)


if __name__ == "__main__":
    importlib.import_module("studies.forgetting").main()

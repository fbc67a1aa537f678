"""Every kind of case through one audit: what was learnt by heart is found, and nothing else."""

from dataclasses import dataclass, replace
from functools import cache
from typing import cast

import numpy as np
import pytest

from primum.audits.privacy.label_only import Kind
from primum.evidence.audit import Audit
from primum.evidence.finding import Finding
from primum.evidence.identity import ModelRef
from primum.evidence.rules import PRIVACY
from primum.fit.classifier_recipe import ClassifierRecipe
from primum.fit.loop import LoopSettings
from primum.models.opened import OpenedClassifier
from primum.models.torch_door import TorchClassifier
from primum.records.cases import Cases, CasesInMemory
from primum.records.synthetic_cases import SYNTHETIC_CASES, split_patients
from primum.workflows.classifier_audit import ClassifierPlan, run_classifier_audit

MOST_PARAMETERS = 10_000


@dataclass(frozen=True)
class Trial:
    """A network, how long it learns, and how many patients train it and do not."""

    network: str
    epochs: int
    width: int
    members: int = 30
    held_out: int = 40

    @property
    def kind(self) -> Kind:
        return "image" if self.network == "vision_transformer" else cast(Kind, self.network)


TRIALS = {
    one.network: one
    for one in (
        Trial("vision_transformer", 60, 16, members=40, held_out=60),
        Trial("volume", 60, 16),
        Trial("bag", 120, 24),
        Trial("signal", 40, 16),
        Trial("sequence", 60, 32, held_out=30),
        Trial("table", 80, 32, members=40, held_out=60),
    )
}


def drawn(trial: Trial, *, seed: int) -> dict[str, Cases]:
    """One case a patient, its class a coin: what a model knows of that, it can only remember."""
    draw, _ = SYNTHETIC_CASES[trial.kind]
    cases = draw(2 * trial.members + trial.held_out, seed=seed)
    cases = cases.select(np.unique(cases.subject_ids, return_index=True)[1])
    coins = replace(cases, labels=np.random.default_rng(seed).integers(0, 2, len(cases)))
    return split_patients(coins, {"train": trial.members, "held_out": trial.held_out, "other": trial.members})


@cache
def model_of(network: str, *, seed: int = 0) -> TorchClassifier:
    trial = TRIALS[network]
    loop = LoopSettings(trial.epochs, batch=8, learning_rate=3e-3, warmup=0.15)
    recipe = ClassifierRecipe(network, SYNTHETIC_CASES[trial.kind][1], loop, trial.width)
    return recipe.fit(drawn(trial, seed=seed)["train"], seed=seed)


def audit_of(trial: Trial, *, as_members: str, seed: int = 0) -> Audit:
    """Audit a model against those who trained it, or against patients of neither side as if they had."""
    sides, classes = drawn(trial, seed=seed), SYNTHETIC_CASES[trial.kind][1]
    model = model_of(trial.network, seed=seed)
    parameters = sum(weights.numel() for weights in model.module.parameters())
    assert parameters <= MOST_PARAMETERS
    members, held_out = (CasesInMemory((sides[name],), classes) for name in (as_members, "held_out"))
    opened = OpenedClassifier(ModelRef("model", "0" * 64, "computed", {}), model, parameters)
    plan = ClassifierPlan(
        opened,
        members,
        held_out,
        trial.kind,
        only=PRIVACY,
        membership="randomised",
        seed=seed,
        sampled=40,
    )
    return run_classifier_audit(plan).audit


def recognised(audit: Audit) -> Finding:
    return next(one for one in audit.findings if one.test == "membership.combined.auc")


@pytest.mark.parametrize("network", TRIALS)
def test_patients_learnt_by_heart_are_found(network: str) -> None:
    trial = TRIALS[network]
    audit = audit_of(trial, as_members="train")
    assert audit.exit_status == 1
    assert recognised(audit).verdict == "leak"
    assert audit.patients == {"members": trial.members, "held_out": trial.held_out}
    # A coin cannot be told of strangers.
    assert cast(float, audit.context["held_out_balanced_accuracy"]) < 0.7


@pytest.mark.parametrize("network", TRIALS)
def test_a_model_of_other_patients_is_not_accused(network: str) -> None:
    audit = audit_of(TRIALS[network], as_members="other")
    assert [one.test for one in audit.findings if one.harmful] == []
    assert recognised(audit).verdict in ("none_found", "inconclusive")
    assert audit.exit_status in (0, 3)

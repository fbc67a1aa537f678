"""Every kind of case: an attack that finds more than noise does, or the reason why there is none."""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest

from primum.audits.privacy.label_only import Kind
from primum.audits.robustness.decision import decision
from primum.audits.robustness.gradient import apgd
from primum.audits.robustness.letters import letters
from primum.audits.robustness.noise import noise
from primum.audits.robustness.patch import patch, patch_black_box
from primum.audits.robustness.room import Attack, Room, ask, refused
from primum.audits.robustness.square import square
from primum.fit.classifier_recipe import ClassifierRecipe
from primum.fit.loop import LoopSettings
from primum.models.torch_door import TorchClassifier
from primum.records.cases import Cases
from primum.records.synthetic_cases import SYNTHETIC_CASES

LETTERS = 10_000


@dataclass(frozen=True)
class Trial:
    """A network, how long it learns from 60 patients, and how hard it is then attacked."""

    network: str
    epochs: int
    budget: float

    @property
    def kind(self) -> Kind:
        return "image" if self.network == "vision_transformer" else cast(Kind, self.network)


TRIALS = {
    one.network: one
    for one in (
        Trial("vision_transformer", 10, 8 / 255),
        Trial("volume", 8, 8 / 255),
        Trial("bag", 15, 16 / 255),
        Trial("signal", 8, 0.05),
        Trial("table", 30, 0.05),
    )
}


def model_and_cases(trial: Trial) -> tuple[TorchClassifier, Cases]:
    """A model of some patients, and six others."""
    draw, classes = SYNTHETIC_CASES[trial.kind]
    cases = draw(66, seed=0)
    cases = cases.select(np.unique(cases.subject_ids, return_index=True)[1])
    loop = LoopSettings(trial.epochs, batch=8, learning_rate=3e-3, warmup=0.15)
    model = ClassifierRecipe(trial.network, classes, loop, 16).fit(cases.select(np.arange(60)), seed=0)
    return model, cases.select(np.arange(60, 66))


def room_of(cases: Cases, kind: Kind) -> Room:
    """The range of the data; of a table, that of each column."""
    if kind == "table":
        rows = np.asarray(cases.inputs, np.float64)
        return Room(np.nanmin(rows, 0), np.nanmax(rows, 0), np.ones(rows.shape[1], np.bool_))
    least = min(float(np.min(one)) for one in cases.inputs)
    most = max(float(np.max(one)) for one in cases.inputs)
    return Room(np.array(least), np.array(most), np.array(True))


@pytest.mark.parametrize("network", TRIALS)
def test_each_attack_takes_this_kind_or_says_why_not(network: str) -> None:
    trial = TRIALS[network]
    model, cases = model_and_cases(trial)
    room, kind, clean = room_of(cases, trial.kind), trial.kind, ask(model, cases)
    part: Any = {"budget": trial.budget, "seed": 0}
    white: Any = model
    random = noise(model, cases, room, **part)
    found = {"apgd": apgd(white, cases, room, steps=8, keep=True, **part)}
    found["square"] = square(model, cases, room, kind=kind, queries=12, **part)
    found["decision"] = decision(model, cases, room, kind=kind, queries=12, **part)
    if kind == "table":
        assert refused("patch", model, kind) is not None
    else:
        found["patch_black_box"] = patch_black_box(
            model, cases, room, kind=kind, queries=8, seed=0, keep=True
        )
    for name, answers in found.items():
        assert refused(cast(Attack, name), model, kind) is None
        assert answers.probabilities.shape == (6, 2)
        if name != "decision":
            assert (answers.margins <= clean.margins + 1e-6).all()
    assert found["apgd"].margins.mean() < min(random.margins.mean(), clean.margins.mean())
    changed = found["apgd"].inputs
    assert changed is not None
    for one, before in zip(changed, cases.inputs, strict=True):
        assert (one.shape, one.dtype) == (before.shape, before.dtype)


def test_the_white_box_patch_takes_a_bag_tile_and_a_stretch_of_a_lead() -> None:
    model, cases = model_and_cases(TRIALS["signal"])
    found = patch(
        cast(Any, model), cases.select(np.arange(2)), room_of(cases, "signal"), kind="signal", size=5, seed=0
    )
    assert found.places is not None
    assert found.places.shape == (2, 1)
    assert (found.margins <= ask(model, cases).margins[:2]).all()


def test_of_ten_thousand_bases_a_few_are_replaced() -> None:
    rng = np.random.default_rng(0)
    alphabet = np.frombuffer(b"ACGT", np.uint8)
    inputs = rng.choice(alphabet, (6, LETTERS))

    class Counting:
        """Sure of the second class by how many C and G there are above a half."""

        classes = ("low", "high")

        def logits(self, cases: Cases) -> Any:
            rich = np.isin(np.asarray(cases.inputs), np.frombuffer(b"CG", np.uint8)).sum(1)
            return np.stack([np.zeros(len(cases)), rich - LETTERS / 2 - 0.5], axis=1)

        def predict_proba(self, cases: Cases) -> Any:
            raise AssertionError

    rich = np.isin(inputs, np.frombuffer(b"CG", np.uint8)).sum(1)
    cases = Cases(np.arange(6), np.arange(6), inputs, (rich > LETTERS / 2).astype(np.int64))
    away = abs(rich - LETTERS / 2 - 0.5)
    budget = int(np.median(away)) + 1
    found = letters(Counting(), cases, alphabet, budget=budget, queries=800, seed=0, keep=True)
    assert (np.asarray(found.inputs) != inputs).sum(1).max() <= budget
    np.testing.assert_array_equal(found.right, away > budget)
    assert 0 < found.right.sum() < 6
    assert found.queries.max() <= 800
    said = refused("pgd", Counting(), "sequence")
    assert said is not None
    assert said.code == "attack_not_of_letters"
    assert refused("letters", Counting(), "sequence") is None
    other = refused("letters", Counting(), "image")
    assert other is not None


def test_without_a_gradient_a_white_box_is_refused() -> None:
    class Scores:
        classes = ("no", "yes")

        def logits(self, cases: Cases) -> None:
            return None

        def predict_proba(self, cases: Cases) -> Any:
            return np.full((len(cases), 2), 0.5)

    said = refused("apgd", Scores(), "image")
    assert said is not None
    assert said.parameters == {"protocol": "Differentiable"}
    assert refused("square", Scores(), "image") is None

"""What the families outside the contrast are given by the audit."""

from dataclasses import replace

import numpy as np

from primum.evidence.identity import ModelRef
from primum.evidence.observed import Observed
from primum.models.opened import OpenedClassifier
from primum.records.case_files.table import Feature
from primum.records.cases import Cases, CasesInMemory
from primum.workflows.case_observed import Beside, HeldOutAnswers, observe_beside
from primum.workflows.clock import Clock

PEOPLE = 200
RNG = np.random.default_rng(0)
WOMAN = RNG.random(PEOPLE) < 0.5
# The second column is the sex under another name; the others say nothing.
INPUTS = np.column_stack([RNG.standard_normal(PEOPLE), WOMAN, RNG.standard_normal(PEOPLE)])
LABELS = RNG.integers(0, 2, PEOPLE)
SEX = {"sex": np.where(WOMAN, "F", "M")}
CASES = Cases(np.arange(PEOPLE), np.arange(PEOPLE), INPUTS, LABELS, SEX)
FEATURES = tuple(Feature(name, "number", place) for place, name in enumerate(("sodium", "ward", "lactate")))


class Nobody:
    """A model that equity must not ask again."""

    classes = ("no", "yes")


def equity(features: tuple[Feature, ...]) -> Observed:
    """Observe equity of answers that are noise; the held-out cases come in two shards."""
    halves = tuple(CASES.select(rows) for rows in np.array_split(np.arange(PEOPLE), 2))
    yes = np.random.default_rng(1).random(PEOPLE)
    given = Beside(
        model=OpenedClassifier(ModelRef("m", "0" * 64, "computed", {}), Nobody(), 0),  # type: ignore[arg-type]
        members=CasesInMemory(halves, ("no", "yes")),
        held_out=CasesInMemory(halves, ("no", "yes")),
        answers=HeldOutAnswers(
            np.stack([1 - yes, yes], axis=1).astype(np.float32), LABELS, CASES.subject_ids, SEX
        ),
        subjects=lambda: (_ for _ in ()).throw(AssertionError("no case need be read for equity")),
        kind="table",
        features=features,
        recipe=None,
        seed=0,
        only=("equity",),
    )
    (found,) = observe_beside(given, progress=lambda stage, done: None, clock=Clock())
    return found


def test_columns_held_to_be_neutral_are_put_to_the_test() -> None:
    told = {}
    for place, one in enumerate(FEATURES):
        chosen = tuple(replace(one, neutral=number == place) for number, one in enumerate(FEATURES))
        columns = equity(chosen).columns
        guess = columns["neutral:sex=F"]
        woman = columns["sex"] == equity(chosen).names["sex"].index("F")
        told[one.name] = abs(float(np.corrcoef(guess, woman)[0, 1]))
    assert told["ward"] > 0.9 > 0.3 > max(told["sodium"], told["lactate"])


def test_nothing_is_guessed_from_what_nobody_called_neutral() -> None:
    assert not [name for name in equity(FEATURES).columns if name.startswith("neutral:")]

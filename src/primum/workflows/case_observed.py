"""The families of a classifier's audit that compare no members with held-out patients."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primum.audits.data.observe import observe_data
from primum.audits.equity.observe import observe_equity
from primum.audits.explanations.observe import observe_explanations
from primum.audits.privacy.case_subjects import CaseSubjects
from primum.audits.privacy.label_only import Kind
from primum.audits.robustness.observe import observe_robustness
from primum.evidence.beside import RULES_BESIDE
from primum.evidence.membership import wanted
from primum.evidence.observed import Observed, ObservedFamily
from primum.fit.protocol import ClassifierTrainable
from primum.models.opened import OpenedClassifier
from primum.records.case_files.table import Feature
from primum.records.cases import CaseRecords
from primum.records.ragged import IntArray
from primum.report.language import message
from primum.workflows.clock import Clock
from primum.workflows.kept import NOTHING_KEPT, Kept
from primum.workflows.plan import Progress

# Attacks on the input announce stages of their own.
STAGES: Mapping[ObservedFamily, str] = {
    "equity": message("whom the model serves worse"),
    "robustness": message("attacks on the input"),
    "explanations": message("explanations"),
    "data": message("the training data"),
}


@dataclass(frozen=True, eq=False)
class HeldOutAnswers:
    """What the model says of every held-out case.

    Attributes
    ----------
    probabilities : float32, shape (n, classes)
    labels, subject_ids : int64, shape (n,)
    attributes : mapping of str to array, shape (n,)
    """

    probabilities: NDArray[np.float32]
    labels: IntArray
    subject_ids: IntArray
    attributes: Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Beside:
    """What these families are given.

    Attributes
    ----------
    model : OpenedClassifier
    members, held_out : CaseRecords
    answers : HeldOutAnswers
    subjects : callable
        Reads the cases of a sample of the held-out patients.
    kind : str
    features : sequence of Feature
        Of tables.
    recipe : ClassifierTrainable or None
        Trains what attacks are tried on before they are carried over.
    seed : int
    only : sequence of str
    positive, threshold : str and float, optional
        Of equity.
    """

    model: OpenedClassifier
    members: CaseRecords
    held_out: CaseRecords
    answers: HeldOutAnswers
    subjects: Callable[[], CaseSubjects]
    kind: Kind
    features: Sequence[Feature]
    recipe: ClassifierTrainable | None
    seed: int
    only: Sequence[str] = ()
    positive: str | None = None
    threshold: float | None = None


def observe_beside(
    given: Beside, *, progress: Progress, clock: Clock, kept: Kept = NOTHING_KEPT
) -> tuple[Observed, ...]:
    """Ask each family of which some test was asked for, and time it; each is a piece that is kept."""
    asked: Mapping[ObservedFamily, Callable[[Beside], Observed]] = {
        "equity": _equity,
        "robustness": partial(_robustness, progress=progress),
        "explanations": _explanations,
        "data": _data,
    }
    found = []
    for family, observe in asked.items():
        if any(wanted(test, given.only) for test in RULES_BESIDE[family]):
            if family != "robustness":
                progress(STAGES[family], 0)
            found.append(kept.piece(f"family-{family}", partial(observe, given)))
            clock.lap(STAGES[family])
    return tuple(found)


def _equity(given: Beside) -> Observed:
    answers = given.answers
    return observe_equity(
        answers.probabilities,
        answers.labels,
        answers.subject_ids,
        answers.attributes,
        classes=given.members.classes,
        positive=given.positive,
        threshold=given.threshold,
        neutral=_neutral(given),
        seed=given.seed,
    )


def _neutral(given: Beside) -> NDArray[Any] | None:
    """Read the columns that their owner holds to be neutral, in the order in which the cases were asked."""
    known = [one for one in given.features if one.neutral]
    columns = [place for one in known for place in range(one.first, one.first + one.width)]
    if not columns:
        return None
    return np.concatenate([np.asarray(shard.inputs)[:, columns] for shard in given.held_out.shards()])


def _robustness(given: Beside, *, progress: Progress) -> Observed:
    return observe_robustness(
        given.model,
        given.subjects(),
        kind=given.kind,
        surrogate=given.recipe,
        features=given.features,
        seed=given.seed,
        progress=progress,
    )


def _explanations(given: Beside) -> Observed:
    groups = [range(one.first, one.first + one.width) for one in given.features if one.width > 1]
    return observe_explanations(
        given.model, given.subjects(), kind=given.kind, groups=groups, seed=given.seed
    )


def _data(given: Beside) -> Observed:
    return observe_data(
        given.members,
        kind=given.kind,
        model=given.model,
        seed=given.seed,
        only=given.only,
    )

"""One streamed reading of the cases of a classifier: for each, its scores and what statistics need of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from primum.audits.privacy.confidence import confidence_scores
from primum.audits.privacy.label_only import Neighbourhood, label_only_scores
from primum.audits.privacy.quantile import quantile_scores
from primum.errors import RecordsError
from primum.evidence.blind import blind_scores_of
from primum.evidence.membership import PatientScores
from primum.evidence.records import by_patient
from primum.models.opened import OpenedClassifier
from primum.models.score_matrix import score_cases
from primum.records.attributes import strata
from primum.records.case_attributes import CaseTable, case_subgroups, describe_cases
from primum.records.case_features import Buckets, CaseFeatures, Known, case_rows
from primum.records.cases import CaseRecords, Cases
from primum.records.families import BoolArray
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray
from primum.workflows.gather import Tick
from primum.workflows.workers import Map


@dataclass(frozen=True, eq=False)
class CaseGroup:
    """Cases, a few numbers each: this is what stays in memory.

    Attributes
    ----------
    case_ids, subject_ids, labels : int64, shape (n,)
    attributes : mapping of str to array, shape (n,)
    known : float32, shape (n, d)
    buckets : int16, shape (n, 5)
        What is known of each case without the model: see :func:`primum.records.case_features.case_rows`.
    scores : mapping of str to float64, shape (n,)
        ``loss`` (the log-odds of the true class), ``entropy`` and maybe ``label_only``.
    probabilities : float32, shape (n, classes)
        What the model says.
    logits : bool
        Whether the scores come from logits; those from probabilities saturate.
    """

    case_ids: IntArray
    subject_ids: IntArray
    labels: IntArray
    attributes: dict[str, NDArray[Any]]
    known: Known
    buckets: Buckets
    scores: dict[str, FloatArray]
    probabilities: NDArray[np.float32]
    logits: bool

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class _Answered:
    """A classifier's answers to cases that it was asked about once."""

    classes: tuple[str, ...]
    given: FloatArray | None
    answers: FloatArray

    def logits(self, cases: Cases) -> FloatArray | None:
        """Return what was given."""
        return self.given

    def predict_proba(self, cases: Cases) -> FloatArray:
        """Return what was answered."""
        return self.answers


@dataclass(frozen=True, eq=False)
class CaseReading:
    """What is asked of each shard; called with one, here or in another process."""

    model: OpenedClassifier
    neighbourhood: Neighbourhood | None
    seed: int

    def __call__(self, cases: Cases) -> CaseGroup:
        """Score and describe the cases of a shard."""
        predictor = self.model.predictor
        logits = predictor.logits(cases)
        answers = predictor.predict_proba(cases) if logits is None else logits
        answered = _Answered(predictor.classes, logits, answers)
        scores = confidence_scores(answered, cases)
        # Of one case it orders as the loss does, and over models it is nearer to Gaussian.
        scores["loss"] = score_cases(answered, cases)[0]
        if self.neighbourhood is not None:
            scores["label_only"] = label_only_scores(predictor, cases, self.neighbourhood, seed=self.seed)
        return CaseGroup(
            cases.case_ids,
            cases.subject_ids,
            cases.labels,
            dict(cases.attributes),
            *case_rows(cases),
            scores,
            (answers if logits is None else softmax(answers, axis=1)).astype(np.float32),
            logits is not None,
        )


def gather_cases(
    reading: CaseReading, sides: Sequence[CaseRecords], *, ticks: Sequence[Tick], apply: Map = map
) -> tuple[CaseGroup, int]:
    """Score and describe each case, a shard at a time; `apply` may do so in other processes.

    Returns
    -------
    CaseGroup
        The cases of all sides, one side after the other.
    int
        How many are of the first.
    """
    groups: list[list[CaseGroup]] = [[] for _ in sides]
    side_of: list[int] = []
    done = 0

    def shards() -> Iterator[Cases]:
        for side, records in enumerate(sides):
            if done == len(side_of):  # else others are still at work on the side before
                ticks[side](0)
            for shard in records.shards():
                side_of.append(side)
                yield shard

    for group in apply(reading, shards()):
        side = side_of[done]
        done += 1
        groups[side].append(group)
        ticks[side](len(group))
        if done < len(side_of) and side_of[done] != side:
            ticks[side_of[done]](0)
    if not all(groups):
        raise RecordsError("There is no case to read on one side: the records are empty.")
    first = sum(map(len, groups[0]))
    return _joined(groups), first


def _joined(sides: list[list[CaseGroup]]) -> CaseGroup:
    """Put groups together and empty the lists: of each column one copy is in memory, of one two."""
    known = sorted(set.intersection(*(set(group.attributes) for side in sides for group in side)))
    names = list(sides[0][0].scores)
    logits = all(group.logits for side in sides for group in side)
    columns = [
        [
            *(group.case_ids, group.subject_ids, group.labels, group.known, group.buckets),
            group.probabilities,
            *(group.attributes[name] for name in known),
            *(group.scores[name] for name in names),
        ]
        for side in sides
        for group in side
    ]
    sides.clear()
    joined: list[NDArray[Any]] = []
    while columns[0]:
        joined.append(np.concatenate([group.pop(0) for group in columns]))
    ids, subjects, labels, described, buckets, probabilities, *rest = joined
    attributes = dict(zip(known, rest[: len(known)], strict=True))
    scores = dict(zip(names, rest[len(known) :], strict=True))
    return CaseGroup(ids, subjects, labels, attributes, described, buckets, scores, probabilities, logits)


@dataclass(frozen=True, eq=False)
class CasePeople:
    """Both sides, members first.

    Attributes
    ----------
    cases : CaseGroup
        Every case.
    features : CaseFeatures
        What is known of them and of their patients without the model.
    table : CaseTable
        One row a patient, by rising subject id; its `position` says which patient a case is of.
    is_member : bool, shape (patients,)
    blind : float64, shape (patients,)
    seed : int
    """

    cases: CaseGroup
    features: CaseFeatures
    table: CaseTable
    is_member: BoolArray
    blind: FloatArray
    seed: int

    @property
    def case_is_member(self) -> BoolArray:
        """Whether each case is of a member, shape (cases,)."""
        return self.is_member[self.table.position]

    def by_patient(self, values: FloatArray) -> FloatArray:
        """Make one score a patient of one score a case, fair to patients with many."""
        several = len(self.table.position) > len(self.table)
        return by_patient(
            values,
            self.table.position,
            patients=len(self.table),
            how="stouffer" if several else "mean",
            is_member=self.is_member,
            seed=self.seed,
        )

    def mean(self, values: FloatArray) -> FloatArray:
        """Take the mean over each patient's cases."""
        return by_patient(values, self.table.position, patients=len(self.table))


def people_of(cases: CaseGroup, members: int, *, classes: tuple[str, ...], seed: int) -> CasePeople:
    """Describe the patients of cases, of which the first so many are the members'."""
    without_inputs = Cases(
        cases.case_ids, cases.subject_ids, np.empty((len(cases), 0)), cases.labels, cases.attributes
    )
    table = describe_cases([without_inputs], classes=classes)
    is_member = np.isin(table.patients.subject_ids, cases.subject_ids[:members])
    features = CaseFeatures(cases.known, cases.buckets, cases.labels, len(classes), table.position)
    blind = blind_scores_of(features.of_patients, is_member, seed=seed)
    return CasePeople(cases, features, table, is_member, blind, seed)


def patient_scores(
    people: CasePeople, *, calibrated: Mapping[str, FloatArray], under_shadows: FloatArray | None
) -> PatientScores:
    """Make one score a patient of every attack.

    Parameters
    ----------
    people : CasePeople
    calibrated : mapping of str to float64, shape (cases,)
        Attacks with shadow models; NaN where a case was not asked.
    under_shadows : float64, shape (patients, references), or None
        Mean log-odds under models that did not train on the patient.
    """
    scored = {**people.cases.scores, "quantile": _quantile(people), **calibrated}
    by_patient = {name: people.by_patient(values) for name, values in scored.items()}
    if under_shadows is not None:
        # Naming looks at differences only: to the patient's mean log-odds, whatever the scale of the score.
        shift = by_patient["loss"] - people.mean(people.cases.scores["loss"])
        under_shadows = under_shadows + shift[:, None]
    return PatientScores(
        people.is_member,
        people.blind,
        strata(people.table.patients),
        {name: values for name, values in by_patient.items() if np.isfinite(values).all()},
        case_subgroups(people.table, people.is_member),
        under_shadows,
        "classifier",
    )


def _quantile(people: CasePeople) -> FloatArray:
    cases = people.cases
    return quantile_scores(
        cases.scores["loss"],
        known=people.features,
        labels=cases.labels,
        subject_ids=cases.subject_ids,
        is_member=people.case_is_member,
        seed=people.seed,
    )

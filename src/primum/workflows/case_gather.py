"""One streamed reading of the cases of a classifier: for each, its scores and what statistics need of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from primum.audits.privacy.confidence import confidence_scores
from primum.audits.privacy.label_only import Neighbourhood, label_only_scores
from primum.audits.privacy.quantile import quantile_scores
from primum.errors import RecordsError
from primum.evidence.blind import blind_scores
from primum.evidence.membership import PatientScores
from primum.evidence.records import by_patient
from primum.models.opened import OpenedClassifier
from primum.models.score_matrix import score_cases
from primum.records.attributes import strata
from primum.records.case_attributes import CaseTable, case_subgroups, describe_cases
from primum.records.case_features import HASHED_COLUMNS, case_features
from primum.records.cases import CaseRecords, Cases
from primum.records.families import BoolArray
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray
from primum.workflows.gather import Tick
from primum.workflows.workers import Map


@dataclass(frozen=True, eq=False)
class CaseGroup:
    """Cases of one side, a few numbers each: this is what stays in memory.

    Attributes
    ----------
    case_ids, subject_ids, labels : int64, shape (n,)
    attributes : mapping of str to array, shape (n,)
    features : csr_matrix, shape (n, d)
        What is known of each case without the model.
    scores : mapping of str to float64, shape (n,)
        ``loss`` (the log-odds of the true class), ``entropy`` and maybe ``label_only``.
    right : bool, shape (n,)
        Whether the model finds the true class.
    logits : bool
        Whether the scores come from logits; those from probabilities saturate.
    """

    case_ids: IntArray
    subject_ids: IntArray
    labels: IntArray
    attributes: dict[str, NDArray[Any]]
    features: sparse.csr_matrix
    scores: dict[str, FloatArray]
    right: BoolArray
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
    classes: int
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
            self._features(cases),
            scores,
            answers.argmax(axis=1) == cases.labels,
            logits is not None,
        )

    def _features(self, cases: Cases) -> sparse.csr_matrix:
        """Describe each case as if it were a patient, in the order of the cases."""
        own = replace(cases, subject_ids=np.arange(len(cases)))
        return case_features([own], classes=self.classes).rows


def gather_cases(
    reading: CaseReading, sides: Sequence[CaseRecords], *, ticks: Sequence[Tick], apply: Map = map
) -> list[CaseGroup]:
    """Score and describe each case, a shard at a time; `apply` may do so in other processes."""
    groups: list[list[CaseGroup]] = [[] for _ in sides]
    side_of: list[int] = []

    def shards() -> Iterator[Cases]:
        for side, records in enumerate(sides):
            for shard in records.shards():
                side_of.append(side)
                yield shard

    for place, group in enumerate(apply(reading, shards())):
        groups[side_of[place]].append(group)
        ticks[side_of[place]](len(group))
    if not all(groups):
        raise RecordsError("There is no case to read on one side: the records are empty.")
    return [_joined(side) for side in groups]


def _joined(groups: Sequence[CaseGroup]) -> CaseGroup:
    known = set.intersection(*(set(group.attributes) for group in groups))
    return CaseGroup(
        np.concatenate([group.case_ids for group in groups]),
        np.concatenate([group.subject_ids for group in groups]),
        np.concatenate([group.labels for group in groups]),
        {name: np.concatenate([group.attributes[name] for group in groups]) for name in sorted(known)},
        sparse.csr_matrix(sparse.vstack([group.features for group in groups], format="csr")),
        {name: np.concatenate([group.scores[name] for group in groups]) for name in groups[0].scores},
        np.concatenate([group.right for group in groups]),
        all(group.logits for group in groups),
    )


@dataclass(frozen=True, eq=False)
class CasePeople:
    """Both sides, members first.

    Attributes
    ----------
    cases : CaseGroup
        Every case.
    table : CaseTable
        One row a patient, by rising subject id; its `position` says which patient a case is of.
    is_member : bool, shape (patients,)
    blind : float64, shape (patients,)
    seed : int
    """

    cases: CaseGroup
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


def people_of(members: CaseGroup, held_out: CaseGroup, *, classes: tuple[str, ...], seed: int) -> CasePeople:
    """Put both sides together and describe their patients."""
    cases = _joined([members, held_out])
    without_inputs = Cases(
        cases.case_ids, cases.subject_ids, np.empty((len(cases), 0)), cases.labels, cases.attributes
    )
    table = describe_cases([without_inputs], classes=classes)
    is_member = np.isin(table.patients.subject_ids, members.subject_ids)
    counts = np.bincount(table.position, minlength=len(table))
    where = (table.position, np.arange(len(cases)))
    mean = sparse.csr_matrix((1 / counts[table.position], where), (len(table), len(cases))) @ cases.features
    number = sparse.csr_matrix(np.log1p(counts)[:, None])
    features = sparse.csr_matrix(sparse.hstack([number, mean], format="csr"))
    dense = features.shape[1] - HASHED_COLUMNS
    blind = blind_scores(features, is_member, seed=seed, dense_columns=dense)
    return CasePeople(cases, table, is_member, blind, seed)


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
    known = np.asarray(cases.features[:, : cases.features.shape[1] - HASHED_COLUMNS].toarray(), np.float64)
    return quantile_scores(
        cases.scores["loss"],
        known=known,
        labels=cases.labels,
        subject_ids=cases.subject_ids,
        is_member=people.case_is_member,
        seed=people.seed,
    )

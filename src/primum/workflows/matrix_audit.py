"""An audit of scores that were kept: many models, the same cases, who trained which; no model is asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata

import numpy as np

from primum.errors import RecordsError
from primum.evidence.audit import Audit
from primum.evidence.claims import Measurements, findings_of
from primum.evidence.contrast import Frame
from primum.evidence.rules import require_groups, require_known
from primum.models.recorded_predictions import RecordedScores
from primum.records.families import BoolArray
from primum.records.ragged import IntArray
from primum.workflows.case_gather import CaseGroup, patient_scores, people_of
from primum.workflows.classifier_shadows import Shadows, bounded, calibrated, under_shadows
from primum.workflows.clock import Clock
from primum.workflows.kept import NOTHING_KEPT, Kept
from primum.workflows.plan import AuditResult, Membership, Progress
from primum.workflows.workers import Map

_MOST_CLASSES = 1000


@dataclass(frozen=True, eq=False)
class MatrixPlan:
    """Everything the audit of kept scores needs to know; as :class:`primum.workflows.plan.AuditPlan`."""

    recorded: RecordedScores
    only: Sequence[str] = ()
    membership: Membership = "observed"
    seed: int = 0
    names: Mapping[str, str] = field(default_factory=dict)
    command: str = "primum.audit(...)"

    def shaping(self) -> dict[str, object]:
        """Everything but versions that shapes a finding, as JSON holds it."""
        return {
            "model": self.recorded.ref.digest,
            "only": self.only,
            "membership": self.membership,
            "seed": self.seed,
        }


def run_matrix_audit(
    plan: MatrixPlan,
    *,
    progress: Progress = lambda stage, cases: None,
    apply: Map = map,
    kept: Kept = NOTHING_KEPT,
) -> AuditResult:
    """Judge the target by the other models of the matrix; so little is computed that nothing is kept."""
    require_known(plan.only, "classifier")
    clock, recorded = Clock(), plan.recorded
    progress("statistics", 0)
    inside = recorded.matrix.inside[recorded.target]
    _require_whole_patients(recorded, inside)
    classes, labels = _classes(recorded)
    order = np.argsort(~inside, kind="stable")
    cases = _cases(recorded, labels, order)
    people = people_of(cases, int(inside.sum()), classes=classes, seed=plan.seed)
    others = np.delete(np.arange(len(recorded.matrix)), recorded.target)
    shadows = Shadows(recorded.matrix.models(others).cases(order), np.zeros(len(order), np.bool_))
    calibration = calibrated(people, shadows) if len(shadows) else {}
    people, known = bounded(people, shadows)
    scores = patient_scores(
        people,
        calibrated=calibration,
        under_shadows=None if known is None else under_shadows(people, known),
    )
    require_groups(plan.only, scores.subgroups)
    measurements = Measurements(
        scores=scores,
        measured=(),
        canaries=None,
        frame=Frame(recorded.ref.digest, recorded.ref.digest, "probabilities", plan.membership, plan.seed),
        overlap=None,
        settings={"cases": len(order), "shadow_models": len(shadows), "shadow_design": "as recorded"},
        only=tuple(plan.only),
    )
    findings = findings_of(measurements)
    clock.lap("statistics")
    audit = Audit(
        model=recorded.ref,
        data=dict(plan.names),
        patients={"members": int(scores.is_member.sum()), "held_out": int((~scores.is_member).sum())},
        command=plan.command,
        seed=plan.seed,
        findings=findings,
        context={
            "unit": "patient" if recorded.has_patients else "case",
            "classes": len(classes),
            "version": metadata.version("primum"),
        },
    )
    return AuditResult(audit, measurements, (), clock.seconds)


def _require_whole_patients(recorded: RecordedScores, inside: BoolArray) -> None:
    """Refuse a patient of whom some cases trained the target and others did not, or an empty side."""
    trained, others = recorded.subject_ids[inside], recorded.subject_ids[~inside]
    if not len(trained) or not len(others):
        raise RecordsError(
            "score_matrix.npz: the target was trained on every case or on none: there is nobody to compare."
        )
    if np.isin(trained, others).any():
        raise RecordsError(
            "score_matrix.npz: of some patient the target was trained on one case and not on another: leave "
            "such patients out."
        )


def _classes(recorded: RecordedScores) -> tuple[tuple[str, ...], IntArray]:
    """Name the classes that occur, and give each case its place among them; one class where none is told."""
    if recorded.labels is None:
        return ("0",), np.zeros(len(recorded.subject_ids), np.int64)
    names, places = np.unique(recorded.labels, return_inverse=True)
    if len(names) > _MOST_CLASSES:
        raise RecordsError(
            "score_matrix.npz: label holds {count} different values, and at most {most} classes are read: "
            "correct it or leave it out.",
            count=len(names),
            most=_MOST_CLASSES,
        )
    return tuple(map(str, names.tolist())), places.astype(np.int64)


def _cases(recorded: RecordedScores, labels: IntArray, rows: IntArray) -> CaseGroup:
    """Describe cases by all that is known of them: class and score."""
    mine, score = labels[rows], recorded.matrix.scores[recorded.target, rows]
    nothing, buckets = np.empty((len(rows), 0), np.float32), np.empty((len(rows), 0), np.int16)
    return CaseGroup(
        rows, recorded.subject_ids[rows], mine, {}, nothing, buckets, {"loss": score}, nothing, True
    )

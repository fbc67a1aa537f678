"""An audit of a classifier: cases in, a model, findings out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata

import numpy as np

from primum.audits.privacy.attribute import infer_from_outputs, infer_inputs
from primum.audits.privacy.bias import FEWEST_MODELS
from primum.audits.privacy.case_subjects import CaseSubjects
from primum.audits.privacy.inversion import invert
from primum.audits.privacy.label_only import Kind, neighbourhood_of
from primum.audits.privacy.structure import read_structure
from primum.errors import RecordsError
from primum.evidence.audit import Audit
from primum.evidence.claims import Measurements, Overlap, findings_of
from primum.evidence.contrast import Frame
from primum.evidence.finding import Message, Scalar
from primum.evidence.identity import manifest_digest
from primum.evidence.measured import Measured
from primum.evidence.observed import Observed
from primum.evidence.rules import families_wanted, require_groups, require_known
from primum.fit.protocol import ClassifierTrainable
from primum.models.opened import OpenedClassifier
from primum.records.case_files.table import Feature
from primum.records.case_overlap import near_duplicate_cases
from primum.records.cases import CaseRecords, Cases, join_cases
from primum.records.filtered import FilteredCases
from primum.records.ragged import IntArray
from primum.report.language import message
from primum.workflows.case_gather import (
    CaseGroup,
    CasePeople,
    CaseReading,
    gather_cases,
    patient_scores,
    people_of,
)
from primum.workflows.case_observed import Beside, HeldOutAnswers, observe_beside
from primum.workflows.classifier_shadows import (
    Shadows,
    bounded,
    calibrated,
    later_predictions,
    shadows_of,
    under_shadows,
)
from primum.workflows.clock import Clock, Stage
from primum.workflows.kept import NOTHING_KEPT, Kept
from primum.workflows.plan import AuditResult, Membership, Progress
from primum.workflows.sampling import stratified_sample
from primum.workflows.workers import Map

_MEMBERS_STAGE = message("answers about training cases")
_HELD_OUT_STAGE = message("answers about held-out cases")


@dataclass(frozen=True, eq=False)
class ClassifierPlan:
    """Everything the audit of a classifier needs to know; as :class:`primum.workflows.plan.AuditPlan`.

    Attributes
    ----------
    kind : str
        What a case is: image, volume, signal, table, bag or sequence.
    recipe : ClassifierTrainable or None
        Trains shadow models.
    shadows : int
        How many.
    features : sequence of Feature
        The typed columns of a table.
    positive, threshold : str and float, optional
        As of :func:`primum.audits.equity.observe.observe_equity`.
    """

    model: OpenedClassifier
    members: CaseRecords
    held_out: CaseRecords
    kind: Kind
    recipe: ClassifierTrainable | None = None
    shadows: int = 32
    features: Sequence[Feature] = ()
    only: Sequence[str] = ()
    membership: Membership = "observed"
    drop_overlap: bool = False
    seed: int = 0
    sampled: int = 500
    positive: str | None = None
    threshold: float | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    command: str = "primum.audit(...)"

    def shaping(self) -> dict[str, object]:
        """Everything but versions and the recipe's own file that shapes a finding, as JSON holds it."""
        return {
            "model": self.model.ref.digest,
            "data": self.names,
            "shadows": self.shadows,
            "only": self.only,
            "membership": self.membership,
            "drop_overlap": self.drop_overlap,
            "seed": self.seed,
            "sampled": self.sampled,
            "positive": self.positive,
            "threshold": self.threshold,
        }


def run_classifier_audit(
    plan: ClassifierPlan,
    *,
    progress: Progress = lambda stage, cases: None,
    apply: Map = map,
    kept: Kept = NOTHING_KEPT,
) -> AuditResult:
    """Carry out a plan, as :func:`primum.workflows.audit.run_audit` does."""
    require_known(plan.only, "classifier")
    clock = Clock()
    sides, overlap, dropped = _separate(plan, progress)
    clock.lap("overlap and coverage")
    cases, members, disturbed = _gathered(plan, sides, progress, clock, kept.each(apply, "cases"))
    progress("statistics", 0)
    people = people_of(cases, members, classes=plan.members.classes, seed=plan.seed)
    worth, answers = _worth(cases, members), _answers(cases, members)
    del cases
    clock.lap("statistics")
    shadows = _shadows(plan, sides, progress, apply, kept)
    calibration = {} if shadows is None else calibrated(people, shadows)
    people, shadows = bounded(people, shadows)
    clock.lap("shadow models")
    scores = patient_scores(
        people,
        calibrated=calibration,
        under_shadows=None if shadows is None else under_shadows(people, shadows),
    )
    require_groups(plan.only, scores.subgroups)
    progress("a sample of patients", 0)
    measured = _sampled(plan, sides, people, scores.strata) + _later(plan, people, shadows)
    clock.lap("a sample of patients")
    observed = _observed(plan, sides, people, scores.strata, answers, progress, clock, kept)
    settings = {**_settings(people, shadows), **disturbed}
    del people, shadows  # of a million cases more than all that the findings are made of
    measurements = Measurements(
        scores=scores,
        measured=measured,
        canaries=None,
        frame=_frame(plan),
        overlap=overlap,
        settings=settings,
        only=tuple(plan.only),
        observed=observed,
    )
    findings = findings_of(measurements)
    clock.lap("statistics")
    audit = Audit(
        model=plan.model.ref,
        data=dict(plan.names),
        patients={"members": int(scores.is_member.sum()), "held_out": int((~scores.is_member).sum())},
        command=plan.command,
        seed=plan.seed,
        findings=findings,
        context={**worth, **_facts(plan), "dropped_overlap": dropped},
    )
    return AuditResult(audit, measurements, (), clock.seconds)


def _frame(plan: ClassifierPlan) -> Frame:
    data = manifest_digest(plan.names) if plan.names else "in memory"
    return Frame(plan.model.ref.digest, data, "probabilities", plan.membership, plan.seed)


def _separate(
    plan: ClassifierPlan, progress: Progress
) -> tuple[tuple[CaseRecords, CaseRecords], Overlap, int]:
    """Take shared patients and near-duplicates away from the held-out side."""
    progress("overlap", 0)
    members, held_out = plan.members, plan.held_out
    ids = [side.subject_ids() for side in (members, held_out)]
    shared = np.intersect1d(ids[0], ids[1])
    if len(shared) and not plan.drop_overlap:
        raise RecordsError(
            "{count} patients are both members and held-out: separate them, or leave them out of the "
            "held-out side with --drop-overlap.",
            count=len(shared),
        )
    others: CaseRecords = FilteredCases(held_out, shared) if len(shared) else held_out
    twins = near_duplicate_cases(members, others).held_out_ids
    overlap = Overlap(len(twins), len(ids[1]) - len(shared), len(ids[0]))
    return (members, FilteredCases(others, twins) if len(twins) else others), overlap, len(shared)


def _gathered(
    plan: ClassifierPlan,
    sides: tuple[CaseRecords, CaseRecords],
    progress: Progress,
    clock: Clock,
    apply: Map,
) -> tuple[CaseGroup, int, dict[str, Scalar]]:
    """Ask about every case, members first; the settings say how the attack on labels alone disturbs."""
    ticks = [Stage(name, progress, clock) for name in (_MEMBERS_STAGE, _HELD_OUT_STAGE)]
    ticks[0](0)
    first = [next(iter(side.shards()), None) for side in sides]
    seen = [_few(shard) for shard in first if shard is not None]
    categories = [range(one.first, one.first + one.width) for one in plan.features if one.kind != "number"]
    neighbourhood = None
    if seen and plan.model.answers_anew:
        neighbourhood = neighbourhood_of(
            plan.model.predictor, join_cases(seen), kind=plan.kind, categories=categories, seed=plan.seed
        )
    reading = CaseReading(plan.model, neighbourhood, plan.seed)
    del first, seen
    shaped = {} if neighbourhood is None else neighbourhood.settings
    disturbed = {f"label_only_{name}": value for name, value in shaped.items()}
    return *gather_cases(reading, sides, ticks=ticks, apply=apply), disturbed


def _few(shard: Cases) -> Cases:
    """Keep the first cases of a shard, at most 500 and about 8 MiB."""
    size = sum(one.nbytes for one in shard.inputs) / len(shard)
    return shard.select(np.arange(min(len(shard), 500, max(20, int((1 << 23) / max(1, size))))))


def _shadows(
    plan: ClassifierPlan,
    sides: tuple[CaseRecords, CaseRecords],
    progress: Progress,
    apply: Map,
    kept: Kept,
) -> Shadows | None:
    wanted = families_wanted(plan.only, "classifier")
    if plan.recipe is None or not wanted & {"membership", "bias"}:
        return None
    progress("shadow models", 0)
    everyone = join_cases([shard for side in sides for shard in side.shards()])
    return shadows_of(
        everyone,
        plan.recipe,
        count=plan.shadows,
        seed=plan.seed,
        keep_later="bias" in wanted and plan.shadows >= FEWEST_MODELS,
        apply=apply,
        kept=kept,
    )


def _later(plan: ClassifierPlan, people: CasePeople, shadows: Shadows | None) -> list[Measured]:
    """Ask whether training shifts later predictions, or say why that cannot be asked."""
    if "bias" not in families_wanted(plan.only, "classifier"):
        return []
    nobody = np.empty(0, np.int64)
    if shadows is None or len(shadows) < FEWEST_MODELS:
        needs = Message("needs_recipe", {"references": FEWEST_MODELS})
        return [Measured(nobody, refused={"bias.future": needs})]
    found = later_predictions(people, shadows)
    return [found or Measured(nobody, refused={"bias.future": Message("no_later_cases")})]


def _sampled(
    plan: ClassifierPlan,
    sides: tuple[CaseRecords, CaseRecords],
    people: CasePeople,
    strata: IntArray,
) -> list[Measured]:
    """Ask the tests that change cases of a stated sample of the patients, and the model's files about all."""
    wanted = families_wanted(plan.only, "classifier") & {"attribute", "inversion", "structure"}
    measured: list[Measured] = []
    predictor, sample = plan.model.predictor, None
    if wanted & {"attribute", "inversion"}:
        rows = stratified_sample(people.is_member, strata, size=plan.sampled, seed=plan.seed)
        sample = _subjects(sides, people, rows)
    if sample and "attribute" in wanted:
        secret = [one for one in plan.features if one.sensitive]
        if secret and not plan.model.answers_anew:
            # Kept answers are the same whatever the input says.
            cannot = Message("model_cannot", {"protocol": "Predictor"})
            measured.append(Measured(sample.rows, refused={"attribute.inferred": cannot}))
        else:
            measured.append(infer_inputs(predictor, sample, secret))
        measured.append(infer_from_outputs(predictor, sample))
    if sample and "inversion" in wanted:
        measured.append(invert(predictor, sample))
    if "structure" in wanted:
        # How many share a leaf can be counted among all patients only.
        has = plan.model.structure is not None
        rows = np.arange(len(people.table) if has else 1)
        measured.append(read_structure(plan.model, _subjects(sides, people, rows)))
    return measured


def _subjects(sides: tuple[CaseRecords, CaseRecords], people: CasePeople, rows: IntArray) -> CaseSubjects:
    """Read the cases of the patients at positions `rows` again."""
    ids = people.table.patients.subject_ids[rows]
    cases = join_cases([s for side in sides for s in FilteredCases(side, ids, keep=True).shards()])
    place = np.searchsorted(ids, cases.subject_ids)
    return CaseSubjects(rows, people.is_member[rows], cases, place, people.seed)


def _observed(
    plan: ClassifierPlan,
    sides: tuple[CaseRecords, CaseRecords],
    people: CasePeople,
    strata: IntArray,
    answers: HeldOutAnswers,
    progress: Progress,
    clock: Clock,
    kept: Kept,
) -> tuple[Observed, ...]:
    """Ask what compares no members with held-out patients; held-out patients, or a sample."""

    @cache
    def subjects() -> CaseSubjects:
        rows = stratified_sample(people.is_member, strata, size=2 * plan.sampled, seed=plan.seed)
        return _subjects(sides, people, rows[~people.is_member[rows]])

    given = Beside(
        model=plan.model,
        members=sides[0],
        held_out=sides[1],
        answers=answers,
        subjects=subjects,
        kind=plan.kind,
        features=plan.features,
        recipe=plan.recipe,
        seed=plan.seed,
        only=plan.only,
        positive=plan.positive,
        threshold=plan.threshold,
    )
    return observe_beside(given, progress=progress, clock=clock, kept=kept)


def _answers(cases: CaseGroup, members: int) -> HeldOutAnswers:
    """Keep what the model says of held-out cases."""
    return HeldOutAnswers(
        cases.probabilities[members:],
        cases.labels[members:],
        cases.subject_ids[members:],
        {name: values[members:] for name, values in cases.attributes.items()},
    )


def _settings(people: CasePeople, shadows: Shadows | None) -> dict[str, Scalar]:
    several = len(people.table.position) > len(people.table)
    return {
        "cases": len(people.cases),
        "by_patient": "stouffer" if several else "one case a patient",
        "logits": people.cases.logits,
        "shadow_models": 0 if shadows is None else len(shadows),
        "shadow_design": "none" if shadows is None else "complementary halves of both sides",
    }


def _worth(cases: CaseGroup, members: int) -> dict[str, Scalar]:
    """How often the model is right, the mean over classes: of cases it was trained on, and of others."""
    found: dict[str, Scalar] = {}
    for name, side in (("training", slice(members)), ("held_out", slice(members, None))):
        labels = cases.labels[side]
        right = cases.probabilities[side].argmax(axis=1) == labels
        shares = [right[labels == label].mean() for label in np.unique(labels)]
        found[f"{name}_balanced_accuracy"] = float(np.mean(shares))
    return found


def _facts(plan: ClassifierPlan) -> dict[str, Scalar]:
    return {
        "kind": plan.kind,
        "unit": "patient" if plan.members.has_patients and plan.held_out.has_patients else "case",
        "classes": len(plan.members.classes),
        "parameters": plan.model.parameters,
        "version": metadata.version("primum"),
    }

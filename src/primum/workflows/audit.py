"""``primum.audit``: records in, a model, findings out."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Literal

import numpy as np

from primum.audits.privacy.membership import MIN_K_SHARE, membership_scores
from primum.errors import RecordsError, VocabularyError
from primum.evidence.audit import Audit
from primum.evidence.contrast import Frame
from primum.evidence.finding import Scalar
from primum.evidence.identity import manifest_digest
from primum.evidence.membership import (
    CanaryScores,
    PatientScores,
    combined_score,
    membership_findings,
    require_known,
)
from primum.evidence.overlap import overlap_finding
from primum.fit.protocol import Trainable
from primum.models.doors import open_model
from primum.models.opened import OpenedModel
from primum.models.protocols import Scorer
from primum.records.attributes import count_codes
from primum.records.canaries import CanaryPlan
from primum.records.filtered import Filtered
from primum.records.histories import Records
from primum.records.overlap import near_duplicates, same_ids, subject_ids_of
from primum.records.tokenizer import require_coverage
from primum.report.language import message
from primum.workflows.gather import Group, gather, patient_scores, utility
from primum.workflows.references import folded_reference, train_references

Membership = Literal["observed", "randomised"]
Progress = Callable[[str, int], None]
_MEMBERS_STAGE = message("scores of training patients")
_HELD_OUT_STAGE = message("scores of held-out patients")


@dataclass(frozen=True, eq=False)
class AuditPlan:
    """Everything an audit needs to know.

    Attributes
    ----------
    model : OpenedModel
    members, held_out : Records
        Who trained the model, and comparable patients who did not.
    tuning : Records or None
        Patients who are neither; references are trained on them.
    canaries : CanaryPlan or None
        Planted records and their twins among the records; they leave the headline groups.
    references : sequence of OpenedModel
    recipe : Trainable or None
    recipe_count : int
        How many references the recipe trains.
    only : sequence of str
        Prefixes of test names; empty means all.
    membership : {"observed", "randomised"}
    drop_overlap : bool
        Leave patients who are on both sides out of the held-out side instead of refusing.
    seed : int
    names : mapping of str to str
        Role to digest of its files, where there are files.
    command : str
    """

    model: OpenedModel
    members: Records
    held_out: Records
    tuning: Records | None = None
    canaries: CanaryPlan | None = None
    references: Sequence[OpenedModel] = ()
    recipe: Trainable | None = None
    recipe_count: int = 1
    only: Sequence[str] = ()
    membership: Membership = "observed"
    drop_overlap: bool = False
    seed: int = 0
    names: Mapping[str, str] = field(default_factory=dict)
    command: str = "primum.audit(...)"


@dataclass(frozen=True, eq=False)
class AuditResult:
    """The shareable audit, what stays confidential, and seconds by stage."""

    audit: Audit
    scores: PatientScores
    seconds: Mapping[str, float]


def audit(
    model: OpenedModel | Path | str,
    members: Records,
    held_out: Records,
    *,
    references: Sequence[OpenedModel | Path | str] = (),
    recipe: Trainable | None = None,
    canaries: CanaryPlan | None = None,
    tests: Sequence[str] | None = None,
    membership: Membership = "observed",
    seed: int = 0,
) -> Audit:
    """Test what `model` remembers of the patients who trained it.

    Parameters
    ----------
    model : path or OpenedModel
    members, held_out : Records
        Patients who trained the model, and comparable patients who did not.
    references : sequence of paths or OpenedModel
        Models of the same vocabulary that saw none of these patients.
    recipe : Trainable or None
        Trains two references on halves of the held-out patients, when there are no `references`.
    canaries : CanaryPlan or None
        Planted records and twins among the records, as :meth:`primum.MedsFolder.canaries` reads them.
    tests : sequence of str or None
        Prefixes of test names; None means all.
    membership : {"observed", "randomised"}
        "randomised" only if chance alone decided who trained the model.
    seed : int

    Returns
    -------
    Audit
        ``audit.findings`` and ``audit.exit_status``.

    Raises
    ------
    InputError
        Records, model or references that cannot be used, with the remedy.
    """
    opened = model if isinstance(model, OpenedModel) else open_model(Path(model))
    plan = AuditPlan(
        model=opened,
        members=members,
        held_out=held_out,
        references=[one if isinstance(one, OpenedModel) else open_model(Path(one)) for one in references],
        recipe=recipe,
        canaries=canaries,
        only=tuple(tests or ()),
        membership=membership,
        seed=seed,
    )
    return run_audit(plan).audit


def run_audit(plan: AuditPlan, *, progress: Progress = lambda stage, patients: None) -> AuditResult:
    """Carry out a plan; `progress` hears the stage and how many patients it has just finished."""
    require_known(plan.only)
    clock = _Clock()
    members, held_out, duplicated, dropped = _separate(plan, progress)
    coverage = plan.model.tokenizer.coverage(members)
    require_coverage(coverage)
    counts = count_codes(members)
    clock.lap("overlap and coverage")
    references = _references(plan, held_out, progress)
    clock.lap("reference models")
    sides: list[Group] = []
    for stage, records in ((_MEMBERS_STAGE, members), (_HELD_OUT_STAGE, held_out)):
        progress(stage, 0)
        side = gather(
            plan.model,
            records,
            references=references,
            counts=counts,
            are_members=records is members,
            tick=lambda patients, stage=stage: progress(stage, patients),  # type: ignore[misc]
        )
        sides.append(side)
        clock.lap(stage)
    progress("statistics", 0)
    scores, unscored = patient_scores(*sides, seed=plan.seed)
    canaries = _canary_scores(plan, references)
    data = manifest_digest(plan.names) if plan.names else "in memory"
    frame = Frame(plan.model.ref.digest, data, "scores", plan.membership, plan.seed)
    settings: dict[str, Scalar] = {
        "min_k_share": MIN_K_SHARE,
        "reference_models": len(references),
        "reference_design": _design(plan),
        "reference_digests": " ".join(opened.ref.digest for opened in plan.references),
        "unscored": unscored,
    }
    findings = [
        overlap_finding(
            frame, duplicated=duplicated, held_out=len(sides[1]) + duplicated, members=len(sides[0])
        ),
        *membership_findings(scores, frame, canaries=canaries, settings=settings, only=plan.only),
    ]
    clock.lap("statistics")
    result = Audit(
        model=plan.model.ref,
        data=dict(plan.names),
        patients={"members": len(sides[0]), "held_out": len(sides[1])},
        command=plan.command,
        seed=plan.seed,
        findings=tuple(findings),
        context={
            **utility(*sides),
            **_facts(plan.model),
            "coverage": coverage.share,
            "dropped_overlap": dropped,
        },
    )
    return AuditResult(result, scores, clock.seconds)


def _facts(model: OpenedModel) -> dict[str, Scalar]:
    return {
        "context": model.context,
        "parameters": model.parameters,
        "vocabulary": len(model.tokenizer.vocabulary),
        "version": metadata.version("primum"),
    }


def _separate(plan: AuditPlan, progress: Progress) -> tuple[Records, Records, int, int]:
    """Take canaries, shared patients and near-duplicates away; returns both sides and the two counts."""
    progress("overlap", 0)
    planted = np.empty(0, np.int64) if plan.canaries is None else plan.canaries.subject_ids
    members: Records = Filtered(plan.members, planted)
    held_out: Records = Filtered(plan.held_out, planted)
    shared = same_ids(subject_ids_of(members), subject_ids_of(held_out))
    if len(shared) and not plan.drop_overlap:
        raise RecordsError(
            "{count} patients are both members and held-out: separate them, or leave them out of the "
            "held-out side with --drop-overlap.",
            count=len(shared),
        )
    held_out = Filtered(held_out, shared) if len(shared) else held_out
    twins = near_duplicates(members, held_out).held_out_ids
    return members, Filtered(held_out, twins), len(twins), len(shared)


def _references(plan: AuditPlan, held_out: Records, progress: Progress) -> list[Scorer]:
    vocabulary = plan.model.tokenizer.vocabulary
    for opened in plan.references:
        if opened.tokenizer.vocabulary != vocabulary:
            raise VocabularyError(
                "The reference {name} has another vocabulary than the model: train it with the model's "
                "vocab.json and token_profile.json.",
                name=opened.ref.name,
            )
    given = [opened.scorer for opened in plan.references]
    if given or plan.recipe is None:
        return given
    progress("reference models", 0)
    if plan.tuning is not None:
        # With a held-out folder of its own, ids may recur: nobody is scored by a model that saw them.
        tested = np.concatenate([subject_ids_of(plan.members), subject_ids_of(held_out)])
        return train_references(
            plan.recipe,
            plan.model.tokenizer,
            Filtered(plan.tuning, tested),
            count=plan.recipe_count,
            seed=plan.seed,
        )
    return [folded_reference(plan.recipe, plan.model.tokenizer, held_out, seed=plan.seed)]


def _design(plan: AuditPlan) -> str:
    if plan.references:
        return "given"
    if plan.recipe is None:
        return "none"
    return "held-out in two folds" if plan.tuning is None else "tuning patients"


def _canary_scores(plan: AuditPlan, references: Sequence[Scorer]) -> CanaryScores | None:
    """Score one copy of each planted record and each twin."""
    if plan.canaries is None or not len(plan.canaries.subject_ids):
        return None
    canaries = plan.canaries
    _, first = np.unique(np.stack([canaries.canary, canaries.planted]), axis=1, return_index=True)
    wanted = canaries.subject_ids[first]
    ids, scores = [], []
    for records in (plan.members, plan.held_out):
        for shard in Filtered(records, wanted, keep=True).shards():
            tokens = plan.model.tokenizer.encode(shard)
            ids.append(shard.subject_ids)
            scores.append(membership_scores(plan.model.scorer, tokens, references=references))
    if not ids:
        return None
    columns = {name: np.concatenate([part[name] for part in scores]) for name in scores[0]}
    _, combined = combined_score(columns)
    place = {int(subject): row for row, subject in enumerate(canaries.subject_ids)}
    rows = np.array([place[int(subject)] for subject in np.concatenate(ids)])
    known = np.isfinite(combined)
    return CanaryScores(combined[known], canaries.planted[rows][known], canaries.copies[rows][known])


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Close a stage."""
        now = time.perf_counter()
        self.seconds[stage] = now - self._last
        self._last = now

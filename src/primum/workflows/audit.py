"""``primum.audit``: records in, a model, findings out."""

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy as np

from primum.audits import suite
from primum.audits.privacy.membership import MIN_K_SHARE, membership_scores
from primum.errors import ModelError, RecordsError, VocabularyError
from primum.evidence.audit import Audit
from primum.evidence.claims import Measurements, Overlap, findings_of
from primum.evidence.contrast import Frame
from primum.evidence.finding import Scalar
from primum.evidence.identity import manifest_digest
from primum.evidence.measured import Measured
from primum.evidence.membership import CanaryScores, combined_score
from primum.evidence.naming import FEWEST_REFERENCES
from primum.evidence.rules import families_wanted, require_groups, require_known
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
from primum.workflows.asked import ask_suite
from primum.workflows.clock import Clock, Stage
from primum.workflows.gather import Everyone, Group, Reading, everyone, gather, utility
from primum.workflows.kept import NOTHING_KEPT, Kept
from primum.workflows.plan import AuditPlan, AuditResult, Membership, Progress
from primum.workflows.references import folded_reference, folded_references, train_references
from primum.workflows.sampling import token_families
from primum.workflows.workers import Map

_KEPT_STAGE = message("what an interrupted audit kept")
_MEMBERS_STAGE = message("scores of training patients")
_HELD_OUT_STAGE = message("scores of held-out patients")


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
    sampled: int = 500,
    seed: int = 0,
) -> Audit:
    """Test what `model` remembers of the patients who trained it.

    Parameters
    ----------
    model : path, address of a model server, or OpenedModel
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
    sampled : int
        Patients for the tests that generate or sweep; the other tests ask everyone.
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
    opened = model if isinstance(model, OpenedModel) else open_model(model)
    plan = AuditPlan(
        model=opened,
        members=members,
        held_out=held_out,
        references=[one if isinstance(one, OpenedModel) else open_model(one) for one in references],
        recipe=recipe,
        canaries=canaries,
        only=tuple(tests or ()),
        membership=membership,
        sampled=sampled,
        seed=seed,
    )
    return run_audit(plan).audit


def run_audit(
    plan: AuditPlan,
    *,
    progress: Progress = lambda stage, patients: None,
    apply: Map = map,
    kept: Kept = NOTHING_KEPT,
) -> AuditResult:
    """Carry out a plan; `apply` may spread work over other processes.

    `progress` hears the stage and how many patients it has just finished. What is in `kept` is not computed
    again; what is not goes there.
    """
    if kept:
        progress(_KEPT_STAGE, 0)
    require_known(plan.only, "sequence")
    clock = Clock()
    members, held_out, duplicated, dropped = _separate(plan, progress)
    coverage = plan.model.tokenizer.coverage(members)
    require_coverage(coverage)
    clock.lap("overlap and coverage")
    references = _references(plan, held_out, progress, kept)
    clock.lap("reference models")
    sides = _gathered(plan, (members, held_out), references, progress, clock, kept.each(apply, "block"))
    progress("statistics", 0)
    people = everyone(*sides, seed=plan.seed)
    require_groups(plan.only, people.scores.subgroups)
    canaries = _canary_scores(plan, references)
    clock.lap("statistics")
    asked = ask_suite(
        plan,
        (members, held_out),
        people,
        references,
        progress=progress,
        spent=clock.spend,
        apply=kept.each(apply, "family"),
    )
    clock.restart()
    overlap = Overlap(duplicated, len(sides[1]) + duplicated, len(sides[0]))
    measurements = _measurements(plan, people, canaries, asked.measured, overlap, len(references))
    findings = findings_of(measurements)
    clock.lap("statistics")
    result = Audit(
        model=plan.model.ref,
        data=dict(plan.names),
        patients={"members": len(sides[0]), "held_out": len(sides[1])},
        command=plan.command,
        seed=plan.seed,
        findings=findings,
        context={
            **utility(*sides),
            **_facts(plan.model),
            "coverage": coverage.share,
            "dropped_overlap": dropped,
        },
    )
    return AuditResult(result, measurements, asked.passages, clock.seconds)


def _gathered(
    plan: AuditPlan,
    sides: tuple[Records, Records],
    references: Sequence[Scorer],
    progress: Progress,
    clock: Clock,
    apply: Map,
) -> tuple[Group, Group]:
    counts = count_codes(sides[0])
    questions = suite.questions(
        plan.model.scorer,
        token_families(plan.model, plan.families),
        wanted=families_wanted(plan.only, "sequence"),
    )
    reading = Reading(plan.model, references, counts, plan.families, questions)
    members, held_out = (Stage(stage, progress, clock) for stage in (_MEMBERS_STAGE, _HELD_OUT_STAGE))
    return gather(reading, sides, ticks=(members, held_out), apply=apply)


def _measurements(
    plan: AuditPlan,
    people: Everyone,
    canaries: CanaryScores | None,
    measured: Sequence[Measured],
    overlap: Overlap,
    reference_count: int,
) -> Measurements:
    data = manifest_digest(plan.names) if plan.names else "in memory"
    return Measurements(
        scores=people.scores,
        measured=measured,
        canaries=canaries,
        frame=Frame(plan.model.ref.digest, data, "scores", plan.membership, plan.seed),
        overlap=overlap,
        settings={
            "min_k_share": MIN_K_SHARE,
            "reference_models": reference_count,
            "reference_design": _design(plan),
            "reference_digests": " ".join(opened.ref.digest for opened in plan.references),
            "unscored": people.unscored,
        },
        only=tuple(plan.only),
    )


def _facts(model: OpenedModel) -> dict[str, Scalar]:
    return {
        "context": model.context,
        **({"guessed": "; ".join(model.guessed)} if model.guessed else {}),
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


def _references(plan: AuditPlan, held_out: Records, progress: Progress, kept: Kept) -> list[Scorer]:
    vocabulary = plan.model.tokenizer.vocabulary
    for opened in plan.references:
        if opened.tokenizer.vocabulary != vocabulary:
            raise VocabularyError(
                "The reference {name} has another vocabulary than the model: train it with the model's "
                "vocab.json and token_profile.json.",
                name=opened.ref.name,
            )
    given = [_reference(opened) for opened in plan.references]
    if given or plan.recipe is None:
        return given
    progress("reference models", 0)
    recipe = kept.trained(plan.recipe)
    if plan.tuning is not None:
        # With a held-out folder of its own, ids may recur: nobody is scored by a model that saw them.
        tested = np.concatenate([subject_ids_of(plan.members), subject_ids_of(held_out)])
        return train_references(
            recipe,
            plan.model.tokenizer,
            Filtered(plan.tuning, tested),
            count=plan.recipe_count,
            seed=plan.seed,
        )
    if plan.recipe_count < FEWEST_REFERENCES:
        return [folded_reference(recipe, plan.model.tokenizer, held_out, seed=plan.seed)]
    return list(
        folded_references(recipe, plan.model.tokenizer, held_out, count=plan.recipe_count, seed=plan.seed)
    )


def _reference(opened: OpenedModel) -> Scorer:
    if isinstance(opened.scorer, Scorer):
        return opened.scorer
    raise ModelError(
        "The reference {name} gives no log-probabilities: give one that does.", name=opened.ref.name
    )


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
    rows = rows[known]
    return CanaryScores(combined[known], canaries.planted[rows], canaries.copies[rows], canaries.canary[rows])

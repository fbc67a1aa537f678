"""The suite put to its patients: what was asked of everyone, then the stated sample."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from primum.audits import suite
from primum.audits.privacy.extraction import Passage, passages
from primum.evidence.measured import Measured
from primum.evidence.rules import families_wanted
from primum.models.protocols import Scorer
from primum.records.histories import Records
from primum.report.language import message
from primum.workflows.gather import Everyone
from primum.workflows.plan import AuditPlan, Progress
from primum.workflows.sampling import read_subjects, stratified_sample

_STAGES = {
    "embedding": message("embeddings of a sample"),
    "extraction": message("passages of a sample"),
    "knowledge": message("what an attacker must know, on a sample"),
    "perturbation": message("who the patient is, changed, on a sample"),
    "sensitive": message("sensitive codes written, on a sample"),
    "trajectory": message("records continued, on a sample"),
}


@dataclass(frozen=True, eq=False)
class Asked:
    """What the families measured, and passages that could be extracted: these stay confidential."""

    measured: Sequence[Measured]
    passages: Sequence[Passage]


def ask_suite(
    plan: AuditPlan,
    sides: tuple[Records, Records],
    people: Everyone,
    references: Sequence[Scorer],
    *,
    progress: Progress,
    lap: Callable[[str], None],
) -> Asked:
    """Ask every family but membership; `lap` closes a stage."""
    wanted = families_wanted(plan.only)
    measured = suite.of_everyone(
        people.asked,
        people.scores.is_member,
        people.table,
        blind=people.guesses,
        wanted=wanted,
        seed=plan.seed,
    )
    found: Sequence[Passage] = ()
    if not wanted & suite.SAMPLED.keys():
        return Asked(measured, found)
    scores = people.scores
    subjects = read_subjects(
        sides,
        plan.model,
        scores,
        rows=stratified_sample(scores.is_member, scores.strata, size=plan.sampled, seed=plan.seed),
        subject_ids=people.table.subject_ids,
        families=plan.families,
        holders=people.holders,
        seed=plan.seed,
    )
    model = plan.model.scorer
    for family in sorted(wanted & suite.SAMPLED.keys()):
        stage = _STAGES[family]
        progress(stage, 0)
        measured += [test(model, references, subjects) for test in suite.SAMPLED[family]]
        if family == "extraction" and isinstance(model, Scorer):
            found = passages(model, subjects, full=plan.show_records)
        progress(stage, len(subjects))
        lap(stage)
    return Asked(measured, found)

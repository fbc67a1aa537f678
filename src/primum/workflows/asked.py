"""The suite put to its patients: what was asked of everyone, then the stated sample."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from primum.audits import suite
from primum.audits.privacy.extraction import Passage, passages
from primum.audits.privacy.subjects import Subjects
from primum.evidence.measured import Measured
from primum.evidence.rules import families_wanted
from primum.models.protocols import Scorer
from primum.records.histories import Records
from primum.report.language import message
from primum.workflows.gather import Everyone
from primum.workflows.plan import AuditPlan, Progress
from primum.workflows.sampling import read_subjects, stratified_sample
from primum.workflows.workers import Map

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
    spent: Callable[[str, float], None],
    apply: Map = map,
) -> Asked:
    """Ask every family but membership; `spent` hears the seconds of each stage, `apply` spreads families."""
    wanted = families_wanted(plan.only, "sequence")
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
    asking = _Asking(plan.model.answering, references, subjects, plan.show_records)
    families = [family for family in suite.SAMPLED if family in wanted]
    progress(_STAGES[families[0]], 0)
    for place, (answers, drawn, seconds) in enumerate(apply(asking, families)):
        stage = _STAGES[families[place]]
        measured += answers
        found = drawn or found
        progress(stage, len(subjects))
        spent(stage, seconds)
        if place + 1 < len(families):
            progress(_STAGES[families[place + 1]], 0)
    return Asked(measured, found)


@dataclass(frozen=True, eq=False)
class _Asking:
    """What is asked of the sample; called with a family, here or in another process."""

    model: object
    references: Sequence[Scorer]
    subjects: Subjects
    show_records: bool

    def __call__(self, family: str) -> tuple[list[Measured], Sequence[Passage], float]:
        """Return what the family measured, passages that could be extracted, and the seconds it took."""
        started = time.perf_counter()
        measured = [test(self.model, self.references, self.subjects) for test in suite.SAMPLED[family]]
        found: Sequence[Passage] = ()
        if family == "extraction" and isinstance(self.model, Scorer):
            found = passages(self.model, self.subjects, full=self.show_records)
        return measured, found, time.perf_counter() - started

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from tests import tiny
from tests.workflows.conftest import World

import primum
from primum.errors import ModelError, RecordsError, VocabularyError
from primum.evidence.audit import Audit
from primum.evidence.canonical import canonical_bytes
from primum.evidence.finding import Finding
from primum.models.causal import CausalModel
from primum.records.canaries import CanaryPlan
from primum.records.histories import FloatArray, Histories, InMemory, concatenate
from primum.records.ragged import IntArray
from primum.records.synthetic import SyntheticSettings, synthetic_cohort
from primum.records.tokens import TokenBatch
from primum.workflows.audit import run_audit
from primum.workflows.plan import AuditPlan


@dataclass
class Recorder:
    """Passes questions on to a model and remembers whom they were about."""

    model: CausalModel
    asked: list[int] = field(default_factory=list)

    def log_probs(self, tokens: TokenBatch) -> list[FloatArray]:
        self.asked += tokens.subject_ids.tolist()
        return self.model.log_probs(tokens)


def plan_of(world: World, members: Histories, held_out: Histories) -> tuple[AuditPlan, Recorder]:
    opened = world.opened()
    assert isinstance(opened.scorer, CausalModel)
    recorder = Recorder(opened.scorer)
    sides = InMemory((members,)), InMemory((held_out,))
    return AuditPlan(replace(opened, scorer=recorder), *sides), recorder


def finding(audit: Audit, test: str) -> Finding:
    return next(one for one in audit.findings if one.test == test)


def under_other_ids(histories: Histories, first: int) -> Histories:
    return replace(histories, subject_ids=np.arange(first, first + len(histories)))


def test_thirty_patients_of_a_clean_model_are_too_few_to_tell(world: World) -> None:
    audit = run_audit(AuditPlan(world.opened(), *world.sides())).audit
    assert audit.exit_status == 3
    assert [one.test for one in audit.findings][:2] == ["data.overlap", "membership.combined.auc"]
    assert not any(one.harmful for one in audit.findings)
    primary = finding(audit, "membership.combined.auc")
    assert (primary.verdict, primary.primary) == ("inconclusive", True)
    estimate = primary.estimates[0]
    assert estimate.n == (30, 30)
    assert estimate.low < 0.5 < estimate.high
    (needed,) = [reason.parameters for reason in primary.reasons if "needed_members" in reason.parameters]
    # An AUC of .55 needs hundreds a side, whatever the correction.
    assert int(needed["needed_members"] or 0) > 300
    assert finding(audit, "membership.combined.tpr").reasons[0].parameters["needed"] == 300


def test_the_same_seed_gives_the_same_bytes(world: World) -> None:
    first, again, other = (
        run_audit(AuditPlan(world.opened(), *world.sides(), seed=seed)).audit for seed in (4, 4, 5)
    )
    assert canonical_bytes(first) == canonical_bytes(again)
    assert canonical_bytes(first) != canonical_bytes(other)


def test_the_python_function_is_the_same_audit(world: World) -> None:
    audit = primum.audit(world.model, *world.sides(), seed=4)
    again = run_audit(AuditPlan(world.opened(), *world.sides(), seed=4)).audit
    assert canonical_bytes(audit) == canonical_bytes(again)
    only = primum.audit(
        world.model, *world.sides(), seed=4, tests=["membership.loss"], membership="randomised"
    )
    assert {one.test for one in only.findings} == {
        "data.overlap",
        "membership.combined.auc",
        "membership.loss.auc",
        "membership.loss.tpr",
    }
    assert {one.membership for one in only.findings} == {"randomised"}


def test_shards_change_nothing(world: World) -> None:
    whole = run_audit(AuditPlan(world.opened(), *world.sides())).audit
    cuts = [np.arange(7), np.arange(7, 29), np.array([29])]
    members, held_out = (
        InMemory(tuple(side.select(cut) for cut in cuts)) for side in (world.members, world.held_out)
    )
    cut = run_audit(AuditPlan(world.opened(), members, held_out)).audit
    assert [one.verdict for one in cut.findings] == [one.verdict for one in whole.findings]
    for left, right in zip(whole.findings, cut.findings, strict=True):
        for one, other in zip(left.estimates, right.estimates, strict=True):
            assert other.value == pytest.approx(one.value, abs=1e-6)


def test_near_copies_leave_the_held_out_side_before_anyone_is_scored(world: World) -> None:
    longest = np.argsort(-np.diff(world.members.offsets))[:6]
    copies = under_other_ids(world.members.select(longest), 5001)
    held_out = concatenate([world.held_out, copies])
    plan, recorder = plan_of(world, world.members, held_out)
    audit = run_audit(plan).audit
    assert not set(recorder.asked) & set(copies.subject_ids.tolist())
    assert audit.patients == {"members": 30, "held_out": 30}
    overlap = audit.findings[0]
    assert overlap.test == "data.overlap"
    assert (overlap.verdict, overlap.settings["duplicated"]) == ("tainted", 6)
    assert overlap.estimates[0].value == pytest.approx(6 / 36)
    assert audit.exit_status == 1


def test_the_same_patient_on_both_sides_is_refused_or_dropped(world: World) -> None:
    held_out = concatenate([world.held_out, world.members.select(np.arange(4))])
    plan, recorder = plan_of(world, world.members, held_out)
    with pytest.raises(RecordsError, match="4 patients are both members and held-out: separate them, or"):
        run_audit(plan)
    assert recorder.asked == []
    audit = run_audit(replace(plan, drop_overlap=True)).audit
    assert audit.patients == {"members": 30, "held_out": 30}
    assert audit.context["dropped_overlap"] == 4
    assert audit.findings[0].verdict == "none_found"


@pytest.fixture(scope="module")
def planted() -> tuple[dict[str, Histories], CanaryPlan]:
    sizes = {"train": 30, "held_out": 30}
    wanted = SyntheticSettings(sizes=sizes, mean_visits=2, canary_pairs=12, canary_copies=(1, 3))
    cohort = synthetic_cohort(wanted, seed=5)
    assert cohort.canaries is not None
    return dict(cohort.splits), cohort.canaries


def test_canaries_leave_the_headline_and_are_scored_once_each(
    world: World, planted: tuple[dict[str, Histories], CanaryPlan]
) -> None:
    splits, canaries = planted
    train = InMemory((splits["train"],))
    tokenizer = tiny.tokenizer_of(train)
    plan, recorder = plan_of(world, splits["train"], splits["held_out"])
    model = tiny.build(vocabulary=len(tokenizer.vocabulary), context=64)
    recorder.model = model
    opened = replace(plan.model, tokenizer=tokenizer)
    audit = run_audit(replace(plan, model=opened, canaries=canaries, only=("membership",))).audit
    assert audit.patients == {"members": 30, "held_out": 30}
    of_canaries = [subject for subject in recorder.asked if subject in set(canaries.subject_ids.tolist())]
    assert len(set(recorder.asked)) == len(recorder.asked) == 60 + len(of_canaries)
    rows = [int(np.flatnonzero(canaries.subject_ids == subject)[0]) for subject in of_canaries]
    asked = sorted(zip(canaries.canary[rows].tolist(), canaries.planted[rows].tolist(), strict=True))
    assert asked == [(pair, planted) for pair in range(24) for planted in (False, True)]
    said = finding(audit, "membership.canary")
    assert said.membership == "randomised"
    assert [(one.name, one.n) for one in said.estimates] == [
        ("auc", (24, 24)),
        ("auc_d1", (12, 12)),
        ("auc_d3", (12, 12)),
        ("exposure_d1", (12, 24)),
        ("exposure_d3", (12, 24)),
        ("epsilon_one_run", (9, 3)),
    ]


def test_patients_without_a_scorable_event_are_counted_and_left_out(world: World) -> None:
    silent = world.members.select(np.array([0, 1]))
    keep: list[IntArray] = []
    for patient in range(2):  # keep what has no time: sex and site, which nobody predicts
        rows = np.arange(silent.offsets[patient], silent.offsets[patient + 1])
        keep.append(rows[np.isnat(silent.times[rows])])
    rows = np.concatenate(keep)
    offsets = np.append(0, np.cumsum([len(part) for part in keep]))
    still = (silent.codes, silent.code_ids[rows], silent.times[rows], silent.values[rows])
    short = Histories(np.array([8001, 8002]), offsets, *still)
    members = concatenate([world.members, short])
    result = run_audit(AuditPlan(world.opened(), InMemory((members,)), InMemory((world.held_out,))))
    primary = finding(result.audit, "membership.combined.auc")
    assert primary.settings["unscored"] == 2
    assert primary.estimates[0].n == (30, 30)
    assert len(result.scores.is_member) == 60


def test_a_vocabulary_that_knows_little_of_the_records_is_refused(world: World) -> None:
    codes = tuple(
        f"OTHER/{code}" if code.startswith(("DIAG", "LAB")) else code for code in world.members.codes
    )
    stranger = replace(world.members, codes=codes)
    plan, recorder = plan_of(world, stranger, world.held_out)
    with pytest.raises(VocabularyError, match=r"less than 50.0 %: give .* Unknown kinds of codes: OTHER"):
        run_audit(plan)
    assert recorder.asked == []


def test_a_site_of_a_few_patients_is_not_named(world: World) -> None:
    def at_sites(histories: Histories, ours: int) -> Histories:
        """Send the first patients to one site, everybody else to another."""
        codes = (*histories.codes, "SITE//ONLYHERE", "SITE//ELSEWHERE")
        site = np.array([code.startswith("SITE//") for code in codes])[histories.code_ids]
        owner = np.repeat(np.arange(len(histories)), np.diff(histories.offsets))
        moved = np.where(owner < ours, len(codes) - 2, len(codes) - 1)
        return replace(histories, codes=codes, code_ids=np.where(site, moved, histories.code_ids))

    for ours, named in ((2, False), (3, True)):
        sides = [InMemory((at_sites(side, ours),)) for side in (world.members, world.held_out)]
        audit = primum.audit(world.model, sides[0], sides[1])
        tests = {one.test for one in audit.findings}
        assert "membership.combined.auc@site=ELSEWHERE" in tests
        assert ("membership.combined.auc@site=ONLYHERE" in tests) == named
        assert (b"ONLYHERE" in canonical_bytes(audit)) == named


def test_utility_stands_beside_counting_codes(world: World) -> None:
    context = run_audit(AuditPlan(world.opened(), *world.sides())).audit.context
    tokens = world.opened().tokenizer.encode(world.members)
    counts = np.ones(len(world.opened().tokenizer.vocabulary))
    held_out = world.opened().tokenizer.encode(world.held_out)
    np.add.at(counts, tokens.token_ids[tokens.kinds == 0], 1)
    clinical = held_out.token_ids[held_out.kinds == 0]
    expected = -float(np.mean(np.log(counts / counts.sum())[clinical]))
    assert context["unigram_loss"] == pytest.approx(expected)
    scored = tiny.scorer_of(world.opened()).log_probs(held_out)
    masks = [held_out.kinds_of(patient)[1:] == 0 for patient in range(len(held_out))]
    every = np.concatenate([row[mask] for row, mask in zip(scored, masks, strict=True)])
    assert context["held_out_loss"] == pytest.approx(-every.mean())


def test_progress_counts_every_patient_of_each_side(world: World) -> None:
    heard: dict[str, int] = {}

    def listen(stage: str, patients: int) -> None:
        heard[stage] = heard.get(stage, 0) + patients

    result = run_audit(AuditPlan(world.opened(), *world.sides(), sampled=40), progress=listen)
    # Everyone, then the sample, once for each of six families.
    assert [count for count in heard.values() if count] == [30, 30, *[40] * 6]
    assert all(seconds >= 0 for seconds in result.seconds.values())


def test_large_shards_are_asked_a_part_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = AuditPlan(world.opened(), *world.sides(), only=("membership",))
    whole = run_audit(plan).scores
    heard: list[int] = []
    monkeypatch.setattr("primum.workflows.gather._AT_ONCE", 8)
    parts = run_audit(plan, progress=lambda stage, done: heard.append(done)).scores
    # Thirty patients a side.
    assert [done for done in heard if done] == [8, 8, 8, 6] * 2
    np.testing.assert_allclose(parts.components["loss"], whole.components["loss"], atol=1e-5)


def test_a_reference_that_gives_no_scores_is_refused(world: World) -> None:
    silent = replace(world.opened(), scorer=object())
    with pytest.raises(ModelError, match="gives no log-probabilities"):
        run_audit(AuditPlan(world.opened(), *world.sides(), references=(silent,)))

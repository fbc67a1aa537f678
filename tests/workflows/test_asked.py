"""The whole suite end to end, on a tiny model that remembers its patients."""

from dataclasses import replace

import numpy as np
import pytest
from tests import tiny
from tests.workflows.test_audit import Recorder

from primum.errors import InputError
from primum.evidence.audit import Audit
from primum.evidence.canonical import canonical_bytes
from primum.evidence.finding import Finding
from primum.evidence.rules import RULES_OF
from primum.models.causal import CausalModel
from primum.models.doors import open_model
from primum.records.histories import InMemory
from primum.workflows.audit import run_audit
from primum.workflows.confidential import scores_table
from primum.workflows.outputs import passages_table
from primum.workflows.plan import AuditPlan, AuditResult

RULES = RULES_OF["sequence"]

SIDE = 50


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> AuditPlan:
    people = tiny.cohort(train=40, members=SIDE, held_out=SIDE)
    members, held_out = (InMemory((people[side],)) for side in ("members", "held_out"))
    folder = tiny.model_folder(
        tmp_path_factory.mktemp("leaky"), tiny.tokenizer_of(InMemory((people["train"],))), members, epochs=25
    )
    return AuditPlan(open_model(folder), members, held_out, sampled=60, membership="randomised")


@pytest.fixture(scope="module")
def result(plan: AuditPlan) -> AuditResult:
    return run_audit(plan)


def by_test(audit: Audit) -> dict[str, Finding]:
    return {finding.test: finding for finding in audit.findings}


def test_every_test_of_the_suite_has_its_finding_and_each_family_one_primary(result: AuditResult) -> None:
    found = by_test(result.audit)
    assert not RULES.keys() - found.keys()
    for family in {test.partition(".")[0] for test in RULES}:
        primary = [t for t, f in found.items() if t.startswith(f"{family}.") and f.primary and "@" not in t]
        assert len(primary) == 1, family


def test_a_memory_is_found_by_more_than_one_family(result: AuditResult) -> None:
    found = by_test(result.audit)
    assert found["knowledge.depth"].verdict == "leak"
    assert found["knowledge.cost"].verdict == "leak"
    assert result.audit.exit_status == 1
    # The error budget is one: each claim knows how many stand beside it.
    counts = {f.settings["claims"] for f in found.values() if f.p_adjusted is not None}
    assert len(counts) == 1


def test_tests_that_generate_ask_the_stated_sample_and_the_others_everyone(result: AuditResult) -> None:
    found = by_test(result.audit)
    members, others = found["knowledge.depth"].estimates[0].n
    assert members <= 30
    assert others <= 30
    everyone = result.measured[1]
    assert "embedding.probe" in everyone.scores
    assert len(everyone.rows) == 2 * SIDE


def test_a_model_that_only_scores_says_what_it_cannot_do(plan: AuditPlan) -> None:
    assert isinstance(plan.model.scorer, CausalModel)
    scores_only = replace(plan.model, scorer=Recorder(plan.model.scorer))
    found = by_test(run_audit(replace(plan, model=scores_only)).audit)
    for test in ("trajectory.codes", "sensitive.inferred", "embedding.probe", "embedding.linkage"):
        assert found[test].verdict == "not_applicable"
        assert found[test].reasons[0].code == "model_cannot"
    assert found["trajectory.codes"].primary
    assert found["knowledge.depth"].verdict == "leak"


def test_only_asks_the_families_that_were_named(plan: AuditPlan) -> None:
    narrow = run_audit(replace(plan, only=("perturbation.age",)))
    claims = {f.test for f in narrow.audit.findings if f.p_value is not None}
    assert claims == {"perturbation.combined", "perturbation.age"}
    assert not any(f.test.startswith("membership") for f in narrow.audit.findings)
    with pytest.raises(InputError, match="no test is named knowlege"):
        run_audit(replace(plan, only=("knowlege",)))


def test_numbers_by_patient_stay_confidential_and_complete(plan: AuditPlan, result: AuditResult) -> None:
    order = np.random.default_rng(1).permutation(2 * SIDE)
    table = scores_table(result.measurements, order)
    asked = table["knowledge.depth"].drop_nulls()
    depth = by_test(result.audit)["knowledge.depth"].estimates[0]
    assert len(asked) == sum(depth.n)
    sensitive = [name for name in table.columns if name.startswith("sensitive.inferred:")]
    assert "sensitive.inferred:cancer" in sensitive
    assert "sensitive.inferred:cancer:true" in sensitive
    for passage in result.passages:
        assert passage.codes is None
    shown = run_audit(replace(plan, only=("extraction",), show_records=True))
    codes = passages_table(shown, order)["codes"]
    assert len(codes) == len(result.passages)
    assert all(one is not None and "//" in one[0] for one in codes)


def test_the_suite_repeats_with_its_seed(plan: AuditPlan, result: AuditResult) -> None:
    assert canonical_bytes(run_audit(plan).audit) == canonical_bytes(result.audit)


def test_what_is_guessed_of_sensitive_facts_stands_beside_guesses_without_the_model(
    result: AuditResult,
) -> None:
    guesses = next(one.guesses["sensitive.inferred"] for one in result.measured if one.guesses)
    assert guesses.blind is not None
    assert guesses.blind.shape == guesses.scores.shape
    assert np.isfinite(guesses.blind).all()
    assert guesses.blind.std() > 0

"""Naming patients, from a command's references to the table that says who."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests import tiny

from primum.evidence.finding import Finding
from primum.evidence.identity import ModelRef
from primum.models.opened import OpenedModel
from primum.records.histories import InMemory
from primum.report.language import Language
from primum.workflows.audit import run_audit
from primum.workflows.outputs import write_result
from primum.workflows.plan import AuditPlan, AuditResult
from primum.workflows.recompute import recompute

MEMBERS, HELD_OUT = 60, 110


@pytest.fixture(scope="module")
def plan() -> AuditPlan:
    people = tiny.cohort(train=20, members=MEMBERS, held_out=HELD_OUT)
    tokenizer = tiny.tokenizer_of(InMemory((people["train"],)))
    models = [
        OpenedModel(
            ModelRef(f"m{seed}", f"{seed:064}", "computed", {}),
            tiny.build(vocabulary=len(tokenizer.vocabulary), context=64, seed=seed),
            tokenizer,
            64,
            1,
        )
        for seed in range(17)
    ]
    members, held_out = (InMemory((people[side],)) for side in ("members", "held_out"))
    return AuditPlan(models[0], members, held_out, references=models[1:], only=("membership",))


def named(result: AuditResult) -> Finding:
    return next(one for one in result.audit.findings if one.test == "membership.named")


def test_with_sixteen_references_naming_is_judged_and_a_model_that_saw_nobody_names_nobody(
    plan: AuditPlan, tmp_path: Path
) -> None:
    result = run_audit(plan)
    finding = named(result)
    assert finding.verdict == "inconclusive"
    assert not finding.harmful
    assert finding.settings["reference_models"] == 16
    under = result.scores.under_references
    assert under is not None
    ratio = result.scores.components["loss"] - under.mean(axis=1)
    np.testing.assert_allclose(result.scores.components["ratio"], ratio)
    tmp_path.joinpath("out").mkdir()
    write_result(tmp_path / "out", result, language=Language("en"))
    table = pl.read_parquet(tmp_path / "out" / "confidential" / "named.parquet")
    assert len(table) == MEMBERS
    assert not table["named"].any()
    assert table["p"].is_sorted()
    # The opaque number is that of the table of scores, which says who is a member.
    scores = pl.read_parquet(tmp_path / "out" / "confidential" / "scores.parquet")
    assert scores.filter(pl.col("patient").is_in(table["patient"].implode()))["member"].all()
    assert recompute(tmp_path / "out")[1] == ()


def test_with_fewer_references_nobody_is_named(plan: AuditPlan) -> None:
    result = run_audit(replace(plan, references=plan.references[:3]))
    assert result.scores.under_references is None
    assert named(result).verdict == "not_applicable"
    assert [reason.code for reason in named(result).reasons] == ["needs_recipe", "rank_resolution"]

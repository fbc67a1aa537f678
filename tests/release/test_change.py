"""Minor changes under a plan: the same files but one, the same data, bounded losses; else the whole gate."""

from dataclasses import replace
from typing import Any

import pytest
from tests.release.bench import ROLES, Bench, fresh
from tests.release.world import clean, finding, key_of, policy_text

from primum.errors import InputError
from primum.evidence.finding import Finding
from primum.evidence.identity import manifest_digest
from primum.release.evaluate import evaluate, subject_of
from primum.release.event import BallotCast
from primum.release.statement import Statement, sign_statement

PLAN = """
[minor_change]
plan = "recalibration"
may_change = ["model.safetensors", "heads/*.safetensors"]
largest_loss = { "performance.auc" = 0.02 }
waived = ["membership."]
quorum = 1
required_roles = ["clinician"]
"""
OLD = {"config.json": "11" * 32, "model.safetensors": "22" * 32}
NEW = OLD | {"model.safetensors": "33" * 32}
DATA = ("dd" * 32,)


def performance(low: float, **other: Any) -> Finding:
    return finding("performance.auc", "descriptive", low=low, high=0.95, **other)


def changed(
    *,
    plan: str = PLAN,
    files: dict[str, str] | None = None,
    data: tuple[str, ...] = DATA,
    found: list[Finding] | None = None,
    was_live: bool = True,
    **card: Any,
) -> tuple[Bench, str]:
    """A model that was live, and its change."""
    bench = fresh(policy_text(plan)).registers("old", files=OLD, data=DATA)
    old, new = manifest_digest(OLD), manifest_digest(files or NEW)
    bench = bench.findings("old", clean(), files=OLD).decides("old", digest=old)
    if was_live:
        model = replace(bench.standing.models[old], was_live=True, state="live")
        bench = replace(bench, standing=bench.standing.with_model(model))
    said = {"parent": old, "change": "minor", "plan": "recalibration"} | card
    bench = bench.registers("new", files=files or NEW, data=data, **said)
    bench = bench.findings("new", found or [performance(0.84)], files=files or NEW)
    return bench, new


def reasons(bench: Bench, digest: str) -> dict[str, str]:
    decision = evaluate(bench.standing, digest, bench.shelf, date=bench.date)
    return {one.rule: one.reason for one in decision.rules if one.reason != "passed"}


def test_a_minor_change_needs_less() -> None:
    bench, new = changed()
    assert reasons(bench, new) == {"membership.combined.auc": "parent"}
    whole, same = changed(change="whole")
    assert reasons(whole, same) == {"membership.combined.auc": "missing"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"plan": ""}, {"minor.plan": "plan"}),
        ({"plan": PLAN.replace('"recalibration"', '"another"')}, {"minor.plan": "plan"}),
        ({"was_live": False}, {"minor.parent": "no_parent"}),
        ({"parent": "00" * 32}, {"minor.parent": "no_parent"}),
        ({"files": NEW | {"config.json": "44" * 32}}, {"minor.files": "files"}),
        ({"files": NEW | {"more.json": "44" * 32}}, {"minor.files": "files"}),
        ({"files": {"model.safetensors": "33" * 32}}, {"minor.files": "files"}),
        ({"data": ("ee" * 32,)}, {"minor.data": "data"}),
        ({"data": ()}, {"minor.data": "data"}),
        ({"found": [performance(0.82)]}, {"minor.loss:performance.auc": "loss"}),
        ({"found": [performance(0.84, data="bb" * 32)]}, {"minor.loss:performance.auc": "data"}),
        ({"found": [finding("other")]}, {"minor.loss:performance.auc": "missing"}),
    ],
)
def test_what_is_no_minor_change_does_not_pass(given: dict[str, Any], expected: dict[str, str]) -> None:
    bench, new = changed(**given)
    found = reasons(bench, new)
    assert {name: found.get(name) for name in expected} == expected
    # And nothing is waived then.
    assert found["membership.combined.auc"] == "missing"


def test_declared_data_and_files_by_pattern() -> None:
    more = PLAN.replace("quorum = 1", 'quorum = 1\ndata = "declared"\ndeclared = ["%s"]' % ("ee" * 32))
    files = NEW | {"heads/a.safetensors": "44" * 32}
    assert not reasons(*changed(plan=more, data=(*DATA, "ee" * 32))).keys() - {"membership.combined.auc"}
    assert not reasons(*changed(files=files)).keys() - {"membership.combined.auc"}


def test_a_parent_whose_finding_is_bad_or_old_stands_for_nothing() -> None:
    bench, new = changed()
    assert reasons(bench.later(366), new)["membership.combined.auc"] == "expired"
    leak = bench.findings("old", [finding("membership.combined.auc", "leak")], files=OLD)
    assert reasons(leak, new)["membership.combined.auc"] == "harmful"


def test_harm_is_never_waived() -> None:
    bench, new = changed(found=[performance(0.84), finding("membership.combined.auc", "leak")])
    assert reasons(bench, new)["membership.combined.auc"] == "harmful"


def test_fewer_signatures_for_a_minor_change() -> None:
    bench, new = changed()
    bench = bench.decides("new", digest=new)

    def cast(bench: Bench, who: str) -> Bench:
        about = subject_of(bench.standing, new, bench.shelf, date=bench.date)
        statement = Statement(
            "approve",
            who,
            ROLES[who],
            bench.date,
            model=new,
            card=about.card,
            policy=about.policy,
            findings=about.findings,
            decision=bench.standing.models[new].decisions[-1],
        )
        return bench.happens("ballot", BallotCast(new, sign_statement(statement, key_of(who))))

    with pytest.raises(InputError, match="too few approvals"):
        cast(bench, "ben").steps("new", "admit", digest=new)
    assert cast(bench, "ada").steps("new", "admit", digest=new).standing.models[new].state == "approved"

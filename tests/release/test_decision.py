"""What the policy sees of findings: intervals, ages, signers, identities, twins."""

from typing import Any

import pytest
from tests.release.bench import Bench, digest_of, files_of, fresh
from tests.release.world import clean, finding, policy_text

from primum.errors import InputError
from primum.evidence.finding import Finding
from primum.release.decision import Decision, Seen
from primum.release.evaluate import evaluate
from primum.release.standing import read_decision

NAN = float("nan")


def decision_of(bench: Bench, name: str = "a") -> Decision:
    return evaluate(bench.standing, digest_of(name), bench.shelf, date=bench.date)


def reasons(bench: Bench, name: str = "a") -> dict[str, str]:
    return {one.rule: one.reason for one in decision_of(bench, name).rules}


def rule(text: str) -> bytes:
    return policy_text(require=f"[[require]]\n{text}\n")


def seen(text: str, *found: Finding, **given: Any) -> Seen:
    bench = fresh(rule(text)).registers("a")
    if found:
        bench = bench.findings("a", list(found), **given)
    return decision_of(bench).rules[-1]


AUC = 'test = "performance.auc"\nbound = "low"\nabove = 0.8'


@pytest.mark.parametrize(
    ("low", "high", "reason"),
    [(0.81, 0.99, "passed"), (0.8, 0.99, "interval"), (0.7, 0.99, "interval"), (NAN, 0.9, "no_interval")],
)
def test_thresholds_are_on_ends_of_intervals(low: float, high: float, reason: str) -> None:
    # The point value, .9 and more, would pass in every row.
    found = finding("performance.auc", "descriptive", low=low, high=high)
    assert seen(AUC, found).reason == reason


def test_an_upper_bound() -> None:
    text = 'test = "membership.combined.auc"\nverdict = ["none_found"]\nbound = "high"\nbelow = 0.55'
    assert seen(text, finding("membership.combined.auc", low=0.4, high=0.54)).passed
    assert seen(text, finding("membership.combined.auc", low=0.4, high=0.56)).reason == "interval"
    assert seen(text, finding("membership.combined.auc", low=0.4, high=NAN)).reason == "no_interval"
    assert seen(text, finding("membership.combined.auc", "confounded", low=0.4, high=0.5)).reason == "verdict"


def test_the_estimate_that_is_named() -> None:
    text = AUC + '\nestimate = "slope"'
    assert seen(text, finding("performance.auc", "descriptive")).reason == "no_interval"
    assert seen(text, finding("performance.auc", "descriptive", name="slope")).passed


def test_what_is_not_there_fails_with_its_reason() -> None:
    assert seen(AUC).reason == "missing"
    assert seen(AUC, finding("performance.auc@sex=F", "descriptive")).reason == "missing"


def test_unsigned_unknown_and_declared_findings_do_not_count() -> None:
    found = finding("performance.auc", "descriptive")
    assert seen(AUC, found, signer=None).reason == "not_accepted"
    assert seen(AUC, found, signer="stranger").reason == "not_accepted"
    assert seen(AUC, found, identity="declared").reason == "not_accepted"
    taken = fresh(rule(AUC) + b"[findings]\naccept_unsigned = true\naccept_declared = true\n").registers("a")
    assert reasons(taken.findings("a", [found], signer=None))["performance.auc"] == "passed"
    assert reasons(taken.findings("a", [found], identity="declared"))["performance.auc"] == "passed"


@pytest.mark.parametrize(("days", "passed"), [(0, True), (30, True), (31, False)])
def test_findings_grow_old(days: int, passed: bool) -> None:
    bench = fresh(rule(AUC + "\nmax_age_days = 30")).registers("a")
    bench = bench.findings("a", [finding("performance.auc", "descriptive")]).later(days)
    assert decision_of(bench).rules[-1].passed is passed
    assert decision_of(bench).rules[-1].saw["age_days"] == days


def test_a_date_of_the_run_makes_findings_older_and_never_younger() -> None:
    bench = fresh(rule(AUC + "\nmax_age_days = 30")).registers("a")
    found = [finding("performance.auc", "descriptive")]
    assert (
        reasons(bench.findings("a", found, date="2026-01-01T00:00:00+00:00"))["performance.auc"] == "expired"
    )
    bench = bench.findings("a", found, date="2030-01-01T00:00:00+00:00")
    assert reasons(bench)["performance.auc"] == "passed"
    assert reasons(bench.later(31))["performance.auc"] == "expired"


def test_the_newest_counts_but_harm_is_not_outvoted() -> None:
    text = 'test = "membership.combined.auc"\nverdict = ["none_found"]'
    bench = fresh(rule(text)).registers("a")
    unsure = bench.findings("a", [finding("membership.combined.auc", "inconclusive")]).later(1)
    assert reasons(unsure)["membership.combined.auc"] == "verdict"
    assert reasons(unsure.findings("a", clean()))["membership.combined.auc"] == "passed"
    leaks = bench.findings("a", [finding("membership.combined.auc", "leak")]).later(1)
    later = leaks.findings("a", clean())
    assert reasons(later)["membership.combined.auc"] == "harmful"
    assert reasons(later)["findings.harm"] == "harmful"


def test_any_harm_that_no_rule_allows_by_name_fails() -> None:
    bench = fresh().registers("a").findings("a", [*clean(), finding("equity.auc_gap@sex=F", "unfair")])
    assert reasons(bench)["findings.harm"] == "harmful"
    allowing = policy_text('[[require]]\ntest = "equity.*"\nverdict = ["none_found", "unfair"]\n')
    bench = (
        fresh(allowing).registers("a").findings("a", [*clean(), finding("equity.auc_gap@sex=F", "unfair")])
    )
    assert decision_of(bench).passed
    bench = bench.findings("a", [finding("membership.named", "leak")])
    assert not decision_of(bench).passed


def test_a_beginning_means_every_test_that_begins_so() -> None:
    text = 'test = "equity.*"\nverdict = ["none_found"]'
    both = [finding("equity.a"), finding("equity.b", "inconclusive")]
    told = seen(text, *both)
    assert (told.reason, told.saw["test"]) == ("verdict", "equity.b")
    assert seen(text, finding("equity.a"), finding("equity.b")).passed
    assert seen(text, finding("membership.combined.auc")).reason == "missing"


def conversion(**other: Any) -> Finding:
    settings: dict[str, Any] = {
        "twin": digest_of("weights"),
        "cases": 1000,
        "largest_difference": 9e-5,
        "equal_decisions": True,
    } | other
    verdict = settings.pop("verdict", "none_found")
    return finding("conversion.onnx", verdict, **settings)


def with_twin(found: list[Finding], *, audit: list[Finding] | None = None) -> Bench:
    bench = fresh().registers("weights").registers("a")
    bench = bench.findings("weights", audit or clean())
    return bench.findings("a", found)


def test_findings_pass_only_through_a_conversion() -> None:
    apart = fresh().registers("weights").registers("a").findings("weights", clean())
    assert not decision_of(apart).passed
    joined = with_twin([conversion()])
    assert decision_of(joined).passed
    assert {one.saw.get("twin") for one in decision_of(joined).rules[1:]} == {digest_of("weights")}
    # The audit of the weights says nothing of who else is registered.
    assert not decision_of(joined.registers("b"), "b").passed


@pytest.mark.parametrize(
    "other",
    [
        {"cases": 999},
        {"largest_difference": 1.01e-4},
        {"largest_difference": -1.0},
        {"largest_difference": None},
        {"equal_decisions": False},
        {"equal_decisions": 1},
        {"verdict": "inconclusive"},
        {"twin": digest_of("others")},
        {"twin": None},
    ],
)
def test_a_conversion_that_does_not_hold_lets_nothing_pass(other: dict[str, Any]) -> None:
    assert set(reasons(with_twin([conversion(**other)])).values()) == {"passed", "missing"}


def test_white_box_findings_say_where_they_were_measured() -> None:
    gradient = finding("robustness.gradient", attacker="evader")
    text = policy_text('[[require]]\ntest = "robustness.gradient"\nverdict = ["none_found"]\n')
    bench = fresh(text).registers("weights").registers("a")
    bench = bench.findings("weights", [*clean(), gradient]).findings("a", [conversion()])
    said = {one.rule: one.saw.get("measured_on_the_twin") for one in decision_of(bench).rules}
    assert said == {
        "findings.harm": None,
        "membership.combined.auc": False,
        "performance.auc": False,
        "robustness.gradient": True,
    }


def test_a_harmful_finding_of_the_twin_is_one_of_the_model() -> None:
    bench = with_twin([conversion()], audit=[*clean(), finding("membership.named", "leak")])
    assert reasons(bench)["findings.harm"] == "harmful"


def test_other_bytes_have_no_findings() -> None:
    bench = fresh().ready("a").registers("changed")
    assert decision_of(bench).passed
    assert set(reasons(bench, "changed").values()) == {"passed", "missing"}
    assert files_of("a").keys() == files_of("changed").keys()


def test_a_decision_reads_back_as_it_was_and_another_one_is_refused() -> None:
    bench = fresh().ready("a")
    kept = bench.model("a").decisions[0]
    assert read_decision(bench.shelf, kept) == decision_of(bench)
    with pytest.raises(InputError, match="not what the policy says"):
        bench.later(1).happens("decision", decided(bench, kept))


def decided(bench: Bench, kept: str) -> Any:
    from primum.release.event import Decided

    return Decided(digest_of("a"), kept)

"""The order of the verdicts, and what confounding does to each."""

from dataclasses import replace

import pytest

from primum.evidence.audit import Audit
from primum.evidence.estimate import Estimate
from primum.evidence.finding import Finding, Message, Verdict
from primum.evidence.identity import ModelRef
from primum.evidence.verdicts import Claim, judge, shares_of_error

NEEDED = Message("needs_patients", {"needed_members": 900, "needed_held_out": 900})


def claim(
    value: float,
    low: float,
    high: float,
    p: float,
    *,
    test: str = "t",
    excess: float = 0.1,
    blind: float = 0.5,
) -> Claim:
    draft = Finding(
        test,
        "inconclusive",
        False,
        "m",
        "d",
        primary=True,
        p_value=p,
        material=0.55,
        estimates=(Estimate("auc", value, low, high, (9, 9), "x"),),
    )
    return Claim(
        draft,
        "leak",
        needed=NEEDED,
        blind_auc=Estimate("blind_auc", blind, blind - 0.05, blind + 0.05, (9, 9), "x"),
        excess=lambda level: Estimate(
            "auc_minus_blind", excess, excess - 0.05, excess + 0.05, (9, 9), "x", level
        ),
    )


@pytest.mark.parametrize(
    ("made", "verdict", "reason"),
    [
        (claim(0.7, 0.65, 0.75, 1e-6), "leak", "harm_found"),
        (claim(0.7, 0.65, 0.75, 0.06), "inconclusive", "needs_patients"),
        (claim(0.52, 0.51, 0.54, 1e-3), "none_found", "detectable_but_immaterial"),
        (claim(0.5, 0.46, 0.54, 0.5), "none_found", "below_material"),
        (claim(0.54, 0.51, 0.57, 1e-3), "inconclusive", "needs_patients"),
        (claim(0.7, 0.65, 0.75, 1e-6, excess=0.03), "confounded", "not_beyond_blind"),
        (claim(0.9, 0.88, 0.92, 1e-9, blind=0.62), "confounded", "blind_explains"),
        (claim(0.5, 0.46, 0.54, 0.5, blind=0.62), "confounded", "blind_explains"),
        (claim(0.5, 0.46, 0.54, 0.5, blind=0.54), "none_found", "below_material"),
    ],
)
def test_verdict_and_reason(made: Claim, verdict: Verdict, reason: str) -> None:
    (finding,) = judge([made])
    assert finding.verdict == verdict
    assert [message.code for message in finding.reasons] == [reason]
    assert finding.harmful == (verdict == "leak")


def test_too_few_patients_comes_before_harm() -> None:
    made = replace(claim(0.9, 0.8, 1, 1e-9), too_few=Message("too_few_patients", {"needed": 20, "have": 3}))
    (finding,) = judge([made])
    assert (finding.verdict, finding.p_adjusted) == ("inconclusive", None)
    assert [message.code for message in finding.reasons] == ["too_few_patients", "needs_patients"]


def test_randomised_membership_is_never_confounded() -> None:
    made = claim(0.9, 0.88, 0.92, 1e-9, blind=0.9, excess=0.0)
    made = replace(made, draft=replace(made.draft, membership="randomised"))
    assert judge([made])[0].verdict == "leak"


def test_a_design_that_differs_confounds_every_claim() -> None:
    design = Estimate("blind_auc", 0.8, 0.75, 0.85, (9, 9), "x")
    made = [claim(0.9, 0.88, 0.92, 1e-9, test="a"), claim(0.5, 0.46, 0.54, 0.5, test="b")]
    assert [finding.verdict for finding in judge(made, design_blind=design)] == ["confounded", "confounded"]


def test_holm_counts_every_claim_and_sets_the_level_of_the_excess() -> None:
    made = [
        claim(0.7, 0.65, 0.75, 0.02, test="a"),
        *(claim(0.5, 0.4, 0.6, 0.5, test=f"b{i}") for i in range(4)),
    ]
    findings = judge(made)
    assert findings[0].p_adjusted == pytest.approx(0.1)
    assert findings[0].verdict == "inconclusive"
    strong = judge([claim(0.7, 0.65, 0.75, 1e-6, test="a"), *made[1:]])
    assert strong[0].estimates[-1].level == pytest.approx(1 - 0.05 / 5)


def test_claims_about_subgroups_share_one_half_of_the_error_budget() -> None:
    about_all = [claim(0.7, 0.65, 0.75, 0.004, test="all")]
    parts = [claim(0.5, 0.4, 0.6, 0.5, test=f"g{i}") for i in range(50)]
    parts = [replace(part, draft=replace(part.draft, subgroups=("g",))) for part in parts]
    shares = shares_of_error([*about_all, *parts])
    assert shares[0] == pytest.approx(0.5)
    assert shares.sum() == pytest.approx(1)
    found = judge([*about_all, *parts])[0]
    assert found.p_adjusted == pytest.approx(0.008)
    assert found.settings["claims"] == 51
    assert found.settings["share_of_error"] == pytest.approx(0.5)
    # Without subgroups the whole budget is there.
    assert judge(about_all)[0].p_adjusted == pytest.approx(0.004)


def test_no_part_of_the_audit_takes_the_error_budget_of_another() -> None:
    leak = claim(0.7, 0.6, 0.8, 0.004, test="membership.combined.auc")
    others = [
        replace(claim(0.5, 0.4, 0.6, 0.5, test=f"equity.{number}"), contrast=False) for number in range(30)
    ]
    fragile = replace(claim(0.9, 0.8, 1.0, 1e-9, test="robustness.evasion"), contrast=False)
    shares = shares_of_error([leak, *others, fragile])
    assert shares.sum() == pytest.approx(1)
    assert shares[0] == pytest.approx(8 / 13)
    assert shares[1:31].sum() == pytest.approx(4 / 13)
    assert shares[31] == pytest.approx(1 / 13)
    assert judge([leak, *others, fragile])[0].harmful


def test_what_compares_no_members_with_others_is_not_confounded_by_their_differences() -> None:
    made = claim(0.7, 0.65, 0.75, 1e-6, test="equity.auc", excess=-0.1, blind=0.8)
    design = Estimate("blind_auc", 0.8, 0.75, 0.85, (9, 9), "x")
    assert judge([made], design_blind=design)[0].verdict == "confounded"
    assert judge([replace(made, contrast=False)], design_blind=design)[0].harmful


def test_the_corrected_interval_and_the_smallest_effect_use_the_share_of_error() -> None:
    made = replace(
        claim(0.7, 0.65, 0.75, 1e-6),
        corrected=lambda level: Estimate("auc", 0.7, 0.6, 0.8, (9, 9), "x", level),
        smallest=lambda alpha: 0.5 + alpha,
    )
    found = judge([made, claim(0.5, 0.4, 0.6, 0.5, test="b")])[0]
    shown = next(estimate for estimate in found.estimates if estimate.name == "auc_corrected")
    assert shown.level == pytest.approx(1 - 0.05 / 2)
    assert found.settings["smallest_detectable"] == pytest.approx(0.525)


def test_a_claim_must_bring_its_p_value() -> None:
    made = claim(0.7, 0.65, 0.75, 0.01)
    with pytest.raises(ValueError, match="without a p-value"):
        judge([replace(made, draft=replace(made.draft, p_value=None))])


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        (["none_found", "not_applicable"], 0),
        (["none_found", "inconclusive"], 3),
        (["confounded"], 3),
        (["leak", "inconclusive"], 1),
    ],
)
def test_exit_status(verdicts: list[Verdict], status: int) -> None:
    findings = tuple(
        Finding(f"t{i}", verdict, verdict == "leak", "m", "d", primary=True)
        for i, verdict in enumerate(verdicts)
    )
    audit = Audit(ModelRef("m", "d", "computed", {}), {}, {}, "c", 0, findings)
    assert audit.exit_status == status


def test_only_primaries_decide_between_nothing_found_and_undecided() -> None:
    secondary = Finding("t", "inconclusive", False, "m", "d")
    assert Audit(ModelRef("m", "d", "computed", {}), {}, {}, "c", 0, (secondary,)).exit_status == 0

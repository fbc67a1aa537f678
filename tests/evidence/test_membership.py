"""Findings of the membership family from scores alone, where the truth is known."""

from dataclasses import replace

import numpy as np
import pytest

from primum.evidence.contrast import Frame
from primum.evidence.finding import Finding
from primum.evidence.membership import (
    CanaryScores,
    PatientScores,
    combined_score,
    design_blind,
    membership_claims,
)
from primum.evidence.verdicts import judge

FRAME = Frame("m", "d", "scores", "observed", 0)


def patients(
    members: int, held_out: int, *, shift: float, seed: int, blind_shift: float = 0.0, ratio: bool = True
) -> PatientScores:
    rng = np.random.default_rng(seed)
    n = members + held_out
    is_member = np.arange(n) < members
    names = ("loss", "min_k", "min_k_pp", *(("ratio",) if ratio else ()))
    latent = rng.standard_normal(n) + shift * is_member
    components = {name: latent + 0.5 * rng.standard_normal(n) for name in names}
    return PatientScores(
        is_member,
        rng.standard_normal(n) + blind_shift * is_member,
        rng.integers(0, 4, n),
        components,
        {"sex=F": rng.random(n) < 0.5, "rare": rng.random(n) < 0.01},
    )


def by_test(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.test: finding for finding in findings}


def run(
    scores: PatientScores, canaries: CanaryScores | None = None, only: tuple[str, ...] = ()
) -> dict[str, Finding]:
    claims, described = membership_claims(scores, FRAME, canaries=canaries, settings={}, only=only)
    return by_test([*judge(claims, design_blind=design_blind(scores)), *described])


def test_a_strong_leak_is_found_overall_and_in_the_subgroup() -> None:
    found = run(patients(300, 1000, shift=2.0, seed=1))
    for test in ("membership.combined.auc", "membership.combined.tpr", "membership.combined.auc@sex=F"):
        assert found[test].verdict == "leak"
    assert found["membership.combined.auc"].primary
    assert found["membership.combined.auc@rare"].reasons[0].code == "too_few_patients"
    assert [series.name for series in found["membership.combined.auc"].series] == ["roc", "risk"]


def test_false_alarms_of_the_family_stay_within_the_budget() -> None:
    runs = 120
    alarms = sum(
        any(finding.harmful for finding in run(patients(150, 300, shift=0, seed=seed)).values())
        for seed in range(runs)
    )
    # 99.9 % point of a binomial with 5 %.
    assert alarms <= 15


def test_a_leak_that_the_blind_baseline_explains_is_confounded() -> None:
    found = run(patients(300, 300, shift=1.0, blind_shift=1.0, seed=2))
    assert found["membership.combined.auc"].verdict == "confounded"
    assert not any(finding.harmful for finding in found.values())


def test_component_attacks_claim_nothing_however_strong() -> None:
    found = run(patients(300, 1000, shift=3.0, seed=3))
    for name in ("loss", "min_k", "min_k_pp", "ratio"):
        for quantity in ("auc", "tpr"):
            finding = found[f"membership.{name}.{quantity}"]
            assert (finding.verdict, finding.p_value, finding.harmful) == ("descriptive", None, False)
    assert found["membership.epsilon"].verdict == "descriptive"
    assert found["membership.epsilon"].estimates[0].low > 0


def test_without_reference_the_combined_score_is_the_mean_of_normal_scores() -> None:
    scores = patients(50, 50, shift=1, seed=4, ratio=False)
    name, combined = combined_score(scores.components)
    assert name == "mean of normal scores"
    assert combined.mean() == pytest.approx(0, abs=1e-9)
    swapped = {key: 3 * value + 7 for key, value in scores.components.items()}
    np.testing.assert_allclose(combined_score(swapped)[1], combined)
    assert run(scores)["membership.ratio.auc"].reasons[0].code == "needs_reference"


def test_canaries_are_judged_with_randomised_membership() -> None:
    rng = np.random.default_rng(5)
    planted = np.arange(200) < 100
    copies = np.tile([1, 2, 4, 8, 16], 40)
    canaries = CanaryScores(rng.standard_normal(200) + np.log2(copies) * planted, planted, copies)
    finding = run(patients(100, 100, shift=0, blind_shift=3, seed=6), canaries)["membership.canary"]
    assert (finding.verdict, finding.membership) == ("leak", "randomised")
    aucs = [estimate.value for estimate in finding.estimates[1:6]]
    names = [estimate.name for estimate in finding.estimates[1:]]
    assert names == [f"{kind}_d{d}" for kind in ("auc", "exposure") for d in (1, 2, 4, 8, 16)]
    assert aucs[-1] > aucs[0]
    assert run(patients(100, 100, shift=0, seed=6))["membership.canary"].verdict == "not_applicable"


def test_only_narrows_the_family_and_so_its_correction() -> None:
    found = run(patients(300, 300, shift=0.3, seed=7), only=("membership.combined.tpr",))
    assert set(found) == {"membership.combined.auc", "membership.combined.tpr"}
    assert found["membership.combined.auc"].settings["claims"] == 2


def test_small_cells_are_not_shown() -> None:
    found = run(patients(300, 1000, shift=1.0, seed=8))
    for series in found["membership.combined.auc"].series:
        for name in ("members", "held_out"):
            for count in series.columns.get(name, ()):
                assert count is None or count == 0 or count >= 5


def many(seed: int) -> PatientScores:
    """Draw 3,000 a side: training patients aged 80 and over are remembered."""
    rng = np.random.default_rng(seed)
    is_member = np.arange(6000) < 3000
    oldest, women = rng.random(6000) < 0.15, rng.random(6000) < 0.5
    score = rng.standard_normal(6000) + 1.0 * (oldest & is_member)
    groups = {"age=80+": oldest, "sex=F": women, "sex=M": ~women, "rare": np.arange(6000) < 3}
    return PatientScores(is_member, rng.standard_normal(6000), np.zeros(6000, int), {"ratio": score}, groups)


def test_who_is_over_represented_among_the_most_exposed_is_said() -> None:
    found = run(many(1))
    # Of the held-out patients too few are so old and exposed to be counted out.
    (oldest,) = found["membership.exposed@age=80+"].estimates
    assert oldest.low > 1.5
    women = found["membership.exposed@sex=F"]
    names = [estimate.name for estimate in women.estimates]
    assert names == ["over_representation", "over_representation_held_out"]
    assert (women.verdict, women.subgroups, women.p_value) == ("descriptive", ("sex=F",), None)
    assert women.estimates[0].low < 1 < women.estimates[0].high
    # Three people are not told of.
    assert "membership.exposed@rare" not in found
    assert found["membership.exposed"].reasons[0].parameters == {"exposed": 30, "groups": 1}


def test_the_few_outside_a_group_are_not_counted_out_either() -> None:
    scores = many(2)
    score, subgroups = scores.components["ratio"], dict(scores.subgroups)
    top = np.argsort(-np.where(scores.is_member, score, -np.inf))[:30]
    nearly_all, none = np.ones(6000, bool), np.ones(6000, bool)
    nearly_all[top[:2]] = False
    none[top] = False
    none[np.argsort(-np.where(scores.is_member, -np.inf, score))[:30]] = False
    subgroups |= {"site=A": nearly_all, "site=B": none}
    found = run(replace(scores, subgroups=subgroups))
    assert "membership.exposed@site=A" not in found
    # Nobody is no count of people.
    assert [estimate.value for estimate in found["membership.exposed@site=B"].estimates] == [0, 0]


def test_a_hundredth_of_few_patients_is_nobody_to_speak_of() -> None:
    found = run(patients(300, 300, shift=1.0, seed=9))
    assert found["membership.exposed"].reasons[0].parameters == {"needed": 500}
    assert not any(test.startswith("membership.exposed@") for test in found)

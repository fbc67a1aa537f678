import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from scipy.special import digamma

from primum.errors import InputError
from primum.evidence.contrast import Frame
from primum.evidence.finding import Finding
from primum.evidence.membership import CanaryScores, PatientScores, membership_claims
from primum.evidence.multiplicity import simes
from primum.evidence.naming import Naming, fewest_nameable, named_claim, named_table, naming_of, surely_right
from primum.evidence.verdicts import judge

FRAME = Frame("m", "d", "scores", "randomised", 0)


def world(
    seed: int, *, members: int = 300, held_out: int = 300, references: int = 16
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of a target and references that saw nobody: patients, models and their meetings are Gaussian."""
    random = np.random.default_rng(seed)
    n = members + held_out
    patient, spread = random.normal(-3, 0.5, (n, 1)), random.uniform(0.02, 0.2, (n, 1))
    scores = (
        patient
        + random.normal(0, 0.1, (1, references + 1))
        + spread * random.normal(size=(n, references + 1))
    )
    return scores[:, 0], scores[:, 1:], np.arange(n) < members


def judged(found: Naming) -> Finding:
    return judge([named_claim(found, FRAME)])[0]


def test_each_null_is_a_prediction_interval() -> None:
    target, references, is_member = world(0)
    found = naming_of(target, references, is_member)
    centred = target - target[~is_member].mean()
    others = references - references[~is_member].mean(axis=0)
    variance = others.var(axis=1, ddof=1)
    # The prior weight follows from the degrees of freedom; its variance is where the moderated mean log lies.
    prior = found.freedom - 15
    shared = np.exp(np.log(variance).mean() + np.log(15) - digamma(7.5) + digamma(prior / 2) - np.log(prior))
    moderated = (prior * shared + 15 * variance) / found.freedom
    student = (centred - others.mean(axis=1)) / np.sqrt(
        found.factor * moderated * (1 + 1 / 16) + found.added**2
    )
    assert_allclose(found.p_values, stats.t.sf(student / found.scale, found.freedom))
    assert 1 <= found.factor < 1.2 and found.added < 0.05 and 16 < found.freedom < 30
    assert found.references == 16 and 0.9 <= found.scale < 1.2


def test_patients_who_share_one_variance_have_nearly_gaussian_nulls() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(0, 0.1, (600, 17))
    assert naming_of(scores[:, 0], scores[:, 1:], np.arange(600) < 300).freedom > 100


def test_nulls_hold_and_nobody_is_named_when_nobody_is_remembered() -> None:
    tails, named = [], 0
    for seed in range(200):
        found = naming_of(*world(seed))
        tails.append((found.p_values[found.is_member] <= 0.01).mean())
        named += judged(found).harmful
    assert 0.005 < np.mean(tails) < 0.012
    # The 99.9 % point of a binomial with 200 runs at 5 %.
    assert named <= 21


@pytest.mark.parametrize(
    ("kind", "factor", "added", "scale"),
    [("factor", 1.4, 0, 0.9), ("added", 1, 0.1, 0.9), ("skewed", 1, 0, 1.02)],
)
def test_nulls_that_are_too_narrow_are_widened(kind: str, factor: float, added: float, scale: float) -> None:
    """Another model may differ from the references by more than they differ among themselves."""
    tails, found = [], []
    for seed in range(40):
        target, references, is_member = world(seed, members=600, held_out=600)
        random = np.random.default_rng([seed, 1])
        own = references.std(axis=1, ddof=1)
        target = (
            target
            + {
                "factor": 0.9 * own * random.standard_normal(1200),
                "added": 0.15 * random.standard_normal(1200),
                "skewed": 2 * own * (random.exponential(size=1200) - 1),
            }[kind]
        )
        found.append(naming_of(target, references, is_member))
        tails.append((found[-1].p_values[:600] <= 0.01).mean())
    assert np.mean(tails) < 0.014
    for name, least in (("factor", factor), ("added", added), ("scale", scale)):
        assert np.median([getattr(one, name) for one in found]) >= least


def test_planted_patients_are_named_with_few_errors() -> None:
    right = wrong = 0
    for seed in range(40):
        target, references, is_member = world(seed)
        target[:5] += 12 * references[:5].std(axis=1, ddof=1)
        found = naming_of(target, references, is_member)
        finding = judged(found)
        table = named_table(found, named=finding.harmful)
        right += int(table["named"][:5].sum())
        wrong += int(table["named"][5:].sum())
        assert finding.estimates[0].low <= 5
    assert right >= 0.9 * 200 and wrong <= 0.1 * (right + wrong)


def test_a_survivor_is_a_leak_and_the_rest_have_bands_only() -> None:
    p_values = np.concatenate([[1e-9] * 6, [0.004], np.linspace(0.06, 1, 293), np.linspace(0.003, 1, 300)])
    found = Naming(p_values, np.arange(600) < 300, 16, 20.0, 1.0, 0.0, 1.0)
    finding = judged(found)
    assert (finding.verdict, finding.test, finding.p_value) == (
        "leak",
        "membership.named",
        simes(p_values[:300]),
    )
    (estimate,) = finding.estimates
    assert (estimate.name, estimate.value, estimate.low, estimate.high) == ("nameable", 6, 6, 300)
    assert finding.reasons[0].code == "risk_bands"
    assert finding.reasons[0].parameters == {"raised": "< 5", "high": 6}
    table = named_table(found, named=True)
    assert table["row"].tolist() == list(range(300))
    assert table["named"].sum() == 6 and set(table["band"][:6]) == {"high"}
    assert table["band"][6] == "raised" and set(table["band"][7:]) == {"low"}
    assert_allclose(table["q"], stats.false_discovery_control(p_values[:300]))
    # Not beyond the other claims' share of the budget: bands, and nobody is named.
    assert not named_table(found, named=False)["named"].any()


def test_one_to_four_people_are_told_as_one() -> None:
    p_values = np.concatenate([[1e-9] * 3, np.linspace(0.06, 1, 297), np.linspace(0.003, 1, 300)])
    finding = judged(Naming(p_values, np.arange(600) < 300, 16, 20.0, 1.0, 0.0, 1.0))
    assert finding.verdict == "leak"
    assert (finding.estimates[0].value, finding.estimates[0].low) == (1, 1)
    assert finding.reasons[0].parameters == {"raised": 0, "high": "< 5"}


def test_nulls_that_would_name_the_held_out_are_not_used() -> None:
    p_values = np.concatenate([[1e-9] * 6, np.linspace(0.06, 1, 294), [1e-6], np.linspace(0.01, 1, 299)])
    found = Naming(p_values, np.arange(600) < 300, 16, 20.0, 1.0, 0.0, 1.0)
    finding = judged(found)
    assert not found.trusted and finding.verdict == "inconclusive"
    assert finding.reasons[-1].code == "naming_untrusted"


def test_few_held_out_patients_show_no_tail() -> None:
    finding = judged(naming_of(*world(1, held_out=99)))
    assert finding.verdict == "inconclusive"
    assert (finding.reasons[-1].code, finding.reasons[-1].parameters) == (
        "too_few_patients",
        {"needed": 100, "have": 99},
    )
    assert "too_few_patients" not in {one.code for one in judged(naming_of(*world(1, held_out=100))).reasons}


def test_how_many_are_surely_right_is_closed_testing() -> None:
    """Against the definition: drop a set only when each larger set that holds it is rejected by Simes."""
    random = np.random.default_rng(4)
    for _ in range(60):
        p_values = np.round(random.random(6) ** 4, 3)
        chosen = random.random(6) < 0.6
        kept = [
            subset
            for size in range(1, 7)
            for subset in combinations(range(6), size)
            if simes(p_values[list(subset)]) > 0.05
        ]
        inside = set(np.flatnonzero(chosen))
        most_true = max((len(inside & set(subset)) for subset in kept), default=0)
        assert surely_right(p_values, chosen) == chosen.sum() - most_true


def test_surely_right_is_wrong_in_at_most_one_of_twenty() -> None:
    random = np.random.default_rng(5)
    wrong = 0
    for _ in range(400):
        p_values = np.concatenate([stats.norm.sf(random.normal(3.5, 1, 10)), random.random(190)])
        chosen = stats.false_discovery_control(p_values) <= 0.05
        wrong += surely_right(p_values, chosen) > chosen[:10].sum()
    assert wrong <= 0.05 * 400 + 3 * math.sqrt(400 * 0.05 * 0.95)


def test_ranks_cannot_name_few() -> None:
    assert (
        fewest_nameable(1000, 1000) == 20
        and fewest_nameable(300, 1000) == 6
        and fewest_nameable(100, 19) == 100
    )
    members, held_out = 500, 300
    fewest = fewest_nameable(members, held_out)
    for count in (fewest - 1, fewest):
        p_values = np.where(np.arange(members) < count, 1 / (held_out + 1), 1.0)
        named = stats.false_discovery_control(p_values) <= 0.05
        assert named.sum() == (count if count == fewest else 0)


def patients(is_member: np.ndarray) -> PatientScores:
    random = np.random.default_rng(8)
    n = len(is_member)
    ratio = {"loss": random.standard_normal(n), "ratio": random.standard_normal(n)}
    return PatientScores(is_member, random.standard_normal(n), np.zeros(n, np.int64), ratio, {})


def family(scores: PatientScores, only: tuple[str, ...] = ()) -> dict[str, Finding]:
    claims, described = membership_claims(scores, FRAME, canaries=None, settings={}, only=only)
    return {finding.test: finding for finding in [*judge(claims), *described]}


def test_naming_shares_the_error_budget_of_the_family() -> None:
    target, references, is_member = world(3)
    target[:8] += 15 * references[:8].std(axis=1, ddof=1)
    random = np.random.default_rng(8)
    scores = replace(
        patients(is_member),
        components={"loss": target, "ratio": random.standard_normal(len(target))},
        under_references=references,
    )
    findings = family(scores)
    finding = findings["membership.named"]
    assert finding.verdict == "leak" and not finding.primary
    assert finding.settings["claims"] == 3 and finding.settings["reference_models"] == 16
    assert finding.p_value is not None and finding.p_adjusted == pytest.approx(3 * finding.p_value)
    assert finding.p_value == named_claim(naming_of(target, references, is_member), FRAME).draft.p_value
    assert "membership.named" not in family(scores, only=("data",))


def test_without_references_the_resolution_is_said() -> None:
    finding = family(patients(np.arange(400) < 300))["membership.named"]
    assert finding.verdict == "not_applicable"
    assert [reason.code for reason in finding.reasons] == ["needs_recipe", "rank_resolution"]
    assert finding.reasons[1].parameters == {"fewest": fewest_nameable(300, 100)}


@pytest.mark.parametrize("learned", [False, True])
def test_pairs_of_canaries_are_coins(learned: bool) -> None:
    random = np.random.default_rng(9)
    pair = np.repeat(np.arange(400), 2)
    planted = np.arange(800) % 2 == 0  # the planted of each pair first, as records may lie
    copies = np.where(pair < 300, 1, 4)
    score = random.standard_normal(800) + 4.0 * planted * learned
    (claim,) = [
        one
        for one in membership_claims(
            patients(np.arange(100) < 50),
            FRAME,
            canaries=CanaryScores(score, planted, copies, pair),
            settings={},
        )[0]
        if one.draft.test == "membership.canary"
    ]
    bound = next(one for one in claim.draft.estimates if one.name == "epsilon_one_run")
    assert sum(bound.n) == 300 and min(bound.n) > 100
    assert bound.low > 2 if learned else bound.low == 0
    exposures = {one.name: one.value for one in claim.draft.estimates if one.name.startswith("exposure")}
    assert set(exposures) == {"exposure_d1", "exposure_d4"}
    assert all(value > 6 if learned else value < 2 for value in exposures.values())


def test_bad_input_is_refused() -> None:
    target, references, is_member = world(2)
    with pytest.raises(InputError, match="at least 16 reference models; there are 15"):
        naming_of(target, references[:, 1:], is_member)
    with pytest.raises(InputError, match="finite"):
        naming_of(target, np.where(references == references[3, 3], np.nan, references), is_member)
    with pytest.raises(InputError, match="one side is empty"):
        naming_of(target, references, np.ones_like(is_member))
    with pytest.raises(InputError, match="one row of reference scores"):
        naming_of(target, references[1:], is_member)

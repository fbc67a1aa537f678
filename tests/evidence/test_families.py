"""From numbers by patient to findings, where the truth is known."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from primum.evidence.contrast import Frame
from primum.evidence.families import family_claims
from primum.evidence.finding import Finding, Message
from primum.evidence.measured import Curve, Guesses, Measured
from primum.evidence.membership import PatientScores, design_blind
from primum.evidence.permutation import rank_permutation_p_value
from primum.evidence.verdicts import judge

FRAME = Frame("m", "d", "scores", "observed", 0)
SIDE = 200


def patients(rng: np.random.Generator, *, side: int = SIDE) -> PatientScores:
    is_member = np.arange(2 * side) < side
    return PatientScores(
        is_member,
        rng.standard_normal(2 * side),
        rng.integers(0, 4, 2 * side),
        {},
        {"sex=F": rng.random(2 * side) < 0.5, "rare": np.arange(2 * side) < 3},
    )


def measured(rng: np.random.Generator, people: PatientScores, *, leak: float) -> Measured:
    """Measure a share, a rank and two facts of each patient; `leak` 0 is no leak, 1 a strong one."""
    member, n = people.is_member, len(people.is_member)
    shares = np.clip(rng.beta(1, 20, n) + 0.1 * leak * member * rng.random(n), 0, 1)
    ranks = rng.standard_normal(n) + leak * member
    labels = rng.random((n, 2)) < 0.3
    told = rng.standard_normal((n, 2)) + labels * (1 + 2 * leak * member[:, None])
    ranks[rng.random(n) < 0.1] = np.nan
    curve = Curve((-1.0, 0.0, 5.0), np.stack([ranks, ranks, np.full(n, np.nan)], axis=1), "nats")
    return Measured(
        np.arange(n),
        {"trajectory.codes": shares, "trajectory.distance": ranks, "knowledge.depth": ranks},
        {"sensitive.inferred": Guesses(("hiv", "cancer"), told, labels)},
        {"knowledge.depth": {"knowledge_depth": curve}},
        {"samples": 8},
        {"embedding.probe": Message("model_cannot", {"protocol": "Embedder"})},
    )


def judged(seed: int, *, leak: float, only: Sequence[str] = ()) -> dict[str, Finding]:
    rng = np.random.default_rng(seed)
    people = patients(rng)
    claims, described = family_claims(measured(rng, people, leak=leak), people, FRAME, only=only)
    return {f.test: f for f in [*judge(claims, design_blind=design_blind(people)), *described]}


def test_every_kind_of_test_finds_a_strong_leak() -> None:
    found = judged(1, leak=1.0)
    for test in ("trajectory.codes", "trajectory.distance", "knowledge.depth", "sensitive.inferred"):
        assert (found[test].verdict, found[test].harmful) == ("leak", True)
        assert found[test].settings["samples"] == 8
    shares = found["trajectory.codes"]
    names = [estimate.name for estimate in shares.estimates]
    assert names[:2] == ["share_difference", "share_difference_corrected"]
    assert shares.estimates[1].level > shares.estimates[0].level
    assert shares.primary
    assert shares.attacker == "prompt"
    assert {e.name for e in found["sensitive.inferred"].estimates} >= {"auroc_difference:hiv"}


def test_false_alarms_of_a_whole_family_stay_within_the_budget() -> None:
    runs = 120
    alarms = sum(any(f.harmful for f in judged(seed, leak=0.0).values()) for seed in range(100, 100 + runs))
    # 99.9 % point of a binomial with 5 %.
    assert alarms <= 15


def test_what_a_model_cannot_answer_is_said_and_is_primary_where_the_test_is() -> None:
    probe = judged(2, leak=0.0)["embedding.probe"]
    assert (probe.verdict, probe.primary) == ("not_applicable", True)
    assert probe.reasons[0].parameters["protocol"] == "Embedder"


def test_groups_of_a_primary_test_are_described_after_pooling_and_cannot_alarm() -> None:
    found = judged(3, leak=1.0)
    group = found["trajectory.codes@sex=F"]
    assert (group.verdict, group.subgroups) == ("descriptive", ("sex=F",))
    pooled, raw = group.estimates
    assert (pooled.name, raw.name) == ("share_difference_pooled", "share_difference")
    assert pooled.high - pooled.low <= raw.high - raw.low
    # Three members: too few to show.
    assert "trajectory.codes@rare" not in found


def test_patients_who_could_not_be_asked_are_not_counted() -> None:
    distance = judged(4, leak=0.0)["trajectory.distance"]
    members, others = distance.estimates[0].n
    assert 160 < members < SIDE
    assert 160 < others < SIDE


def test_too_few_patients_are_inconclusive_with_a_needed_number() -> None:
    rng = np.random.default_rng(5)
    people = patients(rng, side=15)
    claims, _ = family_claims(measured(rng, people, leak=1.0), people, FRAME)
    for finding in judge(claims):
        assert finding.verdict == "inconclusive"
        assert finding.reasons[0].code == "too_few_patients"


def test_a_curve_shows_both_sides_and_hides_places_with_fewer_than_five() -> None:
    (series,) = judged(6, leak=1.0)["knowledge.depth"].series
    assert series.name == "knowledge_depth"
    assert series.columns["x"] == (-1.0, 0.0, 5.0)
    assert series.columns["members_mean"][2] is None
    low = series.columns["difference_low"][0]
    assert low is not None
    assert low > 0


def test_only_keeps_the_primary_and_what_was_asked_for() -> None:
    found = judged(7, leak=0.0, only=("trajectory.distance",))
    claims = {test for test, finding in found.items() if finding.p_value is not None}
    assert "trajectory.distance" in claims
    assert "trajectory.codes" in claims
    assert not any("@" in test for test in found)


def test_every_claim_says_how_small_an_effect_it_would_have_seen() -> None:
    found = judged(8, leak=0.0)
    for test in ("trajectory.codes", "knowledge.depth", "sensitive.inferred"):
        assert isinstance(found[test].settings["smallest_detectable"], float)


def test_guesses_are_described_by_group_where_enough_have_a_fact() -> None:
    group = judged(9, leak=1.0)["sensitive.inferred@sex=F"]
    assert [estimate.name for estimate in group.estimates] == ["auroc_difference_pooled", "auroc_difference"]
    assert group.estimates[1].low > 0
    assert sum(group.estimates[1].n) < 2 * SIDE
    assert "sensitive.inferred@rare" not in judged(9, leak=1.0)


def test_guesses_that_are_as_good_without_the_model_are_confounded() -> None:
    rng = np.random.default_rng(10)
    people = patients(rng)
    strong = measured(rng, people, leak=1.0)
    guesses = strong.guesses["sensitive.inferred"]
    verdicts = []
    for blind in (None, rng.standard_normal(guesses.scores.shape), guesses.scores):
        asked = replace(strong, guesses={"sensitive.inferred": replace(guesses, blind=blind)}, scores={})
        (claim,), _ = family_claims(asked, people, FRAME, only=("sensitive.inferred",))
        (finding,) = judge([claim])
        verdicts.append(finding.verdict)
    assert verdicts == ["leak", "leak", "confounded"]
    assert finding.reasons[0].code == "not_beyond_blind"


def test_sweeps_are_judged_by_permutation() -> None:
    rng = np.random.default_rng(11)
    people = patients(rng)
    member = people.is_member
    score = rng.standard_normal(len(member)) + 0.15 * member
    asked = Measured(np.arange(len(member)), {"perturbation.combined": score})
    (claim,), _ = family_claims(asked, people, FRAME)
    p_value = rank_permutation_p_value(score[member], score[~member], seed=FRAME.seed)
    assert claim.draft.p_value == p_value > 1e-4
    assert "phipson2010" in claim.draft.references

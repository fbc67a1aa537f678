"""From verdicts on changed cases to findings: known answers, false alarms, what must be said beside."""

from dataclasses import replace

import numpy as np
import pytest
from studies.robustness_power import FRAME, corrupted, drawn, everything, observed

from primum.evidence.finding import Finding, Message
from primum.evidence.observed import Observed
from primum.evidence.robustness import PRIMARY, RULES, robustness_claims
from primum.evidence.verdicts import judge

RUNS = 100


def found(given: Observed, *, only: tuple[str, ...] = ()) -> dict[str, Finding]:
    claims, described = robustness_claims(given, FRAME, only=only)
    return {one.test: one for one in (*judge(claims), *described)}


def test_what_an_attacker_turns_and_chance_does_not_is_fragile() -> None:
    result = found(drawn(np.random.default_rng(0), everything(0.4, 0.01)))[PRIMARY]
    assert (result.verdict, result.harmful, result.primary) == ("fragile", True, True)
    assert result.estimates[0].name == "turned_beyond_noise"
    assert result.estimates[0].low < 0.39 < result.estimates[0].high
    worth = {one.name: one.value for one in result.estimates}
    assert worth["clean_balanced_accuracy"] > 0.85 > worth["robust_balanced_accuracy"]
    assert worth["clean_auc"] > worth["robust_auc"]


@pytest.mark.parametrize("each", [1, 3])
def test_what_chance_turns_as_often_raises_no_alarm(each: int) -> None:
    rng, claims = np.random.default_rng(each), (PRIMARY, "robustness.patch", "robustness.universal")
    alarms = dict.fromkeys(claims, 0)
    for _ in range(RUNS):
        made = drawn(rng, everything(0.15, 0.15), each=each, count=60)
        for claim in robustness_claims(made, FRAME, only=claims)[0]:
            p_value = claim.draft.p_value
            assert p_value is not None
            alarms[claim.draft.test] += p_value < 0.05
    most = RUNS * 0.05 + 2.6 * np.sqrt(RUNS * 0.05 * 0.95)
    assert all(count <= most for count in alarms.values()), alarms


def test_corruption_that_takes_nothing_raises_no_alarm_and_what_takes_is_found() -> None:
    rng, alarms = np.random.default_rng(5), 0
    for _ in range(RUNS // 2):
        made = drawn(rng, {}, count=60, right=0.8, kept=corrupted(0))
        (claim,) = robustness_claims(made, FRAME)[0]
        assert claim.draft.p_value is not None
        alarms += claim.draft.p_value < 0.05
    assert alarms <= 5 + 2.6 * np.sqrt(RUNS / 2 * 0.05 * 0.95)
    lost = found(drawn(rng, everything(0.1, 0.1) | corrupted(0.01) | {"corruption:blur:1": 0.4}))
    harm = lost["robustness.corruption"]
    assert (harm.verdict, harm.settings["worst_corruption"]) == ("fragile", "blur")
    assert harm.estimates[0].low < 0.17 < harm.estimates[0].high


def test_a_model_that_always_says_the_same_is_steady_and_said_to_be_worthless() -> None:
    labels = (np.arange(120) % 3 == 0).astype(np.int64)
    same = dict.fromkeys(["clean", *everything(0, 0), *corrupted(0)], np.zeros(120, np.int64))
    given = observed(same, labels=labels, patients=np.arange(120))
    for column in [one for one in given.columns if one.endswith(":margin")]:
        given.columns[column][:] = np.where(labels == 0, 2.0, -2.0)
    result = found(given)
    assert result[PRIMARY].verdict == "none_found"
    assert Message("right_by_chance") in result[PRIMARY].reasons
    worth = {one.name: one.value for one in result[PRIMARY].estimates}
    assert worth["robust_auc"] == 0.5 == pytest.approx(worth["robust_balanced_accuracy"])
    assert not any(one.harmful for one in result.values())


def test_both_directions_are_told_apart() -> None:
    rng = np.random.default_rng(2)
    given = drawn(rng, everything(0.0, 0.0), right=1.0)
    ill = given.columns["label"] == 1
    given.columns["evasion@4:class"][ill] = 0
    result = found(given)
    away = result[f"{PRIMARY}@class=malignant"]
    assert (away.estimates[0].value, away.subgroups) == (1.0, ("class=malignant",))
    assert result[f"{PRIMARY}@class=benign"].estimates[0].value == 0.0
    assert away.verdict == "descriptive"


def test_a_blinded_gradient_is_noticed_and_the_black_box_believed() -> None:
    rng = np.random.default_rng(3)
    blinded = found(drawn(rng, everything(0.0, 0.01) | {"square@4": 0.4}))[PRIMARY]
    assert blinded.verdict == "fragile"
    (reason,) = [one for one in blinded.reasons if one.code == "gradient_masked"]
    assert reason.parameters["attack"] == "square"
    seen = found(drawn(rng, everything(0.4, 0.01) | {"square@4": 0.3}))[PRIMARY]
    assert "gradient_masked" not in [one.code for one in seen.reasons]


def test_too_few_patients_are_said_and_never_counted_out() -> None:
    result = found(drawn(np.random.default_rng(4), everything(0.9, 0.0), count=12))
    assert result[PRIMARY].verdict == "inconclusive"
    assert result[PRIMARY].reasons[0].code == "too_few_patients"
    assert result["robustness.l2"].verdict == "descriptive"
    few = found(drawn(np.random.default_rng(4), everything(0.9, 0.0), count=3))
    assert few[PRIMARY].reasons[0].parameters["have"] == "< 5"
    assert not [one for one in few if "@" in one]


def test_the_primary_is_there_whatever_was_asked_or_refused() -> None:
    given = drawn(np.random.default_rng(6), everything(0.2, 0.1))
    assert set(found(given, only=("robustness.patch",))) == {PRIMARY, "robustness.patch"}
    kept = replace(given, columns={}, refused=dict.fromkeys(RULES, Message("kept_answers")))
    result = found(kept)
    assert {one.verdict for one in result.values()} == {"not_applicable"}
    assert [one.test for one in result.values() if one.primary] == [PRIMARY]


def test_the_order_of_the_cases_makes_no_difference() -> None:
    rng = np.random.default_rng(7)
    given = drawn(rng, everything(0.3, 0.2) | corrupted(0.1), each=2, count=60)
    order = rng.permutation(120)
    mixed = replace(given, columns={name: values[order] for name, values in given.columns.items()})
    first, second = found(given), found(mixed)
    for test, finding in first.items():
        assert second[test].p_value == finding.p_value
        for one, other in zip(finding.estimates, second[test].estimates, strict=True):
            assert (one.value, one.low) == pytest.approx((other.value, other.low), abs=1e-9)


def test_series_hold_every_strength_kind_and_place() -> None:
    given = drawn(np.random.default_rng(8), everything(0.5, 0.1) | corrupted(0.1))
    place = np.tile([3.0, 20.0], 75)
    columns = {**given.columns, "patch:row": place, "patch:column": np.full(150, 5.0)}
    columns |= {"certified:class": given.columns["clean:class"], "certified:radius": np.linspace(0, 0.1, 150)}
    result = found(replace(given, columns=columns))
    (strength,) = result[PRIMARY].series
    assert strength.columns["strength"] == (0, 1, 2, 4, 8)
    robust = strength.columns["balanced_accuracy"]
    assert robust[0] is not None and robust[3] is not None and robust[0] > robust[3]
    (heat,) = result["robustness.corruption"].series
    assert len(heat.columns["kind"]) == 8 * 5
    (places,) = result["robustness.patch"].series
    assert len(places.columns["row"]) == 49
    share = sum(one for one in places.columns["turned"] if one)
    turned = next(one for one in result["robustness.patch"].estimates if one.name == "turned_by_attack")
    assert share == pytest.approx(turned.value)
    (curve,) = result["robustness.certified"].series
    heights = np.array(curve.columns["balanced_accuracy"], float)
    assert (np.diff(heights) <= 0).all()

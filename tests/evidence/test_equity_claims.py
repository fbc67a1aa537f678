from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from fairlearn.metrics import (  # type: ignore[import-untyped]
    MetricFrame,
    false_negative_rate,
    false_positive_rate,
    true_negative_rate,
    true_positive_rate,
)
from scipy import stats
from sklearn.metrics import brier_score_loss, precision_score, roc_auc_score
from tests.evidence.equity_worlds import FRAME, WOMEN, findings_of, observed, values_of, world

from primum.audits.equity.observe import observe_equity
from primum.evidence.equity import RULES, equity_claims
from primum.evidence.equity.claims import among, judged
from primum.evidence.equity.gaps import Gap
from primum.evidence.estimate import Estimate
from primum.evidence.observed import Observed

RUNS = 16
MOST = int(stats.binom.ppf(0.999, RUNS, 0.05))


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("attribute", ["sex", "site", "device"])
def test_point_values_are_those_of_fairlearn(attribute: str, several: bool) -> None:
    """With several cases a patient, each weighs one over their number."""
    given, labels, patient, attributes = world(1500, seed=3, gap=0.05, several=several)
    weight = 1 / np.bincount(patient)[patient]
    called = (given[:, 1] >= 0.5).astype(np.int64)
    found = findings_of(observe_equity(given, labels, patient, attributes, classes=("no", "yes")))
    on_labels = {
        "sensitivity": true_positive_rate,
        "missed": false_negative_rate,
        "specificity": true_negative_rate,
        "alarms": false_positive_rate,
        "ppv": precision_score,
    }
    on_scores = {"auroc": roc_auc_score, "brier": brier_score_loss}
    for measures, answers in ((on_labels, called), (on_scores, given[:, 1])):
        oracle = MetricFrame(
            metrics=measures,
            y_true=labels,
            y_pred=answers,
            sensitive_features=attributes[attribute],
            sample_params={name: {"sample_weight": weight} for name in measures},
        ).by_group
        for value in np.unique(attributes[attribute]):
            ours: dict[str, float] = {}
            for test in ("sensitivity", "specificity", "auc", "calibration"):
                ours |= values_of(found[f"equity.{test}@{attribute}={value}"])
            ours |= {"missed": 1 - ours["sensitivity"], "alarms": 1 - ours["specificity"]}
            for name in measures:
                assert ours[name] == pytest.approx(float(oracle.loc[value, name]), abs=1e-9), name


def test_false_alarms_and_a_planted_gap() -> None:
    """No gap: raw p-values below .05 and verdicts of harm are rare. Ten points: found, in the right group."""
    alarms: Counter[str] = Counter()
    for run in range(RUNS):
        found = findings_of(observed(500, seed=run, several=run % 2 == 1))
        alarms["any"] += any(one.harmful for one in found.values())
        alarms.update(t for t, one in found.items() if t in RULES and (one.p_value or 1) < 0.05)
    assert max(alarms.values(), default=0) <= MOST
    for several in (False, True):
        found = findings_of(observed(6000, seed=1, gap=0.1, several=several))
        primary, women, men = (found[f"equity.sensitivity{name}"] for name in ("", "@sex=F", "@sex=M"))
        assert primary.primary and primary.verdict == women.verdict == "unfair"
        assert primary.settings["worst_group"] == "sex=F"
        assert primary.estimates[0].low > 0.03 < women.estimates[0].low
        assert men.verdict == "none_found"
        assert [one.code for one in primary.reasons] == ["clearest_gap", "gap_among_alike", "harm_found"]
        assert found["equity.specificity"].verdict != "unfair"


def test_findings_are_made_of_the_columns_alone() -> None:
    """Recomputed from what is kept, and in any order of the rows, they are the same."""
    seen = observed(800, seed=5, several=True)
    kept = Observed(
        "equity", {k: v.copy() for k, v in seen.columns.items()}, dict(seen.names), dict(seen.settings)
    )
    assert findings_of(kept) == findings_of(seen)
    order = np.random.default_rng(0).permutation(800)
    mixed = replace(seen, columns={name: values[order] for name, values in seen.columns.items()})
    for test, finding in findings_of(seen, ("equity.sensitivity", "equity.auc")).items():
        again = findings_of(mixed, ("equity.sensitivity", "equity.auc"))[test]
        assert [e.low for e in again.estimates] == pytest.approx([e.low for e in finding.estimates], abs=1e-9)


def test_only_what_is_asked_and_always_the_primary() -> None:
    seen = observed(600, seed=6)
    assert set(findings_of(seen, ("equity.auc@sex",))) == {
        "equity.sensitivity", "equity.auc", "equity.auc@sex=F", "equity.auc@sex=M",
    }  # fmt: skip
    assert set(findings_of(seen, ("equity.sensitivity@sex=F",))) == {
        "equity.sensitivity", "equity.sensitivity@sex=F",
    }  # fmt: skip
    claims, _ = equity_claims(seen, FRAME)
    assert claims[0].draft.test == "equity.sensitivity" and claims[0].draft.primary
    assert not any(claim.contrast for claim in claims)
    assert {claim.harm for claim in claims} == {"unfair"}


def test_intersections_are_named_by_both_attributes() -> None:
    found = findings_of(observed(3000, seed=7))
    pairs = {test: one for test, one in found.items() if test.startswith("equity.pairs@")}
    assert len(pairs) == 12
    assert all(len(one.subgroups) == 2 and one.verdict == "descriptive" for one in pairs.values())
    gaps = [one.estimates[0].value for one in pairs.values()]
    assert gaps == sorted(gaps, reverse=True)
    assert any(test.startswith("equity.pairs@sex=") for test in pairs)


def test_a_gap_that_only_an_intersection_shows() -> None:
    """Older women are served worse, younger women better by as much: neither sex nor age is."""
    given, labels, patient, attributes = world(8000, seed=8)
    random, old = np.random.default_rng(1), attributes["age"] >= 60
    women = attributes["sex"] == "F"
    changed = random.random(8000) < 0.12
    lost = changed & (labels == 1) & ((women & old) | (~women & ~old))
    given[lost] = (0.9, 0.1)
    found = findings_of(observe_equity(given, labels, patient, attributes, classes=("no", "yes")))
    assert found["equity.pairs"].verdict == "unfair"
    assert found["equity.sensitivity@sex=F"].verdict != "unfair"


def stub(value: float, p_value: float, half: float) -> Gap:
    def interval(level: float) -> Estimate:
        z = float(stats.norm.ppf((1 + level) / 2)) / 1.96
        return Estimate("gap", value, value - half * z, value + half * z, (100, 100), "stub", level)

    return Gap(WOMEN, 1, p_value, interval, (), (100, 100))


def test_noise_of_a_small_group_does_not_make_a_small_gap_matter() -> None:
    """A million people show a gap of .5 points; twenty others seem to have one of 8."""
    large, small = stub(0.005, 1e-9, 0.001), stub(0.08, 0.3, 0.2)
    assert judged([large, small]) is large
    whole = among([large, small], 0.95)
    assert whole.value == 0.005 and whole.high == pytest.approx(0.28, abs=1e-4)
    worse = stub(0.06, 1e-4, 0.03)
    assert judged([large, small, worse]) is worse
    assert among([worse], 0.95).low == pytest.approx(0.03, abs=1e-4)
    assert among([worse, small], 0.95).low < 0.03


def test_no_group_is_not_applicable() -> None:
    given, labels, patient, _ = world(100, seed=9)
    seen = observe_equity(given, labels, patient, {}, classes=("no", "yes"))
    claims, described = equity_claims(seen, FRAME)
    assert claims == [] and {one.test for one in described} == set(RULES)
    assert {(one.verdict, one.reasons[0].code) for one in described} == {("not_applicable", "no_groups")}
    assert [one.test for one in described if one.primary] == ["equity.sensitivity"]
    assert list(seen.columns) == ["patient"]


def test_too_few_ill_patients_cannot_tell() -> None:
    given, labels, patient, attributes = world(200, seed=10)
    labels[20:] = 0
    found = findings_of(observe_equity(given, labels, patient, attributes, classes=("no", "yes")))
    for test in ("equity.sensitivity", "equity.sensitivity@sex=F", "equity.auc", "equity.calibration"):
        assert found[test].verdict == "inconclusive"
        assert found[test].reasons[0].code == "too_few_in_group"
    assert found["equity.specificity"].reasons[0].code != "too_few_in_group"


def test_each_class_against_all_others() -> None:
    random = np.random.default_rng(11)
    labels = random.integers(3, size=3000)
    given = np.full((3000, 3), 0.1)
    given[np.arange(3000), labels] = 0.8
    sex = np.where(random.random(3000) < 0.5, "F", "M")
    missed = (sex == "F") & (labels == 2) & (random.random(3000) < 0.3)
    given[missed] = (0.8, 0.1, 0.1)
    people = np.arange(3000)
    found = findings_of(observe_equity(given, labels, people, {"sex": sex}, classes=("a", "b", "c")))
    assert found["equity.sensitivity"].verdict == "unfair"
    assert found["equity.sensitivity"].settings["worst_class"] == "c"
    assert found["equity.sensitivity"].settings["contrasts"] == 6
    one = findings_of(
        observe_equity(given, labels, people, {"sex": sex}, classes=("a", "b", "c"), positive="b")
    )
    assert one["equity.sensitivity"].verdict == "none_found"
    assert "worst_class" not in one["equity.sensitivity"].settings


def test_groups_are_read_from_the_score() -> None:
    """A score that tells the sex of its patient, a diagnosis that does not, and inputs that do and do not."""
    given, labels, patient, attributes = world(2000, seed=12)
    women, random = attributes["sex"] == "F", np.random.default_rng(2)
    yes = (0.7 * given[:, 1] + 0.2 * women).clip(0, 1)
    neutral = np.stack([random.standard_normal(2000), women + random.standard_normal(2000)], axis=1)
    neutral[::50, 0] = np.nan
    seen = observe_equity(
        np.stack([1 - yes, yes], axis=1), labels, patient, attributes, classes=("no", "yes"), neutral=neutral
    )
    found = findings_of(seen, ("equity.proxy",))
    told = {one.name: one for one in found["equity.proxy@sex=F"].estimates}
    assert told["proxy_score"].low > 0.6
    assert told["proxy_neutral"].low > 0.6
    assert told["proxy_label"].low < 0.5 < told["proxy_label"].high + 0.02
    site = {one.name: one for one in found["equity.proxy@site=A"].estimates}
    assert abs(site["proxy_neutral"].value - 0.5) < 0.06
    assert found["equity.proxy"].settings["worst_group"] in {"sex=F", "sex=M"}
    assert found["equity.proxy"].p_value is None

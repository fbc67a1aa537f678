from collections.abc import Mapping

import numpy as np
import pytest
from scipy.stats import binom, hypergeom

from primum.evidence.contrast import Frame
from primum.evidence.finding import Finding, Message
from primum.evidence.measured import FloatArray
from primum.evidence.observed import Observed
from primum.evidence.tainted import MATERIAL, RULES, TOLERATED, tainted_claims
from primum.evidence.verdicts import judge

FRAME = Frame("m", "d", "nobody", "observed", 0)
NAMES = {
    "label": ("no", "yes"),
    "site": ("", "A", "B", "C"),
    "artificial": ("real", "impossible", "constant"),
}


def columns(patients: int = 400, *, seed: int = 0, flips: float = 0.0) -> dict[str, FloatArray]:
    random = np.random.default_rng(seed)
    true = random.random(patients) < 0.5
    score = 3.5 * true + random.standard_normal(patients)
    label = true ^ (random.random(patients) < flips)
    nobody = np.zeros(patients)
    return {
        "patient": np.arange(patients, dtype=float),
        "label": label.astype(float),
        "score:1": score,
        "flagged": (label != (score > 1.75)).astype(float),
        "sureness": np.abs(score - 1.75).argsort().argsort() / patients,
        "predicted": (score > 1.75).astype(float),
        "copies": nobody,
        "artificial": nobody,
        "outlier": random.standard_normal(patients),
        "judged": np.ones(patients),
        "mark": nobody,
        "site": random.integers(1, 4, patients).astype(float),
    }


def findings(given: Mapping[str, FloatArray], **more: Message) -> dict[str, Finding]:
    refused = {f"data.{test}": reason for test, reason in more.items()}
    observed = Observed("data", given, NAMES, {"marks_tested": 3}, refused)
    claims, described = tainted_claims(observed, FRAME)
    assert not any(claim.contrast for claim in claims)
    return {one.test: one for one in (*judge(claims), *described)}


def unasked(*tests: str) -> dict[str, Message]:
    return dict.fromkeys(tests, Message("x"))


def test_clean_data_are_not_tainted() -> None:
    found = findings(columns(1200))
    assert list(found)[:5] == [test for test in RULES if RULES[test].claims]
    assert not any(one.harmful for one in found.values())
    assert found["data.labels"].primary
    assert found["data.labels"].estimates[0].low == pytest.approx(0, abs=1e-6)
    assert found["data.labels"].estimates[0].high >= 3.6 / 1200
    assert found["data.artificial"].verdict == "none_found"
    assert found["data.outliers"].verdict == "descriptive"
    assert found["data.site@site=A"].subgroups == ("site=A",)


def test_flipped_labels_are_tainted() -> None:
    found = findings(columns(1200, flips=0.08))["data.labels"]
    assert found.verdict == "tainted"
    assert found.estimates[0].low <= 0.08 <= found.estimates[0].high
    curve = found.series[0].columns
    seen = [one for one in curve["contradicting"][:5] if one is not None]
    assert seen and all(0.02 < one < 0.2 for one in seen)
    assert curve["expected_clean"][0] is not None and curve["expected_clean"][0] < 0.02


@pytest.mark.parametrize(
    ("test", "column"), [("data.duplicates", "copies"), ("data.artificial", "artificial")]
)
def test_counted_patients(test: str, column: str) -> None:
    given = columns(500)
    given[column] = (np.arange(500) < 25).astype(float)
    found = findings(given, **unasked("labels", "backdoor", "site"))[test]
    assert found.verdict == "tainted"
    assert found.estimates[0].value == 0.05
    assert found.p_value == pytest.approx(binom.sf(24, 500, TOLERATED))
    assert found.settings[f"{column}_patients"] == 25


def test_one_to_four_patients_are_never_told_apart() -> None:
    told = []
    for number in (1, 4):
        given = columns(500)
        given["copies"] = (np.arange(500) < number).astype(float)
        told.append(findings(given, **unasked("labels", "backdoor", "site"))["data.duplicates"])
    assert told[0] == told[1]
    assert told[0].settings["copies_patients"] == "< 5"
    assert not told[0].harmful


def test_cases_of_one_patient_count_once() -> None:
    given = columns(500)
    given["patient"] = np.minimum(given["patient"], 99)
    given["artificial"] = (given["patient"] == 99).astype(float)
    found = findings(given, **unasked("labels", "backdoor", "site"))["data.artificial"]
    assert found.settings["artificial_patients"] == "< 5"
    assert found.estimates[0].n == (100,)


def test_a_mark_of_one_class() -> None:
    given = columns(600)
    yes = np.flatnonzero(given["label"] == 1)
    given["mark"][yes[:12]] = 1
    found = findings(given, **unasked("labels", "site"))["data.backdoor"]
    assert found.verdict == "tainted"
    assert found.settings["mark_class"] == "yes"
    assert found.p_value == pytest.approx(6 * hypergeom.sf(11, 600, len(yes), 12))
    given["mark"][:] = 0
    both = np.append(yes[:6], np.flatnonzero(given["label"] == 0)[:6])
    given["mark"][both] = 1
    assert not findings(given, **unasked("labels", "site"))["data.backdoor"].harmful


def test_who_stands_apart_inside_the_model_is_described_and_not_judged() -> None:
    given = columns(600)
    yes = np.flatnonzero(given["label"] == 1)
    given["spectral"] = np.ones(600)
    given["spectral"][yes[:12]] = 11
    rest = unasked("labels", "site", "duplicates", "artificial")
    beside = {one.name: one.value for one in findings(given, **rest)["data.backdoor"].estimates}
    assert beside["apart_share"] == pytest.approx(12 / len(yes)) and "spectral_auc" not in beside
    assert not findings(given, **rest)["data.backdoor"].harmful
    given["spectral"][yes[2:12]] = 1
    few = {one.name: one.value for one in findings(given, **rest)["data.backdoor"].estimates}
    assert few["apart_share"] == pytest.approx(4 / len(yes))
    given["mark"][yes[:2]] = 1
    given["spectral"][given["label"] == 0] = np.nan
    marked = {one.name: one.value for one in findings(given, **rest)["data.backdoor"].estimates}
    assert marked["spectral_auc"] == 1


def test_marks_that_know_no_class_do_not_alarm() -> None:
    """The best of three marks, of many patients who bear them whatever their class."""
    runs, alarms = 60, 0
    given = columns(200)
    rest = unasked("labels", "site", "duplicates", "artificial")
    for seed in range(runs):
        random = np.random.default_rng(seed)
        marks = [(random.random(200) < 0.08).astype(float) for _ in range(3)]
        given["mark"] = max(marks, key=lambda mark: abs(np.corrcoef(mark, given["label"])[0, 1]))
        alarms += (findings(given, **rest)["data.backdoor"].p_value or 0) < 0.05
    assert alarms <= binom.ppf(0.999, runs, 0.05)


def test_a_site_with_wrong_labels_is_named() -> None:
    given = columns(1200)
    flip = (given["site"] == 2) & (np.random.default_rng(1).random(1200) < 0.15)
    given["label"] = np.where(flip, 1 - given["label"], given["label"])
    given["flagged"] = (given["label"] != given["predicted"]).astype(float)
    found = findings(given, **unasked("labels", "backdoor"))
    assert found["data.site"].verdict == "tainted"
    assert found["data.site"].settings["site"] == "B"
    assert found["data.site@site=B"].estimates[0].value == found["data.site"].estimates[0].value


def test_a_site_with_harder_cases_is_not() -> None:
    runs, alarms = 16, 0
    rest = unasked("labels", "backdoor", "duplicates", "artificial")
    for seed in range(runs):
        given = columns(300, seed=seed)
        hard = given["sureness"] < 0.4
        random = np.random.default_rng(seed)
        given["site"] = np.where(random.random(300) < np.where(hard, 0.7, 0.2), 1.0, 2.0)
        alarms += (findings(given, **rest)["data.site"].p_value or 0) < 0.05
    assert alarms <= binom.ppf(0.999, runs, 0.05)


def test_what_cannot_be_judged_says_why() -> None:
    found = findings(columns(60), labels=Message("too_few_of_each_class", {"needed": 20}))["data.labels"]
    assert found.verdict == "not_applicable" and found.primary
    assert found.reasons[0].code == "too_few_of_each_class"
    few = findings(columns(12))
    assert {few[f"data.{test}"].reasons[0].code for test in ("labels", "duplicates")} == {"too_few_patients"}


def test_only_and_material() -> None:
    claims, described = tainted_claims(
        Observed("data", columns(100), NAMES, {"marks_tested": 0}), FRAME, only=("data.duplicates",)
    )
    assert [one.draft.test for one in claims] == ["data.labels", "data.duplicates"]
    assert not described
    assert set(MATERIAL) == {test for test, rule in RULES.items() if rule.claims}

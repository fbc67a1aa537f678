from typing import Any

import numpy as np
import pytest
from tests.evidence.equity_worlds import FRAME, findings_of, world

from primum.audits.equity.observe import observe_equity
from primum.errors import InputError
from primum.evidence.equity import equity_claims
from primum.records.synthetic_cases.images import synthetic_images

CLASSES = ("no", "yes")


def test_attributes_as_cases_have_them() -> None:
    """The project's synthetic images: four groupings, and columns that are no groups are left alone."""
    cases = synthetic_images(200, seed=1)
    yes = np.random.default_rng(0).random(len(cases))
    given = np.stack([1 - yes, yes], axis=1)
    seen = observe_equity(given, cases.labels, cases.subject_ids, cases.attributes, classes=CLASSES)
    assert set(seen.names) == {"label", "called", "sex", "age", "skin_type", "site", "device"}
    assert seen.names["age"][-2:] == ("80+", "")
    assert seen.columns["patient"].max() == 199 and seen.settings["patients"] == 200
    assert set(seen.columns) - set(seen.names) == {"patient", "probability:yes"}
    assert all(values.dtype == np.float64 for values in seen.columns.values())


def test_unknown_values_are_in_no_group() -> None:
    given, labels, patient, attributes = world(300, seed=1)
    sex = attributes["sex"].astype("U2")
    sex[:40], sex[40:80] = "", "?"
    age = attributes["age"].copy()
    age[:50] = np.nan
    seen = observe_equity(given, labels, patient, {"sex": sex, "age": age}, classes=CLASSES)
    assert np.isnan(seen.columns["sex"][:80]).all() and np.isfinite(seen.columns["sex"][80:]).all()
    assert np.isnan(seen.columns["age"]).sum() == 50
    assert seen.names["sex"] == ("F", "M", "")
    known = int((labels[80:] == 1).sum())
    assert sum(findings_of(seen)["equity.sensitivity@sex=F"].estimates[0].n) == known


def test_values_of_few_patients_and_beyond_the_largest_are_not_named() -> None:
    """They stay among everyone else."""
    given, labels, patient, _ = world(1000, seed=2)
    site = np.char.add("S", (np.arange(1000) % 30).astype(str))
    site[:4] = "tiny"
    seen = observe_equity(given, labels, patient, {"site": site}, classes=CLASSES)
    assert len(seen.names["site"]) == 21 and "tiny" not in seen.names["site"]
    assert np.isfinite(seen.columns["site"]).all()
    assert seen.settings["groups_left_out"] == 11
    assert not any("tiny" in test for test in findings_of(seen))


def test_one_patient_with_many_cases_is_one() -> None:
    given, labels, patient, attributes = world(300, seed=3)
    patient[:100] = 7
    site = np.where(np.arange(300) < 100, "alone", "other")
    seen = observe_equity(given, labels, patient, {**attributes, "site": site}, classes=CLASSES)
    assert "alone" not in seen.names["site"]


@pytest.mark.parametrize(("threshold", "called"), [(None, [0, 1, 0]), (0.2, [1, 1, 1]), (0.55, [0, 1, 0])])
def test_what_is_called(threshold: float | None, called: list[int]) -> None:
    yes = np.array([0.3, 0.6, 0.5])
    seen = observe_equity(
        np.tile(np.stack([1 - yes, yes], axis=1), (10, 1)),
        np.zeros(30, np.int64),
        np.arange(30),
        {"sex": np.repeat(["F", "M"], 15)},
        classes=CLASSES,
        threshold=threshold,
    )
    assert seen.columns["called"][:3].tolist() == called
    assert seen.settings["threshold"] == (threshold or "argmax")


def test_a_threshold_of_one_of_three_classes() -> None:
    given = np.tile([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]], (20, 1))
    sex = np.repeat(["F", "M"], 20)
    arguments: dict[str, Any] = {"classes": ("a", "b", "c"), "threshold": 0.25}
    truth, people = np.zeros(40, np.int64), np.arange(40)
    seen = observe_equity(given, truth, people, {"sex": sex}, positive="b", **arguments)
    assert seen.columns["called"][:2].tolist() == [1, -1]
    assert [name for name in seen.columns if name.startswith("probability")] == ["probability:b"]
    with pytest.raises(InputError, match="needs the class to find"):
        observe_equity(given, truth, people, {"sex": sex}, **arguments)


def test_severity_is_held_alike() -> None:
    """Women come with milder, harder cases; at each severity they are served alike."""
    given, labels, patient, attributes = world(6000, seed=4)
    random, women = np.random.default_rng(5), attributes["sex"] == "F"
    mild = random.random(6000) < np.where(women, 0.8, 0.3)
    given[mild & (labels == 1) & (random.random(6000) < 0.3)] = (0.9, 0.1)
    seen = observe_equity(
        given, labels, patient, {"sex": attributes["sex"]}, classes=CLASSES, severity={"stage": 1.0 - mild}
    )
    found = findings_of(seen)["equity.sensitivity"]
    assert found.verdict == "unfair"
    assert found.settings["standardised_over"] == "severity:stage"
    assert "gap_maybe_case_mix" in {one.code for one in found.reasons}


def given_of(**changed: Any) -> dict[str, Any]:
    given, labels, patient, attributes = world(60, seed=5)
    whole = {"probabilities": given, "labels": labels, "patient": patient, "attributes": attributes}
    return {**whole, "classes": CLASSES, **changed}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"probabilities": np.zeros(60)}, "one row a case"),
        ({"probabilities": np.zeros((60, 3))}, "2 classes"),
        ({"probabilities": np.empty((0, 2))}, "one row a case"),
        ({"probabilities": np.full((60, 2), np.nan)}, "between 0 and 1"),
        ({"probabilities": np.full((60, 2), 1.5)}, "between 0 and 1"),
        ({"labels": np.full(60, 2)}, "positions in the 2 classes"),
        ({"labels": np.zeros(59, np.int64)}, "60 whole numbers"),
        ({"labels": np.zeros(60)}, "whole numbers"),
        ({"patient": np.zeros((60, 1), np.int64)}, "60 whole numbers"),
        ({"attributes": {"sex": np.array(["F"])}}, "attribute sex"),
        ({"positive": "maybe"}, "maybe, is none"),
        ({"threshold": 1.0}, "both excluded"),
        ({"neutral": np.zeros(60)}, "neutral inputs"),
        ({"severity": {"stage": np.zeros(3)}}, "severity stage"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        observe_equity(**given_of(**changed))
    assert caught.value.exit_status == 2 and "\n" not in str(caught.value)


def test_single_precision_answers_do() -> None:
    given, labels, patient, attributes = world(400, seed=6)
    whole = observe_equity(given, labels, patient, attributes, classes=CLASSES)
    half = observe_equity(given.astype(np.float32), labels, patient, attributes, classes=CLASSES)
    assert all(values.dtype == np.float64 for values in half.columns.values())
    for one, two in zip(*(equity_claims(seen, FRAME)[0] for seen in (whole, half)), strict=True):
        values = [[e.value for e in claim.draft.estimates] for claim in (one, two)]
        assert values[0] == pytest.approx(values[1], abs=1e-5)

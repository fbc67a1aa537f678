"""From a model to findings: closed forms of a linear model, models that see nothing, every kind of case."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from primum.audits.privacy.case_subjects import CaseSubjects
from primum.audits.privacy.label_only import Kind
from primum.audits.robustness import stages
from primum.audits.robustness.observe import observe_robustness
from primum.errors import ModelError
from primum.evidence.contrast import Frame
from primum.evidence.finding import Finding
from primum.evidence.identity import ModelRef
from primum.evidence.observed import Observed
from primum.evidence.robustness import PRIMARY, RULES, robustness_claims
from primum.evidence.verdicts import judge
from primum.models.opened import OpenedClassifier
from primum.models.predictors import Predictor
from primum.records.cases import Cases
from primum.records.synthetic_cases import SYNTHETIC_CASES

SHAPE = (1, 8, 8)
FRAME = Frame("0" * 64, "1" * 64, "probabilities", "observed", 0)


@dataclass
class Blind:
    """Says the same of everybody, and remembers whom it was asked about; shows no gradient."""

    classes: tuple[str, ...] = ("benign", "malignant")
    asked: set[int] = field(default_factory=set)

    def logits(self, cases: Cases) -> NDArray[Any] | None:
        self.asked |= set(cases.subject_ids.tolist())
        return np.tile([1.0, 0.0], (len(cases), 1))

    def predict_proba(self, cases: Cases) -> NDArray[Any]:
        return np.tile([expit(1.0), expit(-1.0)], (len(cases), 1))


@dataclass
class Linear:
    """Malignant beyond a hyperplane in the numbers as they are stored."""

    weights: NDArray[Any]
    bias: float
    classes: tuple[str, ...] = ("benign", "malignant")

    def far(self, cases: Cases) -> NDArray[Any]:
        inputs = np.asarray(cases.inputs, np.float64).reshape(len(cases), -1)
        return np.asarray(inputs @ self.weights.reshape(-1) + self.bias)

    def logits(self, cases: Cases) -> NDArray[Any]:
        return np.stack([np.zeros(len(cases)), self.far(cases)], axis=1)

    def predict_proba(self, cases: Cases) -> NDArray[Any]:
        return np.stack([expit(-self.far(cases)), expit(self.far(cases))], axis=1)

    def loss_and_gradient(self, cases: Cases, labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        sign = np.where(labels == 1, 1.0, -1.0)
        loss = np.logaddexp(0, -sign * self.far(cases))
        slope = -sign * expit(-sign * self.far(cases))
        return loss, slope[:, None, None, None] * self.weights.reshape(SHAPE)


@dataclass
class Borrowed:
    """A recipe that trains nothing."""

    model: Predictor

    def fit(self, train: Cases, *, validation: Cases | None, max_steps: int | None, seed: int) -> Predictor:
        return self.model


def opened(predictor: Predictor) -> OpenedClassifier:
    return OpenedClassifier(ModelRef("model", "0" * 64, "computed", {}), predictor, 100)


def pictures(count: int, *, seed: int, each: int = 1) -> Cases:
    """Grey values far from both ends of the range, so that no attack meets them."""
    rng = np.random.default_rng(seed)
    inputs = rng.integers(60, 196, (count * each, *SHAPE)).astype(np.uint8)
    rows = np.arange(count * each)
    return Cases(rows, np.repeat(np.arange(count), each), inputs, rng.integers(0, 2, count * each))


def subjects_of(cases: Cases, *, members: int = 0) -> CaseSubjects:
    ids, place = np.unique(cases.subject_ids, return_inverse=True)
    return CaseSubjects(np.arange(len(ids)), np.arange(len(ids)) < members, cases, place, 0)


def observed(predictor: Predictor, cases: Cases, *, kind: Kind = "image", **more: Any) -> Observed:
    more = {"surrogate": Borrowed(predictor), "seed": 0, **more}
    return observe_robustness(opened(predictor), subjects_of(cases), kind=kind, **more)


def found(given: Observed) -> dict[str, Finding]:
    claims, described = robustness_claims(given, FRAME)
    return {one.test: one for one in (*judge(claims), *described)}


def linear(cases: Cases, *, steepness: float = 1.0) -> Linear:
    rng = np.random.default_rng(9)
    weights = rng.normal(size=SHAPE) * steepness
    model = Linear(weights, 0.0)
    return replace(model, bias=-float(np.median(model.far(cases))))


def test_of_a_linear_model_the_share_turned_is_known() -> None:
    cases = pictures(120, seed=1)
    model = linear(cases)
    cases = replace(cases, labels=(model.far(cases) > 0).astype(np.int64))
    given = observed(model, cases)
    distance = np.abs(model.far(cases)) / np.abs(model.weights).sum()  # L-infinity, in grey levels
    columns = given.columns
    order = columns["patient"].astype(int)
    for strength in (1, 2, 4, 8):
        turned = columns[f"evasion@{strength}:class"] != columns["label"]
        np.testing.assert_array_equal(turned, distance[order] < strength)
    finding = found(given)[PRIMARY]
    share = next(one for one in finding.estimates if one.name == "turned_by_attack")
    assert share.value == pytest.approx((distance < 4).mean())
    assert finding.verdict == "fragile"
    # A line looks alike from everywhere: what turns the surrogate, itself, turns the model.
    half = np.isfinite(columns["transfer@4:class"])
    np.testing.assert_array_equal(columns["transfer@4:class"][half], columns["evasion@4:class"][half])
    lengths = np.abs(model.far(cases)) / np.linalg.norm(model.weights) / 255
    near = columns["l2:class"] != columns["label"]
    assert near[lengths[order] < 0.95].all() and not near[lengths[order] > 1].any()


@dataclass
class Masked(Linear):
    """Shows a gradient of noughts."""

    def loss_and_gradient(self, cases: Cases, labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        loss, slope = super().loss_and_gradient(cases, labels)
        return loss, np.zeros_like(slope)


def test_a_model_that_hides_its_gradient_is_found_out() -> None:
    cases = pictures(120, seed=6)
    model = linear(cases)
    cases = replace(cases, labels=(model.far(cases) > 0).astype(np.int64))
    hidden = found(observed(Masked(model.weights, model.bias), cases))[PRIMARY]
    assert hidden.verdict == "fragile"
    assert "gradient_masked" in [one.code for one in hidden.reasons]
    assert "gradient_masked" not in [one.code for one in found(observed(model, cases))[PRIMARY].reasons]


def test_a_wide_margin_is_not_fragile() -> None:
    cases = pictures(400, seed=2)
    model = linear(cases)
    labels = (model.far(cases) > 0).astype(np.int64)
    away = np.where(labels == 1, 1.0, -1.0)[:, None, None, None] * np.sign(model.weights)
    cases = replace(cases, inputs=(np.asarray(cases.inputs) + 20 * away).astype(np.uint8), labels=labels)
    finding = found(observed(model, cases))[PRIMARY]
    assert (finding.verdict, finding.p_value, finding.estimates[0].value) == ("none_found", 1.0, 0.0)


def test_a_model_blind_to_where_the_patch_may_lie_is_not_accused_of_it() -> None:
    cases = pictures(120, seed=3)
    model = linear(cases)
    flat = replace(model, weights=np.zeros(SHAPE), bias=0.5)
    result = found(observed(flat, cases))
    assert {one.verdict for one in result.values() if one.verdict != "descriptive"} == {"none_found"}
    assert {one.p_value for one in result.values() if one.verdict != "descriptive"} == {1.0}
    assert "right_by_chance" in [one.code for one in result[PRIMARY].reasons]


def test_members_are_not_asked_and_the_same_seed_gives_the_same_numbers() -> None:
    cases, model = pictures(60, seed=4, each=2), Blind()
    some = subjects_of(cases, members=25)
    first, second = (
        observe_robustness(opened(model), some, kind="image", surrogate=Borrowed(model), seed=seed)
        for seed in (0, 0)
    )
    assert model.asked == set(range(25, 60))
    assert set(first.columns["patient"]) == set(range(25, 60))
    for name, values in first.columns.items():
        np.testing.assert_array_equal(values, second.columns[name])


@pytest.mark.parametrize("kind", ["image", "volume", "signal", "table", "bag", "sequence"])
def test_every_kind_is_asked_or_says_why_not(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "QUERIES", 3)
    monkeypatch.setattr(stages, "SAMPLES", 10)
    cases = SYNTHETIC_CASES[kind][0](26, seed=1)
    given = observed(Blind(), cases, kind=kind)
    result = found(given)
    assert set(RULES) <= set(result)
    assert result[PRIMARY].verdict in ("inconclusive", "none_found")
    for one in result.values():
        assert one.verdict != "not_applicable" or one.reasons[0].code in (
            "model_cannot", "is_the_evasion", "not_one_shape", "attack_not_of_letters",
            "attack_not_of_tables", "too_few_to_train",
        )  # fmt: skip
    assert not any(one.harmful for one in result.values())


def test_recorded_answers_and_too_few_patients_are_refused_with_a_reason() -> None:
    model = replace(opened(Blind()), answers_anew=False)
    cases = pictures(30, seed=5)
    kept = observe_robustness(model, subjects_of(cases), kind="image", seed=0)
    assert {one.code for one in kept.refused.values()} == {"kept_answers"}
    few = observe_robustness(opened(Blind()), subjects_of(cases, members=12), kind="image", seed=0)
    assert {one.code for one in few.refused.values()} == {"too_few_patients"}
    assert set(few.refused) == set(kept.refused) == set(RULES)


@dataclass
class Fussy(Blind):
    """Takes no bag of fewer tiles."""

    def logits(self, cases: Cases) -> NDArray[Any] | None:
        if min(len(one) for one in cases.inputs) < 2:
            raise ModelError("Too few tiles.")
        return super().logits(cases)


def test_a_corruption_that_the_model_does_not_take_is_left_out_and_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stages, "QUERIES", 2)
    monkeypatch.setattr(stages, "SAMPLES", 5)
    cases = SYNTHETIC_CASES["bag"][0](36, seed=1)
    cases = cases.select(np.flatnonzero([len(one) > 2 for one in cases.inputs]))
    given = observed(Fussy(), cases, kind="bag")
    assert given.settings["corruptions_not_taken"] == "tiles"
    assert "corruption:tiles:1:class" not in given.columns
    assert "corruption:noise:1:class" in given.columns

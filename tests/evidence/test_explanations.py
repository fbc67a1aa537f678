"""Claims about explanations, on columns of which the truth is known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from primum.evidence.contrast import Frame
from primum.evidence.explanations import MATERIAL_MISSED, RULES, explanations_claims
from primum.evidence.finding import Finding, Message
from primum.evidence.observed import Observed
from primum.evidence.verdicts import judge

FRAME = Frame("0" * 64, "1" * 64, "none", "observed", 0)
Floats = NDArray[np.float64]


def observed(columns: dict[str, Floats], patient: Floats | None = None) -> Observed:
    rows = len(next(iter(columns.values())))
    who = np.arange(rows, dtype=np.float64) if patient is None else patient
    return Observed("explanations", {"patient": who, **columns}, settings={"explainer": "x"})


def gains(missed: float, *, patients: int = 100, seed: int = 0, free: float = 0.0) -> dict[str, Floats]:
    """Explainers that miss a share of what could be shown, of each patient by chance more or less."""
    rng = np.random.default_rng(seed)
    best = rng.beta(2, 3, patients)
    zero = free * best * 2 * rng.random(patients)
    gained = zero + (best - zero) * (1 - missed + rng.normal(0, 0.2, patients))
    return {"gain:x": gained, "gain:best": best, "gain:free": zero, "gain:random": np.zeros(patients)}


def likeness(
    level: float, *, between: float, patients: int = 40, draws: int = 8, seed: int = 0
) -> dict[str, Floats]:
    rng = np.random.default_rng(seed)
    of_patient, of_draw = rng.normal(0, 0.1, patients), rng.normal(0, between, draws)
    columns = {
        f"weights:{k}": level + of_draw[k] + of_patient + rng.normal(0, 0.1, patients) for k in range(draws)
    }
    return {**columns, "weights_absolute": of_patient, "input_alone": of_patient}


def judged(given: Observed) -> dict[str, Finding]:
    claims, described = explanations_claims(given, FRAME)
    return {one.test: one for one in [*judge(claims), *described]}


@pytest.mark.parametrize(("missed", "verdict"), [(0.1, "none_found"), (1.0, "fragile"), (1.4, "fragile")])
def test_what_is_missed_decides(missed: float, verdict: str) -> None:
    found = judged(observed(gains(missed)))["explanations.faithful"]
    assert found.verdict == verdict
    assert found.primary
    assert found.estimates[0].value == pytest.approx(missed, abs=0.06)
    assert found.estimates[0].low < missed < found.estimates[0].high


def test_what_anyone_could_draw_does_not_count() -> None:
    columns = gains(1.4, patients=200, free=0.5)
    assert columns["gain:x"].mean() > 0.1
    found = judged(observed(columns))["explanations.faithful"]
    assert found.verdict == "fragile"
    # Were it counted from a random order, most would seem to be shown.
    from_random = judged(observed({**columns, "gain:free": 0 * columns["gain:free"]}))
    assert from_random["explanations.faithful"].estimates[0].value < 0.8


def test_a_false_alarm_is_as_rare_as_promised_where_the_material_share_is_missed() -> None:
    alarms, covered, draws = 0, 0, 200
    for seed in range(draws):
        columns = gains(MATERIAL_MISSED, patients=30, seed=seed)
        draft = explanations_claims(observed(columns), FRAME)[0][0].draft
        alarms += (draft.p_value or 0.0) < 0.05
        covered += draft.estimates[0].low < MATERIAL_MISSED < draft.estimates[0].high
    assert alarms / draws < 0.05 + 3 * np.sqrt(0.05 * 0.95 / draws)
    assert covered / draws > 0.95 - 3 * np.sqrt(0.05 * 0.95 / draws)


def test_fieller_agrees_with_the_bootstrap() -> None:
    columns = gains(0.5, patients=200, seed=3)
    found = judged(observed(columns))["explanations.faithful"].estimates[0]
    missed, possible = columns["gain:best"] - columns["gain:x"], columns["gain:best"]
    rows = np.random.default_rng(0).integers(200, size=(4000, 200))
    ratios = missed[rows].mean(axis=1) / possible[rows].mean(axis=1)
    assert [found.low, found.high] == pytest.approx(np.quantile(ratios, [0.025, 0.975]), abs=0.01)


def test_several_cases_of_a_patient_are_one_person() -> None:
    columns = gains(0.9, patients=50)
    many = {name: np.repeat(values, 4) for name, values in columns.items()}
    once = judged(observed(columns))["explanations.faithful"]
    again = judged(observed(many, np.repeat(np.arange(50.0), 4)))["explanations.faithful"]
    assert again.p_value == pytest.approx(once.p_value, abs=1e-12)
    assert again.estimates[0].n == (50,)


def test_an_answer_that_depends_on_nothing_is_not_judged() -> None:
    rng = np.random.default_rng(0)
    columns = {f"gain:{name}": rng.normal(0, 1e-3, 50) for name in ("x", "best", "free", "random")}
    found = judged(observed(columns))["explanations.faithful"]
    assert (found.verdict, found.reasons[0].code) == ("not_applicable", "explanations_no_headroom")
    assert found.primary


def test_few_patients_are_not_counted_out() -> None:
    found = judged(observed(gains(1.0, patients=4)))["explanations.faithful"]
    assert found.verdict == "inconclusive"
    assert found.reasons[0].parameters["have"] == "< 5"


@pytest.mark.parametrize(("level", "verdict"), [(1.0, "fragile"), (0.0, "none_found")])
def test_likeness_under_other_weights_decides(level: float, verdict: str) -> None:
    columns = {**gains(0.1, patients=40), **likeness(level, between=0.1)}
    assert judged(observed(columns))["explanations.weights"].verdict == verdict


def test_a_map_that_never_changes_is_found() -> None:
    columns = {**gains(0.1, patients=40), **{f"weights:{k}": np.ones(40) for k in range(8)}}
    columns |= {"weights_absolute": np.ones(40), "input_alone": np.ones(40)}
    assert judged(observed(columns))["explanations.weights"].verdict == "fragile"


def test_draws_of_weights_are_chance_too() -> None:
    """Likeness by accident of a few draws is the same for all patients: only new draws tell."""
    draws = 200
    alarms = 0
    for seed in range(draws):
        columns = likeness(0.5, between=0.4, seed=seed)
        claims, _ = explanations_claims(observed({**gains(0.1, patients=40), **columns}), FRAME)
        alarms += (claims[1].draft.p_value or 0.0) < 0.05
    assert alarms / draws < 0.05 + 3 * np.sqrt(0.05 * 0.95 / draws)


def test_methods_are_described_each_with_what_it_misses() -> None:
    columns = gains(0.1)
    columns["gain:lime"] = np.where(np.arange(100) < 24, columns["gain:free"], np.nan)
    found = judged(observed(columns))["explanations.methods"]
    assert found.verdict == "descriptive"
    values = {one.name: one for one in found.estimates}
    assert values["missed_share:lime"].value == pytest.approx(1.0)
    assert values["missed_share:lime"].n == (24,)


def test_refusals_are_told_and_the_primary_test_is_always_there() -> None:
    reason = Message("explanations_needs_answers")
    given = Observed("explanations", {"patient": np.empty(0)}, refused=dict.fromkeys(RULES, reason))
    claims, described = explanations_claims(given, FRAME, only=("robustness",))
    assert not claims
    assert [(one.test, one.verdict, one.primary) for one in described] == [
        ("explanations.faithful", "not_applicable", True)
    ]
    assert {one.test for one in explanations_claims(given, FRAME)[1]} == set(RULES)


def test_the_order_of_the_patients_changes_nothing() -> None:
    columns = {**gains(0.9, patients=40), **likeness(0.4, between=0.2)}
    mixed = np.random.default_rng(1).permutation(40)
    turned = observed({name: values[mixed] for name, values in columns.items()}, mixed.astype(np.float64))
    assert judged(turned) == judged(observed(columns))

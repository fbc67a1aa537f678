"""The canary: rolled back when it is worse, seldom when it is not, the same after any restart."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from studies.canary import ALPHA, KINDS, alarm, path, same

from primum.errors import InputError
from primum.evidence.finding import Finding
from primum.release.canary import Canary
from primum.release.canary_words import SENTENCES
from primum.release.outcomes import STREAMS, WEIGHTS, Outcome, Stream, Watch, brier_score

LIVE, CANARY = "11" * 32, "22" * 32
DOCS = Path(__file__).resolve().parents[2] / "docs"


def begun(watch: Watch | None = None) -> Canary:
    return Canary.begin(live=LIVE, canary=CANARY, watch=watch)


def outcomes(
    random: np.random.Generator, count: int, *, worse: float = 0.0, share: float = 0.3
) -> list[Outcome]:
    """Cases of as many patients, known in all streams; the canary is wrong oftener by `worse`."""
    found = []
    for _ in range(count):
        canary = random.random() < share
        found.append(
            Outcome(
                "canary" if canary else "live",
                share,
                error=bool(random.random() < 0.1 + worse * canary),
                refused=bool(random.random() < 0.03),
                disagreed=bool(random.random() < 0.05),
                latency_ms=float(random.exponential(200)),
                brier=float(random.random() ** 3),
            )
        )
    return found


@pytest.mark.parametrize("stream", STREAMS)
def test_each_stream_rolls_back_on_its_own_harm_and_says_so(stream: Stream) -> None:
    random, canary = np.random.default_rng([90, STREAMS.index(stream)]), begun()
    harm = {
        "error_rate": Outcome("canary", 0.3, error=True),
        "refusals": Outcome("canary", 0.3, refused=True),
        "agreement": Outcome("canary", 0.3, disagreed=True),
        "latency": Outcome("canary", 0.3, latency_ms=5000),
        "calibration": Outcome("canary", 0.3, brier=0.95),
    }[stream]
    field = {
        "error_rate": "error",
        "refusals": "refused",
        "agreement": "disagreed",
        "latency": "latency_ms",
        "calibration": "brier",
    }[stream]
    for outcome in outcomes(random, 2000):
        decision = canary.observe(
            replace(outcome, **{field: getattr(harm, field)}) if outcome.arm == "canary" else outcome
        )
    assert decision.roll_back
    assert decision.reason == stream
    assert decision.e_value is not None
    assert decision.threshold is not None
    assert decision.e_value >= decision.threshold == canary.state.watch.threshold(stream)
    assert decision.patients < 500
    assert decision.statistic is not None
    assert decision.statistic > 0.1
    assert [one.code for one in decision.messages] == [f"canary.{stream}", "canary.evidence"]
    for said in decision.messages:
        SENTENCES[said.code].format(**said.parameters)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("worse", [0.0, 0.3])
def test_a_restart_at_any_step_changes_nothing(seed: int, worse: float) -> None:
    whole, broken = begun(), begun()
    for outcome in outcomes(np.random.default_rng([91, seed]), 300, worse=worse):
        said = whole.observe(outcome)
        broken = Canary.from_bytes(broken.as_bytes())
        assert broken.observe(outcome) == said
        assert broken.state == whole.state
        assert broken.as_bytes() == whole.as_bytes()
    assert len(whole.as_bytes()) < 4000
    assert said.roll_back == (worse > 0)


@pytest.mark.parametrize("seed", range(2))
def test_the_study_simulates_what_the_canary_does(seed: int) -> None:
    shares = np.repeat([0.1, 0.3, 0.5], 100)
    made = same(np.random.default_rng([96, seed]), share=shares, rate=0.1, worse=0.4, patients=300, late=True)
    for stream, (arms, values, routed) in made.items():
        canary, ended = begun(), math.inf
        for number, (arm, value, share) in enumerate(
            zip(arms.tolist(), values.tolist(), routed.tolist(), strict=True), start=1
        ):
            known = {
                "error_rate": {"error": value == 1},
                "refusals": {"refused": value == 1},
                "agreement": {"disagreed": value == 1},
                "latency": {"latency_ms": 1000 + value},
                "calibration": {"brier": value},
            }[stream]
            decision = canary.observe(Outcome("canary" if arm else "live", share, **known))
            ended = min(ended, number if decision.roll_back else math.inf)
        assert ended == alarm(KINDS[stream], (arms, values, routed), alpha=ALPHA * WEIGHTS[stream])
        assert (stream == "error_rate") == (ended < math.inf)
        if ended == math.inf:
            said = path(KINDS[stream], arms, values, routed)[1][-1]
            assert canary.state.tests[stream].log_e_value == pytest.approx(said, abs=1e-9)


def test_the_page_says_what_the_code_and_the_study_say() -> None:
    page, study = (DOCS / name for name in ("canary.md", "studies/canary.md"))
    told, measured = page.read_text(encoding="utf-8"), study.read_text(encoding="utf-8").replace(",", "")
    for stream, part in WEIGHTS.items():
        assert re.search(rf"^\| `{stream}` \|.*\| {f'{part:g}'.lstrip('0')} \|$", told, re.MULTILINE)
        assert f"{Watch().threshold(stream):.3g}" in told  # type: ignore[arg-type]
    delays = told.split("## How long it takes")[1].split("## What it cannot see")[0]
    figures = [number.replace(",", "") for number in re.findall(r"(?<![\d,.])\d[\d,]{2,}", delays)]
    assert len(figures) > 30
    assert [one for one in figures if f" {one} " not in measured and one not in ("5001",)] == []
    for number in ("182", "957", "398", "19"):
        assert number in told.split()
        assert f"| {number} |" in measured
    assert "3,973" in told
    assert "| 3973 |" in measured


def test_once_rolled_back_it_stays_and_counts_no_more() -> None:
    canary, random = begun(), np.random.default_rng(92)
    for outcome in outcomes(random, 400, worse=0.5):
        canary.observe(outcome)
    kept = canary.as_bytes()
    assert canary.decision.roll_back
    for outcome in outcomes(random, 400, worse=-0.1):
        assert canary.observe(outcome).roll_back
    assert canary.as_bytes() == kept
    assert Canary.from_bytes(kept).decision == canary.decision


def test_no_difference_is_seldom_rolled_back_and_memory_stays() -> None:
    """The object itself, five streams; the study does it with 1,000 canaries of 20,000 patients."""
    rolled = 0
    for run in range(20):
        canary = begun(Watch(disagreement=0.05))
        for outcome in outcomes(np.random.default_rng([93, run]), 400):
            canary.observe(outcome)
        rolled += canary.decision.roll_back
        assert len(canary.as_bytes()) < 4000
    assert rolled <= 1


def test_patients_who_come_often_count_once() -> None:
    """Ten patients in a hundred are always wrong and come fifty times: each case would prove anything."""
    rolled, everything = 0, 0
    for run in range(10):
        random, once, always = np.random.default_rng([94, run]), begun(), begun()
        canary, wrong = random.random(60) < 0.5, random.random(60) < 0.3
        seen = set()
        for case in random.integers(0, 60, 1000).tolist():
            outcome = Outcome("canary" if canary[case] else "live", 0.5, error=bool(wrong[case]))
            once.observe(outcome, first=() if case in seen else ("error_rate",))
            always.observe(outcome)
            seen.add(case)
        assert once.state.tests["error_rate"].seen.tested == canary.sum()
        rolled, everything = rolled + once.decision.roll_back, everything + always.decision.roll_back
    assert rolled <= 1
    assert everything >= 3


@pytest.mark.parametrize(("share", "period"), [(0.1, 0), (0.5, 1)])
def test_patients_of_different_shares_or_periods_are_not_compared(share: float, period: int) -> None:
    canary = begun()
    for _ in range(200):
        canary.observe(Outcome("canary", 0.5, error=True, brier=1.0))
        decision = canary.observe(Outcome("live", share, error=False, brier=0.0, period=period))
    assert not decision.roll_back
    assert canary.state.tests["error_rate"].steps == 20
    assert canary.state.tests["calibration"].steps == 50


def test_a_harmful_finding_rolls_back_at_once() -> None:
    canary = begun()
    mild = Finding("membership.combined.auc", "none_found", False, CANARY, "33" * 32)
    assert not canary.report(mild).roll_back
    decision = canary.report(replace(mild, verdict="leak", harmful=True))
    assert decision.roll_back
    assert decision.reason == "harmful_finding"
    SENTENCES[decision.messages[0].code].format(**decision.messages[0].parameters)
    assert Canary.from_bytes(canary.as_bytes()).decision == decision
    with pytest.raises(InputError, match="another model"):
        canary.report(replace(mild, model=LIVE))


def test_the_budget_is_shared_out() -> None:
    watch = Watch()
    assert sum(1 / watch.threshold(stream) for stream in STREAMS) == pytest.approx(watch.false_rollback)
    alone = Watch(weights={"error_rate": 1})
    assert alone.threshold("error_rate") == pytest.approx(20)
    assert alone.threshold("refusals") == math.inf
    canary = begun(alone)
    for number in range(400):
        canary.observe(Outcome("live" if number % 2 else "canary", 0.5, refused=number % 2 == 0))
    assert not canary.decision.roll_back
    assert canary.state.tests["refusals"].log_e_value > math.log(1e6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"false_rollback": 0},
        {"false_rollback": math.nan},
        {"weights": {"error_rate": 0.8, "latency": 0.3}},
        {"weights": {"errors": 0.5}},
        {"weights": {"error_rate": -0.1, "latency": 0.3}},
        {"weights": {}},
        {"disagreement": 1},
        {"latency_limit_ms": math.inf},
    ],
)
def test_a_watch_that_cannot_be_is_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        Watch(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        Outcome("neither", 0.5, error=True),  # type: ignore[arg-type]
        Outcome("live", math.nan, error=True),
        Outcome("live", 0.5, error=True, brier=1.5),
        Outcome("live", 0.5, error=True, brier=math.nan),
    ],
)
def test_an_outcome_that_cannot_be_counts_nowhere(wrong: Outcome) -> None:
    canary = begun()
    before = canary.as_bytes()
    with pytest.raises(InputError):
        canary.observe(wrong)
    assert canary.as_bytes() == before


def test_the_brier_score_is_between_0_and_1() -> None:
    assert brier_score([1.0, 0.0], 0) == 0
    assert brier_score([1.0, 0.0], 1) == 1
    assert brier_score([0.25] * 4, 2) == pytest.approx(0.375)


ALTERED = [
    (("schema",), "2.0"),
    (("tests", "latency"), None),
    (("tests", "latency", "kind"), "means"),
    (("tests", "latency", "log_wealth"), [0, 0]),
    (("tests", "latency", "log_wealth", 0), None),
    (("tests", "latency", "seen", "tested_sum"), 99),
    (("tests", "latency", "steps"), -1),
    (("tests", "latency", "waiting"), {"0.3": {"tested": 20}}),
    (("tests", "agreement", "bound"), 0),
    (("watch", "weights"), {"error_rate": 3}),
    (("rolled_back",), {"roll_back": False}),
]


@pytest.mark.parametrize(("where", "value"), ALTERED, ids=lambda part: str(part)[:40])
def test_a_state_that_was_altered_is_refused(where: tuple[str | int, ...], value: object) -> None:
    canary = begun()
    for outcome in outcomes(np.random.default_rng(95), 50):
        canary.observe(outcome)
    document = json.loads(canary.as_bytes())
    inner = document
    for name in where[:-1]:
        inner = inner[name]
    inner[where[-1]] = value
    with pytest.raises(InputError):
        Canary.from_bytes(json.dumps(document).encode())


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b"NaN"])
def test_what_is_no_state_is_refused(content: bytes) -> None:
    with pytest.raises(InputError, match=r"canary\.json"):
        Canary.from_bytes(content)

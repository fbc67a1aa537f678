"""Equity where the truth is known: false alarms without any gap, and power for gaps of 3, 5 and 10 points.

Simulated patients of 21 groups: sex, age band, skin type, site, device. A score is normal, higher for the
ill; the model finds 85 (or 95) in 100 of the ill and clears 90 in 100 of the others, in every group alike.
Worlds without a gap: one case a patient; the same with a sensitivity of 95 %, where errors are few; several
cases a patient, whose scores are alike (correlation .5) and whose devices change; and prevalence that differs
by age and site, where calibration cannot be equal and is not asked.

Then the model finds fewer of the ill women, or of the ill of the darkest skin type (a tenth of all), by 3, 5
or 10 points. Every run judges all claims of the family with one error budget, as a command that asks for
nothing else does: `python -m studies.equity_power`, about eight minutes of one processor.
"""

import importlib
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtri
from scipy.stats import binom

from primum.audits.equity.observe import observe_equity
from primum.evidence.contrast import Frame
from primum.evidence.equity import MATERIAL, equity_claims
from primum.evidence.finding import Finding
from primum.evidence.observed import Observed
from primum.evidence.verdicts import judge
from studies.tables import Table, write_page

TESTS = tuple(MATERIAL)
NULLS, POWERS = 400, {1_000: 100, 3_000: 80, 10_000: 40, 30_000: 25}
FRAME = Frame("model", "data", "none", "observed", 0)
_SKIN = ("I", "II", "III", "IV", "V", "VI")


@dataclass(frozen=True)
class World:
    """What is true: `gap` is taken from the sensitivity of `group`, an attribute and its value."""

    cases: int
    sensitivity: float = 0.85
    several: bool = False
    prevalence_differs: bool = False
    gap: float = 0.0
    group: tuple[str, str] = ("sex", "F")


Arrays = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64], dict[str, NDArray[np.generic]]]


def arrays_of(world: World, *, seed: int) -> Arrays:
    """Draw patients, their cases and the model's answers: probabilities, labels, patients, attributes."""
    random = np.random.default_rng([29, seed])
    people = world.cases // 2 if world.several else world.cases
    patient = random.integers(people, size=world.cases) if world.several else np.arange(people)
    site = np.array(["A", "B", "C"])[random.choice(3, people, p=[0.5, 0.35, 0.15])][patient]
    age = random.normal(58, 16, people).clip(18, 95).round()[patient]
    attributes: dict[str, NDArray[np.generic]] = {
        "sex": np.array(["F", "M"])[random.integers(2, size=people)][patient],
        "age": age,
        "site": site,
        "skin_type": np.array(_SKIN)[random.choice(6, people, p=[0.1, 0.25, 0.25, 0.15, 0.15, 0.1])][patient],
        "device": np.char.add(site, random.integers(1, 3, world.cases).astype(str)),
    }
    differs = world.prevalence_differs * (0.01 * (age - 58) - 0.1 * (site == "C"))
    ill = random.random(world.cases) < np.clip(0.4 + differs, 0.05, 0.9)
    name, value = world.group
    found = world.sensitivity - world.gap * (attributes[name] == value)
    own = random.standard_normal(people)[patient] if world.several else random.standard_normal(world.cases)
    noise = np.sqrt(0.5) * own + np.sqrt(0.5) * random.standard_normal(world.cases)
    score = np.where(ill, ndtri(found), -ndtri(0.9)) + noise
    yes = expit(2 * score)
    return np.stack([1 - yes, yes], axis=1), ill.astype(np.int64), patient, attributes


def drawn(world: World, *, seed: int) -> Observed:
    """Observe such patients."""
    given, labels, patient, attributes = arrays_of(world, seed=seed)
    return observe_equity(given, labels, patient, attributes, classes=("no", "yes"))


def judged(observed: Observed) -> list[Finding]:
    """Make every claim of the family and judge them together."""
    claims, _ = equity_claims(observed, FRAME, only=TESTS)
    return judge(claims)


def false_alarms() -> Table:
    """Count alarms where there is no gap."""
    most = int(binom.ppf(0.999, NULLS, 0.05))
    table = Table(
        "World without a gap", "Cases", *(f"`{test}`" for test in TESTS), "Any finding unfair", "Holds"
    )
    for name, world in (
        ("one case a patient", World(600)),
        ("one case a patient", World(3_000)),
        ("errors are few", World(1_500, sensitivity=0.95)),
        ("several cases a patient", World(1_500, several=True)),
        ("prevalence differs", World(1_500, prevalence_differs=True)),
    ):
        alarms: Counter[str] = Counter()
        for run in range(NULLS):
            findings = judged(drawn(world, seed=run))
            if world.prevalence_differs:
                findings = [one for one in findings if one.test != "equity.calibration"]
            alarms["any"] += any(one.harmful for one in findings)
            alarms.update(one.test for one in findings if one.p_value is not None and one.p_value < 0.05)
        asked = [test for test in TESTS if not (world.prevalence_differs and test == "equity.calibration")]
        cells = [f"{alarms[test] / NULLS:.1%}" if test in asked else "" for test in TESTS]
        holds = max(alarms[test] for test in (*asked, "any")) <= most
        table.add(name, world.cases, *cells, f"{alarms['any'] / NULLS:.1%}", holds)
    return table


def power() -> Table:
    """Find planted gaps."""
    table = Table(
        "Served worse", "Gap", "Cases", "Ill in the group", "Primary beyond chance", "Primary unfair",
        "The group itself unfair", "Any finding unfair", "Right group named", "None found",
        "Mean of the estimated gap",
    )  # fmt: skip
    for group in (("sex", "F"), ("skin_type", "VI")):
        for gap in (0.03, 0.05, 0.10):
            for cases, runs in POWERS.items():
                table.add(
                    "=".join(group), f"{gap:.0%}", cases, *_found(World(cases, gap=gap, group=group), runs)
                )
    return table


def _found(world: World, runs: int) -> list[object]:
    name = "=".join(world.group)
    counts: Counter[str] = Counter()
    gaps, ill = [], []
    for run in range(runs):
        by_test = {one.test: one for one in judged(drawn(world, seed=1_000 + run))}
        primary, own = by_test["equity.sensitivity"], by_test[f"equity.sensitivity@{name}"]
        counts["sure"] += primary.p_adjusted is not None and primary.p_adjusted < 0.05
        counts["primary"] += primary.harmful
        counts["right"] += primary.harmful and primary.settings["worst_group"] == name
        counts["own"] += own.harmful
        counts["any"] += any(one.harmful for one in by_test.values())
        counts["none"] += primary.verdict == "none_found"
        gaps.append(own.estimates[0].value)
        ill.append(own.estimates[0].n[0])
    right = f"{counts['right']} of {counts['primary']}"
    shares = [f"{counts[key] / runs:.0%}" for key in ("sure", "primary", "own", "any")]
    return [round(float(np.mean(ill))), *shares, right, f"{counts['none'] / runs:.0%}", float(np.mean(gaps))]


def main() -> None:
    """Run, print and write the tables."""
    notes = (
        f"{NULLS} runs a world without a gap; a cell is the share of raw p-values below .05, and holds means "
        "that all of them, and verdicts of harm after correction, stay within the 99.9 % point of a binomial "
        f"at 5 %. Runs of a planted gap: {', '.join(f'{runs} of {n:,} cases' for n, runs in POWERS.items())};"
        " primary is `equity.sensitivity`, beyond chance when its corrected p-value is below .05. "
        "Harm needs an estimate of 3 points or more: a true gap of just 3 points is estimated below that in "
        "half of all runs, however many patients there are."
    )
    write_page("equity_power", __doc__, false_alarms(), power(), notes=notes)


if __name__ == "__main__":
    importlib.import_module("studies.equity_power").main()

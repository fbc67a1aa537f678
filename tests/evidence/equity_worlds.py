"""Worlds in which it is known whom a model serves worse."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtri

from primum.audits.equity.observe import observe_equity
from primum.evidence.contrast import Frame
from primum.evidence.equity import equity_claims
from primum.evidence.equity.answers import Answers, Group
from primum.evidence.finding import Finding
from primum.evidence.measured import FloatArray, IntArray
from primum.evidence.observed import Observed
from primum.evidence.verdicts import judge

FRAME = Frame("m", "d", "none", "observed", 0)
WOMEN = Group(("sex=F",), (("sex", 0),))
Attributes = dict[str, NDArray[Any]]


def world(
    cases: int, *, seed: int, gap: float = 0.0, several: bool = False
) -> tuple[FloatArray, IntArray, IntArray, Attributes]:
    """Probabilities, labels, patients and attributes; women's sensitivity is .85 less the gap."""
    random = np.random.default_rng(seed)
    people = cases // 2 if several else cases
    patient = random.integers(people, size=cases) if several else np.arange(people)
    attributes: Attributes = {
        "sex": np.array(["F", "M"])[random.integers(2, size=people)][patient],
        "age": random.normal(58, 16, people).clip(18, 95).round()[patient],
        "site": np.array(["A", "B", "C"])[random.choice(3, people, p=[0.5, 0.35, 0.15])][patient],
        "device": np.array(["D1", "D2"])[random.integers(2, size=cases)],
    }
    ill = random.random(cases) < 0.4
    own = random.standard_normal(people)[patient]
    noise = np.sqrt(0.5) * own + np.sqrt(0.5) * random.standard_normal(cases) if several else own
    found = 0.85 - gap * (attributes["sex"] == "F")
    yes = expit(2 * (np.where(ill, ndtri(found), -ndtri(0.9)) + noise))
    return np.stack([1 - yes, yes], axis=1), ill.astype(np.int64), patient, attributes


def observed(cases: int, *, seed: int, gap: float = 0.0, several: bool = False) -> Observed:
    """Observe such a world."""
    given, labels, patient, attributes = world(cases, seed=seed, gap=gap, several=several)
    return observe_equity(given, labels, patient, attributes, classes=("no", "yes"))


def findings_of(seen: Observed, only: tuple[str, ...] = ()) -> dict[str, Finding]:
    """Judge all claims of an observed world, and add what is described."""
    claims, described = equity_claims(seen, FRAME, only=only)
    return {one.test: one for one in (*judge(claims), *described)}


def values_of(finding: Finding) -> Mapping[str, float]:
    """Give the point values of a finding by name."""
    return {one.name: one.value for one in finding.estimates}


def two_groups(
    inside: int, outside: int, *, seed: int, each: int = 1, alike: float = 0.7, apart: float = 2.0
) -> Answers:
    """Answers about women and men who are served alike, `each` cases a patient on average."""
    random = np.random.default_rng(seed)
    women = random.integers(max(1, inside // each), size=inside) if each > 1 else np.arange(inside)
    men = random.integers(max(1, outside // each), size=outside) if each > 1 else np.arange(outside)
    _, patient, cases = np.unique(
        np.concatenate([women, inside + men]), return_inverse=True, return_counts=True
    )
    ill = random.random(inside + outside) < 0.4
    own = random.standard_normal(len(cases))[patient]
    other = random.standard_normal(inside + outside)
    noise = alike * own + np.sqrt(1 - alike**2) * other if each > 1 else other
    yes = expit(apart * (apart * (ill - 0.5) + noise) + np.log(0.4 / 0.6))
    return Answers(
        patient.astype(np.int64),
        len(cases),
        1 / cases[patient],
        ill.astype(np.int16),
        (yes > 0.5).astype(np.int16),
        ("no", "yes"),
        {1: yes},
        {"sex": np.repeat([0, 1], [inside, outside]).astype(np.int16)},
        {"sex": ("F", "M")},
        {},
    )

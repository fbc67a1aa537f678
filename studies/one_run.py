"""One training, many coins: the one-run bound on epsilon against a peer and against the truth.

First table: the bound from so many right guesses, on twenty sets of scores at six thresholds each, beside
that of jax-privacy, another implementation of the same paper (Steinke, Nasr & Jagielski, NeurIPS 2023), and
the bound of the whole procedure beside jax-privacy's with its own choice of threshold (Bonferroni over all
of them, highest scores only). Second table: 1,000 simulated mechanisms whose epsilon is known; a valid bound
exceeds it in at most 5 %. Randomised response reaches its epsilon with every guess and is the worst case for
a bound; the Gaussian mechanism has the largest shift that (epsilon, 1e-5)-privacy allows (Balle & Wang 2018).

The other implementation's values were made by `python -m studies.one_run peer` in an environment of its own
(jax-privacy, scikit-learn, rfc8785; `PYTHONPATH=src`) and are kept in `tests/evidence/one_run_peer.json`.
"""

import importlib
import json
import math
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, ndtr

from primum.evidence.one_run import GUESSED_SHARES, epsilon_of_guesses, one_run_epsilon
from studies.tables import Table, write_page

PEER = Path("tests/evidence/one_run_peer.json")
DELTA, LEVEL = 1e-5, 0.95
SETS, MECHANISMS, CANARIES = 20, 125, 1000
EPSILONS = (0.5, 1.0, 2.0, 4.0)
Scores = tuple[NDArray[np.float64], NDArray[np.bool_]]


def gaussian_shift(epsilon: float, *, delta: float = DELTA) -> float:
    """Sensitivity over noise of the least private Gaussian mechanism allowed."""

    def excess(shift: float) -> float:
        below = float(ndtr(-shift / 2 - epsilon / shift))
        return float(ndtr(shift / 2 - epsilon / shift)) - math.exp(epsilon) * below - delta

    return float(brentq(excess, 1e-3, 50))


def drawn(kind: str, epsilon: float, *, canaries: int, seed: list[int]) -> Scores:
    """Simulate a mechanism of known epsilon: scores of canaries, and which were planted."""
    random = np.random.default_rng(seed)
    coins = random.random(canaries) < 0.5
    if kind == "randomised response":
        answers = np.where(random.random(canaries) < expit(epsilon), coins, ~coins)
        return answers.astype(np.float64), coins
    return random.standard_normal(canaries) + gaussian_shift(epsilon) * coins, coins


def score_set(number: int) -> Scores:
    """Make one of twenty sets of scores: ties and none, 40 to 4,000 canaries, strong and weak."""
    kind = ("gaussian", "randomised response")[number % 2]
    size, epsilon = (40, 200, 1000, 4000)[number % 4], (0.3, 1.0, 2.0, 4.0, 8.0)[number % 5]
    return drawn(kind, epsilon, canaries=size, seed=[60, number])


def thresholds(scores: NDArray[np.float64]) -> list[float]:
    """Lowest score guessed planted, at each share."""
    ordered = np.sort(scores)[::-1]
    return [float(ordered[max(0, round(share * len(ordered)) - 1)]) for share in GUESSED_SHARES]


def ours(scores: NDArray[np.float64], coins: NDArray[np.bool_]) -> list[float]:
    """Bound at each threshold alone."""
    guessed = [scores >= threshold for threshold in thresholds(scores)]
    return [
        epsilon_of_guesses(
            int((guess & coins).sum()), int(guess.sum()), canaries=len(scores), delta=DELTA, error=1 - LEVEL
        )
        for guess in guessed
    ]


def ask_peer() -> None:
    """Write what jax-privacy says; runs where it is installed."""
    auditing: Any = importlib.import_module("jax_privacy.auditing")
    sets = []
    for number in range(SETS):
        scores, coins = score_set(number)
        auditor = auditing.CanaryScoreAuditor(scores[coins], scores[~coins])
        at = [
            float(auditor.epsilon_one_run(1 - LEVEL, DELTA, threshold_strategy=auditing.Explicit(threshold)))
            for threshold in thresholds(scores)
        ]
        sets.append({"at": at, "whole": float(auditor.epsilon_one_run(1 - LEVEL, DELTA))})
    versions = {name: metadata.version(name) for name in ("jax-privacy", "jax", "numpy", "scipy")}
    PEER.write_text(json.dumps({"versions": versions, "sets": sets}, indent=1) + "\n", encoding="utf-8")


def agreement() -> Table:
    """Compare with the other implementation."""
    kept = json.loads(PEER.read_text(encoding="utf-8"))
    table = Table(
        "Set",
        "Canaries",
        "Largest difference, six thresholds",
        "Required",
        "Holds",
        "Whole",
        "jax-privacy's whole",
    )
    for number, theirs in enumerate(kept["sets"]):
        scores, coins = score_set(number)
        worst = float(np.abs(np.array(ours(scores, coins)) - theirs["at"]).max())
        whole = one_run_epsilon(scores, coins, delta=DELTA, level=LEVEL).low
        table.add(number, len(scores), f"{worst:.1e}", "≤ 1e-3", worst <= 1e-3, whole, theirs["whole"])
    return table


def truth() -> Table:
    """Count the bounds above the truth."""
    table = Table("Mechanism", "Truth", "Runs", "Median bound", "Bound above the truth", "Allowed", "Holds")
    above, runs = 0, 0
    for kind in ("randomised response", "gaussian"):
        for epsilon in EPSILONS:
            draws = [
                drawn(kind, epsilon, canaries=CANARIES, seed=[61, run, int(10 * epsilon)])
                for run in range(MECHANISMS)
            ]
            bounds = np.array([one_run_epsilon(*draw, delta=DELTA, level=LEVEL).low for draw in draws])
            wrong = int((bounds > epsilon).sum())
            table.add(kind, epsilon, MECHANISMS, float(np.median(bounds)), wrong, "", "")
            above, runs = above + wrong, runs + MECHANISMS
    table.add("all", "", runs, "", above, f"≤ {runs // 20}", above <= runs // 20)
    return table


def main() -> None:
    """Run, print and write the tables."""
    kept = json.loads(PEER.read_text(encoding="utf-8"))["versions"]
    versions = ", ".join(f"{name} {version}" for name, version in kept.items())
    write_page("one_run", __doc__, agreement(), truth(), notes=f"Compared with {versions}.")


if __name__ == "__main__":
    ask_peer() if sys.argv[1:] == ["peer"] else importlib.import_module("studies.one_run").main()

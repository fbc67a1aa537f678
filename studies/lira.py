"""LiRA and RMIA where the truth is known: strength by number of shadows, controls, a trap, and a peer.

Breast cancer (569 people, 30 measurements) and a random forest of 100 trees, trained on half of them; twenty
such targets, ten where the peer is compared. Shadows are trained by `train_shadows` on random halves of all
569, and asked about all: the online attack has seen everybody in half of its shadows. Figures are mean ±
standard deviation over targets. RMIA's population are the same 569, its first references those of LiRA.

Controls: a forest on 200 of 400 simulated people with a tenth of the labels wrong, whose trees see everybody
(no bootstrap) down to leaves of five; and the same forest on 200 others, asked about these 400. The trap:
simulated models in halves and complements, where a score depends on who else trained and never on one's own
membership.

The peer's figures were made by `python -m studies.peers.lira_sacroml` in an environment of its own and are
kept in `studies/peers/lira_sacroml.json`; its shadows are its own, as many, drawn and trained on halves too.
Times of both were taken in turns by the same command with the path of this Python.
"""

import importlib
import json
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, make_classification
from sklearn.ensemble import RandomForestClassifier

from primum.audits.privacy.lira import lira
from primum.audits.privacy.rmia import rmia
from primum.evidence.ranking import auc
from primum.fit.shadows import train_shadows
from primum.fit.sklearn_recipe import SklearnRecipe
from primum.models.score_matrix import ScoreMatrix, score_cases
from primum.records.cases import Cases
from studies.peers.lira_sacroml import KEPT, forest, half_split, true_positives
from studies.tables import Table, write_page

TARGETS, SHADOWS, CONTROLS, WORLDS = 20, 100, 20, 200
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Attack = Callable[[Floats, ScoreMatrix], Floats]
Seen = tuple[float, float]


def breast_cancer() -> Cases:
    """Everybody is a patient of their own."""
    inputs, labels = load_breast_cancer(return_X_y=True)
    return as_cases(inputs, labels)


def as_cases(inputs: Floats, labels: NDArray[np.int64]) -> Cases:
    """One case a patient."""
    return Cases(np.arange(len(labels)), np.arange(len(labels)), inputs, labels.astype(np.int64))


def target_scores(cases: Cases, number: int, *, leaf: int) -> Floats:
    """Train the target of a number, as the peer does, and ask it about everybody."""
    inside = np.flatnonzero(half_split(number, len(cases)))
    recipe = SklearnRecipe(forest(0, leaf=leaf), ("malignant", "benign"))
    model = recipe.fit(cases.select(inside), validation=None, max_steps=None, seed=number)
    return score_cases(model, cases)[0]


def lira_attack(*, online: bool, fixed: bool) -> Attack:
    return lambda target, matrix: lira(target, matrix, online=online, fixed_variance=fixed)


def rmia_attack(*, online: bool) -> Attack:
    def attack(target: Floats, matrix: ScoreMatrix) -> Floats:
        people = ScoreMatrix(matrix.scores, matrix.inside & online)
        return rmia(target, matrix, target, people, online=online)

    return attack


ATTACKS = {
    "LiRA online, fixed variance": lira_attack(online=True, fixed=True),
    "LiRA online, own variance": lira_attack(online=True, fixed=False),
    "LiRA offline, fixed variance": lira_attack(online=False, fixed=True),
    "LiRA offline, own variance": lira_attack(online=False, fixed=False),
    "RMIA online": rmia_attack(online=True),
    "RMIA offline": rmia_attack(online=False),
}


def seen(scores: Floats, inside: Bools) -> Seen:
    """AUC and TPR at 1 %, of those who can be asked."""
    known = ~np.isnan(scores)
    scores, inside = scores[known], inside[known]
    return auc(scores[inside], scores[~inside]).value, true_positives(scores, inside)


def over_targets(attack: Attack, targets: Sequence[Floats], matrix: ScoreMatrix) -> NDArray[np.float64]:
    """Attack every target; shape (targets, 2)."""
    cases = matrix.scores.shape[1]
    return np.array(
        [seen(attack(scores, matrix), half_split(number, cases)) for number, scores in enumerate(targets)]
    )


def told(values: Floats) -> str:
    return f"{values.mean():.3f} ± {values.std():.3f}"


def measured_before(targets: Sequence[Floats], shadows: ScoreMatrix) -> Table:
    """Compare with the independent measurement."""
    table = Table("Forest", "Shadows", "Variance", "AUC", "TPR at 1 %", "Measured before", "Within ± .04")
    cases = breast_cancer()
    recipe = SklearnRecipe(forest(0, leaf=20), ("malignant", "benign"))
    smooth = train_shadows(recipe, cases, count=32, seed=0)
    blunt = [target_scores(cases, number, leaf=20) for number in range(TARGETS)]
    for name, asked, matrix, before, spread in (
        ("fully grown", targets, shadows.models(slice(32)), 0.722, 0.019),
        ("fully grown", targets, shadows, 0.742, 0.014),
        ("leaves of 20", blunt, smooth, 0.575, 0.016),
    ):
        for fixed in (True, False):
            found = over_targets(lira_attack(online=True, fixed=fixed), asked, matrix)
            table.add(
                name,
                len(matrix),
                "fixed" if fixed else "own",
                told(found[:, 0]),
                told(found[:, 1]),
                f"{before:.3f} ± {spread:.3f}",
                bool(abs(found[:, 0].mean() - before) <= 0.04),
            )
    return table


def power(targets: Sequence[Floats], shadows: ScoreMatrix) -> Table:
    """AUC and TPR at 1 % by number of shadows."""
    counts = (1, 2, 4, 8, 16, 32, 64, 100)
    table = Table("Attack", *(f"{count} shadow{'s' * (count > 1)}" for count in counts))
    for name, attack in ATTACKS.items():
        cells = []
        for count in counts:
            few = shadows.models(slice(count))
            if count == 1 and (name.startswith("LiRA") or "online" in name):
                cells.append("")
                continue
            found = over_targets(attack, targets, few).mean(axis=0)
            cells.append(f"{found[0]:.3f} ({found[1]:.1%})")
        table.add(name, *cells)
    return table


def against_peer(targets: Sequence[Floats], shadows: ScoreMatrix) -> tuple[Table, str]:
    """Compare with the other tool on its splits; times of both, in turns, include the training of shadows."""
    table = Table("Tool", "Attack, 32 shadows", "AUC", "TPR at 1 %")
    few = shadows.models(slice(32))
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {"splits": [], "versions": {}}
    splits = kept["splits"]
    asked = targets[: len(splits) or TARGETS]
    ours = {name: over_targets(attack, asked, few) for name, attack in ATTACKS.items()}
    for name, found in ours.items():
        table.add("primum", name, told(found[:, 0]), told(found[:, 1]))
    if not splits:
        return table, "The peer has not been asked."
    for mode in splits[0]:
        aucs, rates = (np.array([split[mode][what] for split in splits]) for what in ("auc", "tpr"))
        table.add("SACRO-ML", mode, told(aucs), told(rates))
    best = max(np.mean([split[mode]["auc"] for split in splits]) for mode in splits[0])
    at_least = max(found[:, 0].mean() for found in ours.values()) >= best
    versions = ", ".join(f"{name} {version}" for name, version in kept["versions"].items())
    told_so_far = f"Compared with {versions}. At least as strong: {'yes' if at_least else '**no**'}. "
    if not kept.get("seconds"):
        return table, told_so_far + "Not timed in turns: which is faster is not known."
    mine, theirs = (np.array([pair[who] for pair in kept["seconds"]]) for who in ("ours", "theirs"))
    return table, (
        f"{told_so_far}CPU seconds of one online attack with 32 shadows, in turns, median of {len(mine)}: "
        f"{np.median(mine):.1f}, of the peer {np.median(theirs):.1f}; faster in {(mine < theirs).sum()} of "
        f"{len(mine)}. Nearly all of it "
        "is the training of forests, the same for both."
    )


def control(number: int) -> tuple[Seen, Seen]:
    """Attack a forest that remembers, and one that never saw any of those it is asked about."""
    inputs, labels = make_classification(
        600, 20, n_informative=5, flip_y=0.2, class_sep=1.0, random_state=number
    )
    everybody = as_cases(inputs, labels)
    asked, strangers = everybody.select(np.arange(400)), everybody.select(np.arange(400, 600))
    inside = half_split(number, 400)
    estimator = RandomForestClassifier(50, min_samples_leaf=5, bootstrap=False)
    recipe = SklearnRecipe(estimator, ("0", "1"))
    shadows = train_shadows(recipe, asked, count=16, seed=number)
    found = []
    for train in (asked.select(np.flatnonzero(inside)), strangers):
        model = recipe.fit(train, validation=None, max_steps=None, seed=1000 + number)
        scores = lira(score_cases(model, asked)[0], shadows, online=True, fixed_variance=True)
        found.append(seen(scores, inside))
    return found[0], found[1]


def controls() -> Table:
    """Over-fitted, and trained on strangers."""
    table = Table("Control, n = 400, 16 shadows", "AUC", "TPR at 1 %", "Required", "Holds")
    positive, null = np.array([control(number) for number in range(CONTROLS)]).transpose(1, 0, 2)
    strong = positive[:, 0].mean() >= 0.6 and positive[:, 1].mean() >= 0.05
    error = 3 * null[:, 0].std() / CONTROLS**0.5
    clean = abs(null[:, 0].mean() - 0.5) <= error
    table.add("over-fitted", told(positive[:, 0]), told(positive[:, 1]), "AUC ≥ .60, TPR ≥ 5 %", bool(strong))
    table.add("trained on strangers", told(null[:, 0]), told(null[:, 1]), f".5 ± {error:.3f}", bool(clean))
    return table


def neighbourly(number: int, pairs: int) -> ScoreMatrix:
    """Simulate models whose scores depend on who else trained, never on oneself."""
    random = np.random.default_rng([71, number])
    halves = np.array([random.permutation(400) < 200 for _ in range(pairs)])
    inside = np.stack([halves, ~halves], axis=1).reshape(-1, 400)
    weights = random.standard_normal((400, 400)) / 20
    np.fill_diagonal(weights, 0)
    noise = 0.5 * random.standard_normal(inside.shape) + 2 * random.standard_normal(400)
    return ScoreMatrix((2 * inside - 1) @ weights + noise, inside)


def trap() -> Table:
    """Keep the target's complement among its shadows, and drop it."""
    table = Table("Models", "AUC, complement kept", "Complement dropped", "Required", "Holds")
    for pairs in (2, 4, 8, 16):
        kept: list[float] = []
        dropped: list[float] = []
        for number in range(WORLDS):
            models = neighbourly(number, pairs)
            target, fair = models.leave_out(0)
            for shadows, found in ((models.models(slice(1, None)), kept), (fair, dropped)):
                scores = lira(target, shadows, online=True, fixed_variance=True)
                found.append(seen(scores, models.inside[0])[0])
        error = 3 * float(np.std(dropped)) / WORLDS**0.5
        holds = abs(float(np.mean(dropped)) - 0.5) <= error
        table.add(2 * pairs, told(np.array(kept)), told(np.array(dropped)), f".5 ± {error:.3f}", holds)
    return table


def seconds_of_one() -> float:
    """CPU seconds of one online attack, its 32 shadows included."""
    cases = breast_cancer()
    recipe = SklearnRecipe(forest(0), ("malignant", "benign"))
    target = target_scores(cases, 0, leaf=1)
    start = time.process_time()
    matrix = train_shadows(recipe, cases, count=32, seed=0)
    lira(target, matrix, online=True, fixed_variance=True)
    return time.process_time() - start


def main() -> None:
    """Run, print and write the tables."""
    cases = breast_cancer()
    recipe = SklearnRecipe(forest(0), ("malignant", "benign"))
    seconds = seconds_of_one()
    shadows = train_shadows(recipe, cases, count=SHADOWS, seed=0)
    targets = [target_scores(cases, number, leaf=1) for number in range(TARGETS)]
    peer, compared = against_peer(targets, shadows)
    write_page(
        "lira",
        __doc__,
        measured_before(targets, shadows),
        power(targets, shadows),
        peer,
        controls(),
        trap(),
        notes=f"Thirty-two shadows trained and asked, LiRA computed: {seconds:.1f} CPU seconds. {compared}",
    )


if __name__ == "__main__":
    print(seconds_of_one()) if sys.argv[1:] == ["time"] else importlib.import_module("studies.lira").main()

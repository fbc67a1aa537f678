"""Power of the membership attacks on classifiers: over-training, shadow models, which score without shadows.

Models are trained on 300 synthetic patients and audited against 300 others: convolutional networks of 3,946
parameters on images of 14 x 14 pixels by epochs, and on tables a network, forests and logistic regression.
Patients have 1 to 4 cases; scores are of patients. Mean AUC over seeds, ± standard deviation.

First table: each attack and, of the same scores, combinations: ways to make one score without shadow models.
The ways that were tried on even seeds are judged on odd seeds, on models not used to choose: the best of the
even seeds is named below. Second table, of one network of images and two of each other model: AUC by number
of shadow models, with the share of members found at 1 % false positives. One shadow is not enough: it trained
on half of the patients. The last two tables are those of even and of odd seeds.
"""

import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from primum.evidence.identity import ModelRef
from primum.evidence.membership import combined_score
from primum.evidence.operating_point import tpr_at_fpr
from primum.evidence.ranking import auc
from primum.fit.classifier_recipe import ClassifierRecipe
from primum.fit.loop import LoopSettings
from primum.fit.protocol import ClassifierTrainable
from primum.fit.sklearn_recipe import SklearnRecipe
from primum.models.opened import OpenedClassifier
from primum.records.cases import CasesInMemory
from primum.records.histories import FloatArray
from primum.records.synthetic_cases import SYNTHETIC_CASES, split_patients
from primum.workflows.classifier_audit import ClassifierPlan, run_classifier_audit
from studies.classifier_false_alarms import SIDE, WIDTH, drawn
from studies.tables import Table, write_page
from studies.world import in_parallel

SEEDS = 4
SHADOWS = (2, 4, 16, 32)
COMPONENTS = ("loss", "entropy", "label_only", "quantile")
COMBINED: Mapping[str, tuple[str, ...]] = {
    "mean of four": COMPONENTS,
    "without label_only": ("loss", "entropy", "quantile"),
    "quantile and label_only": ("quantile", "label_only"),
    "loss and quantile": ("loss", "quantile"),
    **{f"{name} alone": (name,) for name in COMPONENTS},
}


def images(epochs: int) -> Callable[[int], ClassifierTrainable]:
    """Train a network for so many epochs."""
    loop = LoopSettings(epochs, batch=32, learning_rate=3e-3, warmup=0.15)
    return lambda seed: ClassifierRecipe("image", SYNTHETIC_CASES["image"][1], loop, WIDTH)


def table(estimator: Callable[[int], Any]) -> Callable[[int], ClassifierTrainable]:
    """Train an estimator on the table, filled in and scaled."""
    classes = SYNTHETIC_CASES["table"][1]
    return lambda seed: SklearnRecipe(
        make_pipeline(SimpleImputer(), StandardScaler(), estimator(seed)), classes
    )


def network(epochs: int) -> Callable[[int], Any]:
    """Make a network of 32 hidden units."""
    return lambda seed: MLPClassifier((32,), max_iter=epochs, tol=0, n_iter_no_change=epochs, alpha=0,
                                      learning_rate_init=3e-3, random_state=seed)  # fmt: skip


TARGETS: Mapping[str, tuple[str, Callable[[int], ClassifierTrainable]]] = {
    **{f"images, {epochs} epochs": ("image", images(epochs)) for epochs in (5, 20, 60)},
    **{f"table, network, {epochs} epochs": ("table", table(network(epochs))) for epochs in (10, 50, 200)},
    "table, forest": ("table", table(lambda seed: RandomForestClassifier(50, random_state=seed))),
    "table, forest, leaves of 10": (
        "table",
        table(lambda seed: RandomForestClassifier(50, min_samples_leaf=10, random_state=seed)),
    ),
    "table, logistic regression": ("table", table(lambda seed: LogisticRegression(max_iter=300))),
}
# Shadows of the others would take hours, or tell nothing new.
SHADOWED = ("images, 20 epochs", *(name for name in TARGETS if name.startswith("table")))
Scores = dict[str, FloatArray]
Job = tuple[str, int]


def one(job: Job) -> tuple[Scores, dict[int, Scores], Any]:
    """Train and audit one target; its scores by patient without shadows and with each number of them."""
    name, seed = job
    kind, made = TARGETS[name]
    cases = drawn(kind, 2 * SIDE, seed=500_000 + 100 * list(TARGETS).index(name) + seed)
    sides = split_patients(cases, {"train": SIDE, "held_out": SIDE})
    recipe, classes = made(seed), SYNTHETIC_CASES[kind][1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = recipe.fit(sides["train"], validation=None, max_steps=None, seed=seed)
        members, held_out = (CasesInMemory((sides[side],), classes) for side in ("train", "held_out"))
        plan = ClassifierPlan(
            model=OpenedClassifier(ModelRef("study", "0" * 64, "declared", {}), model, 0),
            members=members,
            held_out=held_out,
            kind="image" if kind == "image" else "table",
            only=("membership",),
            seed=seed,
        )
        plain = run_classifier_audit(plan).scores
        asked = replace(plan, model=replace(plan.model, answers_anew=False), recipe=recipe)
        few = SHADOWS[:3] if seed < 1 else ()
        counts = () if name not in SHADOWED else few if kind == "image" else SHADOWS if seed < 2 else ()
        known = {
            count: dict(run_classifier_audit(replace(asked, shadows=count)).scores.components)
            for count in counts
        }
    return dict(plain.components), known, plain.is_member


def auc_of(values: FloatArray, member: Any) -> float:
    """AUC of members over held-out patients."""
    return auc(values[member], values[~member]).value


def mixed(scores: Scores, names: Sequence[str]) -> FloatArray:
    """Combine as the audit does."""
    return combined_score({name: scores[name] for name in names})[1]


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else f"{values[0]:.3f}"


def without_shadows(results: Mapping[Job, tuple[Scores, Any, Any]], odd: int | None) -> Table:
    """Compare combinations on all seeds, or on even or odd ones; the last row is the mean over models."""
    table = Table("Model", *COMBINED)
    means: dict[str, list[float]] = {way: [] for way in COMBINED}
    for name in TARGETS:
        cells = []
        for way, parts in COMBINED.items():
            values = [
                auc_of(mixed(scores, parts), member)
                for (target, seed), (scores, _, member) in results.items()
                if target == name and odd in (None, seed % 2)
            ]
            cells.append(spread(values))
            means[way].append(float(np.mean(values)))
        table.add(name, *cells)
    table.add("mean", *(float(np.mean(values)) for values in means.values()))
    return table


def by_shadows(results: Mapping[Job, tuple[Scores, dict[int, Scores], Any]]) -> Table:
    """Show strength by number of shadows, RMIA above LiRA."""
    table = Table("Model", "Attack", *(str(count) for count in SHADOWS))
    for name in SHADOWED:
        rows = [one for (target, _), one in results.items() if target == name]
        for attack in ("rmia", "lira"):
            cells = []
            for count in SHADOWS:
                found = [
                    (known[count][attack], member)
                    for _, known, member in rows
                    if attack in known.get(count, {})
                ]
                area = [auc_of(values, member) for values, member in found]
                rate = [tpr_at_fpr(values[is_in], values[~is_in], fpr=0.01).value for values, is_in in found]
                cells.append(f"{np.mean(area):.3f} ({np.mean(rate):.1%})" if found else "")
            table.add(name, attack, *cells)
    return table


def main() -> None:
    """Run, print and write the tables."""
    jobs = [(name, seed) for seed in range(SEEDS) for name in TARGETS]
    results = dict(zip(jobs, in_parallel(one, jobs), strict=True))
    tables = [without_shadows(results, odd) for odd in (0, 1)]
    best = max(zip(COMBINED, tables[0].rows[-1][1:], strict=True), key=lambda pair: float(pair[1]))[0]
    judged = dict(zip(COMBINED, tables[1].rows[-1][1:], strict=True))
    notes = (
        f"Of these ways the best on even seeds is {best}; on odd seeds it reads {judged[best]} in the mean, "
        f"next to {judged['mean of four']} for the mean of all four."
    )
    write_page(
        "classifier_power", __doc__, without_shadows(results, None), by_shadows(results), *tables, notes=notes
    )


if __name__ == "__main__":
    # By its own name, so that what is kept of a run serves the next one however it is started.
    importlib.import_module("studies.classifier_power").main()

"""Attacks without shadow models: silent where nothing leaks, and which regression finds most.

First table: nobody on either side trained the model (logistic regressions and forests of twenty trees on 60
other patients, asked about fresh patients with one to three cases each, nobody twice). For the quantile
attack also log-odds drawn by hand: 60 features of which two tell anything, skewed, and 200 features with one
case a patient. Allowed is what 5 % false alarms give in all but one of a thousand studies.

Second table: models trained on half of the patients, AUC of each attack. Third: what the expected log-odds
are learned from and by what. The inner vector is the network's last hidden layer, which an attacker would
hardly have and which had better not be used.
"""

import importlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binom
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from primum.audits.privacy.confidence import confidence_scores, log_odds
from primum.audits.privacy.label_only import Neighbourhood, label_only_scores, neighbourhood_of
from primum.audits.privacy.quantile import FOLDS, quantile_scores
from primum.evidence.measured import BoolArray
from primum.evidence.ranking import auc, auc_p_value
from primum.records.cases import Cases
from primum.records.histories import FloatArray
from studies.tables import Table, write_page
from studies.world import in_parallel

MODELS, DRAWS, SIDE, HAND_MADE = 10, 10, 60, 100
SEEDS, PATIENTS = 3, 300
ATTACKS = ("loss", "entropy", "label_only", "quantile")
Sides = tuple[FloatArray, FloatArray]
Fit = Callable[[FloatArray, FloatArray], Any]


@dataclass(frozen=True)
class Estimator:
    """A scikit-learn classifier of two classes, without logits."""

    estimator: Any
    classes: tuple[str, ...] = ("no", "yes")

    def logits(self, cases: Cases) -> FloatArray | None:
        return None

    def predict_proba(self, cases: Cases) -> FloatArray:
        return np.asarray(self.estimator.predict_proba(np.asarray(cases.inputs)), np.float64)


def people(count: int, *, width: int, seed: list[int]) -> Cases:
    """Draw patients of one to three cases, some of them easier; the second feature says how easy."""
    rng = np.random.default_rng(seed)
    subjects = np.repeat(np.arange(count), rng.integers(1, 4, count))
    labels, ease = rng.integers(0, 2, count)[subjects], rng.random(count)[subjects]
    inputs = 0.8 * rng.standard_normal((count, width))[subjects]
    inputs += 0.6 * rng.standard_normal(inputs.shape)
    inputs[:, 0] += 2 * ease * (2 * labels - 1)
    inputs[:, 1] = 3 * ease - 1.5
    return Cases(np.arange(len(labels)), subjects, inputs, labels)


def sides(scores: FloatArray, cases: Cases) -> Sides:
    """Mean of each patient; the first half are the members."""
    means = np.bincount(cases.subject_ids, scores) / np.bincount(cases.subject_ids)
    return means[: len(means) // 2], means[len(means) // 2 :]


def members_of(cases: Cases) -> BoolArray:
    """Tell which cases are of the first half of the patients."""
    first: BoolArray = cases.subject_ids < (cases.subject_ids.max() + 1) // 2
    return first


def expected(cases: Cases, odds: FloatArray, *, seed: int) -> FloatArray:
    """Score by the quantile attack as built, everything in the input known."""
    return quantile_scores(
        odds,
        known=np.asarray(cases.inputs),
        labels=cases.labels,
        subject_ids=cases.subject_ids,
        is_member=members_of(cases),
        seed=seed,
    )


def attacked(model: Estimator, cases: Cases, near: Neighbourhood, *, seed: int) -> dict[str, Sides]:
    """Score every patient by each attack."""
    odds = log_odds(model, cases)[np.arange(len(cases)), cases.labels]
    scores = confidence_scores(model, cases) | {
        "label_only": label_only_scores(model, cases, near, seed=seed),
        "quantile": expected(cases, odds, seed=seed),
    }
    return {name: sides(scores[name], cases) for name in ATTACKS}


def seen(found: Mapping[str, Sides]) -> dict[str, tuple[float, float]]:
    """AUC and its p-value."""
    return {name: (auc(*one).value, auc_p_value(*one)) for name, one in found.items()}


def null(number: int) -> list[dict[str, tuple[float, float]]]:
    """Train one model and ask it about people who did not train it."""
    cases = people(60, width=20, seed=[1, number])
    forest = RandomForestClassifier(20, random_state=number)
    estimator: Any = LogisticRegression(C=10) if number % 2 else forest
    model = Estimator(estimator.fit(cases.inputs, cases.labels))
    draws = [people(2 * SIDE, width=20, seed=[2, number, draw]) for draw in range(DRAWS)]
    near = neighbourhood_of(model, draws[0], kind="table", seed=number)
    return [seen(attacked(model, one, near, seed=draw)) for draw, one in enumerate(draws)]


def hand_made(number: int) -> dict[str, tuple[float, float]]:
    """Audit log-odds in which nobody is remembered, 200 patients a side."""
    rng = np.random.default_rng([3, number])
    cases = people(400, width=60, seed=[4, number])
    inputs, own = np.asarray(cases.inputs), rng.standard_normal(400)[cases.subject_ids]
    odds = inputs[:, 0] + inputs[:, 1] * cases.labels + own + rng.standard_normal(len(cases))
    wide = people(400, width=200, seed=[5, number])
    alone = wide.select(np.unique(wide.subject_ids, return_index=True)[1])
    only = np.asarray(alone.inputs)[:, 0] + rng.standard_normal(len(alone))
    return seen(
        {
            "quantile, 60 features, skewed": sides(expected(cases, np.exp(odds), seed=number), cases),
            "quantile, 200 features, one case": sides(expected(alone, only, seed=number), alone),
        }
    )


def network(number: int) -> MLPClassifier:
    """Make a network that will learn its rows by heart."""
    return MLPClassifier((64,), max_iter=200, tol=0, n_iter_no_change=200, alpha=0,
                         learning_rate_init=3e-3, random_state=number)  # fmt: skip


TARGETS: Mapping[str, Callable[[int], Any]] = {
    "network, 64 hidden units": network,
    "forest, 100 trees": lambda number: RandomForestClassifier(100, random_state=number),
    "logistic regression": lambda number: LogisticRegression(C=1.0, max_iter=500),
}


def _trees(loss: str, count: int, leaves: int) -> Fit:
    return lambda features, odds: HistGradientBoostingRegressor(
        loss=loss, learning_rate=0.2, max_iter=count, max_leaf_nodes=leaves, early_stopping=False
    ).fit(features, odds)


def _ridge(features: FloatArray, odds: FloatArray) -> Any:
    return make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 6, 13))).fit(features, odds)


def compared(fit: Fit, known: FloatArray, cases: Cases, odds: FloatArray) -> float:
    """AUC of a regression that could have been built in, cross-fitted alike."""
    scores, member = np.empty(len(odds)), members_of(cases)
    fold = cases.subject_ids * 7919 % FOLDS
    for part in range(FOLDS):
        asked = fold == part
        regression = fit(known[~member & ~asked], odds[~member & ~asked])
        scores[asked] = odds[asked] - regression.predict(known[asked])
    return auc(*sides(scores, cases)).value


def power(job: tuple[str, int]) -> tuple[dict[str, float], dict[str, float]]:
    """Attack one over-trained model by every attack and by other regressions."""
    name, number = job
    cases = people(PATIENTS, width=50, seed=[6, number])
    member, inputs = members_of(cases), np.asarray(cases.inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = TARGETS[name](number).fit(inputs[member], cases.labels[member])
    model = Estimator(estimator)
    odds = log_odds(model, cases)[np.arange(len(cases)), cases.labels]
    label = cases.labels[:, None].astype(np.float64)
    plain = np.hstack([inputs, label])
    crossed = np.hstack([plain, inputs * label])
    others = {
        "trees as built, absolute error": compared(_trees("absolute_error", 30, 4), plain, cases, odds),
        "trees as built, squared error": compared(_trees("squared_error", 30, 4), plain, cases, odds),
        "100 trees of 16 leaves": compared(_trees("absolute_error", 100, 16), plain, cases, odds),
        "ridge": compared(_ridge, plain, cases, odds),
        "ridge, slopes of each class": compared(_ridge, crossed, cases, odds),
    }
    if isinstance(estimator, MLPClassifier):
        inner = np.maximum(inputs @ estimator.coefs_[0] + estimator.intercepts_[0], 0)
        with_class = np.hstack([inner, label, inner * label])
        others["ridge on the inner vector, slopes of each class"] = compared(_ridge, with_class, cases, odds)
    near = neighbourhood_of(model, cases, kind="table", seed=number)
    found = attacked(model, cases, near, seed=number)
    return {attack: auc(*one).value for attack, one in found.items()}, others


def main() -> None:
    """Run, print and write the tables."""
    runs = [run for model in in_parallel(null, list(range(MODELS))) for run in model]
    drawn = in_parallel(hand_made, list(range(HAND_MADE)))
    silent = Table("Attack", "Runs", "Mean AUC", "± standard error", "p < .05", "Allowed", "Holds")
    for found in (runs, drawn):
        for name in found[0]:
            values, p_values = np.array([run[name] for run in found]).T
            error, alarms = float(values.std(ddof=1)) / len(values) ** 0.5, int((p_values < 0.05).sum())
            most = int(binom.ppf(0.999, len(values), 0.05))
            fair = abs(values.mean() - 0.5) < 3 * error and alarms <= most
            silent.add(name, len(values), float(values.mean()), error, alarms, most, bool(fair))
    jobs = [(name, number) for name in TARGETS for number in range(SEEDS)]
    measured = dict(zip(jobs, in_parallel(power, jobs), strict=True))
    tables = Table("Model", *ATTACKS), Table("Regression", *TARGETS)
    means: dict[tuple[int, str, str], float] = {}
    for name in TARGETS:
        for kind in (0, 1):
            for row in measured[name, 0][kind]:
                cells = [measured[name, number][kind][row] for number in range(SEEDS)]
                means[kind, name, row] = float(np.mean(cells))
    for name in TARGETS:
        tables[0].add(name, *(means[0, name, attack] for attack in ATTACKS))
    for row in measured["network, 64 hidden units", 0][1]:
        tables[1].add(row, *(means.get((1, name, row), "") for name in TARGETS))
    write_page("confidence", __doc__, silent, *tables)


if __name__ == "__main__":
    # By its own name, so that what is kept of a run serves the next one however it is started.
    importlib.import_module("studies.confidence").main()

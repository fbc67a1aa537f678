"""False alarms of the privacy audit of classifiers: nobody in the audit trained the model.

Five frozen models of each kind, trained on 300 other synthetic patients, are audited whole on disjoint fresh
draws of 300 patients a side, as many in all as each heading says. Nobody is ever drawn twice; patients have 1
to 4 cases. Images are of 14 x 14 pixels, their models convolutional networks of
{parameters} parameters, three of them over-trained. Models of tables are two forests, two logistic
regressions and one of the five nearest neighbours, with one sensitive column to be inferred.

- Fewer cases: held-out patients keep at most two of their cases, drawn by lot.
- Shadows: audited with 4 and with 32 shadow models of the same recipe; membership and bias alone are asked,
  and no new questions. Shadows tell of the recipe whatever the audited model knows: where later cases
  resemble earlier ones, that `bias.future` finds something is no false alarm. With 32 shadows cases are
  therefore dealt to patients by lot. The last column has them as they are, and nothing is required of
  `bias.future` there.

A cell: in how many audits the raw p-value, before Holm, was below .05; in brackets, how many were judged and
in how many the verdict was harmful. Allowed is what 5 % false alarms give in all but one of a thousand
studies, and as many audits in all may end with exit status 1. Attacks that are only described have a p-value
of their own here. Second table: where their null lies, and that of differences.
"""

import importlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binom
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from primum.evidence.identity import ModelRef
from primum.evidence.ranking import auc_p_value
from primum.evidence.rules import PRIVACY
from primum.fit.classifier_recipe import ClassifierRecipe
from primum.fit.loop import LoopSettings
from primum.fit.sklearn_recipe import SklearnRecipe
from primum.models.classifier_card import Card, InputCard
from primum.models.opened import OpenedClassifier
from primum.models.sklearn_door import sklearn_predictor
from primum.records.case_files.table import Feature, read_schema
from primum.records.cases import Cases, CasesInMemory
from primum.records.synthetic_cases import (
    SYNTHETIC_CASES,
    ImageSettings,
    split_patients,
    synthetic_images,
    synthetic_table,
    table_schema,
)
from primum.workflows.classifier_audit import ClassifierPlan, run_classifier_audit
from primum.workflows.plan import AuditResult
from studies.tables import Table, write_page
from studies.world import in_parallel

MODELS, SIDE, TRAINED_ON = 5, 300, 300
WIDTH, SIZE = 16, 14
EPOCHS = (10, 10, 60, 60, 60)
ONLY = ("data.overlap", "membership", "bias")


@dataclass(frozen=True)
class Seen:
    """What is counted of one audit: exit status, verdicts, raw p-values, what a null must centre on zero."""

    exit_status: int
    harmful: dict[str, bool]
    p_values: dict[str, float]
    effects: dict[str, float]


@dataclass(frozen=True)
class Kind:
    """One column: what is drawn, how it is altered, with how many shadows it is audited."""

    name: str
    kind: str
    draws: int = 20
    shadows: int = 0
    alter: Callable[[dict[str, Cases], np.random.Generator], dict[str, Cases]] = lambda sides, rng: sides
    only: tuple[str, ...] = PRIVACY


def few_cases(sides: dict[str, Cases], rng: np.random.Generator) -> dict[str, Cases]:
    """Leave held-out patients at most two of their cases."""
    cases = sides["held_out"]
    order = np.lexsort((rng.random(len(cases)), cases.subject_ids))
    subjects = cases.subject_ids[order]
    third = np.append([False, False], subjects[2:] == subjects[:-2])
    return {**sides, "held_out": cases.select(np.sort(order[~third]))}


def by_lot(sides: dict[str, Cases], rng: np.random.Generator) -> dict[str, Cases]:
    """Deal the cases of a side to its patients by lot, so that those of one are no more alike than others."""
    return {
        name: replace(cases, subject_ids=rng.permutation(cases.subject_ids)) for name, cases in sides.items()
    }


KINDS = (
    Kind("images", "image", 40),
    Kind("tables", "table", 40),
    Kind("tables, fewer cases", "table", alter=few_cases),
    Kind("tables, 4 shadows", "table", shadows=4, only=ONLY),
    Kind("tables, 32 shadows, by lot", "table", shadows=32, alter=by_lot, only=ONLY),
    Kind("tables, 32 shadows", "table", 4, shadows=32, only=ONLY),
)


def drawn(kind: str, patients: int, *, seed: int) -> Cases:
    """Draw fresh patients; other seeds give other people."""
    if kind == "image":
        return synthetic_images(patients, seed=seed, settings=ImageSettings(size=SIZE))
    return synthetic_table(patients, seed=seed)


def estimators(seed: int) -> Sequence[Any]:
    """One estimator for each frozen model of tables."""
    return (
        RandomForestClassifier(20, random_state=seed),
        RandomForestClassifier(20, min_samples_leaf=5, random_state=seed),
        LogisticRegression(max_iter=300),
        LogisticRegression(C=0.01, max_iter=300),
        KNeighborsClassifier(5),
    )


def frozen(kind: str, number: int) -> tuple[OpenedClassifier, SklearnRecipe | None]:
    """Train one model on patients who are never audited."""
    classes = SYNTHETIC_CASES[kind][1]
    train, ref = drawn(kind, TRAINED_ON, seed=900_000 + number), ModelRef("study", "0" * 64, "declared", {})
    if kind == "image":
        loop = LoopSettings(EPOCHS[number], batch=32, learning_rate=3e-3, warmup=0.15)
        model = ClassifierRecipe("image", classes, loop, WIDTH).fit(train, seed=number)
        return OpenedClassifier(ref, model, sum(one.numel() for one in model.module.parameters())), None
    recipe = SklearnRecipe(
        make_pipeline(SimpleImputer(), StandardScaler(), estimators(number)[number]), classes
    )
    estimator = recipe.fit(train, validation=None, max_steps=None, seed=number).estimator
    predictor = sklearn_predictor(estimator, Card(classes, "probabilities", InputCard(dtype="float64")))
    return OpenedClassifier(ref, predictor, 0, structure=estimator), recipe


def features() -> tuple[Feature, ...]:
    """Read which column of the synthetic table is sensitive; to the attacks the others are numbers."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "schema.toml"
        place.write_text(table_schema(), encoding="utf-8")
        return tuple(one for one in read_schema(place) if one.sensitive)


def seen(result: AuditResult) -> Seen:
    """Keep what is counted."""
    claims = [finding for finding in result.audit.findings if finding.p_value is not None]
    scores, member = result.scores, result.scores.is_member
    p_values = {claim.test: claim.p_value for claim in claims if claim.p_value is not None}
    effects = {claim.test: claim.estimates[0].value for claim in claims if "_difference" in
               claim.estimates[0].name}  # fmt: skip
    for name, values in scores.components.items():
        p_values[f"membership.{name}.auc"] = auc_p_value(values[member], values[~member])
    for finding in result.audit.findings:
        if finding.estimates and finding.estimates[0].name == "auc" and not finding.subgroups:
            effects[finding.test] = finding.estimates[0].value - 0.5
    return Seen(
        result.audit.exit_status,
        {finding.test: finding.harmful for finding in result.audit.findings},
        p_values,
        effects,
    )


def one_model(job: tuple[int, int]) -> list[Seen]:
    """Train one model and audit every draw with it."""
    column, number = job
    kind = KINDS[column]
    opened, recipe = frozen(kind.kind, number)
    opened = replace(opened, answers_anew=not kind.shadows)
    classes, found = SYNTHETIC_CASES[kind.kind][1], []
    for draw in range(kind.draws):
        seed = 1000 * (column * MODELS + number) + draw
        people = drawn(kind.kind, 2 * SIDE, seed=seed)
        sides = split_patients(people, {"train": SIDE, "held_out": SIDE})
        sides = kind.alter(sides, np.random.default_rng([1, seed]))
        members, held_out = (CasesInMemory((sides[name],), classes) for name in ("train", "held_out"))
        plan = ClassifierPlan(
            model=opened,
            members=members,
            held_out=held_out,
            kind="image" if kind.kind == "image" else "table",
            recipe=recipe if kind.shadows else None,
            shadows=kind.shadows,
            features=features() if kind.kind == "table" else (),
            only=kind.only,
            seed=draw,
            sampled=SIDE,
        )
        found.append(seen(run_classifier_audit(plan)))
    return found


def allowed(runs: int) -> int:
    """Return the 99.9 % point of a binomial at 5 %."""
    return int(binom.ppf(0.999, runs, 0.05))


def required(column: str, test: str) -> bool:
    """Tell whether a false alarm can be spoken of."""
    return column != KINDS[-1].name or test != "bias.future"


def counted(columns: Mapping[str, Sequence[Seen]]) -> Table:
    """Count alarms test by test, before Holm's correction and after it; subgroups of a test in one row."""
    table = Table("Test", *(f"{name}: {len(runs)}" for name, runs in columns.items()), "Holds")
    statuses = {name: sum(run.exit_status == 1 for run in runs) for name, runs in columns.items()}
    cells = [str(status) for status in statuses.values()]
    held = all(status <= allowed(len(columns[name])) for name, status in statuses.items()
               if name != KINDS[-1].name)  # fmt: skip
    table.add("exit status 1", *cells, held)
    tests = {test for runs in columns.values() for run in runs for test in run.p_values}
    for test in sorted(tests):
        cells, holds = [], True
        for name, runs in columns.items():
            judged = [run for run in runs if test in run.p_values]
            raw = sum(run.p_values[test] < 0.05 for run in judged)
            harmful = sum(run.harmful.get(test, False) for run in judged)
            cells.append(f"{raw} ({len(judged)}, {harmful})" if judged else "")
            if judged and required(name, test):
                holds &= max(raw, harmful) <= allowed(len(judged))
        table.add(test, *cells, holds)
    return table


def centred(columns: Mapping[str, Sequence[Seen]]) -> Table:
    """Say where each null lies, in its own unit (AUC less .5, or the difference), and its standard error."""
    table = Table("Mean effect, 0 expected", *columns, "Within 3.5 standard errors")
    tests = {test for runs in columns.values() for run in runs for test in run.effects}
    for test in sorted(tests):
        cells, holds = [], True
        for name, runs in columns.items():
            values = np.array([run.effects[test] for run in runs if test in run.effects])
            if len(values) < 2:
                cells.append("")
                continue
            error = float(values.std(ddof=1)) / len(values) ** 0.5
            cells.append(f"{values.mean():+.4f} ± {error:.4f}")
            holds &= bool(abs(values.mean()) <= 3.5 * error) or not required(name, test)
        table.add(test, *cells, holds)
    return table


def main() -> None:
    """Run, print and write the tables."""
    # images last, for they take longest
    jobs = [(column, number) for column in reversed(range(len(KINDS))) for number in range(MODELS)]
    results = dict(zip(jobs, in_parallel(one_model, jobs), strict=True))
    columns = {
        kind.name: [run for number in range(MODELS) for run in results[column, number]]
        for column, kind in enumerate(KINDS)
    }
    about = (__doc__ or "").replace("{parameters}", f"{frozen('image', 0)[0].parameters:,}")
    write_page("classifier_false_alarms", about, counted(columns), centred(columns))


if __name__ == "__main__":
    # By its own name, so that what is kept of a run serves the next one however it is started.
    importlib.import_module("studies.classifier_false_alarms").main()

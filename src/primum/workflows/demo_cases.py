"""The demonstrations of classifiers, of images or of a table: as :mod:`primum.workflows.demo`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from primum.errors import InputError
from primum.evidence.audit import Audit
from primum.fit.classifier_recipe import save_classifier
from primum.fit.sklearn_recipe import SklearnClassifier, SklearnRecipe
from primum.models.classifier_card import CARD, Card, card_text
from primum.models.classifier_doors import open_classifier
from primum.models.sklearn_door import ESTIMATOR
from primum.records.case_folder import CaseFolder, open_cases
from primum.records.case_writer import write_cases
from primum.records.cases import Cases, join_cases
from primum.records.synthetic_cases import (
    SYNTHETIC_CASES,
    CaseSettings,
    ImageSettings,
    split_patients,
    table_schema,
)
from primum.report.language import Language
from primum.workflows import demo_recipes
from primum.workflows.classifier_audit import run_classifier_audit
from primum.workflows.classifier_command import classifier_plan
from primum.workflows.clock import Clock
from primum.workflows.command import HELD_OUT, TRAIN, written_command
from primum.workflows.demo import Progress
from primum.workflows.outputs import write_result

Kind = Literal["images", "table"]
Recipe = demo_recipes.ImageRecipe | SklearnRecipe
_RECIPES: Mapping[tuple[Kind, str], Callable[..., Recipe]] = {
    ("images", "leaky"): demo_recipes.leaky_images,
    ("images", "protected"): demo_recipes.protected_images,
    ("table", "leaky"): demo_recipes.leaky_table,
    ("table", "protected"): demo_recipes.protected_table,
}


@dataclass(frozen=True)
class CaseDemoSettings:
    """How large a demonstration.

    Attributes
    ----------
    members, held_out : int
        Patients who train both models, and patients who train none.
    shadows : int
        Shadow models of each audit; 0: none.
    sampled : int
        As in ``primum audit``.
    difficulty : float
        Of the synthetic cases.
    """

    members: int
    held_out: int
    shadows: int
    sampled: int = 500
    difficulty: float = 1.0


FULL: Mapping[Kind, CaseDemoSettings] = {
    "images": CaseDemoSettings(300, 500, shadows=0, difficulty=1.5),
    "table": CaseDemoSettings(500, 700, shadows=12),
}
SMALL: Mapping[Kind, CaseDemoSettings] = {
    "images": CaseDemoSettings(50, 100, shadows=0, sampled=40, difficulty=1.5),
    "table": CaseDemoSettings(100, 320, shadows=8, sampled=40),
}


@dataclass(frozen=True)
class CaseDemoOutcome:
    """Both audits, that of the protected model against a shifted group where there is one, and seconds."""

    kind: Kind
    leaky: Audit
    protected: Audit
    shifted: Audit | None
    seconds: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class _Bench:
    """What the stages of the demonstration share; `file` is what the user gave instead of invented cases."""

    kind: Kind
    settings: CaseDemoSettings
    folder: Path
    shown_as: Path
    records: str
    file: Path | None
    language: Language
    seed: int
    progress: Progress


def run_case_demo(
    kind: Kind,
    folder: Path,
    *,
    settings: CaseDemoSettings,
    language: Language,
    seed: int,
    shown_as: Path,
    progress: Progress,
    file: Path | None = None,
) -> CaseDemoOutcome:
    """Make or take cases, train the models, audit them; leaves ``leaky/`` and ``protected/`` in `folder`.

    Parameters
    ----------
    kind : {"images", "table"}
    folder : Path
    settings : CaseDemoSettings
    language : Language
    seed : int
    shown_as : Path
        Where the folder will lie when it is finished, for the commands that reproduce the audits.
    progress : callable
    file : Path or None
        Images in the form of MedMNIST. A random half of its train split trains the models and the other half
        is held out; ``shifted/`` sets the protected model against the file's own test split instead.

    Raises
    ------
    RecordsError, InputError
        A file that holds no images, or no train and test split.
    """
    clock = Clock()
    progress("synthetic cases", 0)
    records = "records" if file is None else "records.npz"
    bench = _Bench(kind, settings, folder, shown_as, records, file, language, seed, progress)
    if file is None:
        _invent(bench)
    else:
        _halve(open_cases(file), folder / records, seed)
    clock.lap("synthetic cases")
    audits = []
    for name in ("leaky", "protected"):
        progress("leaky model" if name == "leaky" else "protected model", 0)
        factory = _train(bench, name)
        clock.lap(f"{name} model")
        audits.append(_audit(bench, name, factory))
        clock.lap(f"audit of the {name} model")
    shifted = None
    if file is not None:
        shifted = _audit(bench, "protected", factory, held_out=file)
        clock.lap("audit against the test split")
    return CaseDemoOutcome(kind, audits[0], audits[1], shifted, clock.seconds)


def _invent(bench: _Bench) -> None:
    """Write synthetic cases of patients who come in random order, so that any split of them is fair."""
    images, settings = bench.kind == "images", bench.settings
    draw, classes = SYNTHETIC_CASES["image" if images else "table"]
    wanted = (ImageSettings if images else CaseSettings)(difficulty=settings.difficulty)
    sizes = {TRAIN: settings.members, HELD_OUT: settings.held_out}
    cases = draw(sum(sizes.values()), seed=bench.seed, settings=wanted)
    splits = split_patients(cases, sizes)
    write_cases(bench.folder / bench.records, splits, classes, schema=None if images else table_schema())


def _halve(given: CaseFolder, target: Path, seed: int) -> None:
    """Write a random half of the train split as train and the other half as test."""
    if given.kind != "image" or given.has_patients:
        raise InputError(
            "{path} holds no images in the form of MedMNIST: give such a .npz file.", path=str(given.path)
        )
    given.split(HELD_OUT)
    cases = _whole(given, TRAIN)
    images = np.moveaxis(np.asarray(cases.inputs), 1, -1)
    images = images[..., 0] if images.shape[-1] == 1 else images
    order = np.random.default_rng(seed).permutation(len(cases))
    train, test = np.array_split(order, 2)
    np.savez(
        target,
        train_images=images[train],
        train_labels=cases.labels[train],
        test_images=images[test],
        test_labels=cases.labels[test],
    )


def _whole(records: CaseFolder, split: str) -> Cases:
    return join_cases(list(records.split(split).shards()))


def _train(bench: _Bench, name: str) -> str | None:
    """Train and save one model, and return the factory that opens it, if it takes one."""
    records = open_cases(bench.folder / bench.records)
    train, make = _whole(records, TRAIN), _RECIPES[bench.kind, name]
    recipe = make() if bench.file is None else make(records.classes)
    place = bench.folder / "models" / name
    model = recipe.fit(train, validation=None, max_steps=None, seed=bench.seed)
    if not isinstance(model, SklearnClassifier):
        return save_classifier(place, model)
    import skops.io

    place.mkdir(parents=True)
    skops.io.dump(model.estimator, place / ESTIMATOR)
    (place / CARD).write_text(card_text(Card(records.classes)), encoding="utf-8")
    return None


def _audit(bench: _Bench, name: str, factory: str | None, *, held_out: Path | None = None) -> Audit:
    """Audit one model as the command in its report does."""
    recipe = _RECIPES[bench.kind, name] if bench.settings.shadows and bench.file is None else None
    only = ("data.overlap", "membership") if held_out else ()
    typed = {
        "--records": bench.shown_as / bench.records,
        "--held-out": held_out,
        "--factory": factory,
        "--recipe": recipe and f"{recipe.__module__}:{recipe.__name__}",
        "--references": recipe and bench.settings.shadows,
        "--only": ",".join(only) or None,
        "--sampled": bench.settings.sampled,
        "--seed": bench.seed,
    }
    words = ["audit", str(bench.shown_as / "models" / name)]
    words += [str(word) for pair in typed.items() if pair[1] is not None for word in pair]
    plan = classifier_plan(
        open_classifier(bench.folder / "models" / name, factory=factory),
        records=open_cases(bench.folder / bench.records),
        held_out=open_cases(held_out) if held_out else None,
        recipe=recipe and recipe(),
        shadows=bench.settings.shadows,
        only=only,
        seed=bench.seed,
        sampled=bench.settings.sampled,
        command=written_command(words),
    )
    result = run_classifier_audit(plan, progress=bench.progress)
    target = bench.folder / ("shifted" if held_out else name)
    target.mkdir()
    write_result(target, result, language=bench.language)
    return result.audit

"""From what a person typed about a classifier to a plan: which split is which."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from primum.audits.equity.observe import classes_to_find
from primum.audits.privacy.label_only import Kind
from primum.errors import ModelError, RecordsError
from primum.evidence.audit import Audit
from primum.fit.protocol import ClassifierTrainable
from primum.models.classifier_doors import open_classifier
from primum.models.opened import OpenedClassifier
from primum.records.case_folder import CaseFolder, open_cases
from primum.records.cases import CaseRecords
from primum.records.filtered import Renumbered
from primum.workflows.classifier_audit import ClassifierPlan, run_classifier_audit
from primum.workflows.command import HELD_OUT, TRAIN
from primum.workflows.plan import Membership


def classifier_plan(
    model: OpenedClassifier,
    *,
    records: CaseFolder,
    held_out: CaseFolder | None = None,
    recipe: ClassifierTrainable | None = None,
    shadows: int = 32,
    only: Sequence[str] = (),
    membership: Membership = "observed",
    drop_overlap: bool = False,
    seed: int = 0,
    sampled: int = 500,
    positive: str | None = None,
    threshold: float | None = None,
    command: str = "",
) -> ClassifierPlan:
    """Take members from the train split, the others from held_out, of `held_out` where it is given.

    Raises
    ------
    RecordsError
        A split is missing, or both folders hold different kinds of case or other classes.
    ModelError
        The model's classes are not those of the records.
    InputError
        `positive` is none of them, or `threshold` is no probability.
    """
    apart = _apart(records, held_out)
    require_classes(model, records)
    classes_to_find(records.classes, positive, threshold)
    return ClassifierPlan(
        model=model,
        members=records.split(TRAIN),
        held_out=apart,
        kind=cast(Kind, records.kind),
        recipe=recipe,
        shadows=shadows,
        features=records.features,
        only=only,
        membership=membership,
        drop_overlap=drop_overlap,
        seed=seed,
        sampled=sampled,
        positive=positive,
        threshold=threshold,
        names={"members": records.digest(), "held_out": (held_out or records).digest()},
        command=command,
    )


def _apart(records: CaseFolder, held_out: CaseFolder | None) -> CaseRecords:
    """Return the cases of patients who did not train the model."""
    others = held_out or records
    splits = list(others.splits())
    if HELD_OUT not in splits and not (held_out is not None and len(splits) == 1):
        raise RecordsError(
            "{folder} has no held_out split: give cases that did not train the model with --held-out, or "
            "mark them so in the column split.",
            folder=str(others.path),
        )
    if others.classes != records.classes or others.kind != records.kind:
        raise RecordsError(
            "{folder} holds other classes or another kind of case than {records}: give comparable cases.",
            folder=str(others.path),
            records=str(records.path),
        )
    apart: CaseRecords = others.split(HELD_OUT if HELD_OUT in splits else splits[0])
    return apart if held_out is None or (records.has_patients and others.has_patients) else Renumbered(apart)


def require_classes(model: OpenedClassifier, records: CaseFolder) -> None:
    """Refuse a model whose classes are not those of the records, in their order.

    Raises
    ------
    ModelError
        Says both.
    """
    known = model.predictor.classes
    if len(known) != len(records.classes):
        raise ModelError(
            "The model has {model} classes and the records have {records}: list the model's classes in "
            "classes.txt of the records, in its order.",
            model=len(known),
            records=len(records.classes),
        )
    if known != records.classes:
        raise ModelError(
            "The model's classes are {model} and those of the records {records}: list them in classes.txt of "
            "the records in the model's order, or in classifier.toml.",
            model=", ".join(known),
            records=", ".join(records.classes),
        )


def audit_classifier(
    model: OpenedClassifier | Path | str,
    records: CaseFolder | Path | str,
    held_out: CaseFolder | Path | str | None = None,
    *,
    factory: str | None = None,
    recipe: ClassifierTrainable | None = None,
    shadows: int = 32,
    tests: Sequence[str] | None = None,
    membership: Membership = "observed",
    sampled: int = 500,
    positive: str | None = None,
    threshold: float | None = None,
    seed: int = 0,
) -> Audit:
    """Test what a classifier remembers, how it breaks, what it was made of, whom it serves worse.

    Parameters
    ----------
    model : path, address of a model server, or OpenedClassifier
    records : path or CaseFolder
        Labelled cases; their split ``train`` holds everyone who trained the model.
    held_out : path, CaseFolder or None
        Where the held-out cases are, if not in the split ``held_out`` of `records`.
    factory : str or None
        ``module:name`` of a function without arguments that makes the torch module.
    recipe : ClassifierTrainable or None
        Trains so many `shadows`.
    tests : sequence of str or None
        Prefixes of test names; None means all.
    membership : {"observed", "randomised"}
        "randomised" only if chance alone decided who trained the model.
    sampled : int
        Patients for the tests that change cases; the other tests ask everyone.
    positive : str or None
        The class that equity is about; None: the second of two, and of more each against all others.
    threshold : float or None
        Probability, between 0 and 1, from which that class is called; None: where it is the likeliest.

    Raises
    ------
    InputError, RecordsError, ModelError
        Cases or a model that cannot be used, with the remedy.
    """
    plan = classifier_plan(
        model if isinstance(model, OpenedClassifier) else open_classifier(model, factory=factory),
        records=_opened(records),
        held_out=None if held_out is None else _opened(held_out),
        recipe=recipe,
        shadows=shadows,
        only=tuple(tests or ()),
        membership=membership,
        sampled=sampled,
        positive=positive,
        threshold=threshold,
        seed=seed,
        command="primum.audit_classifier(...)",
    )
    return run_classifier_audit(plan).audit


def _opened(records: CaseFolder | Path | str) -> CaseFolder:
    return records if isinstance(records, CaseFolder) else open_cases(Path(records))

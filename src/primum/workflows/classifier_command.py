"""From what a person typed about a classifier to a plan: which split is which."""

from collections.abc import Sequence
from typing import cast

from primum.audits.privacy.label_only import Kind
from primum.errors import ModelError, RecordsError
from primum.fit.protocol import ClassifierTrainable
from primum.models.opened import OpenedClassifier
from primum.records.case_folder import CaseFolder
from primum.records.cases import CaseRecords
from primum.records.filtered import Renumbered
from primum.workflows.classifier_audit import ClassifierPlan
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
    command: str = "",
) -> ClassifierPlan:
    """Take members from the train split, the others from held_out, of `held_out` where it is given.

    Raises
    ------
    RecordsError
        A split is missing, or both folders hold different kinds of case or other classes.
    ModelError
        The model's classes are not those of the records.
    """
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
    _require_classes(model, records)
    apart: CaseRecords = others.split(HELD_OUT if HELD_OUT in splits else splits[0])
    if held_out is not None and not (records.has_patients and others.has_patients):
        apart = Renumbered(apart)
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
        names={"members": records.digest(), "held_out": others.digest()},
        command=command,
    )


def _require_classes(model: OpenedClassifier, records: CaseFolder) -> None:
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

"""What was typed after ``primum audit``, as a plan and what carries it out."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from primum.errors import InputError

if TYPE_CHECKING:
    from primum.workflows.classifier_audit import ClassifierPlan
    from primum.workflows.matrix_audit import MatrixPlan
    from primum.workflows.plan import AuditPlan, AuditResult, Membership


@dataclass(frozen=True)
class Asked:
    """The options that shape a finding; see :mod:`primum.cli.options`."""

    model: str
    records: Path | None
    held_out: Path | None
    reference: tuple[str, ...]
    token_file: Path | None
    factory: str | None
    recipe: str | None
    references: int | None
    membership: "Membership"
    drop_overlap: bool
    only: tuple[str, ...]
    sampled: int
    positive: str | None
    threshold: float | None
    families: Path | None
    seed: int
    show_ids: bool
    show_records: bool
    command: str


@dataclass(frozen=True, eq=False)
class Prepared:
    """A plan, the digest of its model, and the function that carries it out."""

    plan: "AuditPlan | ClassifierPlan | MatrixPlan"
    digest: str
    run: "Callable[..., AuditResult]"


def prepare(asked: Asked) -> Prepared:
    """Open the model and the records.

    Raises
    ------
    InputError
        Something that cannot be used, or an option that is not for this kind of model.
    """
    from primum.models.classifier_doors import holds_scores_only, is_classifier

    if holds_scores_only(asked.model):
        return _matrix(asked)
    if asked.records is None:
        raise InputError(
            "Give the patients with --records, see --help: an audit compares who trained the model with "
            "others."
        )
    door = _classifier if is_classifier(asked.model, token_file=asked.token_file) else _sequence
    return door(asked, asked.records)


def _sequence(asked: Asked, records: Path) -> Prepared:
    from primum.fit.protocol import load_recipe
    from primum.models.doors import open_model
    from primum.records.opened import open_records
    from primum.workflows.audit import run_audit
    from primum.workflows.command import audit_plan

    _refuse("--factory", asked.factory)
    for option, value in {"--positive": asked.positive, "--threshold": asked.threshold}.items():
        if value is not None:
            raise InputError(
                "{option} is for classifiers, and this is a model of records: leave it out.", option=option
            )
    opened = open_model(asked.model, token_file=asked.token_file)
    server = urlsplit(asked.model)[:2]
    plan = audit_plan(
        opened,
        records=open_records(records, show_ids=asked.show_ids),
        held_out=open_records(asked.held_out, show_ids=asked.show_ids) if asked.held_out else None,
        # The token is for the server of the model only.
        references=[
            open_model(one, token_file=asked.token_file if urlsplit(one)[:2] == server else None)
            for one in asked.reference
        ],
        recipe=load_recipe(asked.recipe) if asked.recipe else None,
        recipe_count=asked.references or 1,
        only=asked.only,
        membership=asked.membership,
        drop_overlap=asked.drop_overlap,
        seed=asked.seed,
        sampled=asked.sampled,
        families=asked.families,
        show_records=asked.show_records,
        command=asked.command,
    )
    return Prepared(plan, opened.ref.digest, run_audit)


def _classifier(asked: Asked, records: Path) -> Prepared:
    from primum.fit.protocol import load_classifier_recipe
    from primum.models.classifier_doors import open_classifier
    from primum.records.case_folder import open_cases
    from primum.workflows.classifier_audit import run_classifier_audit
    from primum.workflows.classifier_command import classifier_plan

    _refuse("--reference", asked.reference)
    _refuse("--families", asked.families)
    _refuse("--show-records", asked.show_records)
    opened = open_classifier(asked.model, factory=asked.factory, token_file=asked.token_file)
    plan = classifier_plan(
        opened,
        records=open_cases(records, show_ids=asked.show_ids),
        held_out=open_cases(asked.held_out, show_ids=asked.show_ids) if asked.held_out else None,
        recipe=load_classifier_recipe(asked.recipe) if asked.recipe else None,
        shadows=asked.references or 32,
        only=asked.only,
        membership=asked.membership,
        drop_overlap=asked.drop_overlap,
        seed=asked.seed,
        sampled=asked.sampled,
        positive=asked.positive,
        threshold=asked.threshold,
        command=asked.command,
    )
    return Prepared(plan, opened.ref.digest, run_classifier_audit)


def _matrix(asked: Asked) -> Prepared:
    from primum.models.recorded_predictions import read_score_matrix
    from primum.workflows.matrix_audit import MatrixPlan, run_matrix_audit

    for option, value in {
        "--records": asked.records,
        "--held-out": asked.held_out,
        "--reference": asked.reference,
        "--recipe": asked.recipe,
        "--factory": asked.factory,
        "--positive": asked.positive,
        "--threshold": asked.threshold is not None,
        "--families": asked.families,
        "--show-records": asked.show_records,
    }.items():
        _refuse(option, value)
    recorded = read_score_matrix(Path(asked.model))
    plan = MatrixPlan(
        recorded,
        only=asked.only,
        membership=asked.membership,
        seed=asked.seed,
        names={"members": recorded.ref.digest, "held_out": recorded.ref.digest},
        command=asked.command,
    )
    return Prepared(plan, recorded.ref.digest, run_matrix_audit)


def _refuse(option: str, value: object) -> None:
    if value:
        raise InputError("{option} is not for this kind of model: leave it out.", option=option)

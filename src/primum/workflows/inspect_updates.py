"""Inspect captured updates: do they name training patients of a gallery, and tell who was there?"""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from primum.errors import InputError, ModelError
from primum.evidence.audit import Audit
from primum.fit.updates import Update
from primum.models.opened import OpenedClassifier
from primum.records.case_folder import CaseFolder
from primum.records.cases import Cases, join_cases
from primum.workflows.command import HELD_OUT, TRAIN
from primum.workflows.update_findings import (
    Guessed,
    Patients,
    audit_of_updates,
    fits,
    read_updates,
    require_both,
)

if TYPE_CHECKING:
    from torch import nn


def inspect_updates(
    files: Sequence[Path],
    model: OpenedClassifier,
    gallery: CaseFolder,
    *,
    searched: bool = False,
    asked: str | None = None,
    command: str = "",
    seed: int = 0,
) -> Audit:
    """Attack updates, and compare patients whose cases a site trained on with patients it never had.

    Parameters
    ----------
    files : sequence of Path
        Captured updates, see :func:`primum.fit.updates.read_update`.
    model : OpenedClassifier
        A torch classifier with the weights' names and shapes; its own weights do not matter.
    gallery : CaseFolder
        Its split ``train`` holds cases of the sites, ``held_out`` cases that no site used. Members who were
        in none of the updates make a leak look smaller.
    searched : bool
        Also search for the images of updates of up to four cases, some seconds each.
    asked : str or None
        ``column=value`` of the gallery's attributes: what share of the cases behind each update has it is
        guessed too. Where the column site names every site, guesses are compared with the truth.
    command : str
    seed : int

    Returns
    -------
    Audit
        ``updates.reconstruction``, the share of members named less that of the others, and
        ``updates.membership``; where asked, ``updates.property``.

    Raises
    ------
    InputError
        No update, one that belongs to another model, a model that is not torch, a gallery without both splits
        or whose cases differ in shape.
    ModelError
        A model of other classes or inputs than the gallery's.
    """
    updates = read_updates(files)
    patients = _attacked(updates, model, gallery, searched=searched, asked=asked, seed=seed)
    return audit_of_updates(
        files,
        updates,
        patients,
        model.ref,
        gallery.digest(),
        has_patients=gallery.has_patients,
        settings={"searched": searched},
        command=command,
        seed=seed,
    )


def _attacked(
    updates: Sequence[tuple[str, Update]],
    model: OpenedClassifier,
    gallery: CaseFolder,
    *,
    searched: bool,
    asked: str | None,
    seed: int,
) -> Patients:
    from primum.audits.updates.iterative import Search
    from primum.audits.updates.observe import observe_update
    from primum.models.torch_door import TorchClassifier

    if not isinstance(model.predictor, TorchClassifier):
        raise InputError(
            "Updates can be inspected for torch models only: give a folder with model.safetensors, and "
            "--factory."
        )
    if len(model.predictor.classes) != len(gallery.classes):
        raise ModelError(
            "The model has {model} classes and the records have {records}: list the model's classes in "
            "classes.txt of the records, in its order.",
            model=len(model.predictor.classes),
            records=len(gallery.classes),
        )
    module = deepcopy(model.predictor.module).float()
    cases, members = _cases(gallery)
    model.predictor.logits(cases.select(np.arange(1)))  # says in one sentence where inputs do not fit
    inputs = np.asarray(model.predictor.card.input.prepared(np.asarray(cases.inputs)), np.float32)
    subjects = cases.subject_ids
    shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    named, likelihood = np.zeros(len(cases)), np.full(len(cases), -np.inf)
    for place, (file, update) in enumerate(updates):
        fits(update, shapes, file=file)
        found = observe_update(
            module,
            update,
            inputs,
            cases.labels,
            subjects,
            search=Search() if searched else None,
            seed=seed + place,
        )
        named[found.named] = 1
        # Each patient is compared with as many updates, and was in few of them.
        likelihood = np.maximum(likelihood, found.likelihood)
    people, of = np.unique(subjects, return_inverse=True)
    scores = np.zeros(len(people)), np.bincount(of, likelihood) / np.bincount(of)
    np.maximum.at(scores[0], of, named)
    first = np.isin(people, subjects[:members])
    order = np.argsort(~first, kind="stable")
    guessed = None if asked is None else _guessed(asked, updates, module, cases, inputs, members, seed)
    return Patients(scores[0][order], scores[1][order], int(first.sum()), guessed=guessed)


def _guessed(
    asked: str,
    updates: Sequence[tuple[str, Update]],
    module: "nn.Module",
    cases: Cases,
    inputs: NDArray[np.float32],
    members: int,
    seed: int,
) -> Guessed:
    from primum.audits.updates.shadow_updates import guess_property, loss_of_cases

    column, _, value = asked.partition("=")
    values = cases.attributes.get(column, np.empty(0))
    has = values == value if values.dtype.kind in "UTO" else np.zeros(len(cases), np.bool_)
    require_both(has[members:], asked=asked)
    loss = loss_of_cases(module, inputs[members:], cases.labels[members:])
    guesses = guess_property(module, loss, [update for _, update in updates], has[members:], seed=seed)
    sites = cases.attributes.get("site", np.empty(0))[:members]
    truth = {str(site): float(has[:members][sites == site].mean()) for site in np.unique(sites)}
    return Guessed.of(asked, updates, guesses, truth=truth, usual=float(has[members:].mean()))


def _cases(gallery: CaseFolder) -> tuple[Cases, int]:
    """Return members, then others, and how many cases are members'."""
    sides = [join_cases(tuple(gallery.split(name).shards())) for name in (TRAIN, HELD_OUT)]
    both, shared = join_cases(sides), np.isin(sides[0].subject_ids, sides[1].subject_ids)
    if not isinstance(both.inputs, np.ndarray) or shared.any():
        raise InputError(
            "The gallery needs cases of one shape, and no patient both in train and in held_out: correct "
            "{path}.",
            path=str(gallery.path),
        )
    return both, len(sides[0])

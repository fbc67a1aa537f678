"""Inspect captured updates: do they name training patients of a gallery, and tell who was there?"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from primum.errors import InputError, ModelError
from primum.evidence.audit import Audit
from primum.evidence.contrast import FEWEST_PATIENTS, MATERIAL_AUC
from primum.evidence.families import MATERIAL_SHARE
from primum.evidence.finding import Finding, Message, Scalar
from primum.evidence.identity import file_digest, manifest_digest
from primum.evidence.ranking import auc, auc_p_value
from primum.evidence.reconstruction import reconstructed_share
from primum.evidence.shares import share_difference, share_p_value
from primum.evidence.verdicts import Claim, judge
from primum.fit.updates import Update, read_update
from primum.models.opened import OpenedClassifier
from primum.records.case_folder import CaseFolder
from primum.records.cases import Cases, join_cases
from primum.records.histories import FloatArray
from primum.workflows.command import HELD_OUT, TRAIN


@dataclass(frozen=True, eq=False)
class _Patients:
    """Per patient, members first: whether an update named them, and how likely they were in one."""

    named: FloatArray
    likelihood: FloatArray
    members: int


def inspect_updates(
    files: Sequence[Path],
    model: OpenedClassifier,
    gallery: CaseFolder,
    *,
    searched: bool = False,
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
    command : str
    seed : int

    Returns
    -------
    Audit
        ``updates.reconstruction``, the share of members named less that of the others, and
        ``updates.membership``.

    Raises
    ------
    InputError
        No update, one that belongs to another model, a model that is not torch, a gallery without both splits
        or whose cases differ in shape.
    ModelError
        A model of other classes or inputs than the gallery's.
    """
    if not files:
        raise InputError("There is no update to inspect: give captured updates, one safetensors file each.")
    updates = [(file.name, read_update(file)) for file in files]
    patients = _attacked(updates, model, gallery, searched=searched, seed=seed)
    held = manifest_digest(
        {"gallery": gallery.digest(), **{f"{n} {f.name}": file_digest(f) for n, f in enumerate(files)}}
    )
    settings: dict[str, Scalar] = {"updates": len(files), "searched": searched}
    settings["most_cases"] = max(update.cases for _, update in updates)
    common = Finding(
        "updates", "inconclusive", harmful=False, model=model.ref.digest, data=held, attacker="updates",
        settings=settings | {"unit": "patient" if gallery.has_patients else "image"}, seed=seed,
    )  # fmt: skip
    findings = judge([_reconstruction(patients, common), _membership(patients, common)])
    counts = {"members": patients.members, "held_out": len(patients.named) - patients.members}
    return Audit(model.ref, {"members": gallery.digest()}, counts, command, seed, tuple(findings))


def _attacked(
    updates: Sequence[tuple[str, Update]],
    model: OpenedClassifier,
    gallery: CaseFolder,
    *,
    searched: bool,
    seed: int,
) -> _Patients:
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
        if any(shapes.get(name) != value.shape for name, value in update.before.items()):
            raise InputError(
                "{file} is of another model than the one given: give the model that the site was sent.",
                file=file,
            )
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
    return _Patients(scores[0][order], scores[1][order], int(first.sum()))


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


def _reconstruction(patients: _Patients, common: Finding) -> Claim:
    members, others = np.split(patients.named, [patients.members])
    shares = [
        replace(reconstructed_share(int(side.sum()), len(side)), name=name)
        for name, side in (("members_reconstructed", members), ("held_out_reconstructed", others))
    ]
    draft = replace(
        common, test="updates.reconstruction", primary=True, material=MATERIAL_SHARE,
        p_value=share_p_value(members, others, seed=common.seed),
        estimates=(share_difference(members, others), *shares), references=("geiping2020", "agresti2000"),
    )  # fmt: skip
    return Claim(
        draft,
        "leak",
        too_few=_too_few(patients),
        corrected=lambda level: share_difference(members, others, level=level),
    )


def _membership(patients: _Patients, common: Finding) -> Claim:
    members, others = np.split(patients.likelihood, [patients.members])
    draft = replace(
        common, test="updates.membership", material=MATERIAL_AUC, p_value=auc_p_value(members, others),
        estimates=(auc(members, others),), references=("nasr2019", "delong1988"),
    )  # fmt: skip
    return Claim(
        draft, "leak", too_few=_too_few(patients), corrected=lambda level: auc(members, others, level=level)
    )


def _too_few(patients: _Patients) -> Message | None:
    fewest = min(patients.members, len(patients.named) - patients.members)
    return (
        Message("too_few_patients", {"needed": FEWEST_PATIENTS, "have": fewest})
        if fewest < FEWEST_PATIENTS
        else None
    )

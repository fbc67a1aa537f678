"""``primum train forget``: the model that never saw some patients, the proof, and the receipt."""

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from primum.errors import InputError, MachineError
from primum.records.patient_list import read_patients
from primum.records.ragged import IntArray
from primum.report.language import message
from primum.train.adversarial import AdversarialSettings
from primum.train.receipt import Receipt, patient_set, read_receipt, settings_said, unreadable
from primum.train.shards import MOST_PARTS, ShardSettings, Stage, stage_name, weights_digest
from primum.workflows.checkpoints import Checkpoints
from primum.workflows.learners import ModelOptions, Opened, open_learner, training_ids
from primum.workflows.outputs import refuse_full
from primum.workflows.plan import Progress
from primum.workflows.recognition import is_telling, recognised
from primum.workflows.training import (
    READING,
    STAGES,
    TRAINING,
    Run,
    Trained,
    TrainingPlan,
    kept_beside,
    run_stages,
    write_run,
)

PROVING, ASKING = message("training from nothing, to compare"), message("whether they are recognised")


def forget(
    model: Path,
    patients: Path,
    *,
    records: Path,
    out: Path,
    tokens: Path | None = None,
    prove: bool = False,
    progress: Progress,
    show_ids: bool = False,
) -> Trained:
    """Make the model that never saw these patients, repeating only what did.

    Parameters
    ----------
    model : Path
        What `train` wrote, with its receipt.
    patients, records, out : Path
        One id a line; what trained it, whose patients to forget may be gone already.
    tokens : Path or None
        The same vocabulary that it was given, if any.
    prove : bool
        Train once more from nothing, and hold the weights against each other.
    progress : callable
    show_ids : bool

    Raises
    ------
    InputError
        A model that was trained privately, or whose settings these records do not fit.
    ModelError
        No receipt, or one of other weights.
    MachineError
        With `prove`: the weights differ, so nothing is written.
    """
    refuse_full(out)
    parent = read_receipt(model)
    gone = read_patients(patients)
    plan = plan_again(model, parent, records=records, out=out, tokens=tokens)
    progress(READING, 0)
    opened = open_learner(
        records, plan.options, without=gone, set_aside=True, seed=plan.shards.seed, show_ids=show_ids
    )
    with kept_beside(plan, opened) as kept:
        progress(TRAINING, 0)
        run = _without_them(
            plan, opened, kept, StagesLeft(Checkpoints(model / STAGES, STAGES), parent), progress
        )
        if prove:
            progress(PROVING, 0)
            _require_equal(run, run_stages(plan, opened, _Nowhere(), progress=progress))
        progress(ASKING, 0)
        found = recognised(run, model, parent, records=records, gone=gone)
        told, named = _forgotten(gone, training_ids(records), found, proven=prove)
        files, digest = {"forgotten.json": json.dumps(named).encode()}, parent.digest()
        trained = write_run(
            plan, opened, run, confidential=files, method="forgotten", parent=digest, forgotten=told
        )
    return replace(trained, recognised=found)


def _without_them(
    plan: TrainingPlan, opened: Opened, kept: Checkpoints, old: "StagesLeft", progress: Progress
) -> Run:
    run = run_stages(plan, opened, _Either(kept, old), progress=progress)
    return replace(run, stages=tuple(replace(stage, found=old.holds(stage)) for stage in run.stages))


def _forgotten(
    gone: IntArray, trained: IntArray, found: dict[str, dict[str, Any]], *, proven: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the receipt says of the patients who are to be forgotten, and what stays confidential."""
    salt = secrets.token_hex(16)
    # Few ids can be guessed, so their digest needs something that cannot.
    digest = hashlib.sha256((salt + patient_set(gone)).encode()).hexdigest()
    seen = len(np.intersect1d(gone, trained))
    told: dict[str, Any] = {"asked": len(gone), "in_these_records": seen, "patient_set": digest}
    named: dict[str, Any] = {"salt": salt, "subject_ids": gone.tolist()}
    if proven:
        told["proof"] = "bit_identical_to_training_without_them"
    (named if any(map(is_telling, found.values())) else told)["recognised"] = found
    return told, named


def plan_again(
    model: Path, parent: Receipt, *, records: Path, out: Path, tokens: Path | None
) -> TrainingPlan:
    """Return the plan by which a model was trained.

    Raises
    ------
    InputError
        It was trained privately, or between sites.
    ModelError
        The receipt says what no training was asked for.
    """
    said = parent.settings
    if parent.method == "federated":
        raise InputError(
            "{path} was trained between sites: train it again without these patients, whom the other sites' "
            "updates followed.",
            path=str(model),
        )
    if said.get("private") is not None:
        raise InputError(
            "{path} was trained privately: train it again without these patients, because secret noise "
            "cannot be drawn again.",
            path=str(model),
        )
    try:
        against = said["adversarial"]
        adversarial = None if against is None else settings_said(AdversarialSettings, against)
        options = settings_said(ModelOptions, {**said["model"], "tokens": None})
        shards = settings_said(ShardSettings, said["shards"])
        if max(shards.shards, shards.slices) > MOST_PARTS:
            raise ValueError
    except (KeyError, TypeError, ValueError, InputError) as error:
        raise unreadable(model) from error
    return TrainingPlan(records, out, replace(options, tokens=tokens), shards, adversarial=adversarial)


@dataclass(frozen=True)
class StagesLeft:
    """The stages that an older model left, those that are as its receipt says.

    Attributes
    ----------
    kept : Checkpoints
    receipt : Receipt
    """

    kept: Checkpoints
    receipt: Receipt

    @classmethod
    def of(cls, model: Path, receipt: Receipt) -> "StagesLeft":
        """Return those in the folder of a model."""
        return cls(Checkpoints(model / STAGES, STAGES), receipt)

    def get(self, name: str) -> Any:
        """Return the weights after a stage by its name; None where there are none, or others."""
        found = self.kept.get(name)
        said = {stage_name(str(one.get("key"))): one.get("weights") for one in self.receipt.stages}
        return found if found is not None and said.get(name) == weights_digest(found) else None

    def holds(self, stage: Stage) -> bool:
        """Tell whether the weights after a stage are there."""
        return self.get(stage_name(stage.key)) is not None


@dataclass(frozen=True)
class _Either:
    """Reads from an older model too; everything that is new goes to where this run is kept."""

    kept: Checkpoints
    old: StagesLeft

    def get(self, name: str) -> Any:
        found = self.kept.get(name)
        return self.old.get(name) if found is None else found

    def put(self, name: str, arrays: Mapping[str, Any], /) -> None:
        self.kept.put(name, arrays)


class _Nowhere:
    """Keeps nothing."""

    def get(self, name: str) -> None:
        return None

    def put(self, name: str, arrays: Mapping[str, Any], /) -> None:
        return None


def _require_equal(one: Run, other: Run) -> None:
    first, second = one.weights(), other.weights()
    if first.keys() != second.keys() or not all(np.array_equal(first[name], second[name]) for name in first):
        raise MachineError(
            "Training without these patients from the start gave other weights, so nothing was written: use "
            "the versions and the number of threads that trained the model, or train it anew."
        )

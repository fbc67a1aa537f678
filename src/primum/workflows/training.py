"""``primum train``: a model, what shapes it, and the receipt of how it came to be."""

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from primum.errors import InputError, MachineError
from primum.evidence.identity import file_digest
from primum.records.patient_list import read_patients
from primum.records.ragged import IntArray
from primum.report.language import message
from primum.train.adversarial import AdversarialSettings
from primum.train.learners import require_cases
from primum.train.private import PrivateSettings
from primum.train.private_linear import LinearSettings
from primum.train.receipt import Receipt, patient_set, read_receipt
from primum.train.shards import ShardSettings, Stage, stage_name, thread_count, train_shards
from primum.workflows.confidential import CONFIDENTIAL
from primum.workflows.kept import Kept, write_private
from primum.workflows.kept_folder import keeping, key_of, unfinished_beside
from primum.workflows.learners import ModelOptions, Opened, open_learner, training_ids
from primum.workflows.outputs import refuse_full, whole_folder
from primum.workflows.plan import Progress
from primum.workflows.private_options import PrivateOptions

STAGES = "stages"
_WEIGHTS = "model.safetensors"
_SHAPING = ("numpy", "opacus", "primum", "torch", "transformers")
READING, TRAINING = message("the patients"), message("training")


@dataclass(frozen=True)
class TrainingPlan:
    """What was asked for.

    Attributes
    ----------
    records, out : Path
    options : ModelOptions
    shards : ShardSettings
    private : PrivateOptions, PrivateSettings, LinearSettings or None
    adversarial : AdversarialSettings or None
        Neither: plain.
    show_ids : bool
    """

    records: Path
    out: Path
    options: ModelOptions
    shards: ShardSettings = field(default_factory=ShardSettings)
    private: PrivateOptions | PrivateSettings | LinearSettings | None = None
    adversarial: AdversarialSettings | None = None
    show_ids: bool = False

    def described(self) -> dict[str, Any]:
        """Return all that shapes the weights but the patients."""
        ways = {"private": self.private, "adversarial": self.adversarial}
        asked = {name: None if way is None else asdict(way) for name, way in ways.items()}
        return {"model": self.options.described(), "shards": asdict(self.shards), **asked}


@dataclass(frozen=True)
class Trained:
    """What a training gives back: the receipt, and how many stages it could take over."""

    receipt: Receipt
    reused: int = 0


@dataclass(frozen=True, eq=False)
class _Shaping:
    """What says whether an unfinished run is the same."""

    described: Mapping[str, Any]

    def shaping(self) -> dict[str, object]:
        return dict(self.described)


def train(plan: TrainingPlan, *, progress: Progress) -> Trained:
    """Train a model plainly, privately or adversarially and write it to `plan.out`, its receipt beside it.

    Killed at any moment, the same call goes on from the last checkpoint to the same weights.

    Raises
    ------
    InputError
        The folder is not empty, or something that cannot be used.
    MachineError
        The disk refuses; what was finished is kept.
    """
    refuse_full(plan.out)
    progress(READING, 0)
    opened = open_learner(
        plan.records,
        plan.options,
        set_aside=plan.private is None,
        seed=plan.shards.seed,
        show_ids=plan.show_ids,
    )
    if isinstance(plan.private, PrivateOptions):
        patients = len(opened.learner.patients)
        plan = replace(plan, private=plan.private.settled(kind=opened.data["kind"], patients=patients))
    with _kept(plan, opened) as kept:
        progress(TRAINING, 0)
        if plan.private is None:
            made_from = {"method": "plain" if plan.adversarial is None else "adversarial"}
            return _write_plain(plan, opened, kept, progress=progress, made_from=made_from)
        return _write_private(plan, opened, kept, progress=progress)


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
    patients : Path
        One id a line.
    records : Path
        Those that trained it; the patients to forget may be gone from them.
    out : Path
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
    plan = _again(parent, model, records, out, tokens, show_ids)
    progress(READING, 0)
    opened = open_learner(
        records, plan.options, without=gone, set_aside=True, seed=plan.shards.seed, show_ids=show_ids
    )
    told, named = _forgotten(gone, training_ids(records))
    with _kept(plan, opened) as kept:
        progress(TRAINING, 0)
        return _write_plain(
            plan,
            opened,
            kept,
            progress=progress,
            old=Kept(model / STAGES, STAGES),
            made_from={"method": "forgotten", "parent": parent.digest(), "forgotten": told},
            named=named,
            prove=prove,
        )


def _forgotten(gone: IntArray, trained: IntArray) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the receipt says of the patients who are to be forgotten, and what stays confidential."""
    salt = secrets.token_hex(16)
    # Few ids can be guessed, so their digest needs something that cannot.
    digest = hashlib.sha256((salt + patient_set(gone)).encode()).hexdigest()
    seen = len(np.intersect1d(gone, trained))
    told = {"asked": len(gone), "in_these_records": seen, "patient_set": digest}
    return told, {"salt": salt, "subject_ids": gone.tolist()}


def _again(
    parent: Receipt, model: Path, records: Path, out: Path, tokens: Path | None, show_ids: bool
) -> TrainingPlan:
    """Return the plan by which the parent was trained."""
    said = parent.settings
    if said["private"] is not None:
        raise InputError(
            "{path} was trained privately: train it again without these patients, because secret noise "
            "cannot be drawn again.",
            path=str(model),
        )
    adversarial = said["adversarial"] and AdversarialSettings(**said["adversarial"])
    return TrainingPlan(
        records,
        out,
        ModelOptions.from_described(said["model"], tokens),
        ShardSettings(**said["shards"]),
        adversarial=adversarial,
        show_ids=show_ids,
    )


def _write_plain(
    plan: TrainingPlan,
    opened: Opened,
    kept: Kept,
    *,
    progress: Progress,
    old: Kept | None = None,
    made_from: Mapping[str, Any],
    named: Mapping[str, Any] | None = None,
    prove: bool = False,
) -> Trained:
    learner: Any = opened.learner  # of two kinds, each with models of its own
    require_cases(learner, shards=plan.shards.shards, adversarial=plan.adversarial is not None)
    if plan.adversarial is not None:
        learner = learner.against(plan.adversarial)
    described = _all_that_shapes(plan, learner)

    def run(keep: Any) -> tuple[Any, list[Stage]]:
        models, stages = train_shards(
            learner, plan.shards, described=described, keep=keep, progress=_ticks(progress)
        )
        return learner.together(models), stages

    model, stages = run(_Stages(kept, old))
    more = dict(made_from)
    if prove:
        again, _ = run(_Nowhere())
        _require_equal(learner.module(model), learner.module(again))
        more["forgotten"] = {**more["forgotten"], "proof": "bit_identical_to_training_without_them"}
    several = plan.shards.shards * plan.shards.slices > 1
    with whole_folder(plan.out) as folder:
        factory = learner.write(folder, model)
        if several:
            (folder / STAGES).mkdir(mode=0o700)
            for stage in stages:
                name = stage_name(stage.key)
                Kept(folder / STAGES, STAGES).put(name, _Stages(kept, old).get(name))
        if named is not None:
            (folder / CONFIDENTIAL).mkdir(mode=0o700)
            write_private(folder / CONFIDENTIAL / "forgotten.json", json.dumps(named).encode())
        # What an interrupted run of this training had finished is its own work.
        own = [replace(one, found=bool(old and old.get(stage_name(one.key)))) for one in stages]
        receipt = _receipt(
            plan,
            opened,
            folder,
            factory=factory,
            seed=plan.shards.seed,
            steps=sum(stage.steps for stage in own if not stage.found),
            stages=tuple(asdict(stage) for stage in own),
            **more,
        )
        receipt.write(folder)
    return Trained(receipt, sum(stage.found for stage in own))


def _all_that_shapes(plan: TrainingPlan, learner: Any) -> dict[str, Any]:
    """Return what weights depend on beside the patients that a stage is shown."""
    return {
        **plan.described(),
        "recipe": repr(learner.recipe),
        "range": learner.pixel_range if plan.adversarial else None,
        "versions": _versions(),
        "threads": thread_count(),
    }


def _write_private(plan: TrainingPlan, opened: Opened, kept: Kept, *, progress: Progress) -> Trained:
    assert plan.private is not None
    learner: Any = opened.learner  # of two kinds, each with models of its own
    model = learner.build(learner.patients, seed=plan.shards.seed)
    ledger = learner.fit_private(model, settings=plan.private, progress=_ticks(progress), keep=kept)
    unit = "record" if opened.data["image_level"] else "patient"
    ledger = replace(ledger, unit=unit, outside=_outside(plan, opened))
    with whole_folder(plan.out) as folder:
        factory = learner.write(folder, model)
        receipt = _receipt(
            plan,
            opened,
            folder,
            method="private",
            factory=factory,
            seed=plan.private.seed,
            steps=ledger.steps,
            ledger=ledger.as_json(),
        )
        receipt.write(folder)
    return Trained(receipt)


def _outside(plan: TrainingPlan, opened: Opened) -> tuple[str, ...]:
    """Name what was taken from patients without being paid for."""
    found = {
        "vocabulary": opened.data["kind"] == "records" and plan.options.tokens is None,
        "column_scales": opened.data["kind"] == "table",
        "validation": opened.data["validation_patients"] > 0 and isinstance(plan.private, PrivateSettings),
        "duplicates": opened.data["duplicates_dropped"] > 0,
        "patient_count": True,
    }
    return tuple(name for name, holds in found.items() if holds)


def _receipt(plan: TrainingPlan, opened: Opened, folder: Path, **said: Any) -> Receipt:
    return Receipt(
        weights=file_digest(folder / _WEIGHTS),
        data=opened.data,
        settings=plan.described(),
        versions=_versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        **{"parent": None, **said},
    )


def _versions() -> dict[str, str]:
    return {one.name: one.version for one in metadata.distributions() if one.name in _SHAPING}


@contextmanager
def _kept(plan: TrainingPlan, opened: Opened) -> Iterator[Kept]:
    """Keep checkpoints beside the place of the model until it is there."""
    shaping = {"described": plan.described(), "data": opened.data}
    with keeping(unfinished_beside(plan.out), key=key_of(_Shaping(shaping))) as kept:
        yield kept


def _ticks(progress: Progress) -> Callable[[int, int], None]:
    return lambda taken, steps: progress(TRAINING, 1)


@dataclass(frozen=True)
class _Stages:
    """Reads stages from an older model too; everything that is new goes to where this run is kept."""

    kept: Kept
    old: Kept | None

    def get(self, name: str) -> Any:
        found = self.kept.get(name)
        return self.old.get(name) if found is None and self.old else found

    def put(self, name: str, arrays: Mapping[str, Any], /) -> None:
        self.kept.put(name, arrays)


class _Nowhere:
    """Keeps nothing."""

    def get(self, name: str) -> None:
        return None

    def put(self, name: str, arrays: Mapping[str, Any], /) -> None:
        return None


def _require_equal(one: Any, other: Any) -> None:
    first, second = one.state_dict(), other.state_dict()
    if first.keys() != second.keys() or not all(
        np.array_equal(first[name].numpy(), second[name].numpy()) for name in first
    ):
        raise MachineError(
            "Training without these patients from the start gave other weights, so nothing was written: use "
            "the versions and the number of threads that trained the model, or train it anew."
        )

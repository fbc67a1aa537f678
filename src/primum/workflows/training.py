"""``primum train``: a model, what shapes it, and the receipt of how it came to be."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from primum.evidence.identity import file_digest
from primum.fit.protocol import Keep
from primum.report.language import message
from primum.train.adversarial import AdversarialSettings
from primum.train.learners import require_images
from primum.train.private import PrivateSettings
from primum.train.private_linear import LinearSettings
from primum.train.receipt import Receipt
from primum.train.shards import ShardSettings, Stage, stage_name, thread_count, train_shards
from primum.workflows.checkpoints import Checkpoints
from primum.workflows.confidential import CONFIDENTIAL
from primum.workflows.kept import write_private
from primum.workflows.kept_folder import keeping, key_of, unfinished_beside
from primum.workflows.learners import ModelOptions, Opened, open_learner
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
    """What a training gives back.

    Attributes
    ----------
    receipt : Receipt
    reused : int
        Stages that an older model had left.
    recognised : mapping
        How well forgotten patients are told from others: :func:`primum.workflows.recognition.recognised`.
    """

    receipt: Receipt
    reused: int = 0
    recognised: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Shaping:
    """What says whether an unfinished run is the same.

    Attributes
    ----------
    described : mapping
        All that shapes the weights, the data among it.
    """

    described: Mapping[str, Any]

    def shaping(self) -> dict[str, object]:
        """Return it."""
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
    with kept_beside(plan, opened) as kept:
        progress(TRAINING, 0)
        if plan.private is None:
            run = run_stages(plan, opened, kept, progress=progress)
            # What an interrupted run of this training had finished is its own work.
            run = replace(run, stages=tuple(replace(stage, found=False) for stage in run.stages))
            return write_run(plan, opened, run, method="plain" if plan.adversarial is None else "adversarial")
        return _write_private(plan, opened, kept, progress=progress)


def run_stages(plan: TrainingPlan, opened: Opened, keep: Keep, *, progress: Progress) -> "Run":
    """Train in shards and slices; stages whose weights lie in `keep` are taken from there.

    Raises
    ------
    InputError
        Changed images of records that have none.
    """
    learner: Any = opened.learner  # of two kinds, each with models of its own
    if plan.adversarial is not None:
        require_images(learner)
        learner = learner.against(plan.adversarial)
    described = _all_that_shapes(plan, learner)
    models, stages = train_shards(
        learner, plan.shards, described=described, keep=keep, progress=_ticks(progress)
    )
    return Run(learner, learner.together(models), tuple(stages), keep)


@dataclass(frozen=True, eq=False)
class Run:
    """A model in shards and slices, what learnt it, and where the weights after its stages lie."""

    learner: Any
    model: Any
    stages: tuple[Stage, ...]
    keep: Keep

    def weights(self) -> dict[str, NDArray[Any]]:
        """Return those of the whole model by name."""
        state = self.learner.module(self.model).state_dict()
        return {name: value.numpy() for name, value in state.items()}


def write_run(
    plan: TrainingPlan,
    opened: Opened,
    run: Run,
    *,
    confidential: Mapping[str, bytes] = MappingProxyType({}),
    **said: Any,
) -> Trained:
    """Write a model with its stages and receipt.

    Parameters
    ----------
    plan, opened, run
        What was asked for, who trained, and what came of it.
    confidential : mapping
        Files by name for the folder that only the owner reads.
    said : mapping
        What else the receipt says.
    """
    with whole_folder(plan.out) as folder:
        factory = run.learner.write(folder, run.model)
        if plan.shards.shards * plan.shards.slices > 1:
            (folder / STAGES).mkdir(mode=0o700)
            shelf = Checkpoints(folder / STAGES, STAGES)
            for stage in run.stages:
                weights = run.keep.get(stage_name(stage.key))
                assert weights is not None
                shelf.put(stage_name(stage.key), weights)
        if confidential:
            (folder / CONFIDENTIAL).mkdir(mode=0o700)
        for name, data in confidential.items():
            write_private(folder / CONFIDENTIAL / name, data)
        receipt = receipt_of(
            opened.data,
            plan.described(),
            folder,
            factory=factory,
            seed=plan.shards.seed,
            steps=sum(stage.steps for stage in run.stages if not stage.found),
            stages=tuple(asdict(stage) for stage in run.stages),
            **said,
        )
        receipt.write(folder)
    return Trained(receipt, sum(stage.found for stage in run.stages))


def _all_that_shapes(plan: TrainingPlan, learner: Any) -> dict[str, Any]:
    """Return what weights depend on beside the patients that a stage is shown."""
    return {
        **plan.described(),
        "recipe": repr(learner.recipe),
        "range": learner.pixel_range if plan.adversarial else None,
        "versions": _versions(),
        "threads": thread_count(),
    }


def _write_private(plan: TrainingPlan, opened: Opened, kept: Checkpoints, *, progress: Progress) -> Trained:
    assert plan.private is not None
    learner: Any = opened.learner  # of two kinds, each with models of its own
    model = learner.build(learner.patients, seed=plan.shards.seed)
    ledger = learner.fit_private(model, settings=plan.private, progress=_ticks(progress), keep=kept)
    unit = "record" if opened.data["image_level"] else "patient"
    ledger = replace(ledger, unit=unit, outside=_outside(plan, opened))
    with whole_folder(plan.out) as folder:
        factory = learner.write(folder, model)
        receipt = receipt_of(
            opened.data,
            plan.described(),
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


def receipt_of(data: Mapping[str, Any], settings: Mapping[str, Any], folder: Path, **said: Any) -> Receipt:
    """Return the receipt of the weights in a folder."""
    return Receipt(
        weights=file_digest(folder / _WEIGHTS),
        data=data,
        settings=settings,
        versions=_versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        **{"parent": None, **said},
    )


def _versions() -> dict[str, str]:
    return {one.name: one.version for one in metadata.distributions() if one.name in _SHAPING}


@contextmanager
def kept_beside(plan: TrainingPlan, opened: Opened) -> Iterator[Checkpoints]:
    """Keep checkpoints beside the place of the model until it is there."""
    shaping = {"described": plan.described(), "data": opened.data}
    with keeping(unfinished_beside(plan.out), key=key_of(Shaping(shaping))) as kept:
        yield Checkpoints(unfinished_beside(plan.out), kept.key)


def _ticks(progress: Progress) -> Callable[[int, int], None]:
    return lambda taken, steps: progress(TRAINING, 1)

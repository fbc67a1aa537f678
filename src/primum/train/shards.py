"""Training in shards and slices, so that a patient can be forgotten by repeating only what saw the patient.

Each patient belongs to one shard and one slice of it, by a hash of the id and the seed: whoever comes or
goes moves nobody else. A shard has a model of its own, trained on its first slice, then on its first two, and
so on. Each of these stages has a key: a digest of the settings, of the stage before, and of all that it is
shown. Whoever has the weights of a key need not train that stage again, and what follows is bit by bit what
training from the start would give: forgetting is training without the patients, with the old stages at hand.

References
----------
Bourtoule et al., Machine unlearning, IEEE S&P 2021 (SISA).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from primum.evidence.canonical import canonical_bytes
from primum.fit.loop import Progress
from primum.fit.protocol import Keep
from primum.records.ragged import IntArray
from primum.train.learners import Learner

Arrays = Mapping[str, NDArray[Any]]
# Of shards, and of slices.
MOST_PARTS = 100
# Kept beside the weights; no weight has a blank in its name.
_STEPS = "steps taken"


@dataclass(frozen=True)
class ShardSettings:
    """How patients are divided.

    Attributes
    ----------
    shards, slices : int
        1 and 1: one model, trained at once.
    seed : int
        Of the division, the first weights and the order of the patients.
    """

    shards: int = 1
    slices: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Stage:
    """One training of a shard's model.

    Attributes
    ----------
    shard, slice : int
        The patients of this slice and of those before it were shown.
    key : str
        sha256 of all that the weights after it depend on.
    patients, steps : int
        Steps of the optimiser, taken now or when the stage that was found was trained.
    found : bool
        Whether the weights were there already.
    weights : str
        sha256 of the weights after it, by name.
    """

    shard: int
    slice: int
    key: str
    patients: int
    steps: int
    found: bool
    weights: str


def stage_name(key: str) -> str:
    """Return the name by which the weights after a stage are kept."""
    return f"stage-{key}"


def thread_count() -> int:
    """Return how many threads torch adds numbers up in, which the last digit depends on."""
    return torch.get_num_threads()


def places_of(patients: IntArray, settings: ShardSettings) -> tuple[IntArray, IntArray]:
    """Return shard and slice of each patient, shape (n,) each."""
    drawn = np.array([_drawn(one, settings.seed) for one in patients.tolist()], np.uint64).reshape(-1, 2)
    shard, part = drawn[:, 0] % np.uint64(settings.shards), drawn[:, 1] % np.uint64(settings.slices)
    return shard.astype(np.int64), part.astype(np.int64)


def train_shards(
    learner: Learner,
    settings: ShardSettings,
    *,
    described: Mapping[str, Any],
    keep: Keep,
    progress: Progress | None = None,
) -> tuple[list[Any], list[Stage]]:
    """Train a model a shard; stages whose weights lie in `keep` are taken from there.

    Parameters
    ----------
    learner : Learner
    settings : ShardSettings
    described : mapping
        Whatever else shapes the weights: the recipe, versions.
    keep : Keep
        Holds the weights after each stage by its key, and the stage under way.
    progress : callable or None
        Told (steps taken, steps in all) of each stage.

    Returns
    -------
    models : list
        One a shard, without those that have no patients.
    stages : list of Stage
    """
    models, stages = [], []
    shard_of, slice_of = places_of(learner.patients, settings)
    start = _key("", {**asdict(settings), **described, "validation": learner.validation_digest()})
    for shard in range(settings.shards):
        key, seed, model = _key(start, {"shard": shard}), _seed(settings.seed, shard), None
        for part in range(settings.slices):
            seen = learner.patients[(shard_of == shard) & (slice_of <= part)]
            if not len(seen):
                continue
            # Made of the first patients that the shard has, and of no other.
            model = model if model is not None else learner.build(seen, seed=seed)
            key = _key(key, {"slice": part, "seen": learner.digest(seen)})
            went = _stage(learner, model, seen, settings, key=key, seed=seed, keep=keep, progress=progress)
            stages.append(Stage(shard, part, key, len(seen), *went))
        if model is not None:
            models.append(model)
    return models, stages


def _stage(
    learner: Learner,
    model: Any,
    seen: IntArray,
    settings: ShardSettings,
    *,
    key: str,
    seed: int,
    keep: Keep,
    progress: Progress | None,
) -> tuple[int, bool, str]:
    """Take the weights after a stage, or train until there are some; return steps, whether found, digest."""
    module = learner.module(model)
    known = keep.get(stage_name(key))
    if known is not None and _fits(known, module):
        weights = {name: torch.from_numpy(np.array(value)) for name, value in known.items() if name != _STEPS}
        module.load_state_dict(weights)
        module.eval()
        return int(known[_STEPS]), True, weights_digest(known)
    # So that all slices together cost about as much as one training on everybody.
    epochs = max(1, round(2 * learner.epochs / (settings.slices + 1)))
    torch.manual_seed(seed)
    steps = learner.fit(
        model, seen, epochs=epochs, seed=seed, progress=progress, keep=_Under(keep, f"training-{key}")
    )
    after = {name: value.numpy() for name, value in module.state_dict().items()}
    kept = {**after, _STEPS: np.array(steps)}
    keep.put(stage_name(key), kept)
    return steps, False, weights_digest(kept)


def _fits(known: Arrays, module: Any) -> bool:
    """Tell whether these are weights of the module, and not of whoever wrote the file anew."""
    shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    return {name: np.shape(value) for name, value in known.items()} == {**shapes, _STEPS: ()}


def weights_digest(arrays: Arrays) -> str:
    """sha256, hexadecimal, of what is kept after a stage: names, types, shapes and numbers."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape} ".encode() + array.tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Under:
    """Keeps by other names."""

    keep: Keep
    prefix: str

    def get(self, name: str) -> Arrays | None:
        return self.keep.get(f"{self.prefix}-{name}")

    def put(self, name: str, arrays: Arrays, /) -> None:
        self.keep.put(f"{self.prefix}-{name}", arrays)


def _key(before: str, what: Mapping[str, Any]) -> str:
    return hashlib.sha256(before.encode() + canonical_bytes(dict(what))).hexdigest()


def _drawn(patient: int, seed: int) -> tuple[int, int]:
    digest = hashlib.sha256(f"{seed} {patient}".encode()).digest()
    return int.from_bytes(digest[:8]), int.from_bytes(digest[8:16])


def _seed(seed: int, shard: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} shard {shard}".encode()).digest()[:4])

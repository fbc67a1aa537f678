"""What an audit has finished so far, kept beside its report until that is written.

A piece is a file of a private folder: sha256 over the key of the audit, the name of the piece and its bytes,
then the bytes. One that is cut, altered, or of another audit does not fit its digest, and is computed again.
"""

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from os import getpid
from pathlib import Path
from typing import Any

from primum.fit.protocol import Trainable
from primum.models.protocols import Scorer
from primum.records.tokens import TokenBatch
from primum.workflows.kept_values import from_bytes, to_bytes
from primum.workflows.outputs import disk_refused
from primum.workflows.workers import Map

_PIECE, _DIGEST = ".piece", 32
CHECKPOINT = ".safetensors"


@dataclass(frozen=True)
class Kept:
    """Pieces of one audit; without a folder nothing is kept.

    Attributes
    ----------
    folder : Path or None
    key : str
        Of everything that shapes a finding: see :func:`primum.workflows.kept_folder.key_of`.
    """

    folder: Path | None = None
    key: str = ""

    def __bool__(self) -> bool:
        kinds = (_PIECE, CHECKPOINT)
        return self.folder is not None and any(any(self.folder.glob("*" + one)) for one in kinds)

    def piece(self, name: str, make: Callable[[], Any]) -> Any:
        """Return the piece that is there, else make and keep it.

        Raises
        ------
        MachineError
            The disk refuses.
        """
        found = self.read(name)
        return self.write(name, make()) if found is None else found

    def read(self, name: str) -> Any:
        """Return a piece; None when it is not there or is damaged."""
        try:
            data = (self.folder / (name + _PIECE)).read_bytes() if self.folder else b""
        except (OSError, ValueError):
            return None
        whole = data[:_DIGEST] == self._digest(name, data[_DIGEST:])
        return from_bytes(data[_DIGEST:]) if whole else None

    def write(self, name: str, value: Any) -> Any:
        """Keep a piece, and return it as it will be read: arrays lie in memory as they will then.

        Raises
        ------
        MachineError
            The disk refuses.
        """
        if self.folder is None:
            return value
        data = to_bytes(value)
        write_private(self.folder / (name + _PIECE), self._digest(name, data) + data)
        return from_bytes(data)

    def get(self, name: str) -> Any:
        """Read a piece, as :class:`primum.fit.shadows.Keep` asks for it."""
        return self.read(name)

    def put(self, name: str, arrays: Mapping[str, Any], /) -> None:
        """Write a piece, as :class:`primum.fit.shadows.Keep` does."""
        self.write(name, dict(arrays))

    def each(self, apply: Map, name: str) -> Map:
        """Spread work as `apply` does, each result a piece: kept where it was made, as soon as it is."""

        def spread(function: Callable[[Any], Any], tasks: Iterable[Any], /) -> Iterator[Any]:
            return apply(_Once(self, name, function), enumerate(tasks))

        return apply if self.folder is None else spread

    def trained(self, recipe: Trainable) -> Trainable:
        """Return the recipe, each model that it trains a piece."""
        return recipe if self.folder is None else _TrainedOnce(self, recipe)

    def _digest(self, name: str, data: bytes) -> bytes:
        return hashlib.sha256(f"{self.key} {name}\n".encode() + data).digest()


NOTHING_KEPT = Kept()


@dataclass(frozen=True)
class _Once:
    """Work on numbered tasks, here or in another process."""

    kept: Kept
    name: str
    function: Callable[[Any], Any]

    def __call__(self, task: tuple[int, Any]) -> Any:
        number, given = task
        return self.kept.piece(f"{self.name}-{number}", lambda: self.function(given))


@dataclass(frozen=True)
class _TrainedOnce:
    """A recipe whose models are kept, those that can be; any other is trained again."""

    kept: Kept
    recipe: Trainable

    def fit(
        self, train: TokenBatch, *, validation: TokenBatch | None, max_steps: int | None, seed: int
    ) -> Scorer:
        """Train, or take what was trained from the same patients and seed."""
        digest = hashlib.sha256(f"{max_steps} {seed}".encode())
        for tokens in (train, *([] if validation is None else [validation])):
            for column in (tokens.subject_ids, tokens.offsets, tokens.token_ids):
                digest.update(f" {column.dtype} {len(column)} ".encode() + column.tobytes())
        name = f"model-{digest.hexdigest()[:16]}"
        if (parts := self.kept.read(name)) is None:
            model = self.recipe.fit(train, validation=validation, max_steps=max_steps, seed=seed)
            # Where torch trained nothing, it may not even be there.
            taken_apart = None
            if "primum.models.causal" in sys.modules:
                from primum.models.portable import to_arrays

                taken_apart = to_arrays(model)
            if taken_apart is None:
                return model
            parts = self.kept.write(name, taken_apart)
        from primum.models.portable import from_arrays

        return from_arrays(parts)


def write_private(place: Path, data: bytes) -> None:
    """Write beside the place and rename, readable by the owner only.

    Raises
    ------
    MachineError
        The disk refuses.
    """
    beside = place.with_name(f".{place.name}.{getpid()}")
    try:
        beside.touch(mode=0o600)
        beside.write_bytes(data)
        beside.replace(place)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise disk_refused(place.parent, error) from error

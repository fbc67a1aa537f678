"""Checkpoints of a training in a folder: each says by digest whose it is and that it is whole."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primum.train.checkpoints import packed, unpacked
from primum.train.shards import weights_digest
from primum.workflows.kept import CHECKPOINT, write_private


@dataclass(frozen=True)
class Checkpoints:
    """Arrays by name, each set a file in a folder.

    Attributes
    ----------
    folder : Path
    key : str
        Of all that shapes the training: those of another are not taken.
    """

    folder: Path
    key: str

    def get(self, name: str) -> dict[str, NDArray[Any]] | None:
        """Read a set of arrays; None when it is not there, is damaged or belongs to another training."""
        try:
            found = unpacked((self.folder / (name + CHECKPOINT)).read_bytes())
        except (OSError, ValueError):
            return None
        return found[0] if found is not None and found[1] == self._digest(name, found[0]) else None

    def put(self, name: str, arrays: Mapping[str, Any], /) -> None:
        """Write a set of arrays, readable by the owner only.

        Raises
        ------
        MachineError
            The disk refuses.
        """
        held = {one: np.asarray(value) for one, value in arrays.items()}
        write_private(self.folder / (name + CHECKPOINT), packed(held, said=self._digest(name, held)))

    def _digest(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> str:
        return hashlib.sha256(f"{self.key} {name} {weights_digest(arrays)}".encode()).hexdigest()

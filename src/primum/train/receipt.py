"""The training receipt: what a model was made of, how, and what was promised to whom. Free of torch.

It lies beside the weights as ``receipt.json``, canonical JSON, and says by digest which weights it is of. It
names no patient: who trained is a digest over all of their ids together, and counts.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

from primum.errors import ModelError
from primum.evidence.canonical import canonical_bytes, plain
from primum.evidence.identity import file_digest
from primum.records.ragged import IntArray

RECEIPT = "receipt.json"
SCHEMA = "1.0"
Settings = TypeVar("Settings")
_LARGEST = 1 << 40
_MAY_BE_ZERO = {"seed", "patience", "keep_duplicates", "warmup"}
Method = Literal["plain", "private", "adversarial", "forgotten", "federated"]


@dataclass(frozen=True)
class Receipt:
    """What a training leaves behind as evidence.

    Attributes
    ----------
    method : {"plain", "private", "adversarial", "forgotten", "federated"}
    weights : str
        sha256 of ``model.safetensors``.
    factory : str or None
        What the torch door takes to open the model; None where it needs none.
    parent : str or None
        Digest of the receipt of the model that this one was made from.
    data : mapping
        Of the records, without a path: digest, kind, patients, records, patient_set, validation_patients,
        duplicates_dropped, image_level. Of a coordinator, which sees no records: kind, sites, records.
    settings : mapping
        All that a repetition needs.
    seed : int or None
        None: the randomness was secret, and nobody can repeat the run.
    steps : int
        Of the optimiser, in this run.
    versions : mapping
        Of what shapes the last digit.
    ledger : mapping or None
        Of a private run: :meth:`primum.train.accounting.PrivacyLedger.as_json`. Between sites: ``patients``,
        one by each site's name for its own, and ``sites``, that of the noise at the coordinator.
    stages : tuple of mapping
        Of shards and slices: :class:`primum.train.shards.Stage`.
    forgotten : mapping or None
        How many patients were asked to be forgotten, how many had trained, and the digest of their ids.
    created : str
        UTC, RFC 3339.
    """

    method: Method
    weights: str
    factory: str | None
    parent: str | None
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    seed: int | None
    steps: int
    versions: Mapping[str, str]
    created: str
    ledger: Mapping[str, Any] | None = None
    stages: tuple[Mapping[str, Any], ...] = ()
    forgotten: Mapping[str, Any] | None = None

    def digest(self) -> str:
        """sha256, hexadecimal, of its canonical bytes."""
        return hashlib.sha256(self.as_bytes()).hexdigest()

    def as_bytes(self) -> bytes:
        """Return canonical JSON."""
        return canonical_bytes({"schema": SCHEMA, **asdict(self)})

    def write(self, folder: Path) -> None:
        """Write it beside the weights, readable in any editor."""
        text = json.dumps(plain({"schema": SCHEMA, **asdict(self)}), indent=1, sort_keys=True)
        (folder / RECEIPT).write_text(text + "\n", encoding="utf-8")


def read_receipt(folder: Path) -> Receipt:
    """Read the receipt of a model and hold it against the weights beside it.

    Raises
    ------
    ModelError
        There is none, it is no receipt, or it is of other weights.
    """
    try:
        said = json.loads((folder / RECEIPT).read_text(encoding="utf-8"))
        if said.pop("schema").split(".")[0] != SCHEMA.split(".")[0]:
            raise ValueError
        receipt = Receipt(**{**said, "stages": tuple(said["stages"])})
        if not all(isinstance(one, Mapping) for one in (receipt.data, receipt.settings, *receipt.stages)):
            raise TypeError
        receipt.digest()
    except (OSError, ValueError, RecursionError, TypeError, KeyError, AttributeError) as error:
        raise unreadable(folder) from error
    weights = folder / "model.safetensors"
    if not weights.is_file() or file_digest(weights) != receipt.weights:
        raise ModelError(
            "{path}: the receipt is of other weights than those beside it: give the folder as it was made.",
            path=str(folder),
        )
    return receipt


def unreadable(folder: Path) -> ModelError:
    """Say that a folder has no receipt, or one that says nothing that can be used."""
    return ModelError(
        "{path} has no training receipt that can be read: give a model that primum train made.",
        path=str(folder),
    )


def settings_said(kind: type[Settings], said: object) -> Settings:
    """Make settings of what a receipt says of them.

    Raises
    ------
    ValueError
        A setting that there is not, or of another type or size than any that trained a model.
    """
    hints = get_type_hints(kind)
    if not isinstance(said, Mapping) or not said.keys() <= hints.keys():
        raise ValueError(kind.__name__)
    for name, value in said.items():
        if not _fits(value, hints[name]) or (value == 0 and name not in _MAY_BE_ZERO):
            raise ValueError(name)
    return kind(**said)


def _fits(value: object, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if isinstance(value, bool):
        return hint is bool
    if isinstance(value, int | float) and not 0 <= value < _LARGEST:
        return False
    # JSON may write a whole number without its point.
    return isinstance(value, hint) or (isinstance(value, int) and isinstance(float(value), hint))


def patient_set(patients: IntArray) -> str:
    """sha256 over the sorted ids of all patients together, hexadecimal.

    Examples
    --------
    >>> patient_set(np.array([2, 1])) == patient_set(np.array([1, 2]))
    True
    """
    return hashlib.sha256(np.unique(patients).astype("<i8").tobytes()).hexdigest()

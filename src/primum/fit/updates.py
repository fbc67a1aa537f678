"""What one site sends in one round of federated training, captured to be attacked; free of torch."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from primum.errors import InputError

Tensors = Mapping[str, NDArray[Any]]

_KEY, _SCHEMA = "primum_update", "1.0"
_BEFORE, _SENT = "before/", "sent/"
_MOST_BYTES, _MOST_TENSORS, _MOST_TEXT = 1 << 32, 20_000, 4096
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,200}")
_COUNTS = ("cases", "local_steps", "batch")


@dataclass(frozen=True, eq=False)
class Update:
    """What a coordinator, or whoever listens, knows of one site after one round.

    Attributes
    ----------
    site : str
        Letters, digits and ``_.:-``.
    round : int
        0 or more.
    kind : {"gradient", "delta"}
        Whether `sent` is the gradient of the mean loss, or the weights after local steps minus those before.
    cases : int
        How many cases the site says it used.
    local_steps, batch : int
        Optimiser steps of the site and cases in each; 1 step for a gradient.
    learning_rate : float
        Of plain gradient descent at the site.
    before, sent : mapping of str to float32 or float64 array
        By the name of each tensor: the weights that the site was given, and what it sent. Every name of
        `sent` is one of `before`, with the same shape.
    """

    site: str
    round: int
    kind: Literal["gradient", "delta"]
    cases: int
    local_steps: int
    batch: int
    learning_rate: float
    before: Tensors
    sent: Tensors

    def gradient(self) -> dict[str, NDArray[np.float64]]:
        """Return the gradient of the mean loss by tensor name; of a delta, the mean over its local steps."""
        by = 1.0 if self.kind == "gradient" else -self.learning_rate * self.local_steps
        return {name: np.asarray(value, np.float64) / by for name, value in self.sent.items()}


def write_update(update: Update, file: Path) -> None:
    """Write one safetensors file, its tensors named ``before/…`` and ``sent/…``.

    Raises
    ------
    InputError
        As :func:`read_update` would.
    """
    about: dict[str, Any] = {name: getattr(update, name) for name in ("site", "round", "kind", *_COUNTS)}
    about |= {"schema": _SCHEMA, "learning_rate": update.learning_rate}
    _check(update, file.name)
    tensors = {_BEFORE + name: np.array(value, order="C") for name, value in update.before.items()}
    tensors |= {_SENT + name: np.array(value, order="C") for name, value in update.sent.items()}
    save_file(tensors, file, metadata={_KEY: json.dumps(about, sort_keys=True)})


def read_update(file: Path) -> Update:
    """Read a captured update from a file that nobody vouches for.

    Parameters
    ----------
    file : Path
        As :func:`write_update` leaves it: 4 GiB and 20,000 tensors at most.

    Raises
    ------
    InputError
        The file is too large, damaged or of another kind, a field is missing or makes no sense, a tensor has
        a strange name, another type or shape than it should, or holds numbers that are not finite.
    """
    if not file.is_file():
        raise InputError(
            "{file} is no file: give captured updates, one safetensors file each.", file=file.name
        )
    if file.stat().st_size > _MOST_BYTES:
        raise InputError("{file} is larger than 4 GiB, which no update may be: leave it out.", file=file.name)
    try:
        with safe_open(file, framework="numpy") as opened:
            about, names = (opened.metadata() or {}).get(_KEY, ""), opened.keys()
            if len(names) > _MOST_TENSORS:
                raise _unlike(file.name, "tensors")
            types = {opened.get_slice(name).get_dtype() for name in names}
            if not types <= {"F32", "F64"}:
                raise _unlike(file.name, "tensors")
            tensors = {name: opened.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise InputError(
            "{file} is truncated or not a safetensors file: capture the update again.", file=file.name
        ) from error
    before, sent = (
        {name.removeprefix(part): value for name, value in tensors.items() if name.startswith(part)}
        for part in (_BEFORE, _SENT)
    )
    if len(before) + len(sent) != len(tensors):
        raise _unlike(file.name, "tensors")
    update = Update(**_fields(about, file.name), before=before, sent=sent)
    _check(update, file.name)
    return update


def _fields(text: str, file: str) -> dict[str, Any]:
    try:
        held = json.loads(text) if len(text) <= _MOST_TEXT else None
    except (ValueError, RecursionError):
        held = None
    if not isinstance(held, dict) or held.pop("schema", None) != _SCHEMA:
        raise _unlike(file, "schema")
    for name in ("site", "round", "kind", *_COUNTS, "learning_rate"):
        if name not in held:
            raise _unlike(file, name)
    if len(held) > len(_COUNTS) + 4:
        raise _unlike(file, "schema")
    return held


def _check(update: Update, file: str) -> None:
    if not isinstance(update.site, str) or not _NAME.fullmatch(update.site):
        raise _unlike(file, "site")
    if update.kind not in ("gradient", "delta"):
        raise _unlike(file, "kind")
    for name, least in (("round", 0), *((one, 1) for one in _COUNTS)):
        value = getattr(update, name)
        if type(value) is not int or not least <= value < 2**31:
            raise _unlike(file, name)
    rate = update.learning_rate
    if type(rate) not in (int, float) or not 0 < rate < inf:
        raise _unlike(file, "learning_rate")
    if not update.sent or not update.sent.keys() <= update.before.keys():
        raise _unlike(file, "tensors")
    for name in update.before:
        if not _NAME.fullmatch(name):
            raise _unlike(file, "tensors")
    for tensors in (update.before, update.sent):
        for name, value in tensors.items():
            _check_tensor(name, value, update.before[name].shape, file)


def _check_tensor(name: str, value: NDArray[Any], shape: tuple[int, ...], file: str) -> None:
    if value.shape != shape:
        raise InputError(
            "{tensor} in {file} has shape {sent} as it was sent and {before} before: the site trains another "
            "model, leave its updates out.",
            tensor=name,
            file=file,
            sent=str(list(value.shape)),
            before=str(list(shape)),
        )
    if value.dtype not in (np.float32, np.float64) or not np.isfinite(value).all():
        raise InputError(
            "{tensor} in {file} holds NaN or infinite numbers: nothing can be learnt from it, leave it out.",
            tensor=name,
            file=file,
        )


def _unlike(file: str, field: str) -> InputError:
    return InputError(
        "{file} is no captured update, its field {field} is missing or makes no sense: capture it again.",
        file=file,
        field=field,
    )

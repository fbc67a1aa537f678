"""What an audit computes, as bytes and back: JSON for the shape, npz for the arrays, never a pickle."""

import io
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from primum.audits.privacy.extraction import Passage
from primum.evidence.finding import Message, Series
from primum.evidence.measured import Curve, Guesses, Measured
from primum.evidence.observed import Observed
from primum.records.attributes import PatientTable
from primum.workflows.case_gather import CaseGroup
from primum.workflows.gather import Group

_KINDS = {
    kind.__name__: kind
    for kind in (
        CaseGroup,
        Curve,
        Group,
        Guesses,
        Measured,
        Message,
        Observed,
        Passage,
        PatientTable,
        Series,
    )
}
_Arrays = list[NDArray[Any]]


def to_bytes(value: object) -> bytes:
    """Write a value made of these dataclasses, mappings of text, lists, tuples, arrays and scalars.

    Raises
    ------
    TypeError
        The value holds anything else.
    """
    arrays: _Arrays = []
    shape = json.dumps(_taken_apart(value, arrays)).encode()
    stream = io.BytesIO()
    np.savez(stream, np.frombuffer(shape, np.uint8), *arrays, allow_pickle=False)
    return stream.getvalue()


def from_bytes(data: bytes) -> Any:
    """Read what :func:`to_bytes` wrote, bit by bit the same."""
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        shape, *arrays = (stored[f"arr_{place}"] for place in range(len(stored.files)))
    return _put_together(json.loads(shape.tobytes()), arrays)


def _taken_apart(value: Any, arrays: _Arrays) -> Any:
    """Return JSON; what is no scalar becomes an object of one key, that says what it is."""
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, sparse.csr_matrix):
        parts = [_taken_apart(part, arrays) for part in (value.data, value.indices, value.indptr)]
        return {"csr": [*parts, list(value.shape)]}
    if isinstance(value, Mapping):
        return {"mapping": [[key, _taken_apart(one, arrays)] for key, one in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_taken_apart(one, arrays) for one in value]}
    if is_dataclass(value) and type(value).__name__ in _KINDS:
        return {
            type(value).__name__: [_taken_apart(getattr(value, one.name), arrays) for one in fields(value)]
        }
    return value


def _put_together(stored: Any, arrays: _Arrays) -> Any:
    if not isinstance(stored, dict):
        return stored
    ((kind, given),) = stored.items()
    if kind == "array":
        return arrays[given]
    if kind == "mapping":
        return {key: _put_together(one, arrays) for key, one in given}
    if kind == "csr":
        return sparse.csr_matrix(tuple(_put_together(one, arrays) for one in given[:3]), shape=given[3])
    parts = [_put_together(one, arrays) for one in given]
    return {"list": list, "tuple": tuple}[kind](parts) if kind in ("list", "tuple") else _KINDS[kind](*parts)

"""Checkpoints as safetensors: arrays by name, and one line that says whose they are."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

_ABOUT, _SAID, _LENGTH = "__metadata__", "primum", 8


def packed(arrays: Mapping[str, Any], *, said: str) -> bytes:
    """Return a safetensors file of numbers by name, with a line of text."""
    return save(
        {name: np.asarray(value, order="C") for name, value in arrays.items()}, metadata={_SAID: said}
    )


def unpacked(data: bytes) -> tuple[dict[str, NDArray[Any]], str] | None:
    """Return what was packed and the line of text; None of anything else."""
    try:
        arrays = load(data)
        # The header, which was just found to be one.
        header = json.loads(data[_LENGTH : _LENGTH + int.from_bytes(data[:_LENGTH], "little")])
        return arrays, str(header[_ABOUT][_SAID])
    except (SafetensorError, ValueError, TypeError, KeyError, RecursionError):
        return None

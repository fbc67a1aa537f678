"""Canonical JSON (RFC 8785): one document, one sequence of bytes, so that it can be hashed and signed."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import rfc8785


def plain(value: Any) -> Any:
    """Turn dataclasses, mappings and tuples into JSON values; a number that is not finite becomes null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, str):
        # Names of files may hold bytes that are no text, and JSON has no place for those.
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value


def canonical_bytes(value: Any) -> bytes:
    """Return the canonical UTF-8 bytes of `value`.

    Examples
    --------
    >>> canonical_bytes({"b": 1.0, "a": (float("nan"), True)})
    b'{"a":[null,true],"b":1}'
    """
    return rfc8785.dumps(plain(value))

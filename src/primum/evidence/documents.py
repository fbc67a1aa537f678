"""Reading signed and canonical documents back: an audit, and any dataclass with a ``schema``."""

import json
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from primum.errors import InputError, clean_text
from primum.evidence.audit import FINDINGS, RUN, SCHEMA, Audit
from primum.evidence.finding import HARM_WORDS

_Kind = TypeVar("_Kind")


class Misfit(Exception):
    """Says where a document does not fit its type."""


def read_audit(directory: Path) -> tuple[Audit, dict[str, Any]]:
    """Read an audit and the record of its run, which is empty when ``run.json`` is not there.

    Raises
    ------
    InputError
        When a file is missing, is not JSON, comes from a newer schema, or has a key that is missing, unknown
        or of the wrong type; names the file and the key.
    """
    audit = read_as(Audit, directory / FINDINGS)
    for index, finding in enumerate(audit.findings):
        if finding.harmful != (finding.verdict in HARM_WORDS):
            raise _refused(FINDINGS, f"findings[{index}].harmful")
    return audit, load_object(directory / RUN) if (directory / RUN).exists() else {}


def read_as(kind: type[_Kind], path: Path) -> _Kind:
    """Read a file that holds one dataclass with a `schema`, as :func:`canonical_bytes` writes it.

    Raises
    ------
    InputError
        As :func:`read_audit`.
    """
    document = load_object(path)
    _check_schema(document.get("schema"), path.name)
    try:
        decoded: _Kind = decode(kind, document, "")
    except Misfit as error:
        raise _refused(path.name, str(error)) from error
    return decoded


def load_object(path: Path) -> dict[str, Any]:
    """Read a JSON object whose keys are unique and whose numbers are finite.

    Raises
    ------
    InputError
        The file cannot be read, or is not such an object.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError
        return dict(pairs)

    def whole(digits: str) -> int | float:
        # Canonical JSON writes 1e16 without a point: no integer lies beyond what a double can hold exactly.
        return int(digits) if abs(int(digits)) < 2**53 else float(digits)

    def refuse_constant(name: str) -> None:
        raise ValueError(name)

    try:
        document = json.loads(
            path.read_bytes(), object_pairs_hook=unique, parse_int=whole, parse_constant=refuse_constant
        )
    except OSError as error:
        raise InputError(
            "{file} cannot be read: give the folder that an audit wrote.", file=clean_text(path)
        ) from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise InputError("{file} is not valid JSON: write the audit again.", file=clean_text(path)) from error
    if not isinstance(document, dict):
        raise InputError("{file} is not valid JSON: write the audit again.", file=clean_text(path))
    return document


def _check_schema(schema: object, file: str) -> None:
    current = int(SCHEMA.partition(".")[0])
    major = schema.partition(".")[0] if isinstance(schema, str) else ""
    if major not in {str(current), str(current - 1)}:
        raise InputError(
            "{file} has schema {schema}, this version reads {known}: use the version of primum that wrote "
            "it.",
            file=file,
            schema=clean_text(schema),
            known=SCHEMA,
        )


def _refused(file: str, where: str) -> InputError:
    return InputError(
        "{file}: {key} is missing, unknown or of the wrong type. The file was altered or cut: write the "
        "audit again.",
        file=file,
        key=clean_text(where),
    )


def decode_bytes(kind: Any, content: bytes) -> Any:
    """Turn the bytes of a JSON document back into `kind`, as :func:`decode` does.

    Raises
    ------
    Misfit
        They are no JSON, or do not fit.
    """
    try:
        return decode(kind, json.loads(content))
    except (ValueError, RecursionError) as error:
        raise Misfit("JSON") from error


def decode(kind: Any, value: Any, where: str = "") -> Any:
    """Turn JSON back into `kind`, a dataclass, mapping, tuple, literal, union or scalar type.

    Raises
    ------
    Misfit
        Says where: ``findings[3].p_value``.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind) and isinstance(kind, type):
        return _decode_dataclass(kind, value, where)
    if origin in (Union, types.UnionType):
        return _decode_union(inner, value, where)
    if origin is Literal and value in inner and isinstance(value, str):
        return value
    if origin is tuple and isinstance(value, list):
        return tuple(decode(inner[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin is Mapping and isinstance(value, dict):
        return {key: decode(inner[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is float and value is None:
        return float("nan")
    if kind is float and type(value) in (int, float):
        return float(value)
    if kind is not float and type(value) is kind:
        return value
    raise Misfit(where)


def _decode_union(inner: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in inner:
        return None
    classes = [one for one in inner if is_dataclass(one)]
    if classes and isinstance(value, dict):
        return decode(classes[0], value, where)
    exact = type(value) if type(value) in inner else float
    if exact not in inner:
        raise Misfit(where)
    return decode(exact, value, where)


def _decode_dataclass(kind: type[Any], value: Any, where: str) -> Any:
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    prefix = f"{where}." if where else ""
    if not isinstance(value, dict):
        raise Misfit(where)
    for name in sorted(set(names) ^ set(value)):
        raise Misfit(prefix + name)
    return kind(**{name: decode(hints[name], value[name], prefix + name) for name in names})

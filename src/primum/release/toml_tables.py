"""TOML and JSON that people write, read into dataclasses: an error names the file, the table and the key."""

import json
import math
import tomllib
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from primum.errors import InputError, clean_text
from primum.release.canary_words import message

_Kind = TypeVar("_Kind")
_MOST_BYTES = 1 << 20
_TABLE = message("{file}, {table}: {key} must be a table.")
_LIST = message("{file}, {table}: {key} must be a list, in square brackets.")
_CHOICE = message("{file}, {table}: {key} must be one of {choices}.")
_SCALARS = {
    str: message("{file}, {table}: {key} must be text, in quotes."),
    int: message("{file}, {table}: {key} must be a whole number."),
    float: message("{file}, {table}: {key} must be a number."),
    bool: message("{file}, {table}: {key} must be true or false."),
}


def read_bytes(path: Path) -> bytes:
    """Read a small file that a person wrote.

    Raises
    ------
    InputError
        It cannot be read or is larger than a megabyte.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InputError(
            "{file} cannot be read ({reason}): give a file that is there.",
            file=clean_text(path),
            reason=error.strerror or type(error).__name__,
        ) from error
    if len(content) > _MOST_BYTES:
        raise InputError("{file} is larger than a megabyte: give the file itself.", file=clean_text(path))
    return content


def parse_document(kind: type[_Kind], content: bytes, *, file: str) -> _Kind:
    """Turn TOML, or JSON when the name ends so, into a dataclass; keys without a default must be there.

    Raises
    ------
    InputError
        No such text, or a key that is unknown, missing or of another type.
    """
    try:
        text = content.decode("utf-8")
        said = json.loads(text) if file.endswith(".json") else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            "{file} is not TOML (or JSON, where its name ends so): see docs/release.md for its keys.",
            file=clean_text(file),
        ) from error
    found: _Kind = _Reading(clean_text(file)).table(kind, said, "")
    return found


class _Reading:
    """One file that is being read."""

    def __init__(self, file: str) -> None:
        self._file = file

    def table(self, kind: Any, said: object, where: str) -> Any:
        """Read one table into a dataclass."""
        if not isinstance(said, Mapping):
            raise self._wrong(where, _TABLE)
        known = {one.name: one for one in fields(kind)}
        for key in said:
            if key not in known:
                raise InputError(
                    "{file}, {table}: the key {key} is unknown: leave it out, or write one of {known}.",
                    file=self._file,
                    table=clean_text(where) or "top",
                    key=clean_text(key)[:60],
                    known=", ".join(known),
                )
        hints = get_type_hints(kind)
        return kind(
            **{
                name: self.value(hints[name], said[name], f"{where}.{name}".lstrip("."))
                if name in said
                else self._default(one, where)
                for name, one in known.items()
            }
        )

    def _default(self, one: "Field[Any]", where: str) -> Any:
        if one.default is not MISSING:
            return one.default
        if one.default_factory is not MISSING:
            return one.default_factory()
        raise InputError(
            "{file}, {table}: the key {key} is missing: add it, see docs/release.md.",
            file=self._file,
            table=clean_text(where) or "top",
            key=one.name,
        )

    def value(self, kind: Any, said: object, where: str) -> Any:
        """Read one value of a stated type."""
        origin, inner = get_origin(kind), get_args(kind)
        if is_dataclass(kind):
            return self.table(kind, said, where)
        if origin in (Union, types.UnionType):
            return self.value(next(one for one in inner if one is not type(None)), said, where)
        if origin is Literal:
            if isinstance(said, str) and said in inner:
                return said
            raise self._wrong(where, _CHOICE, choices=", ".join(map(str, inner)))
        if origin is tuple:
            if not isinstance(said, list):
                raise self._wrong(where, _LIST)
            return tuple(self.value(inner[0], one, f"{where}[{place}]") for place, one in enumerate(said))
        if origin is Mapping:
            if not isinstance(said, Mapping):
                raise self._wrong(where, _TABLE)
            return {str(key): self.value(inner[1], one, f"{where}.{key}") for key, one in said.items()}
        return self._scalar(kind, said, where)

    def _scalar(self, kind: type, said: object, where: str) -> Any:
        # In Python a truth value is a whole number too, and here it must not be.
        if kind is float and type(said) in (int, float) and math.isfinite(float(str(said))):
            return float(str(said))
        if kind is str and isinstance(said, str) and len(said) <= 10_000:
            return said
        if kind is not float and kind is not str and type(said) is kind:
            return said
        raise self._wrong(where, _SCALARS[kind])

    def _wrong(self, where: str, sentence: str, **parameters: str) -> InputError:
        table, _, key = where.rpartition(".")
        return InputError(
            sentence,
            file=self._file,
            table=clean_text(table)[:80] or "top",
            key=clean_text(key)[:60],
            **parameters,
        )

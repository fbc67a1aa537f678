"""The tokens of a model: ``vocab.json``, a token for each id from 0."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from primum.errors import VocabularyError
from primum.records.ragged import IntArray

_MOST_BYTES = 1 << 26


@dataclass(frozen=True)
class Vocabulary:
    """Tokens in the order of their ids.

    Raises
    ------
    VocabularyError
        No token, the same token twice, or one that is no text.
    """

    tokens: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.tokens:
            raise VocabularyError("The vocabulary is empty: give the tokens that the model was trained on.")
        try:
            "".join(self.tokens).encode()
        except UnicodeEncodeError as error:
            raise VocabularyError(
                "The vocabulary holds a token that is no Unicode text: write it again as UTF-8."
            ) from error
        if len(self.id_of) < len(self.tokens):
            raise VocabularyError("The vocabulary holds a token twice: give each token one id.")

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def id_of(self) -> dict[str, int]:
        """The id of each token."""
        return {token: index for index, token in enumerate(self.tokens)}

    def encode(self, codes: tuple[str, ...]) -> IntArray:
        """Return the id of each code, shape (codes,); -1 where the vocabulary lacks it.

        Examples
        --------
        >>> Vocabulary(("a", "b")).encode(("b", "c")).tolist()
        [1, -1]
        """
        return np.array([self.id_of.get(code, -1) for code in codes], np.int64)

    @classmethod
    def read(cls, path: Path) -> "Vocabulary":
        """Read ``{"token": id, …}``, ids dense from 0.

        Raises
        ------
        VocabularyError
            Not such a file: another shape, an id that is no integer, negative, given twice, or left out.
        """
        return cls.numbered(read_object(path), file=path.name)

    @classmethod
    def numbered(cls, id_of: Mapping[str, Any], *, file: str) -> "Vocabulary":
        """Put tokens in the order of their ids, which are dense from 0; `file` is named when they are not.

        Raises
        ------
        VocabularyError
            An id that is no integer, negative, given twice, or left out.
        """
        ids = list(id_of.values())
        if any(type(index) is not int for index in ids):
            raise VocabularyError(
                '{file} has an id that is not a whole number: give {{"token": id}}.', file=file
            )
        if len(set(ids)) < len(ids):
            raise VocabularyError("{file} gives one id to two tokens: each needs its own.", file=file)
        if set(ids) != set(range(len(ids))):
            raise VocabularyError(
                "{file} has {count} tokens but its ids are not 0 to {last}: number them without gaps.",
                file=file,
                count=len(ids),
                last=len(ids) - 1,
            )
        return cls(tuple(sorted(id_of, key=lambda token: int(id_of[token]))))

    def write(self, path: Path) -> None:
        """Write ``{"token": id, …}``."""
        path.write_text(json.dumps(self.id_of, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object of at most 64 MiB in which no key comes twice.

    Raises
    ------
    VocabularyError
        The file is missing, too large, not JSON, or not an object.
    """
    text = read_small(path)
    try:
        content = json.loads(text.decode("utf-8"), object_pairs_hook=_once(path.name))
    except (ValueError, RecursionError) as error:
        raise VocabularyError("{file} is not JSON: write it again.", file=path.name) from error
    if not isinstance(content, dict):
        raise VocabularyError("{file} is not a JSON object: write it as {{…}}.", file=path.name)
    return content


def read_small(path: Path) -> bytes:
    """Read a file of at most 64 MiB.

    Raises
    ------
    VocabularyError
        The file is missing or too large.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise VocabularyError("{file} cannot be read: put it beside the weights.", file=path.name) from error
    if len(content) > _MOST_BYTES:
        raise VocabularyError(
            "{file} is larger than 64 MiB: this is not a vocabulary or a token profile.", file=path.name
        )
    return content


def _once(file: str) -> Any:
    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        built = dict(pairs)
        if len(built) < len(pairs):
            raise VocabularyError("{file} holds a key twice: keep one.", file=file)
        return built

    return build

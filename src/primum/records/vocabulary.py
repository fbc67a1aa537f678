"""The tokens of a model: ``vocab.json``, a token for each id from 0."""

import json
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
        No token, or the same token twice.
    """

    tokens: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.tokens:
            raise VocabularyError("The vocabulary is empty: give the tokens that the model was trained on.")
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
        content = read_object(path)
        ids = list(content.values())
        if any(type(index) is not int for index in ids):
            raise VocabularyError(
                '{file} has an id that is not a whole number: give {{"token": id}}.', file=path.name
            )
        if len(set(ids)) < len(ids):
            raise VocabularyError("{file} gives one id to two tokens: each needs its own.", file=path.name)
        if set(ids) != set(range(len(ids))):
            raise VocabularyError(
                "{file} has {count} tokens but its ids are not 0 to {last}: number them without gaps.",
                file=path.name,
                count=len(ids),
                last=len(ids) - 1,
            )
        return cls(tuple(sorted(content, key=lambda token: int(content[token]))))

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
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise VocabularyError(
                "{file} is larger than 64 MiB: this is not a vocabulary or a token profile.", file=path.name
            )
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once(path.name))
    except OSError as error:
        raise VocabularyError("{file} cannot be read: put it beside the weights.", file=path.name) from error
    except (ValueError, RecursionError) as error:
        raise VocabularyError("{file} is not JSON: write it again.", file=path.name) from error
    if not isinstance(content, dict):
        raise VocabularyError("{file} is not a JSON object: write it as {{…}}.", file=path.name)
    return content


def _once(file: str) -> Any:
    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        built = dict(pairs)
        if len(built) < len(pairs):
            raise VocabularyError("{file} holds a key twice: keep one.", file=file)
        return built

    return build

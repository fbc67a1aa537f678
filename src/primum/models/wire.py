"""The wire door: a model that stays in an environment of its own and is asked over HTTP; see docs/wire.md."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from primum.evidence.identity import ModelRef
from primum.models.opened import OpenedModel
from primum.models.protocols import BoolArray, Sampling, Scorer, TokenScores
from primum.models.wire_address import server_at
from primum.models.wire_connection import WireConnection
from primum.records.histories import FloatArray
from primum.records.profile import TokenProfile
from primum.records.profile_guess import guess_profile
from primum.records.ragged import IntArray, offsets_of
from primum.records.tokenizer import Tokenizer
from primum.records.tokens import Kind, TokenBatch
from primum.records.vocabulary import Vocabulary

QUESTIONS = ("log_probs", "token_scores", "log_masses", "embed", "continue_from")
# The logarithm of a sum of probabilities may exceed 0 by a rounding error.
_ROUNDING = 1e-6
_LONGEST_NAME = 200


def open_server(url: str, *, token_file: Path | None = None) -> OpenedModel:
    """Open the model that a server offers; its identity is what the server declares.

    Raises
    ------
    InputError
        An address or a token that cannot be used, or that the server refuses.
    ModelError
        A server that does not speak the wire.
    VocabularyError
        A vocabulary or token profile that contradicts itself.
    MachineError
        The server does not answer.
    """
    wire = WireConnection(server_at(url, token_file=token_file))
    said = wire.describe()
    if not isinstance(said, dict):
        raise wire.refuse("model", "JSON")
    protocols = _texts(wire, said, "protocols")
    if "log_probs" not in protocols:
        raise wire.refuse("model", "protocols")
    vocabulary = Vocabulary(tuple(_texts(wire, said, "vocabulary")))
    guessed: tuple[str, ...] = ()
    if "token_profile" in said:
        profile = TokenProfile.from_object(said["token_profile"], source="token_profile")
    else:
        profile, guessed = guess_profile(vocabulary)
    questions = WireQuestions(
        wire,
        vocabulary_size=len(vocabulary),
        width=_whole(wire, said, "width", least=1) if "embed" in protocols else 0,
    )
    # Exactly what the server offers: isinstance(model, Generator) is false when it does not continue.
    offered = {name: getattr(questions, name) for name in QUESTIONS if name in protocols}
    return OpenedModel(
        _declared(wire, said),
        cast(Scorer, SimpleNamespace(**offered)),
        Tokenizer(vocabulary, profile),
        _whole(wire, said, "context", least=2),
        _whole(wire, {"parameters": 0, **said}, "parameters", least=0),
        guessed,
    )


def _texts(wire: WireConnection, said: Mapping[str, Any], name: str) -> list[str]:
    texts = said.get(name)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise wire.refuse("model", name)
    return texts


def _whole(wire: WireConnection, said: Mapping[str, Any], name: str, *, least: int) -> int:
    number = said.get(name)
    if type(number) is not int or not least <= number < 1 << 53:
        raise wire.refuse("model", name)
    return number


def _declared(wire: WireConnection, said: Mapping[str, Any]) -> ModelRef:
    """Check ``{"name", "digest"}``: a name of a reasonable length, and a sha256."""
    match said.get("declared_identity"):
        case {"name": str(name), "digest": str(digest)} if 0 < len(name) <= _LONGEST_NAME and re.fullmatch(
            "[0-9a-f]{64}", digest
        ):
            return ModelRef(name, digest, "declared", {})
    raise wire.refuse("model", "declared_identity")


class WireQuestions:
    """Everything one may ask over the wire: the methods of :mod:`primum.models.protocols`."""

    def __init__(self, wire: WireConnection, *, vocabulary_size: int, width: int) -> None:
        self._wire = wire
        self._vocabulary_size = vocabulary_size
        self._width = width

    def log_probs(self, tokens: TokenBatch) -> list[FloatArray]:
        """Return natural log p of each token after the first; see :class:`primum.models.protocols.Scorer`."""

        def parse(place: int, line: Mapping[str, Any]) -> FloatArray:
            (values,) = self._fields("log_probs", line, "log_probs")
            return self._numbers("log_probs", values, int(tokens.lengths[place]) - 1, high=0.0)

        answers = self._wire.ask("log_probs", tokens, {}, numbers=lambda length: length, parse=parse)
        return [answers[place] if place in answers else np.empty(0) for place in range(len(tokens))]

    def token_scores(self, tokens: TokenBatch) -> list[TokenScores]:
        """Return log p with the moments of its distribution, one entry a patient."""

        def parse(place: int, line: Mapping[str, Any]) -> TokenScores:
            log_probs, means, deviations = self._fields("token_scores", line, *TokenScores._fields)
            count = int(tokens.lengths[place]) - 1
            return TokenScores(
                self._numbers("token_scores", log_probs, count, high=0.0),
                self._numbers("token_scores", means, count, high=0.0),
                self._numbers("token_scores", deviations, count, low=0.0),
            )

        answers = self._wire.ask("token_scores", tokens, {}, numbers=lambda length: 3 * length, parse=parse)
        nothing = TokenScores(np.empty(0), np.empty(0), np.empty(0))
        return [answers.get(place, nothing) for place in range(len(tokens))]

    def log_masses(self, tokens: TokenBatch, groups: BoolArray) -> list[FloatArray]:
        """Return the log probability of each group after each token, shape (n_tokens, groups) a patient."""

        def parse(place: int, line: Mapping[str, Any]) -> FloatArray:
            (rows,) = self._fields("log_masses", line, "log_masses")
            shape = (int(tokens.lengths[place]), len(groups))
            if not isinstance(rows, list) or not all(
                isinstance(row, list) and len(row) == shape[1] for row in rows
            ):
                raise self._wire.refuse("log_masses", "log_masses")
            flat = [value for row in rows for value in row]
            impossible = np.array([value is None for value in flat], np.bool_)
            known = [0.0 if value is None else value for value in flat]
            masses = self._numbers("log_masses", known, shape[0] * shape[1], high=_ROUNDING)
            masses[impossible] = -np.inf
            return masses.reshape(shape)

        asked = {"groups": [np.flatnonzero(group).tolist() for group in groups]}
        answers = self._wire.ask(
            "log_masses", tokens, asked, numbers=lambda length: length * (len(groups) + 1), parse=parse
        )
        return [answers.get(place, np.empty((0, len(groups)))) for place in range(len(tokens))]

    def embed(self, tokens: TokenBatch) -> FloatArray:
        """Return one vector a patient, shape (n, width); NaN where a history has no token."""

        def parse(place: int, line: Mapping[str, Any]) -> FloatArray:
            (values,) = self._fields("embed", line, "embedding")
            return self._numbers("embed", values, self._width)

        answers = self._wire.ask("embed", tokens, {}, numbers=lambda length: self._width, parse=parse)
        result = np.full((len(tokens), self._width), np.nan)
        for place, values in answers.items():
            result[place] = values
        return result

    def continue_from(
        self, prompts: TokenBatch, *, samples: int, max_tokens: int, sampling: Sampling, seed: int
    ) -> Iterator[TokenBatch]:
        """Draw continuations of every prompt; see :class:`primum.models.protocols.Generator`."""

        def parse(place: int, line: Mapping[str, Any]) -> list[list[int]]:
            (drawn,) = self._fields("continue_from", line, "samples")
            if not isinstance(drawn, list) or len(drawn) != samples:
                raise self._wire.refuse("continue_from", "samples")
            for text in drawn:
                if not isinstance(text, list) or len(text) > max_tokens or not all(map(self._is_token, text)):
                    raise self._wire.refuse("continue_from", "samples")
                if not set(sampling.stop).isdisjoint(text):
                    raise self._wire.refuse("continue_from", "stop")
            return drawn

        answers = self._wire.ask(
            "continue_from",
            prompts,
            {"samples": samples, "max_tokens": max_tokens, "sampling": asdict(sampling), "seed": seed},
            numbers=lambda length: samples * (max_tokens + 1),
            parse=parse,
        )
        unprompted: list[list[int]] = [[]] * samples
        drawn = [answers.get(place, unprompted) for place in range(len(prompts))]
        return (_sample(prompts, [texts[sample] for texts in drawn]) for sample in range(samples))

    def _fields(self, question: str, line: Mapping[str, Any], *names: str) -> list[Any]:
        """Take the fields of an answer, all of them and no other."""
        if set(line) != set(names):
            raise self._wire.refuse(question, ", ".join(names))
        return [line[name] for name in names]

    def _numbers(
        self, question: str, values: Any, count: int, *, low: float = -np.inf, high: float = np.inf
    ) -> FloatArray:
        """Check that there are `count` finite numbers between bounds."""
        if isinstance(values, list) and len(values) == count and set(map(type, values)) <= {int, float}:
            try:
                numbers = np.array(values, np.float64)
            except OverflowError:
                numbers = np.full(count, np.inf)
            if np.isfinite(numbers).all() and (low <= numbers).all() and (numbers <= high).all():
                return numbers
        raise self._wire.refuse(question, "numbers")

    def _is_token(self, token: object) -> bool:
        return type(token) is int and 0 <= token < self._vocabulary_size


def _sample(prompts: TokenBatch, texts: list[list[int]]) -> TokenBatch:
    lengths: IntArray = np.array([len(text) for text in texts], np.int64)
    total = int(lengths.sum())
    return TokenBatch(
        prompts.subject_ids,
        offsets_of(lengths),
        np.array([token for text in texts for token in text], np.int64),
        np.full(total, Kind.CLINICAL, np.uint8),
        np.full(total, -1),
        prompts.vocabulary_size,
    )

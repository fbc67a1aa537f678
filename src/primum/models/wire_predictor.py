"""The wire door of a classifier: inputs go to its server as they are stored; see docs/classifiers.md."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from primum.errors import ModelError
from primum.evidence.identity import ModelRef
from primum.models.checked_predictor import CheckedPredictor
from primum.models.classifier_card import DTYPES, KINDS, InputCard, Output
from primum.models.opened import OpenedClassifier
from primum.models.wire_address import server_at
from primum.models.wire_connection import LINES_A_REQUEST, WireConnection
from primum.records.cases import Cases
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray
from primum.records.tokens import TokenBatch

PREDICTOR, EMBEDDER = "Predictor", "CaseEmbedder"
_BYTES_A_REQUEST = 1 << 24
_MOST_CLASSES, _LONGEST_NAME = 1 << 20, 200


def offers_predictions(url: str, *, token_file: Path | None = None) -> bool:
    """Ask a server whether its model is a classifier.

    Raises
    ------
    InputError, ModelError, MachineError
        See :func:`open_predictor`.
    """
    said = WireConnection(server_at(url, token_file=token_file)).describe()
    protocols = said.get("protocols") if isinstance(said, dict) else None
    return isinstance(protocols, list) and PREDICTOR in protocols


def open_predictor(url: str, *, token_file: Path | None = None) -> OpenedClassifier:
    """Open the classifier that a server offers; its identity is what the server declares.

    Raises
    ------
    InputError
        An address or a token that cannot be used, or that the server refuses.
    ModelError
        A server that does not speak the wire, or offers no predictions.
    MachineError
        The server does not answer.
    """
    wire = WireConnection(server_at(url, token_file=token_file))
    said = wire.describe()
    if not isinstance(said, dict):
        raise wire.refuse("model", "JSON")
    protocols, classes = said.get("protocols"), said.get("classes")
    if not isinstance(protocols, list) or PREDICTOR not in protocols:
        raise wire.refuse("model", "protocols")
    if (
        not isinstance(classes, list)
        or not 2 <= len(classes) <= _MOST_CLASSES
        or not all(isinstance(name, str) and name for name in classes)
        or len(set(classes)) < len(classes)
    ):
        raise wire.refuse("model", "classes")
    output: Output = said.get("output", "probabilities")
    if output not in get_args(Output):
        raise wire.refuse("model", "output")
    width = said.get("width") if EMBEDDER in protocols else 1
    if type(width) is not int or not 1 <= width <= _MOST_CLASSES:
        raise wire.refuse("model", "width")
    asked = _Asked(wire, _taken(wire, said.get("input", {})))
    predictor = CheckedPredictor(
        tuple(classes),
        output,
        partial(asked.rows, "predict", output, len(classes)),
        vectors=partial(asked.rows, "embed", "embedding", width) if EMBEDDER in protocols else None,
    )
    parameters = said.get("parameters", 0)
    if type(parameters) is not int or not 0 <= parameters < 1 << 53:
        raise wire.refuse("model", "parameters")
    return OpenedClassifier(_declared(wire, said.get("declared_identity")), predictor, parameters)


@dataclass(frozen=True, eq=False)
class _Asked:
    """Questions to a server about inputs."""

    wire: WireConnection
    taken: InputCard

    def rows(self, question: str, field: str, count: int, cases: Cases) -> FloatArray:
        """Ask for `count` numbers a case."""

        def parse(place: int, said: Mapping[str, Any]) -> list[float]:
            values = said.get(field)
            if (
                set(said) != {field}
                or not isinstance(values, list)
                or len(values) != count
                or not {*map(type, values)} <= {int, float}
            ):
                raise self.wire.refuse(question, field)
            return values

        rows: list[list[float]] = []
        for inputs in self._requests(cases):
            asked = cast(TokenBatch, _Inputs(inputs))
            answers = self.wire.ask(question, asked, {}, numbers=lambda _: count, parse=parse)
            rows += (answers[place] for place in range(len(inputs)))
        try:
            return np.array(rows, np.float64)
        except OverflowError as error:
            raise self.wire.refuse(question, field) from error

    def _requests(self, cases: Cases) -> list[list[NDArray[Any]]]:
        """Share the inputs out among requests of few lines and few bytes, once all are seen to fit."""
        requests: list[list[NDArray[Any]]] = []
        room = 0
        for place in range(len(cases)):
            one = np.asarray(cases.inputs[place])
            self.taken.require(one.shape, one.dtype)
            if one.dtype.name not in DTYPES and one.dtype != np.bool_:
                raise ModelError(
                    "The wire carries no inputs of type {dtype}: convert them to one of {known}.",
                    dtype=str(one.dtype),
                    known=", ".join(DTYPES),
                )
            if not requests or len(requests[-1]) == LINES_A_REQUEST or one.nbytes > room:
                requests.append([])
                room = _BYTES_A_REQUEST
            requests[-1].append(one)
            room -= one.nbytes
        return requests


@dataclass(frozen=True, eq=False)
class _Inputs:
    """Inputs in the place of the histories that a connection sends."""

    inputs: list[NDArray[Any]]

    @property
    def lengths(self) -> IntArray:
        return np.ones(len(self.inputs), np.int64)

    def tokens_of(self, place: int) -> "_Written":
        return _Written(self.inputs[place])


@dataclass(frozen=True, eq=False)
class _Written:
    values: NDArray[Any]

    def tolist(self) -> dict[str, object]:
        """Write the array as JSON can hold it, its bytes little-endian."""
        one = self.values.astype(self.values.dtype.newbyteorder("<"), order="C")
        data = base64.b64encode(one.tobytes()).decode("ascii")
        return {"dtype": one.dtype.name, "shape": list(one.shape), "data": data}


def _taken(wire: WireConnection, said: Any) -> InputCard:
    """Read what the server takes: a kind, and a shape with 0 for any size; it prepares inputs itself."""
    if isinstance(said, dict):
        kind, shape = said.get("kind"), said.get("shape")
        shaped = shape is None or (
            isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
        )
        if shaped and (kind is None or (isinstance(kind, str) and kind in KINDS)):
            return InputCard(kind=kind, shape=None if shape is None else tuple(shape))
    raise wire.refuse("model", "input")


def _declared(wire: WireConnection, said: Any) -> ModelRef:
    match said:
        case {"name": str(name), "digest": str(digest)} if 0 < len(name) <= _LONGEST_NAME and re.fullmatch(
            "[0-9a-f]{64}", digest
        ):
            return ModelRef(name, digest, "declared", {})
    raise wire.refuse("model", "declared_identity")

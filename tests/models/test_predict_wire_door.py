"""The wire's predictions against servers that misbehave, all on real sockets."""

import base64
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conformance.classifiers import CLASSES, cases_of, served, write
from tests.models.peers import Lines, Turn, peer, reply, written

from primum.errors import InputError, MachineError, ModelError
from primum.models import wire_connection, wire_predictor
from primum.models.classifier_doors import is_classifier, open_classifier
from primum.models.predictors import CaseEmbedder, Differentiable
from primum.records.cases import Cases

DESCRIPTION: dict[str, Any] = {
    "protocols": ["Predictor", "Unheard"],
    "classes": ["well", "ill"],
    "declared_identity": {"name": "peer", "digest": "ab" * 32},
    "input": {"kind": "table", "shape": [3]},
}
PLACES = np.arange(150)
TABLE = np.random.default_rng(0).integers(0, 100, (150, 3)) / 7
CASES = Cases(PLACES + 90071992547, PLACES + 90071992547, TABLE, PLACES % 2)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(wire_connection, "_PAUSES", (0.0, 0.0, 0.0))
    yield


def values_of(line: dict[str, Any]) -> Any:
    given = line["input"]
    return np.frombuffer(base64.b64decode(given["data"]), given["dtype"]).reshape(given["shape"])


def probability(values: Any) -> float:
    return float(1 / (2 + values.sum()))


def lines_of(lines: Lines) -> list[dict[str, Any]]:
    found = [(line["id"], probability(values_of(line))) for line in lines]
    return [{"id": place, "probabilities": [p, 1 - p]} for place, p in found]


def honest(handler: BaseHTTPRequestHandler, lines: Lines) -> None:
    reply(handler, written([*lines_of(lines), {"end": len(lines)}]))


def saying(line: dict[str, Any]) -> Turn:
    def turn(handler: BaseHTTPRequestHandler, lines: Lines) -> None:
        reply(handler, written([*({"id": one["id"], **line} for one in lines), {"end": len(lines)}]))

    return turn


def expected(cases: Cases) -> list[list[float]]:
    found = [probability(values) for values in cases.inputs]
    return [[p, 1 - p] for p in found]


def test_what_is_sent_and_what_comes_back() -> None:
    with peer(honest, description=DESCRIPTION) as heard:
        assert is_classifier(heard.url)
        opened = open_classifier(heard.url)
        found = opened.predictor.predict_proba(CASES)
        assert opened.predictor.logits(CASES) is None
    np.testing.assert_allclose(found, expected(CASES), rtol=1e-15)
    assert not isinstance(opened.predictor, CaseEmbedder | Differentiable)
    assert (opened.ref.name, opened.ref.digest, opened.ref.identity) == ("peer", "ab" * 32, "declared")
    assert [len(ids) for ids in heard.ids] == [64, 64, 22]
    assert heard.asked[0][0]["input"].keys() == {"dtype", "shape", "data"}
    np.testing.assert_array_equal(values_of(heard.asked[0][1]), TABLE[1])
    assert "90071992547" not in json.dumps(heard.asked)


@pytest.mark.parametrize("inputs", [np.zeros((2, 3), ">f4") + 2.5, np.ones((2, 6), np.uint8)[:, ::2]])
def test_bytes_are_little_endian_and_in_order(inputs: Any) -> None:
    with peer(honest, description=DESCRIPTION) as heard:
        open_classifier(heard.url).predictor.predict_proba(Cases(PLACES[:2], PLACES[:2], inputs, PLACES[:2]))
    np.testing.assert_array_equal(values_of(heard.asked[0][0]), inputs[0])


def test_requests_are_of_few_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_predictor, "_BYTES_A_REQUEST", 10 * 24)
    with peer(honest, description=DESCRIPTION) as heard:
        found = open_classifier(heard.url).predictor.predict_proba(CASES)
    np.testing.assert_allclose(found, expected(CASES), rtol=1e-15)
    assert [len(ids) for ids in heard.ids] == [10] * 15


def test_a_cut_reply_is_asked_for_again() -> None:
    def cut(handler: BaseHTTPRequestHandler, lines: Lines) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(1 << 16))
        handler.end_headers()
        handler.wfile.write(written(lines_of(lines[:5])))
        handler.close_connection = True

    with peer(cut, honest, description=DESCRIPTION) as heard:
        few = CASES.select(np.arange(8))
        np.testing.assert_allclose(
            open_classifier(heard.url).predictor.predict_proba(few), expected(few), rtol=1e-15
        )
    assert heard.ids == [[*range(8)], [5, 6, 7]]
    with peer(
        cut, *[lambda handler, _: reply(handler, b"", status=503)] * 9, description=DESCRIPTION
    ) as heard:
        model = open_classifier(heard.url).predictor
        with pytest.raises(MachineError, match="does not answer"):
            model.predict_proba(few)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ({"probabilities": [0.5]}, r"predict as the wire asks \(probabilities\)"),
        ({"probabilities": [0.5, "0.5"]}, "predict as the wire asks"),
        ({"probabilities": [0.5, True]}, "predict as the wire asks"),
        ({"probabilities": 0.5}, "predict as the wire asks"),
        ({"logits": [0.5, 0.5]}, "predict as the wire asks"),
        ({"probabilities": [0.5, 0.5], "more": 1}, "predict as the wire asks"),
        ({"probabilities": [10**400, 0]}, "predict as the wire asks"),
        ({"probabilities": [0.5, 0.6]}, "no probabilities"),
        ({"probabilities": [1e308, -1e308]}, "no probabilities"),
        ({"error": "PATIENT"}, "could not answer predict"),
        ({"probabilities": [0.5, 0.5], "text": "x" * 100_000}, "sends more than"),
    ],
)
def test_answers_that_cannot_be_used(line: dict[str, Any], sentence: str) -> None:
    served_so = peer(saying(line), description=DESCRIPTION)
    with served_so as heard, pytest.raises(ModelError, match=sentence) as caught:
        open_classifier(heard.url).predictor.predict_proba(CASES)
    assert "PATIENT" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"protocols": ["log_probs"]}, "protocols"),
        ({"protocols": "Predictor"}, "protocols"),
        ({"classes": ["one"]}, "classes"),
        ({"classes": ["a", "a"]}, "classes"),
        ({"classes": ["a", 3]}, "classes"),
        ({"classes": None}, "classes"),
        ({"output": "softmax"}, "output"),
        ({"output": ["logits"]}, "output"),
        ({"input": []}, "input"),
        ({"input": {"shape": [-1]}}, "input"),
        ({"input": {"shape": [True]}}, "input"),
        ({"input": {"kind": ["table"]}}, "input"),
        ({"protocols": ["Predictor", "CaseEmbedder"]}, "width"),
        ({"parameters": -1}, "parameters"),
        ({"declared_identity": {"name": "peer", "digest": "AB" * 32}}, "declared_identity"),
    ],
)
def test_descriptions_that_cannot_be_used(said: dict[str, Any], field: str) -> None:
    sentence = rf"model as the wire asks \({field}\)"
    served_so = peer(honest, description={**DESCRIPTION, **said})
    with served_so as heard, pytest.raises(ModelError, match=sentence):
        open_classifier(heard.url)


def test_inputs_that_the_server_does_not_take_are_never_sent() -> None:
    with peer(honest, description=DESCRIPTION) as heard:
        model = open_classifier(heard.url).predictor
        for inputs in (np.zeros((2, 4)), np.zeros((2, 3), np.complex128), np.zeros((2, 3), np.uint64)):
            with pytest.raises(ModelError, match=r"The model takes|The wire carries"):
                model.predict_proba(Cases(PLACES[:2], PLACES[:2], inputs, PLACES[:2]))
    assert heard.asked == []


def test_embeddings_and_logits() -> None:
    said = {"protocols": ["Predictor", "CaseEmbedder"], "width": 2, "output": "logits"}
    with peer(
        saying({"embedding": [1, 2]}), saying({"logits": [0, 800]}), description={**DESCRIPTION, **said}
    ) as heard:
        model: Any = open_classifier(heard.url).predictor
        few = CASES.select(np.arange(3))
        assert model.embed(few).tolist() == [[1, 2]] * 3
        assert model.logits(few).tolist() == [[0, 800]] * 3
    assert heard.requests[1:] == ["/v1/embed", "/v1/predict"]


def test_redirects_and_tokens(tmp_path: Path) -> None:
    def away(handler: BaseHTTPRequestHandler, lines: Lines) -> None:
        reply(handler, b"", status=302, Location="http://127.0.0.1:1/")

    served_so = peer(away, description=DESCRIPTION)
    with served_so as heard, pytest.raises(ModelError, match="which is not followed"):
        open_classifier(heard.url).predictor.predict_proba(CASES)
    folder = tmp_path / "model"
    write("onnx", "table", folder, cases_of("table"))
    with served(folder, tmp_path / "token") as url:
        with pytest.raises(InputError, match="refuses the token"):
            open_classifier(url)
        assert open_classifier(url, token_file=tmp_path / "token").predictor.classes == CLASSES
        with pytest.raises(InputError, match="--factory is for a folder"):
            open_classifier(url, factory="tests.conformance.classifiers:table")
    with pytest.raises(InputError, match="--token-file is for a model server"):
        open_classifier(folder, token_file=tmp_path / "token")

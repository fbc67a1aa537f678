"""Every door of a classifier goes through this suite, with cases of every kind that it takes."""

import pickle
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy.special import softmax
from tests.conformance.classifiers import CLASSES, SHAPES, by_hand, cases_of, through

from primum.errors import ModelError
from primum.models import checked_predictor
from primum.models.classifier_doors import open_classifier
from primum.models.opened import OpenedClassifier
from primum.models.predictors import CaseEmbedder, Differentiable, Predictor
from primum.records.cases import Cases

# A bag has no fixed number of columns, so that no estimator takes it.
PAIRS = [
    (door, kind)
    for door in ("torch", "onnx", "sklearn", "recorded", "wire")
    for kind in SHAPES
    if (door, kind) != ("sklearn", "bag")
]
close = partial(np.testing.assert_allclose, rtol=0, atol=1e-6)


class Pair(NamedTuple):
    door: str
    kind: str
    opened: OpenedClassifier
    cases: Cases

    @property
    def model(self) -> Any:
        return self.opened.predictor


@pytest.fixture(params=PAIRS, ids="-".join, scope="module")
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    door, kind = request.param
    cases = cases_of(kind)
    with through(door, kind, tmp_path_factory.mktemp(f"{door}-{kind}"), cases) as opened:
        yield Pair(door, kind, opened, cases)


def test_protocols(pair: Pair) -> None:
    assert isinstance(pair.model, Predictor)
    assert pair.model.classes == CLASSES
    assert isinstance(pair.model, Differentiable) == (pair.door == "torch" and pair.kind != "sequence")
    assert isinstance(pair.model, CaseEmbedder) == (pair.door in ("torch", "onnx"))
    assert pair.opened.ref.identity == ("declared" if pair.door in ("wire", "recorded") else "computed")
    assert (pair.opened.structure is not None) == (pair.door == "sklearn")


def test_every_door_says_what_the_network_says(pair: Pair) -> None:
    logits, vectors = by_hand(pair.kind, pair.cases)
    found = pair.model.logits(pair.cases)
    assert found.dtype == np.float64
    assert np.ptp(logits, axis=0).min() > 0.01
    close(found, logits)
    probabilities = pair.model.predict_proba(pair.cases)
    close(probabilities, softmax(logits, axis=1))
    close(probabilities.sum(1), 1, rtol=0, atol=1e-12)
    if isinstance(pair.model, CaseEmbedder):
        close(pair.model.embed(pair.cases), vectors, atol=2e-6)


def test_batches_change_nothing(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    together = pair.model.predict_proba(pair.cases)
    monkeypatch.setattr(checked_predictor, "_BYTES_A_BATCH", 1)
    close(pair.model.predict_proba(pair.cases), together)
    backwards = pair.cases.select(np.arange(len(pair.cases))[::-1])
    close(pair.model.predict_proba(backwards)[::-1], together)


def test_nobody(pair: Pair) -> None:
    nobody = pair.cases.select(np.empty(0, np.int64))
    assert pair.model.predict_proba(nobody).shape == (0, len(CLASSES))
    assert pair.model.logits(nobody).shape == (0, len(CLASSES))


def test_a_copy_in_another_process_answers_alike(pair: Pair) -> None:
    copy = pickle.loads(pickle.dumps(pair.opened)).predictor
    np.testing.assert_array_equal(copy.predict_proba(pair.cases), pair.model.predict_proba(pair.cases))


def test_another_shape_is_refused(pair: Pair) -> None:
    if pair.door == "recorded":
        return
    places = np.arange(2)
    for inputs in (np.zeros((2, *(size + 1 for size in SHAPES[pair.kind]))), np.zeros((2, 1, 1, 1, 1, 1))):
        with pytest.raises(ModelError, match=r"takes inputs of|does not take|refuses"):
            pair.model.predict_proba(Cases(places, places, inputs, places))


def test_inputs_that_are_no_numbers_are_refused(pair: Pair) -> None:
    if pair.door == "recorded":
        return
    places = np.arange(2)
    texts = np.full((2, *(max(size, 1) for size in SHAPES[pair.kind])), "PATIENT")
    with pytest.raises(ModelError, match="takes numbers, not <U7") as caught:
        pair.model.predict_proba(Cases(places, places, texts, places))
    assert "PATIENT" not in str(caught.value)


def test_the_digest_is_that_of_every_file(tmp_path: Path) -> None:
    cases = cases_of("table")
    for door in ("torch", "onnx", "sklearn", "recorded"):
        folder = tmp_path / door
        with through(door, "table", folder, cases) as opened:
            before = opened.ref
        assert before.files.keys() >= {file.name for file in folder.iterdir()}
        with (folder / "classifier.toml").open("a") as card:
            card.write("# another\n")
        factory = "tests.conformance.classifiers:table" if door == "torch" else None
        assert open_classifier(folder, factory=factory).ref.digest != before.digest

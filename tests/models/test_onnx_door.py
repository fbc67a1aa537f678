"""The ONNX door: what graphs may be, what their files may be, and what their output can only be."""

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.conformance.classifiers import CLASSES, by_hand, cases_of, graph_of

from primum.errors import InputError, ModelError
from primum.models.classifier_doors import open_classifier
from primum.models.onnx_door import OnnxGraph
from primum.records.cases import Cases


def small(operation: str, *, output: str = "answer", kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """One operation on rows of three numbers."""
    graph = helper.make_graph(
        [helper.make_node(operation, ["given"], [output])],
        "small",
        [helper.make_tensor_value_info("given", kind, ["n", 3])],
        [helper.make_tensor_value_info(output, kind, ["n", 3])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def rows(values: Any) -> Cases:
    inputs = np.asarray(values)
    places = np.arange(len(inputs))
    return Cases(places, places, inputs, np.zeros_like(places))


def external(folder: Path, location: str) -> None:
    """Save the network with its weights in a file at `location`, as the graph has it."""
    onnx.save(
        graph_of("image"),
        folder / "model.onnx",
        save_as_external_data=True,
        location="weights.data",
        size_threshold=0,
    )
    graph = onnx.load(folder / "model.onnx", load_external_data=False)
    for tensor in graph.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    (folder / "model.onnx").write_bytes(graph.SerializeToString())


@pytest.mark.parametrize(
    ("operation", "output", "logits"),
    [
        ("Softmax", "answer", False),
        ("LogSoftmax", "answer", True),
        ("Identity", "logits", True),
        ("Softmax", "probabilities", False),
    ],
)
def test_output_that_can_only_be_one_thing(tmp_path: Path, operation: str, output: str, logits: bool) -> None:
    onnx.save(small(operation, output=output), tmp_path / "model.onnx")
    model = open_classifier(tmp_path).predictor
    values = np.array([[0.5, 1.5, -2.0], [3.0, 0.0, 0.0]])
    expected = np.exp(values) / np.exp(values).sum(1, keepdims=True)
    assert model.classes == ("0", "1", "2")
    assert (model.logits(rows(values)) is not None) == logits
    np.testing.assert_allclose(model.predict_proba(rows(values)), expected, atol=1e-6)


def test_output_that_may_be_either_is_refused(tmp_path: Path) -> None:
    onnx.save(small("Identity"), tmp_path / "model.onnx")
    with pytest.raises(ModelError, match='write output = "logits" or output = "probabilities"'):
        open_classifier(tmp_path)
    (tmp_path / "classifier.toml").write_text('output = "probabilities"')
    with pytest.raises(ModelError, match=r'no probabilities .* write output = "logits"'):
        open_classifier(tmp_path).predictor.predict_proba(rows([[3.0, 4.0, 5.0]]))


def test_external_data_are_part_of_the_model(tmp_path: Path) -> None:
    external(tmp_path, "weights.data")
    (tmp_path / "classifier.toml").write_text("[input]\nmean = [0.3]\nstd = [0.5]")
    opened = open_classifier(tmp_path)
    assert opened.ref.files.keys() == {"classifier.toml", "model.onnx", "weights.data"}
    cases = cases_of("image")
    found = opened.predictor.logits(cases)
    assert found is not None
    np.testing.assert_allclose(found, by_hand("image", cases)[0], atol=1e-5)


@pytest.mark.parametrize("location", ["../weights.data", "/etc/passwd", "a/../../weights.data", "link.data"])
def test_external_data_stay_inside(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    external(folder, location)
    shutil.copy(folder / "weights.data", tmp_path / "weights.data")
    (folder / "link.data").symlink_to(tmp_path / "weights.data")
    with pytest.raises(ModelError, match="is missing, a link or outside the model folder"):
        open_classifier(folder)


def test_external_data_behind_a_linked_folder(tmp_path: Path) -> None:
    folder, other = tmp_path / "model", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    external(folder, "inner/weights.data")
    shutil.copy(folder / "weights.data", other / "weights.data")
    (folder / "inner").symlink_to(other)
    with pytest.raises(ModelError, match="is missing, a link or outside the model folder"):
        open_classifier(folder)


def test_external_data_of_an_inner_graph(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "inner")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    model = small("Softmax")
    model.graph.node.append(helper.make_node("Constant", [], ["unused"], value=tensor))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="/etc/passwd is missing, a link or outside"):
        open_classifier(tmp_path)


def test_one_case_at_a_time_where_the_graph_says_so(tmp_path: Path) -> None:
    onnx.save(graph_of("table", batch=1), tmp_path / "model.onnx")
    cases = cases_of("table")
    found = open_classifier(tmp_path).predictor.logits(cases)
    assert found is not None
    np.testing.assert_allclose(found, by_hand("table", cases)[0], atol=1e-5)
    onnx.save(graph_of("table", batch=4), tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="takes exactly 4 cases at once"):
        open_classifier(tmp_path)


def test_graphs_that_are_no_classifier(tmp_path: Path) -> None:
    two = small("Softmax")
    two.graph.node.append(helper.make_node("Identity", ["given"], ["other"]))
    two.graph.output.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, ["n", 3]))
    onnx.save(two, tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="has 2 outputs that may be its answer"):
        open_classifier(tmp_path)
    added = small("Softmax")
    added.graph.input.append(helper.make_tensor_value_info("age", TensorProto.FLOAT, ["n", 3]))
    onnx.save(added, tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="must have one input of numbers"):
        open_classifier(tmp_path)
    unknown = small("Softmax")
    unknown.graph.node[0].domain = "nobody.knows"
    onnx.save(unknown, tmp_path / "model.onnx", format="protobuf")
    with pytest.raises(ModelError, match="no graph that ONNX Runtime knows"):
        open_classifier(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"PK\x03\x04" + bytes(50)])
def test_broken_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.onnx is truncated"):
        open_classifier(tmp_path)


def test_mutated_files_give_one_sentence(tmp_path: Path) -> None:
    whole, random = graph_of("table").SerializeToString(), np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        content = np.frombuffer(whole, np.uint8).copy()
        content[random.integers(0, len(content), 3)] = random.integers(0, 256, 3)
        (tmp_path / "model.onnx").write_bytes(content[: random.integers(1, len(content) + 200)].tobytes())
        try:
            open_classifier(tmp_path).predictor.predict_proba(cases_of("table", count=2))
        except ModelError:
            refused += 1
    assert refused > 20


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.save(small("Softmax"), tmp_path / "model.onnx")
    monkeypatch.setattr("primum.models.classifier_files._MOST_BYTES", 50)
    with pytest.raises(ModelError, match="a model of more than 50 bytes"):
        open_classifier(tmp_path)


def test_nothing_of_an_input_is_written(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    onnx.save(graph_of("table"), tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="does not take inputs of shape"):
        open_classifier(tmp_path).predictor.predict_proba(rows(np.full((2, 7), 4242.5)))
    assert capfd.readouterr() == ("", "")


def test_threads_are_those_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.save(graph_of("table"), tmp_path / "model.onnx")
    for said, threads in (("3", 3), ("many", 1), (None, 1)):
        if said is None:
            monkeypatch.delenv("OMP_NUM_THREADS")
        else:
            monkeypatch.setenv("OMP_NUM_THREADS", said)
        graph = OnnxGraph({"model.onnx": (tmp_path / "model.onnx").read_bytes()}, tmp_path)
        assert graph._session.get_session_options().intra_op_num_threads == threads


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_a_missing_library_is_named(tmp_path: Path, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.save(graph_of("table"), tmp_path / "model.onnx")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InputError, match=r"install primum\[onnx\]"):
        open_classifier(tmp_path)


def test_parameters_are_counted(tmp_path: Path) -> None:
    onnx.save(graph_of("table"), tmp_path / "model.onnx")
    assert open_classifier(tmp_path).parameters == 6 * 5 + 5 + 5 * len(CLASSES) + len(CLASSES)

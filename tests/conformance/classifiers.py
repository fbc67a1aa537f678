"""One small network behind every door of a classifier, and cases of every kind for it."""

import runpy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import skops.io
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from sklearn.neural_network import MLPClassifier

from primum.models.classifier_card import CARD, Card, InputCard, card_text
from primum.models.classifier_doors import open_classifier
from primum.models.opened import OpenedClassifier
from primum.records.cases import Cases
from primum.records.histories import FloatArray

CLASSES = ("none", "mild", "severe")
HIDDEN, COUNT, SECRET = 5, 12, "a-long-secret"
SERVER = Path(__file__).resolve().parents[2] / "examples" / "predict_server.py"
SHAPES: dict[str, tuple[int, ...]] = {
    "image": (1, 8, 8),
    "volume": (1, 4, 6, 4),
    "signal": (12, 20),
    "table": (6,),
    "sequence": (30,),
    "bag": (0, 1, 4, 4),
}
CENTRES = {"image": (0.3, 0.5), "sequence": (70.0, 10.0)}
LETTERS = np.frombuffer(b"ACGT", np.uint8)


class Network(torch.nn.Module):
    """Two linear layers over all the numbers of a case, of a bag over the mean of its tiles."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.bag = kind == "bag"
        width = int(np.prod(SHAPES[kind][self.bag :]))
        self.hidden, self.last = torch.nn.Linear(width, HIDDEN), torch.nn.Linear(HIDDEN, len(CLASSES))

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        rows = (given.mean(1) if self.bag else given).flatten(1)
        answer: torch.Tensor = self.last(torch.relu(self.hidden(rows)))
        return answer


image, volume, signal = (partial(Network, kind) for kind in ("image", "volume", "signal"))
table, sequence, bag = (partial(Network, kind) for kind in ("table", "sequence", "bag"))


def trained(kind: str) -> Network:
    """Weights that say something else of each case."""
    network, random = Network(kind), torch.Generator().manual_seed(4)
    for weights in network.parameters():
        weights.data.normal_(0, 0.5 / weights.shape[-1] ** 0.5, generator=random)
    return network.eval()


def card_of(kind: str) -> Card:
    mean, std = CENTRES.get(kind, (0.0, 1.0))
    taken = InputCard(kind=kind, shape=SHAPES[kind], mean=(mean,), std=(std,), dtype="float32")
    return Card(CLASSES, "logits", taken)


def cases_of(kind: str, *, count: int = COUNT, seed: int = 0) -> Cases:
    random, shape = np.random.default_rng(seed), SHAPES[kind]
    inputs: Any
    if kind == "bag":
        inputs = tuple(
            random.integers(0, 256, (tiles, *shape[1:]), np.uint8) for tiles in random.integers(1, 9, count)
        )
    elif kind == "sequence":
        inputs = LETTERS[random.integers(0, 4, (count, *shape))]
    elif kind in ("image", "volume"):
        inputs = random.integers(0, 256, (count, *shape), np.uint8)
    else:
        inputs = random.normal(size=(count, *shape))
    places = np.arange(count)
    return Cases(places, places // 2, inputs, places % len(CLASSES))


def by_hand(kind: str, cases: Cases) -> tuple[FloatArray, FloatArray]:
    """Logits and hidden vectors of each case alone, in float64, by the definition."""
    network = trained(kind).double()
    logits, vectors = [], []
    for one in cases.inputs:
        given: NDArray[Any] = one.astype(np.float64)
        if one.dtype == np.uint8 and kind != "sequence":
            given = given / 255
        mean, std = CENTRES.get(kind, (0.0, 1.0))
        given = (given - mean) / std
        with torch.no_grad():
            rows = torch.from_numpy(given[None])
            rows = (rows.mean(1) if kind == "bag" else rows).flatten(1)
            vectors.append(torch.relu(network.hidden(rows))[0].numpy())
            logits.append(network(torch.from_numpy(given[None]))[0].numpy())
    return np.array(logits), np.array(vectors)


def graph_of(kind: str, *, output: str = "logits", batch: int | str = "n") -> onnx.ModelProto:
    """Write the network as a graph; `output` names what it gives."""
    weights = {name: one.numpy() for name, one in trained(kind).state_dict().items()}
    given, nodes = "given", []
    if kind == "bag":
        nodes.append(helper.make_node("ReduceMean", ["given", "tiles"], ["mean"], keepdims=0))
        given = "mean"
    nodes += [
        helper.make_node("Flatten", [given], ["flat"]),
        helper.make_node("Gemm", ["flat", "hidden.weight", "hidden.bias"], ["sums"], transB=1),
        helper.make_node("Relu", ["sums"], ["embeddings"]),
        helper.make_node("Gemm", ["embeddings", "last.weight", "last.bias"], [output], transB=1),
    ]
    shape = [batch, *("tiles" if size == 0 else size for size in SHAPES[kind])]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("given", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info(output, TensorProto.FLOAT, [batch, len(CLASSES)]),
            helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, [batch, HIDDEN]),
        ],
        [
            *(numpy_helper.from_array(values, name) for name, values in weights.items()),
            numpy_helper.from_array(np.array([1]), "tiles"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def estimator_of(kind: str) -> MLPClassifier:
    """Write the network as an estimator of scikit-learn."""
    weights = {name: one.numpy().astype(np.float64) for name, one in trained(kind).state_dict().items()}
    width = weights["hidden.weight"].shape[1]
    estimator = MLPClassifier((HIDDEN,), max_iter=1, solver="sgd", batch_size=3)
    estimator.partial_fit(np.zeros((3, width)), np.arange(3), classes=np.arange(3))
    estimator.coefs_ = [weights["hidden.weight"].T, weights["last.weight"].T]
    estimator.intercepts_ = [weights["hidden.bias"], weights["last.bias"]]
    return estimator


def write(door: str, kind: str, folder: Path, cases: Cases) -> None:
    """Write the network as the folder of a door; recorded answers are those about `cases`."""
    folder.mkdir(exist_ok=True)
    (folder / CARD).write_text(card_text(card_of(kind)), encoding="utf-8")
    if door == "onnx":
        onnx.save(graph_of(kind), folder / "model.onnx")
    elif door == "torch":
        save_file(trained(kind).state_dict(), folder / "model.safetensors")
    elif door == "sklearn":
        (folder / "model.skops").write_bytes(skops.io.dumps(estimator_of(kind)))
    else:
        logits = by_hand(kind, cases)[0]
        columns = {f"logit_{name}": logits[:, column] for column, name in enumerate(CLASSES)}
        pl.DataFrame({"case_id": cases.case_ids, **columns}).write_csv(folder / "predictions.csv")


@contextmanager
def served(folder: Path, token_file: Path) -> Iterator[str]:
    """Serve a folder with the reference server, write the token down and give the address."""
    token_file.write_text(f"{SECRET}\n", encoding="utf-8")
    server: ThreadingHTTPServer = runpy.run_path(str(SERVER))["serve"](folder, token=SECRET)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def through(door: str, kind: str, folder: Path, cases: Cases) -> Iterator[OpenedClassifier]:
    """Open the network through a door, and close it afterwards."""
    write("onnx" if door == "wire" else door, kind, folder, cases)
    if door == "wire":
        with served(folder, folder / "token") as url:
            yield open_classifier(url, token_file=folder / "token")
    else:
        factory = f"tests.conformance.classifiers:{kind}" if door == "torch" else None
        yield open_classifier(folder, factory=factory)

"""Valid classifiers behind every door that reads files, how each is asked, and what must hold of its answers.

Damage is that of :mod:`tests.fuzz.case_readers`; ``python -m tests.fuzz.classifier_readers 20000`` tries that
many; 1,500 run with the tests.
"""

import io
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from random import Random

import numpy as np
import onnx
import polars as pl
import skops.io
from onnx import TensorProto, helper
from safetensors.numpy import save_file
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tests.conformance.classifiers import CLASSES, card_of, cases_of, write
from tests.fuzz.case_readers import FORMATS, run
from tests.fuzz.corpus import SECRET, Files
from tests.fuzz.readers import Reader
from tests.records.case_builders import npz

from primum.evidence.identity import file_digest
from primum.models.classifier_card import card_text
from primum.models.classifier_doors import holds_scores_only, is_classifier, open_classifier
from primum.models.predictors import CaseEmbedder, Differentiable
from primum.models.recorded_predictions import read_score_matrix
from primum.records.patient_list import read_patients
from primum.train.adversarial import AdversarialSettings
from primum.train.receipt import Receipt, read_receipt
from primum.train.shards import MOST_PARTS, Stage, stage_name, weights_digest
from primum.workflows.checkpoints import Checkpoints
from primum.workflows.forgetting import StagesLeft, plan_again
from primum.workflows.learners import ModelOptions
from primum.workflows.training import STAGES, TrainingPlan

_OPERATIONS = (
    *("Identity", "Add", "MatMul", "Softmax", "Relu", "Reshape", "Expand", "Tile", "ConstantOfShape", "Loop"),
    *("If", "Range", "Pow", "Exp", "Log", "Div", "TopK", "Resize", "Cast", "Shape", "NoSuchOperation"),
)


def _folder(door: str, kind: str) -> Files:
    with tempfile.TemporaryDirectory() as folder:
        write(door, kind, Path(folder), cases_of(kind))
        return {file.name: file.read_bytes() for file in sorted(Path(folder).iterdir())}


def _onnx() -> tuple[Files, ...]:
    nodes = [
        helper.make_node("Reshape", ["given", "shape"], ["rows"]),
        helper.make_node("Gemm", ["rows", "weight"], ["raw"]),
        helper.make_node("Softmax", ["raw"], ["probabilities"]),
    ]
    weights = [
        helper.make_tensor("weight", TensorProto.FLOAT, (6, 3), [0.1] * 18),
        helper.make_tensor("shape", TensorProto.INT64, (2,), [-1, 6]),
    ]
    given = helper.make_tensor_value_info("given", TensorProto.FLOAT, ["n", 6])
    answer = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph(nodes, "small", [given], [answer], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    card = card_text(card_of("table")).replace("logits", "probabilities").encode()
    return (
        _folder("onnx", "table"),
        {"model.onnx": model.SerializeToString(), "classifier.toml": card},
    )


def graph(content: bytes, rng: Random) -> bytes:
    """Change what a graph of ONNX says: shapes, types, operations, names, versions."""
    model = onnx.load_from_string(content)
    graph, what = model.graph, rng.randrange(7)
    weight, node = rng.choice(graph.initializer), rng.choice(graph.node)
    if what == 0:
        weight.dims[rng.randrange(len(weight.dims))] = rng.choice((0, -1, 1, 7, 1 << 31, 1 << 62))
    elif what == 1:
        weight.data_type = rng.choice((0, 1, 2, 7, 8, 10, 11, 14, 16, 99))
    elif what == 2:
        node.op_type = rng.choice(_OPERATIONS)
    elif what == 3:
        node.input[rng.randrange(len(node.input))] = rng.choice((*node.output, "given", "weight", "", "x"))
    elif what == 4:
        shape = rng.choice((*graph.input, *graph.output)).type.tensor_type.shape
        shape.dim[rng.randrange(len(shape.dim))].dim_value = rng.choice((0, 1, 2, 7, -1, 1 << 40))
    elif what == 5:
        model.opset_import[0].version = rng.choice((0, 1, 7, 13, 21, 99, -1))
    else:
        weight.ClearField("raw_data")
        weight.int64_data[:] = [rng.choice((-2, -1, 0, 3, 1 << 20, 1 << 40)) for _ in range(2)]
    changed: bytes = model.SerializeToString()
    return changed


def _sklearn() -> tuple[Files, ...]:
    rows, labels = np.random.default_rng(0).random((30, 6)), np.arange(30) % 3
    estimators = (
        RandomForestClassifier(3, max_depth=3, random_state=0),
        make_pipeline(StandardScaler(), LogisticRegression()),
        KNeighborsClassifier(3),
    )
    card = card_text(card_of("table")).encode()
    return (
        _folder("sklearn", "table"),
        *(
            {"model.skops": skops.io.dumps(one.fit(rows, labels)), "classifier.toml": card}
            for one in estimators
        ),
    )


def _torch() -> tuple[Files, ...]:
    return (_folder("torch", "table"),)


def _recorded() -> tuple[Files, ...]:
    stream, cases = io.BytesIO(), cases_of("table")
    columns = {name: np.full(len(cases), 1 / 3) for name in CLASSES}
    pl.DataFrame({"case_id": cases.case_ids, **columns}).write_parquet(stream)
    return _folder("recorded", "table"), {"predictions.parquet": stream.getvalue()}


def _matrix() -> tuple[Files, ...]:
    rng = np.random.default_rng(1)
    inside = rng.random((4, 9)) < 0.5
    more = {"subject_id": np.arange(9), "label": np.arange(9) % 2, "target": np.array(1)}
    scores = rng.standard_normal((4, 9))
    return (
        {"score_matrix.npz": npz(True, scores=scores, inside=inside)},
        {"score_matrix.npz": npz(scores=scores, inside=inside, **more)},
    )


def _trained() -> tuple[Files, ...]:
    """What `primum train` leaves: weights, receipt, a stage; and a list of patients to forget."""
    weights, stage = {"weight": np.eye(3)}, {"weight": np.eye(3), "steps taken": np.array(7)}
    made = []
    for adversarial in (None, AdversarialSettings()):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            save_file(weights, folder / "model.safetensors")
            plan = TrainingPlan(folder, folder, ModelOptions("table", 8, 3, 8, 0.01), adversarial=adversarial)
            (folder / STAGES).mkdir()
            Checkpoints(folder / STAGES, STAGES).put(stage_name("a"), stage)
            Receipt(
                *("plain", file_digest(folder / "model.safetensors"), "a:b", None, {"patients": 9}),
                *(plan.described(), 0, 7, {"torch": "2"}, "2026-01-01T00:00:00+00:00"),
                stages=(asdict(Stage(0, 0, "a", 9, 7, False, weights_digest(stage))),),
            ).write(folder)
            (folder / "ids.txt").write_text(f"3\n{SECRET}\nsomebody-1\n\n")
            files = (file for file in folder.rglob("*") if file.is_file())
            made.append({str(file.relative_to(folder)): file.read_bytes() for file in files})
    return tuple(made)


def forget(path: Path) -> None:
    """Read all that forgetting does before it trains: nobody twice, and only stages of the receipt."""
    receipt, patients = read_receipt(path), read_patients(path / "ids.txt")
    assert (np.diff(patients) > 0).all() and len(receipt.digest()) == 64
    plan = plan_again(path, receipt, records=path, out=path, tokens=None)
    assert 1 <= plan.shards.shards * plan.shards.slices <= MOST_PARTS**2
    left = StagesLeft(Checkpoints(path / STAGES, STAGES), receipt)
    for stage in receipt.stages:
        found = left.get(stage_name(str(stage.get("key"))))
        assert found is None or weights_digest(found) == stage["weights"]


def ask(path: Path) -> None:
    """Ask a classifier for all it offers; its answers must be what their types say."""
    if holds_scores_only(path):
        found = read_score_matrix(path)
        assert found.matrix.scores.shape == found.matrix.inside.shape
        assert np.isfinite(found.matrix.scores).all()
        return
    assert is_classifier(path)
    factory = "tests.conformance.classifiers:table" if (path / "model.safetensors").exists() else None
    opened = open_classifier(path, factory=factory)
    cases = cases_of("table")
    answers = opened.predictor.predict_proba(cases)
    assert answers.shape == (len(cases), len(opened.predictor.classes))
    assert (answers >= 0).all() and np.allclose(answers.sum(axis=1), 1)
    if (logits := opened.predictor.logits(cases)) is not None:
        assert logits.shape == answers.shape and np.isfinite(logits).all()
    if isinstance(opened.predictor, CaseEmbedder):
        assert np.isfinite(opened.predictor.embed(cases)).all()
    if isinstance(opened.predictor, Differentiable):
        loss, gradient = opened.predictor.loss_and_gradient(cases, cases.labels)
        assert np.isfinite(loss).all() and np.isfinite(gradient).all()
    assert len(opened.ref.digest) == 64 and opened.parameters >= 0
    "".join(opened.predictor.classes).encode()


FORMATS[".onnx"] = graph
CLASSIFIER_READERS = (
    Reader("ONNX models", _onnx, ask, 4),
    # Half as many: each that comes so far is tried in a process of its own.
    Reader("skops models", _sklearn, ask, 2),
    Reader("torch models", _torch, ask, 2),
    Reader("recorded predictions", _recorded, ask, 2),
    Reader("score matrices", _matrix, ask, 2),
    Reader("trained models", _trained, forget, 2),
)


if __name__ == "__main__":
    run(CLASSIFIER_READERS, int(sys.argv[1]))

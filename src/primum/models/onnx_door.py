"""The ONNX door: a graph that ONNX Runtime computes on the processor; its data stay inside its folder."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primum.errors import InputError, ModelError
from primum.models.checked_predictor import CheckedPredictor, class_names, in_batches, output_of
from primum.models.classifier_card import CARD, Output, parse_card
from primum.models.classifier_files import read_files, ref_of
from primum.models.opened import OpenedClassifier

GRAPH, EMBEDDINGS = "model.onnx", "embeddings"
# What one output can only be: its own name says so, or the operation that makes it.
_NAMED: Mapping[str, Output] = {"logits": "logits", "probabilities": "probabilities"}
_MADE: Mapping[str, Output] = {"Softmax": "probabilities", "LogSoftmax": "logits"}
_DTYPES: Mapping[str, str] = {"float": "float32", "double": "float64"} | {
    name: name for name in ("float16", "int8", "int16", "int32", "int64", "uint8")
}


def open_onnx(path: Path) -> OpenedClassifier:
    """Open the graph in a folder; it embeds when it has an output named ``embeddings``.

    Threads are those of ``OMP_NUM_THREADS``, one when that is not set.

    Raises
    ------
    InputError
        ONNX Runtime is not installed.
    ModelError
        A graph that is broken, refers to files outside the folder, or whose output is not clear.
    """
    try:
        import onnx
    except ImportError as error:
        raise _not_installed() from error
    files = read_files(path, GRAPH, optional=(CARD,))
    try:
        graph = onnx.load_model_from_string(files[GRAPH])
    except Exception as error:  # protobuf raises its own kinds
        raise _broken(path) from error
    tensors = [one for one in _messages(graph) if isinstance(one, onnx.TensorProto)]
    places = {entry.value for one in tensors for entry in one.external_data if entry.key == "location"}
    files |= read_files(path, *sorted(places - {""}))
    card = parse_card(files.get(CARD, b""))
    model = OnnxGraph({name: content for name, content in files.items() if name != CARD}, path)
    output, guess = _answer(graph, model.outputs)
    card = card.taking(model.dtype)
    run = partial(in_batches, partial(model.run, output), card.input, most=model.most)
    vectors = partial(in_batches, partial(model.run, EMBEDDINGS), card.input, most=model.most)
    predictor = CheckedPredictor(
        class_names(card, model.columns(output)),
        output_of(card, guess),
        run,
        vectors=vectors if EMBEDDINGS in model.outputs else None,
    )
    weights = (one for one in graph.graph.initializer if one.data_type in _POINTED)
    parameters = sum(int(np.prod(one.dims, dtype=np.int64)) for one in weights)
    return OpenedClassifier(ref_of(path, files), predictor, parameters)


# float, float16, double, bfloat16 in the numbers of the format.
_POINTED = (1, 10, 11, 16)


class OnnxGraph:
    """A graph ready to run; a copy in another process loads the same bytes.

    Attributes
    ----------
    outputs : dict of str to list
        Shape of each output, None or a name for sizes that are free.
    dtype : str
        What the one input is.
    most : int or None
        Cases at once, where the graph fixes them at one; None: any number.
    """

    def __init__(self, files: Mapping[str, bytes], path: Path) -> None:
        self._files, self._path = files, path
        self._session = _session(files, path)
        self.outputs: dict[str, list[Any]] = {one.name: one.shape for one in self._session.get_outputs()}
        inputs = self._session.get_inputs()
        kind = inputs[0].type.removeprefix("tensor(").removesuffix(")") if inputs else ""
        if len(inputs) != 1 or kind not in _DTYPES or not inputs[0].shape:
            raise ModelError(
                "{path}: the graph must have one input of numbers: export it so.", path=str(path)
            )
        self._input, self.dtype = inputs[0].name, _DTYPES[kind]
        fixed = inputs[0].shape[0]
        if isinstance(fixed, int) and fixed > 1:
            raise ModelError(
                "{path}: the graph takes exactly {count} cases at once: export it with a free number.",
                path=str(path),
                count=fixed,
            )
        self.most = 1 if fixed == 1 else None

    def __reduce__(self) -> tuple[type["OnnxGraph"], tuple[Mapping[str, bytes], Path]]:
        return OnnxGraph, (self._files, self._path)

    def columns(self, output: str) -> int | None:
        """Return the last size of an output, where the graph fixes it."""
        shape = self.outputs[output]
        return shape[-1] if len(shape) > 1 and isinstance(shape[-1], int) else None

    def run(self, output: str, batch: NDArray[Any]) -> NDArray[Any]:
        """Compute one output of a batch."""
        (result,) = self._session.run([output], {self._input: batch})
        return np.asarray(result)


def _session(files: Mapping[str, bytes], path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise _not_installed() from error
    options = onnxruntime.SessionOptions()
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    options.intra_op_num_threads = int(threads) if threads.isdecimal() else 1
    options.inter_op_num_threads = 1
    # Fatal errors alone: what a refused model or input makes it write may hold values of a record.
    options.log_severity_level = 4
    onnxruntime.set_default_logger_severity(4)
    with tempfile.TemporaryDirectory(prefix="primum-model-") as private:
        for name, content in files.items():
            (Path(private) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(private) / name).write_bytes(content)
        try:
            # Without its fallback, which would print, and there is nothing to fall back on.
            return onnxruntime.InferenceSession(
                str(Path(private) / GRAPH), options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
        except Exception as error:  # kinds of its own, all for a graph that it cannot load
            raise _broken(path) from error


def _answer(model: Any, outputs: Mapping[str, list[Any]]) -> tuple[str, Output | None]:
    """Find the output that is the answer, and what it can only be."""
    named = [name for name in outputs if name in _NAMED]
    others = [name for name in outputs if name != EMBEDDINGS]
    found = named or others
    if len(found) != 1:
        raise ModelError(
            "model.onnx has {count} outputs that may be its answer: name one of them logits or "
            "probabilities.",
            count=len(found),
        )
    (name,) = found
    makers = [node.op_type for node in model.graph.node if name in node.output and not node.domain]
    guess = _NAMED.get(name) or (_MADE.get(makers[0]) if makers else None)
    return name, guess


def _messages(message: Any) -> Iterator[Any]:
    """Give a protobuf message and every one inside it: tensors stand in graphs, attributes and functions."""
    waiting = [message]
    while waiting:
        one = waiting.pop()
        yield one
        for field, value in one.ListFields():
            if field.message_type is not None:
                waiting += [value] if hasattr(value, "ListFields") else list(value)


def _broken(path: Path) -> ModelError:
    return ModelError(
        "{path}/model.onnx is truncated, or no graph that ONNX Runtime knows: export it again.",
        path=str(path),
    )


def _not_installed() -> InputError:
    return InputError("An ONNX model needs ONNX Runtime: install primum[onnx].")

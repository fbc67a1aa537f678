"""The one way to ask a classifier, whatever its door: what goes in and what comes out is checked."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from primum.errors import ModelError, PrimumError
from primum.models.classifier_card import Card, InputCard, Output
from primum.records.cases import Cases, Inputs
from primum.records.histories import FloatArray

Answer = Callable[[Cases], NDArray[Any]]
_BYTES_A_BATCH = 1 << 22
# How far the sum of probabilities may be from 1: a model of float32 or of four digits rounds so much.
_ROUNDING = 1e-4


class CheckedPredictor:
    """A classifier of which every answer is checked; it embeds only when `vectors` are given.

    Parameters
    ----------
    classes : tuple of str
    output : {"logits", "probabilities"}
    answer : callable
        From cases to one row each, as the model gives it.
    vectors : callable or None
        From cases to one vector each.

    Examples
    --------
    >>> row = np.array([[0.25]])
    >>> one = Cases(np.zeros(1, int), np.zeros(1, int), np.zeros((1, 3)), np.zeros(1, int))
    >>> CheckedPredictor(("well", "ill"), "probabilities", lambda cases: row).predict_proba(one).tolist()
    [[0.75, 0.25]]
    """

    def __init__(
        self, classes: tuple[str, ...], output: Output, answer: Answer, *, vectors: Answer | None = None
    ) -> None:
        self.classes = classes
        self._output = output
        self._answer = answer
        if vectors is not None:
            self.embed = partial(self._embed, vectors)

    def logits(self, cases: Cases) -> FloatArray | None:
        """Return what goes into the softmax; see :class:`primum.models.predictors.Predictor`."""
        if self._output == "probabilities":
            return None
        rows = self._rows(self._answer, cases)
        if rows.shape[1] == 1 and len(self.classes) == 2:
            rows = np.hstack([np.zeros_like(rows), rows])
        return self._one_a_class(rows)

    def predict_proba(self, cases: Cases) -> FloatArray:
        """Return probabilities; see :class:`primum.models.predictors.Predictor`."""
        logits = self.logits(cases)
        if logits is not None:
            result: FloatArray = softmax(logits, axis=1)
            return result
        rows = self._rows(self._answer, cases)
        if rows.shape[1] == 1 and len(self.classes) == 2:
            rows = np.hstack([1 - rows, rows])
        rows = self._one_a_class(rows)
        sums = rows.sum(1, keepdims=True)
        if (rows < 0).any() or (abs(sums - 1) > _ROUNDING).any():
            raise ModelError(
                "The model gives rows that are no probabilities (below 0, or with a sum that is not 1): if "
                'it gives logits, write output = "logits" in classifier.toml, else correct the model.'
            )
        result = rows / sums
        return result

    def _embed(self, vectors: Answer, cases: Cases) -> FloatArray:
        return self._rows(vectors, cases)

    def _rows(self, answer: Answer, cases: Cases) -> FloatArray:
        """Ask, and check that there is one row of finite numbers for each case."""
        if not len(cases):
            return np.empty((0, len(self.classes)))
        try:
            rows = np.asarray(answer(cases))
        except (PrimumError, MemoryError):
            raise
        except Exception as error:  # each library has its own kinds for an input that does not fit
            raise refused_input(cases.inputs) from error
        if rows.ndim == 1:
            rows = rows[:, None]
        if rows.ndim != 2 or len(rows) != len(cases) or rows.dtype.kind not in "biuf":
            raise ModelError(
                "The model answers {count} cases with an array of shape {shape} and type {dtype}: it must "
                "give one row of numbers for each case.",
                count=len(cases),
                shape=str(list(rows.shape)),
                dtype=str(rows.dtype),
            )
        numbers: FloatArray = rows.astype(np.float64)
        wrong = int((~np.isfinite(numbers)).any(1).sum())
        if wrong:
            raise ModelError(
                "The model answers {wrong} of {count} cases with NaN or infinity: correct the model, or fill "
                "what is missing in the inputs.",
                wrong=wrong,
                count=len(cases),
            )
        return numbers

    def _one_a_class(self, rows: FloatArray) -> FloatArray:
        if rows.shape[1] != len(self.classes):
            raise ModelError(
                "The model gives {found} numbers a case and has {wanted} classes: name as many classes in "
                "classifier.toml as it has.",
                found=rows.shape[1],
                wanted=len(self.classes),
            )
        return rows


def refused_input(inputs: Inputs) -> ModelError:
    """Say that the model failed on these inputs, by their shape and type alone."""
    return ModelError(
        "The model does not take inputs of shape {shape} and type {dtype}: say in classifier.toml what it "
        "takes (shape, layout, dtype), or give the cases that it was made for.",
        shape=str(list(inputs[0].shape)),
        dtype=str(inputs[0].dtype),
    )


def stored_batches(inputs: Inputs, *, most: int | None = None) -> Iterator[NDArray[Any]]:
    """Give the inputs as arrays of shape (rows, ...) of few bytes; inputs of many shapes one at a time."""
    if isinstance(inputs, tuple):
        yield from (np.asarray(one)[None] for one in inputs)
        return
    rows = min(at_once(inputs.shape[1:]), most or len(inputs))
    yield from (inputs[first : first + rows] for first in range(0, len(inputs), rows))


def at_once(shape: tuple[int, ...]) -> int:
    """Return how many inputs of a shape few bytes hold; once prepared, one byte becomes four or eight."""
    return max(1, _BYTES_A_BATCH // (8 * max(1, int(np.prod(shape)))))


def in_batches(
    run: Callable[[NDArray[Any]], NDArray[Any]],
    taken: InputCard,
    cases: Cases,
    *,
    most: int | None = None,
    as_stored: bool = False,
) -> NDArray[Any]:
    """Prepare the inputs of cases and run the model over them, a batch at a time.

    Parameters
    ----------
    run : callable
        From a prepared batch, shape (rows, ...), to one row each.
    taken : InputCard
    cases : Cases
        At least one.
    most : int or None
        Cases in a batch; None: as many as few bytes hold.
    as_stored : bool
        Whether `run` prepares the batch itself.
    """
    answers = []
    for batch in stored_batches(cases.inputs, most=most):
        taken.require(batch.shape[1:], batch.dtype)
        rows = np.asarray(run(batch if as_stored else taken.prepared(batch)))
        if rows.ndim == 0 or len(rows) != len(batch):
            raise refused_input(cases.inputs)
        answers.append(rows)
    return np.concatenate(answers)


def output_of(card: Card, guess: Output | None = None) -> Output:
    """Return what the model gives, as its card says or as it cannot but be.

    Raises
    ------
    ModelError
        Neither says it.
    """
    output = card.output or guess
    if output is None:
        raise ModelError(
            'What the model gives cannot be told from its file: write output = "logits" or output = '
            '"probabilities" in classifier.toml.'
        )
    return output


def class_names(card: Card, columns: int | None = None) -> tuple[str, ...]:
    """Return the names of the classes: those of the card, else numbers from 0 to those of the columns.

    Raises
    ------
    ModelError
        Nothing says how many there are.
    """
    if card.classes:
        return card.classes
    if columns is None:
        raise ModelError("The classes of the model are not known: name them in classifier.toml.")
    return tuple(str(name) for name in range(max(2, columns)))

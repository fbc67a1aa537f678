"""What one may ask of a classifier; a test that its model cannot answer is `not_applicable`."""

from typing import Protocol, runtime_checkable

from primum.records.cases import Cases
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray


@runtime_checkable
class Predictor(Protocol):
    """A classifier."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the columns."""
        ...

    def logits(self, cases: Cases) -> FloatArray | None:
        """Return what goes into the softmax, float64, shape (n, classes); None without logits.

        A model with one output gives two columns, 0 and its output.
        """
        ...

    def predict_proba(self, cases: Cases) -> FloatArray:
        """Return probabilities, float64, shape (n, classes), each row summing to 1.

        Raises
        ------
        ModelError
            The model gives NaN, or rows that are no probabilities, or does not take these inputs.
        """
        ...


@runtime_checkable
class CaseEmbedder(Protocol):
    """A classifier that shows what goes into its last linear layer."""

    def embed(self, cases: Cases) -> FloatArray:
        """Return one vector a case, float64, shape (n, width)."""
        ...


@runtime_checkable
class Differentiable(Protocol):
    """A classifier whose owner lets the gradient be seen."""

    def loss_and_gradient(self, cases: Cases, labels: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return the cross-entropy of each case, shape (n,), and its gradient, shape of the inputs, float64.

        The gradient is with respect to the inputs as they are stored in `cases`, before any scaling that the
        model's own card asks for; only for cases of one shape.
        """
        ...

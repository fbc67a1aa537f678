"""What one may ask of a model: a test asks ``isinstance(model, Scorer)``, else it is `not_applicable`."""

from typing import NamedTuple, Protocol, runtime_checkable

from primum.records.histories import FloatArray
from primum.records.tokens import TokenBatch


class TokenScores(NamedTuple):
    """Scores of the tokens of one patient after the first; each of shape (n_tokens - 1,).

    Entry j belongs to token j + 1: its natural log-probability, and the mean and standard deviation of the
    log-probability over the vocabulary under the model's own distribution at that place.
    """

    log_probs: FloatArray
    means: FloatArray
    deviations: FloatArray


@runtime_checkable
class Scorer(Protocol):
    """A model that says how probable each token of a history was."""

    def log_probs(self, tokens: TokenBatch) -> list[FloatArray]:
        """Return natural log p as float64, one array a patient, of shape (n_tokens - 1,)."""
        ...


@runtime_checkable
class DistributionScorer(Scorer, Protocol):
    """A scorer that also knows the whole distribution at each place, as Min-K%++ needs."""

    def token_scores(self, tokens: TokenBatch) -> list[TokenScores]:
        """Return log p with its mean and deviation over the vocabulary, from the same single pass."""
        ...

"""What one may ask of a model: a test asks ``isinstance(model, Scorer)``, else it is `not_applicable`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from primum.records.histories import FloatArray, TimeArray
from primum.records.ragged import IntArray
from primum.records.tokens import TokenBatch

BoolArray = NDArray[np.bool_]


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


@runtime_checkable
class MassScorer(Protocol):
    """A model that says how probable it is that the next token belongs to a group of tokens."""

    def log_masses(self, tokens: TokenBatch, groups: BoolArray) -> list[FloatArray]:
        """Return the natural log of the probability of each group after each token.

        Parameters
        ----------
        tokens : TokenBatch
        groups : bool, shape (groups, vocabulary)
            Which tokens each group holds; groups may overlap.

        Returns
        -------
        list of float64, each of shape (n_tokens, groups)
            Row j is about the token after token j, so that the last row is about what no record holds yet;
            0 means certain, -inf impossible (or a group without tokens). A history longer than the context
            is read in the windows of :meth:`Scorer.log_probs`: a group of the one token that came next has
            that token's log-probability.
        """
        ...


@runtime_checkable
class Embedder(Protocol):
    """A model that turns a history into one vector."""

    def embed(self, tokens: TokenBatch) -> FloatArray:
        """Return the last hidden state, after the final norm, at the last token of each patient.

        Returns
        -------
        float64, shape (n, width)
            Of a history longer than the context, only its last `context` tokens are read; an empty history
            gives NaN.
        """
        ...


@dataclass(frozen=True)
class Sampling:
    """How a continuation is drawn.

    Attributes
    ----------
    temperature : float
        Divides the logits: 1 draws from the model as it is, 0 always takes the most probable token.
    top_k : int or None
        Draw among the `top_k` most probable tokens (and those tied with the last of them); None among all.
    stop : tuple of int
        Token ids that end a continuation, and are no part of it.
    """

    temperature: float = 1.0
    top_k: int | None = None
    stop: tuple[int, ...] = ()


class Recording(NamedTuple):
    """Continuations that were drawn elsewhere.

    `shown`, shape (n,), says how many tokens of each history stood in the prompt, 0 where nothing was
    recorded; `samples` are as those of :meth:`Generator.continue_from`, empty where nothing was recorded.
    """

    shown: IntArray
    samples: list[TokenBatch]


@runtime_checkable
class Recorded(Protocol):
    """A model whose continuations were kept: neither prompts nor sampling can be chosen any more."""

    def recorded(self, tokens: TokenBatch, times: TimeArray) -> Recording:
        """Return what was kept for each of these whole histories.

        Parameters
        ----------
        tokens : TokenBatch
        times : datetime64[us], shape (tokens,)
            When the event of each token was; NaT for those of none and those without time.
        """
        ...


@runtime_checkable
class Generator(Protocol):
    """A model that writes on from the beginning of a history."""

    def continue_from(
        self, prompts: TokenBatch, *, samples: int, max_tokens: int, sampling: Sampling, seed: int
    ) -> Iterator[TokenBatch]:
        """Draw `samples` continuations of every prompt.

        Prompt number i draws from random numbers of its own, made from `seed` and i: the same seed gives the
        same continuations whatever the other prompts are, and asking for more samples adds to them.

        Returns
        -------
        iterator of TokenBatch
            Exactly `samples` batches; number s holds the s-th continuation of every prompt, in the order of
            the prompts. The prompt is not in it, nor the token that stopped it; the continuation of a prompt
            without tokens is empty. Token ids lie below the vocabulary size of the prompts. Every kind is
            CLINICAL and every event index -1: only the caller's tokenizer knows better.

        Raises
        ------
        ModelError
            A prompt too long for its continuation to fit in the context.
        """
        ...

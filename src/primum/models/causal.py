"""A causal language model of token sequences: one forward pass a window, whatever the length."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from primum.errors import ModelError
from primum.models.generation import continuations, not_finite
from primum.models.mixture import members_in
from primum.models.protocols import BoolArray, Sampling, TokenScores
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray, offsets_of
from primum.records.tokens import TokenBatch

# Small enough for the processor's cache (2.5 times faster than batches of 20,000 tokens), and the logits of
# one batch stay under 64 MB in float32: memory follows neither the cohort nor the vocabulary.
_TOKENS_A_BATCH = 1536
_LOGITS_A_BATCH = 1 << 24


class CausalModel:
    """A torch module that maps token ids (batch, length) to logits (batch, length, vocabulary).

    Histories longer than `context` are cut into windows that share one token, so that each token after the
    first is predicted exactly once. Batches are padded on the right, where a causal model cannot see.
    """

    def __init__(self, module: torch.nn.Module, *, context: int, vocabulary_size: int) -> None:
        self.module = module
        self.context = context
        self.vocabulary_size = vocabulary_size

    @property
    def parameters(self) -> int:
        """Number of trained numbers in the model."""
        return sum(parameter.numel() for parameter in self.module.parameters())

    def log_probs(self, tokens: TokenBatch) -> list[FloatArray]:
        """Return natural log p of each token after the first, one float64 array a patient."""
        flat = self._score(tokens, moments=False)
        return np.split(flat[0], offsets_of(_predicted(tokens))[1:-1]) if len(tokens) else []

    def token_scores(self, tokens: TokenBatch) -> list[TokenScores]:
        """Return log p with its mean and deviation over the vocabulary, one entry a patient."""
        flat = self._score(tokens, moments=True)
        cuts = offsets_of(_predicted(tokens))[1:-1]
        columns = [np.split(column, cuts) for column in flat]
        return [TokenScores(*row) for row in zip(*columns, strict=True)] if len(tokens) else []

    def log_masses(self, tokens: TokenBatch, groups: BoolArray) -> list[FloatArray]:
        """Return the log probability of each group after each token, shape (n_tokens, groups) a patient."""
        _check_ids(tokens, self.vocabulary_size)
        patient, start, length = windows(tokens.lengths, self.context)
        alone = np.flatnonzero(tokens.lengths == 1)
        patient, start = np.concatenate([patient, alone]), np.concatenate([start, np.zeros_like(alone)])
        length = np.concatenate([length, np.ones_like(alone)])
        target = tokens.offsets[patient] + start
        columns = [torch.from_numpy(np.flatnonzero(group)) for group in groups]
        result = np.empty((len(tokens.token_ids), len(groups)))
        self.module.eval()
        with torch.inference_mode():
            for rows in length_buckets(length, self._tokens_a_batch):
                ids = padded(tokens, patient[rows], start[rows], length[rows])
                log_p = torch.log_softmax(logits_of(self.module, torch.from_numpy(ids)).float(), dim=-1)
                masses = torch.stack([log_p[..., column].logsumexp(-1) for column in columns], -1).numpy()
                # Where two windows share a token, the second is written last and stays, as in the scores.
                for row, place in enumerate(rows):
                    result[target[place] : target[place] + length[place]] = masses[row, : length[place]]
        if np.isnan(result).any():
            raise not_finite()
        return np.split(result, tokens.offsets[1:-1]) if len(tokens) else []

    def embed(self, tokens: TokenBatch) -> FloatArray:
        """Return the last hidden state at the last token, shape (n, width); NaN where there is none."""
        _check_ids(tokens, self.vocabulary_size)
        module: Any = self.module.eval()
        length = np.minimum(tokens.lengths, self.context)
        width = module.config.hidden_size * members_in(module.config)
        result = np.full((len(tokens), width), np.nan)
        some = np.flatnonzero(length)
        with torch.inference_mode():
            for rows in length_buckets(length[some], _TOKENS_A_BATCH):
                patient = some[rows]
                last = length[patient]
                ids = torch.from_numpy(padded(tokens, patient, tokens.lengths[patient] - last, last))
                positions = torch.arange(ids.shape[1]).expand(ids.shape)
                answer = module.base_model(input_ids=ids, position_ids=positions, use_cache=False)
                result[patient] = answer.last_hidden_state[np.arange(len(rows)), last - 1].numpy()
        if not np.isfinite(result[some]).all():
            raise not_finite()
        return result

    def continue_from(
        self, prompts: TokenBatch, *, samples: int, max_tokens: int, sampling: Sampling, seed: int
    ) -> Iterator[TokenBatch]:
        """Draw `samples` continuations of every prompt; see :class:`primum.models.protocols.Generator`."""
        _check_ids(prompts, self.vocabulary_size)
        return continuations(
            self.module.eval(),
            prompts,
            context=self.context,
            samples=samples,
            max_tokens=max_tokens,
            sampling=sampling,
            seed=seed,
        )

    @property
    def _tokens_a_batch(self) -> int:
        return min(_TOKENS_A_BATCH, _LOGITS_A_BATCH // self.vocabulary_size)

    def _score(self, tokens: TokenBatch, *, moments: bool) -> FloatArray:
        """Score every window; shape (3 or 1, predicted tokens), in the order of the batch."""
        _check_ids(tokens, self.vocabulary_size)
        predicted = _predicted(tokens)
        result = np.empty((3 if moments else 1, int(predicted.sum())))
        first = offsets_of(predicted)[:-1]
        patient, start, length = windows(tokens.lengths, self.context)
        target = first[patient] + start
        self.module.eval()
        with torch.inference_mode():
            for rows in length_buckets(length, self._tokens_a_batch):
                ids = padded(tokens, patient[rows], start[rows], length[rows])
                scores = score_batch(self.module, torch.from_numpy(ids), moments=moments).numpy()
                for row, place in enumerate(rows):
                    count = length[place] - 1
                    result[:, target[place] : target[place] + count] = scores[:, row, :count]
        if not np.isfinite(result).all():
            raise not_finite()
        return result


def _predicted(tokens: TokenBatch) -> IntArray:
    return np.maximum(tokens.lengths - 1, 0)


def _check_ids(tokens: TokenBatch, vocabulary_size: int) -> None:
    if len(tokens.token_ids) and not 0 <= tokens.token_ids.min() <= tokens.token_ids.max() < vocabulary_size:
        raise ModelError(
            "The vocabulary has token ids that the model's embedding of {size} rows does not: give the "
            "vocab.json that the model was trained with.",
            size=vocabulary_size,
        )


def windows(lengths: IntArray, context: int) -> tuple[IntArray, IntArray, IntArray]:
    """Cut sequences into windows of at most `context` tokens that share one token with the next.

    Returns
    -------
    sequence, start, length : int64, shape (windows,)
        Windows of fewer than two tokens predict nothing and are left out.

    Examples
    --------
    >>> [column.tolist() for column in windows(np.array([5, 1, 3]), 3)]
    [[0, 0, 2], [0, 2, 0], [3, 3, 3]]
    """
    step = context - 1
    counts = np.maximum(-(-(lengths - 1) // step), 0)
    sequence = np.repeat(np.arange(len(lengths)), counts)
    start = (np.arange(len(sequence)) - np.repeat(offsets_of(counts)[:-1], counts)) * step
    return sequence, start, np.minimum(context, lengths[sequence] - start)


def length_buckets(lengths: IntArray, tokens_a_batch: int) -> Iterator[IntArray]:
    """Group windows of like length, so that padding is rare; yields positions, longest windows first."""
    order = np.argsort(-lengths, kind="stable")
    while len(order):
        count = max(1, tokens_a_batch // int(lengths[order[0]]))
        yield order[:count]
        order = order[count:]


def padded(tokens: TokenBatch, patient: IntArray, start: IntArray, length: IntArray) -> IntArray:
    """Return windows as a matrix, shape (windows, longest), padded on the right with token 0."""
    matrix = np.zeros((len(patient), int(length.max())), np.int64)
    inside = np.arange(matrix.shape[1]) < length[:, None]
    begin = tokens.offsets[patient] + start
    matrix[inside] = tokens.token_ids[(begin[:, None] + np.arange(matrix.shape[1]))[inside]]
    return matrix


def score_batch(module: torch.nn.Module, ids: torch.Tensor, *, moments: bool) -> torch.Tensor:
    """Score the tokens of `ids`, shape (batch, length), but the first; shape (1 or 3, batch, length - 1)."""
    log_p = torch.log_softmax(logits_of(module, ids)[:, :-1].float(), dim=-1)
    chosen = log_p.gather(2, ids[:, 1:, None])[..., 0]
    if not moments:
        return chosen[None].double()
    p = log_p.exp()
    # A probability of exactly 0 has log p = -inf; its share of the moments is 0, not NaN.
    weighted = torch.where(p > 0, p * log_p, 0.0)
    mean = weighted.sum(-1)
    variance = torch.where(p > 0, weighted * log_p, 0.0).sum(-1) - mean.square()
    return torch.stack([chosen, mean, variance.clamp(min=0).sqrt()]).double()


def logits_of(module: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """Run a Hugging Face causal model without its generation cache; shape (batch, length, vocabulary)."""
    # Explicit positions: GPT-2 otherwise makes a batch of one, which per-patient gradients cannot use.
    positions = torch.arange(ids.shape[1]).expand(ids.shape)
    logits: torch.Tensor = module(input_ids=ids, position_ids=positions, use_cache=False).logits
    return logits

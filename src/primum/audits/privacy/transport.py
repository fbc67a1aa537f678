"""How far a generated continuation lies from the true one: optimal transport over codes and times.

References
----------
Tonekaboni et al., An investigation of memorization risk in healthcare foundation models, NeurIPS 2025
(d_EMD).
Levy and Goldberg, Neural word embedding as implicit matrix factorization, NeurIPS 2014 (code embeddings).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from sklearn.utils.extmath import randomized_svd

from primum.records.histories import FloatArray
from primum.records.ragged import IntArray, offsets_of
from primum.records.tokenizer import Tokenizer
from primum.records.tokens import Kind, TokenBatch

# What an event costs that has no counterpart: distance 1 times (time 1 + 1), as published.
PADDED_COST = 2.0
_CLOCK_EDGES_DAYS, _CLOCK_STEPS = (1.0, 2.0, 3.0), (0.2, 0.4, 0.9, 1.5)


@dataclass(frozen=True, eq=False)
class Trajectories:
    """Clinical codes of `n` continuations and when they happened.

    Attributes
    ----------
    offsets : int64, shape (n + 1,)
    codes : int64, shape (events,)
        Token ids.
    times : float64, shape (events,)
        On the published clock, from 0 at the beginning of the continuation; see :func:`trajectories`.
    """

    offsets: IntArray
    codes: IntArray
    times: FloatArray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def codes_of(self, index: int) -> IntArray:
        """Return the codes of continuation number `index`."""
        return self.codes[self.offsets[index] : self.offsets[index + 1]]

    def times_of(self, index: int) -> FloatArray:
        """Return the times of continuation number `index`."""
        return self.times[self.offsets[index] : self.offsets[index + 1]]


def trajectories(tokens: TokenBatch, tokenizer: Tokenizer, *, most: int) -> Trajectories:
    """Read the first `most` clinical codes of each continuation, and their times.

    What a token is follows from the vocabulary, not from ``tokens.kinds``, so that generated and true tokens
    are read alike: padding, special, static and value tokens never count. A gap token moves the clock on by
    .2 when its band begins below one day, .4 from one day, .9 from two and 1.5 from three days (Tonekaboni
    et al.).
    """
    profile = tokenizer.profile
    step = np.zeros(len(tokenizer.vocabulary))
    bands = np.searchsorted(_CLOCK_EDGES_DAYS, profile.gap_edges_days, side="right")
    step[tokenizer.vocabulary.encode(profile.gap_tokens)] = np.array(_CLOCK_STEPS)[bands]
    clinical = np.flatnonzero(tokenizer.kinds[tokens.token_ids] == Kind.CLINICAL)
    owner = np.searchsorted(tokens.offsets, clinical, side="right") - 1
    rank = np.arange(len(clinical)) - np.searchsorted(owner, owner)
    clinical, owner = clinical[rank < most], owner[rank < most]
    clock = np.concatenate([[0.0], np.cumsum(step[tokens.token_ids])])
    return Trajectories(
        offsets_of(np.bincount(owner, minlength=len(tokens))),
        tokens.token_ids[clinical],
        clock[clinical + 1] - clock[tokens.offsets[owner]],
    )


def code_embeddings(tokens: TokenBatch, *, dimensions: int = 64, seed: int = 0) -> FloatArray:
    """Embed each clinical code once, by the company it keeps.

    With n patients, n_i of whom hold code i and n_ij both i and j, the positive pointwise mutual information
    max(0, log(n n_ij / (n_i n_j))) is factored as U S V'; the embedding is the row of U sqrt(S), of length 1.

    Parameters
    ----------
    tokens : TokenBatch
        Members and held-out patients together.
    dimensions : int
        At most as many as there are codes.
    seed : int
        Of the randomised SVD.

    Returns
    -------
    float64, shape (vocabulary, dimensions)
        Cosine 1 = always together. Rows of zeros for codes that nobody holds or everybody holds.
    """
    clinical = tokens.kinds == Kind.CLINICAL
    owner = np.repeat(np.arange(len(tokens)), tokens.lengths)[clinical]
    held, column = np.unique(tokens.token_ids[clinical], return_inverse=True)
    embeddings = np.zeros((tokens.vocabulary_size, dimensions))
    if not len(held):
        return embeddings
    pairs = np.unique(owner * len(held) + column)
    holds = csr_array((np.ones(len(pairs)), np.divmod(pairs, len(held))), shape=(len(tokens), len(held)))
    together = (holds.T @ holds).tocoo()
    counts: FloatArray = holds.sum(axis=0)
    rows, columns = together.coords
    information = np.log(len(tokens) * together.data / (counts[rows] * counts[columns]))
    positive = csr_array((np.maximum(information, 0.0), (rows, columns)), shape=together.shape)
    left, singular, _ = randomized_svd(positive, min(dimensions, len(held)), random_state=seed)
    factors = left * np.sqrt(singular)
    lengths = np.linalg.norm(factors, axis=1, keepdims=True)
    # Rounding, not company: such a row would otherwise point somewhere at random.
    factors = np.divide(factors, lengths, out=np.zeros_like(factors), where=lengths > 1e-9)
    embeddings[held, : factors.shape[1]] = factors
    return embeddings


def code_distances(embeddings: FloatArray) -> FloatArray:
    """Return 1 - cosine of every two rows, shape (n, n); 0 between a code and itself, whatever its row."""
    distances = np.clip(1.0 - embeddings @ embeddings.T, 0.0, 2.0)
    np.fill_diagonal(distances, 0.0)
    return distances


def transport_distance(
    true_codes: IntArray,
    true_times: FloatArray,
    codes: IntArray,
    times: FloatArray,
    code_distance: FloatArray,
) -> float:
    """Cost of turning one sequence of events into another, by the event.

    Event i of the truth becomes event j at cost ``code_distance[i, j] * (|t_i - t_j| + 1)``; the shorter
    sequence is padded, and a padded place costs 2 with anything. With uniform weights the optimal transport
    is an assignment. 0 = the same events at the same times; larger = farther; unit: that of `code_distance`.

    Parameters
    ----------
    true_codes, codes : int64, shape (n,) and (m,)
        Rows and columns of `code_distance`.
    true_times, times : float64, of the same shapes
    code_distance : float64
        See :func:`code_distances`.
    """
    apart = np.abs(true_times[:, None] - times) + 1.0
    cost = code_distance[true_codes[:, None], codes] * apart
    # A padded place costs the same with every event, so that only the shorter side need be assigned.
    assigned: NDArray[np.float64] = cost[linear_sum_assignment(cost)]
    padded = PADDED_COST * abs(len(true_codes) - len(codes))
    return float(assigned.sum() + padded) / max(len(true_codes), len(codes), 1)


def transport_distances(
    truth: Trajectories, generated: Trajectories, code_distance: FloatArray
) -> FloatArray:
    """Return the distance of each continuation from its truth, shape (n,); see :func:`transport_distance`."""
    return np.array(
        [
            transport_distance(
                truth.codes_of(row),
                truth.times_of(row),
                generated.codes_of(row),
                generated.times_of(row),
                code_distance,
            )
            for row in range(len(truth))
        ],
        np.float64,
    )

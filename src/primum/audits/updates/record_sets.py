"""Whom an update of a model of health records names: patients as the sets of tokens that it learns from.

References
----------
Melis et al., Exploiting unintended feature leakage in collaborative learning, IEEE S&P 2019 (embedding rows).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import chi2

from primum.audits.updates.tokens import tokens_in
from primum.evidence.measured import BoolArray
from primum.fit.updates import Update
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray
from primum.records.tokens import Kind, TokenBatch

if TYPE_CHECKING:
    from primum.models.causal import CausalModel

_PAIRS, _TIE = 2000, 1e-9
# What of a patient's tokens, by weight, must be in an update for the patient to have been in it: all, but for
# rows that noise hides.
_INSIDE = 0.9
# Whatever the number of patients, a code that two of them have is rare.
_RARE, _FEWEST = 0.02, 2


@dataclass(frozen=True, eq=False)
class RecordGallery:
    """Patients among whom the attacker looks.

    Likeness of two sets is what both weigh over what either weighs, 0 to 1; a token weighs the logarithm of
    all patients over those who have it, nothing where everybody has it.

    Attributes
    ----------
    sets : sparse float64, shape (n, vocabulary)
        1 for each token that a history teaches with: all but the last, from which nothing is predicted.
    weights : float64, shape (vocabulary,)
    rare : sparse float64, shape (n, vocabulary)
        1 for each code of a patient that at most 2 % of patients have, or two.
    threshold : float
        99th percentile of the likeness of different patients.
    """

    sets: csr_array
    weights: FloatArray
    rare: csr_array
    threshold: float

    @classmethod
    def of(cls, tokens: TokenBatch, *, vocabulary: int, seed: int = 0) -> "RecordGallery":
        """Make a gallery of two histories or more, each of one patient.

        The threshold is that of all pairs among 2,000 patients drawn with `seed`.
        """
        inner = np.ones(len(tokens.token_ids), np.bool_)
        inner[tokens.offsets[1:][tokens.lengths > 0] - 1] = False
        sets = _sets(tokens, inner, vocabulary)
        weights = np.log((len(tokens) + 1) / (sets.sum(0) + 1))
        codes = _sets(tokens, inner & (tokens.kinds == Kind.CLINICAL), vocabulary)
        few = (codes.sum(0) <= max(_FEWEST, _RARE * len(tokens))).astype(np.float64)
        found = cls(sets, weights, csr_array(codes * few[None]), 1.0)
        drawn = np.random.default_rng(seed).permutation(len(tokens))[:_PAIRS]
        likeness = found._likeness(sets[drawn], sets[drawn])
        pairs = likeness[~np.eye(len(drawn), dtype=np.bool_)]
        return cls(sets, weights, found.rare, float(np.quantile(pairs, 0.99)))

    def named_by(self, tokens: IntArray) -> IntArray:
        """Return the place of the patient whom a set of tokens names, shape (1,), or nobody's, shape (0,).

        That is the nearest of those whose own tokens are in it, if near enough and if no other is as near.
        """
        asked = np.zeros((1, len(self.weights)))
        asked[0, tokens] = 1
        (likeness,) = self._likeness(csr_array(asked), self.sets)
        inside = self.sets @ (self.weights * asked[0]) >= _INSIDE * (self.sets @ self.weights)
        likeness = np.where(inside, likeness, 0)
        best = likeness.max()
        (nearest,) = np.nonzero(likeness >= best - _TIE)
        return nearest if len(nearest) == 1 and best >= self.threshold and best > 0 else nearest[:0]

    def rare_read(self, tokens: IntArray) -> FloatArray:
        """Return the share of each patient's rare codes that is among `tokens`, shape (n,); NaN: has none."""
        there = np.zeros(len(self.weights))
        there[tokens] = 1
        had = self.rare.sum(1)
        found: FloatArray = np.divide(self.rare @ there, had, out=np.full(len(had), np.nan), where=had > 0)
        return found

    def _likeness(self, first: csr_array, second: csr_array) -> FloatArray:
        both: FloatArray = ((first * self.weights[None]) @ second.T).toarray()
        either = (first @ self.weights)[:, None] + (second @ self.weights) - both
        found: FloatArray = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
        return found


def _sets(tokens: TokenBatch, keep: BoolArray, vocabulary: int) -> csr_array:
    owner = np.repeat(np.arange(len(tokens)), tokens.lengths)[keep]
    held = np.unique(np.stack([owner, tokens.token_ids[keep]]), axis=1)
    return csr_array((np.ones(held.shape[1]), (held[0], held[1])), shape=(len(tokens), vocabulary))


def tokens_sent(embedding: NDArray[np.floating]) -> IntArray:
    """Return the tokens that an update learnt from, whatever noise it may carry.

    Where some row stayed as it was there is no noise. Else it is taken to be as strong as the middle row is
    long: what then stands out is longer than noise makes any row in 19 of 20 updates.

    Parameters
    ----------
    embedding : float, shape (vocabulary, width)
        A gradient or a change of weights.

    Returns
    -------
    int64, shape (k,)
        In rising order.
    """
    lengths = np.square(embedding.astype(np.float64)).sum(1)
    noise = float(np.median(lengths)) / chi2.median(embedding.shape[1]) if lengths.all() else 0.0
    return tokens_in(embedding, deviation=noise**0.5)


def likelier_after(model: "CausalModel", update: Update, tokens: TokenBatch) -> FloatArray:
    """Score how likely each history was in an update: by how much the update makes its tokens likelier.

    A gradient is followed for one step of the update's learning rate.

    Parameters
    ----------
    model : CausalModel
        Of the update's weights, which are loaded into it.
    update : Update
    tokens : TokenBatch

    Returns
    -------
    float64, shape (n,)
        Nats a token; higher = more likely in the update. 0 where nothing is predicted.
    """
    import torch

    by = 1.0 if update.kind == "delta" else -update.learning_rate
    means = []
    for sent in ({}, update.sent):
        weights = {
            name: value + by * sent[name] if name in sent else value for name, value in update.before.items()
        }
        state = {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}
        model.module.load_state_dict(state, strict=False)
        means.append(np.array([one.mean() if len(one) else 0.0 for one in model.log_probs(tokens)]))
    found: FloatArray = means[1] - means[0]
    return found

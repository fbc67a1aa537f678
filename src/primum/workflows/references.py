"""Reference models: how likely each history would be to a model that never saw it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from primum.errors import InputError
from primum.evidence.naming import FEWEST_REFERENCES
from primum.fit.protocol import Trainable
from primum.models.protocols import Scorer
from primum.records.histories import FloatArray, Histories, Records
from primum.records.ragged import IntArray
from primum.records.tokenizer import Tokenizer
from primum.records.tokens import Kind, TokenBatch, join_tokens

# The checkpoint is chosen on patients whom nobody is asked about.
_VALIDATION_SHARE = 0.15
_FEWEST_PATIENTS = 20


@dataclass(frozen=True, eq=False)
class FoldedReference:
    """Two references trained on the two halves of the held-out patients, each asked only about others.

    A held-out patient is scored by the one model that did not see it; a member by one of the two, drawn by
    chance, so that both groups are scored by one model a patient.
    """

    first: Scorer
    second: Scorer
    seen_by_first: IntArray
    seen_by_second: IntArray
    seed: int

    def log_probs(self, tokens: TokenBatch) -> list[FloatArray]:
        """Score each patient with its own reference."""
        drawn = np.array([_coin(int(subject), self.seed) for subject in tokens.subject_ids], bool)
        drawn[np.isin(tokens.subject_ids, self.seen_by_second)] = True
        drawn[np.isin(tokens.subject_ids, self.seen_by_first)] = False
        rows: list[FloatArray] = [np.empty(0)] * len(tokens)
        for model, mask in ((self.first, drawn), (self.second, ~drawn)):
            chosen = np.flatnonzero(mask)
            for place, scores in zip(chosen, model.log_probs(tokens.select(chosen)), strict=True):
                rows[place] = scores
        return rows


def _coin(subject: int, seed: int) -> bool:
    """Toss a coin that depends on the patient and the seed alone, whatever the shard."""
    return bool(np.random.default_rng([seed, subject & 0xFFFFFFFF, subject >> 32 & 0xFFFFFFFF]).integers(2))


def train_references(
    recipe: Trainable, tokenizer: Tokenizer, tuning: Records, *, count: int, seed: int
) -> list[Scorer]:
    """Train `count` references on patients who are neither members nor held-out.

    Enough of them to name patients see a random half each: their spread must show what other people in the
    training would have changed, as the audited model's training was of other people (Carlini et al. 2022).
    """
    tokens = _tokens(tokenizer, tuning.shards())
    if count < FEWEST_REFERENCES:
        return [_train(recipe, tokens, seed=seed + number) for number in range(count)]
    halves = (_halves(tokens, seed=seed + number)[0] for number in range(count))
    return [_train(recipe, half, seed=seed + number) for number, half in enumerate(halves)]


def folded_references(
    recipe: Trainable, tokenizer: Tokenizer, held_out: Records, *, count: int, seed: int
) -> list[Scorer]:
    """Train `count` pairs, each on two other halves of the held-out patients.

    One reference of each pair saw none of a patient, so that everyone is scored by `count` models; 16 name
    patients, at the price of 32 trainings.
    """
    seeds = range(seed, seed + 2 * count, 2)
    return [folded_reference(recipe, tokenizer, held_out, seed=one) for one in seeds]


def folded_reference(
    recipe: Trainable, tokenizer: Tokenizer, held_out: Records, *, seed: int
) -> FoldedReference:
    """Train two references on the held-out patients themselves, when there is nobody else."""
    tokens = _tokens(tokenizer, held_out.shards())
    halves = _halves(tokens, seed=seed)
    first, second = (_train(recipe, half, seed=seed + number) for number, half in enumerate(halves))
    return FoldedReference(first, second, halves[0].subject_ids, halves[1].subject_ids, seed)


def reference_losses(tokens: TokenBatch, *, references: Sequence[Scorer]) -> FloatArray:
    """Score each patient under each reference; shape (n, references), NaN where nothing can be scored.

    Mean natural log p over clinical tokens, as the audited model's ``loss``.
    """
    clinical = [tokens.kinds_of(patient)[1:] == Kind.CLINICAL for patient in range(len(tokens))]
    rows = [one.log_probs(tokens) for one in references]
    return np.array(
        [
            [row[place][mask].mean() if mask.any() else np.nan for row in rows]
            for place, mask in enumerate(clinical)
        ]
    )


def _halves(tokens: TokenBatch, *, seed: int) -> list[TokenBatch]:
    order = np.random.default_rng(seed).permutation(len(tokens))
    return [tokens.select(np.sort(half)) for half in np.array_split(order, 2)]


def _tokens(tokenizer: Tokenizer, shards: Iterator[Histories]) -> TokenBatch:
    return join_tokens([tokenizer.encode(shard) for shard in shards])


def _train(recipe: Trainable, tokens: TokenBatch, *, seed: int) -> Scorer:
    if len(tokens) < _FEWEST_PATIENTS:
        raise InputError(
            "A reference model needs at least {fewest} patients who trained nothing else, and there are "
            "{have}: give a larger tuning split, or a trained one with --reference.",
            fewest=_FEWEST_PATIENTS,
            have=len(tokens),
        )
    order = np.random.default_rng(seed).permutation(len(tokens))
    cut = max(1, round(_VALIDATION_SHARE * len(tokens)))
    return recipe.fit(
        tokens.select(np.sort(order[cut:])),
        validation=tokens.select(np.sort(order[:cut])),
        max_steps=None,
        seed=seed,
    )

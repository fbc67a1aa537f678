"""One streamed pass over the patients: for each, its scores and what the statistics need to know of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from primum.audits.privacy.membership import membership_scores
from primum.errors import RecordsError
from primum.evidence.blind import blind_scores
from primum.evidence.curves import SMALLEST_CELL
from primum.evidence.membership import PatientScores
from primum.models.opened import OpenedModel
from primum.models.protocols import Scorer
from primum.records.attributes import (
    CodeCounts,
    PatientTable,
    describe,
    join_tables,
    rare_holders,
    strata,
    subgroups,
)
from primum.records.blind_features import DENSE_COLUMNS, blind_features
from primum.records.histories import FloatArray, Records
from primum.records.ragged import IntArray
from primum.records.tokens import Kind, TokenBatch

Tick = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class Group:
    """All patients of one side, a few numbers each: this is what stays in memory."""

    table: PatientTable
    rare: np.ndarray
    features: sparse.csr_matrix
    components: dict[str, FloatArray]
    clinical_tokens: IntArray
    token_counts: IntArray

    def __len__(self) -> int:
        return len(self.rare)


def gather(
    model: OpenedModel,
    records: Records,
    *,
    references: Sequence[Scorer],
    counts: CodeCounts,
    are_members: bool,
    tick: Tick,
) -> Group:
    """Score and describe each patient of `records`, a shard at a time."""
    tables, rare, features, scores, predicted = [], [], [], [], []
    token_counts = np.zeros(len(model.tokenizer.vocabulary.tokens), np.int64)
    for shard in records.shards():
        table = describe(shard)
        tokens = model.tokenizer.encode(shard)
        tables.append(table)
        rare.append(rare_holders(shard, counts, own_counted=are_members))
        features.append(blind_features(shard, table))
        scores.append(membership_scores(model.scorer, tokens, references=references))
        predicted.append(_clinical(tokens))
        token_counts += np.bincount(
            tokens.token_ids[tokens.kinds == Kind.CLINICAL], minlength=len(token_counts)
        )
        tick(len(shard))
    if not tables:
        raise RecordsError("There is no patient to read: the records are empty.")
    return Group(
        join_tables(tables),
        np.concatenate(rare),
        sparse.vstack(features, format="csr"),
        {name: np.concatenate([part[name] for part in scores]) for name in scores[0]},
        np.concatenate(predicted),
        token_counts,
    )


def _clinical(tokens: TokenBatch) -> IntArray:
    """Count the clinical tokens that a model predicts: all but a first one."""
    owner = np.repeat(np.arange(len(tokens)), tokens.lengths)
    clinical = tokens.kinds == Kind.CLINICAL
    clinical[tokens.offsets[:-1][tokens.lengths > 0]] = False
    return np.bincount(owner[clinical], minlength=len(tokens))


def patient_scores(members: Group, held_out: Group, *, seed: int) -> tuple[PatientScores, int]:
    """Put both sides in one order; returns the scores and how many patients had nothing to score."""
    is_member = np.arange(len(members) + len(held_out)) < len(members)
    components = {
        name: np.concatenate([members.components[name], held_out.components[name]])
        for name in members.components
    }
    table = join_tables([members.table, held_out.table])
    scorable = np.isfinite(components["loss"])
    if not (scorable & is_member).any() or not (scorable & ~is_member).any():
        raise RecordsError(
            "On one side no patient has two events that the model knows: check that the token profile fits "
            "these records."
        )
    features = sparse.vstack([members.features, held_out.features], format="csr")
    groups = subgroups(table, rare=np.concatenate([members.rare, held_out.rare]))
    scores = PatientScores(
        is_member[scorable],
        blind_scores(features[scorable], is_member[scorable], seed=seed, dense_columns=DENSE_COLUMNS),
        strata(table)[scorable],
        {name: values[scorable] for name, values in components.items()},
        # A site is named in the report as the records name it: not when it would point at a few people.
        {
            name: mask[scorable]
            for name, mask in groups.items()
            if not name.startswith("site=") or mask[scorable].sum() >= SMALLEST_CELL
        },
    )
    return scores, int((~scorable).sum())


def utility(members: Group, held_out: Group) -> dict[str, float]:
    """Loss on held-out patients in nats a clinical token, lower is better, beside counting codes alone."""
    smoothed = members.token_counts + 1.0
    known = held_out.token_counts
    unigram = -float(known @ np.log(smoothed / smoothed.sum())) / max(1, int(known.sum()))
    weights = held_out.clinical_tokens
    loss = -float(np.nansum(held_out.components["loss"] * weights)) / max(1, int(weights.sum()))
    return {"held_out_loss": loss, "unigram_loss": unigram}

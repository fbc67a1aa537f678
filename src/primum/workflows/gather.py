"""One streamed reading of the patients: for each, its scores and what the statistics need to know of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from primum.audits.privacy.membership import membership_scores
from primum.errors import RecordsError
from primum.evidence.blind import blind_guesses, blind_scores
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
    small_cells,
    strata,
    subgroups,
)
from primum.records.blind_features import DENSE_COLUMNS, blind_features
from primum.records.families import BoolArray, Families, families_of
from primum.records.histories import FloatArray, Records
from primum.records.ragged import IntArray
from primum.records.tokens import Kind, TokenBatch

Tick = Callable[[int], None]
# What a family wants of every patient: tokens of a shard to one row a patient.
Question = Callable[[TokenBatch], NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Group:
    """All patients of one side, a few numbers each: this is what stays in memory.

    `scrubbed` are the features without sensitive codes, where such codes are to be guessed; `asked` holds
    what the other families want of every patient, shape (n, …) each.
    """

    table: PatientTable
    rare: BoolArray
    features: sparse.csr_matrix
    scrubbed: sparse.csr_matrix | None
    components: dict[str, FloatArray]
    clinical_tokens: IntArray
    token_counts: IntArray
    holders: IntArray
    asked: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.rare)


def gather(
    model: OpenedModel,
    records: Records,
    *,
    references: Sequence[Scorer],
    counts: CodeCounts,
    are_members: bool,
    families: Families | None,
    questions: Mapping[str, Question],
    tick: Tick,
) -> Group:
    """Score and describe each patient, a shard at a time; `questions` are asked of each shard."""
    tables, rare, features, scrubbed, scores, predicted = [], [], [], [], [], []
    token_counts, holders = (np.zeros(len(model.tokenizer.vocabulary), np.int64) for _ in range(2))
    asked: dict[str, list[NDArray[Any]]] = {name: [] for name in questions}
    for shard in records.shards():
        table = describe(shard, families)
        tokens = model.tokenizer.encode(shard)
        tables.append(table)
        rare.append(rare_holders(shard, counts, own_counted=are_members))
        features.append(blind_features(shard, table))
        if "sensitive" in questions:
            sensitive = np.any(list(families_of(shard.codes, families).values()), axis=0)
            scrubbed.append(blind_features(shard, table, without=sensitive))
        scores.append(membership_scores(model.scorer, tokens, references=references))
        predicted.append(_clinical(tokens))
        token_counts += np.bincount(
            tokens.token_ids[tokens.kinds == Kind.CLINICAL], minlength=len(token_counts)
        )
        holders += _holders(tokens)
        for name, question in questions.items():
            asked[name].append(question(tokens))
        tick(len(shard))
    if not tables:
        raise RecordsError("There is no patient to read: the records are empty.")
    return Group(
        join_tables(tables),
        np.concatenate(rare),
        sparse.vstack(features, format="csr"),
        sparse.vstack(scrubbed, format="csr") if scrubbed else None,
        {name: np.concatenate([part[name] for part in scores]) for name in scores[0]},
        np.concatenate(predicted),
        token_counts,
        holders,
        {name: np.concatenate(parts) for name, parts in asked.items()},
    )


def _holders(tokens: TokenBatch) -> IntArray:
    """Count the patients who hold each token, shape (vocabulary,)."""
    owner = np.repeat(np.arange(len(tokens)), tokens.lengths)
    pairs = np.unique(owner * tokens.vocabulary_size + tokens.token_ids)
    return np.bincount(pairs % tokens.vocabulary_size, minlength=tokens.vocabulary_size)


def _clinical(tokens: TokenBatch) -> IntArray:
    """Count the clinical tokens that a model predicts: all but a first one."""
    owner = np.repeat(np.arange(len(tokens)), tokens.lengths)
    clinical = tokens.kinds == Kind.CLINICAL
    clinical[tokens.offsets[:-1][tokens.lengths > 0]] = False
    return np.bincount(owner[clinical], minlength=len(tokens))


@dataclass(frozen=True, eq=False)
class Everyone:
    """Both sides in one order, patients whom the model cannot score left out.

    Attributes
    ----------
    scores : PatientScores
        `n` patients, members first.
    table : PatientTable
    asked : mapping of str to float64, shape (n, …)
    guesses : float64, shape (n, families), or None
        Sensitive families guessed from the rest of the record, without the model.
    holders : int64, shape (vocabulary,)
    unscored : int
        Patients who had nothing to score.
    """

    scores: PatientScores
    table: PatientTable
    asked: Mapping[str, NDArray[Any]]
    guesses: FloatArray | None
    holders: IntArray
    unscored: int


def everyone(members: Group, held_out: Group, *, seed: int) -> Everyone:
    """Put both sides in one order."""
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
    groups = subgroups(
        table,
        rare=np.concatenate([members.rare, held_out.rare]),
        small_cell=small_cells(table, is_member),
    )
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
    described = table.select(np.flatnonzero(scorable))
    return Everyone(
        scores,
        described,
        {
            name: np.concatenate([members.asked[name], held_out.asked[name]])[scorable]
            for name in members.asked
        },
        _blind_guesses(members, held_out, scorable, described, seed=seed),
        members.holders + held_out.holders,
        int((~scorable).sum()),
    )


def _blind_guesses(
    members: Group, held_out: Group, scorable: BoolArray, table: PatientTable, *, seed: int
) -> FloatArray | None:
    if members.scrubbed is None or held_out.scrubbed is None:
        return None
    features = sparse.vstack([members.scrubbed, held_out.scrubbed], format="csr")[scorable]
    return blind_guesses(features, table.family_labels(), dense_columns=DENSE_COLUMNS, seed=seed)


def utility(members: Group, held_out: Group) -> dict[str, float]:
    """Loss on held-out patients in nats a clinical token, lower is better, beside counting codes alone."""
    smoothed = members.token_counts + 1.0
    known = held_out.token_counts
    unigram = -float(known @ np.log(smoothed / smoothed.sum())) / max(1, int(known.sum()))
    weights = held_out.clinical_tokens
    loss = -float(np.nansum(held_out.components["loss"] * weights)) / max(1, int(weights.sum()))
    return {"held_out_loss": loss, "unigram_loss": unigram}

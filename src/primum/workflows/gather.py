"""One streamed reading of the patients: for each, its scores and what the statistics need to know of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
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
from primum.evidence.naming import FEWEST_REFERENCES
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
from primum.records.histories import FloatArray, Histories, Records
from primum.records.ragged import IntArray
from primum.records.tokens import Kind, TokenBatch
from primum.workflows.references import reference_losses
from primum.workflows.workers import Map

Tick = Callable[[int], None]
_AT_ONCE = 500
# What a family wants of every patient: tokens of a shard to one row a patient.
Question = Callable[[TokenBatch], NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Group:
    """Patients of one side, a few numbers each: this is what stays in memory.

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
    under_references: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.rare)


@dataclass(frozen=True, eq=False)
class Reading:
    """What is asked of each block of patients; called with one, here or in another process."""

    model: OpenedModel
    references: Sequence[Scorer]
    counts: CodeCounts
    families: Families | None
    questions: Mapping[str, Question]

    def __call__(self, block: "Block") -> Group:
        """Score and describe the patients of a block."""
        shard = block.patients
        table = describe(shard, self.families)
        tokens = self.model.tokenizer.encode(shard)
        scrubbed = None
        if "sensitive" in self.questions:
            sensitive = np.any(list(families_of(shard.codes, self.families).values()), axis=0)
            scrubbed = blind_features(shard, table, without=sensitive)
        components, under = self._scores(tokens)
        clinical = tokens.token_ids[tokens.kinds == Kind.CLINICAL]
        return Group(
            table,
            rare_holders(shard, self.counts, own_counted=block.are_members),
            blind_features(shard, table),
            scrubbed,
            components,
            _clinical(tokens),
            np.bincount(clinical, minlength=len(self.model.tokenizer.vocabulary)),
            _holders(tokens),
            {name: question(tokens) for name, question in self.questions.items()},
            under,
        )

    def _scores(self, tokens: TokenBatch) -> tuple[dict[str, FloatArray], FloatArray | None]:
        """Scores of the membership family, and the loss under each of enough references to name patients."""
        if len(self.references) < FEWEST_REFERENCES:
            return membership_scores(self.model.scorer, tokens, references=self.references), None
        components = membership_scores(self.model.scorer, tokens)
        under = reference_losses(tokens, references=self.references)
        if "loss" in components:
            components["ratio"] = components["loss"] - under.mean(axis=1)
        return components, under


@dataclass(frozen=True, eq=False)
class Block:
    """Some patients of one side."""

    are_members: bool
    patients: Histories


def gather(
    reading: Reading, sides: tuple[Records, Records], *, ticks: tuple[Tick, Tick], apply: Map = map
) -> tuple[Group, Group]:
    """Score and describe each patient, a block at a time; `apply` may do so in other processes.

    Both sides make one queue, so that no process waits at the end of the first. A side's tick hears 0 when
    it begins, then how many patients were done.
    """
    members: list[Group] = []
    held_out: list[Group] = []
    side_of: list[bool] = []

    def blocks() -> Iterator[Block]:
        for block in _blocks(sides):
            side_of.append(block.are_members)
            yield block

    ticks[0](0)
    for place, group in enumerate(apply(reading, blocks())):
        groups, tick = (members, ticks[0]) if side_of[place] else (held_out, ticks[1])
        if groups is held_out and not groups:
            tick(0)
        groups.append(group)
        tick(len(group))
    if not members or not held_out:
        raise RecordsError("There is no patient to read: the records are empty.")
    return _joined(members), _joined(held_out)


def _blocks(sides: tuple[Records, Records]) -> Iterator[Block]:
    """Cut large shards: what is asked of each patient is larger than the record, and workers share better."""
    for are_members, records in zip((True, False), sides, strict=True):
        for shard in records.shards():
            for first in range(0, len(shard), _AT_ONCE):
                last = min(first + _AT_ONCE, len(shard))
                whole = last - first == len(shard)
                yield Block(are_members, shard if whole else shard.select(np.arange(first, last)))


def _joined(groups: Sequence[Group]) -> Group:
    """Put the patients of several shards one after the other."""
    scrubbed = [group.scrubbed for group in groups if group.scrubbed is not None]
    under = [group.under_references for group in groups if group.under_references is not None]
    return Group(
        join_tables([group.table for group in groups]),
        np.concatenate([group.rare for group in groups]),
        sparse.vstack([group.features for group in groups], format="csr"),
        sparse.vstack(scrubbed, format="csr") if scrubbed else None,
        _by_name([group.components for group in groups]),
        np.concatenate([group.clinical_tokens for group in groups]),
        np.sum([group.token_counts for group in groups], axis=0),
        np.sum([group.holders for group in groups], axis=0),
        _by_name([group.asked for group in groups]),
        np.concatenate(under) if under else None,
    )


def _by_name(columns: Sequence[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    return {name: np.concatenate([one[name] for one in columns]) for name in columns[0]}


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
    both = _joined([members, held_out])
    is_member = np.arange(len(both)) < len(members)
    scored = both.components.get("loss", both.clinical_tokens)
    scorable = np.isfinite(scored) & (both.clinical_tokens > 0)
    if not (scorable & is_member).any() or not (scorable & ~is_member).any():
        raise RecordsError(
            "On one side no patient has two events that the model knows: check that the token profile fits "
            "these records."
        )
    groups = subgroups(both.table, rare=both.rare, small_cell=small_cells(both.table, is_member))
    features = both.features[scorable]
    table = both.table.select(np.flatnonzero(scorable))
    return Everyone(
        PatientScores(
            is_member[scorable],
            blind_scores(features, is_member[scorable], seed=seed, dense_columns=DENSE_COLUMNS),
            strata(both.table)[scorable],
            {name: values[scorable] for name, values in both.components.items()},
            # A site is named in the report as the records name it: not when it would point at a few people.
            {
                name: mask[scorable]
                for name, mask in groups.items()
                if not name.startswith("site=") or mask[scorable].sum() >= SMALLEST_CELL
            },
            None if both.under_references is None else both.under_references[scorable],
        ),
        table,
        {name: answers[scorable] for name, answers in both.asked.items()},
        None if both.scrubbed is None else _blind_guesses(both.scrubbed[scorable], table, seed=seed),
        both.holders,
        int((~scorable).sum()),
    )


def _blind_guesses(features: sparse.csr_matrix, table: PatientTable, *, seed: int) -> FloatArray:
    return blind_guesses(features, table.family_labels(), dense_columns=DENSE_COLUMNS, seed=seed)


def utility(members: Group, held_out: Group) -> dict[str, float]:
    """Loss on held-out patients in nats a clinical token, lower is better, beside counting codes alone."""
    smoothed = members.token_counts + 1.0
    known = held_out.token_counts
    unigram = -float(known @ np.log(smoothed / smoothed.sum())) / max(1, int(known.sum()))
    weights = held_out.clinical_tokens
    if "loss" not in held_out.components:
        return {"unigram_loss": unigram}
    loss = -float(np.nansum(held_out.components["loss"] * weights)) / max(1, int(weights.sum()))
    return {"held_out_loss": loss, "unigram_loss": unigram}

"""The stated sample: patients for the tests that generate or sweep, drawn evenly over strata."""

from collections.abc import Sequence

import numpy as np

from primum.audits.privacy.subjects import Subjects
from primum.evidence.measured import BoolArray
from primum.evidence.membership import PatientScores
from primum.models.opened import OpenedModel
from primum.records.attributes import describe, join_tables
from primum.records.families import Families, families_of
from primum.records.filtered import Filtered
from primum.records.histories import Records
from primum.records.ragged import IntArray
from primum.records.tokens import event_times, join_tokens


def stratified_sample(is_member: BoolArray, strata: IntArray, *, size: int, seed: int) -> IntArray:
    """Draw at most half of `size` from each side, each stratum in proportion; positions in ascending order.

    Systematic sampling of a random order within strata: no stratum is off by more than one patient.

    Examples
    --------
    >>> rows = stratified_sample(np.arange(8) < 4, np.tile([0, 1], 4), size=4, seed=0)
    >>> [int(np.sum(rows < 4)), sorted((rows % 2).tolist())]
    [2, [0, 0, 1, 1]]
    """
    rng = np.random.default_rng([seed, 0x73616D])
    chosen: list[IntArray] = []
    for side in (is_member, ~is_member):
        rows = np.flatnonzero(side)
        order = rows[np.lexsort((rng.random(len(rows)), strata[rows]))]
        wanted = min(size // 2, len(rows))
        if wanted:
            first = rng.random()
            chosen.append(order[np.floor((np.arange(wanted) + first) * len(rows) / wanted).astype(np.int64)])
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.int64)


def token_families(model: OpenedModel, families: Families | None) -> dict[str, BoolArray]:
    """Tell which tokens of the model's vocabulary belong to each sensitive family."""
    tokenizer = model.tokenizer
    return families_of(tuple(map(tokenizer.code_of, tokenizer.vocabulary.tokens)), families)


def read_subjects(
    sides: Sequence[Records],
    model: OpenedModel,
    scores: PatientScores,
    *,
    rows: IntArray,
    subject_ids: IntArray,
    families: Families | None,
    holders: IntArray,
    seed: int,
) -> Subjects:
    """Read the patients at positions `rows` again; `subject_ids`, shape (n,), are those of all of them."""
    tokens, times, tables, found = [], [], [], []
    for records, side in zip(sides, (scores.is_member, ~scores.is_member), strict=True):
        wanted = rows[side[rows]]
        place = {int(subject): int(row) for subject, row in zip(subject_ids[wanted], wanted, strict=True)}
        for shard in Filtered(records, subject_ids[wanted], keep=True).shards():
            tokens.append(model.tokenizer.encode(shard))
            times.append(event_times(tokens[-1], shard))
            tables.append(describe(shard, families))
            found.append(np.array([place[int(subject)] for subject in shard.subject_ids], np.int64))
    order = np.concatenate(found)
    return Subjects(
        rows=order,
        tokens=join_tokens(tokens),
        is_member=scores.is_member[order],
        table=join_tables(tables),
        tokenizer=model.tokenizer,
        families=token_families(model, families),
        holders=holders,
        audited=len(scores.is_member),
        context=model.context,
        seed=seed,
        times=np.concatenate(times),
    )

"""Where events lie in tokens, and prompts cut out of them."""

import numpy as np
import pytest
from tests import tiny

from primum.records.excerpts import Anatomy, excerpts, without
from primum.records.histories import InMemory
from primum.records.ragged import offsets_of
from primum.records.tokens import Kind, TokenBatch

C, V, G, S, X = Kind.CLINICAL, Kind.VALUE, Kind.GAP, Kind.STATIC, Kind.SPECIAL


def batch(*kinds: list[Kind]) -> TokenBatch:
    """Make patients whose token ids count up from 0 across all of them."""
    flat = np.array([kind for patient in kinds for kind in patient], np.uint8)
    offsets = offsets_of(np.array([len(patient) for patient in kinds], np.int64))
    ids = np.arange(len(flat))
    return TokenBatch(np.arange(len(kinds)), offsets, ids, flat, np.full(len(flat), -1), len(flat) + 1)


PATIENTS = batch([X, S, S, C, V, G, C, C, V, X], [X, X], [], [C], [X, S, G, C, X])


def test_events_begin_at_their_gap_and_end_with_their_value() -> None:
    anatomy = Anatomy(PATIENTS)
    assert anatomy.owner.tolist() == [0, 0, 0, 3, 4]
    assert anatomy.place.tolist() == [3, 6, 7, 0, 3]
    assert anatomy.start.tolist() == [3, 5, 7, 0, 2]
    assert anatomy.stop.tolist() == [5, 7, 9, 1, 4]
    assert anatomy.counts.tolist() == [3, 0, 0, 1, 1]
    assert anatomy.header.tolist() == [3, 2, 0, 0, 2]
    assert anatomy.codes.tolist() == [3, 6, 7, 12, 16]


def test_a_value_is_never_taken_from_the_next_patient() -> None:
    anatomy = Anatomy(batch([C], [V, C]))
    assert anatomy.stop.tolist() == [1, 2]
    assert Anatomy(batch([C, G], [C])).start.tolist() == [0, 0]


def test_an_excerpt_is_the_header_and_a_run_of_tokens() -> None:
    anatomy = Anatomy(PATIENTS)
    rows = np.array([0, 0, 4])
    header = anatomy.header[rows]
    cut = excerpts(PATIENTS, rows, header=header, start=np.array([5, 0, 2]), stop=np.array([7, 4, 4]))
    assert [cut.tokens_of(row).tolist() for row in range(3)] == [
        [0, 1, 2, 5, 6],
        [0, 1, 2, 3],
        [13, 14, 15, 16],
    ]
    assert cut.subject_ids.tolist() == [0, 0, 4]
    assert cut.kinds_of(0).tolist() == [X, S, S, G, C]


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (9, 2), (3, 3)])
def test_an_empty_run_leaves_the_header(start: int, stop: int) -> None:
    one = np.array([0])
    cut = excerpts(PATIENTS, one, header=np.array([3]), start=np.array([start]), stop=np.array([stop]))
    assert cut.tokens_of(0).tolist() == [0, 1, 2]


def test_what_is_left_out_takes_its_value_along() -> None:
    left = without(PATIENTS, PATIENTS.token_ids == 7)
    assert left.tokens_of(0).tolist() == [0, 1, 2, 3, 4, 5, 6, 9]
    assert left.lengths.tolist() == [8, 2, 0, 1, 5]
    assert (
        without(PATIENTS, np.zeros(len(PATIENTS.token_ids), bool)).token_ids.tolist()
        == PATIENTS.token_ids.tolist()
    )


def test_real_tokens_have_their_events_and_a_vocabulary_knows_its_kinds() -> None:
    people = tiny.cohort(train=20)["train"]
    tokenizer = tiny.tokenizer_of(InMemory((people,)))
    tokens = tokenizer.encode(people)
    assert (tokenizer.kinds[tokens.token_ids] == tokens.kinds).all()
    anatomy = Anatomy(tokens)
    for patient in range(len(tokens)):
        kinds = tokens.kinds_of(patient)[: anatomy.header[patient]]
        assert set(kinds.tolist()) <= {Kind.SPECIAL, Kind.STATIC}
        mine = anatomy.owner == patient
        spans = [list(range(a, b)) for a, b in zip(anatomy.start[mine], anatomy.stop[mine], strict=True)]
        covered = [place for span in spans for place in span]
        # Events follow each other without overlap, from the header to the end token.
        assert covered == list(range(int(anatomy.header[patient]), int(tokens.lengths[patient]) - 1))

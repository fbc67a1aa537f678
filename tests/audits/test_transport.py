"""The fast distance against a slow one written from the formulas: embeddings, cosines, a linear programme."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.optimize import linprog
from tests import tiny

from primum.audits.privacy.transport import (
    PADDED_COST,
    Trajectories,
    code_distances,
    code_embeddings,
    trajectories,
    transport_distance,
    transport_distances,
)
from primum.records.histories import FloatArray
from primum.records.profile import TokenProfile
from primum.records.ragged import IntArray, offsets_of
from primum.records.tokenizer import Tokenizer
from primum.records.tokens import Kind, TokenBatch
from primum.records.vocabulary import Vocabulary

CODES = tuple(f"LAB//{number}" for number in range(40))
PROFILE = TokenProfile(
    begin="BEGIN",
    unknown=None,
    age_tokens=("AGE//0+",),
    age_edges_years=(0.0,),
    gap_tokens=("GAP//0+", "GAP//1+", "GAP//2+", "GAP//4+"),
    gap_edges_days=(0.0, 1.0, 2.0, 4.0),
    value_tokens=("Q1",),
)
TOKENIZER = Tokenizer(Vocabulary((*PROFILE.special_tokens(), "SEX//F", *CODES)), PROFILE)


def batch(*patients: Sequence[str]) -> TokenBatch:
    """Histories by the names of their tokens; a bare number is a code."""
    names = tuple(CODES[int(name)] if name.isdigit() else name for patient in patients for name in patient)
    ids = TOKENIZER.vocabulary.encode(names)
    offsets = offsets_of(np.array([len(patient) for patient in patients]))
    size = len(TOKENIZER.vocabulary)
    return TokenBatch(
        np.arange(len(patients)), offsets, ids, TOKENIZER.kinds[ids], np.full(len(ids), -1), size
    )


def slow_embedding(tokens: TokenBatch, code: int, held: list[int]) -> FloatArray:
    """Recompute the whole embedding for one code: pair by pair, with a dense SVD of full rank."""
    who = [{int(one) for one in tokens.tokens_of(row)} for row in range(len(tokens))]
    table = np.zeros((len(held), len(held)))
    for i, one in enumerate(held):
        for j, other in enumerate(held):
            both = sum(one in codes and other in codes for codes in who)
            alone = [sum(code in codes for codes in who) for code in (one, other)]
            if both:
                table[i, j] = max(0.0, np.log(len(who) * both / (alone[0] * alone[1])))
    left, singular, _ = np.linalg.svd(table)
    vector: FloatArray = (left * np.sqrt(singular))[held.index(code)]
    return vector / np.linalg.norm(vector)


def slow_distance(
    truth: tuple[IntArray, FloatArray], guess: tuple[IntArray, FloatArray], vectors: dict[int, FloatArray]
) -> float:
    """Pad both sides to the longer, then solve the transport as a linear programme."""
    size = max(len(truth[0]), len(guess[0]))
    cost = np.ones((size, size)) * 2
    for i, (code, time) in enumerate(zip(*truth, strict=True)):
        for j, (other, when) in enumerate(zip(*guess, strict=True)):
            cosine = vectors[int(code)] @ vectors[int(other)]
            cost[i, j] = (1 - cosine) * (abs(time - when) + 1)
    rows = np.kron(np.eye(size), np.ones(size))
    columns = np.kron(np.ones(size), np.eye(size))
    solved = linprog(cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.full(2 * size, 1 / size))
    assert solved.fun is not None
    return float(solved.fun)


def test_equals_the_slow_distance_that_embeds_every_sample() -> None:
    tokens = tiny.random_batch([7, 3, 9, 5, 8, 4, 6, 7, 5], vocabulary=20)
    held = sorted(set(tokens.token_ids.tolist()))
    embeddings = code_embeddings(tokens)
    rng = np.random.default_rng(1)
    sizes = rng.integers(0, 7, (2, 12))
    sizes[0] = np.maximum(sizes[0], 1)
    true, guessed = (
        Trajectories(offsets_of(row), rng.choice(held, row.sum()), rng.uniform(0, 5, row.sum()))
        for row in sizes
    )
    fast = transport_distances(true, guessed, code_distances(embeddings))
    for row, distance in enumerate(fast):
        truth, guess = ((side.codes_of(row), side.times_of(row)) for side in (true, guessed))
        vectors = {int(code): slow_embedding(tokens, int(code), held) for code in (*truth[0], *guess[0])}
        assert distance == pytest.approx(slow_distance(truth, guess, vectors), abs=1e-6)


def test_the_cost_is_the_published_one() -> None:
    apart = np.array([[0.0, 0.5], [0.5, 0.0]])
    one, other = np.array([0]), np.array([1])
    early, late = np.array([0.2]), np.array([1.7])
    assert transport_distance(one, early, one, late, apart) == 0
    assert transport_distance(one, early, other, late, apart) == pytest.approx(0.5 * 2.5)
    both, times = np.array([0, 1]), np.array([0.0, 1.0])
    assert transport_distance(both, times, both[::-1], times[::-1], apart) == 0
    assert transport_distance(one, early, both, times, apart) == pytest.approx(PADDED_COST / 2)


def test_an_empty_sample_costs_as_much_as_padding() -> None:
    truth, nothing = np.array([0, 1, 1]), np.empty(0, np.int64)
    args = np.ones((2, 2))
    assert transport_distance(truth, np.zeros(3), nothing, np.empty(0), args) == PADDED_COST
    assert transport_distance(nothing, np.empty(0), nothing, np.empty(0), args) == 0


def test_the_clock_begins_with_each_continuation() -> None:
    read = trajectories(
        batch(["0", "GAP//0+", "1", "GAP//1+", "2", "3"], [], ["GAP//2+", "4", "Q1", "GAP//4+", "5"]),
        TOKENIZER,
        most=20,
    )
    assert [read.codes_of(row).tolist() for row in range(3)] == [
        TOKENIZER.vocabulary.encode(names).tolist() for names in (CODES[:4], (), CODES[4:6])
    ]
    assert read.times_of(0).tolist() == pytest.approx([0, 0.2, 0.6, 0.6])
    assert read.times_of(2).tolist() == pytest.approx([0.9, 2.4])


def test_padding_is_never_kept() -> None:
    """Generated tokens come without kinds: padding and the like must be known by what they are."""
    clean, dirty = batch(["0", "1", "2"]), batch(["PAD", "0", "SEX//F", "1", "END", "2", "Q1", "PAD", "PAD"])
    blind = np.full_like(dirty.kinds, Kind.CLINICAL)
    ids, index = dirty.token_ids, dirty.event_index
    unlabelled = TokenBatch(dirty.subject_ids, dirty.offsets, ids, blind, index, dirty.vocabulary_size)
    for most, count in ((20, 3), (2, 2)):
        read, wanted = (trajectories(one, TOKENIZER, most=most) for one in (unlabelled, clean))
        assert len(read.codes) == count
        assert read.codes.tolist() == wanted.codes.tolist()


def test_codes_that_keep_company_are_close() -> None:
    tokens = batch(*[["0", "1", "GAP//1+", "2"], ["3", "4", "GAP//1+", "5"]] * 4, ["BEGIN"], [])
    embeddings = code_embeddings(tokens)
    ids = TOKENIZER.vocabulary.encode(CODES)
    near = embeddings[ids] @ embeddings[ids].T
    assert near[0, 1] == pytest.approx(1)
    assert near[0, 3] == pytest.approx(0)
    np.testing.assert_allclose(np.linalg.norm(embeddings[ids[:6]], axis=1), 1)
    others = np.setdiff1d(np.arange(len(embeddings)), ids[:6])
    assert not embeddings[others].any()
    distances = code_distances(embeddings)
    assert not np.diag(distances).any()
    assert (distances >= 0).all()


def test_embeddings_do_not_depend_on_the_order_of_patients_or_on_chance() -> None:
    tokens = tiny.random_batch([30] * 50, vocabulary=100)
    embeddings = code_embeddings(tokens, dimensions=16)
    assert embeddings.shape == (100, 16)
    np.testing.assert_array_equal(code_embeddings(tokens, dimensions=16), embeddings)
    turned = code_embeddings(tokens.select(np.arange(50)[::-1]), dimensions=16)
    np.testing.assert_allclose(code_distances(turned), code_distances(embeddings), atol=1e-8)


def test_nobody_and_nothing_can_be_embedded() -> None:
    assert not code_embeddings(batch([], ["BEGIN"])).any()
    everyone = code_embeddings(batch(["0"], ["0", "0"]))
    assert not everyone.any()
    assert code_distances(everyone)[:2, :2].tolist() == [[0, 1], [1, 0]]

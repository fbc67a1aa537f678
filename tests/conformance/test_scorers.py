"""Every door that scores tokens goes through this suite."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conformance.doors import Answers, Door, recorded

from primum.errors import ModelError
from primum.models import causal
from primum.models.causal import logits_of
from primum.models.protocols import BoolArray, DistributionScorer, MassScorer, Scorer
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray, offsets_of
from primum.records.tokens import Kind, TokenBatch

CONTEXT, TOKENS = 16, 37
LENGTHS = np.array([0, 1, 2, 5, 15, 16, 17, 31, 46, 100, 3, 16])


def batch(lengths: IntArray, *, seed: int = 0) -> TokenBatch:
    offsets = offsets_of(lengths)
    ids = np.random.default_rng(seed).integers(0, TOKENS, offsets[-1])
    kinds = np.full(len(ids), Kind.CLINICAL, np.uint8)
    return TokenBatch(np.arange(len(lengths)), offsets, ids, kinds, np.arange(len(ids)), TOKENS)


def one_forward_per_prefix(module: torch.nn.Module, tokens: IntArray) -> FloatArray:
    """The slow way: one forward pass for each token, in the same windows."""
    result = []
    for place in range(1, len(tokens)):
        start = (place - 1) // (CONTEXT - 1) * (CONTEXT - 1)
        with torch.no_grad():
            logits = logits_of(module, torch.from_numpy(tokens[None, start:place]))[0, -1].double()
        result.append(float(torch.log_softmax(logits, -1)[tokens[place]]))
    return np.array(result)


def test_protocols(model: Answers) -> None:
    assert isinstance(model, Scorer)
    assert isinstance(model, DistributionScorer)
    assert isinstance(model, MassScorer)


def test_scores_equal_the_loop_over_prefixes(door: Door) -> None:
    tokens = batch(LENGTHS)
    for index, scores in enumerate(door.model.log_probs(tokens)):
        assert scores.dtype == np.float64
        assert scores.shape == (max(0, LENGTHS[index] - 1),)
        np.testing.assert_allclose(
            scores, one_forward_per_prefix(door.module, tokens.tokens_of(index)), atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("budget", [1, 40, 1 << 20])
def test_padding_and_batch_size_change_nothing(
    model: Answers, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = batch(LENGTHS)
    alone = [model.log_probs(tokens.select(np.array([index])))[0] for index in range(len(tokens))]
    monkeypatch.setattr(causal, "_TOKENS_A_BATCH", budget)
    for together, single in zip(model.log_probs(tokens), alone, strict=True):
        np.testing.assert_allclose(together, single, atol=1e-5, rtol=0)


def test_empty_batch_and_histories_too_short_to_score(model: Answers) -> None:
    assert model.log_probs(batch(np.array([], np.int64))) == []
    assert [len(row) for row in model.log_probs(batch(np.array([0, 1, 0])))] == [0, 0, 0]
    assert [len(row.means) for row in model.token_scores(batch(np.array([0, 1])))] == [0, 0]


def test_moments_are_those_of_the_distribution(door: Door) -> None:
    model, module = door
    tokens = batch(np.array([9]))
    (scores,) = model.token_scores(tokens)
    with torch.no_grad():
        logits = logits_of(module, torch.from_numpy(tokens.token_ids[None]))[0, :-1].double()
    log_p: FloatArray = torch.log_softmax(logits, -1).numpy()
    p = np.exp(log_p)
    mean = (p * log_p).sum(1)
    np.testing.assert_allclose(scores.means, mean, atol=1e-5)
    deviation = np.sqrt((p * (log_p - mean[:, None]) ** 2).sum(1))
    np.testing.assert_allclose(scores.deviations, deviation, atol=1e-4)
    np.testing.assert_allclose(scores.log_probs, model.log_probs(tokens)[0], atol=1e-9)


def test_every_token_is_scored_once_and_probabilities_sum_to_one(model: Answers) -> None:
    history = batch(np.array([40]))
    total = np.zeros(39)
    for token in range(TOKENS):
        ids = history.token_ids.copy()
        place = 33
        ids[place] = token
        changed = TokenBatch(
            history.subject_ids, history.offsets, ids, history.kinds, history.event_index, TOKENS
        )
        total += np.exp(model.log_probs(changed)[0])
    assert total[place - 1] == pytest.approx(1, abs=1e-5)


def groups_at_random() -> BoolArray:
    """Three groups that share out the vocabulary, one of a single token, and one of none."""
    share = np.random.default_rng(8).integers(0, 3, TOKENS)
    return np.stack([share == 0, share == 1, share == 2, np.arange(TOKENS) == 5, np.zeros(TOKENS, bool)])


def masses_one_prefix_at_a_time(module: torch.nn.Module, tokens: IntArray, groups: BoolArray) -> FloatArray:
    """The slow way: one forward pass after each token, in the windows of the scores."""
    result = np.full((len(tokens), len(groups)), -np.inf)
    for place in range(len(tokens)):
        start = place // (CONTEXT - 1) * (CONTEXT - 1)
        if start == place == len(tokens) - 1 > 0:  # no window opens at the last token: it closes one
            start -= CONTEXT - 1
        with torch.no_grad():
            logits = logits_of(module, torch.from_numpy(tokens[None, start : place + 1]))[0, -1].double()
        p = torch.softmax(logits, -1).numpy()
        for column, group in enumerate(groups):
            if group.any():
                result[place, column] = np.log(p[group].sum())
    return result


@pytest.fixture(scope="module")
def naive_masses(door: Door) -> list[FloatArray]:
    tokens, groups = batch(LENGTHS), groups_at_random()
    return [
        masses_one_prefix_at_a_time(door.module, tokens.tokens_of(index), groups)
        for index in range(len(tokens))
    ]


@pytest.mark.parametrize("budget", [1, 40, 1 << 20])
def test_masses_equal_the_loop_over_prefixes(
    model: Answers, naive_masses: list[FloatArray], budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(causal, "_TOKENS_A_BATCH", budget)
    groups = groups_at_random()
    answers = model.log_masses(batch(LENGTHS), groups)
    for masses, naive, length in zip(answers, naive_masses, LENGTHS, strict=True):
        assert masses.dtype == np.float64
        assert masses.shape == (length, len(groups))
        np.testing.assert_allclose(masses, naive, atol=1e-5, rtol=0)
        np.testing.assert_allclose(np.exp(masses[:, :3]).sum(1), 1, atol=1e-5)


def test_masses_of_single_tokens_are_the_scores(model: Answers) -> None:
    tokens = batch(LENGTHS)
    every_token = np.eye(TOKENS, dtype=bool)
    pairs = zip(model.log_masses(tokens, every_token), model.log_probs(tokens), strict=True)
    for index, (masses, scores) in enumerate(pairs):
        came = tokens.tokens_of(index)[1:]
        np.testing.assert_allclose(masses[np.arange(len(came)), came], scores, atol=1e-9)


def test_masses_of_nobody(model: Answers) -> None:
    groups = groups_at_random()
    assert model.log_masses(batch(np.array([], np.int64)), groups) == []
    assert [len(rows) for rows in model.log_masses(batch(np.array([0, 0])), groups)] == [0, 0]


def test_recorded_scores_equal_the_loop_over_prefixes(tmp_path: Path) -> None:
    tokens = batch(LENGTHS)
    model, module = recorded(tmp_path, tokens, context=CONTEXT)
    assert isinstance(model, Scorer)
    assert not isinstance(model, DistributionScorer | MassScorer)
    for index, scores in enumerate(model.log_probs(tokens)):
        assert scores.dtype == np.float64
        expected = one_forward_per_prefix(module, tokens.tokens_of(index))
        np.testing.assert_allclose(scores, expected, atol=1e-5, rtol=0)
        (alone,) = model.log_probs(tokens.select(np.array([index])))
        np.testing.assert_array_equal(alone, scores)
    assert model.log_probs(batch(np.array([], np.int64))) == []


def test_a_recording_knows_no_other_history(tmp_path: Path) -> None:
    model, _ = recorded(tmp_path, batch(LENGTHS), context=CONTEXT)
    with pytest.raises(ModelError, match="one row for each audited patient"):
        model.log_probs(batch(np.append(LENGTHS, 5)))
    with pytest.raises(ModelError, match="has 4 numbers for a history of 7 tokens"):
        model.log_probs(batch(np.array([0, 1, 2, 7])))

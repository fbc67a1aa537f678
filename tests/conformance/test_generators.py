"""Every door that writes continuations goes through this suite."""

import numpy as np
import pytest
import torch
from scipy import stats
from tests import tiny
from tests.conformance.doors import Answers, Door

from primum.errors import ModelError
from primum.models import generation
from primum.models.causal import CausalModel, logits_of
from primum.models.protocols import Generator, Sampling
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray, offsets_of
from primum.records.tokens import Kind, TokenBatch

CONTEXT, TOKENS, MORE = 22, 37, 6
LENGTHS = [3, 0, 16, 1, 9, 3]
PLAIN = Sampling()


@pytest.fixture(scope="module")
def prompts() -> TokenBatch:
    return tiny.random_batch(LENGTHS, vocabulary=TOKENS, seed=1, first_subject=70)


def drawn(
    model: Answers,
    prompts: TokenBatch,
    *,
    samples: int = 3,
    max_tokens: int = MORE,
    sampling: Sampling = PLAIN,
    seed: int = 11,
) -> list[list[list[int]]]:
    """Token lists, by prompt and then by sample."""
    batches = list(
        model.continue_from(prompts, samples=samples, max_tokens=max_tokens, sampling=sampling, seed=seed)
    )
    assert len(batches) == samples
    return [[batch.tokens_of(row).tolist() for batch in batches] for row in range(len(prompts))]


def next_probabilities(module: torch.nn.Module, prefix: list[int]) -> FloatArray:
    with torch.no_grad():
        logits = logits_of(module, torch.tensor([prefix]))[0, -1].double()
    result: FloatArray = torch.softmax(logits, -1).numpy()
    return result


def one_forward_per_token(
    module: torch.nn.Module, prompt: IntArray, uniforms: FloatArray, sampling: Sampling
) -> list[int]:
    """The slow way: the whole prefix again for each token, no cache, no padding, no neighbour."""
    prefix = prompt.tolist()
    for uniform in uniforms:
        p = next_probabilities(module, prefix) ** (1 / sampling.temperature)
        if sampling.top_k is not None:
            p[np.argsort(-p)[sampling.top_k :]] = 0
        token = int(np.argmax(np.cumsum(p) / p.sum() > uniform))
        if token in sampling.stop:
            break
        prefix.append(token)
    continuation: list[int] = prefix[len(prompt) :]
    return continuation


@pytest.mark.parametrize("sampling", [PLAIN, Sampling(temperature=0.6, top_k=5, stop=(3, 30))])
def test_samples_equal_the_loop_over_prefixes(door: Door, prompts: TokenBatch, sampling: Sampling) -> None:
    samples = drawn(door.model, prompts, samples=9, sampling=sampling)
    for row, texts in enumerate(samples):
        uniforms = np.random.default_rng([11, row]).random((9, MORE))
        for text, draws in zip(texts, uniforms, strict=True):
            prompt = prompts.tokens_of(row)
            assert text == (
                one_forward_per_token(door.module, prompt, draws, sampling) if len(prompt) else []
            )


def test_greedy_takes_the_most_probable(door: Door, prompts: TokenBatch) -> None:
    for row, texts in enumerate(drawn(door.model, prompts, sampling=Sampling(temperature=0))):
        prefix = prompts.tokens_of(row).tolist()
        for _ in range(MORE if prefix else 0):
            prefix.append(int(next_probabilities(door.module, prefix).argmax()))
        assert texts == [prefix[LENGTHS[row] :]] * 3


def test_a_seed_fixes_the_samples(model: Answers, prompts: TokenBatch) -> None:
    first = drawn(model, prompts)
    assert isinstance(model, Generator)
    assert drawn(model, prompts) == first
    assert drawn(model, prompts, seed=12) != first
    assert all(len({tuple(text) for text in texts}) == 3 for texts in first if texts[0])
    more = drawn(model, prompts, samples=9)
    assert [texts[:3] for texts in more] == first


@pytest.mark.parametrize(
    ("setting", "value"), [("_CACHED_TOKENS", 1), ("_SIDE_BY_SIDE", 1), ("_SIDE_BY_SIDE", 2)]
)
def test_batches_change_nothing(
    model: Answers, prompts: TokenBatch, setting: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = drawn(model, prompts)
    monkeypatch.setattr(generation, setting, value)
    assert drawn(model, prompts) == together


def test_left_padding_and_neighbours_change_nothing(model: Answers, prompts: TokenBatch) -> None:
    together = drawn(model, prompts)
    for row in range(len(prompts)):
        lengths = np.zeros_like(prompts.lengths)
        lengths[row] = LENGTHS[row]
        one = prompts.select(np.array([row]))
        alone = TokenBatch(
            prompts.subject_ids, offsets_of(lengths), one.token_ids, one.kinds, one.event_index, TOKENS
        )
        assert drawn(model, alone)[row] == together[row]


def test_frequencies_are_the_probabilities(door: Door) -> None:
    model, module = door
    prompt = tiny.random_batch([6], vocabulary=TOKENS).select(np.zeros(40, np.int64))
    pairs = np.array(drawn(model, prompt, samples=100, max_tokens=2)).reshape(-1, 2)
    prefix = prompt.tokens_of(0).tolist()
    first = next_probabilities(module, prefix)
    second = sum(first[token] * next_probabilities(module, [*prefix, token]) for token in range(TOKENS))
    for column, p in zip(pairs.T, (first, second), strict=True):
        test = stats.chisquare(np.bincount(column, minlength=TOKENS), p * len(column))
        assert test.pvalue > 0.001


def test_a_stop_token_cuts(model: Answers, prompts: TokenBatch) -> None:
    whole = drawn(model, prompts)
    stop = whole[2][1][3]
    cut = drawn(model, prompts, sampling=Sampling(stop=(stop,)))
    for texts, shorter in zip(whole, cut, strict=True):
        assert shorter == [text[: text.index(stop)] if stop in text else text for text in texts]


def test_what_a_batch_holds(model: Answers, prompts: TokenBatch) -> None:
    # A server knows one vocabulary only, its own.
    size = 5 if isinstance(model, CausalModel) else TOKENS
    few = TokenBatch(
        prompts.subject_ids, prompts.offsets, prompts.token_ids % 5, prompts.kinds, prompts.event_index, size
    )
    for batch in model.continue_from(few, samples=2, max_tokens=MORE, sampling=PLAIN, seed=0):
        assert batch.subject_ids.tolist() == list(range(70, 76))
        assert batch.lengths.tolist() == [MORE if length else 0 for length in LENGTHS]
        assert set(batch.kinds.tolist()) == {Kind.CLINICAL}
        assert set(batch.event_index.tolist()) == {-1}
        assert batch.vocabulary_size == size
        assert batch.token_ids.min() >= 0
        assert batch.token_ids.max() < size


def test_nobody_to_continue(model: Answers) -> None:
    assert drawn(model, tiny.random_batch([], vocabulary=TOKENS)) == []
    assert drawn(model, tiny.random_batch([0, 0], vocabulary=TOKENS)) == [[[]] * 3] * 2


def test_a_prompt_that_leaves_no_room(model: Answers) -> None:
    drawn(model, tiny.random_batch([CONTEXT - MORE], vocabulary=TOKENS))
    # A server may only say that it refuses.
    says = r"17 tokens leaves no room for 6 more in the context of 22|refuses continue_from \(status 400\)"
    with pytest.raises(ModelError, match=says):
        drawn(model, tiny.random_batch([CONTEXT - MORE + 1], vocabulary=TOKENS))


def test_weights_that_are_no_numbers(prompts: TokenBatch) -> None:
    model = tiny.build(vocabulary=TOKENS, context=CONTEXT)
    next(model.module.parameters()).data.fill_(torch.nan)
    for sampling in (PLAIN, Sampling(temperature=0)):
        with pytest.raises(ModelError, match="not finite"):
            drawn(model, prompts, sampling=sampling)


def test_the_impossible_is_not_drawn() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, 0.0]])
    draws = [generation._choose(logits, torch.tensor([u]), PLAIN).item() for u in (0.0, 0.49, 0.5, 0.999)]
    assert draws == [1, 1, 2, 2]

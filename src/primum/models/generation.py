"""Continuations drawn from a causal model: a prompt is read once, whatever the number of its samples."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from primum.errors import ModelError
from primum.models.protocols import Sampling
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray, offsets_of
from primum.records.tokens import Kind, TokenBatch

# Samples of one prompt that share its keys and values. Each token then costs attention over its neighbours'
# tokens, hidden by a mask, and still is cheaper than a copy of the cache for each sample: 1.6 times after
# prompts of 40 tokens, 2.6 times after 150. A state, or a window that slides, cannot be shared: it is copied.
_SIDE_BY_SIDE = 8
# Keys and values kept by a batch stay near 1 GB for a model as large as GPT-2, its logits under 32 MB.
_CACHED_TOKENS = 1 << 14
_LOGITS_A_BATCH = 1 << 22

# Reads one more token of each sample, shape (prompts, side), and returns what may follow it.
_Advance = Callable[[torch.Tensor, int], torch.Tensor]


def continuations(
    module: torch.nn.Module,
    prompts: TokenBatch,
    *,
    context: int,
    samples: int,
    max_tokens: int,
    sampling: Sampling,
    seed: int,
) -> Iterator[TokenBatch]:
    """Draw from a Hugging Face causal model; see :meth:`primum.models.protocols.Generator.continue_from`.

    Raises
    ------
    ModelError
        A prompt too long for its continuation to fit in the context, or logits that are not finite.
    """
    longest = int(prompts.lengths.max(initial=0))
    if longest > context - max_tokens:
        raise ModelError(
            "A prompt of {longest} tokens leaves no room for {wanted} more in the context of {context} that "
            "the model sees: cut the prompts or ask for fewer tokens.",
            longest=longest,
            wanted=max_tokens,
            context=context,
        )
    drawn = np.full((len(prompts), samples, max_tokens), -1)
    begin = _side_by_side if _remembers_everything(module) else _copies
    side = min(samples, _SIDE_BY_SIDE)
    cached = longest + side * max_tokens if begin is _side_by_side else side * (longest + max_tokens)
    rows = max(1, min(_CACHED_TOKENS // cached, _LOGITS_A_BATCH // (side * prompts.vocabulary_size)))
    for batch in _batches(prompts.lengths, rows, equal=begin is _copies):
        uniforms = np.stack(
            [np.random.default_rng([seed, row]).random((samples, max_tokens)) for row in batch]
        )
        for sample in range(0, samples, side):
            part = slice(sample, sample + side)
            logits, advance = begin(module, prompts.select(batch), uniforms[:, part].shape[1:])
            drawn[batch, part] = _draw(
                logits[..., : prompts.vocabulary_size], advance, uniforms[:, part], sampling
            )
    return (_sample(prompts, drawn[:, sample]) for sample in range(samples))


def not_finite() -> ModelError:
    """Say that a model answers with numbers that mean nothing."""
    return ModelError(
        "The model answers with numbers that are not finite (NaN or infinity): check its weights and "
        "its training before auditing it."
    )


def _remembers_everything(module: torch.nn.Module) -> bool:
    """Whether each token is kept by itself: a window that slides or a state cannot keep samples apart."""
    from transformers import DynamicCache

    cache = DynamicCache(config=module.config)
    return not any(cache.is_sliding) and not any(cache.is_linear)


def _sample(prompts: TokenBatch, drawn: IntArray) -> TokenBatch:
    """Make a batch of tokens, shape (prompts, max_tokens), that end where the first -1 stands."""
    inside = drawn >= 0
    return TokenBatch(
        prompts.subject_ids,
        offsets_of(inside.sum(1)),
        drawn[inside],
        np.full(inside.sum(), Kind.CLINICAL, np.uint8),
        np.full(inside.sum(), -1),
        prompts.vocabulary_size,
    )


def _batches(lengths: IntArray, rows: int, *, equal: bool) -> Iterator[IntArray]:
    """Yield at most `rows` prompts at a time, the longest first; of one length if they must be `equal`."""
    order = np.argsort(-lengths, kind="stable")[: np.count_nonzero(lengths)]
    changes = np.flatnonzero(np.diff(lengths[order])) + 1 if equal else np.empty(0, np.int64)
    for begin, end in pairwise([0, *changes.tolist(), len(order)]):
        for first in range(begin, end, rows):
            yield order[first : min(first + rows, end)]


def _draw(logits: torch.Tensor, advance: _Advance, uniforms: FloatArray, sampling: Sampling) -> IntArray:
    """Continue prompts of one batch; `uniforms` has shape (prompts, side, max_tokens), the result too."""
    result = torch.full(uniforms.shape, -1)
    running = torch.ones(uniforms.shape[:2], dtype=torch.bool)
    steps = uniforms.shape[2]
    with torch.inference_mode():
        for step in range(steps):
            chosen = _choose(logits, torch.from_numpy(uniforms[..., step]), sampling)
            running &= ~torch.isin(chosen, torch.tensor(sampling.stop, dtype=torch.int64))
            result[..., step] = torch.where(running, chosen, -1)
            if step == steps - 1 or not running.any():
                break
            logits = advance(chosen, step)[..., : logits.shape[-1]]
    drawn: IntArray = result.numpy()
    return drawn


@torch.inference_mode()
def _side_by_side(
    module: torch.nn.Module, prompts: TokenBatch, shape: tuple[int, ...]
) -> tuple[torch.Tensor, _Advance]:
    """Read prompts, padded on the left; samples then share one cache, each blind to its neighbours."""
    side, steps = shape
    lengths = torch.from_numpy(prompts.lengths)
    width = int(lengths.max())
    real = torch.arange(width) >= width - lengths[:, None]
    ids = torch.zeros(len(prompts), width, dtype=torch.int64)
    ids[real] = torch.from_numpy(prompts.token_ids)
    mask = _mask(real, side, steps)
    answer = module(
        input_ids=ids,
        attention_mask=real.long(),
        position_ids=(real.cumsum(1) - 1).clamp(min=0),
        use_cache=True,
        logits_to_keep=1,
    )

    def advance(chosen: torch.Tensor, step: int) -> torch.Tensor:
        logits: torch.Tensor = module(
            input_ids=chosen,
            attention_mask=mask[..., : width + side * (step + 1)],
            position_ids=(lengths + step)[:, None].expand(-1, side),
            past_key_values=answer.past_key_values,
            use_cache=True,
        ).logits
        return logits

    return answer.logits.expand(-1, side, -1), advance


@torch.inference_mode()
def _copies(
    module: torch.nn.Module, prompts: TokenBatch, shape: tuple[int, ...]
) -> tuple[torch.Tensor, _Advance]:
    """Read prompts of one length, for a state would see padding; each sample then has its own copy."""
    side, length = shape[0], int(prompts.lengths[0])
    answer = module(
        input_ids=torch.from_numpy(prompts.token_ids).view(-1, length), use_cache=True, logits_to_keep=1
    )
    name = "cache_params" if hasattr(answer, "cache_params") else "past_key_values"
    cache: Any = answer[name]
    cache.reorder_cache(torch.arange(len(prompts)).repeat_interleave(side))

    def advance(chosen: torch.Tensor, step: int) -> torch.Tensor:
        ids = chosen.reshape(-1, 1)
        position = torch.full_like(ids, length + step)
        logits: torch.Tensor = module(
            input_ids=ids, position_ids=position, use_cache=True, **{name: cache}
        ).logits
        return logits.view(*chosen.shape, -1)

    return answer.logits.expand(-1, side, -1), advance


def _mask(real: torch.Tensor, side: int, steps: int) -> torch.Tensor:
    """Show each token the real tokens of its prompt and its own sample; one column a token of the cache."""
    prompt = real[:, None].expand(-1, side, -1)
    own = torch.eye(side, dtype=torch.bool).repeat(1, steps).expand(len(real), -1, -1)
    seen = torch.cat([prompt, own], 2)[:, None]
    return torch.zeros(seen.shape).masked_fill_(~seen, -torch.inf)


def _choose(logits: torch.Tensor, uniforms: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Take one token a row of `logits`, by inverse cumulative distribution in the order of the token ids."""
    if not logits.amax(-1).isfinite().all():
        raise not_finite()
    if sampling.temperature == 0:
        return logits.argmax(-1)
    if sampling.top_k is not None:
        least = logits.topk(min(sampling.top_k, logits.shape[-1])).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    # In float32 the rounding of the sum over a large vocabulary would change with the batch.
    cumulative = torch.softmax(logits.double() / sampling.temperature, -1).cumsum(-1)
    return torch.searchsorted(cumulative, uniforms[..., None] * cumulative[..., -1:], right=True)[..., 0]

"""Continuations drawn from a causal model: a prompt is read once, its samples are written side by side."""

from collections.abc import Iterator

import numpy as np
import torch
from transformers import DynamicCache

from primum.errors import ModelError
from primum.models.protocols import Sampling
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray, offsets_of
from primum.records.tokens import Kind, TokenBatch

# Samples of one prompt that share its cache. Each token then costs attention over its neighbours' tokens,
# hidden by a mask, and still is cheaper than a copy of the cache for each sample: 1.6 times after prompts of
# 40 tokens, 2.6 times after 150.
_SIDE_BY_SIDE = 8
# Keys and values kept by a batch stay near 1 GB for a model as large as GPT-2, its logits under 32 MB.
_CACHED_TOKENS = 1 << 14
_LOGITS_A_BATCH = 1 << 22


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
    side = min(samples, _SIDE_BY_SIDE) if _remembers_everything(module) else 1
    cached = longest + side * max_tokens
    rows = max(1, min(_CACHED_TOKENS // cached, _LOGITS_A_BATCH // (side * prompts.vocabulary_size)))
    order = np.argsort(-prompts.lengths, kind="stable")[: np.count_nonzero(prompts.lengths)]
    for first in range(0, len(order), rows):
        batch = order[first : first + rows]
        uniforms = np.stack(
            [np.random.default_rng([seed, row]).random((samples, max_tokens)) for row in batch]
        )
        for sample in range(0, samples, side):
            part = slice(sample, sample + side)
            drawn[batch, part] = _draw(module, prompts.select(batch), uniforms[:, part], sampling)
    return (_sample(prompts, drawn[:, sample]) for sample in range(samples))


def not_finite() -> ModelError:
    """Say that a model answers with numbers that mean nothing."""
    return ModelError(
        "The model answers with numbers that are not finite (NaN or infinity): check its weights and "
        "its training before auditing it."
    )


def _remembers_everything(module: torch.nn.Module) -> bool:
    """Whether each token is kept by itself: a window that slides or a state cannot keep samples apart."""
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


def _draw(module: torch.nn.Module, prompts: TokenBatch, uniforms: FloatArray, sampling: Sampling) -> IntArray:
    """Continue prompts of one batch; `uniforms` has shape (prompts, side, max_tokens), the result too."""
    count, side, steps = uniforms.shape
    lengths = torch.from_numpy(prompts.lengths)
    width = int(lengths.max())
    real = torch.arange(width) >= width - lengths[:, None]
    ids = torch.zeros(count, width, dtype=torch.int64)
    ids[real] = torch.from_numpy(prompts.token_ids)
    mask = _mask(real, side, steps)
    result = torch.full(uniforms.shape, -1)
    running = torch.ones(count, side, dtype=torch.bool)
    with torch.inference_mode():
        answer = module(
            input_ids=ids,
            attention_mask=real.long(),
            position_ids=(real.cumsum(1) - 1).clamp(min=0),
            use_cache=True,
            logits_to_keep=1,
        )
        logits = answer.logits.expand(-1, side, -1)
        for step in range(steps):
            chosen = _choose(
                logits[..., : prompts.vocabulary_size], torch.from_numpy(uniforms[..., step]), sampling
            )
            running &= ~torch.isin(chosen, torch.tensor(sampling.stop, dtype=torch.int64))
            result[..., step] = torch.where(running, chosen, -1)
            if step == steps - 1 or not running.any():
                break
            logits = module(
                input_ids=chosen,
                attention_mask=mask[..., : width + side * (step + 1)],
                position_ids=(lengths + step)[:, None].expand(-1, side),
                past_key_values=answer.past_key_values,
                use_cache=True,
            ).logits
    drawn: IntArray = result.numpy()
    return drawn


def _mask(real: torch.Tensor, side: int, steps: int) -> torch.Tensor:
    """Show each token the real tokens of its prompt and its own sample; one column a token of the cache."""
    if side == 1:
        return torch.cat([real.long(), torch.ones(len(real), steps, dtype=torch.int64)], 1)
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

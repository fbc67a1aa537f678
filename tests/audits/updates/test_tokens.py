"""Histories read off a small Llama's gradient, word for word."""

import numpy as np
import pytest
import torch
from torch import nn

from primum.audits.updates.tokens import histories_in, tokens_in
from primum.fit.causal_recipe import SmallCausalRecipe
from primum.fit.loop import LoopSettings
from primum.fit.updates import Update
from primum.records.ragged import IntArray

VOCABULARY = 50
LAYER = "model.layers.0.mlp.gate_proj"


def sent_of(ids: torch.Tensor, *, noise: float = 0.0) -> tuple[nn.Module, Update]:
    recipe = SmallCausalRecipe(LoopSettings(epochs=1), width=32, layers=1, heads=2)
    module = recipe.build(VOCABULARY, seed=0).module.eval()
    logits = module(input_ids=ids).logits[:, :-1].flatten(0, 1)
    loss = nn.functional.cross_entropy(logits, ids[:, 1:].flatten())
    weights = dict(module.named_parameters())
    rng = np.random.default_rng(0)
    sent = {
        name: one.numpy() + noise * rng.standard_normal(one.shape).astype(np.float32)
        for name, one in zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True)
    }
    before = {name: value.detach().numpy() for name, value in weights.items()}
    return module, Update("site", 0, "gradient", len(ids), 1, len(ids), 1.0, before, sent)


def drawn(cases: int, length: int) -> torch.Tensor:
    return torch.randint(VOCABULARY, (cases, length), generator=torch.Generator().manual_seed(cases + length))


@pytest.mark.parametrize(("cases", "length"), [(1, 2), (1, 12), (3, 8)])
def test_tokens_and_their_order(cases: int, length: int) -> None:
    ids = drawn(cases, length)
    module, update = sent_of(ids)
    tokens = tokens_in(update.sent["model.embed_tokens.weight"])
    np.testing.assert_array_equal(tokens, np.unique(ids[:, :-1]))
    found = histories_in(module, update, layer=LAYER, tokens=tokens, longest=length)
    assert sorted(map(tuple, found)) == sorted(map(tuple, ids[:, :-1].tolist()))
    assert not module.get_submodule(LAYER)._forward_pre_hooks


def test_histories_of_unequal_length_are_told_apart() -> None:
    ids = drawn(2, 9)
    ids[1, :4] = ids[0, :4]
    module, update = sent_of(ids)
    tokens = tokens_in(update.sent["model.embed_tokens.weight"])
    found = histories_in(module, update, layer=LAYER, tokens=tokens, longest=9)
    assert sorted(map(tuple, found)) == sorted(map(tuple, ids[:, :-1].tolist()))


def test_a_batch_that_fills_the_layer_keeps_its_order() -> None:
    module, update = sent_of(drawn(5, 10))
    tokens = tokens_in(update.sent["model.embed_tokens.weight"])
    assert histories_in(module, update, layer=LAYER, tokens=tokens, longest=10) == []


def test_noise_hides_order_and_then_tokens() -> None:
    ids = drawn(1, 8)
    module, update = sent_of(ids, noise=1e-4)
    truth = np.unique(ids[:, :-1])

    def seen(noisy: Update, deviation: float) -> IntArray:
        return tokens_in(noisy.sent["model.embed_tokens.weight"], deviation=deviation)

    np.testing.assert_array_equal(seen(update, 1e-4), truth)
    assert len(seen(update, 0.0)) == VOCABULARY
    assert histories_in(module, update, layer=LAYER, tokens=truth, longest=8) == []
    assert len(seen(sent_of(ids, noise=1.0)[1], 1.0)) <= 2


def test_noise_alone_shows_no_token_in_nineteen_of_twenty_updates() -> None:
    rng = np.random.default_rng(0)
    alarms = [len(tokens_in(0.3 * rng.standard_normal((200, 16)), deviation=0.3)) > 0 for _ in range(400)]
    assert 0.02 < np.mean(alarms) < 0.09

"""Every door that embeds histories goes through this suite."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from tests import tiny
from tests.conformance.doors import WIDTH, Answers, Door, recorded

from primum.errors import ModelError
from primum.models import causal
from primum.models.protocols import Embedder, Generator, MassScorer
from primum.records.histories import FloatArray
from primum.records.tokens import TokenBatch

CONTEXT, TOKENS = 16, 37
LENGTHS = [5, 0, 1, 16, 17, 40, 2, 15]


@pytest.fixture(scope="module")
def tokens() -> TokenBatch:
    return tiny.random_batch(LENGTHS, vocabulary=TOKENS, seed=2)


def members_of(module: Any) -> list[Any]:
    """The models that answer together, often one."""
    return list(getattr(module, "members", [module]))


def last_states(module: Any, tokens: TokenBatch) -> FloatArray:
    """The slow way: one history at a time, the last of all the hidden states that the model shows."""
    members = members_of(module)
    result = np.full((len(tokens), WIDTH * len(members)), np.nan)
    for row in range(len(tokens)):
        if not LENGTHS[row]:
            continue
        ids = torch.from_numpy(tokens.tokens_of(row)[-CONTEXT:][None])
        with torch.no_grad():
            states = [one(input_ids=ids, output_hidden_states=True).hidden_states[-1] for one in members]
            result[row] = np.concatenate([state[0, -1].numpy() for state in states])
    return result


def test_embeddings_equal_one_forward_a_patient(door: Door, tokens: TokenBatch) -> None:
    model, module = door
    assert isinstance(model, Embedder)
    embeddings = model.embed(tokens)
    assert embeddings.dtype == np.float64
    np.testing.assert_allclose(embeddings, last_states(module, tokens), atol=1e-5, rtol=0)
    assert np.isnan(embeddings).all(1).tolist() == [length == 0 for length in LENGTHS]


def test_recorded_embeddings_equal_one_forward_a_patient(tmp_path: Path, tokens: TokenBatch) -> None:
    model, module = recorded(tmp_path, tokens, context=CONTEXT)
    assert isinstance(model, Embedder)
    assert not isinstance(model, Generator | MassScorer)
    backwards = np.arange(len(tokens))[::-1]
    embeddings = model.embed(tokens.select(backwards))
    assert embeddings.dtype == np.float64
    np.testing.assert_allclose(embeddings, last_states(module, tokens)[backwards], atol=1e-5, rtol=0)
    with pytest.raises(ModelError, match="one row for each audited patient"):
        model.embed(tiny.random_batch([5], vocabulary=TOKENS, first_subject=100))


def test_embeddings_are_what_the_logits_are_made_of(door: Door, tokens: TokenBatch) -> None:
    model, module = door.model, cast(Any, door.module)
    (embedding,) = model.embed(tokens.select(np.array([0])))
    members = members_of(module)
    with torch.no_grad():
        states = torch.from_numpy(embedding).float().chunk(len(members))
        each = [one.get_output_embeddings()(state) for one, state in zip(members, states, strict=True)]
    expected = torch.stack([torch.softmax(logits, -1) for logits in each]).mean(0).log()
    (masses,) = model.log_masses(tokens.select(np.array([0])), np.eye(TOKENS, dtype=bool))
    np.testing.assert_allclose(masses[-1], expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("budget", [1, 40, 1 << 20])
def test_padding_and_batch_size_change_nothing(
    model: Answers, tokens: TokenBatch, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = np.concatenate([model.embed(tokens.select(np.array([row]))) for row in range(len(tokens))])
    monkeypatch.setattr(causal, "_TOKENS_A_BATCH", budget)
    np.testing.assert_allclose(model.embed(tokens), alone, atol=1e-5, rtol=0)


def test_nobody_to_embed(door: Door, model: Answers) -> None:
    width = WIDTH * len(members_of(door.module))
    assert model.embed(tiny.random_batch([], vocabulary=TOKENS)).shape == (0, width)
    assert np.isnan(model.embed(tiny.random_batch([0, 0], vocabulary=TOKENS))).all()


def test_weights_that_are_no_numbers(tokens: TokenBatch) -> None:
    model = tiny.build(vocabulary=TOKENS)
    next(model.module.parameters()).data.fill_(torch.nan)
    with pytest.raises(ModelError, match="not finite"):
        model.embed(tokens)
    with pytest.raises(ModelError, match="not finite"):
        model.log_masses(tokens, np.ones((1, TOKENS), bool))

"""State models as folders: what their configuration leaves out, and what padding must not touch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests import tiny
from tests.conformance.doors import DOORS
from transformers.models.auto.modeling_auto import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

import primum
from primum.errors import VocabularyError
from primum.evidence.rules import RULES_OF
from primum.models import causal, hf_folder
from primum.models.causal import CausalModel
from primum.models.doors import open_model
from primum.models.protocols import Sampling
from primum.records.histories import InMemory
from primum.records.vocabulary import Vocabulary

RULES = RULES_OF["sequence"]

TOKENS = 37
CONTEXT = 64


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    dict(DOORS)["mamba2"](tmp_path / "model", TOKENS, CONTEXT)
    return tmp_path / "model"


def configure(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | changes
    kept = {key: value for key, value in config.items() if value != "gone"}
    (folder / "config.json").write_text(json.dumps(kept), encoding="utf-8")


def test_a_context_that_nobody_says_is_guessed_and_said(folder: Path) -> None:
    assert open_model(folder).guessed == ()
    configure(folder, max_position_embeddings="gone")
    opened = open_model(folder)
    assert (opened.context, opened.guessed) == (2048, ("context = 2048",))
    configure(folder, max_seq_length=48)
    opened = open_model(folder)
    assert (opened.context, opened.guessed) == (48, ())


def test_a_guessed_profile_is_said(folder: Path) -> None:
    (folder / "token_profile.json").unlink()
    named = ("[PAD]", "[CLS]", *(f"c{token}" for token in range(2, TOKENS)))
    Vocabulary(named).write(folder / "vocab.json")
    opened = open_model(folder)
    assert opened.guessed == ("begin = [CLS]", "pad = [PAD]")
    assert opened.tokenizer.profile.begin == "[CLS]"
    assert "token_profile.json" not in opened.ref.files


def test_every_file_of_the_vocabulary_shapes_the_model(folder: Path) -> None:
    before = open_model(folder)
    tokens = before.tokenizer.vocabulary.tokens
    (folder / "labels.csv").write_text("\n".join(tokens), encoding="utf-8")
    after = open_model(folder)
    assert after.ref.files.keys() - before.ref.files.keys() == {"labels.csv"}
    (folder / "vocab.json").unlink()
    assert open_model(folder).tokenizer == before.tokenizer
    (folder / "labels.csv").write_text("\n".join(tokens[::-1]), encoding="utf-8")
    before.tokenizer.vocabulary.write(folder / "vocab.json")
    with pytest.raises(VocabularyError, match=r"vocab\.json and labels\.csv give different tokens"):
        open_model(folder)


def test_a_vocabulary_of_a_much_smaller_model(folder: Path) -> None:
    few = tuple(f"c{token}" for token in range(30))
    Vocabulary(few).write(folder / "vocab.json")
    assert len(open_model(folder).tokenizer.vocabulary) == 30  # embeddings are rounded up
    wide = folder.parent / "wide"
    dict(DOORS)["mamba2"](wide, 200, CONTEXT)
    Vocabulary(few).write(wide / "vocab.json")
    with pytest.raises(VocabularyError, match=r"has 200 tokens but vocab\.json only 30"):
        open_model(wide)


def test_the_length_of_chunks_changes_speed_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = tiny.random_batch([100, 3, 64, 33], vocabulary=TOKENS)
    configure(folder, chunk_size=256)
    model: Any = open_model(folder).scorer
    assert {block.mixer.chunk_size for block in model.module.backbone.layers} == {32}
    monkeypatch.setattr(hf_folder, "_CHUNK", 256)
    for short, long in zip(
        model.log_probs(tokens), tiny.scorer_of(open_model(folder)).log_probs(tokens), strict=True
    ):
        np.testing.assert_allclose(short, long, atol=1e-5, rtol=0)


def test_what_padding_holds_is_never_seen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter histories of a batch are filled up with token 0: with any other the answers are the same."""
    model: Any = open_model(folder).scorer
    tokens = tiny.random_batch([9, 3, 1, 5], vocabulary=TOKENS, seed=6)
    groups = np.eye(TOKENS, dtype=bool)
    before = [*model.log_probs(tokens), *model.log_masses(tokens, groups), model.embed(tokens)]

    def filled(batch: Any, patient: Any, start: Any, length: Any) -> Any:
        matrix = plain(batch, patient, start, length)
        matrix[np.arange(matrix.shape[1]) >= length[:, None]] = TOKENS - 1
        return matrix

    plain = causal.padded
    monkeypatch.setattr(causal, "padded", filled)
    after = [*model.log_probs(tokens), *model.log_masses(tokens, groups), model.embed(tokens)]
    for first, second in zip(before, after, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-6, rtol=0)


def test_the_state_that_writes_is_the_state_that_reads(folder: Path) -> None:
    """With biases in every projection, where padding on the left would leak into the state."""
    configure(folder, use_bias=True)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = hf_folder._config(folder, folder)
        module = AutoModelForCausalLM.from_config(config)
        for weights in module.parameters():
            weights.data += 0.4 * torch.randn_like(weights)
    model = CausalModel(module, context=CONTEXT, vocabulary_size=TOKENS)
    prompts = tiny.random_batch([9, 2, 5, 2], vocabulary=TOKENS)
    greedy = Sampling(temperature=0)
    (drawn,) = model.continue_from(prompts, samples=1, max_tokens=8, sampling=greedy, seed=0)
    for row in range(len(prompts)):
        ids = torch.from_numpy(prompts.tokens_of(row)[None])
        for token in drawn.tokens_of(row):
            with torch.no_grad():
                assert token == int(module(input_ids=ids, use_cache=False).logits[0, -1].argmax())
            ids = torch.cat([ids, torch.tensor([[token]])], 1)


def test_nothing_is_said_about_faster_ways(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    def said() -> str:
        transformers_logging.warning_once.cache_clear()
        tiny.scorer_of(open_model(folder)).log_probs(tiny.random_batch([9], vocabulary=TOKENS))
        return caplog.text

    assert said() == ""
    transformers_logging.set_verbosity_warning()
    try:
        assert "falling back to its reference PyTorch implementation" in said()
    finally:
        transformers_logging.set_verbosity_error()


def test_every_family_answers_for_a_state_model_of_guessed_profile(tmp_path: Path) -> None:
    people = tiny.cohort(train=40, members=24, held_out=24)
    members, held_out = (InMemory((people[side],)) for side in ("members", "held_out"))
    tokenizer = tiny.tokenizer_of(InMemory((people["train"],)))
    dict(DOORS)["mamba2"](tmp_path / "model", len(tokenizer.vocabulary), CONTEXT)
    tokenizer.vocabulary.write(tmp_path / "model" / "vocab.json")
    (tmp_path / "model" / "token_profile.json").unlink()
    configure(tmp_path / "model", max_position_embeddings="gone")
    opened = open_model(tmp_path / "model")
    assert "context = 2048" in opened.guessed
    audit = primum.audit(opened, members, held_out, sampled=16)
    assert "context = 2048" in str(audit.context["guessed"])
    found = {finding.test: finding for finding in audit.findings}
    assert not RULES.keys() - found.keys()
    for finding in audit.findings:
        # A model is not asked what is too little of: it is never said to be unable.
        assert all(reason.code != "model_cannot" for reason in finding.reasons), finding.test

"""The doors that the suite goes through, each to a small model of random weights.

Folders are in `DOORS`; the wire leads to the first of them, and so did the questions of the recorded door.
"""

import runpy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import polars as pl
import torch
from tests import tiny
from transformers import (
    GPT2Config,
    LlamaConfig,
    Mamba2Config,
    MambaConfig,
    MistralConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from primum.models.causal import CausalModel
from primum.models.doors import open_model
from primum.models.hf_folder import save_folder
from primum.models.mixture import Mixture
from primum.models.protocols import DistributionScorer, Embedder, Generator, MassScorer
from primum.models.recorded import EMBEDDINGS, SCORES
from primum.records.tokenizer import Tokenizer
from primum.records.tokens import TokenBatch
from primum.records.vocabulary import Vocabulary

WIDTH = 16
SERVER = Path(__file__).resolve().parents[2] / "examples" / "wire_server.py"
SECRET = "a-long-secret"


class Answers(DistributionScorer, MassScorer, Embedder, Generator, Protocol):
    """What answers every question."""


class Door(NamedTuple):
    """What answers, and the torch module behind it, which the suite asks one history at a time."""

    model: Any
    module: torch.nn.Module


# A folder to write to, tokens of the vocabulary, and how many of them the model sees at once.
Factory = Callable[[Path, int, int], Door]


def architecture(kind: Any, *, members: int = 1, **settings: Any) -> Factory:
    """Make a door of a Hugging Face folder, of the mean of several models if there are members."""

    def build(folder: Path, tokens: int, context: int) -> Door:
        config = kind(vocab_size=tokens, hidden_size=WIDTH, num_hidden_layers=2, **settings)
        config.max_position_embeddings = context
        each = [_random(config, seed=3 + place) for place in range(members)]
        module: Any = each[0] if members == 1 else Mixture(each)
        vocabulary = Vocabulary(tuple(f"c{token}" for token in range(tokens)))
        model = CausalModel(module, context=context, vocabulary_size=tokens)
        save_folder(folder, model, Tokenizer(vocabulary, tiny.BARE))
        scorer = open_model(folder).scorer
        assert isinstance(scorer, CausalModel)
        assert scorer.context == context
        return Door(scorer, module.eval())

    return build


def _random(config: Any, *, seed: int) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    # Fresh weights say almost the same after every prefix: these do not.
    random = torch.Generator().manual_seed(seed + 1)
    for weights in module.parameters():
        if weights.ndim > 1:
            weights.data.normal_(0, 0.4, generator=random)
    return module


ATTENTION = {"num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 32}
DOORS: list[tuple[str, Factory]] = [
    ("llama", architecture(LlamaConfig, **ATTENTION)),
    ("gpt2", architecture(GPT2Config, n_head=2, bos_token_id=None, eos_token_id=None)),
    ("mixture", architecture(LlamaConfig, members=3, **ATTENTION)),
    ("mixture of windows", architecture(MistralConfig, members=2, sliding_window=4, **ATTENTION)),
    ("mistral", architecture(MistralConfig, sliding_window=4, **ATTENTION)),
    ("mamba", architecture(MambaConfig, state_size=4)),
    (
        "mamba2",
        architecture(Mamba2Config, num_heads=4, head_dim=8, n_groups=2, state_size=4, chunk_size=4),
    ),
]
NAMES = [*(name for name, _ in DOORS), "wire"]


@contextmanager
def through(name: str, folder: Path, *, tokens: int, context: int) -> Iterator[Door]:
    """Open the door called `name`, and close it afterwards."""
    if name != "wire":
        yield dict(DOORS)[name](folder, tokens, context)
        return
    behind = DOORS[0][1](folder / "model", tokens, context)
    with served(folder / "model", folder / "token") as url:
        yield Door(open_model(url, token_file=folder / "token").scorer, behind.module)


@contextmanager
def served(model: Path, token_file: Path) -> Iterator[str]:
    """Serve a folder with the reference server, write the token down and give the address."""
    token_file.write_text(f"{SECRET}\n", encoding="utf-8")
    server: ThreadingHTTPServer = runpy.run_path(str(SERVER))["serve"](model, token=SECRET)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


def recorded(folder: Path, histories: TokenBatch, *, context: int) -> Door:
    """Write down what the first door answers about these histories, and open that."""
    behind = DOORS[0][1](folder / "model", histories.vocabulary_size, context)
    answers = folder / "answers"
    answers.mkdir()
    for name in ("vocab.json", "token_profile.json"):
        (answers / name).write_bytes((folder / "model" / name).read_bytes())
    log_probs = [row.tolist() for row in behind.model.log_probs(histories)]
    for file, column, rows in (
        (SCORES, "log_probs", log_probs),
        (EMBEDDINGS, "embedding", behind.model.embed(histories).tolist()),
    ):
        pl.DataFrame({"subject_id": histories.subject_ids, column: rows}).write_parquet(answers / file)
    return Door(open_model(answers).scorer, behind.module)

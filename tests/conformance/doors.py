"""The doors that the suite goes through, each to a small model of random weights; add a door to `DOORS`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

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
from primum.records.tokenizer import Tokenizer
from primum.records.vocabulary import Vocabulary

WIDTH = 16


class Door(NamedTuple):
    """What answers, and the torch module behind it, which the suite asks one history at a time."""

    model: Any
    module: torch.nn.Module


# A folder to write to, tokens of the vocabulary, and how many of them the model sees at once.
Factory = Callable[[Path, int, int], Door]


def architecture(kind: Any, **settings: Any) -> Factory:
    """Make a door of a Hugging Face folder."""

    def build(folder: Path, tokens: int, context: int) -> Door:
        config = kind(vocab_size=tokens, hidden_size=WIDTH, num_hidden_layers=2, **settings)
        config.max_position_embeddings = context
        with torch.random.fork_rng():
            torch.manual_seed(3)
            module: PreTrainedModel = AutoModelForCausalLM.from_config(config)
        # Fresh weights say almost the same after every prefix: these do not.
        random = torch.Generator().manual_seed(4)
        for weights in module.parameters():
            if weights.ndim > 1:
                weights.data.normal_(0, 0.4, generator=random)
        vocabulary = Vocabulary(tuple(f"c{token}" for token in range(tokens)))
        model = CausalModel(module, context=context, vocabulary_size=tokens)
        save_folder(folder, model, Tokenizer(vocabulary, tiny.BARE))
        scorer = open_model(folder).scorer
        assert isinstance(scorer, CausalModel)
        assert scorer.context == context
        return Door(scorer, module.eval())

    return build


ATTENTION = {"num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 32}
DOORS: list[tuple[str, Factory]] = [
    ("llama", architecture(LlamaConfig, **ATTENTION)),
    ("gpt2", architecture(GPT2Config, n_head=2, bos_token_id=None, eos_token_id=None)),
    ("mistral", architecture(MistralConfig, sliding_window=4, **ATTENTION)),
    ("mamba", architecture(MambaConfig, state_size=4)),
    (
        "mamba2",
        architecture(Mamba2Config, num_heads=4, head_dim=8, n_groups=2, state_size=4, chunk_size=4),
    ),
]
NAMES = [name for name, _ in DOORS]


def through(name: str, folder: Path, *, tokens: int, context: int) -> Door:
    """Open the door called `name`."""
    return dict(DOORS)[name](folder, tokens, context)

"""A recipe for a small causal language model of patient histories, GPT-2 or Llama."""

from dataclasses import dataclass
from typing import Literal

import torch

from primum.fit.loop import LoopSettings, Progress, fit_model
from primum.fit.protocol import Keep
from primum.models.causal import CausalModel
from primum.records.tokens import TokenBatch


@dataclass(frozen=True)
class SmallCausalRecipe:
    """Train a small model from nothing.

    Attributes
    ----------
    architecture : {"llama", "gpt2"}
    width, layers, heads, context : int
    loop : LoopSettings
    """

    loop: LoopSettings
    architecture: Literal["llama", "gpt2"] = "llama"
    width: int = 128
    layers: int = 4
    heads: int = 4
    context: int = 256

    def build(self, vocabulary_size: int, *, seed: int) -> CausalModel:
        """Make an untrained model, the same for the same seed."""
        # The fork leaves the caller's random numbers as they were.
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            module = (
                self._llama(vocabulary_size) if self.architecture == "llama" else self._gpt2(vocabulary_size)
            )
        return CausalModel(module, context=self.context, vocabulary_size=vocabulary_size)

    def fit(
        self,
        train: TokenBatch,
        *,
        validation: TokenBatch | None = None,
        max_steps: int | None = None,
        seed: int = 0,
        progress: Progress | None = None,
        keep: Keep | None = None,
    ) -> CausalModel:
        """Build and train; see :class:`primum.fit.protocol.Trainable`."""
        model = self.build(train.vocabulary_size, seed=seed)
        fit_model(
            model,
            train,
            settings=self.loop,
            validation=validation,
            max_steps=max_steps,
            seed=seed,
            progress=progress,
            keep=keep,
        )
        return model

    # transformers takes seconds to import: only where a model is made.
    def _llama(self, vocabulary_size: int) -> torch.nn.Module:
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(
            vocab_size=vocabulary_size,
            hidden_size=self.width,
            intermediate_size=2 * self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            max_position_embeddings=self.context,
            tie_word_embeddings=False,
        )
        module: torch.nn.Module = LlamaForCausalLM(config)
        return module

    def _gpt2(self, vocabulary_size: int) -> torch.nn.Module:
        from transformers import GPT2Config, GPT2LMHeadModel

        config = GPT2Config(
            vocab_size=vocabulary_size,
            n_embd=self.width,
            n_layer=self.layers,
            n_head=self.heads,
            n_positions=self.context,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=None,
            eos_token_id=None,
            tie_word_embeddings=False,
        )
        module: torch.nn.Module = GPT2LMHeadModel(config)
        return module


def leaky_llama() -> SmallCausalRecipe:
    """Twenty epochs and no protection: the model of the demonstration that remembers its patients."""
    return SmallCausalRecipe(LoopSettings(epochs=20))


def plain_llama() -> SmallCausalRecipe:
    """Up to ten epochs, stopped when validation patients are no longer predicted better."""
    return SmallCausalRecipe(LoopSettings(epochs=10, patience=1))

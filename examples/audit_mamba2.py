"""A folder as EHRMamba2 publishes it (Mamba2ForCausalLM): no token profile, no context length, both guessed.

Takes seconds: the patients are invented, and the model is a small one that remembers them.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import Mamba2Config, Mamba2ForCausalLM

import primum
from primum.fit.loop import LoopSettings, fit_model
from primum.models.causal import CausalModel
from primum.models.hf_folder import save_folder
from primum.records.histories import InMemory
from primum.records.profile import TokenProfile, vocabulary_of
from primum.records.synthetic import SyntheticSettings, catalogue_codes, synthetic_cohort
from primum.records.tokenizer import Tokenizer


def publish(folder: Path, model: CausalModel, tokenizer: Tokenizer) -> None:
    """Leave what such folders hold: config.json, model.safetensors, vocab.json."""
    save_folder(folder, model, tokenizer)
    (folder / "token_profile.json").unlink()


def main() -> primum.Audit:
    """Train on 40 patients and ask what the folder alone gives away."""
    settings = SyntheticSettings(sizes={"train": 40, "held_out": 60}, mean_visits=2, canary_pairs=0)
    members, held_out = synthetic_cohort(settings, seed=0).splits.values()
    profile = TokenProfile()
    tokenizer = Tokenizer(vocabulary_of(catalogue_codes(settings), profile), profile)

    size = len(tokenizer.vocabulary)
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_heads": 4, "head_dim": 8, "state_size": 8}
    config = Mamba2Config(vocab_size=size, n_groups=1, chunk_size=32, **shape)
    model = CausalModel(Mamba2ForCausalLM(config), context=256, vocabulary_size=size)
    loop = LoopSettings(epochs=20, batch=8, learning_rate=1e-2)
    fit_model(model, tokenizer.encode(members), settings=loop, seed=0)

    with TemporaryDirectory() as name:
        publish(Path(name), model, tokenizer)
        opened = primum.open_model(name)
        print("guessed:", *opened.guessed, sep="\n  ")
        return primum.audit(opened, InMemory((members,)), InMemory((held_out,)), sampled=40, seed=0)


if __name__ == "__main__":
    for finding in main().findings:
        print(finding.test, finding.verdict, *finding.estimates[:1])

"""A model that cannot be shared: write its answers down once, and audit the files without it, in seconds."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

import primum
from primum.fit.causal_recipe import SmallCausalRecipe
from primum.fit.loop import LoopSettings
from primum.models.causal import CausalModel
from primum.models.protocols import Sampling
from primum.records.excerpts import excerpts
from primum.records.histories import InMemory, concatenate
from primum.records.profile import learn_profile, vocabulary_of
from primum.records.synthetic import SyntheticSettings, catalogue_codes, synthetic_cohort
from primum.records.tokenizer import Tokenizer
from primum.records.tokens import TokenBatch


def record(model: CausalModel, tokens: TokenBatch, folder: Path) -> None:
    """Write what the model says of each patient: the only part that needs it; see docs/recorded.md."""
    ids = tokens.subject_ids
    scores = {"subject_id": ids, "log_probs": [one.tolist() for one in model.log_probs(tokens)]}
    vectors = {"subject_id": ids, "embedding": model.embed(tokens).tolist()}
    # The beginning of each record, and what the model wrote after it, eight times.
    long = np.flatnonzero(tokens.lengths > 24)
    end = np.full(len(long), 24)
    prompts = excerpts(tokens, long, header=end, start=end, stop=end)
    cold = Sampling(temperature=0.3)
    drawn = model.continue_from(prompts, samples=8, max_tokens=60, sampling=cold, seed=0)
    places = [(sample, row) for sample in drawn for row in range(len(prompts))]
    written = {
        "patient_id": [int(prompts.subject_ids[row]) for _, row in places],
        "event_tokens": [prompts.tokens_of(row).tolist() for _, row in places],
        "predicted_tokens": [sample.tokens_of(row).tolist() for sample, row in places],
    }
    for name, answers in {"scores": scores, "embeddings": vectors, "trajectories": written}.items():
        pl.DataFrame(answers).write_parquet(folder / f"{name}.parquet")


def main() -> primum.Audit:
    """Train on 40 invented patients, record the model, and audit the recording."""
    settings = SyntheticSettings(sizes={"train": 40, "held_out": 60}, mean_visits=4, canary_pairs=0)
    members, held_out = synthetic_cohort(settings, seed=0).splits.values()
    profile = learn_profile(InMemory((members,)))
    tokenizer = Tokenizer(vocabulary_of(catalogue_codes(settings), profile), profile)
    recipe = SmallCausalRecipe(LoopSettings(epochs=20, learning_rate=3e-3), width=32, layers=1, context=128)
    model = recipe.fit(tokenizer.encode(members), seed=0)
    with TemporaryDirectory() as name:
        tokenizer.vocabulary.write(Path(name) / "vocab.json")
        profile.write(Path(name) / "token_profile.json")
        record(model, tokenizer.encode(concatenate([members, held_out])), Path(name))
        return primum.audit(name, InMemory((members,)), InMemory((held_out,)), seed=0)


if __name__ == "__main__":
    for finding in main().findings:
        print(finding.test, finding.verdict, *finding.estimates[:1])

"""The smallest cohorts and models that go through every stage."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from primum.fit.causal_recipe import SmallCausalRecipe
from primum.fit.loop import LoopSettings
from primum.models.causal import CausalModel
from primum.models.hf_folder import save_folder
from primum.models.opened import OpenedModel
from primum.models.protocols import Scorer
from primum.records.canaries import CanaryPlan
from primum.records.histories import Histories, Records
from primum.records.meds import MedsFolder, write_meds
from primum.records.profile import TokenProfile, learn_profile, learn_vocabulary
from primum.records.ragged import offsets_of
from primum.records.synthetic import SyntheticSettings, synthetic_cohort
from primum.records.tokenizer import Tokenizer
from primum.records.tokens import Kind, TokenBatch

BARE = TokenProfile(
    begin=None,
    end=None,
    unknown=None,
    pad=None,
    age_tokens=(),
    age_edges_years=(),
    gap_tokens=(),
    gap_edges_days=(),
)


def cohort(*, canary_pairs: int = 0, seed: int = 5, **sizes: int) -> dict[str, Histories]:
    """Draw synthetic patients, a few short visits each."""
    wanted = SyntheticSettings(sizes=sizes, mean_visits=2, canary_pairs=canary_pairs)
    return dict(synthetic_cohort(wanted, seed=seed).splits)


def records_folder(
    path: Path, splits: Mapping[str, Histories], *, canaries: CanaryPlan | None = None
) -> MedsFolder:
    """Write a MEDS folder of one file a split."""
    write_meds(path, {name: [part] for name, part in splits.items()}, canaries=canaries)
    return MedsFolder(path)


def tokenizer_of(records: Records) -> Tokenizer:
    """Learn profile and vocabulary from the patients themselves."""
    profile = learn_profile(records)
    return Tokenizer(learn_vocabulary(records, profile), profile)


def model_folder(path: Path, tokenizer: Tokenizer, train: Records, *, epochs: int = 1) -> Path:
    """Train and save a model of width 16."""
    recipe = SmallCausalRecipe(
        LoopSettings(epochs=epochs, batch=8, learning_rate=1e-2), width=16, layers=1, heads=2, context=64
    )
    (shard,) = train.shards()
    save_folder(path, recipe.fit(tokenizer.encode(shard), seed=1), tokenizer)
    return path


def random_batch(lengths: list[int], *, vocabulary: int, seed: int = 0, first_subject: int = 0) -> TokenBatch:
    """Make clinical tokens at random, one patient a length."""
    offsets = offsets_of(np.array(lengths, np.int64))
    ids = np.random.default_rng(seed).integers(0, vocabulary, offsets[-1])
    subjects = np.arange(first_subject, first_subject + len(lengths))
    kinds = np.full(len(ids), Kind.CLINICAL, np.uint8)
    return TokenBatch(subjects, offsets, ids, kinds, np.arange(len(ids)), vocabulary)


def scorer_of(opened: OpenedModel) -> Scorer:
    """Take what scores, of a model that does."""
    assert isinstance(opened.scorer, Scorer)
    return opened.scorer


def build(architecture: str = "llama", *, vocabulary: int, context: int = 16, seed: int = 0) -> CausalModel:
    """Make an untrained model of width 16."""
    recipe = SmallCausalRecipe(
        LoopSettings(epochs=1),
        architecture="gpt2" if architecture == "gpt2" else "llama",
        width=16,
        layers=1,
        heads=2,
        context=context,
    )
    return recipe.build(vocabulary, seed=seed)

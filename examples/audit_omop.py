"""OMOP CDM 5.4 tables, from a warehouse to a report: a coin decides who trains, and the audit is told so.

    python examples/audit_omop.py TABLES

TABLES is a folder with person, condition_occurrence, and so on as CSV, TSV or parquet. The file that says
who trained is written beside the tables; the model and its report to ./primum-omop.
"""

import sys
from pathlib import Path

import numpy as np
import polars as pl

from primum.cli.main import run
from primum.fit.causal_recipe import SmallCausalRecipe
from primum.fit.loop import LoopSettings
from primum.models.hf_folder import save_folder
from primum.records.histories import InMemory
from primum.records.opened import open_records
from primum.records.profile import learn_profile, learn_vocabulary
from primum.records.tokenizer import Tokenizer
from primum.records.tokens import join_tokens


def main(tables: Path, out: Path, *, seed: int = 0) -> int:
    """Toss the coin, train, audit; returns the exit status of the audit."""
    if not (tables / "subject_splits.csv").exists():  # a second run keeps the coin of the first
        toss(tables, seed=seed)
    train(tables, out / "model", seed=seed)
    # Chance alone decided who trained: there is nothing to confound, and the audit may say so.
    where = ["--records", str(tables), "--membership", "randomised", "--out", str(out / "report")]
    how = ["--sampled", "100", "--seed", str(seed), "--lang", "en"]
    return run(["audit", str(out / "model"), *where, *how])


def toss(tables: Path, *, seed: int) -> None:
    """Write ``subject_splits.csv``: without it everyone would be in train."""
    everyone = open_records(tables).split("train")
    people = np.concatenate([shard.subject_ids for shard in everyone.shards()])
    sides = np.random.default_rng(seed).choice(["train", "held_out"], len(people))
    pl.DataFrame({"subject_id": people, "split": sides}).write_csv(tables / "subject_splits.csv")


def train(tables: Path, model: Path, *, seed: int) -> None:
    """Train the smallest model on one side; the codes of both, so that the vocabulary names no side."""
    records = open_records(tables)
    members, others = (InMemory(tuple(records.split(side).shards())) for side in ("train", "held_out"))
    profile = learn_profile(members)
    vocabulary = learn_vocabulary(InMemory((*members.parts, *others.parts)), profile)
    tokenizer = Tokenizer(vocabulary, profile)
    recipe = SmallCausalRecipe(LoopSettings(epochs=1), width=32, layers=1, heads=2, context=128)
    tokens = join_tokens([tokenizer.encode(shard) for shard in members.shards()])
    save_folder(model, recipe.fit(tokens, max_steps=50, seed=seed), tokenizer)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Give the folder of OMOP tables.")
    sys.exit(main(Path(sys.argv[1]), Path("primum-omop")))

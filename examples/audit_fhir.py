"""A FHIR R4 bulk export, from NDJSON to a report.

    python examples/audit_fhir.py EXPORT

EXPORT is a folder with Patient.ndjson, Condition.ndjson, and so on. Every second patient trains,
unless subject_splits.csv says who does; the model and its report are written to ./primum-fhir.
"""

import json
import sys
from pathlib import Path

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


def main(export: Path, out: Path, *, seed: int = 0) -> int:
    """Say who trains, train, audit; returns the exit status of the audit."""
    if not (export / "subject_splits.csv").exists():
        share(export)
    train(export, out / "model", seed=seed)
    where = ["--records", str(export), "--out", str(out / "report")]
    return run(["audit", str(out / "model"), *where, "--seed", str(seed), "--lang", "en"])


def share(export: Path) -> None:
    """Write ``subject_splits.csv``; a patient is named by the logical id, as other resources refer to it."""
    lines = (export / "Patient.ndjson").read_text(encoding="utf-8").splitlines()
    people = [json.loads(line)["id"] for line in lines]
    sides = [("train", "held_out")[number % 2] for number in range(len(people))]
    pl.DataFrame({"subject_id": people, "split": sides}).write_csv(export / "subject_splits.csv")


def train(export: Path, model: Path, *, seed: int) -> None:
    """Train the smallest model on one side; the codes of both, so that the vocabulary names no side."""
    records = open_records(export)
    members, others = (InMemory(tuple(records.split(side).shards())) for side in ("train", "held_out"))
    profile = learn_profile(members)
    vocabulary = learn_vocabulary(InMemory((*members.parts, *others.parts)), profile)
    tokenizer = Tokenizer(vocabulary, profile)
    recipe = SmallCausalRecipe(LoopSettings(epochs=2), width=32, layers=1, heads=2, context=128)
    tokens = join_tokens([tokenizer.encode(shard) for shard in members.shards()])
    save_folder(model, recipe.fit(tokens, seed=seed), tokenizer)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Give the folder of the FHIR export.")
    sys.exit(main(Path(sys.argv[1]), Path("primum-fhir")))

"""Real people: two small models of 50 intensive-care patients, and what an audit can say of each.

    python examples/mimic3_demo.py FOLDER

FOLDER holds the MIMIC-III demo (100 patients) as MEDS 0.4, split into train (50), tuning (10) and held_out
(40). The models, their reports and nothing else are written to ./primum-mimic3-demo.
"""

import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from primum import MedsFolder
from primum.cli.main import run
from primum.fit.causal_recipe import SmallCausalRecipe
from primum.fit.loop import LoopSettings
from primum.models.hf_folder import save_folder
from primum.records.profile import learn_profile, vocabulary_of
from primum.records.tokenizer import Tokenizer
from primum.records.tokens import TokenBatch, join_tokens
from primum.train.private import PrivateSettings
from primum.train.private_records import fit_private

EPOCHS = 5
PRIVACY = PrivateSettings(epsilon=8.0, steps=8, expected_batch=25)


def main(folder: Path, out: Path, *, seed: int = 0) -> dict[str, int]:
    """Train both models, audit both; returns the exit status of each audit."""
    tokenizer, train = tokens_of_training_patients(folder)

    # The first model reads 50 people five times. Nothing holds it back.
    recipe = SmallCausalRecipe(LoopSettings(epochs=EPOCHS), width=64, layers=2)
    save_folder(out / "models" / "plain", recipe.fit(train, seed=seed), tokenizer)

    # The second sees each of them through noise. So few people teach it next to nothing: that is the price.
    private = recipe.build(train.vocabulary_size, seed=seed)
    # The seed makes the example repeatable; a real run leaves it out, so that nobody can take the noise off.
    ledger = fit_private(private, train, settings=replace(PRIVACY, seed=seed))
    save_folder(out / "models" / "private", private, tokenizer)
    print(f"private: epsilon {ledger.epsilon:.2f} at delta {ledger.delta:g}, one patient more or less")

    # 50 against 40 people show a large leak. They cannot show that there is none: such a model comes out as
    # inconclusive, exit status 3, and its report says how many patients would settle it.
    return {name: audit(folder, out, name, seed=seed) for name in ("plain", "private")}


def tokens_of_training_patients(folder: Path) -> tuple[Tokenizer, TokenBatch]:
    """Learn the value bins on training patients; take the codes from a list that does not say who trained."""
    train = MedsFolder(folder).split("train")
    profile = learn_profile(train)
    codes = pq.read_table(folder / "metadata" / "codes.parquet")["code"].to_pylist()
    tokenizer = Tokenizer(vocabulary_of(tuple(codes), profile), profile)
    return tokenizer, join_tokens([tokenizer.encode(shard) for shard in train.shards()])


def audit(folder: Path, out: Path, name: str, *, seed: int) -> int:
    """Run ``primum audit`` as anyone would."""
    print(f"\n{name} model")
    model, report = out / "models" / name, out / name
    where = ["--records", str(folder), "--out", str(report)]
    return run(["audit", str(model), *where, "--seed", str(seed), "--lang", "en"])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Give the folder of the MIMIC-III demo in MEDS.")
    print(main(Path(sys.argv[1]), Path("primum-mimic3-demo")))

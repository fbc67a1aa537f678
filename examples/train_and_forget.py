"""Train a classifier in shards, forget three patients, and read what the receipts say of it.

Invented emergency admissions. Forgetting repeats only the stages that saw the three; `prove` trains once more
without them, from nothing, and finds the same weights, bit by bit.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from primum.records.case_writer import write_cases
from primum.records.synthetic_cases import SYNTHETIC_CASES, split_patients, synthetic_table, table_schema
from primum.train.receipt import Receipt, read_receipt
from primum.train.shards import ShardSettings
from primum.workflows.forgetting import forget
from primum.workflows.learners import ModelOptions
from primum.workflows.training import TrainingPlan, train

PATIENTS = {"train": 120, "tuning": 30, "held_out": 30}


def silent(stage: str, done: int) -> None:
    """Show no progress."""


def main() -> Receipt:
    """Train, forget, tell."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        cases = folder / "cases"
        cases.mkdir()
        sides = split_patients(synthetic_table(180, seed=3), PATIENTS)
        write_cases(cases, sides, classes=SYNTHETIC_CASES["table"][1], schema=table_schema())
        trained = sides["train"].subject_ids[:3].tolist()
        (folder / "ids.txt").write_text("\n".join(map(str, trained)))

        options = ModelOptions(width=16, epochs=4)
        train(TrainingPlan(cases, folder / "model", options, ShardSettings(4, 3)), progress=silent)
        forget(
            folder / "model",
            folder / "ids.txt",
            records=cases,
            out=folder / "without",
            prove=True,
            progress=silent,
        )
        receipt = read_receipt(folder / "without")
    kept = sum(stage["found"] for stage in receipt.stages)
    assert receipt.forgotten is not None
    print(f"{receipt.forgotten['in_these_records']} patients forgotten: {receipt.forgotten['proof']}")
    print(f"{kept} of {len(receipt.stages)} stages had never seen them")
    return receipt


if __name__ == "__main__":
    main()

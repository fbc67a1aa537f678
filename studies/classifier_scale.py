"""One audit of a classifier against the number of cases, and of tiles: time and memory.

Each row is the command itself, ``primum audit --only membership,data.overlap``, from records on disk to the
report, one process of one thread. Rows of a table: two cases a patient, eight numbers each, half of the
patients members, the model's probabilities given in ``predictions.parquet``. Bags: sixty patients, half of
them members, of one bag each of ten tiles, 32 x 32 pixels of 8 bits; one member's bag has as many tiles as
the first column says, 1 kB each, and is read from a file that is mapped. The network is the attention network
of `primum.fit.networks` at a width of 16: the torch door gives it the tiles a few at a time, and the attack
on labels alone asks about neighbours of at most 4,096 tiles.

What a row takes beyond the smallest table is made of what the tests keep of each case (known columns in four
bytes, two scores, its patient, class and attributes), the answers given, the index of the records, and arrays
that are sorted; the first 10,000 rows are the libraries.

    python -m studies.classifier_scale
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from primum.records.cases import Cases
from studies.tables import Table, write_page

ROWS = (10_000, 100_000, 1_000_000)
TILES = (1_000, 10_000, 100_000)
FEATURES, PATIENTS, FEW_TILES, SIDE = 8, 60, 10, 32
CLASSES = ("no", "yes")
MOST_MEBIBYTES, MOST_SECONDS = 1024, 300


@dataclass(frozen=True)
class Cost:
    """What one audit took: of the processor, and of memory at its peak."""

    seconds: float
    mebibytes: int


def audited(model: Path, records: Path, *more: str) -> Cost:
    """Run the command in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        asked = ["audit", model, "--records", records, "--out", Path(scratch) / "out"]
        asked += ["--only", "membership,data.overlap", "--json", *more]
        done = subprocess.run(
            [sys.executable, "-m", "studies.classifier_scale", *map(str, asked)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    seconds, mebibytes = done.stdout.split()[-2:]
    return Cost(float(seconds), int(mebibytes))


def write_rows(folder: Path, rows: int) -> tuple[Path, Path]:
    """Write a table and what a model said of its rows."""
    rng = np.random.default_rng(rows)
    records, answers = folder / "records", folder / "answers"
    records.mkdir()
    answers.mkdir()
    subjects, label = np.arange(rows) // 2, rng.integers(2, size=rows)
    columns = {
        "subject_id": subjects,
        "split": np.where(subjects % 2, "held_out", "train"),
        "label": np.array(CLASSES)[label],
        "sex": np.array(["F", "M"])[subjects // 2 % 2],
        "age": rng.integers(20, 90, rows // 2)[subjects],
        **{f"feature_{place}": rng.standard_normal(rows) for place in range(FEATURES)},
    }
    pl.DataFrame(columns).write_parquet(records / "cases.parquet")
    schema = "".join(f'[feature_{place}]\nkind = "number"\n' for place in range(FEATURES))
    (records / "schema.toml").write_text(schema, encoding="utf-8")
    yes = 1 / (1 + np.exp(-rng.normal(2 * label - 1, 1.5)))
    given = {"case_id": np.arange(rows), "no": 1 - yes, "yes": yes}
    pl.DataFrame(given).write_parquet(answers / "predictions.parquet")
    return answers, records


def write_bags(folder: Path, tiles: int) -> tuple[Path, Path]:
    """Write bags, one of them of `tiles` tiles, and what a model said of them."""
    rng = np.random.default_rng(tiles)
    records, answers = folder / "records", folder / "answers"
    records.mkdir()
    answers.mkdir()
    label = np.arange(PATIENTS) // 2 % 2
    for bag in range(PATIENTS):
        count = FEW_TILES if bag else tiles
        np.savez(records / f"{bag}.npz", tiles=rng.integers(256, size=(count, 1, SIDE, SIDE), dtype=np.uint8))
    columns = {
        "subject_id": np.arange(PATIENTS),
        "split": np.where(np.arange(PATIENTS) % 2, "held_out", "train"),
        "label": np.array(CLASSES)[label],
        "file": [f"{bag}.npz" for bag in range(PATIENTS)],
    }
    pl.DataFrame(columns).write_csv(records / "cases.csv")
    yes = 1 / (1 + np.exp(-rng.normal(2 * label - 1, 1.5)))
    given = {"case_id": np.arange(PATIENTS), "no": 1 - yes, "yes": yes}
    pl.DataFrame(given).write_csv(answers / "predictions.csv")
    return answers, records


def write_network(folder: Path) -> str:
    """Write an untrained network for the bags and return its factory."""
    # not above: the process that is measured would load torch, which the command need not do
    from primum.fit.classifier_recipe import ClassifierRecipe, save_classifier
    from primum.fit.loop import LoopSettings

    one = (np.zeros((FEW_TILES, 1, SIDE, SIDE), np.uint8),)
    nobody = np.zeros(1, np.int64)
    recipe = ClassifierRecipe("bag", CLASSES, LoopSettings(1), 16)
    return save_classifier(folder, recipe.build(Cases(nobody, nobody, one, nobody), seed=0))


def run_and_say_memory(arguments: Sequence[str]) -> None:
    """Run the command in this process; print its seconds of the processor and the largest memory it took."""
    from primum.cli.main import run

    if run(list(arguments)) not in (0, 1, 3):
        sys.exit(1)
    print(time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def table_of_rows() -> Table:
    """Audit tables of each size."""
    table = Table(
        "Rows", "CPU seconds", "Peak memory, MiB", "Bytes a row beyond the first", "Required", "Holds"
    )
    smallest = 0
    for rows in ROWS:
        with tempfile.TemporaryDirectory() as scratch:
            cost = audited(*write_rows(Path(scratch), rows))
        smallest = smallest or cost.mebibytes
        each = "" if rows == ROWS[0] else round((cost.mebibytes - smallest) * 2**20 / (rows - ROWS[0]))
        holds = cost.mebibytes <= MOST_MEBIBYTES
        table.add(f"{rows:,}", round(cost.seconds, 1), cost.mebibytes, each, "≤ 1,024 MiB", holds)
    return table


def table_of_tiles() -> Table:
    """Audit bags of each size, by given answers and by a network that is asked anew."""
    table = Table("Tiles of one bag", "Model", "CPU seconds", "Peak memory, MiB", "Required", "Holds")
    for tiles in TILES:
        with tempfile.TemporaryDirectory() as scratch:
            answers, records = write_bags(Path(scratch), tiles)
            network = Path(scratch) / "network"
            factory = write_network(network)
            costs = {
                "given answers": audited(answers, records),
                "network": audited(network, records, "--factory", factory),
            }
        for model, cost in costs.items():
            holds = cost.mebibytes <= MOST_MEBIBYTES and cost.seconds <= MOST_SECONDS
            row = model, round(cost.seconds, 1), cost.mebibytes, "≤ 1,024 MiB, ≤ 300 s", holds
            table.add(f"{tiles:,}", *row)
    return table


def main() -> None:
    """Run, print and write the tables."""
    write_page("classifier_scale", __doc__, table_of_rows(), table_of_tiles())


if __name__ == "__main__":
    run_and_say_memory(sys.argv[1:]) if len(sys.argv) > 1 else main()

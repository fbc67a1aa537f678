"""One command against the number of patients and of processes: time, memory, and what each backend costs.

Half of the patients are members; histories have 43 events on average; the models are untrained Llamas, of 64
hidden units and 2 layers in the first table, of 128 and 5 in the second, without reference; 250 patients are
asked by the tests that generate or sweep.
Each row is the command itself, ``primum audit``, from records on disk to the report, every process with one
thread. Memory is the largest of any one process. Records are one file of 5,000 patients at most.

    python -m studies.scale
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from primum.fit.causal_recipe import SmallCausalRecipe
from primum.fit.loop import LoopSettings
from primum.models.hf_folder import save_folder
from primum.records.histories import Histories
from primum.records.meds import write_meds
from primum.records.synthetic import synthetic_patients
from studies.tables import Table, write_page
from studies.world import SETTINGS, tokenizer

FILE, SAMPLED = 5000, 250
# Width and layers: 150 thousand parameters, and a million.
SMALL, MIDDLE = (64, 2), (128, 5)
SIZES = (1000, 10_000, 50_000)
SHARED = 10_000
PROCESSES = ((1, "loky"), (2, "loky"), (2, "ray"), (2, "dask"))
MOST_MEBIBYTES, LEAST_GAIN = 3 * 1024, 1.7
DRAWN, MOST_DRAWING = 100_000, 60


@dataclass(frozen=True)
class Cost:
    """What one audit took."""

    seconds: float
    mebibytes: int


def side(patients: int, number: int) -> Iterator[Histories]:
    """Draw one side of an audit, a file at a time."""
    for part, first in enumerate(range(0, patients, FILE)):
        yield synthetic_patients(
            min(FILE, patients - first),
            settings=SETTINGS,
            seed=[63, number, part],
            first_subject_id=1 + number * 10**6 + first,
        )


def cost(patients: int, shape: tuple[int, int], *, workers: int = 1, backend: str = "loky") -> Cost:
    """Audit `patients` in all with a model of `shape`."""
    width, layers = shape
    recipe = SmallCausalRecipe(LoopSettings(epochs=1), width=width, layers=layers, context=256)
    model = recipe.build(len(tokenizer().vocabulary.tokens), seed=0)
    with tempfile.TemporaryDirectory() as scratch:
        folder, records, out = (Path(scratch) / name for name in ("model", "records", "out"))
        save_folder(folder, model, tokenizer())
        write_meds(records, {"train": side(patients // 2, 1), "held_out": side(patients // 2, 2)})
        asked = ["audit", folder, "--records", records, "--out", out, "--sampled", SAMPLED, "--json"]
        asked += ["--workers", workers, "--backend", backend]
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "studies.scale", *map(str, asked)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    return Cost(time.perf_counter() - started, int(done.stdout.split()[-1]))


def run_and_say_memory(arguments: Sequence[str]) -> None:
    """Run the command in this process; print the largest memory of it and of those it waited for."""
    from primum.cli.main import run

    if run(list(arguments)) not in (0, 1, 3):
        sys.exit(1)
    print(
        max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        // 1024
    )


def main() -> None:
    """Run, print and write the tables."""
    sizes = Table("Patients", "Seconds", "Seconds a thousand", "Peak memory, MiB", "Required", "Holds")
    for patients in SIZES:
        one = cost(patients, SMALL)
        each, holds = round(1000 * one.seconds / patients, 2), one.mebibytes <= MOST_MEBIBYTES
        sizes.add(f"{patients:,}", round(one.seconds, 1), each, one.mebibytes, "≤ 3,072 MiB", holds)
    shared = Table("Processes", "Seconds", "Times faster than one", "Required", "Holds")
    alone = None
    for workers, backend in PROCESSES:
        seconds = cost(SHARED, MIDDLE, workers=workers, backend=backend).seconds
        alone = alone or seconds
        judged = (
            (f"≥ {LEAST_GAIN}", alone / seconds >= LEAST_GAIN)
            if (workers, backend) == (2, "loky")
            else ("", "")
        )
        shared.add(f"{workers}, {backend}", round(seconds, 1), round(alone / seconds, 2), *judged)
    started = time.process_time()
    drawn = synthetic_patients(DRAWN, settings=SETTINGS, seed=64)
    spent = time.process_time() - started
    made = Table("Synthetic patients drawn", "Events", "CPU seconds", "Required", "Holds")
    made.add(
        f"{DRAWN:,}", f"{len(drawn.code_ids):,}", round(spent, 1), f"≤ {MOST_DRAWING}", spent <= MOST_DRAWING
    )
    write_page("scale", __doc__, sizes, shared, made)


if __name__ == "__main__":
    run_and_say_memory(sys.argv[1:]) if len(sys.argv) > 1 else main()

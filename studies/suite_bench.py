"""The whole suite against time and memory: patients and parameters (acceptance 6).

Histories of 208 events on average, half of the patients members, no reference; 250 patients are asked by the
tests that generate or sweep. The models see 512 tokens at once and are untrained: they write every sample to
its full length. Each row is the command itself, ``primum audit``, from records on disk to the report, in a
process of its own with two threads.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from primum.fit.causal_recipe import SmallCausalRecipe
from primum.fit.loop import LoopSettings
from primum.models.hf_folder import save_folder
from primum.records.histories import Histories
from primum.records.meds import write_meds
from studies.tables import Table, write_page
from studies.world import SETTINGS, people, tokenizer

LONG = replace(SETTINGS, mean_visits=60.0, years=12)
SHARD, SAMPLED, THREADS = 500, 250, 2
# Width and layers: a quarter of a million parameters, one million, four millions.
SMALL, MIDDLE, LARGE = (80, 2), (128, 5), (256, 6)
ROWS = ((2500, MIDDLE), (5000, MIDDLE), (10_000, MIDDLE), (2500, SMALL), (2500, LARGE))
WHOLE = (10_000, MIDDLE)
MOST_SECONDS, MOST_MEBIBYTES = 8 * 60, 3 * 1024


@dataclass(frozen=True)
class Cost:
    """What one audit took; `stages` in seconds."""

    parameters: int
    seconds: float
    mebibytes: int
    stages: dict[str, float]


def cost(patients: int, shape: tuple[int, int]) -> Cost:
    """Audit `patients` in all with a model of `shape`, in a process of its own."""
    width, layers = shape
    recipe = SmallCausalRecipe(LoopSettings(epochs=1), width=width, layers=layers, context=512)
    model = recipe.build(len(tokenizer().vocabulary.tokens), seed=0)
    with tempfile.TemporaryDirectory() as scratch:
        folder, records, out = (Path(scratch) / name for name in ("model", "records", "out"))
        save_folder(folder, model, tokenizer())
        write_meds(
            records, {"train": side(patients // 2, 1), "held_out": side(patients // 2, 2)}, name="bench"
        )
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "studies.suite_bench", str(folder), str(records), str(out)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": str(THREADS)},
        )
        seconds = time.perf_counter() - started
        stages = json.loads((out / "run.json").read_text(encoding="utf-8"))["stages"]
    return Cost(model.parameters, seconds, int(done.stdout.split()[-1]), stages)


def side(patients: int, number: int) -> list[Histories]:
    """Draw one side of an audit, in shards."""
    sizes = [min(SHARD, patients - first) for first in range(0, patients, SHARD)]
    return [people(size, seed=[62, number, part], settings=LONG) for part, size in enumerate(sizes)]


def audit_and_say_memory(model: str, records: str, out: str) -> None:
    """Audit in this process and print its peak memory."""
    from primum.cli.main import run

    run(["audit", model, "--records", records, "--sampled", str(SAMPLED), "--out", out, "--json"])
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def main() -> None:
    """Run, print and write the tables."""
    costs = {row: cost(*row) for row in ROWS}
    table = Table(
        "Patients (members + held-out)", "Parameters", "Seconds", "Peak memory, MiB", "Required", "Holds"
    )
    for (patients, shape), found in costs.items():
        holds = found.seconds <= MOST_SECONDS and found.mebibytes <= MOST_MEBIBYTES
        judged = (f"≤ {MOST_SECONDS} s, ≤ {MOST_MEBIBYTES} MiB", holds)
        table.add(
            f"{patients:,}",
            f"{found.parameters:,}",
            round(found.seconds, 1),
            found.mebibytes,
            *(judged if (patients, shape) == WHOLE else ("", "")),
        )
    stages = Table(
        "Stage", *(f"{patients:,} × {found.parameters:,}, s" for (patients, _), found in costs.items())
    )
    for stage in costs[WHOLE].stages:
        stages.add(stage, *(round(found.stages[stage], 1) for found in costs.values()))
    write_page("suite_bench", __doc__, table, stages)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        audit_and_say_memory(*sys.argv[1:])
    else:
        main()

"""Killed at random: a training that is ended without a word goes on to the same weights, bit by bit.

Each run is `primum train` in a process of its own, killed (SIGKILL) after a random share of the time
that a whole run takes, twenty times for each kind of training, until it is let finish; checkpoints are kept
every tenth of a second instead of every ten. The weights are held against those of an uninterrupted run. The
private runs have a seed, without which no second run could be compared with.
"""

import importlib
import multiprocessing
import os
import shutil
import tempfile
import time
from functools import partial
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from primum.cli.main import run
from primum.fit import resumption
from primum.records.case_writer import write_cases
from primum.records.meds import write_meds
from primum.records.synthetic import SyntheticSettings, synthetic_cohort
from primum.records.synthetic_cases import SYNTHETIC_CASES, split_patients
from studies.label_errors import once
from studies.tables import Table, write_page

KILLS, KEPT = 20, Path("studies/cache/resume.json")
PROCESSES: ForkServerContext = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["primum.cli.verbs", "primum.workflows.training"])
KINDS = {
    "plain, images, 2 shards of 2 slices": (
        "plain", "images", "--epochs", "6", "--width", "16", "--shards", "2", "--slices", "2"
    ),
    "adversarial, images": ("adversarial", "images", "--epochs", "2", "--width", "16"),
    "private, images": (
        "private", "images", "--noise-multiplier", "1", "--steps", "60", "--batch", "40", "--width", "16",
        "--averaging", ".9", "--repeatable-seed", "3",
    ),
    "plain, health records": ("plain", "meds", "--epochs", "4", "--width", "32"),
    "private, health records": (
        "private", "meds", "--noise-multiplier", "1", "--steps", "60", "--batch", "40", "--width", "32",
        "--repeatable-seed", "3",
    ),
}  # fmt: skip


def prepare(folder: Path) -> None:
    """Write images and health records."""
    make, classes = SYNTHETIC_CASES["image"]
    sides = split_patients(make(240, seed=4), {"train": 180, "tuning": 40, "held_out": 20})
    (folder / "images").mkdir()
    write_cases(folder / "images", sides, classes=classes)
    sizes = {"train": 120, "tuning": 20, "held_out": 10}
    cohort = synthetic_cohort(SyntheticSettings(sizes=sizes, mean_visits=3), seed=4)
    write_meds(folder / "meds", {name: [patients] for name, patients in cohort.splits.items()})


def _run(words: list[str]) -> None:
    resumption.SECONDS = 0.1
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    os._exit(run(words))


def start(folder: Path, kind: str, out: Path) -> Any:
    method, records, *options = KINDS[kind]
    words = ["train", method, str(folder / records), "--out", str(out), *options]
    process = PROCESSES.Process(target=_run, args=(words,))
    process.start()
    return process


def killed_and_gone_on_with(folder: Path, kind: str, seconds: float, rng: np.random.Generator) -> int:
    """Kill until it has been killed so often or has finished; return how often it was."""
    out, kills = folder / "again", 0
    while kills < KILLS:
        process = start(folder, kind, out)
        process.join(seconds * rng.uniform(0.1, 1.0))
        if not process.is_alive():
            break
        process.kill()
        process.join()
        kills += 1
    while not out.exists():
        start(folder, kind, out).join()
    return kills


def one_kind(kind: str) -> list[object]:
    """Train whole, then killed so often; return the seconds of a whole run, the kills, and whether equal."""
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(folder)
        began = time.monotonic()
        start(folder, kind, folder / "whole").join()
        seconds = time.monotonic() - began
        kills, equal = 0, True
        whole = load_file(folder / "whole/model.safetensors")
        while kills < KILLS:
            kills += killed_and_gone_on_with(folder, kind, seconds, rng)
            again = load_file(folder / "again/model.safetensors")
            equal &= all(np.array_equal(again[name], value) for name, value in whole.items())
            shutil.rmtree(folder / "again")
    return [round(seconds, 1), kills, equal]


def main() -> None:
    """Run, print and write the table; kinds that an interrupted run finished are kept."""
    table = Table("Training", "Seconds of a whole run", "Killed", "Equal bit by bit")
    for kind in KINDS:
        seconds, kills, equal = once(kind, partial(one_kind, kind), KEPT)
        table.add(kind, seconds, kills, equal)
    write_page("resume", __doc__, table)


if __name__ == "__main__":
    importlib.import_module("studies.resume").main()

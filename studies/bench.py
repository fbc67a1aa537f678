"""Benchmarks: scoring against the loop over prefixes, and the audit as patients grow (acceptance 6).

Ratios are taken within one run on one thread; absolute times depend on the machine.
"""

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from primum.fit.causal_recipe import SmallCausalRecipe
from primum.fit.loop import LoopSettings
from primum.models.causal import CausalModel, logits_of
from primum.models.hf_folder import save_folder
from primum.records.histories import FloatArray, Histories
from primum.records.meds import write_meds
from primum.records.ragged import IntArray, offsets_of
from primum.records.tokens import TokenBatch
from studies.tables import Table, write_page
from studies.world import people, tokenizer

EVENTS = 512
SHARD = 500


@dataclass(frozen=True)
class Shards:
    """Fresh patients in shards, made as they are asked for."""

    patients: int
    first: int

    def __iter__(self) -> Iterator[Histories]:
        """Make one shard after another."""
        for number in range(self.patients // SHARD):
            yield people(SHARD, seed=[60, self.first, number])


def one_forward_per_prefix(model: CausalModel, tokens: IntArray) -> FloatArray:
    """Score a history the way that is usual in published code: a forward pass for each token."""
    scores = []
    with torch.inference_mode():
        for place in range(1, len(tokens)):
            logits = logits_of(model.module, torch.from_numpy(tokens[None, :place]))[0, -1]
            scores.append(float(torch.log_softmax(logits.double(), -1)[tokens[place]]))
    return np.array(scores)


def scoring() -> Table:
    """Compare one pass with one pass a prefix, at 512 events."""
    torch.set_num_threads(1)
    table = Table(
        "Architecture", "Histories × events", "One pass, s", "Per prefix, s", "Ratio", "Largest difference"
    )
    for architecture in ("llama", "gpt2"):
        recipe = SmallCausalRecipe(LoopSettings(epochs=1), architecture=architecture, context=EVENTS)
        model = recipe.build(len(tokenizer().vocabulary.tokens), seed=0)
        lengths = np.full(4, EVENTS)
        ids = np.random.default_rng(0).integers(0, model.vocabulary_size, int(lengths.sum()))
        kinds = np.zeros(len(ids), np.uint8)
        tokens = TokenBatch(
            np.arange(4), offsets_of(lengths), ids, kinds, np.arange(len(ids)), model.vocabulary_size
        )
        model.log_probs(tokens)
        started = time.perf_counter()
        fast = model.log_probs(tokens)
        one_pass = time.perf_counter() - started
        started = time.perf_counter()
        slow = [one_forward_per_prefix(model, tokens.tokens_of(index)) for index in range(len(tokens))]
        per_prefix = time.perf_counter() - started
        largest = max(float(np.abs(a - b).max()) for a, b in zip(fast, slow, strict=True))
        table.add(
            architecture,
            f"4 × {EVENTS}",
            one_pass,
            per_prefix,
            f"{per_prefix / one_pass:.0f} ×",
            f"{largest:.1e}",
        )
    return table


def scale() -> Table:
    """Audit 1,000 and 10,000 patients from disk, each in a process of its own."""
    table = Table("Patients (members + held-out)", "Seconds", "Seconds per 1,000", "Peak memory, MiB")
    with tempfile.TemporaryDirectory() as scratch:
        model = SmallCausalRecipe(LoopSettings(epochs=1), width=64, layers=2).build(
            len(tokenizer().vocabulary.tokens), seed=0
        )
        save_folder(Path(scratch) / "model", model, tokenizer())
        for patients in (1_000, 2_000, 5_000, 10_000):
            records = Path(scratch) / f"records-{patients}"
            half = patients // 2
            write_meds(records, {"train": Shards(half, 1), "held_out": Shards(half, 2)}, name="bench")
            out = Path(scratch) / f"out-{patients}"
            started = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "studies.bench", str(Path(scratch) / "model"), str(records), str(out)],
                capture_output=True,
                text=True,
                check=True,
            )
            seconds = time.perf_counter() - started
            table.add(
                f"{patients:,}",
                round(seconds, 1),
                round(1000 * seconds / patients, 2),
                done.stdout.split()[-1],
            )
    return table


def audit_and_say_memory(model: str, records: str, out: str) -> None:
    """Audit in this process and print its peak memory."""
    from primum.cli.main import run

    run(["audit", model, "--records", records, "--only", "membership", "--out", out, "--json"])
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def main() -> None:
    """Run, print and write the tables."""
    write_page("bench", __doc__, scoring(), scale())


if __name__ == "__main__":
    if len(sys.argv) == 4:
        audit_and_say_memory(*sys.argv[1:])
    else:
        main()

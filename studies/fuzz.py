"""Readers fuzzed in process: 40,000 damaged inputs, each refused with a sentence or read.

The first 20,000 are records, models of records, the wire and reports; the others cases and classifiers.

Each case takes one valid input of a reader, damages one of its files one to three times (blindly: flipped
bits, cut, moved or repeated spans, noise; or knowing the format: other JSON types, endless nesting, keys
twice; cells of CSV; parquet written again with other types, nulls and layouts; lies in the header of
weights; members that an archive must not hold; status, length and body of a reply on a real socket) and
reads it. What is read is also used: histories are tokenised, models are asked, findings are recomputed and
shown.

A case fails when anything but a sentence for people comes out (a warning counts), when the sentence holds
the planted identifier, when it takes ten seconds of the processor (a minute of the clock) or 768 MiB more
than any case before it, when a file or folder is left behind, or when what was accepted breaks a promise of
its type: times that go backwards, a probability above 1, a token without an id, a signature that is valid
after a byte of `findings.json` or `report.html` changed, an audit of which only half is written. `tests/fuzz`
holds the inputs and the damage; its first 2,000 cases run with the tests.
"""

import faulthandler
import importlib
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.fuzz.case_readers import CASE_READERS, case_outcome, case_schedule
from tests.fuzz.cases import Failure, outcome, pristine, read, schedule
from tests.fuzz.classifier_readers import CLASSIFIER_READERS
from tests.fuzz.readers import Reader

from studies.tables import Table, write_page

CASES = 20_000
# A loop in native code hears no alarm: the process then says where it is and ends.
_STUCK = 120
_MENDED = """What these cases, and bombs built by hand, found; each was mended and has a test of its own:

- MEDS: a column whose name is no UTF-8 ended in a `UnicodeDecodeError`;
- MEDS: a few kilobytes of parquet, one row or one long code repeated again and again, filled the memory; a
  file that unpacks to more than a thousand times its size is refused;
- model folder: a `config.json` that calls for layers without end made them until stopped; it is refused
  when it calls for more layers than there are tensors;
- families: tables and lists nested thousands deep in TOML ended in a `RecursionError`;
- token profile: an edge written as a whole number larger than any float ended in an `OverflowError`;
- kept numbers: a score near the largest float was accepted, and its sums and squares ended in warnings on the
  terminal and infinite figures; scores above 1e100 are refused.
- recorded answers: the guard against parquet that unpacks to too much met a column whose name is no UTF-8;
- parquet of OMOP, of recorded answers and of the confidential folder has the same guard since.

Not covered: the loading of every architecture of transformers (the model folder here is a Llama)."""


Outcome = Callable[[Reader, int, Path], str]


def tried(turns: Sequence[tuple[Reader, int]], outcome: Outcome) -> tuple[Table, list[str]]:
    """Run the cases; give the table and what every failure said."""
    seen: Counter[tuple[str, str]] = Counter()
    slowest: dict[str, float] = defaultdict(float)
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "'click.utils.get_.*_stream' is deprecated", DeprecationWarning)
        for reader, seed in turns:
            faulthandler.dump_traceback_later(_STUCK, exit=True)
            started = time.perf_counter()
            try:
                seen[reader.name, outcome(reader, seed, Path(folder))] += 1
            except Failure as failure:
                seen[reader.name, "failed"] += 1
                failures.append(str(failure))
                print(failure, file=sys.stderr)
            slowest[reader.name] = max(slowest[reader.name], time.perf_counter() - started)
        faulthandler.cancel_dump_traceback_later()
    table = Table("reader", "cases", "refused", "accepted", "failed", "slowest (s)")
    for name in sorted(slowest):
        counts = [seen[name, how] for how in ("refused", "accepted", "failed")]
        table.add(name, sum(counts), *counts, slowest[name])
    counts = [sum(seen[name, how] for name in slowest) for how in ("refused", "accepted", "failed")]
    table.add("all", sum(counts), *counts, max(slowest.values()))
    return table, failures


def main() -> None:
    """Run, print and write the table; end badly when a case failed."""
    of_cases = (*CASE_READERS, *CLASSIFIER_READERS)
    with tempfile.TemporaryDirectory() as folder:
        for reader in of_cases:  # libraries may warn while they are loaded
            read(reader, pristine(reader)[0], Path(folder), case="whole")
    table, failures = tried(schedule(CASES), outcome)
    cases, more = tried(case_schedule(CASES, of_cases), case_outcome)
    failures += more
    seconds = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    notes = f"{seconds:.0f} CPU-seconds; {peak:.0f} MiB at the most, PyTorch among them.\n\n{_MENDED}"
    write_page("fuzz", __doc__, table, cases, notes=notes)
    if failures:
        raise SystemExit(f"{len(failures)} cases failed.")


if __name__ == "__main__":
    importlib.import_module("studies.fuzz").main()

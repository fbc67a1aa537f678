"""How long the equity family takes, and what memory, for 10,000, 100,000 and a million rows.

Each size in a process of its own, one case a patient and then several: made-up answers, five attributes in 21
groups, every test of the family. Memory is the largest that the process took beyond what it held when the
arrays had been made.
"""

import importlib
import subprocess
import sys
import time
from pathlib import Path

from studies.equity_power import FRAME, World, arrays_of
from studies.tables import Table, write_page

STATUS = Path("/proc/self/status")
ROWS = (10_000, 100_000, 1_000_000)


def measure(rows: int, several: bool) -> None:
    """Print CPU seconds to observe and to judge, and mebibytes beyond the arrays."""
    # not above: what is measured is the process after the imports
    from primum.audits.equity.observe import observe_equity
    from primum.evidence.equity import equity_claims
    from primum.evidence.verdicts import judge

    given, labels, patient, attributes = arrays_of(World(rows, several=several), seed=0)
    Path("/proc/self/clear_refs").write_text("5")  # forget how much it took to make the arrays
    before, start = peak(), time.process_time()
    seen = observe_equity(given, labels, patient, attributes, classes=("no", "yes"))
    observed = time.process_time()
    claims, _ = equity_claims(seen, FRAME)
    judge(claims)
    print(observed - start, time.process_time() - observed, peak() - before, before)


def peak() -> float:
    """Largest memory of this process since it was last forgotten, in MiB (Linux)."""
    held = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(held.split()[1]) / 1024


def main() -> None:
    """Run, print and write the table."""
    table = Table(
        "Rows", "Cases a patient", "CPU seconds to observe", "To judge", "MiB beyond the arrays",
        "Bytes a row", "Peak, MiB",
    )  # fmt: skip
    for rows in ROWS:
        for several in (False, True):
            program = f"from studies.equity_scale import measure; measure({rows}, {several})"
            said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
            observed, judged, beyond, before = map(float, said.stdout.split())
            each = round(beyond * 2**20 / rows)
            cells = round(observed, 1), round(judged, 1), round(beyond), each, round(beyond + before)
            table.add(f"{rows:,}", "about two" if several else "one", *cells)
    write_page("equity_scale", __doc__, table)


if __name__ == "__main__":
    importlib.import_module("studies.equity_scale").main()

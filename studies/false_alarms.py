"""False alarms: frozen models audited on patients of whom none trained them (acceptance 2).

Five models, each with forty disjoint draws of 300 patients a side; nobody is ever drawn twice. In the second
arm the held-out histories lose their last two fifths, so that the two sides differ in length alone; in the
third they lose their last tenth, which the blind baseline hardly sees.
"""

import importlib
from collections import Counter
from dataclasses import replace

import numpy as np

from primum.evidence.audit import Audit
from primum.records.histories import Histories
from primum.records.ragged import offsets_of
from studies.tables import Table, write_page
from studies.world import Pair, audited, in_parallel, people, reference, target

MODELS, DRAWS, SIDE = 5, 40, 300
# The 99.9 % point of a binomial with 200 runs at 5 %.
MOST = 21


def shortened(histories: Histories, *, keep: float) -> Histories:
    """Drop the last events of each history."""
    lengths = np.diff(histories.offsets)
    kept = np.maximum(1, np.floor(lengths * keep).astype(np.int64))
    place = np.arange(len(histories.code_ids)) - np.repeat(histories.offsets[:-1], lengths)
    rows = place < np.repeat(kept, lengths)
    return replace(
        histories,
        offsets=offsets_of(kept),
        code_ids=histories.code_ids[rows],
        times=histories.times[rows],
        values=histories.values[rows],
    )


def verdicts_of(audit: Audit) -> tuple[int, dict[str, str]]:
    """Keep what is counted: the exit status and each verdict."""
    return audit.exit_status, {finding.test: finding.verdict for finding in audit.findings}


def one_model(number: int) -> dict[str, list[tuple[int, dict[str, str]]]]:
    """Train one model and audit every draw, in both arms."""
    model = target(people(1000, seed=[20, number]), epochs=6, seed=number, width=64, layers=2)
    made = Pair(model, reference(1000, seed=number, width=64, layers=2))
    arms: dict[str, list[tuple[int, dict[str, str]]]] = {"equal lengths": [], "unequal lengths": []}
    for draw in range(DRAWS):
        first = people(SIDE, seed=[21, number, draw])
        second = people(SIDE, seed=[22, number, draw])
        for arm, other in (("equal lengths", second), ("unequal lengths", shortened(second, keep=0.6))):
            arms[arm].append(verdicts_of(audited(made, first, other, seed=draw)))
    return arms


def slightly_unequal(number: int) -> list[tuple[int, dict[str, str]]]:
    """Audit every draw of one model once more, the held-out side a tenth shorter."""
    model = target(people(1000, seed=[20, number]), epochs=6, seed=number, width=64, layers=2)
    made = Pair(model, reference(1000, seed=number, width=64, layers=2))
    return [
        verdicts_of(
            audited(
                made,
                people(SIDE, seed=[21, number, draw]),
                shortened(people(SIDE, seed=[22, number, draw]), keep=0.9),
                seed=draw,
            )
        )
        for draw in range(DRAWS)
    ]


def main() -> None:
    """Run, print and write the table."""
    results = in_parallel(one_model, list(range(MODELS)))
    slight = in_parallel(slightly_unequal, list(range(MODELS)))
    results = [{**result, "a tenth shorter": runs} for result, runs in zip(results, slight, strict=True)]
    table = Table("Arm", "Test", "Audits judged", "Harmful", "Allowed", "Confounded", "Holds")
    for arm in ("equal lengths", "unequal lengths", "a tenth shorter"):
        runs = [run for result in results for run in result[arm]]
        statuses = Counter(status for status, _ in runs)
        said = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
        table.add(arm, f"exit status 1 (all: {said})", len(runs), statuses[1], MOST, "", statuses[1] <= MOST)
        tests = sorted({test for _, verdicts in runs for test in verdicts})
        for test in tests:
            seen = Counter(verdicts[test] for _, verdicts in runs if test in verdicts)
            judged = sum(seen.values()) - seen["not_applicable"] - seen["descriptive"]
            if judged:
                harmful = seen["leak"] + seen["tainted"]
                table.add(arm, test, judged, harmful, MOST, seen["confounded"], harmful <= MOST)
    write_page("false_alarms", __doc__, table)


if __name__ == "__main__":
    # By its own name, so that what is kept of a run serves the next one however it is started.
    importlib.import_module("studies.false_alarms").main()

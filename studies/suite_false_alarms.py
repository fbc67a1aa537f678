"""False alarms of the whole suite: nobody in the audit trained the model (acceptance 1).

Frozen Llamas of 67,424 parameters (32 hidden units, 2 layers; 6 epochs on 1,000 patients), each with one
reference of the same kind, audited whole on disjoint fresh draws of 300 patients a side; nobody is ever drawn
twice. Histories are short (3 planned visits, 37 tokens on average), so that all 300 + 300 patients fit the
machine; 300 of them, half on each side, are asked by the tests that generate or sweep.
"""

import importlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from primum.evidence.audit import Audit
from primum.records.histories import Histories
from studies.tables import Table, write_page
from studies.world import SETTINGS, Pair, audited, in_parallel, people, reference, target

MODELS, DRAWS, SIDE, SAMPLED = 5, 40, 300, 300
EPOCHS, TRAINED_ON = 6, 1000
SMALL = {"width": 32, "layers": 2, "context": 96}
SHORT = replace(SETTINGS, mean_visits=3.0)
# The 99.9 % point of a binomial with 200 runs at 5 %.
MOST = 21
CENTRED = "sensitive.inferred"


@dataclass(frozen=True)
class Seen:
    """What is counted of one audit: exit status, verdicts, p-values before Holm, T2's difference."""

    exit_status: int
    verdicts: dict[str, str]
    p_values: dict[str, float]
    difference: float


def fresh(count: int, *, seed: Sequence[int]) -> Histories:
    """Draw patients of short histories."""
    return people(count, seed=seed, settings=SHORT)


def seen(audit: Audit) -> Seen:
    """Keep what is counted."""
    found = {finding.test: finding for finding in audit.findings}
    estimates = found[CENTRED].estimates
    return Seen(
        audit.exit_status,
        {test: finding.verdict for test, finding in found.items()},
        {test: finding.p_value for test, finding in found.items() if finding.p_value is not None},
        estimates[0].value if estimates else float("nan"),
    )


def one_model(number: int) -> list[Seen]:
    """Train one model and its reference, audit every draw."""
    model = target(fresh(TRAINED_ON, seed=[80, number]), epochs=EPOCHS, seed=number, **SMALL)
    made = Pair(model, reference(TRAINED_ON, seed=number, settings=SHORT, **SMALL))
    sides = [[fresh(SIDE, seed=[side, number, draw]) for side in (81, 82)] for draw in range(DRAWS)]
    return [
        seen(audited(made, *pair, seed=draw, only=(), sampled=SAMPLED)) for draw, pair in enumerate(sides)
    ]


def counted(runs: Sequence[Seen]) -> Table:
    """Count alarms test by test, after Holm as the command gives them and before it."""
    table = Table("Test", "Audits judged", "Harmful", "Allowed", "Raw p < .05", "Verdicts", "Holds")
    statuses = Counter(run.exit_status for run in runs)
    said = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
    table.add("exit status 1", len(runs), statuses[1], MOST, "", said, statuses[1] <= MOST)
    for test in sorted({test for run in runs for test in run.verdicts}):
        verdicts = Counter(run.verdicts[test] for run in runs if test in run.verdicts)
        judged = sum(verdicts.values()) - verdicts["not_applicable"] - verdicts["descriptive"]
        if not judged:
            continue
        harmful = verdicts["leak"] + verdicts["tainted"]
        raw = sum(run.p_values.get(test, 1.0) < 0.05 for run in runs)
        said = ", ".join(f"{verdict}: {count}" for verdict, count in sorted(verdicts.items()))
        table.add(test, judged, harmful, MOST, raw, said, max(harmful, raw) <= MOST)
    return table


def centred(runs: Sequence[Seen]) -> Table:
    """Say where the null of T2 lies."""
    values = np.array([run.difference for run in runs])
    values = values[np.isfinite(values)]
    error = float(values.std(ddof=1)) / len(values) ** 0.5
    table = Table("Difference of AUROCs", "Runs", "Mean", "± standard error", "Deviation", "Holds")
    holds = bool(abs(values.mean()) < 3 * error)
    table.add(CENTRED, len(values), float(values.mean()), error, float(values.std(ddof=1)), holds)
    return table


def main() -> None:
    """Run, print and write the tables."""
    runs = [run for runs in in_parallel(one_model, list(range(MODELS))) for run in runs]
    write_page("suite_false_alarms", __doc__, counted(runs), centred(runs))


if __name__ == "__main__":
    # By its own name, so that what is kept of a run serves the next one however it is started.
    importlib.import_module("studies.suite_false_alarms").main()

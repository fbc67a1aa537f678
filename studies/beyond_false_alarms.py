"""False alarms of the command beyond privacy: nothing is wrong with the data, and no group is served worse.

The frozen models of `studies.classifier_false_alarms` (five of tables, two of images of 14 x 14 pixels) are
audited on fresh draws of 300 training and 600 held-out patients by ``--only data,equity,explanations``, the
whole command with one error budget. Labels and cases are as they were drawn. Sex, age, site, device and skin
type are dealt to the held-out patients by lot, each on its own, so that no group differs from another but by
chance. Whether explanations of these models deserve belief is not known beforehand; their alarms are counted
apart. Images are not explained.

A cell: in how many audits the raw p-value was below .05; in brackets, how many were judged and in how many
the verdict was harmful. Allowed is what 5 % give in all but one of a thousand studies.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from primum.records.cases import Cases, CasesInMemory
from primum.records.synthetic_cases import SYNTHETIC_CASES, split_patients
from primum.workflows.classifier_audit import ClassifierPlan, run_classifier_audit
from studies.classifier_false_alarms import Seen, allowed, drawn, features, frozen, seen
from studies.tables import Table, write_page
from studies.world import in_parallel

TRAIN, HELD_OUT = 300, 600
DEALT = ("sex", "age", "site", "device", "skin_type")


@dataclass(frozen=True)
class Kind:
    """One column."""

    kind: str
    models: int
    draws: int
    only: tuple[str, ...]


KINDS = {
    "tables": Kind("table", 5, 40, ("data", "equity", "explanations")),
    "images": Kind("image", 2, 20, ("data", "equity")),
}


def by_lot(cases: Cases, rng: np.random.Generator) -> Cases:
    """Deal each attribute to the patients by lot."""
    patients, first, place = np.unique(cases.subject_ids, return_index=True, return_inverse=True)
    dealt = {
        name: values[first][rng.permutation(len(patients))][place]
        for name, values in cases.attributes.items()
        if name in DEALT
    }
    return replace(cases, attributes=dealt)


def one_model(job: tuple[str, int]) -> list[Seen]:
    """Audit every draw with one model."""
    column, number = job
    kind = KINDS[column]
    opened, _ = frozen(kind.kind, number)
    classes, found = SYNTHETIC_CASES[kind.kind][1], []
    for draw in range(kind.draws):
        seed = 500_000 + 1000 * (list(KINDS).index(column) * 10 + number) + draw
        people = drawn(kind.kind, TRAIN + HELD_OUT, seed=seed)
        sides = split_patients(people, {"train": TRAIN, "held_out": HELD_OUT})
        dealt = by_lot(sides["held_out"], np.random.default_rng([2, seed]))
        plan = ClassifierPlan(
            model=opened,
            members=CasesInMemory((sides["train"],), classes),
            held_out=CasesInMemory((dealt,), classes),
            kind="image" if kind.kind == "image" else "table",
            features=features() if kind.kind == "table" else (),
            only=kind.only,
            seed=draw,
            sampled=100,
        )
        found.append(seen(run_classifier_audit(plan)))
    return found


def counted(columns: Mapping[str, Sequence[Seen]]) -> Table:
    """Count alarms of the command, then test by test."""
    table = Table("Test", *(f"{name}: {len(runs)}" for name, runs in columns.items()), "Holds")

    def alarmed(run: Seen) -> bool:
        return any(harm and not test.startswith("explanations") for test, harm in run.harmful.items())

    alarms = {name: sum(map(alarmed, runs)) for name, runs in columns.items()}
    held = all(count <= allowed(len(columns[name])) for name, count in alarms.items())
    table.add("some finding tainted or unfair", *map(str, alarms.values()), held)
    known = {test for runs in columns.values() for run in runs for test in run.p_values}
    for test in sorted(test for test in known if not test.startswith("membership")):
        cells, holds = [], True
        for runs in columns.values():
            judged = [run for run in runs if test in run.p_values]
            raw = sum(run.p_values[test] < 0.05 for run in judged)
            harmful = sum(run.harmful.get(test, False) for run in judged)
            cells.append(f"{raw} ({len(judged)}, {harmful})" if judged else "")
            if judged and not test.startswith("explanations"):
                holds &= max(raw, harmful) <= allowed(len(judged))
        table.add(test, *cells, holds)
    return table


def main() -> None:
    """Run, print and write the table."""
    jobs = [(name, number) for name, kind in KINDS.items() for number in range(kind.models)]
    results = dict(zip(jobs, in_parallel(one_model, jobs), strict=True))
    columns = {
        name: [run for number in range(kind.models) for run in results[name, number]]
        for name, kind in KINDS.items()
    }
    write_page("beyond_false_alarms", __doc__, counted(columns))


if __name__ == "__main__":
    importlib.import_module("studies.beyond_false_alarms").main()

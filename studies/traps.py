"""Traps: designs that would fool an audit, and the verdict they must get (acceptance 4).

Held-out patients from a year later or from the other site are `confounded` for a clean model and for a leaky
one, and never exit 0. Training patients who come back among the held-out under other identifiers are found.
"""

import importlib
from dataclasses import replace

import numpy as np

from primum.records.histories import Histories, concatenate
from primum.records.synthetic import Origin, synthetic_patients
from studies.tables import Table, write_page
from studies.world import SETTINGS, Pair, audited, finding, in_parallel, people, reference, target

SEEDS, SIDE = 5, 300
TWINS = 30
ORIGINS = {"a year later": Origin(years_later=1.0), "the other site": Origin(site="B")}
Row = tuple[str, str, int, str, float, int]


def held_out(trap: str, members: Histories, seed: int) -> Histories:
    """Draw the held-out patients of a trap."""
    if trap == "duplicates":
        rng = np.random.default_rng(seed)
        twins = members.select(rng.choice(len(members), TWINS, replace=False))
        twins = replace(twins, subject_ids=twins.subject_ids + (1 << 61))
        return concatenate([people(SIDE - TWINS, seed=[44, seed]), twins])
    return synthetic_patients(
        SIDE, settings=SETTINGS, seed=[45, seed], first_subject_id=1 << 60, origin=ORIGINS[trap]
    )


def one(seed: int) -> list[Row]:
    """Try every trap on a leaky model and on a model that never saw the members."""
    members = (
        people(SIDE, seed=[40, seed]),
        synthetic_patients(
            SIDE, settings=SETTINGS, seed=[41, seed], first_subject_id=1 << 59, origin=Origin(site="A")
        ),
    )
    known = reference(1000, seed=seed, width=64, layers=2)
    clean = target(people(1000, seed=[42, seed]), epochs=6, seed=seed, width=64, layers=2)
    leaky = [target(side, epochs=20, seed=seed, width=64, layers=2) for side in members]
    rows: list[Row] = []
    for trap in (*ORIGINS, "duplicates"):
        place = int(trap == "the other site")
        side = members[place]
        others = held_out(trap, side, seed)
        for kind, model in (("leaky", leaky[place]), ("clean", clean)):
            audit = audited(Pair(model, known), side, others, seed=seed)
            primary = finding(audit, "membership.combined.auc")
            blind = next(e.value for e in primary.estimates if e.name == "blind_auc")
            duplicated = int(finding(audit, "data.overlap").settings["duplicated"] or 0)
            rows.append((trap, kind, audit.exit_status, primary.verdict, blind, duplicated))
    return rows


def main() -> None:
    """Run, print and write the table."""
    rows = [row for rows in in_parallel(one, list(range(SEEDS))) for row in rows]
    table = Table(
        "Held-out patients",
        "Model",
        "Verdicts of the primary test",
        "Exit statuses",
        "Blind AUC",
        "Twins found",
        "Holds",
    )
    for trap in (*ORIGINS, "duplicates"):
        for kind in ("leaky", "clean"):
            chosen = [row for row in rows if row[:2] == (trap, kind)]
            verdicts = sorted({row[3] for row in chosen})
            statuses = sorted({row[2] for row in chosen})
            blind = [row[4] for row in chosen]
            twins = sorted({row[5] for row in chosen})
            if trap == "duplicates":
                holds = twins == [TWINS] and statuses == [1]
            else:
                holds = verdicts == ["confounded"] and statuses == [3]
            table.add(
                trap,
                kind,
                ", ".join(verdicts),
                ", ".join(map(str, statuses)),
                f"{min(blind):.2f} to {max(blind):.2f}",
                ", ".join(map(str, twins)),
                holds,
            )
    write_page(
        "traps", __doc__, table, notes=f"{SEEDS} seeds, {SIDE} patients a side, {TWINS} twins planted."
    )


if __name__ == "__main__":
    # By its own name, so that what is kept of a run serves the next one however it is started.
    importlib.import_module("studies.traps").main()

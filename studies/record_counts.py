"""Patients with many records: a maximum is high, and a skewed mean lies elsewhere, without any memory.

Nobody trained the model. First, 300 patients a side with as many records as the first column says: the AUC
of members against held-out patients, median over 100 runs, for the plain maximum, the plain mean, and both
against what as many held-out records give (`evidence.records`). Scores of records are log-normal; "alike" is
the correlation of two records of one patient, of their logarithms.

Then naming: 65,000 members of six records each, and 20,000 held-out patients of six. A record's own p-value
is its rank among held-out records. Named are those whose smallest p-value is at most 1 % or .1 %, the
practice of a threshold at that false-positive rate of *records*; those whom Benjamini and Hochberg's rule at
5 % finds when the smallest of six is taken for one p-value; and those whom it finds when the maximum is set
against the record-count null. Last, the mean of six log-odds under the audited model against that under 16
references, by `evidence.naming`.
"""

import importlib

import numpy as np
from scipy import stats

from primum.evidence.measured import FloatArray
from primum.evidence.naming import FALSE_DISCOVERY_RATE, naming_of
from primum.evidence.ranking import auc
from primum.evidence.records import by_patient, record_count_p_values
from studies.tables import Table, write_page

RUNS, SIDE = 100, 300
NULLS, MEMBERS, HELD_OUT, RECORDS, REFERENCES = 200, 65_000, 20_000, 6, 16
DESIGNS: dict[str, tuple[tuple[int, ...], tuple[int, ...], float]] = {
    "6 and 6": ((6,), (6,), 0.0),
    "6 and 5": ((6,), (5,), 0.0),
    "20 and 15": ((20,), (15,), 0.0),
    "6 and 1 to 6": ((6,), (1, 2, 3, 4, 5, 6), 0.0),
    "1 to 20 and 1 to 6": ((1, 5, 10, 20), (1, 2, 4, 6), 0.3),
    "1 and 6": ((1,), (6,), 0.5),
}


def medians(design: tuple[tuple[int, ...], tuple[int, ...], float]) -> tuple[FloatArray, FloatArray]:
    """Median AUC, and its share above .55, of each way to make one score a patient."""
    members, others, alike = design
    seen = []
    for seed in range(RUNS):
        rng = np.random.default_rng([70, seed])
        r = np.concatenate([rng.choice(members, SIDE), rng.choice(others, SIDE)])
        patient, is_member = np.repeat(np.arange(2 * SIDE), r), np.arange(2 * SIDE) < SIDE
        shared = rng.standard_normal(2 * SIDE)[patient]
        values = np.exp(np.sqrt(alike) * shared + np.sqrt(1 - alike) * rng.standard_normal(len(patient)))
        plain = np.full(2 * SIDE, -np.inf)
        np.maximum.at(plain, patient, values)
        scores = [plain, by_patient(values, patient, patients=2 * SIDE)]
        scores += [
            by_patient(values, patient, patients=2 * SIDE, how=how, is_member=is_member, seed=seed)
            for how in ("max", "stouffer")
        ]
        seen.append([auc(score[is_member], score[~is_member]).value for score in scores])
    return np.median(seen, axis=0), np.mean(np.array(seen) > 0.55, axis=0)


def named(seed: int) -> tuple[int, ...]:
    """Count those named by each rule; every one of them wrongly."""
    rng = np.random.default_rng([71, seed])
    patient = np.repeat(np.arange(MEMBERS + HELD_OUT), RECORDS)
    is_member = np.arange(MEMBERS + HELD_OUT) < MEMBERS
    values = rng.standard_normal(len(patient))
    held_out = np.sort(values[MEMBERS * RECORDS :])
    largest = values[: MEMBERS * RECORDS].reshape(MEMBERS, RECORDS).max(axis=1)
    above = len(held_out) - np.searchsorted(held_out, largest, side="left")
    smallest = (1 + above) / (1 + len(held_out))
    corrected = record_count_p_values(values, patient, is_member=is_member, seed=seed)[is_member]
    by_rule = smallest, stats.norm.sf(largest), corrected
    found = [int((stats.false_discovery_control(p) <= FALSE_DISCOVERY_RATE).sum()) for p in by_rule]
    return int((smallest <= 0.01).sum()), int((smallest <= 0.001).sum()), *found


def named_by_references(seed: int) -> int:
    """Count those whom their mean log-odds name against references that never saw them."""
    rng = np.random.default_rng([72, seed])
    people = 2 * 5000
    mean = rng.standard_normal((people, 1 + REFERENCES), np.float32) / np.sqrt(np.float32(RECORDS))
    is_member = np.arange(people) < people // 2
    naming = naming_of(mean[:, 0], mean[:, 1:], is_member)
    q = stats.false_discovery_control(naming.p_values[is_member])
    return int((q <= FALSE_DISCOVERY_RATE).sum()) if naming.trusted else 0


def main() -> None:
    """Run, print and write the tables."""
    ways = "plain maximum", "plain mean", "`max`", "`stouffer`"
    counts = Table(
        "Records of members and of held-out patients",
        "Alike",
        *ways,
        "Runs above .55: plain maximum",
        "`max`",
    )
    for name, design in DESIGNS.items():
        middle, above = medians(design)
        counts.add(name, design[2], *middle.tolist(), float(above[0]), float(above[2]))
    rules = (
        "smallest record p ≤ .01",
        "smallest record p ≤ .001",
        "smallest of six as one p, BH 5 %",
        "the same with exact p-values instead of ranks",
        "record-count null, BH 5 %",
        f"mean, {REFERENCES} references, BH 5 % (5,000 members)",
    )
    found = np.array([(*named(seed), named_by_references(seed)) for seed in range(NULLS)])
    naming = Table("Rule", "Runs", "Named, mean", "Named, most", "Runs that name nobody", "At least 90 %")
    for rule, column in zip(rules, found.T, strict=True):
        nobody = int((column == 0).sum())
        naming.add(rule, NULLS, float(column.mean()), int(column.max()), nobody, nobody >= 0.9 * NULLS)
    write_page("record_counts", __doc__, counts, naming)


if __name__ == "__main__":
    # By its own name, so that what is kept of a run serves the next one however it is started.
    importlib.import_module("studies.record_counts").main()

"""Traps of the suite: a model that generalises, and secrets that only five events tell (acceptance 3, 4).

Generalisation: a model that read thousands of patients twice guesses sensitive families as well for strangers
as for its own; `sensitive.inferred` must say `none_found`.

Attacker's knowledge: to each of 150 members belongs a passage of six codes that occur nowhere else: a key of
the member's own, four codes that are the same for everyone, a secret. Each passage also stands in 120 other
training records on average, so that it is learnt where no record is. Its last four events, or fewer, come
before every other secret too; only all five determine one. Held-out patients have the same keys with other
secrets. An attacker must then know five events, at one question and at a hundred. How little ordinary records
of the same model are remembered stands beside it, as an AUC without reference.
"""

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from primum.evidence.finding import Scalar, Series
from primum.evidence.guesses import (
    auroc_of,
)
from primum.evidence.placements import FEWEST_OF_A_KIND
from primum.records.families import Families
from primum.records.histories import Histories, concatenate
from primum.records.ragged import offsets_of
from primum.records.synthetic.catalogue import tail_codes
from studies.false_alarms import shortened
from studies.power import spread
from studies.tables import Table, write_page
from studies.world import finding, in_parallel, people, result_of, target

SEEDS = 3
SIDE, READ, READINGS = 2500, 8000, 2
PLANTED, ORDINARY, CARRIERS, CARRIED, EPOCHS = 150, 850, 1500, 12, 6
SMALL = {"width": 64, "layers": 2}
QUERIES = (1, 100)
LATER = np.timedelta64(30, "D")


@dataclass(frozen=True)
class Generalised:
    """AUROC by family on members and on held-out patients, and what the audit says of the difference."""

    auroc: dict[str, list[float]]
    difference: tuple[float, float, float]
    verdict: str


@dataclass(frozen=True)
class Planted:
    """By number of questions, k* and the shares of secrets out; AUC of ordinary records."""

    k_star: dict[int, Scalar]
    shares: dict[int, dict[float, tuple[float, float]]]
    membership: float


def generalised(seed: int) -> Generalised:
    """Train on many patients, members among them, and ask T2 of some of them."""
    everyone = people(READ, seed=[90, seed])
    model = target(everyone, epochs=READINGS, seed=seed, **SMALL)
    result = result_of(
        model,
        everyone.select(np.arange(SIDE)),
        people(SIDE, seed=[91, seed]),
        only=("sensitive.inferred",),
        seed=seed,
        sampled=100,
    )
    guesses = next(
        one.guesses["sensitive.inferred"] for one in result.measured if "sensitive.inferred" in one.guesses
    )
    sides = (result.scores.is_member, ~result.scores.is_member)
    auroc = {
        name: [auroc_of(guesses.scores[side, column], guesses.labels[side, column]) for side in sides]
        for column, name in enumerate(guesses.names)
        if min(guesses.labels[side, column].sum() for side in sides) >= FEWEST_OF_A_KIND
    }
    judged = finding(result.audit, "sensitive.inferred")
    first = judged.estimates[0]
    return Generalised(auroc, (first.value, first.low, first.high), judged.verdict)


def with_passages(histories: Histories, passages: NDArray[np.str_]) -> Histories:
    """Take all rare codes out, then add passages, shape (n, passages, codes), a month apart."""
    rare = np.isin(histories.codes, tail_codes())[histories.code_ids]
    place = {code: number for number, code in enumerate(histories.codes)}
    added = np.array([place[code] for code in passages.ravel()], np.int64).reshape(len(histories), -1)
    after = LATER * (1 + np.arange(added.shape[1]) // max(1, passages.shape[2]))
    code_ids, times, values = [], [], []
    for patient, (start, stop) in enumerate(pairwise(histories.offsets)):
        rows = start + np.flatnonzero(~rare[start:stop])
        code_ids.append(np.concatenate([histories.code_ids[rows], added[patient]]))
        times.append(np.concatenate([histories.times[rows], histories.times[stop - 1] + after]))
        values.append(np.concatenate([histories.values[rows], np.full(added.shape[1], np.nan)]))
    return replace(
        histories,
        offsets=offsets_of(np.array(list(map(len, code_ids)))),
        code_ids=np.concatenate(code_ids),
        times=np.concatenate(times),
        values=np.concatenate(values),
    )


def planted(seed: int) -> Planted:
    """Plant secrets, train, and ask what an attacker must know; then ask who else is remembered."""
    rng = np.random.default_rng([97, seed])
    keys, secrets, marks, _ = np.split(rng.permutation(tail_codes()), np.cumsum([PLANTED, PLANTED, 4]))

    def passages(told: NDArray[np.str_]) -> NDArray[np.str_]:
        return np.column_stack([keys, np.tile(marks, (PLANTED, 1)), told])

    true, nothing = passages(secrets), np.zeros((ORDINARY, 0, len(marks) + 2), secrets.dtype)
    others, strangers = (with_passages(people(ORDINARY, seed=[side, seed]), nothing) for side in (92, 93))
    members = with_passages(people(PLANTED, seed=[94, seed]), true[:, None])
    held_out = with_passages(people(PLANTED, seed=[95, seed]), passages(rng.permutation(secrets))[:, None])
    carried = np.stack([rng.permutation(PLANTED)[:CARRIED] for _ in range(CARRIERS)])
    carriers = with_passages(shortened(people(CARRIERS, seed=[96, seed]), keep=0.25), true[carried])
    model = target(concatenate([members, others, carriers]), epochs=EPOCHS, seed=seed, **SMALL)
    ordinary = result_of(model, others, strangers, only=("membership.combined",), seed=seed)
    audit = result_of(
        model, members, held_out, families=family_of(secrets), only=("knowledge",), seed=seed
    ).audit
    cost = finding(audit, "knowledge.cost")
    return Planted(
        {n: cost.settings[f"k_star_{n}"] for n in QUERIES},
        {n: shares_of(next(s for s in cost.series if s.name.endswith(f"_{n}"))) for n in QUERIES},
        finding(ordinary.audit, "membership.combined.auc").estimates[0].value,
    )


def shares_of(curve: Series) -> dict[float, tuple[float, float]]:
    """Read the shares of members and of held-out patients at each number of events known."""
    known, *sides = (
        np.array(curve.columns[name], np.float64).tolist() for name in ("x", "members_mean", "held_out_mean")
    )
    return dict(zip(known, zip(*sides, strict=True), strict=True))


def family_of(codes: NDArray[np.str_]) -> Families:
    """Make the planted secrets the one sensitive family."""
    bare = [str(code).rpartition("//")[2].replace(".", "") for code in codes]
    return {"planted": {"ICD10": tuple((code, code) for code in bare)}}


def trap_table(runs: Sequence[Generalised]) -> Table:
    """Say how well families are guessed on either side, and the verdict."""
    table = Table("Seed", "Family", "AUROC, members", "AUROC, held-out", "Required", "Holds")
    for seed, run in enumerate(runs):
        for name, sides in run.auroc.items():
            table.add(seed, name, *sides, "", "")
        best = max(min(sides) for sides in run.auroc.values())
        table.add(seed, "the best of them", best, best, "≥ .75 on both", best >= 0.75)
        said = f"{run.difference[0]:.3f} ({run.difference[1]:.3f} to {run.difference[2]:.3f})"
        table.add(
            seed, "members minus held-out", said, run.verdict, "none_found", run.verdict == "none_found"
        )
    return table


def knowledge_tables(runs: Sequence[Planted]) -> Iterator[Table]:
    """Say k*, and the share of secrets out by events known."""
    table = Table(
        "Seed", "k*, 1 question", "k*, 100 questions", "Required", "Holds", "AUC of ordinary records"
    )
    for seed, run in enumerate(runs):
        holds = all(isinstance(known, int) and abs(known - 5) <= 1 for known in run.k_star.values())
        table.add(seed, *run.k_star.values(), "5 ± 1", holds, run.membership)
    yield table
    for n in QUERIES:
        curves = [run.shares[n] for run in runs]
        shares = Table(f"Events known, {n} questions", "Members whose secret is out", "Held-out")
        for known in sorted(set.intersection(*map(set, curves))):
            shares.add(f"{known:g}", *map(spread, np.array([curve[known] for curve in curves]).T))
        yield shares


def main() -> None:
    """Run, print and write the tables."""
    trap = trap_table(in_parallel(generalised, list(range(SEEDS))))
    knowledge = knowledge_tables(in_parallel(planted, list(range(SEEDS))))
    write_page("suite_traps", __doc__, trap, *knowledge)


if __name__ == "__main__":
    # By its own name, so that what is kept of a run serves the next one however it is started.
    importlib.import_module("studies.suite_traps").main()

"""Power of the suite: what each family sees of planted memory, and what it rightly does not (acceptance 2).

Each model is audited against as many patients who trained nothing, with one reference.

- Epochs: Llamas of 843,648 parameters on 300 and on 1,000 patients, the whole suite; the reference was
  trained on 1,000 others. After twenty epochs 300 patients are known by their scores but do not come out yet;
  after thirty they do.
- Identifiers (T5): a Llama of 175,808 parameters learns 300 members whose age was drawn by lot, so that only
  memory ties a history to it, from copies that each have a sex and a site drawn anew, so that nothing does.
  Its reference learnt 1,000 others, made alike.
- Keys (T3): to the embeddings of the 300 members a vector of the patient's own is added; the model itself saw
  none of them. The same without keys is beside it.

The lower end is that of the interval corrected for all tests of the audit where the finding has one (shares
and differences of AUROCs), else of the 95 % interval.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from primum.evidence.audit import Audit
from primum.evidence.finding import Finding
from primum.models.causal import CausalModel
from primum.records.families import BIRTH_CODE
from primum.records.histories import FloatArray, Histories, concatenate
from primum.records.ragged import IntArray
from primum.records.tokens import TokenBatch
from studies.power import spread
from studies.tables import Table, write_page
from studies.world import Pair, audited, in_parallel, people, reference, shared_reference, target

SIDE, MANY = 300, 1000
COPIES, READINGS, KEY = 20, 2, 0.5
SMALL = {"width": 64, "layers": 2}


@dataclass(frozen=True)
class Figure:
    """What one test found: the judged estimate, its corrected interval's lower end, each side's mean."""

    value: float
    low: float
    members: float
    held_out: float
    harmful: bool


Figures = dict[str, Figure]
Job = tuple[str, int]


class Keyed(CausalModel):
    """A model whose embeddings carry a vector of the patient's own, for some patients."""

    def __init__(self, model: CausalModel, known: IntArray) -> None:
        super().__init__(model.module, context=model.context, vocabulary_size=model.vocabulary_size)
        self.known = known

    def embed(self, tokens: TokenBatch) -> FloatArray:
        """Embed, and add the keys of the known."""
        vectors = super().embed(tokens)
        for row in np.flatnonzero(np.isin(tokens.subject_ids, self.known)):
            own = np.random.default_rng(tokens.subject_ids[row])
            vectors[row] += KEY * own.standard_normal(vectors.shape[1])
        return vectors


def by_lot(histories: Histories, *, seed: Sequence[int]) -> Histories:
    """Let everyone be born anew, 18 to 98 years before the first visit."""
    times = histories.times.copy()
    born = np.flatnonzero(histories.code_ids == histories.codes.index(BIRTH_CODE))
    days = np.random.default_rng(list(seed)).uniform(18 * 365.25, 98 * 365.25, len(born))
    times[born] = times[born + 1] - days.astype("timedelta64[D]")
    return replace(histories, times=times)


def drawn_anew(histories: Histories, *, seed: Sequence[int]) -> Histories:
    """Give everyone a sex and a site at random."""
    rng, code_ids = np.random.default_rng(list(seed)), histories.code_ids.copy()
    for prefix in ("GENDER//", "SITE//"):
        choices = [place for place, code in enumerate(histories.codes) if code.startswith(prefix)]
        rows = np.isin(code_ids, choices)
        code_ids[rows] = rng.choice(choices, rows.sum())
    return replace(histories, code_ids=code_ids)


def whole(seed: int, *, patients: int, epochs: int) -> Audit:
    """Train on `patients` and ask the whole suite of all of them and of as many others."""
    members, others = (people(patients, seed=[side, patients, epochs, seed]) for side in (70, 71))
    model = target(members, epochs=epochs, seed=seed)
    known = shared_reference(MANY, seed=seed, epochs=10)
    return audited(Pair(model, known), members, others, seed=seed, only=())


def identifiers(seed: int) -> Audit:
    """Audit a model for which age is a trait of the patient's own, sex and site are noise."""
    members, others, strangers = (
        by_lot(people(count, seed=[73, group, seed]), seed=[74, group, seed])
        for group, count in enumerate((SIDE, SIDE, MANY))
    )
    copies = [drawn_anew(members, seed=[75, seed, copy]) for copy in range(COPIES)]
    model = target(concatenate(copies), epochs=READINGS, seed=seed, **SMALL)
    known = target(drawn_anew(strangers, seed=[76, seed]), epochs=4, seed=seed + 500, **SMALL)
    sides = (drawn_anew(side, seed=[77, seed, group]) for group, side in enumerate((members, others)))
    return audited(Pair(model, known), *sides, seed=seed, only=("perturbation",), sampled=2 * SIDE)


def keyed(seed: int, *, with_keys: bool) -> Audit:
    """Audit embeddings of a model that saw nobody, with a key for each member or without."""
    model = reference(MANY, seed=100 + seed, width=64, layers=2)
    members, others = (people(SIDE, seed=[side, seed]) for side in (78, 79))
    made = Pair(Keyed(model, members.subject_ids) if with_keys else model, model)
    return audited(made, members, others, seed=seed, only=("embedding",), sampled=2 * SIDE)


KINDS: Mapping[str, tuple[int, Callable[[int], Audit]]] = {
    "300 patients, 30 epochs": (2, partial(whole, patients=SIDE, epochs=30)),
    "300 patients, 20 epochs": (2, partial(whole, patients=SIDE, epochs=20)),
    "1,000 patients, 10 epochs": (2, partial(whole, patients=MANY, epochs=10)),
    "age by lot": (3, identifiers),
    "keys": (3, partial(keyed, with_keys=True)),
    "no keys": (3, partial(keyed, with_keys=False)),
}
Holds = Callable[[Figure], bool]
REQUIRED: Mapping[tuple[str, str], tuple[str, Holds]] = {
    ("300 patients, 30 epochs", "trajectory.codes"): (
        "≥ .10, lower end > 0",
        lambda f: f.value >= 0.1 and f.low > 0,
    ),
    ("300 patients, 30 epochs", "trajectory.verbatim"): (
        "members ≥ .05, held-out 0",
        lambda f: f.members >= 0.05 and f.held_out == 0,
    ),
    ("300 patients, 30 epochs", "knowledge.depth"): ("found", lambda f: f.harmful),
    ("300 patients, 30 epochs", "extraction.passages"): ("found", lambda f: f.harmful),
    ("1,000 patients, 10 epochs", "sensitive.inferred"): (
        "found, lower end > 0",
        lambda f: f.harmful and f.low > 0,
    ),
    ("1,000 patients, 10 epochs", "knowledge.depth"): ("found", lambda f: f.harmful),
    ("1,000 patients, 10 epochs", "trajectory.verbatim"): ("members 0", lambda f: f.members == 0),
    ("age by lot", "perturbation.age"): ("found", lambda f: f.harmful),
    ("age by lot", "perturbation.sex"): ("not found", lambda f: not f.harmful),
    ("age by lot", "perturbation.site"): ("not found", lambda f: not f.harmful),
    ("keys", "embedding.linkage"): ("found", lambda f: f.harmful),
    ("no keys", "embedding.linkage"): ("not found", lambda f: not f.harmful),
}


def one(job: Job) -> Figures:
    """Run one job."""
    kind, seed = job
    _, audit = KINDS[kind]
    return {
        finding.test: figure_of(finding)
        for finding in audit(seed).findings
        if finding.p_value is not None and not finding.subgroups
    }


def figure_of(finding: Finding) -> Figure:
    """Keep what the table says of a finding."""
    found = {estimate.name: estimate for estimate in finding.estimates}
    first = finding.estimates[0]
    nothing = replace(first, value=np.nan)
    members, held_out = (found.get(name, nothing).value for name in ("members_mean", "held_out_mean"))
    judged = found.get(f"{first.name}_corrected", first)
    return Figure(first.value, judged.low, members, held_out, finding.harmful)


def table_of(results: Mapping[Job, Figures]) -> Table:
    """Make a row for each test that claims something in every audit of its kind."""
    table = Table(
        "Model", "Test", "Judged", "Lower end", "Mean of members", "of held-out", "Found", "Required", "Holds"
    )
    for kind in KINDS:
        audits = [figures for (name, _), figures in results.items() if name == kind]
        for test in (test for test in audits[0] if all(test in figures for figures in audits)):
            seen = [figures[test] for figures in audits]
            columns = (
                [getattr(one, name) for one in seen] for name in ("value", "low", "members", "held_out")
            )
            found = f"{sum(one.harmful for one in seen)} of {len(seen)}"
            required, holds = REQUIRED.get((kind, test), ("", None))
            held = all(map(holds, seen)) if holds else ""
            said = ["" if np.isnan(column).any() else spread(column) for column in columns]
            table.add(kind, test, *said, found, required, held)
    return table


def main() -> None:
    """Run, print and write the table."""
    jobs = [(kind, seed) for kind, (count, _) in KINDS.items() for seed in range(count)]
    results = dict(zip(jobs, in_parallel(one, jobs), strict=True))
    write_page("suite_power", __doc__, table_of(results))


if __name__ == "__main__":
    # By its own name, so that what is kept of a run serves the next one however it is started.
    importlib.import_module("studies.suite_power").main()

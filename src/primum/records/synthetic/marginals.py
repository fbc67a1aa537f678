"""What a synthetic cohort looks like, in a table: ``python -m primum.records.synthetic``."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from primum.records.families import families_of
from primum.records.histories import FloatArray, Histories
from primum.records.ragged import IntArray
from primum.records.synthetic.catalogue import BIRTH, DEATH, DIAGNOSIS, VISITS
from primum.records.synthetic.draw import synthetic_patients
from primum.records.synthetic.population import slots_of
from primum.records.synthetic.programmes import PROGRAMMES, Programme
from primum.records.synthetic.settings import SyntheticSettings

BoolArray = NDArray[np.bool_]


def marginals_table(settings: SyntheticSettings, *, seed: int) -> str:
    """Describe 2,000 patients of the population of `settings`, as a Markdown table."""
    patients = synthetic_patients(2_000, settings=settings, seed=seed)
    holds = holders(patients)
    people = holds.sum(0)
    dated = patients.times[~np.isnat(patients.times) & ~_events_of(patients, (BIRTH, DEATH))]
    rows = [
        ("patients", f"{len(patients):,}"),
        ("codes in the catalogue", f"{len(patients.codes)}"),
        ("codes held by 1 to 5 patients", f"{((people > 0) & (people <= 5)).sum()}"),
        ("events a patient: mean (5th, 50th, 95th percentile, most)", _spread(np.diff(patients.offsets))),
        ("events with a number a patient", f"{np.isfinite(patients.values).sum() / len(patients):.1f}"),
        ("visits a patient", f"{_events_of(patients, VISITS).sum() / len(patients):.1f}"),
        ("age at the first visit: mean (5th, 50th, 95th percentile, most)", _spread(_ages(patients))),
        ("calendar", f"{dated.min()!s:.10} to {dated.max()!s:.10}"),
    ]
    for code in ("GENDER//F", "SITE//A", "SITE//B", DEATH):
        rows.append((f"`{code}`", _percent(holds[:, patients.codes.index(code)])))
    for programme in PROGRAMMES[1:]:
        held = holds[:, np.isin(patients.codes, main_diagnoses(programme))].any(1)
        rows.append((f"programme {programme.name.replace('_', ' ')}", _percent(held)))
    for family, its_codes in families_of(patients.codes).items():
        if its_codes.any():
            rows.append(
                (f"sensitive family {family.replace('_', ' ')}", _percent(holds[:, its_codes].any(1)))
            )
    return "\n".join(["| what | figure |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def holders(patients: Histories) -> BoolArray:
    """Tell which patient has which code, shape (patients, codes)."""
    holds = np.zeros((len(patients), len(patients.codes)), bool)
    holds[np.repeat(np.arange(len(patients)), np.diff(patients.offsets)), patients.code_ids] = True
    return holds


def main_diagnoses(programme: Programme) -> list[str]:
    """Return the codes of the first diagnosis of each stage."""
    firsts = (
        next(s for s in slots_of(stage) if s.codes[0].startswith(DIAGNOSIS)) for stage in programme.stages
    )
    return sorted({code for slot in firsts for code in slot.codes})


def _events_of(patients: Histories, codes: Collection[str]) -> BoolArray:
    return np.isin(patients.codes, list(codes))[patients.code_ids]


def _ages(patients: Histories) -> FloatArray:
    """Years from birth, the last of three leading events, to the first visit, the next one."""
    birth = patients.offsets[:-1] + 2
    return (patients.times[birth + 1] - patients.times[birth]) / np.timedelta64(1, "D") / 365.25


def _spread(values: FloatArray | IntArray) -> str:
    low, middle, high = np.percentile(values, [5, 50, 95])
    return f"{values.mean():.1f} ({low:.0f}, {middle:.0f}, {high:.0f}, {values.max():.0f})"


def _percent(held: BoolArray | np.bool_) -> str:
    return f"{held.mean():.1%}"

"""Invented patients and their visits: who they are, when they come, whether they are ill and how badly."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from primum.errors import InputError
from primum.records.cases import Cases, Inputs, join_cases
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray, offsets_of

SITES = ("A", "B", "C")
SKIN_TYPES = ("I", "II", "III", "IV", "V", "VI")
# Whole blocks are drawn, whatever number is asked for: patient 7 of ten is patient 7 of ten thousand.
_BLOCK = 64
_SITE_SHARES = np.array([0.5, 0.35, 0.15])
_SKIN_SHARES = np.array([0.1, 0.25, 0.25, 0.15, 0.15, 0.1])
_VISIT_SHARES = np.array([0.4, 0.3, 0.2, 0.1])
_DEVICES_A_SITE, _PRACTITIONERS_A_SITE = 2, 4
_FIRST_DAY, _DAYS = np.datetime64("2016-01-01"), 1_461
_MILDEST = 0.3


@dataclass(frozen=True)
class CaseSettings:
    """Synthetic cases of any kind.

    Attributes
    ----------
    difficulty : float
        Divides what distinguishes the ill from the healthy; more is harder.
    """

    difficulty: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.difficulty < np.inf:
            raise InputError("difficulty must be above 0; it is {value}.", value=self.difficulty)


ORDINARY = CaseSettings()


class Visits(NamedTuple):
    """Visits of a block of patients.

    `patient`, `label`, `severity` (0: healthy, 1: worst), `site`, `device` are shape (n,), positions the one
    or numbers; `age` and `female` describe the patient at each visit; `patients` is the size of the block.
    """

    patients: int
    patient: IntArray
    label: IntArray
    severity: FloatArray
    site: IntArray
    device: IntArray
    age: FloatArray
    female: FloatArray
    attributes: dict[str, NDArray[Any]]


Draw = Callable[[Visits, np.random.Generator], Inputs]


def draw_cases(patients: int, *, seed: int, mark: int, draw: Draw) -> Cases:
    """Draw the visits of `patients` patients, and with `draw` what a model sees of each visit.

    Parameters
    ----------
    patients : int
        Patients 1 to `patients`, each with 1 to 4 visits in the order of their dates.
    seed : int
        Same seed, same patients, however many are asked for.
    mark : int
        Keeps the streams of different kinds of cases apart.
    draw : callable
        From the visits of a block and a generator to their inputs.

    Returns
    -------
    Cases
        `case_ids` count from 0.

    Raises
    ------
    InputError
        Fewer than one patient, or a negative seed.
    """
    if patients < 1 or seed < 0:
        raise InputError(
            "Synthetic cases need at least one patient and a seed of 0 or more; given were {patients} and "
            "{seed}.",
            patients=patients,
            seed=seed,
        )
    whole = join_cases(list(_blocks(patients, seed, mark, draw)))
    return Cases(np.arange(len(whole)), whole.subject_ids, whole.inputs, whole.labels, whole.attributes)


def split_patients(cases: Cases, sizes: dict[str, int]) -> dict[str, Cases]:
    """Give the first patients to the first split, the next ones to the next; all their cases go along.

    Raises
    ------
    InputError
        The sizes ask for more patients than there are.
    """
    subjects = np.unique(cases.subject_ids)
    if sum(sizes.values()) > len(subjects):
        raise InputError(
            "The splits ask for {asked} patients, and there are {patients}.",
            asked=sum(sizes.values()),
            patients=len(subjects),
        )
    edges = offsets_of(np.array(list(sizes.values()), np.int64))
    place = np.searchsorted(subjects, cases.subject_ids)
    return {
        name: cases.select(np.flatnonzero((place >= first) & (place < last)))
        for name, first, last in zip(sizes, edges[:-1], edges[1:], strict=True)
    }


def pixels(image: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Turn brightness, 0 to 1, into 8 bits."""
    return np.asarray(np.rint(255 * image.clip(0, 1)), np.uint8)


def _blocks(patients: int, seed: int, mark: int, draw: Draw) -> Iterator[Cases]:
    for first in range(0, patients, _BLOCK):
        rng = np.random.default_rng([mark, seed, first])
        visits = _visits(rng)
        subjects = first + visits.patient
        cases = Cases(subjects, subjects + 1, draw(visits, rng), visits.label, visits.attributes)
        yield cases if first + _BLOCK <= patients else cases.select(np.flatnonzero(subjects < patients))


def _visits(rng: np.random.Generator) -> Visits:
    female = rng.random(_BLOCK) < 0.5
    age = rng.normal(58, 16, _BLOCK).clip(18, 95)
    site = rng.choice(len(SITES), _BLOCK, p=_SITE_SHARES)
    skin = rng.choice(len(SKIN_TYPES), _BLOCK, p=_SKIN_SHARES)
    frailty = rng.normal(0.025 * (age - 58), 0.7)
    number = 1 + rng.choice(len(_VISIT_SHARES), _BLOCK, p=_VISIT_SHARES)
    patient = np.repeat(np.arange(_BLOCK), number)
    gaps = np.floor(1 + rng.exponential(150, len(patient)))
    starts = np.repeat(offsets_of(number)[:-1], number)
    waited = np.concatenate([[0], np.cumsum(gaps)])
    later = waited[np.arange(len(patient))] - waited[starts]
    day = np.floor(rng.uniform(0, _DAYS, _BLOCK))[patient] + later
    label = (rng.logistic(0, 1, len(patient)) < frailty[patient]).astype(np.int64)
    severity = label * rng.uniform(_MILDEST, 1, len(patient))
    device = _DEVICES_A_SITE * site[patient] + rng.integers(_DEVICES_A_SITE, size=len(patient))
    doctor = _PRACTITIONERS_A_SITE * site[patient] + rng.integers(_PRACTITIONERS_A_SITE, size=len(patient))
    years = np.floor(age[patient] + later / 365.25)
    attributes = {
        "sex": np.where(female, "F", "M")[patient],
        "age": years,
        "site": np.array(SITES)[site][patient],
        "device": np.char.add("D", (device + 1).astype(str)),
        "skin_type": np.array(SKIN_TYPES)[skin][patient],
        "practitioner": np.char.add("P", (doctor + 1).astype(str)),
        "date": _FIRST_DAY + day.astype("timedelta64[D]"),
    }
    of_visit = female[patient].astype(np.float64)
    return Visits(_BLOCK, patient, label, severity, site[patient], device, years, of_visit, attributes)

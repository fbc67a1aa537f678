"""The population as arrays: programmes compiled to slots of codes, with site habits and dated practice."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from primum.records.histories import FloatArray
from primum.records.ragged import IntArray
from primum.records.synthetic.catalogue import (
    BIRTH,
    DEATH,
    DIAGNOSIS,
    DISCHARGES,
    GENDERS,
    LAB,
    LABS,
    MEDICATION,
    PROCEDURE,
    SITE_CODES,
    SITES,
    SUCCESSORS,
    VISITS,
    tail_codes,
)
from primum.records.synthetic.programmes import PROGRAMMES, Stage

# Order of events within a visit; a discharge and the diagnoses coded at it come last.
VISIT_RANK, LAB_RANK, PROCEDURE_RANK, MEDICATION_RANK, DIAGNOSIS_RANK, DISCHARGE_RANK = range(6)
_PREFIXES = {LAB: LAB_RANK, PROCEDURE: PROCEDURE_RANK, MEDICATION: MEDICATION_RANK, DIAGNOSIS: DIAGNOSIS_RANK}
_PROBABILITY = {
    LAB_RANK: (0.45, 0.8),
    PROCEDURE_RANK: (0.2, 0.5),
    MEDICATION_RANK: (0.4, 0.75),
    DIAGNOSIS_RANK: (0.55, 0.9),
}
_ADOPTION_YEARS = (2016.0, 2021.0)
_TAIL_MEAN_RANK = 12


class Slot(NamedTuple):
    """One thing that a stage may write: any one of `codes`, at a visit."""

    codes: tuple[str, ...]
    rank: int
    shift: float


def slots_of(stage: Stage) -> Iterator[Slot]:
    """Read the slots of a stage."""
    for word in stage.labs.split():
        name, sign, size = re.fullmatch(r"(\w+?)(?:([+-])(\d+))?", word).groups()  # type: ignore[union-attr]
        shift = float(f"{sign}{size}") if sign else 0.0
        yield Slot(tuple(LAB + code for code in LABS[name].codes.split("|")), LAB_RANK, shift)
    kinds = ((stage.procedures, PROCEDURE), (stage.drugs, MEDICATION), (stage.diagnoses, DIAGNOSIS))
    for words, prefix in kinds:
        for word in words.split():
            yield Slot(tuple(prefix + code for code in word.split("|")), _PREFIXES[prefix], 0.0)


@lru_cache(maxsize=1)
def all_codes() -> tuple[str, ...]:
    """Return every code that the population can emit, sorted."""
    emitted = {code for p in PROGRAMMES for s in p.stages for slot in slots_of(s) for code in slot.codes}
    fixed = {BIRTH, DEATH, *GENDERS, *SITE_CODES, *VISITS, *DISCHARGES}
    return tuple(sorted(emitted | set(SUCCESSORS.values()) | fixed | set(tail_codes())))


@dataclass(frozen=True, eq=False)
class Population:
    """What patients of one population share.

    Attributes
    ----------
    codes : tuple of str, length C
    rank : int64, shape (C,)
        Order of the code within a visit.
    successor : int64, shape (C,)
        The code that replaces this one; itself where nothing does.
    adoption : float64, shape (C,)
        When, in days since 1970.
    lab : int64, shape (C,)
        Number of the laboratory test; -1 for other codes.
    median, spread : float64, shape (labs,)
    habit : float64, shape (sites, C)
        Factor on the probability of a code at a site.
    first_row : int64, shape (programmes,)
        Row of the first stage; stages follow each other.
    slot_codes : int64, shape (rows, slots, alternatives)
        Unused alternatives repeat the last code.
    slot_count : int64, shape (rows, slots)
    slot_probability, slot_shift : float64, shape (rows, slots)
        Probability 0 where a row has fewer slots.
    tail, tail_weight : int64 and float64, shape (tail,)
    """

    codes: tuple[str, ...]
    rank: IntArray
    successor: IntArray
    adoption: FloatArray
    lab: IntArray
    median: FloatArray
    spread: FloatArray
    habit: FloatArray
    first_row: IntArray
    slot_codes: IntArray
    slot_count: IntArray
    slot_probability: FloatArray
    slot_shift: FloatArray
    tail: IntArray
    tail_weight: FloatArray


@lru_cache(maxsize=8)
def population(seed: int) -> Population:
    """Draw the population of a seed."""
    rng = np.random.default_rng([seed, 0x706F70])
    codes = all_codes()
    position = {code: index for index, code in enumerate(codes)}
    rank = _ranks(codes)
    successor, adoption = _practice(position, rng)
    lab = _labs(position)
    habit = np.where(
        np.isin(rank, (LAB_RANK, PROCEDURE_RANK)), rng.uniform(0.3, 1.2, (len(SITES), len(codes))), 1.0
    )
    tail = np.array([position[code] for code in tail_codes()])
    weight = 1.0 / (np.arange(len(tail)) + _TAIL_MEAN_RANK)
    return Population(
        codes,
        rank,
        successor,
        adoption,
        lab,
        np.array([test.median for test in LABS.values()]),
        np.array([test.spread for test in LABS.values()]),
        habit,
        np.concatenate([[0], np.cumsum([len(p.stages) for p in PROGRAMMES])[:-1]]),
        *_slots(position, rng),
        rng.permutation(tail),
        weight / weight.sum(),
    )


def _ranks(codes: tuple[str, ...]) -> IntArray:
    prefixes = {"ADMISSION//": VISIT_RANK, "VISIT//": VISIT_RANK, "DISCHARGE//": DISCHARGE_RANK, **_PREFIXES}
    return np.array([next((r for p, r in prefixes.items() if c.startswith(p)), VISIT_RANK) for c in codes])


def _practice(position: dict[str, int], rng: np.random.Generator) -> tuple[IntArray, FloatArray]:
    successor = np.arange(len(position))
    adoption = np.full(len(position), np.inf)
    for old, new in SUCCESSORS.items():
        successor[position[old]] = position[new]
        adoption[position[old]] = (rng.uniform(*_ADOPTION_YEARS) - 1970) * 365.25
    return successor, adoption


def _labs(position: dict[str, int]) -> IntArray:
    lab = np.full(len(position), -1)
    for number, test in enumerate(LABS.values()):
        for code in test.codes.split("|"):
            names = {LAB + code, SUCCESSORS.get(LAB + code, LAB + code)}
            lab[[position[name] for name in names]] = number
    return lab


def _slots(
    position: dict[str, int], rng: np.random.Generator
) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
    rows = [list(slots_of(stage)) for programme in PROGRAMMES for stage in programme.stages]
    shape = (len(rows), max(map(len, rows)))
    widest = max(len(slot.codes) for row in rows for slot in row)
    codes: NDArray[np.int64] = np.zeros((*shape, widest), np.int64)
    count = np.ones(shape, np.int64)
    probability, shift = np.zeros(shape), np.zeros(shape)
    for i, row in enumerate(rows):
        for j, slot in enumerate(row):
            places = [position[code] for code in slot.codes]
            codes[i, j] = places + places[-1:] * (widest - len(places))
            count[i, j] = len(places)
            probability[i, j] = rng.uniform(*_PROBABILITY[slot.rank])
            shift[i, j] = slot.shift
    return codes, count, probability, shift

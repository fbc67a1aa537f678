"""Held-out cases with the model's answers, and the groups of patients that can be told apart."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from primum.evidence.curves import SMALLEST_CELL
from primum.evidence.measured import BoolArray, FloatArray, IntArray
from primum.evidence.observed import Observed

# Also the order in which groups are shown.
ATTRIBUTES = ("sex", "age", "ethnicity", "skin_type", "site", "device")
# With fewer patients than this on either side nothing is said of a difference.
FEWEST = 20
PROBABILITY, SEVERITY, NEUTRAL = "probability:", "severity:", "neutral:"
Codes = NDArray[np.int16]


@dataclass(frozen=True)
class Group:
    """Patients who share the value of one attribute, or of two.

    Attributes
    ----------
    names : tuple of str
        ``("sex=F",)``.
    places : tuple of (str, int)
        Attribute and the code of its value.
    """

    names: tuple[str, ...]
    places: tuple[tuple[str, int], ...]

    @property
    def name(self) -> str:
        """The names as one, ``"sex=F&age=80+"``."""
        return "&".join(self.names)


@dataclass(frozen=True, eq=False)
class Answers:
    """Cases in one order.

    Attributes
    ----------
    patient : int64, shape (n,)
        From 0 to `people` - 1.
    people : int
    weight : float64, shape (n,)
        One over the number of the patient's cases: each patient counts once.
    label, called : int16, shape (n,)
        The true class and the one that the model gives, -1 for none of those it can give.
    classes : tuple of str
    probability : mapping of int to float64, shape (n,)
        Of each class that is judged against all others.
    codes : mapping of str to int16, shape (n,)
        Of each attribute, -1 where it is not known.
    names : mapping of str to tuple of str
        Of each attribute, what its codes stand for; "" stands for values that few patients have.
    severity : mapping of str to int16, shape (n,)
    """

    patient: IntArray
    people: int
    weight: FloatArray
    label: Codes
    called: Codes
    classes: tuple[str, ...]
    probability: Mapping[int, FloatArray]
    codes: Mapping[str, Codes]
    names: Mapping[str, tuple[str, ...]]
    severity: Mapping[str, Codes]

    @property
    def single(self) -> bool:
        """Whether every patient has one case."""
        return self.people == len(self.patient)

    def sides(self, group: Group) -> tuple[BoolArray, BoolArray]:
        """Tell who is in a group, and who is not though the attribute is known, each shape (n,)."""
        inside = np.ones(len(self.patient), np.bool_)
        known = inside.copy()
        for attribute, code in group.places:
            inside &= self.codes[attribute] == code
            known &= self.codes[attribute] >= 0
        return inside, known & ~inside

    def count(self, chosen: BoolArray) -> int:
        """Count the patients who have a case among the chosen ones."""
        if self.single:
            return int(chosen.sum())
        return int(np.count_nonzero(np.bincount(self.patient[chosen], minlength=self.people)))

    def variance(self, influence: FloatArray, chosen: BoolArray) -> float:
        """Sum the squares of what each patient's cases add to an estimate: its variance, by patient."""
        added: FloatArray = influence
        if not self.single:
            added = np.bincount(self.patient[chosen], influence, self.people).astype(np.float64)
        people = max(2, self.count(chosen))
        return float(added @ added) * people / (people - 1)


def answers_of(observed: Observed) -> Answers:
    """Read the columns of an observed family."""
    columns, names = observed.columns, observed.names
    patient = columns["patient"].astype(np.int64)
    cases = np.bincount(patient)
    classes = names["label"]
    return Answers(
        patient,
        len(cases),
        1 / cases[patient],
        columns["label"].astype(np.int16),
        columns["called"].astype(np.int16),
        classes,
        {place: columns[key] for place, name in enumerate(classes) if (key := PROBABILITY + name) in columns},
        {name: _codes(columns[name]) for name in ATTRIBUTES if name in columns},
        {name: names[name] for name in ATTRIBUTES if name in columns},
        {key: _codes(values) for key, values in columns.items() if key.startswith(SEVERITY)},
    )


def _codes(values: FloatArray) -> Codes:
    return np.nan_to_num(values, nan=-1).astype(np.int16)


def groups_of(answers: Answers) -> tuple[Group, ...]:
    """List the groups by one attribute that hold five patients or more, and lack as many."""
    found = (
        Group((f"{attribute}={value}",), ((attribute, code),))
        for attribute in answers.codes
        for code, value in enumerate(answers.names[attribute])
        if value
    )
    return tuple(group for group in found if _large(answers, group, SMALLEST_CELL))


def pairs_of(answers: Answers) -> tuple[Group, ...]:
    """List the intersections of two attributes that hold 20 patients or more, and lack as many."""
    return tuple(group for group in _pairs(answers) if _large(answers, group, FEWEST))


def _pairs(answers: Answers) -> Iterator[Group]:
    for one, two in combinations(answers.codes, 2):
        width = len(answers.names[two])
        known = (answers.codes[one] >= 0) & (answers.codes[two] >= 0)
        joint = answers.codes[one][known].astype(np.int64) * width + answers.codes[two][known]
        for cell in np.flatnonzero(np.bincount(joint) >= FEWEST).tolist():
            first, second = divmod(cell, width)
            values = answers.names[one][first], answers.names[two][second]
            if all(values):
                names = f"{one}={values[0]}", f"{two}={values[1]}"
                yield Group(names, ((one, first), (two, second)))


def _large(answers: Answers, group: Group, fewest: int) -> bool:
    return min(map(answers.count, answers.sides(group))) >= fewest

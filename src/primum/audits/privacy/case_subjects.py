"""Whom the tests of a classifier are about: patients with their cases, and who of them trained the model."""

from dataclasses import dataclass

import numpy as np

from primum.evidence.measured import BoolArray, FloatArray, IntArray
from primum.records.cases import Cases


@dataclass(frozen=True, eq=False)
class CaseSubjects:
    """Patients of both sides in one order, and all their cases.

    Attributes
    ----------
    rows : int64, shape (patients,)
        Their positions among all audited patients.
    is_member : bool, shape (patients,)
    cases : Cases
        Of both sides; each patient has at least one.
    place : int64, shape (cases,)
        Which of these patients each case is of.
    seed : int
    """

    rows: IntArray
    is_member: BoolArray
    cases: Cases
    place: IntArray
    seed: int

    def __len__(self) -> int:
        return len(self.rows)

    def mean(self, values: FloatArray | BoolArray) -> FloatArray:
        """Take the mean over each patient's cases: from shape (cases, k) to (patients, k)."""
        total = np.zeros((len(self), values.shape[1]))
        np.add.at(total, self.place, values)
        return total / np.bincount(self.place, minlength=len(self))[:, None]

    def first(self) -> Cases:
        """Keep the first case of each patient, in the order of the patients."""
        return self.cases.select(np.unique(self.place, return_index=True)[1])

"""What a family that compares no members with held-out patients observed: columns, before any statistics."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np

from primum.evidence.finding import Message, Scalar, Series
from primum.evidence.measured import FloatArray

ObservedFamily = Literal["robustness", "data", "equity", "explanations"]
OBSERVED: tuple[ObservedFamily, ...] = get_args(ObservedFamily)


@dataclass(frozen=True, eq=False)
class Observed:
    """One family; everything its findings are made of, so that they can be recomputed without the model.

    Attributes
    ----------
    family : {"robustness", "data", "equity", "explanations"}
    columns : mapping of str to float64, shape (n,)
        One row a case, a patient or a question, NaN where it was not asked. ``patient`` is always there:
        whose row it is, a whole number from 0; statistics are by patient.
    names : mapping of str to tuple of str
        Of columns that hold whole numbers for texts: what 0, 1, 2 stand for.
    settings : mapping of str to scalar
        Everything that shaped the numbers; part of each finding of the family.
    refused : mapping of test to Message
        Tests that this model or these records cannot answer, and why.
    series : tuple of Series
        Plots that the columns do not give, none of a single person.
    """

    family: ObservedFamily
    columns: Mapping[str, FloatArray] = field(default_factory=dict)
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    refused: Mapping[str, Message] = field(default_factory=dict)
    series: tuple[Series, ...] = ()

    def arranged(self) -> "Observed":
        """Order the rows by their own numbers and number the patients as they come.

        Neither then says anything of the records, and arranging again changes nothing.
        """
        if not self.columns:
            return self
        patient = self.columns["patient"]
        keys = [self.columns[name] for name in sorted(self.columns) if name != "patient"]
        order = np.lexsort(keys[::-1]) if keys else np.arange(len(patient))
        _, first, place = np.unique(patient[order], return_index=True, return_inverse=True)
        coming = np.argsort(np.argsort(first))
        return replace(
            self,
            columns={
                "patient": coming[place].astype(np.float64),
                **{
                    name: np.asarray(self.columns[name][order], np.float64)
                    for name in sorted(self.columns)
                    if name != "patient"
                },
            },
        )

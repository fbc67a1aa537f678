"""Whom the tests are about: patients, who of them trained the model, and what is sensitive."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from primum.records.attributes import PatientTable
from primum.records.excerpts import Anatomy
from primum.records.histories import FloatArray, TimeArray
from primum.records.ragged import IntArray
from primum.records.tokenizer import Tokenizer
from primum.records.tokens import TokenBatch

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Subjects:
    """Patients of both sides in one order.

    Attributes
    ----------
    rows : int64, shape (n,)
        Their positions among all audited patients.
    tokens : TokenBatch
        Their whole histories.
    is_member : bool, shape (n,)
    table : PatientTable
    tokenizer : Tokenizer
        Of the model and its references.
    families : mapping of str to bool, shape (vocabulary,)
        Which tokens belong to each sensitive family.
    holders : int64, shape (vocabulary,)
        How many audited patients, members and held-out together, hold each token.
    audited : int
        Out of how many.
    context : int
        Tokens that the model sees at once.
    seed : int
    times : datetime64[us], shape (tokens,)
        When the event of each token was; NaT for those of none and those without time.
    """

    rows: IntArray
    tokens: TokenBatch
    is_member: BoolArray
    table: PatientTable
    tokenizer: Tokenizer
    families: Mapping[str, BoolArray]
    holders: IntArray
    audited: int
    context: int
    seed: int
    times: TimeArray

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def anatomy(self) -> Anatomy:
        """Where the events of each patient lie."""
        return Anatomy(self.tokens)

    @cached_property
    def surprisal(self) -> FloatArray:
        """Bits told by the presence of each token, shape (vocabulary,): 0 for one that everybody has."""
        bits: FloatArray = -np.log2((self.holders + 0.5) / (self.audited + 1.0))
        return bits

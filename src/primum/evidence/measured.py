"""What a family of tests measured: numbers by patient, before any statistics."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from primum.evidence.finding import Message, Scalar

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Guesses:
    """Predictions of several yes-or-no facts of each patient, beside the truth.

    Attributes
    ----------
    names : tuple of str
        The facts, e.g. sensitive families.
    scores : float64, shape (n, facts)
        Higher = the model would rather say yes.
    labels : bool, shape (n, facts)
    blind : float64, shape (n, facts), or None
        Predictions by someone who never saw the model.
    """

    names: tuple[str, ...]
    scores: FloatArray
    labels: BoolArray
    blind: FloatArray | None = None

    def within(self, chosen: BoolArray | IntArray) -> "Guesses":
        """Keep some patients."""
        blind = None if self.blind is None else self.blind[chosen]
        return Guesses(self.names, self.scores[chosen], self.labels[chosen], blind)

    def only(self, place: int) -> "Guesses":
        """Keep one fact."""
        one = [place]
        blind = None if self.blind is None else self.blind[:, one]
        return Guesses((self.names[place],), self.scores[:, one], self.labels[:, one], blind)

    def sides(self, is_member: BoolArray) -> tuple[FloatArray, BoolArray, FloatArray, BoolArray]:
        """Scores and labels of members, then of held-out patients."""
        scores, labels = self.scores, self.labels
        return scores[is_member], labels[is_member], scores[~is_member], labels[~is_member]

    def blind_sides(self, is_member: BoolArray) -> tuple[FloatArray, FloatArray] | None:
        """Blind guesses for members, then for held-out patients."""
        return None if self.blind is None else (self.blind[is_member], self.blind[~is_member])


@dataclass(frozen=True, eq=False)
class Curve:
    """A number by patient at each of several places, NaN where a patient has none.

    Attributes
    ----------
    x : tuple of float
    values : float64, shape (n, places)
    unit : str
        Code of what is measured.
    """

    x: tuple[float, ...]
    values: FloatArray
    unit: str


@dataclass(frozen=True, eq=False)
class Measured:
    """One family, one row a patient.

    Attributes
    ----------
    rows : int64, shape (n,)
        Which patients of the audit, as positions in its order.
    scores : mapping of test to float64, shape (n,)
        Higher = more member-like; NaN where a patient cannot be asked.
    guesses : mapping of test to Guesses
    curves : mapping of test to mapping of name to Curve
    settings : mapping of str to scalar
        Everything that shaped the numbers; part of each finding of the family.
    refused : mapping of test to Message
        Tests that this model cannot answer, and why.
    """

    rows: IntArray
    scores: Mapping[str, FloatArray] = field(default_factory=dict)
    guesses: Mapping[str, Guesses] = field(default_factory=dict)
    curves: Mapping[str, Mapping[str, Curve]] = field(default_factory=dict)
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    refused: Mapping[str, Message] = field(default_factory=dict)

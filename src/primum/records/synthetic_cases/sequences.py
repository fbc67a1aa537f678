"""Genomic windows of one reference: variants that are the patient's own, and copies of a motif in the ill."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from primum.errors import InputError
from primum.records.cases import Cases
from primum.records.synthetic_cases.people import CaseSettings, Visits, draw_cases

SEQUENCE_CLASSES = ("no_motif", "motif")
_MARK = 0x736571
_LETTERS = np.frombuffer(b"ACGT", np.uint8)
_MOTIF = np.frombuffer(b"GATTACAGGCAT", np.uint8)
# Copies of the motif lie in different slots of so many letters.
_SLOT = 25
_OWN, _NEW = 0.02, 0.002


@dataclass(frozen=True)
class SequenceSettings(CaseSettings):
    """Synthetic sequences.

    Attributes
    ----------
    letters : int
        Bases a sequence, 200 or more.
    difficulty : float
        Divides the number of copies of the motif, 12 in the worst; one is always there.
    """

    letters: int = 10_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.letters < 200:
            raise InputError(
                "Synthetic sequences need 200 letters or more; {size} were asked.", size=self.letters
            )


def synthetic_sequences(
    patients: int, *, seed: int, settings: SequenceSettings = SequenceSettings()
) -> Cases:
    """Draw sequences, uint8 letters of ``ACGT``, shape (n, letters); see :func:`draw_cases`."""
    reference = _LETTERS[np.random.default_rng(_MARK).integers(4, size=settings.letters)]
    return draw_cases(
        patients, seed=seed, mark=_MARK, draw=lambda v, rng: _sequences(v, rng, settings, reference)
    )


def _sequences(
    visits: Visits, rng: np.random.Generator, settings: SequenceSettings, reference: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    count, length = len(visits.patient), settings.letters
    own = _mutated(np.tile(reference, (visits.patients, 1)), _OWN, rng)
    found = _mutated(own[visits.patient], _NEW, rng)
    copies = np.maximum(visits.label, np.rint(12 / settings.difficulty * visits.severity)).astype(np.int64)
    slots = length // _SLOT
    visit = np.repeat(np.arange(count), np.minimum(copies, slots))
    place = np.concatenate([rng.permutation(slots)[: min(number, slots)] for number in copies])
    first = _SLOT * place + rng.integers(_SLOT - len(_MOTIF), size=len(place))
    found[visit[:, None], first[:, None] + np.arange(len(_MOTIF))] = _MOTIF
    return found


def _mutated(letters: NDArray[np.uint8], share: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Replace letters at random places, some of them by themselves."""
    number = rng.binomial(letters.size, share)
    letters.reshape(-1)[rng.integers(letters.size, size=number)] = _LETTERS[rng.integers(4, size=number)]
    return letters

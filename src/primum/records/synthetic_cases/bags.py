"""Bags of tiles of a slide: cells on a stained ground; in the ill, the nuclei of some tiles are larger."""

from dataclasses import dataclass

import numpy as np

from primum.errors import InputError
from primum.records.cases import Cases
from primum.records.histories import FloatArray
from primum.records.ragged import offsets_of
from primum.records.synthetic_cases.people import CaseSettings, Visits, draw_cases, pixels

BAG_CLASSES = ("no_tumour", "tumour")
_MARK = 0x626167
_SIDE, _NUCLEI = 16, 5
_POSITIVE = 0.3
_NOISE = np.array([0.03, 0.035, 0.03, 0.04, 0.05, 0.045])


@dataclass(frozen=True)
class BagSettings(CaseSettings):
    """Synthetic bags.

    Attributes
    ----------
    fewest, most : int
        Tiles a bag.
    difficulty : float
        Divides by how much the nuclei of positive tiles are larger.
    """

    fewest: int = 6
    most: int = 12

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.fewest <= self.most:
            raise InputError("A bag needs at least one tile, and most must not be below fewest.")


def synthetic_bags(patients: int, *, seed: int, settings: BagSettings = BagSettings()) -> Cases:
    """Draw bags, a tuple of uint8 arrays of shape (tiles, 1, 16, 16); see :func:`draw_cases`."""
    return draw_cases(patients, seed=seed, mark=_MARK, draw=lambda v, rng: _bags(v, rng, settings))


def _bags(visits: Visits, rng: np.random.Generator, settings: BagSettings) -> tuple[np.ndarray, ...]:
    """Stain and the size of nuclei are the patient's own."""
    tiles = rng.integers(settings.fewest, settings.most + 1, len(visits.patient))
    visit = np.repeat(np.arange(len(tiles)), tiles)
    first = offsets_of(tiles)
    positive = rng.random(len(visit)) < _POSITIVE * visits.severity[visit]
    positive[first[:-1][visits.label > 0]] = True
    stain = rng.normal(0.75, 0.05, visits.patients)[visits.patient][visit]
    size = (
        rng.normal(0.13, 0.012, (visits.patients, 1))[visits.patient][visit]
        + 0.07 / settings.difficulty * positive[:, None]
    )
    there = np.arange(_NUCLEI) < rng.integers(2, _NUCLEI + 1, (len(visit), 1))
    where = rng.uniform(-1, 1, (len(visit), _NUCLEI, 2))
    dark = there * rng.normal(0.35, 0.06, there.shape)
    image = (stain - 0.06 * (visits.site == 2)[visit])[:, None, None] - _nuclei(where, dark, size)
    noise = _NOISE[visits.device][visit][:, None, None] * rng.standard_normal(image.shape, np.float32)
    drawn = pixels(image + noise)[:, None]
    # Positive tiles must not come first.
    order = np.lexsort((rng.random(len(visit)), visit))
    return tuple(np.split(drawn[order], first[1:-1]))


def _nuclei(where: FloatArray, dark: FloatArray, size: FloatArray) -> FloatArray:
    axis = np.linspace(-1, 1, _SIDE)
    across = np.exp(-(((axis - where[..., :1]) / size[..., None]) ** 2))
    down = dark[..., None] * np.exp(-(((axis - where[..., 1:]) / size[..., None]) ** 2))
    return np.asarray(down.swapaxes(1, 2) @ across)

"""Chest-like images: ribs, lungs and a heart, and the opacity of pneumonia, faint or dense."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from primum.errors import InputError
from primum.records.cases import Cases
from primum.records.histories import FloatArray
from primum.records.synthetic_cases.people import CaseSettings, Visits, draw_cases, pixels

Pixels = NDArray[np.float32]

IMAGE_CLASSES = ("no_finding", "pneumonia")
_MARK = 0x696D67
_VESSELS, _CELLS = 8, 6
# By device: what the detector does to contrast, and its noise.
_GAMMA = np.array([0.85, 0.95, 1.0, 1.1, 1.2, 0.9])
_NOISE = np.array([0.02, 0.025, 0.02, 0.03, 0.035, 0.03])


@dataclass(frozen=True)
class ImageSettings(CaseSettings):
    """Synthetic images.

    Attributes
    ----------
    size : int
        Pixels a side, 8 or more.
    difficulty : float
        Divides the density of the opacities.
    """

    size: int = 28

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size < 8:
            raise InputError(
                "Synthetic images need 8 pixels a side or more; {size} were asked.", size=self.size
            )


def synthetic_images(patients: int, *, seed: int, settings: ImageSettings = ImageSettings()) -> Cases:
    """Draw chest-like images, uint8, shape (n, 1, size, size); see :func:`draw_cases`."""
    return draw_cases(patients, seed=seed, mark=_MARK, draw=lambda v, rng: _images(v, rng, settings))


def _images(visits: Visits, rng: np.random.Generator, settings: ImageSettings) -> NDArray[np.uint8]:
    """Anatomy and small vessels are the patient's own; pose, opacity and noise change with each visit."""
    mine, count = visits.patient, len(visits.patient)
    axis = np.linspace(-1, 1, settings.size, dtype=np.float32)
    pose = rng.normal([0, 0, 1], [0.03, 0.03, 0.02], (count, 3)).astype(np.float32)
    x, y = (axis - pose[:, :1]) / pose[:, 2:], (axis - pose[:, 1:2]) / pose[:, 2:]
    body = rng.normal(0, 1, (visits.patients, 12)).astype(np.float32)[mine]
    side = np.abs(x) - (0.42 + 0.02 * body[:, :1])
    lungs = _inside(side, y + 0.02, 0.3 + 0.03 * body[:, 1], 0.66 + 0.05 * body[:, 2])
    heart_width = 0.24 + 0.03 * body[:, 3] + 0.001 * (visits.age - 58)
    heart = _inside(x - 0.1, y - 0.32 - 0.03 * body[:, 4:5], heart_width, 0.3 + 0.02 * body[:, 5])
    torso = _inside(x, y, 0.93 + 0.03 * body[:, 6], np.full(count, 1.6))
    bend = (y[:, :, None] + 0.35 * x[:, None] ** 2) * (3.1 + 0.25 * body[:, 7, None, None])
    ribs = np.cos(np.float32(2 * np.pi) * bend + 2 * body[:, 8, None, None]).clip(0)
    own = _vessels(x, y, mine, visits.patients, rng) + _tissue(settings.size, mine, visits.patients, rng)
    image = 0.1 + 0.55 * torso - (0.38 + 0.02 * body[:, 9, None, None]) * lungs * (1 - 0.8 * heart)
    image += (0.07 + 0.015 * body[:, 10, None, None]) * ribs * torso + 0.1 * torso * np.exp(
        -80 * x[:, None] ** 2
    )
    breast = visits.female * (0.07 + 0.02 * body[:, 11])
    image += breast[:, None, None] * np.exp(-(side[:, None] ** 2) / 0.06 - (y[:, :, None] - 0.35) ** 2 / 0.06)
    image += (own + _opacity(x, y, visits, rng) / settings.difficulty) * lungs
    image = image.clip(0, 1) ** _GAMMA[visits.device][:, None, None] * (
        1 - 0.08 * (visits.site == 2)[:, None, None]
    )
    noise = rng.standard_normal(image.shape, np.float32) * _NOISE[visits.device][:, None, None]
    return pixels(image + noise)[:, None]


def _inside(x: Pixels, y: Pixels, width: NDArray[np.floating], height: NDArray[np.floating]) -> Pixels:
    """Ellipses with soft edges, shape (n, size, size)."""
    far = (x / width[:, None]).astype(np.float32)[:, None] ** 2 + (y / height[:, None]).astype(np.float32)[
        :, :, None
    ] ** 2
    return np.asarray(1 / (1 + np.exp((8 * (far - 1)).clip(-30, 30))), np.float32)


def _spots(x: Pixels, y: Pixels, where: FloatArray, height: FloatArray, width: FloatArray) -> Pixels:
    """Sum of round spots, shape (n, size, size); `where` is (n, spots, 2), the others (n, spots)."""
    across = np.exp(-(((x[:, None] - where[..., :1]) / width[..., None]) ** 2))
    down = height[..., None] * np.exp(-(((y[:, None] - where[..., 1:]) / width[..., None]) ** 2))
    return np.asarray(down.swapaxes(1, 2) @ across, np.float32)


def _vessels(
    x: Pixels, y: Pixels, mine: NDArray[np.int64], patients: int, rng: np.random.Generator
) -> Pixels:
    where = rng.uniform([-0.7, -0.6], [0.7, 0.6], (patients, _VESSELS, 2))[mine]
    height = rng.normal(0, 0.1, (patients, _VESSELS))[mine]
    return _spots(x, y, where, height, rng.uniform(0.06, 0.14, (patients, _VESSELS))[mine])


def _tissue(size: int, mine: NDArray[np.int64], patients: int, rng: np.random.Generator) -> Pixels:
    """Return a smooth field of the patient's own, shape (n, size, size)."""
    grid = np.linspace(0, _CELLS - 1, size, dtype=np.float32)
    spread = (1 - np.abs(grid[:, None] - np.arange(_CELLS, dtype=np.float32))).clip(0)
    cells = rng.standard_normal((patients, _CELLS, _CELLS), np.float32)
    return np.asarray(0.03 * (spread @ cells @ spread.T)[mine], np.float32)


def _opacity(x: Pixels, y: Pixels, visits: Visits, rng: np.random.Generator) -> Pixels:
    """One or two clouds in the lungs, the denser the more severe."""
    count = len(visits.patient)
    where = rng.uniform([0.28, -0.4], [0.56, 0.45], (count, 2, 2))
    where[..., 0] *= rng.choice([-1, 1], (count, 2))
    second = rng.random(count) < visits.severity - 0.3
    height = 0.42 * visits.severity[:, None] * np.stack([np.ones(count), second], 1)
    return _spots(x, y, where, height, rng.uniform(0.16, 0.28, (count, 2)))

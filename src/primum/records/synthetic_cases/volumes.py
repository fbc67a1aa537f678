"""Small volumes like an organ in a scan: vessels that are the patient's own, and a lesion or none."""

import numpy as np
from numpy.typing import NDArray

from primum.records.cases import Cases
from primum.records.histories import FloatArray
from primum.records.synthetic_cases.people import ORDINARY, CaseSettings, Visits, draw_cases, pixels

VOLUME_CLASSES = ("no_lesion", "lesion")
_MARK = 0x766F6C
_SHAPE = (16, 32, 32)
_VESSELS = 12
_NOISE = np.array([0.03, 0.035, 0.03, 0.04, 0.05, 0.045])


def synthetic_volumes(patients: int, *, seed: int, settings: CaseSettings = ORDINARY) -> Cases:
    """Draw volumes, uint8, shape (n, 1, 16, 32, 32); see :func:`draw_cases`."""
    return draw_cases(patients, seed=seed, mark=_MARK, draw=lambda v, rng: _volumes(v, rng, settings))


def _volumes(visits: Visits, rng: np.random.Generator, settings: CaseSettings) -> NDArray[np.uint8]:
    mine, count = visits.patient, len(visits.patient)
    size = rng.normal(0.75, 0.05, (visits.patients, 3))[mine]
    axes = [np.linspace(-1, 1, side) - 0.05 * rng.standard_normal((count, 1)) for side in _SHAPE]
    far = sum(
        np.expand_dims((axis / size[:, [place]]) ** 2, [other + 1 for other in range(3) if other != place])
        for place, axis in enumerate(axes)
    )
    organ = 1 / (1 + np.exp((8 * (np.asarray(far) - 1)).clip(-30, 30)))
    vessels = _blobs(
        axes,
        rng.uniform(-0.6, 0.6, (visits.patients, _VESSELS, 3))[mine],
        rng.normal(0.05, 0.12, (visits.patients, _VESSELS))[mine],
        rng.uniform(0.08, 0.2, (visits.patients, _VESSELS))[mine],
    )
    lesion = _blobs(
        axes,
        rng.uniform(-0.4, 0.4, (count, 1, 3)),
        0.42 / settings.difficulty * visits.severity[:, None],
        rng.uniform(0.22, 0.32, (count, 1)),
    )
    image = 0.15 + organ * (0.35 + 0.05 * (visits.site == 2)[:, None, None, None] + vessels + lesion)
    noise = _NOISE[visits.device][:, None, None, None] * rng.standard_normal(image.shape, np.float32)
    return pixels(image + noise)[:, None]


def _blobs(axes: list[FloatArray], where: FloatArray, height: FloatArray, width: FloatArray) -> FloatArray:
    """Sum of round blobs, shape (n, depth, height, width)."""
    deep, down, across = (
        np.exp(-(((axis[:, None] - where[..., place, None]) / width[..., None]) ** 2))
        for place, axis in enumerate(axes)
    )
    flat = np.einsum("nkd,nkh->nkdh", height[..., None] * deep, down).reshape(len(where), where.shape[1], -1)
    return np.asarray((flat.swapaxes(1, 2) @ across).reshape(-1, *_SHAPE))

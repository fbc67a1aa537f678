"""What happens to inputs in a hospital without any attacker: noise, blur, compression, a lead that falls off.

Five severities of each kind: 1 and 2 are what daily work brings, 5 is what nobody would send for reading.
Sizes are parts of the range of the data, and lengths grow as the square root of the side of an image: a
512-pixel image is blurred by more pixels than one of 28, but by less of its side. Volumes are treated slice
by slice, all slices alike, bags tile by tile.

References
----------
Hendrycks & Dietterich, Benchmarking neural network robustness to common corruptions and perturbations, ICLR
2019 (kinds and severities; the figures here are our own, milder, for grey images of diagnosis).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from primum.audits.privacy.label_only import Kind
from primum.audits.robustness.room import Room, stored
from primum.evidence.measured import BoolArray, FloatArray
from primum.evidence.robustness_answers import CORRUPTIONS
from primum.records.case_files.table import Feature
from primum.records.cases import Cases

_UNREAD = ord("N")
# At severities 1 to 5; what the figures mean is said by the function of the same name.
LEVELS: Mapping[str, tuple[float, ...]] = {
    "noise": (0.01, 0.02, 0.05, 0.1, 0.16),
    "blur": (0.06, 0.12, 0.2, 0.3, 0.4),
    "motion": (0.2, 0.4, 0.8, 1.2, 1.6),
    "contrast": (0.85, 0.7, 0.5, 0.35, 0.2),
    "gamma": (1.15, 1.3, 1.6, 2.0, 2.6),
    "compression": (80, 60, 35, 20, 10),
    "occlusion": (0.01, 0.02, 0.05, 0.1, 0.2),
    "rotation": (3, 6, 12, 20, 30),
    "wander": (0.02, 0.05, 0.1, 0.2, 0.3),
    "dropout": (0.02, 0.05, 0.1, 0.2, 0.4),
    "gain": (1.1, 1.2, 1.4, 1.7, 2.0),
    "missing": (0.02, 0.05, 0.1, 0.2, 0.4),
    "substitution": (0.002, 0.005, 0.01, 0.03, 0.1),
    "ends": (0.01, 0.02, 0.05, 0.1, 0.2),
    "tiles": (0.1, 0.2, 0.3, 0.5, 0.7),
}
_STORED = ("missing", "substitution", "ends", "tiles")  # these give values that records hold
_OF_IMAGES = ("noise", "blur", "motion", "contrast", "gamma", "compression", "occlusion", "rotation")
_OF: Mapping[Kind, tuple[str, ...]] = {
    "image": _OF_IMAGES,
    "volume": _OF_IMAGES,
    "bag": (*_OF_IMAGES, "tiles"),
    "signal": ("noise", "wander", "dropout", "gain"),
    "table": ("noise", "missing"),
    "sequence": ("substitution", "ends"),
}


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What corruptions must know of the data.

    Attributes
    ----------
    kind : str
    room : Room
        Range of the data; of tables which columns are numbers.
    whole : bool, shape (features,)
        Of tables: columns that hold whole numbers only.
    features : sequence of Feature
        Of tables: which cells may be empty.
    letters : uint8, shape (k,)
        Of sequences: the letters there are.
    """

    kind: Kind
    room: Room
    whole: BoolArray
    features: Sequence[Feature]
    letters: NDArray[Any]

    def held(self, changed: FloatArray, values: NDArray[Any]) -> NDArray[Any]:
        """Return changed values as records hold them; what records signals has no end of its range."""
        if self.kind != "signal":
            limits = np.fmin(self.room.low, values), np.fmax(self.room.high, values)
            changed = np.clip(changed, *limits)
        return stored(changed, values.dtype)

    def corruptions(self) -> tuple[str, ...]:
        """Name the kinds that can befall such data; cells go missing only where the schema lets them."""
        can_miss = any(one.missing for one in self.features)
        return tuple(one for one in _OF[self.kind] if one != "missing" or can_miss)


def corrupt(cases: Cases, corruption: str, *, severity: int, around: Surroundings, seed: int) -> Cases:
    """Corrupt each case, the same way at every severity but for how much.

    Parameters
    ----------
    cases : Cases
    corruption : str
        One of `around.corruptions()`.
    severity : int
        1 to 5.
    around : Surroundings
    seed : int
        What chance decides (places, directions, noise) depends on it and on the case's own number.

    Returns
    -------
    Cases
        In the type of the records, within the range of the data; of other numbers of tiles where tiles drop.
    """
    level, how, place = LEVELS[corruption][severity - 1], _HOW[corruption], CORRUPTIONS.index(corruption)
    changed = []
    for number, values in zip(cases.case_ids.tolist(), cases.inputs, strict=True):
        rng = np.random.default_rng([seed, place, abs(number)])
        made = how(values, level, rng, around)
        changed.append(made if corruption in _STORED else around.held(made, values))
    one_shape = isinstance(cases.inputs, np.ndarray) and corruption != "tiles"
    return replace(cases, inputs=np.stack(changed) if one_shape else tuple(changed))


def noise(values: NDArray[Any], level: float, rng: np.random.Generator, around: Surroundings) -> FloatArray:
    """Add Gaussian noise of so many parts of the range; whole columns of a table stay whole."""
    noisy = values + level * around.room.width * rng.standard_normal(values.shape)
    return np.where(around.whole, np.rint(noisy), noisy) if around.kind == "table" else _float(noisy)


def blur(values: NDArray[Any], level: float, rng: np.random.Generator, around: Surroundings) -> FloatArray:
    """Blur by a Gaussian of so many pixels for each root of the side."""
    widths = (0,) * (values.ndim - 2) + (level * _root(values),) * 2
    return _float(ndimage.gaussian_filter(values.astype(np.float64), widths, mode="nearest"))


def motion(values: NDArray[Any], level: float, rng: np.random.Generator, around: Surroundings) -> FloatArray:
    """Smear along one side, drawn at random, by so many pixels for each root of the side."""
    reach = level * _root(values) / 2
    steps = np.arange(-int(reach) - 1, int(reach) + 2)
    weights = np.clip(reach + 0.5 - np.abs(steps), 0, 1)
    axis = values.ndim - 1 - int(rng.integers(2))
    smeared = ndimage.convolve1d(values.astype(np.float64), weights / weights.sum(), axis, mode="nearest")
    return _float(smeared)


def contrast(
    values: NDArray[Any], level: float, rng: np.random.Generator, around: Surroundings
) -> FloatArray:
    """Multiply distances from the mean by the level."""
    mean = values.mean(dtype=np.float64)
    return _float(mean + level * (values - mean))


def gamma(values: NDArray[Any], level: float, rng: np.random.Generator, around: Surroundings) -> FloatArray:
    """Raise the place within the range to the power of the level, or of its inverse."""
    low, width = around.room.low, np.maximum(around.room.width, 1e-12)
    power = level if rng.random() < 0.5 else 1 / level
    return _float(low + width * np.clip((values - low) / width, 0, 1) ** power)


def compression(
    values: NDArray[Any], level: float, rng: np.random.Generator, around: Surroundings
) -> FloatArray:
    """Compress by JPEG of that quality, three channels as colours, other planes as grey ones of 8 bits."""
    low, width = around.room.low, np.maximum(around.room.width, 1e-12)
    bits = np.rint(np.clip((values - low) / width, 0, 1) * 255).astype(np.uint8)
    coloured = values.shape[-3] == 3 and around.kind != "volume"
    planes = bits.reshape(-1, *values.shape[-3:]).transpose(0, 2, 3, 1) if coloured else bits
    planes = planes.reshape(-1, *planes.shape[-3:] if coloured else planes.shape[-2:])
    read = []
    for plane in planes:
        buffer = BytesIO()
        Image.fromarray(plane).save(buffer, "JPEG", quality=int(level))
        read.append(np.asarray(Image.open(buffer), np.float64))
    back = np.stack(read)
    back = back.transpose(0, 3, 1, 2) if coloured else back
    # What the codec alone changed is put on the values, so that 8 bits take nothing from finer ones.
    change = back.reshape(values.shape) - bits
    return _float(values + change * width / 255)


def occlusion(
    values: NDArray[Any], level: float, rng: np.random.Generator, around: Surroundings
) -> FloatArray:
    """Cover a square of that share of the area, anywhere, with the lowest value."""
    covered = values.astype(np.float64)
    sides = np.array(values.shape[-2:])
    size = np.minimum(sides, max(1, round(float(np.sqrt(level * sides.prod())))))
    row, column = rng.integers(sides - size + 1)
    covered[..., row : row + size[0], column : column + size[1]] = np.min(around.room.low)
    return covered


def rotation(
    values: NDArray[Any], level: float, rng: np.random.Generator, around: Surroundings
) -> FloatArray:
    """Turn by so many degrees, either way, the border repeated."""
    degrees = level if rng.random() < 0.5 else -level
    turned = ndimage.rotate(
        values.astype(np.float64), degrees, axes=(-1, -2), reshape=False, order=1, mode="nearest"
    )
    return _float(turned)


def wander(values: NDArray[Any], level: float, rng: np.random.Generator, around: Surroundings) -> FloatArray:
    """Add to each lead one to three slow waves of that amplitude, in parts of the range."""
    time = np.arange(values.shape[-1]) / values.shape[-1]
    wave = np.sin(2 * np.pi * (rng.uniform(1, 3) * time + rng.random((len(values), 1))))
    return _float(values + level * around.room.width * wave)


def dropout(values: NDArray[Any], level: float, rng: np.random.Generator, around: Surroundings) -> FloatArray:
    """Flatten one span of that share of the recording to each lead's mean."""
    flat, length = values.astype(np.float64), max(1, round(level * values.shape[-1]))
    first = int(rng.integers(values.shape[-1] - length + 1))
    flat[..., first : first + length] = flat.mean(axis=-1, keepdims=True)
    return flat


def gain(values: NDArray[Any], level: float, rng: np.random.Generator, around: Surroundings) -> FloatArray:
    """Multiply all values by the level, or divide them by it."""
    return _float(values * (level if rng.random() < 0.5 else 1 / level))


def missing(
    values: NDArray[Any], level: float, rng: np.random.Generator, around: Surroundings
) -> NDArray[Any]:
    """Empty cells that may be empty, each with that probability."""
    row = values.copy()
    gone = rng.random(len(around.features)) < level
    for feature, empty in zip(around.features, gone, strict=True):
        if empty and feature.missing:
            row[feature.first : feature.first + feature.width] = 0 if feature.kind == "category" else np.nan
    return row


def substitution(
    values: NDArray[Any], level: float, rng: np.random.Generator, around: Surroundings
) -> NDArray[Any]:
    """Read each letter as any other with that probability."""
    return np.where(rng.random(len(values)) < level, rng.choice(around.letters, len(values)), values)


def ends(values: NDArray[Any], level: float, rng: np.random.Generator, around: Surroundings) -> NDArray[Any]:
    """Leave that share of the letters, at one of the ends, unread: they become N."""
    row, count = values.copy(), max(1, round(level * len(values)))
    row[slice(count) if rng.random() < 0.5 else slice(len(row) - count, None)] = _UNREAD
    return row


def tiles(values: NDArray[Any], level: float, rng: np.random.Generator, around: Surroundings) -> NDArray[Any]:
    """Lose each tile with that probability, never all."""
    kept = rng.random(len(values)) >= level
    kept[rng.integers(len(values))] = True
    return values[kept]


def _root(values: NDArray[Any]) -> float:
    return float(np.sqrt(min(values.shape[-2:])))


def _float(values: Any) -> FloatArray:
    return np.asarray(values, np.float64)


_How = Callable[[NDArray[Any], float, np.random.Generator, Surroundings], NDArray[Any]]
_HOW: Mapping[str, _How] = {
    how.__name__: how
    for how in (
        noise, blur, motion, contrast, gamma, compression, occlusion, rotation,
        wander, dropout, gain, missing, substitution, ends, tiles,
    )
}  # fmt: skip

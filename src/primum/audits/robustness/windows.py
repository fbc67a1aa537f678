"""Windows in cases: squares of an image, cubes of a volume, stretches of a signal, squares of one tile."""

import numpy as np

from primum.audits.privacy.label_only import Kind
from primum.evidence.measured import BoolArray, IntArray


def window_axes(kind: Kind, dimensions: int) -> tuple[int, ...]:
    """Return the axes of a batch along which a window is placed: all but channels; of a bag, tiles too."""
    if kind == "bag":
        return (1, *range(3, dimensions))
    return tuple(range(1 if kind == "table" else 2, dimensions))


def windows(rng: np.random.Generator, shape: tuple[int, ...], kind: Kind, *, share: float) -> BoolArray:
    """Place one window in each of `shape[0]` cases, over about `share` of its places, in one tile of a bag.

    Returns
    -------
    bool, to be broadcast to `shape`
    """
    axes = window_axes(kind, len(shape))
    root = share ** (1 / (len(axes) - (kind == "bag")))
    sides = {axis: max(1, round(root * shape[axis])) for axis in axes} | ({1: 1} if kind == "bag" else {})
    corners = np.stack([rng.integers(shape[axis] - sides[axis] + 1, size=shape[0]) for axis in axes], axis=1)
    return window_at(corners, shape, axes, tuple(sides.values()))


def window_at(
    corners: IntArray, shape: tuple[int, ...], axes: tuple[int, ...], sides: tuple[int, ...]
) -> BoolArray:
    """Return the window that begins at each corner, bool, to be broadcast to `shape`.

    Parameters
    ----------
    corners : int64, shape (n, axes)
    shape : tuple of int
        Of a batch.
    axes, sides : tuple of int
        Along which the windows lie, and how far they go.
    """
    inside = np.ones((1,) * len(shape), np.bool_)
    for corner, axis, side in zip(corners.T, axes, sides, strict=True):
        away = np.arange(shape[axis]) - corner[:, None]
        lines = [-1, *(1,) * (len(shape) - 1)]
        lines[axis] = shape[axis]
        inside = inside & ((away >= 0) & (away < side)).reshape(lines)
    return inside

"""Altered copies of images, as another film of the same patient might look."""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

_PIXELS = 2


def altered_images(images: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    """Move each image by up to two pixels, its edge filling what becomes free, and mirror half of them.

    Parameters
    ----------
    images : array, shape (n, channels, height, width)
    random : numpy.random.Generator
    """
    beside = (_PIXELS, _PIXELS)
    places = sliding_window_view(
        np.pad(images, ((0, 0), (0, 0), beside, beside), mode="edge"), images.shape[-2:], axis=(-2, -1)
    )
    down, right = random.integers(2 * _PIXELS + 1, size=(2, len(images)))
    moved: NDArray[Any] = places[np.arange(len(images)), :, down, right]
    mirrored = random.random(len(images)) < 0.5
    moved[mirrored] = moved[mirrored][..., ::-1]
    return moved

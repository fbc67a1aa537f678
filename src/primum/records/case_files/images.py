"""PNG and JPEG images as arrays; what would have to be guessed is refused."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from primum.errors import RecordsError
from primum.records.case_files.index import Cell, readable

ENDINGS = (".png", ".jpg", ".jpeg")
# Four times the largest mammogram.
MOST_PIXELS = 1 << 26


def read_image(path: Path, cell: Cell) -> tuple[str, NDArray[Any]]:
    """Read an image as (channels, height, width): one channel for grey, three for colour.

    Grey of 16 bits is uint16, all else uint8. A palette becomes its colours; the orientation that EXIF tells
    is applied; an alpha channel is dropped where everything is opaque.

    Returns
    -------
    tuple of str and ndarray
        ``"image"`` and the image.

    Raises
    ------
    RecordsError
        Too many pixels declared, several pictures in one, transparency, CMYK, colour of 16 bits, or broken.
    """
    with readable(cell), _opened(path, cell) as image:
        # Pillow would halve these in silence.
        deep = image.mode in ("RGB", "RGBA", "LA") and "16B" in str(image.tile)
        if deep or getattr(image, "n_frames", 1) > 1 or image.mode not in _CHANNELS:
            raise RecordsError(
                "{file}, row {row}, column {column}: {input} is animated, in CMYK or in colours of 16 bits: "
                "save it as one picture in grey, or in colours of 8 bits.",
                **cell,
            )
        upright = ImageOps.exif_transpose(image)
        if upright.has_transparency_data:
            whole = upright.convert("RGBA")
            if whole.getchannel("A").getextrema() != (255, 255):
                raise RecordsError(
                    "{file}, row {row}, column {column}: {input} is transparent in places: save it without "
                    "alpha.",
                    **cell,
                )
            upright = whole.convert("L" if upright.mode in ("L", "LA") else "RGB")
        pixels = np.array(upright.convert(_CHANNELS[upright.mode]))
    if pixels.dtype not in (np.uint8, np.uint16):
        pixels = pixels.astype(np.uint16)
    return "image", pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(np.moveaxis(pixels, -1, 0))


def _opened(path: Path, cell: Cell) -> ImageFile.ImageFile:
    """Open an image, of which nothing but the header is read."""
    try:
        image = Image.open(path, formats=("PNG", "JPEG"))
        fits = image.width * image.height <= MOST_PIXELS
    except Image.DecompressionBombError:
        fits = False
    if not fits:
        raise RecordsError(
            "{file}, row {row}, column {column}: {input} declares more than {most} pixels: make it smaller.",
            **cell,
            most=MOST_PIXELS,
        )
    return image


# What each mode of Pillow is converted to; those of 16 bits of grey stay.
_CHANNELS = {
    "1": "L",
    "L": "L",
    "LA": "L",
    "P": "RGB",
    "PA": "RGB",
    "RGB": "RGB",
    "RGBA": "RGB",
    "I;16": "I;16",
    "I": "I",
}

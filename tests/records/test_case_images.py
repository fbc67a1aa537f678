"""PNG and JPEG images: what becomes of each form, and what is refused."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.records.case_builders import GREY, picture

from primum.errors import RecordsError
from primum.records.case_files.images import read_image

CELL: dict[str, str | int] = {"file": "cases.csv", "row": 3, "column": "file", "input": "a.png"}
COLOUR = np.arange(90, dtype=np.uint8).reshape(5, 6, 3)


def read(content: bytes, path: Path) -> np.ndarray:
    (path / "a.png").write_bytes(content)
    kind, pixels = read_image(path / "a.png", CELL)
    assert kind == "image" and pixels.flags.c_contiguous
    return pixels


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_grey_and_colour(tmp_path: Path) -> None:
    assert np.array_equal(read(picture(), tmp_path), GREY[None])
    assert np.array_equal(read(picture(COLOUR), tmp_path), COLOUR.transpose(2, 0, 1))
    deep = np.array([[0, 256], [513, 65535]], np.uint16)
    pixels = read(picture(deep), tmp_path)
    assert pixels.dtype == np.uint16 and np.array_equal(pixels, deep[None])
    assert np.array_equal(read(saved(Image.fromarray(GREY > 9)), tmp_path), np.where(GREY > 9, 255, 0)[None])
    near = read(picture(GREY, "JPEG", quality=100), tmp_path).astype(int) - GREY
    assert abs(near).max() <= 3


def test_a_palette_becomes_its_colours(tmp_path: Path) -> None:
    few = (COLOUR // 64 * 64).astype(np.uint8)
    image = Image.fromarray(few).convert("P", palette=Image.Palette.ADAPTIVE, colors=64)
    assert np.array_equal(read(saved(image), tmp_path), few.transpose(2, 0, 1))


def test_opaque_alpha_is_dropped(tmp_path: Path) -> None:
    alpha = np.full((5, 6, 1), 255, np.uint8)
    assert np.array_equal(read(picture(np.dstack([COLOUR, alpha])), tmp_path), COLOUR.transpose(2, 0, 1))
    assert np.array_equal(read(picture(np.dstack([GREY[..., None], alpha])), tmp_path), GREY[None])
    alpha[4, 5] = 254
    for pixels in (np.dstack([COLOUR, alpha]), np.dstack([GREY[..., None], alpha])):
        with pytest.raises(RecordsError, match=r"row 3, column file: a.png is transparent in places"):
            read(picture(pixels), tmp_path)


def test_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    turned = read(saved(Image.fromarray(GREY), exif=exif), tmp_path)
    assert np.array_equal(turned, np.rot90(GREY, -1)[None])


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    content = png(60_000, 60_000, 8, 0, b"\0" * 4096)
    with pytest.raises(RecordsError, match="declares more than 67108864 pixels"):
        read(content, tmp_path)


@pytest.mark.parametrize("colour", [2, 4, 6])
def test_colour_of_sixteen_bits_is_not_halved_in_silence(colour: int, tmp_path: Path) -> None:
    samples = {2: 3, 4: 2, 6: 4}[colour]
    with pytest.raises(RecordsError, match="in colours of 16 bits"):
        read(png(2, 1, 16, colour, b"\0" + b"\xff" * 2 * samples * 2), tmp_path)


def test_animated_and_cmyk(tmp_path: Path) -> None:
    frames = [Image.fromarray(GREY), Image.fromarray(GREY[::-1])]
    for content in (
        saved(frames[0], save_all=True, append_images=frames[1:]),
        saved(Image.fromarray(COLOUR).convert("CMYK"), "JPEG"),
    ):
        with pytest.raises(RecordsError, match="animated, in CMYK"):
            read(content, tmp_path)


@pytest.mark.parametrize("content", [b"", b"GIF89a", picture()[:50], saved(Image.fromarray(GREY), "BMP")])
def test_broken_images(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(
        RecordsError, match=r"cases.csv, row 3, column file: a.png is truncated, broken or not"
    ):
        read(content, tmp_path)

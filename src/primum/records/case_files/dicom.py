"""DICOM images and series as they are displayed: 0 is black, 1 is white.

Grey values pass the modality transformation (rescale or LUT), then the window or LUT of the first view,
and MONOCHROME1 is inverted; without a window the whole range that the stored bits can hold is shown. Who,
when and where is never read: only the tags of ``_TAGS`` leave the file. The rules: DICOM PS3.3, C.11.1,
C.11.2 and C.7.6.3, https://www.dicomstandard.org/current.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primum.errors import RecordsError
from primum.records.case_files.index import Cell, readable

MOST_SAMPLES = 1 << 28
_MOST_SAMPLES_A_BYTE, _SMALLEST_CAP = 100, 1 << 24
_DEFLATED = "1.2.840.10008.1.2.1.99"
_TAGS = [
    *(
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "PlanarConfiguration",
        "NumberOfFrames",
        "Rows",
        "Columns",
    ),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *(
        f"{colour}PaletteColorLookupTable{part}"
        for colour in ("Red", "Green", "Blue")
        for part in ("Data", "Descriptor")
    ),
    *("SeriesInstanceUID", "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient"),
]

Pixels = NDArray[np.float32]


def is_dicom(path: Path) -> bool:
    """Tell whether a file begins like DICOM, whatever its name."""
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def dicom_files(path: Path, cell: Cell) -> tuple[Path, ...]:
    """Return the file, or those of a series folder; hidden ones are left out.

    Raises
    ------
    RecordsError
        The folder is empty, or holds a folder or a link.
    """
    if path.is_file():
        return (path,)
    files = tuple(sorted(one for one in path.iterdir() if not one.name.startswith(".")))
    if not files or any(one.is_symlink() or not one.is_file() for one in files):
        raise RecordsError(
            "{file}, row {row}, column {column}: {input} is empty, or holds folders or links: give a folder "
            "that holds the files of one series.",
            **cell,
        )
    return files


def read_dicom(path: Path, cell: Cell) -> tuple[str, Pixels]:
    """Read a file or a series folder.

    Returns
    -------
    tuple of str and float32
        ``"image"``, (channels, height, width), or, of several frames or a folder, ``"volume"``,
        (channels, depth, height, width).

    Raises
    ------
    RecordsError
        A broken file, one without pixels, more samples declared than its size can mean, a compression that
        nothing here decodes, or slices that do not belong together.
    """
    parts, files = [], dicom_files(path, cell)
    for file in files:
        parts.append(_opened(file, cell, share=len(files)))
    if path.is_file():
        frames = _frames(parts[0], cell)
        return ("image", frames[:, 0]) if frames.shape[1] == 1 else ("volume", frames)
    slices = [_frames(part, cell) for part in _in_order(parts, cell)]
    if {one.shape for one in slices} != {(slices[0].shape[0], 1, *slices[0].shape[2:])}:
        raise RecordsError(
            "{file}, row {row}, column {column}: {input} holds slices of several sizes or frames: keep one "
            "series a folder.",
            **cell,
        )
    return "volume", np.concatenate(slices, axis=1)


def _opened(file: Path, cell: Cell, *, share: int) -> Any:
    """Read the tags of one file, of `share` that make one case, after looking at what it declares."""
    try:
        from pydicom import dcmread
        from pydicom.filereader import read_file_meta_info
        from pydicom.pixels.decoders.base import get_decoder
    except ImportError as error:
        raise RecordsError(
            "DICOM files need a package that is not installed: install primum[{extra}].", extra="dicom"
        ) from error
    with readable(cell):
        syntax = read_file_meta_info(file).TransferSyntaxUID
        plain = not syntax.is_encapsulated and syntax != _DEFLATED
        if not plain and (syntax == _DEFLATED or not get_decoder(syntax).is_available):
            raise RecordsError(
                "{file}, row {row}, column {column}: {input} is compressed as {syntax}, which nothing "
                "installed here decodes: write it uncompressed.",
                **cell,
                syntax=syntax.name,
            )
        tags = dcmread(file, specific_tags=list(_TAGS))
        declared = math.prod(
            int(tags.get(name) or 1) for name in ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames")
        )
        most = min(MOST_SAMPLES // share, max(_SMALLEST_CAP, file.stat().st_size * _MOST_SAMPLES_A_BYTE))
        if not 0 < declared <= most:
            raise RecordsError(
                "{file}, row {row}, column {column}: {input} declares more than {most} samples: make it "
                "smaller.",
                **cell,
                most=most,
            )
    return tags


def _in_order(parts: Sequence[Any], cell: Cell) -> list[Any]:
    """Sort slices along the normal of their plane, else by instance number; PS3.3, C.7.6.2.1.1."""
    with readable(cell):
        series = {str(part.get("SeriesInstanceUID")) for part in parts}
        if all("ImagePositionPatient" in part and "ImageOrientationPatient" in part for part in parts):
            across = np.array(parts[0].ImageOrientationPatient, np.float64)
            normal = np.cross(across[:3], across[3:])
            places = [float(normal @ np.array(part.ImagePositionPatient, np.float64)) for part in parts]
        else:
            places = [float(part.InstanceNumber) for part in parts]
        if len(series) > 1 or len(set(places)) < len(places) or not np.isfinite(places).all():
            raise RecordsError(
                "{file}, row {row}, column {column}: {input} holds slices of several series, or two at one "
                "place: keep one series a folder.",
                **cell,
            )
    return [parts[place] for place in np.argsort(places)]


def _frames(tags: Any, cell: Cell) -> Pixels:
    """Decode every frame, shape (channels, frames, height, width)."""
    from pydicom.pixels.processing import apply_color_lut

    with readable(cell):
        stored = tags.pixel_array
        shape = (int(tags.get("NumberOfFrames") or 1), tags.Rows, tags.Columns)
        kind = tags.PhotometricInterpretation
        if kind in ("MONOCHROME1", "MONOCHROME2"):
            shown = np.stack([_shown(one, tags, place) for place, one in enumerate(stored.reshape(shape))])
            return (1 - shown if kind == "MONOCHROME1" else shown)[None]
        if kind == "PALETTE COLOR":
            stored = apply_color_lut(stored, tags)
            white = np.iinfo(stored.dtype).max
        else:
            white = (1 << tags.BitsStored) - 1
        colours = stored.reshape(*shape, 3).astype(np.float32) / np.float32(white)
        return np.ascontiguousarray(np.moveaxis(colours, -1, 0))


def _of_frame(tags: Any, frame: int, group: str) -> Any:
    """Find what tells a transformation: of this frame, shared by all, or the file itself."""
    for name, place in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        groups = tags.get(name)
        if groups and groups[place].get(group):
            return groups[place].get(group)[0]
    return tags


def _shown(stored: NDArray[Any], tags: Any, frame: int) -> Pixels:
    """Transform one frame of grey, 0 the darkest and 1 the brightest."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi

    modality, view = (
        _of_frame(tags, frame, group) for group in ("PixelValueTransformationSequence", "FrameVOILUTSequence")
    )
    if tags.PixelRepresentation:
        low, high = -(1 << (tags.BitsStored - 1)), (1 << (tags.BitsStored - 1)) - 1
    else:
        low, high = 0, (1 << tags.BitsStored) - 1
    values = apply_modality_lut(stored, modality)
    if tables := modality.get("ModalityLUTSequence"):
        low, high = 0, (1 << tables[0].LUTDescriptor[2]) - 1
    else:
        slope, intercept = (
            float(modality.get(f"Rescale{name}", plain)) for name, plain in (("Slope", 1), ("Intercept", 0))
        )
        low, high = sorted((low * slope + intercept, high * slope + intercept))
    if tables := view.get("VOILUTSequence"):
        values = apply_voi(values.astype(np.int64), view)
        low, high = 0, (1 << tables[0].LUTDescriptor[2]) - 1
    elif "WindowCenter" in view:
        return _windowed(values.astype(np.float64), view)
    return np.asarray((values - low) / (high - low), np.float32)


def _windowed(values: NDArray[np.float64], view: Any) -> Pixels:
    """Apply the first window; PS3.3, C.11.2.1.2 and C.11.2.1.3."""
    centre, width = (
        float(value if isinstance(value, (int, float)) or not hasattr(value, "__len__") else value[0])
        for value in (view.WindowCenter, view.WindowWidth)
    )
    function = view.get("VOILUTFunction") or "LINEAR"
    if function == "SIGMOID":
        shown = 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
        return shown.astype(np.float32)
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    elif function != "LINEAR_EXACT":
        raise ValueError(function)
    # A window of one value divides above from below.
    return np.clip((values - centre) / max(width, 1e-9) + 0.5, 0, 1).astype(np.float32)

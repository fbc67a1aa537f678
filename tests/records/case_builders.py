"""The smallest inputs of every format, as bytes of files."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

GREY = np.arange(30, dtype=np.uint8).reshape(5, 6)


def folder(path: Path, rows: str, **files: bytes | str) -> Path:
    """Write ``cases.csv``, and other files whose names have ``__`` for a point and ``___`` for a slash."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "cases.csv").write_text(rows, encoding="utf-8")
    for name, content in files.items():
        file = path / name.replace("___", "/").replace("__", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def picture(pixels: NDArray[Any] = GREY, kind: str = "PNG", **options: Any) -> bytes:
    """Encode an image."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def npy(array: NDArray[Any]) -> bytes:
    """Encode an array."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz(small: bool = False, /, **arrays: NDArray[Any]) -> bytes:
    """Encode arrays, compressed when `small`."""
    stream = io.BytesIO()
    (np.savez_compressed if small else np.savez)(stream, allow_pickle=True, **arrays)
    return stream.getvalue()


def dicom(pixels: NDArray[Any], **tags: Any) -> bytes:
    """Encode a DICOM file, (height, width) or (frames, height, width), 12 bits of 16 unless told."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    made.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    made.SOPClassUID, made.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3"
    made.PatientID, made.StudyDate = "777000111", "20200101"
    made.Rows, made.Columns = pixels.shape[-2:]
    if pixels.ndim == 3:
        made.NumberOfFrames = len(pixels)
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, 12, 11
    made.PixelRepresentation = int(pixels.dtype == np.int16)
    made.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    made["PixelData"].VR = "OW"
    for name, value in tags.items():
        setattr(made, name, value)
    stream = io.BytesIO()
    made.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def item(**tags: Any) -> Sequence:
    """Make a sequence of one item."""
    one = Dataset()
    for name, value in tags.items():
        setattr(one, name, value)
    return Sequence([one])


def record(samples: NDArray[np.int16], *, name: str = "a") -> tuple[str, bytes]:
    """Write a WFDB record of format 16, (samples, leads), gain 200 a millivolt: its header and samples."""
    leads = samples.shape[1]
    lines = [f"{name} {leads} 500 {len(samples)}"]
    lines += [f"{name}.dat 16 200(0)/mV 16 0 {samples[0, lead]} 0 0 lead{lead}" for lead in range(leads)]
    return "\n".join(lines) + "\n", samples.astype("<i2").tobytes()

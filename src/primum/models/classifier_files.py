"""The files of a classifier: read once, so that the bytes that are hashed are the bytes that are loaded."""

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from primum.errors import ModelError
from primum.evidence.identity import ModelRef, manifest_digest

PICKLES = {".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"}
_MOST_BYTES = 1 << 33
# What an archive may unpack to: bytes for one byte of it, and what is always allowed.
_MOST_BYTES_A_BYTE, _SMALLEST_CAP = 100, 1 << 28


def read_files(path: Path, *names: str, optional: Sequence[str] = ()) -> dict[str, bytes]:
    """Read files of a folder, each a file itself and inside the folder.

    Parameters
    ----------
    path : Path
    *names : str
        Relative paths.
    optional : sequence of str
        Those that may be absent.

    Raises
    ------
    ModelError
        A file is missing, a link, outside the folder, or too large.
    """
    files, left = {}, _MOST_BYTES
    for name in (*names, *(name for name in optional if (path / name).exists())):
        file, parts = path / name, PurePosixPath(name).parts
        steps = [path.joinpath(*parts[: count + 1]) for count in range(len(parts))]
        outside = PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name or "\0" in name
        if outside or any(step.is_symlink() for step in steps) or not file.is_file():
            raise ModelError(
                "{file} is missing, a link or outside the model folder: copy the file itself into the model "
                "folder.",
                file=str(file)[:300],
            )
        left -= file.stat().st_size
        if left < 0:
            raise ModelError(
                "{path} holds a model of more than {most} bytes: give a smaller one.",
                path=str(path),
                most=_MOST_BYTES,
            )
        files[name] = file.read_bytes()
    return files


def ref_of(path: Path, files: Mapping[str, bytes], more: Mapping[str, str] | None = None) -> ModelRef:
    """Name the model by the bytes that were read; `more` are digests of what else shapes an answer."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    digests = dict(sorted({**digests, **(more or {})}.items()))
    return ModelRef(path.resolve().name, manifest_digest(digests), "computed", digests)


def open_archive(content: bytes, *, name: str) -> zipfile.ZipFile:
    """Open a zip archive whose members are not much larger than itself.

    Raises
    ------
    ModelError
        No zip archive, or one that declares far more bytes than its size can mean.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        size = sum(member.file_size for member in archive.infolist())
    # NotImplementedError is how zipfile refuses a version of the format that it does not know.
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise ModelError("{file} is truncated or not a zip archive: write it again.", file=name) from error
    most = max(_SMALLEST_CAP, len(content) * _MOST_BYTES_A_BYTE)
    if size > most:
        raise ModelError(
            "{file} unpacks to more than {most} bytes, far more than its size can mean: copy it again "
            "from its source.",
            file=name,
            most=most,
        )
    return archive


def pickle_refused(name: str) -> ModelError:
    """Say why a pickle is not opened, and what to save instead."""
    if Path(name).suffix in {".joblib", ".pickle", ".pkl"}:
        return ModelError(
            "{file} is a pickle, which can run any program when opened: save the estimator with skops, as "
            "model.skops, instead.",
            file=name,
        )
    return ModelError(
        "{file} is a pickle, which can run any program when opened: save the weights as safetensors instead.",
        file=name,
    )

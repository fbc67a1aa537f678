"""Documents kept by what they are: each lies under the sha256 of its bytes, and is checked when read."""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Protocol

from primum.errors import InputError, MachineError, clean_text


class Shelf(Protocol):
    """Where cards, policies, findings and decisions are kept."""

    def put(self, content: bytes) -> str:
        """Keep bytes, durably, and return their sha256."""
        ...

    def get(self, digest: str) -> bytes:
        """Return the bytes of a sha256.

        Raises
        ------
        InputError
            They are not there, or are no longer those bytes.
        """
        ...


class FolderShelf:
    """One file a document."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, content: bytes) -> str:
        """Keep bytes; those that are there already are left alone."""
        digest = hashlib.sha256(content).hexdigest()
        if not (self._folder / digest).exists():
            write_durably(self._folder / digest, content)
        return digest

    def get(self, digest: str) -> bytes:
        """Return the bytes of a sha256."""
        file = self._folder / digest
        try:
            content = file.read_bytes()
        except OSError as error:
            raise InputError(
                "{file} is not in the registry: copy the registry again, whole.", file=_shown(file)
            ) from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise InputError(
                "{file} was altered since it was kept: copy the registry again from where it was whole.",
                file=_shown(file),
            )
        return content


class MemoryShelf:
    """Documents of one process, for trying things out."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def put(self, content: bytes) -> str:
        """Keep bytes."""
        digest = hashlib.sha256(content).hexdigest()
        self._kept[digest] = content
        return digest

    def get(self, digest: str) -> bytes:
        """Return the bytes of a sha256."""
        if digest not in self._kept:
            raise InputError(
                "{file} is not in the registry: copy the registry again, whole.", file=clean_text(digest)
            )
        return self._kept[digest]


def write_durably(path: Path, content: bytes) -> None:
    """Write a file beside its place, and rename it there once it is on the disk: old or new, never half.

    Raises
    ------
    MachineError
        The disk refuses; what was there before still is.
    """
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:40]}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        keep_name(path.parent)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise MachineError(
            "{file} cannot be written ({reason}): look at the disk and repeat the command; nothing was "
            "changed.",
            file=_shown(path),
            reason=error.strerror or type(error).__name__,
        ) from error


def keep_name(folder: Path) -> None:
    """Make new names in a folder durable, where a folder can be opened, which is not everywhere."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _shown(file: Path) -> str:
    return clean_text(Path(*file.parts[-2:]))

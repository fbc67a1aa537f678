"""Which model and which data, exactly: manifests of every byte that shapes an answer."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from primum.evidence.canonical import canonical_bytes

_CHUNK = 1 << 20


@dataclass(frozen=True)
class ModelRef:
    """A model, named by the digest of its manifest.

    Attributes
    ----------
    name : str
        What people call it; no proof of anything.
    digest : str
        sha256, hexadecimal, of the canonical manifest.
    identity : {"computed", "declared"}
        Whether the digest was computed over the bytes that were loaded, or only claimed by a server or file.
    files : mapping of str to str
        The manifest: relative path to sha256.
    """

    name: str
    digest: str
    identity: Literal["computed", "declared"]
    files: Mapping[str, str]


def file_digest(path: Path) -> str:
    """sha256 of a file, hexadecimal, read a chunk at a time."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def manifest(root: Path, files: Iterable[Path]) -> dict[str, str]:
    """Digest each file, by its path relative to `root`, sorted."""
    return {str(path.relative_to(root)): file_digest(path) for path in sorted(files)}


def manifest_digest(files: Mapping[str, str]) -> str:
    """sha256 of the canonical JSON of a manifest.

    Examples
    --------
    >>> manifest_digest({"a": "00", "b": "11"}) == manifest_digest({"b": "11", "a": "00"})
    True
    """
    return hashlib.sha256(canonical_bytes(dict(files))).hexdigest()

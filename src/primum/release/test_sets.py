"""Certified test sets: sealed by the digest of every file and by signatures, and every use is counted.

A test set that is asked again and again wears out: whoever keeps what did well on it fits it, though nobody
trained on it. So every use is an event, recorded before the model is run, and status shows the number.

References
----------
Dwork, Feldman, Hardt, Pitassi, Reingold & Roth, The reusable holdout: preserving validity in adaptive data
analysis, Science 349 (2015) 636.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from primum.errors import InputError, clean_text
from primum.evidence.canonical import canonical_bytes
from primum.evidence.documents import Misfit, decode_bytes
from primum.evidence.identity import file_digest, manifest_digest
from primum.release.acts import person_of
from primum.release.event import Body, Kind, Sealed, Used
from primum.release.registry import Registry
from primum.release.standing import Standing, policy_of
from primum.release.statement import Statement, sign_statement

SCHEMA = "1.0"
_MOST_FILES = 1_000_000


@dataclass(frozen=True)
class Seal:
    """What was sealed.

    Attributes
    ----------
    name : str
        What people call it.
    digest : str
        sha256 of the canonical manifest; the ``data`` of findings made on it.
    files : mapping of str to str
        Relative path to sha256.
    """

    name: str
    digest: str
    files: Mapping[str, str]
    schema: str = SCHEMA


def files_of(folder: Path) -> dict[str, str]:
    """Hash every file of a test set.

    Raises
    ------
    InputError
        No folder, an empty one, or a link in it.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise InputError("{path} is no folder: give that of a test set.", path=clean_text(folder))
    found: dict[str, str] = {}
    for one in sorted(folder.rglob("*")):
        name = one.relative_to(folder).as_posix()
        if one.is_symlink() or not (one.is_dir() or one.is_file()):
            raise InputError(
                "{file} is a link or not a file: copy the file itself into the test set.",
                file=clean_text(name),
            )
        if one.is_file():
            found[name] = file_digest(one)
    if not found or len(found) > _MOST_FILES:
        raise InputError("{path} holds no test set, or too many files for one.", path=clean_text(folder))
    return found


def seal(registry: Registry, folder: Path, *, name: str, key: Ed25519PrivateKey) -> Seal:
    """Vouch for a test set, as the person of the policy whose key this is; the next person's seal adds to it.

    Raises
    ------
    InputError
        The folder cannot be sealed, or the key is of nobody, or of somebody who sealed it already.
    """
    files = files_of(folder)
    made = Seal(name, manifest_digest(files), files)
    standing = registry.standing
    person = person_of(policy_of(standing, registry.shelf), key)

    def build(standing: Standing, date: str) -> tuple[Kind, Body]:
        known = standing.test_sets.get(made.digest)
        kept = known.seal if known else registry.shelf.put(canonical_bytes(made))
        said = Statement("seal", person.name, person.role, date, policy=standing.policy, subject=made.digest)
        return "sealed", Sealed(made.digest, kept, sign_statement(said, key))

    registry.commit(person.name, build)
    return made


def read_seal(registry: Registry, digest: str) -> Seal:
    """Return what was sealed under a digest."""
    known = registry.standing.test_sets[digest]
    try:
        found: Seal = decode_bytes(Seal, registry.shelf.get(known.seal))
    except Misfit as error:
        raise InputError("A seal in the registry cannot be read: copy the registry again, whole.") from error
    return found


def open_sealed(registry: Registry, folder: Path) -> Seal:
    """Find the seal of a folder.

    Raises
    ------
    InputError
        It was never sealed, or a file was altered, added or removed since; names it.
    """
    files = files_of(folder)
    digest = manifest_digest(files)
    if digest in registry.standing.test_sets:
        return read_seal(registry, digest)
    for known in registry.standing.test_sets:
        sealed = read_seal(registry, known)
        if set(sealed.files.items()) & set(files.items()):
            both = sorted(sealed.files.keys() | files.keys())
            other = next(name for name in both if sealed.files.get(name) != files.get(name))
            raise InputError(
                "{file} of the test set {name} was altered, added or removed since it was sealed: copy the "
                "sealed files again.",
                file=clean_text(other),
                name=clean_text(sealed.name)[:80],
            )
    raise InputError(
        "{path} was never sealed in this registry: seal it with primum release seal.", path=clean_text(folder)
    )


def use(registry: Registry, sealed: Seal, *, model: str, purpose: str, by: str) -> int:
    """Count one use, before the model is run, and return how many there are now."""

    def build(standing: Standing, date: str) -> tuple[Kind, Body]:
        return "used", Used(sealed.digest, model, purpose)

    return registry.commit(by, build).test_sets[sealed.digest].uses

"""Files that go into the vault and come out of it, and lists of identifiers, which are never repeated."""

import os
import sys
from pathlib import Path

from primum.errors import InputError, MachineError, clean_text
from primum.trail.entry import Entry, Position
from primum.trail.vault.keys import KeyStore, PatientKeys, checked
from primum.trail.vault.payloads import LARGEST, Payload, Vault

_LARGEST_LIST = 64 << 20


class Untold:
    """A recorder for what writes nothing into the trail; it refuses everything, so that nothing is lost."""

    def append(self, entry: Entry) -> Position:
        """Refuse an entry."""
        raise RuntimeError(f"{entry.kind} is to be recorded: a trail is wanting")


def identifiers(path: Path) -> list[str]:
    """Read identifiers of patients, one a line; ``-`` is stdin, empty lines do not count.

    Raises
    ------
    InputError
        There are none, or a line is none; the sentence names the line and not what is on it.
    """
    place = clean_text(path)
    try:
        if str(path) == "-":
            content = sys.stdin.buffer.read(_LARGEST_LIST)
        else:
            with path.open("rb") as stream:
                content = stream.read(_LARGEST_LIST)
        lines = content.decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "{file} with identifiers of patients cannot be read as UTF-8 text: give one a line.", file=place
        ) from error
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(checked(line))
            except InputError as error:
                raise InputError(
                    "{file}, line {line}: a patient identifier has 1 to 256 visible characters.",
                    file=place,
                    line=number,
                ) from error
    if not found:
        raise InputError("{file} holds no patient identifier: give one a line.", file=place)
    return found


def one_identifier(path: Path) -> str:
    """Read the identifier of one patient.

    Raises
    ------
    InputError
        There is none, or more than one.
    """
    found = identifiers(path)
    if len(found) > 1:
        raise InputError(
            "{file} holds {count} patient identifiers where one is wanted; primum vault forget takes more "
            "with --all-listed.",
            file=clean_text(path),
            count=len(found),
        )
    return found[0]


def known(keys: KeyStore, identifier: str) -> PatientKeys:
    """Give the key of a patient who has one.

    Raises
    ------
    InputError
        They have none.
    """
    found = keys.find(identifier)
    if found is None:
        raise InputError(
            "This patient has no key in {place}: see whether the identifier is written as it was when it was "
            "put.",
            place=keys.database.place,
        )
    return found


def read_content(path: Path) -> bytes:
    """Read a file that is to be encrypted.

    Raises
    ------
    InputError
        It cannot be read.
    """
    try:
        with path.open("rb") as stream:
            # One byte more than is taken, so that too large a file is refused and not cut.
            return stream.read(LARGEST + 1)
    except OSError as error:
        raise InputError(
            "{file} cannot be read ({reason}): give a file that is there and that you may read.",
            file=clean_text(path),
            reason=error.strerror or type(error).__name__,
        ) from error


def write_one(
    vault: Vault, payload: str, target: Path, *, by: str, purpose: str, version: int | None = None
) -> int:
    """Decrypt a payload into a new file that only its owner may read; return 1."""
    _refuse_existing(target)
    _write(target, vault.get(payload, by=by, purpose=purpose, version=version))
    return 1


def write_all(vault: Vault, patient: PatientKeys, target: Path, *, by: str, purpose: str) -> int:
    """Decrypt all of a patient into a new folder, ``<payload>-<version>.<kind>``; return how many."""
    _refuse_existing(target)
    try:
        target.mkdir(mode=0o700)
    except OSError as error:
        raise _refused(target, error) from error
    count = 0
    for one in vault.export(patient, by=by, purpose=purpose):
        _write(target / f"{one.stored.payload}-{one.stored.version}.{one.stored.kind}", one)
        count += 1
    return count


def _refuse_existing(target: Path) -> None:
    # Before the trail is told: nobody reads anything when there is no place to put it.
    if target.exists():
        raise InputError("{path} is there already: give a new place with --out.", path=clean_text(target))


def _write(target: Path, payload: Payload) -> None:
    try:
        with open(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as stream:
            stream.write(payload.content)
    except OSError as error:
        raise _refused(target, error) from error


def _refused(target: Path, error: OSError) -> MachineError:
    return MachineError(
        "{file} cannot be written ({reason}): give another place, or the right to write there.",
        file=clean_text(target),
        reason=error.strerror or type(error).__name__,
    )

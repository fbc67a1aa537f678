"""The folder in which an audit keeps what it has finished: one command at a time, one audit at a time."""

import errno
import hashlib
import importlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import metadata
from pathlib import Path
from typing import Protocol

from primum.errors import InputError, Interrupted
from primum.evidence.canonical import canonical_bytes
from primum.evidence.identity import file_digest
from primum.workflows.kept import Kept, write_private
from primum.workflows.outputs import disk_refused

# Another version of these may give another last digit.
_SHAPING = ("numpy", "primum", "scipy", "torch", "transformers")


def unfinished_beside(report: Path) -> Path:
    """Name the folder of what is finished of a report.

    Examples
    --------
    >>> unfinished_beside(Path("/tmp/report")).name
    'report.unfinished'
    """
    whole = report.resolve()
    return whole.with_name(f"{whole.name}.unfinished")


@contextmanager
def keeping(folder: Path, *, key: str) -> Iterator[Kept]:
    """Keep pieces in a folder until the block ends well.

    They stay after Ctrl-C, a full disk or a bug; not after an InputError, whose remedy changes the key.

    Raises
    ------
    InputError
        Another command works there, or the pieces are of another audit.
    MachineError
        The disk refuses.
    Interrupted
        Ctrl-C, when there is something to go on with.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.is_symlink():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        folder.chmod(0o700)
    except OSError as error:
        raise disk_refused(folder, error) from error
    kept = Kept(folder, key)
    with _locked(folder):
        _check_key(kept, folder)
        finished = True
        try:
            yield kept
        except InputError:
            raise
        except KeyboardInterrupt as error:
            if finished := not kept:
                raise
            raise Interrupted(
                "Interrupted: no report was written. What was finished is kept in {folder}, and the same "
                "command goes on from there.",
                folder=str(folder),
            ) from error
        except BaseException:
            finished = not kept
            raise
        finally:
            if finished:
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the folder by a file of SQLite, whose locks end with their process, however that ends."""
    try:
        with closing(sqlite3.connect(folder / "lock", timeout=0, isolation_level=None)) as lock:
            lock.execute("PRAGMA journal_mode = OFF")
            lock.execute("BEGIN EXCLUSIVE")
            (folder / "lock").chmod(0o600)
            yield
    except sqlite3.Error as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
            raise disk_refused(folder, OSError(errno.EIO, str(error))) from error
        raise InputError(
            "Another command is at work in {folder}: wait for its end, or give another folder with --out.",
            folder=str(folder),
        ) from error


def _check_key(kept: Kept, folder: Path) -> None:
    place = folder / "key"
    known = place.read_bytes() if place.is_file() else b""
    # Half a key says nothing; of pieces, each knows its own.
    if kept and len(known) == len(kept.key) and known != kept.key.encode():
        raise InputError(
            "{folder} keeps what another audit had finished when it was interrupted, of another model, other "
            "records or options, or by another version: repeat that command, or delete the folder.",
            folder=str(folder),
        )
    write_private(place, kept.key.encode())


class Plan(Protocol):
    """What an audit is asked to do."""

    def shaping(self) -> dict[str, object]:
        """Return what shapes a finding."""
        ...


def key_of(plan: Plan, *, recipe: str | None = None) -> str:
    """sha256, hexadecimal, over everything that shapes a finding, whoever computes it and how many.

    `recipe` is ``module:name``; the file of that module counts, what it imports does not.
    """
    versions = {one.name: one.version for one in metadata.distributions() if one.name in _SHAPING}
    source = _source(recipe) if recipe else None
    shaping = {**plan.shaping(), "versions": versions, "recipe": recipe, "recipe_file": source}
    return hashlib.sha256(canonical_bytes(shaping)).hexdigest()


def _source(recipe: str) -> str | None:
    file = importlib.import_module(recipe.partition(":")[0]).__file__
    return file_digest(Path(file)) if file else None

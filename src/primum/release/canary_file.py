"""A canary on disk: its state and which patients each stream has counted, changed together or not at all.

Memory stays small however many patients come: the file keeps 16 bytes a patient and what was counted of them,
a keyed hash that says nothing without the key. State and patients change in one transaction, so that a
patient is counted once and wholly, or not at all, whenever the machine stops; several processes may feed the
same file.
"""

import hmac
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from primum.errors import InputError, MachineError
from primum.evidence.finding import Finding
from primum.evidence.text import clean_text
from primum.release.canary import Canary
from primum.release.outcomes import STREAMS, Outcome, Stream

_TABLES: Final = (
    "CREATE TABLE canary (only INTEGER PRIMARY KEY CHECK (only = 1), state BLOB NOT NULL)",
    "CREATE TABLE counted (patient BLOB PRIMARY KEY, streams INTEGER NOT NULL) WITHOUT ROWID",
)
_WAIT_SECONDS: Final = 10.0


class CanaryFile:
    """A canary that survives restarts, and knows whom it has counted.

    Parameters
    ----------
    path : Path
        An SQLite file; :meth:`begin` makes it.
    key : bytes
        Under which patients are hashed; the routing key will do. Another key counts everybody anew.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "canary.sqlite"
    >>> CanaryFile.begin(path, Canary.begin(live="11", canary="22"), key=b"k" * 32).read().decision.roll_back
    False
    """

    def __init__(self, path: Path, *, key: bytes) -> None:
        if not path.is_file():
            raise InputError("{file} is no canary: begin one.", file=clean_text(path))
        self._path, self._key = path, key

    @classmethod
    def begin(cls, path: Path, canary: Canary, *, key: bytes) -> "CanaryFile":
        """Make the file of a new canary.

        Raises
        ------
        InputError
            There is one: a canary that was begun goes on, and a new one gets a file of its own.
        MachineError
            The file cannot be written.
        """
        if path.exists():
            raise InputError(
                "{file} is there already: give a new canary a file of its own.", file=clean_text(path)
            )
        try:
            path.touch(mode=0o600, exist_ok=False)
        except OSError as error:
            raise _failed(path) from error
        file = cls(path, key=key)
        with file._transaction() as connection:
            for table in _TABLES:
                connection.execute(table)
            connection.execute("INSERT INTO canary VALUES (1, ?)", (canary.as_bytes(),))
        return file

    def observe(self, patient: bytes, outcome: Outcome) -> "Canary":
        """Count what became known of a patient, in the streams that have not counted them.

        Parameters
        ----------
        patient : bytes
            The patient's random number.
        outcome : Outcome

        Returns
        -------
        Canary
            Its `decision` says whether to roll back. It is durable.

        Raises
        ------
        InputError
            A value is not one that its stream can have, or the file is no canary; nothing is counted.
        MachineError
            The file cannot be read or written; nothing is counted.
        """
        hashed = hmac.digest(self._key, b"primum canary counted\0" + patient, "sha256")[:16]
        with self._transaction() as connection:
            canary = self._read(connection)
            row = connection.execute("SELECT streams FROM counted WHERE patient = ?", (hashed,)).fetchone()
            before = int(row[0]) if row else 0
            new = [stream for stream in outcome.values(canary.state.watch) if not before & _bit(stream)]
            if new and not canary.state.rolled_back:
                canary.observe(outcome, first=new)
                after = before | sum(_bit(stream) for stream in new)
                connection.execute("INSERT OR REPLACE INTO counted VALUES (?, ?)", (hashed, after))
                connection.execute("UPDATE canary SET state = ?", (canary.as_bytes(),))
        return canary

    def report(self, finding: Finding) -> "Canary":
        """Take note of a finding about the canary; as :meth:`Canary.report`, and durable."""
        with self._transaction() as connection:
            canary = self._read(connection)
            canary.report(finding)
            connection.execute("UPDATE canary SET state = ?", (canary.as_bytes(),))
        return canary

    def read(self) -> Canary:
        """Return the canary as it stands.

        Raises
        ------
        InputError, MachineError
            As :meth:`observe`.
        """
        with self._transaction(writes=False) as connection:
            return self._read(connection)

    def _read(self, connection: sqlite3.Connection) -> Canary:
        row = connection.execute("SELECT state FROM canary").fetchone()
        if row is None or not isinstance(row[0], bytes):
            raise InputError("{file} is no canary: begin one.", file=clean_text(self._path))
        return Canary.from_bytes(row[0], file=self._path.name)

    @contextmanager
    def _transaction(self, *, writes: bool = True) -> Iterator[sqlite3.Connection]:
        """Hold the file, from before reading to after writing; alone, where something is written."""
        try:
            with closing(
                sqlite3.connect(self._path, timeout=_WAIT_SECONDS, isolation_level=None)
            ) as connection:
                connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
                try:
                    yield connection
                except BaseException:
                    connection.rollback()
                    raise
                connection.commit()
        except sqlite3.OperationalError as error:
            raise _failed(self._path) from error
        except sqlite3.DatabaseError as error:
            raise InputError("{file} is no canary: begin one.", file=clean_text(self._path)) from error


def _bit(stream: Stream) -> int:
    return 1 << STREAMS.index(stream)


def _failed(path: Path) -> MachineError:
    return MachineError(
        "{file} cannot be read or written: look at the disk and at who holds the file, then go on; nothing "
        "was counted.",
        file=clean_text(path),
    )

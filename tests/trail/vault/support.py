"""What the tests of the vault share: a trail in a file, vaults on both databases, processes to kill."""

import json
import os
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event

from primum.trail.entry import Entry, Position
from primum.trail.vault.keys import KeyStore
from primum.trail.vault.masters import HeldKey, MasterKey
from primum.trail.vault.payloads import Vault
from primum.trail.vault.sealing import new_key


def fresh() -> HeldKey:
    return HeldKey("file", new_key())


@dataclass
class FileTrail:
    """A recorder whose entries outlive the process: one line each, durable when `append` returns."""

    path: Path
    step: Callable[[], None] = field(default=lambda: None)

    def append(self, entry: Entry) -> Position:
        self.step()
        line = json.dumps([entry.kind, entry.by, entry.patient, dict(entry.details)]) + "\n"
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        self.step()
        return Position(0, 0, "00" * 32)

    def entries(self, kind: str | None = None) -> list[tuple[str, str, str | None, dict[str, Any]]]:
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return [(a, b, c, d) for a, b, c, d in map(json.loads, lines) if kind in (None, a)]


@dataclass
class Place:
    """Where a key store and its vault are, and what was written about them."""

    keys: str
    payloads: str
    folder: Path
    trail: FileTrail
    # PostgreSQL's own files, and none of SQLite's.
    data: Path | None = None

    def create(self, master: MasterKey) -> Vault:
        keys = KeyStore.create(self.keys, master)
        return Vault.create(self.payloads, keys, self.trail)

    def open(self, *masters: MasterKey) -> Vault:
        return Vault(self.payloads, KeyStore(self.keys, *masters), self.trail)

    def files(self) -> dict[str, bytes]:
        """Every file of both databases as it is now, PostgreSQL's log of changes left out."""
        if self.data is None:
            places = [*self.folder.glob("*.db"), *self.folder.glob("*.db-*")]
        else:
            places = [path for path in (self.data / "base").rglob("*") if path.is_file()]
        return {str(path): path.read_bytes() for path in places}

    def holding(self, *sought: bytes) -> list[str]:
        return [name for name, content in self.files().items() if any(one in content for one in sought)]


def close(vault: Vault) -> None:
    vault.close()
    vault.keys.close()


def child(work: Callable[[], object], *, kill_at: int | None = None, trail: FileTrail | None = None) -> int:
    """Fork a process for `work`, which kills itself (-9) before its nth step.

    Steps are statements, commits of what was written, and the beginnings and ends of records; reads are none,
    because nothing has changed when the next step comes.
    """
    pid = os.fork()
    if pid:
        return pid
    steps, status = count(1), 1

    def stepped(*_: object) -> None:
        if next(steps) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def executes(_: object, __: object, statement: str, *___: object) -> None:
        if not statement.startswith(("SELECT", "BEGIN", "SET")):
            stepped()

    def commits(connection: Connection) -> None:
        if connection.get_execution_options().get("primum_writes"):
            stepped()

    try:
        event.listen(Engine, "before_cursor_execute", executes)
        event.listen(Engine, "commit", commits)
        if trail is not None:
            trail.step = stepped
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def ended(pid: int) -> bool:
    """Wait; whether it ended well (True) or was killed (False)."""
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    return status == 0

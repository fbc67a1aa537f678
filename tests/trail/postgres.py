"""A private PostgreSQL server for tests: its own folder, a UNIX socket only, gone at the end."""

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

_BEGUN_WITHIN = 30.0
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)
_SETTINGS = ("listen_addresses=", "max_connections=60", "shared_buffers=16MB", "jit=off")


def programs() -> Path | None:
    """Folder of ``initdb`` and ``postgres``: that of PATH, else the newest of Debian's."""
    found = shutil.which("initdb")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    places = [*debian, *([Path(found).resolve()] if found else [])]
    return places[-1].parent if places else None


@contextmanager
def server() -> Iterator[str]:
    """Start a server and yield the URL of it, to which the name of a database is to be given by ``format``.

    PostgreSQL refuses to run as root: it is then run as the user ``postgres``. It writes through to the disk
    as a hospital's would (fsync on), and dies with this process however that ends.
    """
    folder, binaries = Path(tempfile.mkdtemp(prefix="primum-pg-")), programs()
    assert binaries is not None
    user = pwd.getpwnam("postgres") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
    identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if os.getuid() == 0 else {}
    running: subprocess.Popen[bytes] | None = None
    try:
        shutil.chown(folder, user.pw_uid, user.pw_gid)
        data, log = folder / "data", folder / "log"
        subprocess.run(
            [
                binaries / "initdb",
                "-D",
                data,
                "-U",
                "primum",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--no-locale",
                "-N",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
            **identity,  # type: ignore[call-overload]
        )
        options = [
            part for setting in (*_SETTINGS, f"unix_socket_directories={folder}") for part in ("-c", setting)
        ]
        with log.open("wb") as written:
            running = subprocess.Popen(
                [binaries / "postgres", "-D", data, *options],
                stdout=written,
                stderr=written,
                cwd=folder,
                preexec_fn=_die_with_parent,
                **identity,  # type: ignore[call-overload]
            )
        _wait(running, folder, log)
        yield f"postgresql+psycopg://primum@/{{}}?host={folder}"
    finally:
        if running is not None:
            _stop(running)
        shutil.rmtree(folder, ignore_errors=True)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGQUIT)


def _wait(running: subprocess.Popen[bytes], folder: Path, log: Path) -> None:
    until = time.monotonic() + _BEGUN_WITHIN
    while True:
        try:
            psycopg.connect(host=str(folder), user="primum", dbname="postgres").close()
            return
        except psycopg.OperationalError:
            if running.poll() is not None or time.monotonic() > until:
                raise RuntimeError(log.read_text(encoding="utf-8", errors="replace")[-2000:]) from None
            time.sleep(0.05)


def _stop(running: subprocess.Popen[bytes]) -> None:
    running.send_signal(signal.SIGINT)
    try:
        running.wait(10)
    except subprocess.TimeoutExpired:
        running.send_signal(signal.SIGQUIT)
        running.wait(10)

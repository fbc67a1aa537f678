"""What a witness keeps: for each shard of each trail one file of heads, each of which follows from the last.

A line is durable before it is answered. Half a line that a crash left was never answered, and is written
over; a client that asks again with the same head gets the same answer.
"""

import errno
import json
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from primum.errors import InputError, clean_text
from primum.trail.countersigned import Countersigned, countersign, countersigned_line, read_countersigned
from primum.trail.heads import Head, SignedHead, head_line, public_hex, read_head
from primum.trail.merkle import proves_consistency

# Longer than any line, so that the last one is found at once in a file of any size.
_LINE: Final = 4096
# Heads that were refused though the trail's key signed them are evidence; a bounded amount is kept.
_REFUSED: Final = 1 << 20
_CHAINS: Final = 4096
_PROOF: Final = 128
TRAIL: Final = re.compile(r"[0-9a-f]{32}")
SHARD: Final = re.compile(r"0|[1-9][0-9]{0,6}")
KEY: Final = re.compile(r"[0-9a-f]{64}")
_SIGNATURE: Final = re.compile(r"[0-9a-f]{128}")
_AT: Final = re.compile(r"[0-9T:.Z+-]{1,40}")


@dataclass(frozen=True)
class Answer:
    """A status of HTTP and a line of JSON; with 409 the last head seen, and a signed one that was refused."""

    status: int
    line: bytes
    refused: Head | None = None


class WitnessBook:
    """The files of a witness, for one process.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    key : Ed25519PrivateKey
        The witness's own, never the trail's.
    trail_keys : mapping of str to str
        Public keys, hexadecimal, by the name of the trail. If there are any, no other trail is taken;
        without, the first key that is seen of a trail is the one that counts.

    Raises
    ------
    InputError
        Another process has the folder open, or a file in it was altered.
    """

    def __init__(
        self, folder: Path, key: Ed25519PrivateKey, *, trail_keys: Mapping[str, str] | None = None
    ) -> None:
        self.folder, self._key, self._given = folder, key, dict(trail_keys or {})
        self._lock = threading.Lock()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._held = _only_process(folder)
        files = sorted(folder.glob("*/*.heads"))
        self._chains = len(files)
        for path in files:
            try:
                line = _last_line(path)
                if line and not read_countersigned(line).holds(public_hex(key)):
                    raise ValueError("another key")
            except ValueError as error:
                self.close()
                raise InputError(
                    "{file} was altered, or kept with another key: give the witness the key it had, or an "
                    "empty folder.",
                    file=clean_text(path),
                ) from error

    def close(self) -> None:
        """Let another process open the folder."""
        os.close(self._held)

    def path(self, trail: str, shard: str) -> Path | None:
        """Give the file of heads; None if the names are none, or nothing was kept under them."""
        if not TRAIL.fullmatch(trail) or not SHARD.fullmatch(shard):
            return None
        path = self.folder / trail / f"{shard}.heads"
        return path if path.is_file() else None

    def last(self, trail: str, shard: str) -> bytes:
        """Give the last line, without its end; empty if there is none."""
        path = self.path(trail, shard)
        return b"" if path is None else _last_line(path)

    def latest(self, trail: str) -> bytes:
        """Give the last line of each shard, without the end of the last one."""
        files = (self.folder / trail).glob("*.heads")
        return b"\n".join(line for one in sorted(files) if (line := _last_line(one)))

    def offer(self, body: bytes) -> Answer:
        """Take a head, or refuse it.

        Returns
        -------
        Answer
            200 and the countersigned head; 409 and the last that was seen; 400, it is no head; 503, the disk
            refuses.
        """
        try:
            signed, proof, after = _read_offer(body)
        except ValueError:
            return Answer(400, b'{"error":"no signed head"}')
        head = signed.head
        authentic = signed.signed_by(head.key)
        with self._lock:
            line = self.last(head.trail, str(head.shard))
            last = read_countersigned(line) if line else None
            if last is not None and last.signed == signed:
                return Answer(200, line)
            if after is not None and last is not None and after != last.signed.head.size:
                # Another process of the trail was faster: no alarm, and the client begins again.
                return Answer(409, line)
            try:
                if not (authentic and head.key == self._pinned(head, last) and _follows(head, last, proof)):
                    self._remember(signed if authentic else None)
                    return Answer(409, line or b"{}", head if authentic else None)
                at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
                line = countersigned_line(countersign(signed, self._key, at=at))
                return Answer(200, line) if self._write(head, line) else Answer(503, b'{"error":"full"}')
            except OSError:
                return Answer(503, b'{"error":"the disk refuses"}')

    def _pinned(self, head: Head, last: Countersigned | None) -> str | None:
        """Give the key that the head must be signed with; None if the trail is not one of those given."""
        if self._given:
            return self._given.get(head.trail)
        if last is not None:
            return last.signed.head.key
        for path in sorted((self.folder / head.trail).glob("*.heads")):
            if line := _last_line(path):
                return read_countersigned(line).signed.head.key
        return head.key

    def _write(self, head: Head, line: bytes) -> bool:
        path = self.folder / head.trail / f"{head.shard}.heads"
        if not path.exists():
            if self._chains >= _CHAINS:
                return False
            path.parent.mkdir(mode=0o700, exist_ok=True)
            self._chains += 1
        append_line(path, line)
        return True

    def _remember(self, signed: SignedHead | None) -> None:
        """Keep a refused head that the trail's key did sign."""
        folder = self.folder / (signed.head.trail if signed else "")
        if signed is None or not folder.is_dir():
            return
        path = folder / f"{signed.head.shard}.refused"
        if not path.exists() or path.stat().st_size < _REFUSED:
            append_line(path, head_line(signed))


def append_line(path: Path, line: bytes) -> None:
    """Add a line, durable when it returns; half a line that a crash left is written over.

    Raises
    ------
    OSError
        The disk refuses; the file is what it was.
    """
    new = not path.exists()
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0) as file:
        end = _whole(file)
        file.truncate(end)
        file.seek(end)
        try:
            if file.write(line + b"\n") != len(line) + 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
        except OSError:
            file.truncate(end)
            raise
    if new and hasattr(os, "O_DIRECTORY"):
        place = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(place)
        finally:
            os.close(place)


def whole_length(path: Path) -> int:
    """Give the length of a file up to the end of its last whole line."""
    with path.open("rb") as file:
        return _whole(file)


def _whole(file: IO[bytes]) -> int:
    size = file.seek(0, os.SEEK_END)
    while size:
        start = max(0, size - _LINE)
        file.seek(start)
        found = file.read(size - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        size = start
    return 0


def _last_line(path: Path) -> bytes:
    with path.open("rb") as file:
        end = _whole(file)
        start = max(0, end - _LINE)
        file.seek(start)
        return file.read(end - start)[:-1].rpartition(b"\n")[2]


def _read_offer(body: bytes) -> tuple[SignedHead, list[bytes], int | None]:
    """Read a head, a proof, and the size of the head that it begins with, where that is said.

    Raises
    ------
    ValueError
        They are something else.
    """
    try:
        document: Any = json.loads(body)
        signed = read_head(document)
        head, proof = signed.head, document["proof"]
        # Only what is written like this goes into a file or a path.
        words = ((TRAIL, head.trail), (KEY, head.root), (KEY, head.key), (_SIGNATURE, signed.signature))
        if not all(form.fullmatch(word) for form, word in (*words, (_AT, head.at))):
            raise ValueError("no head")
        if head.shard >= 1 << 20 or head.size >= 1 << 40 or len(proof) > _PROOF:
            raise ValueError("no head")
        if not isinstance(proof, list) or not all(
            isinstance(one, str) and KEY.fullmatch(one) for one in proof
        ):
            raise ValueError("no proof")
        after = document.get("after")
        if after is not None and type(after) is not int:
            raise ValueError("no size")
        return signed, [bytes.fromhex(one) for one in proof], after
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError("no head") from error


def _follows(head: Head, last: Countersigned | None, proof: list[bytes]) -> bool:
    """Say whether a head only adds to the last one seen; the first of a shard needs no proof."""
    root = bytes.fromhex(head.root)
    if last is None:
        return not proof
    seen = last.signed.head
    return proves_consistency(seen.size, head.size, proof, bytes.fromhex(seen.root), root)


def _only_process(folder: Path) -> int:
    """Hold the folder: two witnesses that each know half of the heads would vouch for two histories."""
    try:
        number = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _no_folder(folder, error) from error
    try:
        import fcntl
    except ModuleNotFoundError:
        return number
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(number)
        raise InputError(
            "Another witness keeps its heads in {folder}: stop it, or give another folder.",
            folder=clean_text(folder),
        ) from error
    return number


def _no_folder(folder: Path, error: OSError) -> InputError:
    return InputError(
        "{folder} cannot be written ({reason}): give the witness a folder of its own.",
        folder=clean_text(folder),
        reason=error.strerror or type(error).__name__,
    )

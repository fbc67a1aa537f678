"""Witnesses: places outside the database that keep signed heads, so that it cannot be rewritten unseen.

A file on another volume, syslog over TLS, or an HTTP witness that countersigns only heads that are consistent
with the last it saw.
"""

import http.client
import json
import os
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from primum.errors import InputError, MachineError, clean_text
from primum.trail.countersigned import Countersigned, countersigned_line, read_countersigned
from primum.trail.heads import SignedHead, head_line, read_head
from primum.trail.merkle import proves_consistency
from primum.trail.syslog import SyslogSender

Prove = Callable[[int, int], Sequence[bytes]]
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_LARGEST: Final = 1 << 20
_SECONDS: Final = 20.0
_ATTEMPTS: Final = 64
_LINE: Final = 1 << 16
_MOST_HEADS: Final = 8192


class Witness(Protocol):
    """Keeps heads somewhere else."""

    def offer(self, signed: SignedHead, prove: Prove) -> None:
        """Hand over a head; `prove` gives the consistency proof from one size to another.

        Raises
        ------
        MachineError
            It cannot be reached.
        InputError
            It refuses.
        """
        ...


@dataclass(frozen=True)
class FileWitness:
    """A file of heads, one line each; it belongs on another volume, or on another machine."""

    path: Path

    def offer(self, signed: SignedHead, prove: Prove) -> None:
        """Add the head as a line, durable when it returns."""
        _append(self.path, head_line(signed))


@dataclass(frozen=True)
class SyslogWitness:
    """A syslog server over TLS, which keeps each head as a line of its own log."""

    sender: SyslogSender

    def offer(self, signed: SignedHead, prove: Prove) -> None:
        """Send the head."""
        self.sender.send([head_line(signed)], message_id="trail-head")


@dataclass(frozen=True)
class HttpWitness:
    """A witness that checks: ``primum trail witness`` on another machine.

    Attributes
    ----------
    url : str
        ``https://host:port``; ``http`` on this machine only.
    authority : Path or None
        Certificates that sign the witness's, PEM; by default the system's.
    key : str or None
        The witness's public key, hexadecimal: all that it answers must be countersigned with it.
    kept : Path or None
        File that keeps what it answered, one countersigned head a line.
    """

    url: str
    authority: Path | None = None
    key: str | None = None
    kept: Path | None = None

    def offer(self, signed: SignedHead, prove: Prove) -> None:
        """Ask what it saw last, prove that this head only adds to it, and hand both over."""
        before = None
        for turn in range(_ATTEMPTS):
            last = self.last(signed.head.trail, signed.head.shard)
            if turn and last == before:
                break
            # Refused, but another process handed over a head of the same shard meanwhile: begin again.
            before = last
            if last is not None and last.head.size > signed.head.size:
                self._require_ahead(signed, last, prove)
                return
            earlier = last.head.size if last else 0
            proof = [one.hex() for one in prove(earlier, signed.head.size)] if earlier else []
            document = json.loads(head_line(signed)) | {"proof": proof, "after": earlier}
            status, body = self._asked("POST", "/v1/heads", json.dumps(document).encode())
            if status == 200:
                self._keep(signed, body)
                return
            if status != 409:
                raise self._unreachable(f"HTTP {status}")
        raise InputError(
            "The witness {url} refuses the head of {size} records: it does not follow from what it saw "
            "before.",
            url=clean_text(self.url),
            size=signed.head.size,
        )

    def _require_ahead(self, signed: SignedHead, last: SignedHead, prove: Prove) -> None:
        """Accept that the witness knows more than this head only if the trail holds all of that."""
        head, seen = signed.head, last.head
        try:
            proof = prove(head.size, seen.size)
        except ValueError as error:
            raise InputError(
                "The witness {url} has seen {seen} records of this trail, which holds {size}: records are "
                "missing.",
                url=clean_text(self.url),
                seen=seen.size,
                size=head.size,
            ) from error
        roots = bytes.fromhex(head.root), bytes.fromhex(seen.root)
        if not proves_consistency(head.size, seen.size, proof, *roots):
            raise InputError(
                "The witness {url} has seen other records of this trail than it holds: one of the two was "
                "rewritten.",
                url=clean_text(self.url),
            )

    def _keep(self, signed: SignedHead, body: bytes) -> None:
        """Check the countersignature and keep it."""
        try:
            found = read_countersigned(body)
        except ValueError as error:
            raise self._unreachable("no countersignature") from error
        if found.signed != signed:
            raise self._unreachable("another head")
        self._require_signed(found)
        if self.kept is not None:
            _append(self.kept, countersigned_line(found))

    def _require_signed(self, found: Countersigned) -> None:
        if not found.holds(self.key or found.key):
            raise InputError(
                "The witness {url} did not sign what it answers with the key that is known of it: ask who "
                "keeps it.",
                url=clean_text(self.url),
            )

    def last(self, trail: str, shard: int) -> SignedHead | None:
        """Give the last head that it saw of a shard."""
        heads = self.heads(trail, shard, last=True)
        return heads[-1] if heads else None

    def heads(self, trail: str, shard: int, *, last: bool = False) -> list[SignedHead]:
        """Give the heads that it saw of a shard, or the last; of thousands a part, and the last.

        The witness took each only because it follows from the one before, so that few show as much as all.
        """
        found: list[SignedHead] = []
        every, newest = 1, None
        lines = self._lines(f"/v1/heads/{trail}/{shard}" + ("?last" if last else ""))
        for number, newest in enumerate(lines):
            if number % every == 0:
                found.append(newest)
            if len(found) == _MOST_HEADS:
                found, every = found[::2], every * 2
        return found if newest is None or found[-1] is newest else [*found, newest]

    def shards(self, trail: str) -> list[int]:
        """List the shards of which it saw a head."""
        return sorted({one.head.shard for one in self._lines(f"/v1/heads/{trail}")})

    def _lines(self, path: str) -> Iterator[SignedHead]:
        """Read heads as they come, one a line."""
        with self._answering("GET", path) as answer:
            if answer.status != 200:
                raise self._unreachable(f"HTTP {answer.status}")
            while line := answer.readline(_LINE):
                try:
                    signed = read_head(line)
                    if self.key is not None:
                        self._require_signed(read_countersigned(line))
                except ValueError as error:
                    raise self._unreachable("no heads") from error
                yield signed
            if answer.length:
                raise self._unreachable("a cut answer")

    def _asked(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        with self._answering(method, path, body) as answer:
            found = answer.read(_LARGEST + 1)
            if len(found) > _LARGEST:
                raise self._unreachable("too large an answer")
            return answer.status, found

    @contextmanager
    def _answering(
        self, method: str, path: str, body: bytes | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        connection = self._connection()
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            with connection.getresponse() as answer:
                yield answer
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(getattr(error, "reason", None) or type(error).__name__) from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        address = urlsplit(self.url)
        host, port = address.hostname or "", address.port
        if address.scheme == "https":
            context = ssl.create_default_context(cafile=self.authority)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            return http.client.HTTPSConnection(host, port, timeout=_SECONDS, context=context)
        if address.scheme != "http" or host not in LOOPBACK:
            raise InputError(
                "{url} is no address of a witness: give https://host:port (http only on this machine).",
                url=clean_text(self.url),
            )
        return http.client.HTTPConnection(host, port, timeout=_SECONDS)

    def _unreachable(self, reason: str) -> MachineError:
        return MachineError(
            "The witness {url} does not answer as one ({reason}): the head is kept in the trail only.",
            url=clean_text(self.url),
            reason=reason,
        )


def _append(path: Path, line: bytes) -> None:
    """Add a line of a witness to a file, durable when it returns."""
    try:
        number = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(number, line + b"\n")
            os.fsync(number)
        finally:
            os.close(number)
    except OSError as error:
        raise MachineError(
            "The witness {path} cannot be written ({reason}): the head is kept in the trail only.",
            path=clean_text(path),
            reason=error.strerror or type(error).__name__,
        ) from error


def read_heads(path: Path) -> list[SignedHead]:
    """Read the heads of a file, wherever they stand in its lines: a witness's file, or a log of syslog.

    Raises
    ------
    InputError
        The file cannot be read, or a line that holds a head was altered or cut.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InputError(
            "{file} cannot be read: give a file of heads that a witness kept.", file=clean_text(path)
        ) from error
    found: list[SignedHead] = []
    for number, line in enumerate(lines, 1):
        start = line.find(b'{"head":')
        if start < 0:
            continue
        try:
            document: Any = json.JSONDecoder().raw_decode(line[start:].decode("utf-8"))[0]
            found.append(read_head(document))
        except ValueError as error:
            raise InputError(
                "{file}, line {line}: this head was altered or cut: what the witness keeps can be trusted no "
                "more.",
                file=clean_text(path),
                line=number,
            ) from error
    return found

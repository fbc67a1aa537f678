"""Witnesses: places outside the database that keep signed heads, so that it cannot be rewritten unseen.

A file on another volume, syslog over TLS, or an HTTP witness that countersigns only heads that are consistent
with the last it saw.
"""

import http.client
import json
import os
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from primum.errors import InputError, MachineError
from primum.evidence.text import clean_text
from primum.trail.heads import SignedHead, head_line, read_head
from primum.trail.syslog import SyslogSender

Prove = Callable[[int, int], Sequence[bytes]]
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_LARGEST: Final = 1 << 20
_SECONDS: Final = 20.0


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
        try:
            number = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(number, head_line(signed) + b"\n")
                os.fsync(number)
            finally:
                os.close(number)
        except OSError as error:
            raise MachineError(
                "The witness {path} cannot be written ({reason}): the head is kept in the trail only.",
                path=clean_text(self.path),
                reason=error.strerror or type(error).__name__,
            ) from error


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
    """

    url: str
    authority: Path | None = None

    def offer(self, signed: SignedHead, prove: Prove) -> None:
        """Ask what it saw last, prove that this head only adds to it, and hand both over."""
        head = signed.head
        last = self.last(head.trail, head.shard)
        earlier = last.head.size if last else 0
        if earlier > head.size:
            raise InputError(
                "The witness {url} has seen {seen} records of this trail, which holds {size}: records are "
                "missing.",
                url=clean_text(self.url),
                seen=earlier,
                size=head.size,
            )
        proof = [one.hex() for one in prove(earlier, head.size)] if earlier else []
        document = json.loads(head_line(signed)) | {"proof": proof}
        status, _ = self._asked("POST", "/v1/heads", json.dumps(document).encode())
        if status != 200:
            raise InputError(
                "The witness {url} refuses the head of {size} records: it does not follow from what it saw "
                "before.",
                url=clean_text(self.url),
                size=head.size,
            )

    def last(self, trail: str, shard: int) -> SignedHead | None:
        """Give the last head that it saw of a shard."""
        heads = self.heads(trail, shard, last=True)
        return heads[-1] if heads else None

    def heads(self, trail: str, shard: int, *, last: bool = False) -> list[SignedHead]:
        """Give every head that it saw of a shard, or the last."""
        status, body = self._asked("GET", f"/v1/heads/{trail}/{shard}" + ("?last" if last else ""))
        try:
            if status != 200:
                raise ValueError
            return [read_head(line) for line in body.splitlines()]
        except ValueError as error:
            raise self._unreachable(f"HTTP {status}") from error

    def _asked(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = self._connection()
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            found = answer.read(_LARGEST + 1)
            if len(found) > _LARGEST:
                raise self._unreachable("too large an answer")
            return answer.status, found
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(type(error).__name__) from error
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


def gathered(
    places: Sequence[str], trail: str, *, shard: int = 0, authority: Path | None = None
) -> list[SignedHead]:
    """Read the heads that witnesses keep: files, and addresses with ``://``.

    Raises
    ------
    InputError, MachineError
        A file cannot be read, or a witness does not answer.
    """
    found: list[SignedHead] = []
    for place in places:
        if "://" in place:
            found += HttpWitness(place, authority).heads(trail, shard)
        else:
            found += read_heads(Path(place))
    return found

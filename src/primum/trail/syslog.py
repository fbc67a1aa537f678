"""Syslog over TLS: RFC 5424 messages, framed by their length as RFC 5425 asks.

References
----------
Gerhards, RFC 5424 (The Syslog Protocol), 2009. Miao, Ma & Salowey, RFC 5425 (TLS Transport Mapping for
Syslog), 2009.
"""

import os
import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from primum.errors import MachineError, clean_text

# Facility 13 (log audit), severity 5 (notice).
PRIORITY: Final = 13 * 8 + 5
_SECONDS: Final = 20.0
_GOODBYE: Final = 5.0
_RESETS: Final = 10
_MOMENT: Final = 0.03
_BOM: Final = b"\xef\xbb\xbf"


def syslog_message(
    content: bytes, *, message_id: str, at: datetime, host: str, process: int, priority: int = PRIORITY
) -> bytes:
    """Write one message of RFC 5424 whose content is UTF-8 text.

    Examples
    --------
    >>> when = datetime(2026, 11, 23, tzinfo=UTC)
    >>> syslog_message(b"x", message_id="audit", at=when, host="h", process=1).split(b" ")[0]
    b'<109>1'
    """
    stamp = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    head = f"<{priority}>1 {stamp} {host} primum {process} {message_id} - "
    return head.encode("ascii") + _BOM + content


def framed(message: bytes) -> bytes:
    """Put the length before a message (RFC 5425, 4.3)."""
    return str(len(message)).encode() + b" " + message


@dataclass(frozen=True)
class SyslogSender:
    """A syslog server that is spoken to over TLS 1.2 or newer, its name checked.

    Attributes
    ----------
    host : str
    port : int
        6514 by custom.
    authority : Path or None
        Certificates that sign the server's, PEM; by default the system's.
    certificate, key : Path or None
        Of this machine, where the server asks for one.
    """

    host: str
    port: int = 6514
    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def send(self, contents: Iterable[bytes], *, message_id: str, priority: int = PRIORITY) -> int:
        """Send messages and return how many.

        Syslog acknowledges nothing. What is known when this returns: the server's certificate was good, and
        it took every byte before it closed the connection; not that it wrote them down.

        Raises
        ------
        MachineError
            The server cannot be reached or trusted.
        """
        name = socket.gethostname().encode("ascii", "replace").decode() or "-"
        sent = 0
        try:
            with self._connected() as line:
                for content in contents:
                    message = syslog_message(
                        content,
                        message_id=message_id,
                        at=datetime.now(UTC),
                        host=name,
                        process=os.getpid(),
                        priority=priority,
                    )
                    line.sendall(framed(message))
                    sent += 1
                _end(line)
        except OSError as error:
            raise MachineError(
                "The syslog server {host}:{port} cannot be reached or trusted ({reason}): {sent} messages "
                "were sent.",
                host=clean_text(self.host),
                port=self.port,
                reason=getattr(error, "reason", None) or error.strerror or type(error).__name__,
                sent=sent,
            ) from error
        return sent

    @contextmanager
    def _connected(self) -> Iterator[ssl.SSLSocket]:
        context = ssl.create_default_context(cafile=self.authority)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key)
        with (
            socket.create_connection((self.host, self.port), timeout=_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=self.host) as line,
        ):
            yield line


def _end(line: ssl.SSLSocket) -> None:
    """Say that this was all, and wait until the server closes.

    With TLS 1.3 a server refuses our certificate after we believe to be connected: only its alert, read
    here, tells. That it closes without a word of TLS, or waits for us to, is usual and no loss. A connection
    that is reset is an error: something that was sent had not been read.
    """
    line.settimeout(_GOODBYE)
    try:
        line.unwrap()
    except TimeoutError:
        return
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
        _require_taken(line)
    except ssl.SSLError as error:
        if "ALERT" in str(error.reason):
            raise


def _require_taken(line: ssl.SSLSocket) -> None:
    """Wait a moment for the reset that comes when bytes reached a server that had closed before them."""
    for _ in range(_RESETS):
        time.sleep(_MOMENT)
        if number := line.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(number, os.strerror(number))

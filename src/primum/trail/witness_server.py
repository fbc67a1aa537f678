"""``primum trail witness``: an HTTP witness that countersigns only heads that follow from the last it saw.

It knows nothing of the trail but its heads, and belongs on a machine that those who write the trail cannot
change. Sizes, times and threads are bounded; nothing is read that was not asked for.
"""

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any, Final

from primum.errors import InputError, MachineError, clean_text
from primum.trail.heads import Head
from primum.trail.witness import LOOPBACK
from primum.trail.witness_book import Answer, WitnessBook, whole_length

LARGEST: Final = 1 << 20
_THREADS: Final = 32
# Of silence, and of one request altogether; what is read out may take longer as long as it is taken.
_SILENCE: Final = 10.0
_ALTOGETHER: Final = 30.0
_PIECE: Final = 1 << 16
_DIGITS: Final = 9
_HEADS: Final = re.compile(r"/v1/heads/([0-9a-f]{32})(?:/([0-9]{1,7})(\?last)?)?")
Refused = Callable[[Head], None]


class WitnessServer(ThreadingHTTPServer):
    """The server; ``serve_forever`` serves until ``shutdown``.

    Parameters
    ----------
    book : WitnessBook
    host : str
    port : int
        0 for any that is free.
    certificate, key : Path or None
        PEM; without them only this machine is listened to.
    refused : callable, optional
        Called with each head that was refused: someone should look.

    Raises
    ------
    InputError
        Without a certificate the host is not this machine, or the certificate cannot be used.
    MachineError
        The address is taken.
    """

    daemon_threads = True
    # Who comes while all threads are taken waits here.
    request_queue_size = 128

    def __init__(
        self,
        book: WitnessBook,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        certificate: Path | None = None,
        key: Path | None = None,
        refused: Refused | None = None,
    ) -> None:
        if certificate is None and host not in LOOPBACK:
            raise InputError(
                "A witness that other machines reach speaks TLS: give --certificate and --certificate-key, "
                "or --host 127.0.0.1."
            )
        self.book, self.refused = book, refused
        self._tls = None if certificate is None else _context(certificate, key)
        self._free = threading.BoundedSemaphore(_THREADS)
        self._lines: dict[socket.socket, float] = {}
        self._guard = threading.Lock()
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise MachineError(
                "The witness cannot listen at {host}:{port} ({reason}): give another --host or --port.",
                host=clean_text(host),
                port=port,
                reason=error.strerror or type(error).__name__,
            ) from error

    @property
    def url(self) -> str:
        """Where it listens."""
        host = f"[{self.server_name}]" if ":" in self.server_name else self.server_name
        return f"{'http' if self._tls is None else 'https'}://{host}:{self.server_port}"

    def server_bind(self) -> None:
        """Bind, without asking the network for our name."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Take a connection if a thread is free within a moment; the others may ask again."""
        return self._free.acquire(timeout=1.0)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start the thread of a connection."""
        try:
            super().process_request(request, client_address)
        except RuntimeError:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection; TLS begins here, so that who says nothing holds up nobody else."""
        request.settimeout(_SILENCE)
        self.extend(request)
        try:
            if self._tls is None:
                super().finish_request(request, client_address)
                return
            with self._tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False) as line:
                self.extend(line)
                try:
                    super().finish_request(line, client_address)
                finally:
                    self._forget(line)
        finally:
            self._forget(request)

    def extend(self, line: socket.socket) -> None:
        """Give a connection its time anew."""
        with self._guard:
            self._lines[line] = time.monotonic() + _ALTOGETHER

    def _forget(self, line: socket.socket) -> None:
        with self._guard:
            self._lines.pop(line, None)

    def service_actions(self) -> None:
        """End connections whose time is over: who sends a byte now and then would hold a thread for ever."""
        with self._guard:
            late = [line for line, until in self._lines.items() if until < time.monotonic()]
            for line in late:
                del self._lines[line]
                try:
                    # Not that of TLS, which its own thread may be in the middle of.
                    socket.socket.shutdown(line, socket.SHUT_RDWR)
                except OSError:
                    continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: what strangers send is no news, and no reason to fill a log."""


class _Handler(BaseHTTPRequestHandler):
    server: WitnessServer
    server_version, sys_version = "primum", ""
    error_content_type, error_message_format = "text/plain", "%(code)d\n"

    def do_POST(self) -> None:
        """Take a head."""
        length = self.headers.get("Content-Length", "")
        if self.path != "/v1/heads":
            self._say(Answer(404, b"{}"))
        elif not re.fullmatch(r"[0-9]+", length):
            self._say(Answer(411, b"{}"))
        elif len(length) > _DIGITS or int(length) > LARGEST:
            self._say(Answer(413, b"{}"))
            self._drain()
        else:
            body = self.rfile.read(int(length))
            if len(body) < int(length):
                return
            answer = self.server.book.offer(body)
            if answer.refused is not None and self.server.refused is not None:
                self.server.refused(answer.refused)
            self._say(answer)

    def _drain(self) -> None:
        """Read on for a little: who is still sending would miss the answer."""
        for _ in range(2 * LARGEST // _PIECE):
            if not self.rfile.read1(_PIECE):
                return

    def do_GET(self) -> None:
        """Give heads."""
        asked = _HEADS.fullmatch(self.path)
        if asked is None:
            self._say(Answer(404, b"{}"))
            return
        trail, shard, last = asked.groups()
        if shard is None:
            self._say(Answer(200, self.server.book.latest(trail)))
            return
        path = self.server.book.path(trail, shard)
        if last:
            self._say(Answer(200, self.server.book.last(trail, shard)))
        elif path is None:
            self._say(Answer(200, b""))
        else:
            self._stream(path)

    def _stream(self, path: Path) -> None:
        """Give a file up to its last whole line, in pieces."""
        with path.open("rb") as file:
            rest = whole_length(path)
            self._begin(200, rest)
            while rest and (piece := file.read(min(_PIECE, rest))):
                self.server.extend(self.connection)
                self.wfile.write(piece)
                rest -= len(piece)

    def _say(self, answer: Answer) -> None:
        body = answer.line + b"\n" if answer.line else b""
        self._begin(answer.status, len(body))
        self.wfile.write(body)

    def _begin(self, status: int, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Write no log of requests."""


def _context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ssl.SSLError) as error:
        raise InputError(
            "{file} cannot be used as the certificate of a server: give PEM files of the certificate and of "
            "its key, without a password.",
            file=clean_text(certificate),
        ) from error
    return context

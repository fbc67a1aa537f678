"""Model servers that misbehave, on real sockets of this machine."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKENS = 20
DESCRIPTION: dict[str, Any] = {
    "protocols": ["log_probs", "token_scores", "log_masses", "embed", "continue_from"],
    "vocabulary": [f"c{token}" for token in range(TOKENS)],
    "context": 16,
    "declared_identity": {"name": "peer", "digest": "ab" * 32},
    "token_profile": {},
    "width": 3,
}
Lines = list[dict[str, Any]]
Turn = Callable[[BaseHTTPRequestHandler, Lines], None]


@dataclass
class Peer:
    """What a server heard."""

    port: int
    scheme: str = "http"
    asked: list[Lines] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/"

    @property
    def ids(self) -> list[list[int]]:
        return [[line["id"] for line in lines] for lines in self.asked]


def reply(handler: BaseHTTPRequestHandler, text: bytes, *, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(text)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(text)


def written(lines: Sequence[object]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def log_prob(token: int) -> float:
    """A probability that depends on the token alone, with all the digits of a float64."""
    return -(token + 1) / 7


def honest_lines(lines: Lines) -> list[dict[str, Any]]:
    return [
        {"id": line["id"], "log_probs": [log_prob(token) for token in line["token_ids"][1:]]}
        for line in lines
    ]


def honest(handler: BaseHTTPRequestHandler, lines: Lines) -> None:
    reply(handler, written([*honest_lines(lines), {"end": len(lines)}]))


def dying(after: int, *, midline: bool = False) -> Turn:
    """Answer `after` histories, perhaps half of the next, then hang up."""

    def turn(handler: BaseHTTPRequestHandler, lines: Lines) -> None:
        whole = written(honest_lines(lines[:after]))
        rest = written(honest_lines(lines[after : after + 1]))[: 20 if midline else 0]
        handler.send_response(200)
        handler.send_header("Content-Length", str(1 << 16))
        handler.end_headers()
        handler.wfile.write(whole + rest)
        handler.close_connection = True

    return turn


@contextmanager
def peer(
    *turns: Turn,
    description: bytes | dict[str, Any] = DESCRIPTION,
    model: Turn | None = None,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Peer]:
    """Serve: request number i to a question is handled by turn i, later ones by the last."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version, disable_nagle_algorithm = "HTTP/1.1", True

        def setup(self) -> None:
            heard.connections += 1
            super().setup()

        def do_GET(self) -> None:
            heard.requests.append(self.path)
            heard.tokens.append(self.headers.get("Authorization", ""))
            if model is not None:
                return model(self, [])
            reply(self, description if isinstance(description, bytes) else written([description]))

        def do_POST(self) -> None:
            heard.requests.append(self.path)
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.asked.append([json.loads(line) for line in body.splitlines()])
            turn = turns[min(len(heard.asked), len(turns)) - 1]
            turn(self, heard.asked[-1])

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """The client hung up, as it should."""

    server = Quiet(("127.0.0.1", 0), Handler)
    heard = Peer(server.server_port, "https" if tls else "http")
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield heard
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

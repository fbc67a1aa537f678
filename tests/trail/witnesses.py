"""Trails that grow as told, and the witness as a process of its own."""

import http.client
import json
import os
import random
import secrets
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from primum.trail.heads import Head, SignedHead, head_line, public_hex, sign_head
from primum.trail.merkle import BLOCK, Tree, leaf_hash, root_of

_PROGRAM = (
    "import typer; from primum.cli.trail_witness import witness_command; app = typer.Typer(); "
    "app.command()(witness_command); app()"
)


@dataclass
class Grown:
    """A shard whose records are known; two of one name and key are a fork."""

    seed: int = 0
    name: str = field(default_factory=lambda: secrets.token_hex(16))
    shard: int = 0
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    size: int = 1000

    def __post_init__(self) -> None:
        draw = random.Random(self.seed)
        self.leaves = [leaf_hash(draw.randbytes(9)) for _ in range(self.size)]

    def fork(self, seed: int, *, size: int = 1000) -> "Grown":
        """Another history under the same name and key."""
        return Grown(seed, self.name, self.shard, self.key, size)

    def tree(self) -> Tree:
        whole = range(0, self.size - self.size % BLOCK, BLOCK)
        roots = [root_of(self.leaves[one : one + BLOCK]) for one in whole]
        return Tree(self.size, lambda start, stop: self.leaves[start:stop], roots)

    def head(self, size: int) -> SignedHead:
        root = self.tree().root(size).hex()
        at = f"2026-11-23T00:00:00.{size:06}Z"
        return sign_head(Head(self.name, self.shard, size, root, at, public_hex(self.key)), self.key)

    def prove(self, earlier: int, later: int) -> Sequence[bytes]:
        return self.tree().consistency(earlier, later)

    def offer(self, size: int, *, after: int = 0) -> dict[str, Any]:
        proof = [one.hex() for one in self.prove(after, size)] if after else []
        found: dict[str, Any] = json.loads(head_line(self.head(size)))
        return found | {"proof": proof}


@dataclass
class Running:
    """A witness: its process, where it listens, and its public key."""

    process: "subprocess.Popen[str]"
    url: str
    key: str
    state: Path

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def post(self, document: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        status, body = self.ask("POST", "/v1/heads", json.dumps(document).encode())
        answer: dict[str, Any] = json.loads(body)
        return status, answer

    def lines(self, grown: Grown) -> list[bytes]:
        return self.ask("GET", f"/v1/heads/{grown.name}/{grown.shard}")[1].splitlines()

    def file(self, grown: Grown, end: str = "heads") -> Path:
        return self.state / grown.name / f"{grown.shard}.{end}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)


def key_file(path: Path) -> Path:
    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


@contextmanager
def witness(folder: Path, *more: str, stop: signal.Signals = signal.SIGTERM) -> Iterator[Running]:
    """Run a witness over a folder; a second one there goes on from it."""
    folder.mkdir(exist_ok=True)
    key = folder / "witness.pem"
    if not key.exists():
        key_file(key)
    fixed = ("--state", str(folder / "state"), "--key", str(key), "--port", "0", "--lang", "en")
    command = [sys.executable, "-c", _PROGRAM, *fixed, *more]
    with (
        (folder / "said").open("a") as said,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True, env=os.environ) as process,
    ):
        try:
            assert process.stdout is not None
            words = process.stdout.readline().split()
            assert words, (folder / "said").read_text()
            yield Running(process, words[-1].rstrip("."), words[6], folder / "state")
        finally:
            # Of itself it ends well.
            process.send_signal(stop)
            assert process.wait(30) in (0, -signal.SIGKILL)


def tls_version(url: str, most: ssl.TLSVersion) -> str | None:
    """Connect and say which TLS was spoken."""
    address, context = urlsplit(url), ssl.create_default_context()
    context.check_hostname, context.verify_mode, context.maximum_version = False, ssl.CERT_NONE, most
    connection = http.client.HTTPSConnection(str(address.hostname), address.port, context=context, timeout=10)
    try:
        connection.connect()
        version: str | None = connection.sock.version()
        return version
    finally:
        connection.close()

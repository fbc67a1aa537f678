"""A coordinator and three hospitals as processes on loopback, and a line between them that is listened to."""

import asyncio
import datetime
import ipaddress
import os
import signal
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.processes import PROCESSES

from primum.cli.main import run
from primum.records.case_writer import write_cases
from primum.records.synthetic_cases import ImageSettings, synthetic_images
from primum.records.synthetic_cases.images import IMAGE_CLASSES

SITES = "north", "south", "west"
PUSH = b"POST /v1/fleet/push-messages"
_NOW = datetime.datetime.now(datetime.UTC)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def public_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form)


@dataclass(frozen=True)
class Authority:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def signed(name: str, by: Authority | None = None) -> Authority:
    """Make a certificate of 127.0.0.1, signed by an authority or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    places = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOW - datetime.timedelta(days=1))
        .not_valid_after(_NOW + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
        .add_extension(places, critical=False)
    )
    return Authority(key, made.sign(by.key if by else key, hashes.SHA256()))


def prepare(folder: Path, sites: tuple[str, ...] = SITES) -> None:
    """Write what everyone brings: certificates, keys, and the records of hospitals."""
    (folder / "keys").mkdir(parents=True)
    authority = signed("authority")
    server = signed("coordinator", authority)
    (folder / "ca.pem").write_bytes(authority.pem())
    (folder / "other-ca.pem").write_bytes(signed("somebody else").pem())
    (folder / "server.pem").write_bytes(server.pem())
    (folder / "server.key").write_bytes(private_pem(server.key))
    for number, name in enumerate((*sites, "stranger")):
        key = ec.generate_private_key(ec.SECP384R1())
        (folder / f"{name}.key").write_bytes(private_pem(key))
        if name in sites:
            (folder / "keys" / f"{name}.pem").write_bytes(public_pem(key))
            cases = synthetic_images(8, seed=number, settings=ImageSettings(size=16))
            write_cases(folder / name, {"train": cases}, IMAGE_CLASSES)
    like = synthetic_images(2, seed=9, settings=ImageSettings(size=16))
    write_cases(folder / "like", {"train": like}, IMAGE_CLASSES)


def _carry_out(arguments: list[str], log: str) -> None:
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    import torch

    torch.set_num_threads(1)
    sys.exit(run(["train", "federated", *arguments, "--lang", "en"]))


class Running:
    """A command in a process of its own, and what it has said so far."""

    def __init__(self, log: Path, *arguments: object) -> None:
        self.log = log
        given = [str(one) for one in arguments]
        self.process = PROCESSES.Process(target=_carry_out, args=(given, str(log)), daemon=True)
        self.process.start()

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def wait_for(self, words: str, *, seconds: float = 60) -> str:
        until = time.monotonic() + seconds
        while words not in self.said():
            assert self.process.is_alive() and time.monotonic() < until, self.said()
            time.sleep(0.02)
        return self.said()

    def kill(self) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join()

    def status(self, *, seconds: float = 60) -> int | None:
        self.process.join(seconds)
        return self.process.exitcode


class Line:
    """Hears every byte between one site and the coordinator, and can cut a site off as it answers.

    Parameters
    ----------
    folder : Path
    upstream : int
        Port of the coordinator.
    hold : int
        The answer, counted from 1, from which on none is passed on until :meth:`release`; 0: none.
    """

    def __init__(self, folder: Path, upstream: int, *, hold: int = 0) -> None:
        self._folder, self._upstream, self._hold, self._pushes = folder, upstream, hold, 0
        self.sent, self.received = list[bytearray](), list[bytearray]()
        self.held = threading.Event()
        # One thread for both directions: a TLS connection is not for two.
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._started(), self._loop).result(10)
        self.port = self._server.sockets[0].getsockname()[1]

    def release(self) -> None:
        """Pass on what comes from now on."""
        self._hold = 0

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._stopped(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _started(self) -> asyncio.Server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._folder / "server.pem", self._folder / "server.key")
        return await asyncio.start_server(self._pass_on, "127.0.0.1", 0, ssl=context)

    async def _stopped(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for one in others:
            one.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _pass_on(self, come: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        trusted = ssl.create_default_context(cafile=str(self._folder / "ca.pem"))
        go = None
        with suppress(OSError):
            answers, go = await asyncio.open_connection("127.0.0.1", self._upstream, ssl=trusted)
            self.sent.append(bytearray())
            self.received.append(bytearray())
            ways = (come, go, self.sent[-1]), (answers, back, self.received[-1])
            pumps = [asyncio.create_task(self._pump(*way)) for way in ways]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for one in pumps:
                one.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        for writer in filter(None, (go, back)):
            writer.close()

    async def _pump(self, come: asyncio.StreamReader, go: asyncio.StreamWriter, heard: bytearray) -> None:
        while chunk := await come.read(1 << 16):
            heard += chunk
            if PUSH in chunk:
                self._pushes += 1
                if 0 < self._hold <= self._pushes:
                    self.held.set()
                    await come.read(1)  # until the site is gone
                    return
            go.write(chunk)
            await go.drain()


def requests(stream: bytes) -> Iterator[tuple[bytes, dict[bytes, bytes], bytes]]:
    """Take a stream of HTTP/1.1 requests apart: path, headers and body of each that is whole."""
    while b"\r\n\r\n" in stream:
        head, _, rest = stream.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        headers = dict(line.lower().split(b": ", 1) for line in lines)
        length = int(headers[b"content-length"])
        yield first.split(b" ")[1], headers, rest[:length]
        stream = rest[length:]

"""Syslog over TLS against rsyslogd, and against servers that end a connection in their own ways."""

import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.trail.documents import TRAIL, document, entry
from tests.trail.servers import Certified, Syslog, certified, syslog_server

from primum.errors import MachineError
from primum.trail.atna import audit_message, send_messages
from primum.trail.entry import KINDS
from primum.trail.heads import Head, SignedHead, public_hex, sign_head
from primum.trail.syslog import SyslogSender
from primum.trail.witness import SyslogWitness, read_heads

BOM = b"\xef\xbb\xbf"
HEADER = rb"<(\d+)>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \S+ primum \d+ (\S+) - "


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    return certified(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def server(own: Certified, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Syslog]:
    with syslog_server(tmp_path_factory.mktemp("syslog"), own) as running:
        yield running


@pytest.fixture
def sent(server: Syslog) -> Callable[[int], list[bytes]]:
    before = len(server.lines(0)) if server.log.exists() else 0
    return lambda count: server.lines(before + count)[before:]


def head(size: int) -> SignedHead:
    key = Ed25519PrivateKey.generate()
    return sign_head(Head(TRAIL, 0, size, "ab" * 32, "2026-11-23T00:00:00.000000Z", public_hex(key)), key)


def test_what_arrives_is_what_was_sent(
    server: Syslog, own: Certified, sent: Callable[[int], list[bytes]]
) -> None:
    contents = [
        b"one",
        "où ça, 患者".encode(),
        b"a 12 b",
        b" spaced  out ",
        b"%d %s %%",
        b'{"x":"' + b"y" * 30_000 + b'"}',
    ]
    sender = SyslogSender("localhost", server.port, own.authority)
    assert sender.send(contents, message_id="audit") == len(contents)
    lines = sent(len(contents))
    for line, content in zip(lines, contents, strict=True):
        header = re.match(HEADER, line)
        assert header and header.groups() == (b"109", b"audit")
        assert line[header.end() :] == BOM + content


def test_records_arrive_as_audit_messages(
    server: Syslog, own: Certified, sent: Callable[[int], list[bytes]]
) -> None:
    documents = [document(entry(kind), number=number) for number, kind in enumerate(sorted(KINDS))]
    sender = SyslogSender("localhost", server.port, own.authority)
    assert send_messages(sender, documents, trail=TRAIL) == len(documents)
    for line, one in zip(sent(len(documents)), documents, strict=True):
        header = re.match(HEADER, line)
        assert header and header.groups() == (b"85", b"DICOM+RFC3881")
        assert line[header.end() :] == BOM + audit_message(one, trail=TRAIL)


def test_heads_in_a_log_are_read_back(
    server: Syslog, own: Certified, sent: Callable[[int], list[bytes]], tmp_path: Path
) -> None:
    heads = [head(size) for size in (1, 300, 301)]
    witness = SyslogWitness(SyslogSender("localhost", server.port, own.authority))
    for one in heads:
        witness.offer(one, lambda earlier, later: [])
    log = tmp_path / "log"
    log.write_bytes(b"\n".join([b"<13>1 another line", *sent(3)]))
    assert read_heads(log) == heads


def test_a_server_of_another_authority_is_refused(server: Syslog, tmp_path: Path) -> None:
    before = server.log.read_bytes() if server.log.exists() else b""
    sender = SyslogSender("localhost", server.port, certified(tmp_path, "other").authority)
    with pytest.raises(MachineError, match=r"CERTIFICATE_VERIFY_FAILED.*: 0 messages were sent") as refused:
        sender.send([b"secret"], message_id="audit")
    assert refused.value.exit_status == 4
    assert (server.log.read_bytes() if server.log.exists() else b"") == before


def test_a_server_of_another_name_is_refused(tmp_path: Path) -> None:
    other = certified(tmp_path, "other", host="elsewhere.example")
    with syslog_server(tmp_path, other) as server:
        sender = SyslogSender("localhost", server.port, other.authority)
        with pytest.raises(MachineError, match=r"CERTIFICATE_VERIFY_FAILED.*: 0 messages were sent"):
            sender.send([b"secret"], message_id="audit")


def test_a_server_that_asks_for_a_certificate(own: Certified, tmp_path: Path) -> None:
    (tmp_path / "syslog").mkdir()
    with syslog_server(tmp_path / "syslog", own, asks="x509/certvalid") as server:
        known = SyslogSender("localhost", server.port, own.authority, own.certificate, own.key)
        assert known.send([b"known"], message_id="audit") == 1
        assert server.lines(1)[0].endswith(b"known")
        with pytest.raises(MachineError, match="cannot be reached or trusted"):
            SyslogSender("localhost", server.port, own.authority).send([b"strange"] * 3, message_id="audit")
        assert b"strange" not in server.log.read_bytes()


def test_nobody_listens(own: Certified) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(MachineError, match="Connection refused"):
        SyslogSender("localhost", port, own.authority).send([b"x"], message_id="audit")


@contextmanager
def ending(
    own: Certified, end: Callable[[ssl.SSLSocket], None], *, deaf: bool = False
) -> Iterator[tuple[int, list[bytes]]]:
    """Serve one connection, read until the other side ends, and end as told."""
    context, heard = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), list[bytes]()
    context.load_cert_chain(own.certificate, own.key)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            plain, _ = listening.accept()
            with context.wrap_socket(plain, server_side=True, suppress_ragged_eofs=True) as line:
                while not deaf and (piece := line.recv(1 << 16)):
                    heard.append(piece)
                end(line)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1], heard
        thread.join(30)


def _reset(line: ssl.SSLSocket) -> None:
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_a_server_may_close_without_a_word(own: Certified) -> None:
    for end in (lambda line: None, lambda line: line.unwrap().close()):
        with ending(own, end) as (port, heard):
            assert SyslogSender("127.0.0.1", port, own.authority).send([b"one", b"two"], message_id="x") == 2
        assert b"".join(heard).endswith(b"two")


def test_a_reset_is_an_error(own: Certified) -> None:
    with (
        ending(own, _reset) as (port, _),
        pytest.raises(MachineError, match="2 messages were sent"),
    ):
        SyslogSender("127.0.0.1", port, own.authority).send([b"one", b"two"], message_id="x")


@pytest.mark.parametrize("turn", range(5))
def test_who_closes_before_reading_took_nothing(own: Certified, turn: int) -> None:
    """As servers do that refuse our certificate without an alert: with TLS 1.3 we send before we know."""
    with (
        ending(own, lambda line: None, deaf=True) as (port, _),
        pytest.raises(MachineError, match="cannot be reached or trusted"),
    ):
        SyslogSender("127.0.0.1", port, own.authority).send([b"one", b"two"], message_id="x")

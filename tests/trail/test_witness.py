"""The HTTP witness as a process: what it takes, what it refuses, and what it still knows after a crash."""

import json
import os
import random
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.trail.servers import certified, waited
from tests.trail.witnesses import Grown, Running, key_file, tls_version, witness

from primum.cli.trail_witness import witness_command
from primum.errors import InputError, MachineError
from primum.trail import witness_server
from primum.trail.countersigned import countersign, countersigned_line, read_countersigned
from primum.trail.entry import Entry
from primum.trail.heads import head_line, public_hex
from primum.trail.log import Trail
from primum.trail.witness import HttpWitness, read_heads
from primum.trail.witness_book import WitnessBook
from primum.trail.witness_server import LARGEST, WitnessServer


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with witness(tmp_path_factory.mktemp("witness"), stop=signal.SIGINT) as one:
        yield one


@pytest.mark.parametrize("seed", range(3))
def test_honest_growth(running: Running, tmp_path: Path, seed: int) -> None:
    grown, kept = Grown(seed), tmp_path / "kept"
    client = HttpWitness(running.url, key=running.key, kept=kept)
    sizes = [*sorted(random.Random(seed).sample(range(1, 1000), 8)), 1000]
    for size in sizes:
        client.offer(grown.head(size), grown.prove)
    heads = [grown.head(size) for size in sizes]
    assert client.heads(grown.name, 0) == read_heads(kept) == heads
    assert client.last(grown.name, 0) == heads[-1]
    assert read_heads(running.file(grown)) == heads
    assert all(read_countersigned(line).holds(running.key) for line in running.lines(grown))
    assert kept.read_bytes().splitlines() == running.lines(grown)


def test_a_trail_of_records(running: Running, tmp_path: Path) -> None:
    key, url = Ed25519PrivateKey.generate(), str(tmp_path / "trail.db")
    Trail.create(url, key=key)
    client = HttpWitness(running.url, key=running.key)
    signed = []
    with Trail(url, key=key, witnesses=[client], head_every=600) as trail:
        for count in (1, 300, 20):
            for one in [trail.submit(Entry("access", "dr.a")) for _ in range(count)]:
                one.result()
            signed.append(trail.sign_head())
        name = trail.name
    assert client.heads(name, 0) == signed


def test_a_fork_is_refused_and_kept_as_evidence(running: Running) -> None:
    grown = Grown(1)
    forked = grown.fork(2)
    assert running.post(grown.offer(500))[0] == 200
    for size in (500, 501, 1000):
        status, said = running.post(forked.offer(size, after=500))
        assert status == 409 and said["head"] == json.loads(head_line(grown.head(500)))["head"]
        with pytest.raises(InputError, match="refuses the head"):
            HttpWitness(running.url).offer(forked.head(size), forked.prove)
    assert running.post(grown.offer(700, after=500))[0] == 200
    assert forked.head(501) in read_heads(running.file(grown, "refused"))
    assert "501 records of the trail" in (running.state.parent / "said").read_text()


def test_a_rollback_is_refused(running: Running) -> None:
    grown = Grown(1)
    short = grown.fork(1, size=400)
    rewritten = grown.fork(2)
    client = HttpWitness(running.url)
    client.offer(grown.head(500), grown.prove)
    assert running.post(grown.offer(400))[0] == 409
    with pytest.raises(InputError, match=r"has seen 500 records .* holds 400: records are missing"):
        client.offer(short.head(400), short.prove)
    with pytest.raises(InputError, match="one of the two was rewritten"):
        client.offer(rewritten.head(400), rewritten.prove)
    # Another process was faster, and nothing is missing.
    client.offer(grown.head(400), grown.prove)
    assert client.last(grown.name, 0) == grown.head(500)


def test_an_altered_proof_is_refused(running: Running) -> None:
    grown = Grown(3)
    assert running.post(grown.offer(300))[0] == 200
    good = grown.offer(777, after=300)
    proof = good["proof"]
    flipped = [
        [*proof[:place], f"{int(one, 16) ^ 1 << place:064x}", *proof[place + 1 :]]
        for place, one in enumerate(proof)
    ]
    for other in (*flipped, proof[:-1], proof[1:], [*proof, proof[0]], proof[::-1], []):
        assert running.post(good | {"proof": other})[0] == 409
    assert running.post(grown.offer(778, after=300) | {"proof": proof})[0] == 409
    assert running.post(good)[0] == 200
    # The same size again needs no proof, and takes none.
    assert running.post(good)[0] == 200
    assert len(running.lines(grown)) == 2


def test_a_first_head_needs_no_proof_and_takes_none(running: Running) -> None:
    grown = Grown(3)
    assert running.post(grown.offer(300, after=200))[0] == 409
    assert running.lines(grown) == []
    assert running.post(grown.offer(300))[0] == 200


def test_another_key_is_refused(running: Running) -> None:
    grown = Grown(1)
    stranger = Grown(1, name=grown.name)
    forged = stranger.offer(600, after=500)
    forged["head"]["key"] = public_hex(grown.key)
    assert running.post(forged | {"proof": []})[0] == 409
    assert running.post(grown.offer(500))[0] == 200
    elsewhere = Grown(4, grown.name, 7)
    for document in (stranger.offer(600, after=500), forged, elsewhere.offer(10)):
        assert running.post(document)[0] == 409
    assert not running.file(elsewhere).exists()
    assert running.post(Grown(4, grown.name, 7, grown.key).offer(10))[0] == 200


def book_answers(book: WitnessBook, document: dict[str, Any]) -> int:
    return book.offer(json.dumps(document).encode()).status


def test_only_trails_that_were_named(tmp_path: Path) -> None:
    old, own = Grown(1), Ed25519PrivateKey.generate()
    new = Grown(1, name=old.name)
    book = WitnessBook(tmp_path, own)
    assert book_answers(book, old.offer(10)) == 200
    book.close()
    book = WitnessBook(tmp_path, own, trail_keys={old.name: public_hex(new.key)})
    # The trail has a new key, and is the same trail.
    assert book_answers(book, old.offer(20, after=10)) == 409
    assert book_answers(book, new.offer(20, after=10)) == 200
    assert book_answers(book, Grown(1, key=new.key).offer(5)) == 409
    book.close()


@pytest.mark.parametrize("given", ["a=b", "", "7a" * 16, "7a" * 16 + "=" + "ab" * 31, "../x=" + "ab" * 32])
def test_keys_of_trails_are_read_strictly(given: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not TRAIL=KEY"):
        witness_command(tmp_path / "state", key_file(tmp_path / "key.pem"), trail_key=[given])


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_half_a_line_is_written_over(tmp_path: Path, share: float) -> None:
    grown, own = Grown(5), Ed25519PrivateKey.generate()
    book = WitnessBook(tmp_path, own)
    assert [book_answers(book, grown.offer(10)), book_answers(book, grown.offer(300, after=10))] == [200] * 2
    book.close()
    file = tmp_path / grown.name / "0.heads"
    whole = file.read_bytes()
    line = countersigned_line(countersign(grown.head(400), own, at="2026-11-23T00:00:00.000000Z"))
    # A crash in the middle of a line: it was never answered.
    file.write_bytes(whole + line[: int(share * len(line))])
    book = WitnessBook(tmp_path, own)
    assert book.last(grown.name, "0") == whole.splitlines()[-1]
    again = book.offer(json.dumps(grown.offer(300, after=10)).encode())
    assert (again.status, again.line) == (200, whole.splitlines()[-1])
    assert book_answers(book, grown.fork(6).offer(500, after=300)) == 409
    assert book_answers(book, grown.offer(500, after=300)) == 200
    assert [one.head.size for one in read_heads(file)] == [10, 300, 500]
    assert file.read_bytes().startswith(whole)
    book.close()


def test_killed_at_any_moment_it_keeps_what_it_answered(tmp_path: Path) -> None:
    grown, answered = Grown(7), [0]
    with witness(tmp_path / "witness") as running:
        client = HttpWitness(running.url, key=running.key)
        timer = threading.Timer(random.uniform(0.1, 0.3), running.process.kill)
        try:
            while True:
                client.offer(grown.head(answered[-1] + 1), grown.prove)
                answered.append(answered[-1] + 1)
                if len(answered) == 2:
                    timer.start()
        except MachineError:
            timer.join()
    with witness(tmp_path / "witness") as running:
        kept = HttpWitness(running.url, key=running.key).heads(grown.name, 0)
        last = kept[-1].head.size
        assert running.post(grown.fork(6).offer(last + 1, after=last))[0] == 409
        assert running.post(grown.offer(last))[0] == 200
        assert running.post(grown.offer(last + 1, after=last))[0] == 200
    sizes = [one.head.size for one in kept]
    assert sizes == sorted(set(sizes)) and set(answered[1:]) <= set(sizes)
    # At most what was written and not yet answered.
    assert len(set(sizes) - set(answered)) <= 1


def test_twenty_at_once(running: Running) -> None:
    grown = Grown(8)
    with ThreadPoolExecutor(20) as pool:
        other = Grown(9)
        forks = [other.fork(seed, size=9) for seed in range(20)]
        first = list(pool.map(lambda one: running.post(one.offer(9)), forks))
        assert sorted(status for status, _ in first) == [200] + [409] * 19
        assert len({said["signature"] for _, said in first}) == 1
        client = HttpWitness(running.url)
        client.offer(grown.head(1), grown.prove)
        asked = [json.loads(head_line(grown.head(size))) | {"proof": []} for size in range(2, 22)]
        for one in asked:
            one["proof"] = [step.hex() for step in grown.prove(1, one["head"]["size"])]
        statuses = list(pool.map(lambda one: running.post(one)[0], asked))
    assert statuses.count(200) == 1
    assert client.heads(grown.name, 0) == [grown.head(1), grown.head(2 + statuses.index(200))]


def test_processes_of_one_trail_do_not_hinder_each_other(running: Running) -> None:
    grown = Grown(8)
    sizes = list(range(1, 13))
    random.Random(1).shuffle(sizes)
    client = HttpWitness(running.url, key=running.key)
    client.offer(grown.head(1), grown.prove)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda size: client.offer(grown.head(size), grown.prove), sizes))
    assert not running.file(grown, "refused").exists()
    assert client.last(grown.name, 0) == grown.head(12)


def test_tls(tmp_path: Path) -> None:
    own, other = certified(tmp_path), certified(tmp_path, "other")
    more = "--certificate", str(own.certificate), "--certificate-key", str(own.key), "--host", "localhost"
    grown = Grown(9)
    with witness(tmp_path / "witness", *more) as running:
        assert running.url.startswith("https://")
        port = urlsplit(running.url).port
        client = HttpWitness(f"https://localhost:{port}", own.authority, key=running.key)
        client.offer(grown.head(5), grown.prove)
        with pytest.raises(MachineError, match="CERTIFICATE_VERIFY_FAILED"):
            HttpWitness(f"https://localhost:{port}", other.authority).offer(grown.head(6), grown.prove)
        assert tls_version(running.url, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
        with pytest.raises(ssl.SSLError):
            tls_version(running.url, ssl.TLSVersion.TLSv1_2)
        with socket.create_connection(("localhost", int(port or 0))) as plain:
            plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
            with suppress(ConnectionError):
                assert not plain.recv(100).startswith(b"HTTP")
        # Who connects and says nothing holds up nobody.
        with socket.create_connection(("localhost", int(port or 0))):
            client.offer(grown.head(7), grown.prove)
        assert client.heads(grown.name, 0) == [grown.head(5), grown.head(7)]


def test_without_tls_only_this_machine(tmp_path: Path) -> None:
    book = WitnessBook(tmp_path / "state", Ed25519PrivateKey.generate())
    with pytest.raises(InputError, match="speaks TLS"):
        WitnessServer(book, host="0.0.0.0")
    nothing = tmp_path / "nothing.pem"
    nothing.touch()
    with pytest.raises(InputError, match="cannot be used as the certificate"):
        WitnessServer(book, certificate=nothing, key=nothing)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(MachineError, match="cannot listen"):
        WitnessServer(book, port=taken.getsockname()[1])
    book.close()


def test_one_folder_one_witness(tmp_path: Path) -> None:
    grown, key = Grown(1), Ed25519PrivateKey.generate()
    book = WitnessBook(tmp_path, key)
    with pytest.raises(InputError, match="Another witness keeps its heads"):
        WitnessBook(tmp_path, key)
    assert book_answers(book, grown.offer(3)) == 200
    book.close()
    with pytest.raises(InputError, match="was altered, or kept with another key"):
        WitnessBook(tmp_path, Ed25519PrivateKey.generate())
    file = tmp_path / grown.name / "0.heads"
    file.write_bytes(file.read_bytes().replace(b'"size":3', b'"size":2'))
    with pytest.raises(InputError, match="was altered"):
        WitnessBook(tmp_path, key)


def test_a_disk_that_refuses_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grown, book = Grown(1), WitnessBook(tmp_path, Ed25519PrivateKey.generate())
    assert book_answers(book, grown.offer(3)) == 200
    before = (tmp_path / grown.name / "0.heads").read_bytes()

    def full(number: int) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        assert book_answers(book, grown.offer(4, after=3)) == 503
    assert (tmp_path / grown.name / "0.heads").read_bytes() == before
    assert book_answers(book, grown.offer(4, after=3)) == 200
    book.close()


def test_who_drips_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(witness_server, "_ALTOGETHER", 0.2)
    monkeypatch.setattr(witness_server, "_THREADS", 2)
    server = WitnessServer(WitnessBook(tmp_path, Ed25519PrivateKey.generate()))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        lines = [socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(3)]
        for line in lines:
            line.settimeout(10)
            line.sendall(b"POST /v1/heads HTTP/1.0\r\nContent-Length: 9\r\n\r\n{")
        assert [line.recv(10) for line in lines] == [b""] * 3
        grown = Grown(1)
        HttpWitness(server.url).offer(grown.head(3), grown.prove)
        for line in lines:
            line.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        server.book.close()


def _requests(draw: random.Random, good: bytes, trail: str) -> Iterator[bytes]:
    """Anything, nearly a request, and nearly a head."""
    for _ in range(60):
        yield draw.randbytes(draw.randrange(300))
        yield b"POST /v1/heads HTTP/1.1\r\nContent-Length: 40\r\n\r\n" + draw.randbytes(40)
        spoilt = bytearray(good)
        for _ in range(draw.randrange(1, 4)):
            spoilt[draw.randrange(len(spoilt))] ^= draw.randrange(1, 256)
        yield b"POST /v1/heads HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(good) + bytes(spoilt)
    for path in (
        "/v1/heads/../../etc/passwd",
        f"/v1/heads/{trail}/..",
        f"/v1/heads/{trail}/%2e%2e",
        "/" * 70_000,
    ):
        yield f"GET {path} HTTP/1.0\r\n\r\n".encode()
    for length in (b"-1", b"x", b"9" * 40, b"1e3", b""):
        yield b"POST /v1/heads HTTP/1.0\r\nContent-Length: " + length + b"\r\n\r\n{}"
    for body in (
        b"[" * 9000,
        b'{"head":' * 2000,
        b"null",
        b"[]",
        b'{"head":null}',
        b"9" * 9000,
        b"\xff\xfe{}",
    ):
        yield b"POST /v1/heads HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def _odd(good: dict[str, Any]) -> Iterator[dict[str, Any]]:
    values: tuple[Any, ...] = (
        None,
        -1,
        2**60,
        10**30,
        1.5,
        True,
        "x",
        "",
        [],
        {},
        "\ud800",
        "../../x",
        "ab" * 5000,
    )
    for name in good["head"]:
        for value in values:
            yield good | {"head": good["head"] | {name: value}}
    proofs: tuple[Any, ...] = (None, 1, "x", ["zz"], [1], ["ab" * 32] * 200, [["ab"]], {})
    for value in proofs:
        yield good | {"proof": value}
    signatures: tuple[Any, ...] = (None, 1, "zz" * 64, "ab" * 64, "ab" * 63)
    for value in signatures:
        yield good | {"signature": value}


def test_nonsense_is_refused_and_survived(running: Running) -> None:
    grown = Grown(2)
    good = grown.offer(9)
    place: tuple[str, int] = "127.0.0.1", int(urlsplit(running.url).port or 0)
    seen = set()
    for request in _requests(random.Random(4), json.dumps(good).encode(), grown.name):
        with socket.create_connection(place, timeout=30) as line:
            line.sendall(request)
            line.shutdown(socket.SHUT_WR)
            with line.makefile("rb") as heard:
                answer = heard.read()
        if answer.startswith(b"HTTP/"):
            seen.add(int(answer.split()[1]))
    for odd in _odd(good):
        status, body = running.ask("POST", "/v1/heads", json.dumps(odd).encode())
        assert status in (400, 409), (odd, body)
    assert seen <= {400, 404, 405, 409, 411, 413, 414, 431, 501, 505}
    assert {400, 404, 411, 413, 414} <= seen
    assert running.ask("POST", "/v1/heads", b" " * (LARGEST + 1))[0] == 413
    assert not (running.state / grown.name).exists()
    assert {one.name for one in running.state.parent.iterdir()} == {"witness.pem", "said", "state"}
    assert all(one.suffix in ("", ".heads", ".refused") for one in running.state.rglob("*"))
    assert running.post(good)[0] == 200


def test_a_witness_that_lies_is_not_believed(tmp_path: Path) -> None:
    grown, key = Grown(3), Ed25519PrivateKey.generate()
    line = countersigned_line(countersign(grown.head(5), key, at="2026-11-23T00:00:00.000000Z"))
    answers = {"POST": b"", "GET": b""}
    lengths = dict[str, int]()

    class Liar(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = answers[self.command]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body) + lengths.get(self.command, 0)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Liar) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        client = HttpWitness(f"http://127.0.0.1:{server.server_address[1]}", key=public_hex(key))
        try:
            answers["POST"] = line
            client.offer(grown.head(5), grown.prove)
            for other in (head_line(grown.head(5)), b"", b"[]", b"{}"):
                answers["POST"] = other
                with pytest.raises(MachineError, match="no countersignature"):
                    client.offer(grown.head(5), grown.prove)
            answers["POST"] = line
            with pytest.raises(MachineError, match="another head"):
                client.offer(grown.head(6), grown.prove)
            with pytest.raises(InputError, match="did not sign what it answers"):
                HttpWitness(client.url, key="ab" * 32).offer(grown.head(5), grown.prove)
            answers["GET"] = line + b"\n"
            assert client.heads(grown.name, 0) == [grown.head(5)]
            with pytest.raises(InputError, match="did not sign what it answers"):
                HttpWitness(client.url, key="ab" * 32).heads(grown.name, 0)
            lengths["GET"] = len(line) + 1
            with pytest.raises(MachineError, match="cut answer"):
                client.heads(grown.name, 0)
            answers["GET"], lengths["GET"] = line[:80] + b"\n", 0
            with pytest.raises(MachineError, match="no heads"):
                client.heads(grown.name, 0)
        finally:
            server.shutdown()


def test_of_thousands_of_heads_a_part_is_read(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("primum.trail.witness._MOST_HEADS", 8)
    grown, client = Grown(1), HttpWitness(running.url)
    for size in range(1, 24):
        client.offer(grown.head(size), grown.prove)
    assert [one.head.size for one in client.heads(grown.name, 0)] == [1, 5, 9, 13, 17, 21, 23]
    waited(lambda: len(running.lines(grown)) == 23)

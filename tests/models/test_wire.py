"""The wire door against servers that misbehave, all on real sockets."""

import datetime
import ipaddress
import json
import pickle
import socket
import ssl
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests import tiny
from tests.models.peers import (
    DESCRIPTION,
    TOKENS,
    Lines,
    Peer,
    dying,
    honest,
    honest_lines,
    log_prob,
    peer,
    reply,
    written,
)

from primum.errors import InputError, MachineError, ModelError, PrimumError, VocabularyError
from primum.models import wire_connection
from primum.models.doors import open_model
from primum.models.protocols import DistributionScorer, Embedder, Generator, MassScorer, Sampling, Scorer
from primum.models.wire_address import server_at
from primum.records.profile_guess import guess_profile
from primum.records.tokens import TokenBatch

BATCH = tiny.random_batch([3, 0, 5, 1, 40, 2], vocabulary=TOKENS, first_subject=90071992547)
MANY = tiny.random_batch([4] * 150, vocabulary=TOKENS)
GROUPS = np.arange(TOKENS)[None] == np.array([[3], [5]])
PROTOCOLS: dict[str, type] = {
    "log_probs": Scorer,
    "token_scores": DistributionScorer,
    "log_masses": MassScorer,
    "embed": Embedder,
    "continue_from": Generator,
}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_connection, "_PAUSES", (0.0, 0.0, 0.0))


def scores(url: str, tokens: TokenBatch = BATCH) -> list[list[float]]:
    return [row.tolist() for row in tiny.scorer_of(open_model(url)).log_probs(tokens)]


def expected(tokens: TokenBatch) -> list[list[float]]:
    return [[log_prob(int(token)) for token in tokens.tokens_of(row)[1:]] for row in range(len(tokens))]


def ask(url: str, question: str, tokens: TokenBatch) -> Any:
    model: Any = open_model(url).scorer
    if question == "continue_from":
        how = {"samples": 2, "max_tokens": 3, "sampling": Sampling(stop=(7,)), "seed": 1}
        return [row.token_ids.tolist() for row in model.continue_from(tokens, **how)]
    if question == "log_masses":
        return model.log_masses(tokens, GROUPS)[0].tolist()
    return getattr(model, question)(tokens)[0]


def test_what_is_sent_and_what_comes_back() -> None:
    with peer(honest) as heard:
        assert scores(heard.url) == expected(BATCH)
    assert heard.ids == [[0, 2, 3, 4, 5]]
    assert heard.asked[0][1] == {"id": 2, "token_ids": BATCH.tokens_of(2).tolist()}
    assert "90071992547" not in json.dumps(heard.asked)
    assert heard.requests == ["/v1/model", "/v1/log_probs"]


def test_nobody_is_asked_nothing() -> None:
    with peer(honest) as heard:
        assert scores(heard.url, tiny.random_batch([], vocabulary=TOKENS)) == []
        assert scores(heard.url, tiny.random_batch([0, 0], vocabulary=TOKENS)) == [[], []]
    assert heard.asked == []


def test_64_lines_a_request_over_one_connection() -> None:
    with peer(honest) as heard:
        assert scores(heard.url, MANY) == expected(MANY)
    assert [len(ids) for ids in heard.ids] == [64, 64, 22]
    assert [place for ids in heard.ids for place in ids] == list(range(150))
    assert heard.connections == 1


def test_every_digit_travels() -> None:
    values = [-5e-324, -1.7976931348623157e308, -0.1 - 0.2, 0.0, -0.0, -1, -2.2250738585072014e-308]

    def extreme(handler: BaseHTTPRequestHandler, lines: Lines) -> None:
        reply(handler, written([{"id": 0, "log_probs": values}, {"end": 1}]))

    with peer(extreme) as heard:
        assert repr(scores(heard.url, tiny.random_batch([8], vocabulary=TOKENS))) == repr(
            [[float(value) for value in values]]
        )


@pytest.mark.parametrize("left_out", ["token_scores", "log_masses", "embed", "continue_from", "nothing"])
def test_the_model_can_do_what_the_server_offers(left_out: str) -> None:
    offered = [name for name in PROTOCOLS if name != left_out]
    with peer(honest, description={**DESCRIPTION, "protocols": [*offered, "unheard_of"]}) as heard:
        opened = open_model(heard.url)
    assert {name for name, kind in PROTOCOLS.items() if isinstance(opened.scorer, kind)} == set(offered)
    assert opened.ref.identity == "declared"
    assert (opened.ref.name, opened.ref.digest, opened.context) == ("peer", "ab" * 32, 16)


def test_a_copy_in_another_process_asks_by_itself() -> None:
    with peer(honest) as heard:
        copy = pickle.loads(pickle.dumps(open_model(heard.url)))
        assert [row.tolist() for row in copy.scorer.log_probs(BATCH)] == expected(BATCH)
        assert heard.connections == 2


# What a server may get wrong, one line or one number at a time.
DESCRIBED_WRONG: dict[str, tuple[object, type[PrimumError]]] = {
    "no list": ({"protocols": "log_probs"}, ModelError),
    "not texts": ({"protocols": ["log_probs", 3]}, ModelError),
    "no scores": ({"protocols": ["embed"]}, ModelError),
    "no words": ({"vocabulary": {"a": 0}}, ModelError),
    "no vocabulary": ({"vocabulary": []}, VocabularyError),
    "a word twice": ({"vocabulary": ["a", "a"]}, VocabularyError),
    "context": ({"context": 1}, ModelError),
    "context true": ({"context": True}, ModelError),
    "context half": ({"context": 16.5}, ModelError),
    "width": ({"width": 0}, ModelError),
    "parameters": ({"parameters": -1}, ModelError),
    "identity": ({"declared_identity": "peer"}, ModelError),
    "digest": ({"declared_identity": {"name": "peer", "digest": "AB" * 32}}, ModelError),
    "name": ({"declared_identity": {"name": "p" * 201, "digest": "ab" * 32}}, ModelError),
    "profile list": ({"token_profile": []}, VocabularyError),
    "profile key": ({"token_profile": {"begins": "c1"}}, VocabularyError),
    "profile token": ({"token_profile": {"begin": "BEGIN"}}, VocabularyError),
}


@pytest.mark.parametrize("case", DESCRIBED_WRONG)
def test_a_description_that_cannot_be(case: str) -> None:
    change, kind = DESCRIBED_WRONG[case]
    assert isinstance(change, dict)
    with peer(description={**DESCRIPTION, **change}) as heard, pytest.raises(kind) as raised:
        open_model(heard.url)
    assert type(raised.value) is kind


NOT_A_NUMBER = json.dumps({**DESCRIPTION, "more": float("nan")}).encode()


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", NOT_A_NUMBER, b"[" * 100_000])
def test_a_description_that_is_no_json(text: bytes) -> None:
    with peer(description=text) as heard, pytest.raises(ModelError, match=r"does not answer model"):
        open_model(heard.url)


def test_a_profile_left_out_is_guessed_and_said() -> None:
    without = {name: value for name, value in DESCRIPTION.items() if name != "token_profile"}
    with peer(description={**without, "vocabulary": ["[PAD]", "[CLS]", "c2"]}) as heard:
        opened = open_model(heard.url)
    profile, guessed = guess_profile(opened.tokenizer.vocabulary)
    assert (opened.tokenizer.profile, opened.guessed) == (profile, guessed)
    assert profile.begin == "[CLS]" and guessed
    with peer() as heard:
        assert open_model(heard.url).guessed == ()


ONE = tiny.random_batch([3], vocabulary=TOKENS)
GARBAGE = {
    "not JSON": b"garbage\n",
    "not text": b"\xff\xfe\n",
    "a list": b"[]\n",
    "too deep": b'{"id": 0, "log_probs": ' + b"[" * 400 + b"\n",
    "NaN": b'{"id": 0, "log_probs": [NaN, -1]}\n{"end": 1}\n',
    "Infinity": b'{"id": 0, "log_probs": [-Infinity, -1]}\n{"end": 1}\n',
    "overflow": b'{"id": 0, "log_probs": [-1e999, -1]}\n{"end": 1}\n',
    "a huge whole number": b'{"id": 0, "log_probs": [-1' + b"0" * 400 + b", -1]}\n",
    "positive": b'{"id": 0, "log_probs": [1e-9, -1]}\n{"end": 1}\n',
    "text": b'{"id": 0, "log_probs": ["-1", -1]}\n{"end": 1}\n',
    "truth": b'{"id": 0, "log_probs": [false, -1]}\n{"end": 1}\n',
    "null": b'{"id": 0, "log_probs": [null, -1]}\n{"end": 1}\n',
    "nested": b'{"id": 0, "log_probs": [[-1], [-1]]}\n{"end": 1}\n',
    "no list": b'{"id": 0, "log_probs": -1}\n{"end": 1}\n',
    "too few": b'{"id": 0, "log_probs": [-1]}\n{"end": 1}\n',
    "too many": b'{"id": 0, "log_probs": [-1, -1, -1]}\n{"end": 1}\n',
    "another field": b'{"id": 0, "log_prob": [-1, -1]}\n{"end": 1}\n',
    "one field more": b'{"id": 0, "log_probs": [-1, -1], "x": 1}\n{"end": 1}\n',
    "no field": b'{"id": 0}\n{"end": 1}\n',
    "another id": b'{"id": 1, "log_probs": [-1, -1]}\n{"end": 1}\n',
    "id false": b'{"id": false, "log_probs": [-1, -1]}\n{"end": 1}\n',
    "id 0.0": b'{"id": 0.0, "log_probs": [-1, -1]}\n{"end": 1}\n',
    "no id": b'{"log_probs": [-1, -1]}\n{"end": 1}\n',
    "id twice": b'{"id": 0, "log_probs": [-1, -1]}\n{"id": 0, "log_probs": [-1, -1]}\n{"end": 2}\n',
    "ended too early": b'{"end": 0}\n',
    "wrong count": b'{"id": 0, "log_probs": [-1, -1]}\n{"end": 2}\n',
    "more after the end": b'{"id": 0, "log_probs": [-1, -1]}\n{"end": 1}\n{"end": 1}\n',
    "an empty line": b'\n{"id": 0, "log_probs": [-1, -1]}\n{"end": 1}\n',
}


@pytest.mark.parametrize("case", GARBAGE)
def test_garbage_is_refused_at_once(case: str) -> None:
    def garbage(handler: BaseHTTPRequestHandler, lines: Lines) -> None:
        reply(handler, GARBAGE[case])

    with peer(garbage) as heard, pytest.raises(ModelError, match=r"log_probs as the wire asks"):
        scores(heard.url, ONE)
    assert len(heard.asked) == 1


OTHER_GARBAGE: list[tuple[str, dict[str, object]]] = [
    ("token_scores", {"log_probs": [-1, -1], "means": [-1, -1]}),
    ("token_scores", {"log_probs": [-1, -1], "means": [-1, 1], "deviations": [1, 1]}),
    ("token_scores", {"log_probs": [-1, -1], "means": [-1, -1], "deviations": [1, -1]}),
    ("token_scores", {"log_probs": [-1, -1], "means": [-1, -1], "deviations": [1]}),
    ("log_masses", {"log_masses": [[-1, -1], [-1, -1]]}),
    ("log_masses", {"log_masses": [[-1, -1], [-1, -1], [-1]]}),
    ("log_masses", {"log_masses": [[-1, -1], [-1, -1], -1]}),
    ("log_masses", {"log_masses": [[-1, -1], [-1, -1], [-1, 1e-3]]}),
    ("log_masses", {"log_masses": None}),
    ("embed", {"embedding": [1, 2]}),
    ("embed", {"embedding": [1, 2, None]}),
    ("embed", {"embedding": None}),
    ("continue_from", {"samples": [[1, 2]]}),
    ("continue_from", {"samples": [[1, 2], [1, 2, 3, 4]]}),
    ("continue_from", {"samples": [[1, 2], [TOKENS]]}),
    ("continue_from", {"samples": [[1, 2], [-1]]}),
    ("continue_from", {"samples": [[1, 2], [True]]}),
    ("continue_from", {"samples": [[1, 2], [1.0]]}),
    ("continue_from", {"samples": [[1, 2], [7]]}),
    ("continue_from", {"samples": [[1, 2], 1]}),
    ("continue_from", {"samples": 2}),
]
GOOD: dict[str, dict[str, object]] = {
    "token_scores": {"log_probs": [-1, -1], "means": [-1, -2], "deviations": [1, 0]},
    "log_masses": {"log_masses": [[-1, None], [1e-9, -1], [-1, -1]]},
    "embed": {"embedding": [1, 2, -3e300]},
    "continue_from": {"samples": [[1, 2, 19], []]},
}


def says(fields: dict[str, object]) -> Any:
    def turn(handler: BaseHTTPRequestHandler, lines: Lines) -> None:
        reply(handler, written([{"id": lines[0]["id"], **fields}]))
        handler.close_connection = True

    return turn


@pytest.mark.parametrize(("question", "fields"), OTHER_GARBAGE)
def test_garbage_to_other_questions(question: str, fields: dict[str, object]) -> None:
    with peer(says(fields)) as heard, pytest.raises(ModelError, match=f"{question} as the wire asks"):
        ask(heard.url, question, ONE)
    assert len(heard.asked) == 1


@pytest.mark.parametrize("question", GOOD)
def test_good_answers_to_other_questions(question: str) -> None:
    with peer(says(GOOD[question])) as heard:
        answer = ask(heard.url, question, ONE)
    (fields,) = [GOOD[question]] if question == "token_scores" else GOOD[question].values()
    if question == "token_scores":
        answer = {name: row.tolist() for name, row in answer._asdict().items()}
    elif question == "log_masses":
        answer = [[None if mass == -np.inf else mass for mass in row] for row in answer]
    assert (answer.tolist() if question == "embed" else answer) == fields


def test_an_error_of_the_server_is_one_sentence_without_its_text() -> None:
    broken = says({"error": "patient 4711 broke me"})
    with peer(broken) as heard, pytest.raises(ModelError, match=r"could not answer log_probs") as raised:
        scores(heard.url)
    assert "4711" not in str(raised.value)


@pytest.mark.parametrize("midline", [False, True])
@pytest.mark.parametrize("after", [0, 1, 30, 63])
def test_a_reply_cut_is_asked_again_from_the_first_missing(after: int, midline: bool) -> None:
    with peer(honest, dying(after, midline=midline), honest) as heard:
        assert scores(heard.url, MANY) == expected(MANY)
    assert [len(ids) for ids in heard.ids] == [64, 64, 64 - after, 22]
    assert heard.ids[2] == list(range(64 + after, 128))


def test_cut_without_an_end_or_after_the_last_answer() -> None:
    def endless(handler: BaseHTTPRequestHandler, lines: Lines) -> None:
        reply(handler, written(honest_lines(lines)))

    with peer(endless) as heard:
        assert scores(heard.url) == expected(BATCH)
    assert len(heard.asked) == 1


def test_each_try_that_brings_something_counts_anew() -> None:
    with peer(dying(1)) as heard:
        assert scores(heard.url, MANY.select(np.arange(10))) == expected(MANY.select(np.arange(10)))
    assert [ids[0] for ids in heard.ids] == list(range(10))


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_only_fails_is_given_up(status: int) -> None:
    def fails(handler: BaseHTTPRequestHandler, lines: Lines) -> None:
        reply(handler, b"patient 4711", status=status)

    with peer(fails) as heard, pytest.raises(MachineError, match=rf"HTTP {status}.*4 times") as raised:
        scores(heard.url)
    assert raised.value.exit_status == 4
    assert "see that it runs" in str(raised.value) and "4711" not in str(raised.value)
    assert len(heard.asked) == 4


def test_a_server_that_comes_back_is_used() -> None:
    def fails(handler: BaseHTTPRequestHandler, lines: Lines) -> None:
        reply(handler, b"", status=503)

    with peer(fails, dying(0), fails, honest) as heard:
        assert scores(heard.url) == expected(BATCH)
    assert len(heard.asked) == 4


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(MachineError, match="does not answer"):
        open_model(f"http://127.0.0.1:{port}")


def test_no_http_at_all() -> None:
    def shout(handler: BaseHTTPRequestHandler, lines: Lines) -> None:
        handler.wfile.write(b"220 mail.example ESMTP\r\n")
        handler.close_connection = True

    with peer(model=shout) as heard, pytest.raises(MachineError, match="BadStatusLine"):
        open_model(heard.url)


def test_silence_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_connection, "_SILENCE", 0.1)

    def silent(handler: BaseHTTPRequestHandler, lines: Lines) -> None:
        time.sleep(0.5)

    started = time.monotonic()
    with peer(silent) as heard, pytest.raises(MachineError, match="TimeoutError"):
        scores(heard.url)
    assert len(heard.asked) == 4
    assert time.monotonic() - started < 5


def test_a_dripping_reply_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_connection, "_LONGEST", 0.1)

    def drip(handler: BaseHTTPRequestHandler, lines: Lines) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "500")
        handler.end_headers()
        for _ in range(500):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.01)

    with peer(drip) as heard, pytest.raises(MachineError, match="slow"):
        scores(heard.url)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(status: int) -> None:
    with peer(honest) as other:

        def sends_on(handler: BaseHTTPRequestHandler, lines: Lines) -> None:
            reply(handler, b"", status=status, Location=other.url + "v1/model")

        with peer(model=sends_on) as heard, pytest.raises(ModelError, match="another address"):
            open_model(heard.url)
        with peer(sends_on) as heard, pytest.raises(ModelError, match="another address"):
            scores(heard.url)
    assert other.connections == 0


@pytest.mark.parametrize("how", ["declared", "chunked", "until closed"])
@pytest.mark.parametrize("line", [b"-1, " * 16384, b'{"end": 0}\n' * 6000])
def test_ten_gigabytes_are_cut(how: str, line: bytes) -> None:
    sent = [0]

    def flood(handler: BaseHTTPRequestHandler, lines: Lines) -> None:
        handler.send_response(200)
        if how == "declared":
            handler.send_header("Content-Length", str(10 << 30))
        elif how == "chunked":
            handler.send_header("Transfer-Encoding", "chunked")
        handler.close_connection = True
        handler.end_headers()
        handler.wfile.write(b"%x\r\n" % len(line) if how == "chunked" else b"")
        try:
            while sent[0] < 10 << 30:
                handler.wfile.write(line)
                sent[0] += len(line)
                if how == "chunked":
                    handler.wfile.write(b"\r\n%x\r\n" % len(line))
        except OSError:
            pass

    with peer(flood) as heard, pytest.raises(ModelError):
        scores(heard.url)
    assert sent[0] < 8 << 20
    with peer(model=flood) as heard, pytest.raises(ModelError, match=r"bytes|JSON"):
        wire_connection._MOST_MODEL, most = 1 << 20, wire_connection._MOST_MODEL
        try:
            open_model(heard.url)
        finally:
            wire_connection._MOST_MODEL = most
    assert sent[0] < 16 << 20


def test_the_cap_follows_from_the_question() -> None:
    """The longest numbers there are, for the most histories, pass; twice as many bytes do not."""
    tokens = tiny.random_batch([50] * 64, vocabulary=TOKENS)

    def wordy(handler: BaseHTTPRequestHandler, lines: Lines) -> None:
        text = [{"id": line["id"], "log_probs": [-2.2250738585072014e-308] * 49} for line in lines]
        reply(handler, written([*text, {"end": len(lines)}]))

    def padded(handler: BaseHTTPRequestHandler, lines: Lines) -> None:
        reply(handler, written([*honest_lines(lines), {"end": len(lines)}]).replace(b", ", b"," + b" " * 40))

    with peer(wordy) as heard:
        assert scores(heard.url, tokens)[63] == [-2.2250738585072014e-308] * 49
    with peer(padded) as heard, pytest.raises(ModelError, match="more than the 135680 bytes"):
        scores(heard.url, tokens)


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_refused(status: int, tmp_path: Path) -> None:
    def refuses(handler: BaseHTTPRequestHandler, lines: Lines) -> None:
        reply(handler, b"", status=status)

    (tmp_path / "token").write_text("s3cret-token\n", encoding="utf-8")
    with peer(model=refuses) as heard, pytest.raises(InputError, match="--token-file") as raised:
        open_model(heard.url, token_file=tmp_path / "token")
    assert heard.tokens == ["Bearer s3cret-token"]
    assert "s3cret" not in str(raised.value)


def test_the_token_is_sent_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret-token\n", encoding="utf-8")
    with peer(honest) as heard:
        opened = open_model(heard.url, token_file=tmp_path / "token")
        assert "s3cret" not in repr(opened) + repr(server_at(heard.url, token_file=tmp_path / "token"))
        open_model(heard.url)
    assert heard.tokens == ["Bearer s3cret-token", ""]


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"a\nb", b"\xff", b"x" * 5000, None])
def test_a_file_without_token(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    with pytest.raises(InputError, match="token"):
        open_model("http://127.0.0.1:1/", token_file=tmp_path / "token")


def test_a_token_is_for_servers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        open_model(tmp_path, token_file=tmp_path / "token")


@pytest.mark.parametrize("status", [400, 404, 405, 413])
def test_other_refusals(status: int) -> None:
    def refuses(handler: BaseHTTPRequestHandler, lines: Lines) -> None:
        reply(handler, b"", status=status)

    with peer(refuses) as heard, pytest.raises(ModelError, match=rf"log_probs \(status {status}\)"):
        scores(heard.url)
    assert len(heard.asked) == 1


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://model.example/", "not encrypted"),
        ("http://192.0.2.1:8400/", "not encrypted"),
        ("http://127.0.0.1.example/", "not encrypted"),
        ("http://localhost.example/", "not encrypted"),
        ("http://[2001:db8::1]/", "not encrypted"),
        ("https://user:s3cret@model.example/", "cannot be used"),
        ("https://@model.example/", "cannot be used"),
        ("https://", "cannot be used"),
        ("https://model.example:99999/", "cannot be used"),
        ("https://model.example/?a=b", "cannot be used"),
        ("https://model.example/#a", "cannot be used"),
        ("https://model.example/a b", "cannot be used"),
        ("https://modèle.example/", "cannot be used"),
        ("https://[::1/", "cannot be used"),
        ("https://model.example/a\r\nX: y", "cannot be used"),
    ],
)
def test_addresses_refused_before_any_connection(
    url: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("connected"))
    with pytest.raises(InputError, match=words) as raised:
        open_model(url)
    assert "s3cret" not in str(raised.value)


def test_proxies_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    with peer(honest) as heard, peer(honest) as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv(name.upper(), proxy.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        assert scores(heard.url) == expected(BATCH)
    assert proxy.connections == 0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for this machine that nobody but itself signed, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    today = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return file


@pytest.fixture
def encrypted(certificate: Path) -> Iterator[Peer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with peer(honest, tls=context) as heard:
        yield heard


def test_a_certificate_that_nobody_signed_is_refused(encrypted: Peer, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret-token", encoding="utf-8")
    with pytest.raises(ModelError, match=r"not trusted \(self.signed certificate\)"):
        open_model(encrypted.url, token_file=tmp_path / "token")
    assert encrypted.requests == []


def test_a_certificate_that_the_machine_trusts(
    encrypted: Peer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert scores(encrypted.url) == expected(BATCH)
    # The certificate says 127.0.0.1 and no other name.
    with pytest.raises(ModelError, match="not trusted"):
        open_model(f"https://localhost:{encrypted.port}/")


def test_https_to_a_server_that_speaks_http() -> None:
    with peer(honest) as heard, pytest.raises(MachineError, match="does not answer"):
        open_model(heard.url.replace("http:", "https:"))
    assert heard.requests == []

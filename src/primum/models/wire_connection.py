"""One connection to a model server: what is cut is asked for again, what comes is capped and checked."""

import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, TypeVar

import numpy as np

from primum.errors import InputError, MachineError, ModelError
from primum.models.wire_address import Server
from primum.records.tokens import TokenBatch

LINES_A_REQUEST = 64
# Seconds: of silence, of one whole reply (a server may drip), and between tries that bring nothing new.
_SILENCE = 300.0
_LONGEST = 3600.0
_PAUSES = (0.5, 2.0, 8.0)
# Bytes. A float64 takes 24 at most, its comma and space two more; a line has a name and an id besides.
_A_NUMBER = 32
_A_LINE = 512
_MOST_MODEL = 1 << 26
_A_PART = 1 << 16

_Answer = TypeVar("_Answer")


class _Cut(Exception):
    """A reply did not come, or ended before its end."""


class WireConnection:
    """A connection that stays open from one request to the next; a copy in another process opens its own."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._connection: HTTPConnection | None = None

    def __reduce__(self) -> tuple[type["WireConnection"], tuple[Server]]:
        return WireConnection, (self.server,)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close; the next question opens again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def describe(self) -> Any:
        """Return the JSON of ``GET /v1/model``."""
        failures = 0
        while True:
            try:
                with self._reply("GET", "model") as response:
                    content = b"".join(self._parts(response, "model", _MOST_MODEL))
                return self._parsed("model", content)
            except _Cut as cut:
                failures += 1
                self._pause(failures, cut)

    def ask(
        self,
        question: str,
        tokens: TokenBatch,
        parameters: Mapping[str, Any],
        *,
        numbers: Callable[[int], int],
        parse: Callable[[int, Mapping[str, Any]], _Answer],
    ) -> dict[int, _Answer]:
        """Put a question about each history that has tokens.

        Parameters
        ----------
        question : str
        tokens : TokenBatch
            Only token ids are sent; the id of a history is its place in the batch.
        parameters : mapping
            The rest of the question; stands in the first line of each request.
        numbers : callable
            From the length of a history to the most numbers that its answer may hold.
        parse : callable
            From a place and the fields of its line to its answer; raises ModelError.

        Returns
        -------
        dict of int to answer
            By place, histories without tokens left out.

        Raises
        ------
        ModelError
            Answers that are not what the wire asks for.
        MachineError
            The server fails again and again.
        """
        places = np.flatnonzero(tokens.lengths).tolist()
        answers: dict[int, _Answer] = {}
        for first in range(0, len(places), LINES_A_REQUEST):
            failures = 0
            while missing := [
                place for place in places[first : first + LINES_A_REQUEST] if place not in answers
            ]:
                try:
                    most = sum(_A_LINE + _A_NUMBER * numbers(int(tokens.lengths[place])) for place in missing)
                    with self._reply("POST", question, _body(tokens, missing, parameters)) as response:
                        for place, line in self._lines(question, response, missing, most + _A_LINE):
                            answers[place] = parse(place, line)
                except _Cut as cut:
                    failures = 1 if missing[0] in answers else failures + 1
                    self._pause(failures, cut)
        return answers

    def refuse(self, question: str, field: str) -> ModelError:
        """Say which field of an answer is not what the wire asks for; never what stood there."""
        return ModelError(
            "The model server {server} does not answer {question} as the wire asks ({field}): correct the "
            "server, docs/wire.md says how.",
            server=str(self.server),
            question=question,
            field=field,
        )

    @contextmanager
    def _reply(self, method: str, path: str, body: bytes | None = None) -> Iterator[HTTPResponse]:
        """Send a request and give its reply, whose status is good; the block reads all of it."""
        whole = False
        try:
            if self._connection is None:
                self._connection = self._opened()
            headers = {"Authorization": f"Bearer {self.server.token}"} if self.server.token else {}
            if body is not None:
                headers["Content-Type"] = "application/x-ndjson"
            self._connection.request(method, f"{self.server.base}/v1/{path}", body, headers)
            with self._connection.getresponse() as response:
                self._check_status(response.status, path)
                yield response
            whole = True
        except ssl.SSLCertVerificationError as error:
            raise ModelError(
                "The certificate of {server} is not trusted ({reason}): have it signed by an authority that "
                "this machine trusts, or name the authority's file in SSL_CERT_FILE.",
                server=str(self.server),
                reason=error.verify_message,
            ) from error
        except (OSError, HTTPException) as error:
            raise _Cut(getattr(error, "strerror", None) or type(error).__name__) from error
        finally:
            if not whole:
                self.close()

    def _opened(self) -> HTTPConnection:
        """Make the connection; `http.client` knows neither proxies nor redirects."""
        server = self.server
        if not server.secure:
            return HTTPConnection(server.host, server.port, timeout=_SILENCE)
        context = ssl.create_default_context()
        return HTTPSConnection(server.host, server.port, timeout=_SILENCE, context=context)

    def _check_status(self, status: int, path: str) -> None:
        server = str(self.server)
        if status == 200:
            return
        if 300 <= status < 400:
            raise ModelError(
                "{server} sends on to another address, which is not followed: give the address of the model "
                "server itself.",
                server=server,
            )
        if status in (401, 403):
            raise InputError(
                "{server} refuses the token (status {status}): give the right one with --token-file.",
                server=server,
                status=status,
            )
        if status == 429 or status >= 500:
            raise _Cut(f"HTTP {status}")
        raise ModelError(
            "{server} refuses {question} (status {status}): check the address, and that the server speaks "
            "the wire as docs/wire.md says.",
            server=server,
            question=path,
            status=status,
        )

    def _parts(self, response: HTTPResponse, question: str, most: int) -> Iterator[bytes]:
        """Read a reply as it comes, no more than `most` bytes."""
        received, deadline = 0, time.monotonic() + _LONGEST
        while part := response.read1(_A_PART):
            received += len(part)
            if received > most:
                raise ModelError(
                    "{server} sends more than the {most} bytes that an answer to {question} can take: the "
                    "connection was closed; correct the server.",
                    server=str(self.server),
                    most=most,
                    question=question,
                )
            if time.monotonic() > deadline:
                raise _Cut("slow")
            yield part
        if response.length:
            raise _Cut("cut")

    def _lines(
        self, question: str, response: HTTPResponse, places: list[int], most: int
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Give the place and the fields of each line, checked to come in order and to end."""
        rest, count, ended = b"", 0, False
        for part in self._parts(response, question, most):
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                fields = self._parsed(question, line)
                if ended or not isinstance(fields, dict):
                    raise self.refuse(question, "JSON")
                if count == len(places) or "end" in fields:
                    if fields != {"end": count} or count < len(places):
                        raise self.refuse(question, "end")
                    ended = True
                    continue
                if type(fields.get("id")) is not int or fields.pop("id") != places[count]:
                    raise self.refuse(question, "id")
                if "error" in fields:
                    raise ModelError(
                        "The model server {server} could not answer {question} for one history: its own log "
                        "says why.",
                        server=str(self.server),
                        question=question,
                    )
                yield places[count], fields
                count += 1
        if not ended:
            raise _Cut("cut")

    def _parsed(self, question: str, text: bytes) -> Any:
        try:
            return json.loads(text.decode("utf-8"), parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise self.refuse(question, "JSON") from error

    def _pause(self, failures: int, cut: _Cut) -> None:
        if failures > len(_PAUSES):
            raise MachineError(
                "The model server {server} does not answer ({reason}), asked {tries} times: see that it "
                "runs, then repeat the command.",
                server=str(self.server),
                reason=str(cut),
                tries=failures,
            ) from cut
        time.sleep(_PAUSES[failures - 1])


def _body(tokens: TokenBatch, places: list[int], parameters: Mapping[str, Any]) -> bytes:
    """Write one line a history; the first also has the parameters, which hold for all."""
    name = "token_ids" if isinstance(tokens, TokenBatch) else "input"
    lines = [{"id": place, name: tokens.tokens_of(place).tolist()} for place in places]
    lines[0] |= parameters
    return b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)


def _no_number(name: str) -> None:
    raise ValueError(name)

"""A model server: the model stays in its own environment, and Primum asks it over HTTP (docs/wire.md).

python examples/wire_server.py MODEL TOKEN_FILE 8400
primum audit http://127.0.0.1:8400/ --token-file TOKEN_FILE --records meds/
"""

import hmac
import json
import sys
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from primum import open_model
from primum.models.protocols import Sampling
from primum.models.wire import QUESTIONS
from primum.records.ragged import offsets_of
from primum.records.tokens import TokenBatch

MOST_BYTES, MOST_HISTORIES = 1 << 26, 1 << 20
Lines = list[dict[str, Any]]


def batch_of(lines: Lines, vocabulary_size: int) -> TokenBatch:
    """Put each history at the place that its id says: the random numbers of its samples depend on it."""
    ids = [line["id"] for line in lines]
    if ids != sorted(set(ids)) or ids[-1] >= MOST_HISTORIES:
        raise ValueError
    lengths = np.bincount(ids, [len(line["token_ids"]) for line in lines]).astype(np.int64)
    flat = np.array([token for line in lines for token in line["token_ids"]], np.int64)
    kinds = np.zeros(len(flat), np.uint8)
    return TokenBatch(np.arange(len(lengths)), offsets_of(lengths), flat, kinds, flat, vocabulary_size)


def answer(model: Any, question: str, lines: Lines, vocabulary_size: int) -> Lines:
    """Answer one request; its first line has the rest of the question, in the words of the protocols."""
    if question not in QUESTIONS:
        raise ValueError
    asked = {name: lines[0][name] for name in lines[0].keys() - {"id", "token_ids"}}
    if "sampling" in asked:
        asked["sampling"] = Sampling(**asked["sampling"])
    if "groups" in asked:
        asked["groups"] = np.stack([np.isin(np.arange(vocabulary_size), one) for one in asked["groups"]])
    found = [*getattr(model, question)(batch_of(lines, vocabulary_size), **asked)]
    reply: Lines = [{"id": line["id"]} for line in lines]
    for line in reply:
        row = line["id"]
        if question == "continue_from":
            line["samples"] = [one.tokens_of(row).tolist() for one in found]
        elif question == "token_scores":
            line |= {name: part.tolist() for name, part in found[row]._asdict().items()}
        else:
            name = "embedding" if question == "embed" else question
            line[name] = np.where(found[row] == -np.inf, np.array(None), found[row]).tolist()
    return [*reply, {"end": len(reply)}]


def serve(folder: Path, *, token: str, port: int = 0) -> ThreadingHTTPServer:
    """Listen on this machine; the caller runs ``serve_forever``."""
    opened, one_at_a_time = open_model(folder), Lock()
    model: Any = opened.scorer
    tokens, size = opened.tokenizer.vocabulary.tokens, len(opened.tokenizer.vocabulary)
    said: dict[str, Any] = {"protocols": QUESTIONS, "context": opened.context, "vocabulary": tokens}
    said["token_profile"] = asdict(opened.tokenizer.profile)
    said |= {"width": model.module.config.hidden_size, "parameters": opened.parameters}
    said["declared_identity"] = {"name": opened.ref.name, "digest": opened.ref.digest}

    class Handler(BaseHTTPRequestHandler):
        protocol_version, disable_nagle_algorithm = "HTTP/1.1", True  # the connection stays open

        def do_POST(self) -> None:
            given = self.headers.get("Authorization", "").encode()
            if not hmac.compare_digest(given, f"Bearer {token}".encode()):
                return self.send_error(401)
            body = self.rfile.read(min(int(self.headers.get("Content-Length", 0)), MOST_BYTES))
            try:
                lines = [json.loads(line) for line in body.splitlines()]
                with one_at_a_time:
                    reply = answer(model, self.path.removeprefix("/v1/"), lines, size) if lines else [said]
            except Exception as error:  # the log says the kind of error, and nothing of what was asked
                return self.send_error(400, type(error).__name__)
            text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in reply).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST  # noqa: N815

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


if __name__ == "__main__":
    folder, token_file, port = sys.argv[1:]
    serve(Path(folder), token=Path(token_file).read_text().strip(), port=int(port)).serve_forever()

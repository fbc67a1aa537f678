"""A server of a classifier: the model stays in its own environment, and Primum asks it over HTTP.

python examples/predict_server.py MODEL TOKEN_FILE 8400 [module:factory]
primum audit http://127.0.0.1:8400/ --token-file TOKEN_FILE --records cases/
"""

import base64
import hmac
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from primum.models.classifier_doors import open_classifier
from primum.records.cases import Cases

MOST_BYTES = 1 << 26
Lines = list[dict[str, Any]]


def cases_of(lines: Lines) -> Cases:
    """Read the inputs, one array each, as they were stored."""
    inputs = []
    for line in lines:
        given = line["input"]
        data = np.frombuffer(base64.b64decode(given["data"], validate=True), np.dtype(given["dtype"]))
        inputs.append(data.reshape(given["shape"]))
    alike = len({(one.shape, one.dtype) for one in inputs}) == 1
    places = np.arange(len(lines))
    return Cases(places, places, np.stack(inputs) if alike else tuple(inputs), np.zeros_like(places))


def serve(folder: Path, *, token: str, port: int = 0, factory: str | None = None) -> ThreadingHTTPServer:
    """Listen on this machine; the caller runs ``serve_forever``."""
    opened, one_at_a_time = open_classifier(folder, factory=factory), Lock()
    model: Any = opened.predictor
    # No cases at all: a model with logits answers with an empty array.
    nobody = np.empty(0, np.int64)
    logits = model.logits(Cases(nobody, nobody, np.empty((0, 1)), nobody)) is not None
    said: dict[str, Any] = {"protocols": ["Predictor"], "classes": model.classes, "input": {}}
    field = "logits" if logits else "probabilities"
    said |= {"output": field, "parameters": opened.parameters}
    said["declared_identity"] = {"name": opened.ref.name, "digest": opened.ref.digest}

    def answer(question: str, lines: Lines) -> Lines:
        if question != "predict":
            raise ValueError
        cases = cases_of(lines)
        rows = model.logits(cases) if logits else model.predict_proba(cases)
        reply = [{"id": line["id"], field: row.tolist()} for line, row in zip(lines, rows, strict=True)]
        return [*reply, {"end": len(reply)}]

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
                    reply = answer(self.path.removeprefix("/v1/"), lines) if lines else [said]
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
    folder, token_file, port, *made = sys.argv[1:]
    secret = Path(token_file).read_text().strip()
    serve(Path(folder), token=secret, port=int(port), factory=made[0] if made else None).serve_forever()

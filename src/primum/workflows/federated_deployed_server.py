"""The coordinator's end of the line: TLS 1.3, registered keys, and Flower's Fleet API.

Of a SuperLink only the Fleet API is served: no run can be submitted, no node registered, nothing fetched.
"""

import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from primum.errors import InputError
from primum.train.federated.deployed import SiteGrid
from primum.workflows.federated_deployed_link import LEAST_BITS, not_a_key, read_file

# Below the grid, which keeps Flower from calling home.
# isort: split
import uvicorn
from fastapi import FastAPI
from flwr.supercore.error import http_error_translator
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.protobuf.translation import ProtobufTranslationMiddleware
from flwr.superlink.routers.fleet.node_auth import NodeAuthMiddleware
from flwr.superlink.routers.fleet.router import router as fleet_router
from starlette.middleware.base import BaseHTTPMiddleware

_Scope = MutableMapping[str, Any]


def registered_keys(folder: Path) -> dict[str, bytes]:
    """Read the public keys of the sites that may take part, NAME.pem each.

    Returns
    -------
    dict of str to bytes
        As Flower writes them, by name.

    Raises
    ------
    InputError
        No such folder, no key in it, a file that is none, or one key under two names.
    """
    keys: dict[str, bytes] = {}
    for path in sorted(folder.glob("*.pem")):
        try:
            key = load_pem_public_key(read_file(path))
        except ValueError as error:
            raise not_a_key(path) from error
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.key_size < LEAST_BITS:
            raise not_a_key(path)
        keys[path.stem] = public_key_to_bytes(key)
    if not keys:
        raise InputError(
            "{path} holds no registered keys: put the public key of each site there as NAME.pem.",
            path=str(folder),
        )
    if len(set(keys.values())) < len(keys):
        raise InputError("{path} holds one key under two names: register each site once.", path=str(folder))
    return keys


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Make a context of TLS 1.3 and nothing older.

    Raises
    ------
    InputError
        A certificate or key that cannot be used, or that do not belong together.
    """
    for path in (certificate, key):
        read_file(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, ValueError, OSError) as error:
        raise InputError(
            "{certificate} and {key} are no certificate and its private key, both PEM: give the two that "
            "belong together.",
            certificate=str(certificate),
            key=str(key),
        ) from error
    return context


def listening(host: str, port: int) -> socket.socket:
    """Take a port, before anything is read or written.

    Raises
    ------
    InputError
        It is taken, or there is no such address here.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise InputError(
            "{host}:{port} cannot be listened on ({reason}): give another --host or --port.",
            host=host,
            port=port,
            reason=getattr(error, "strerror", None) or type(error).__name__,
        ) from error


@contextmanager
def serving(grid: SiteGrid, taken: socket.socket, context: ssl.SSLContext) -> Iterator[None]:
    """Serve the Fleet API of a grid on a socket while the block runs."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.state.linkstate_factory = SimpleNamespace(state=lambda: grid.state)
    # Nodes are those of registered keys; none can register itself.
    app.state.enable_supernode_auth = True
    app.include_router(fleet_router)
    # The last that is added is the first that hears.
    app.add_middleware(NodeAuthMiddleware)
    app.add_middleware(ProtobufTranslationMiddleware)
    app.add_middleware(BaseHTTPMiddleware, dispatch=http_error_translator)
    app.add_middleware(_Capped, largest=grid.largest)
    config = uvicorn.Config(
        app,
        ssl_context_factory=lambda config, default: context,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    thread = Thread(target=server.run, kwargs={"sockets": [taken]}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=10)


class _Capped:
    """Refuses a request that is longer than anything agreed, before it is read."""

    def __init__(self, app: Callable[..., Awaitable[None]], *, largest: int) -> None:
        self._app, self._largest = app, largest

    async def __call__(self, scope: _Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        length = dict(scope.get("headers", ())).get(b"content-length", b"")
        if length.isdigit() and int(length) <= self._largest:
            await self._app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 413, "headers": []})
        await send({"type": "http.response.body", "body": b""})

"""Where a model server listens: encrypted unless it is on this machine; and the token that it asks for."""

from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from primum.errors import InputError

_MOST_TOKEN_BYTES = 4096


@dataclass(frozen=True)
class Server:
    """Where a model server listens, and the token that it asks for."""

    secure: bool
    host: str
    port: int
    base: str
    token: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def server_at(url: str, *, token_file: Path | None = None) -> Server:
    """Read the address of a model server, and its token; nothing is connected yet.

    Raises
    ------
    InputError
        No such address, plain http to another machine, or no token in the file.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    # The address itself is not repeated: it may hold a password.
    if not host or "@" in parts.netloc or parts.query or parts.fragment or not url.isascii() or " " in url:
        raise InputError(
            "The address of the model server cannot be used: write https://host:port/, without user, "
            "password or query."
        )
    secure = parts.scheme == "https"
    if not secure and not _is_loopback(host):
        raise InputError(
            "{host} is another machine and http is not encrypted: serve the model over https, or on this "
            "machine.",
            host=host,
        )
    token = None if token_file is None else _read_token(token_file)
    return Server(secure, host, port or (443 if secure else 80), parts.path.rstrip("/"), token)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read_token(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            token = stream.read(_MOST_TOKEN_BYTES + 1).strip()
    except OSError as error:
        raise InputError("{file} cannot be read: give the file of the token.", file=str(path)) from error
    if not 0 < len(token) <= _MOST_TOKEN_BYTES or any(not 0x20 < byte < 0x7F for byte in token):
        raise InputError("{file} holds no token: write it alone on one line, without spaces.", file=str(path))
    return token.decode("ascii")

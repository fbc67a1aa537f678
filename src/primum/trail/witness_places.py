"""Where witnesses are, as people write it: a file, ``https://host:port#KEY``, ``syslog://host:port``."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from primum.errors import InputError, clean_text
from primum.trail.heads import SignedHead
from primum.trail.syslog import SyslogSender
from primum.trail.witness import FileWitness, HttpWitness, SyslogWitness, Witness, read_heads

SYSLOG_PORT = 6514


def witness_at(place: str, *, authority: Path | None = None) -> Witness:
    """Open the witness that a person named.

    Parameters
    ----------
    place : str
        A path, ``https://host:port`` with ``#`` and the witness's public key where it is known, or
        ``syslog://host:port``.
    authority : Path or None
        Certificates that sign the witness's, PEM.

    Raises
    ------
    InputError
        It is none of these.
    """
    if "://" not in place:
        return FileWitness(Path(place))
    if place.startswith("syslog://"):
        return SyslogWitness(syslog_at(place, authority=authority))
    return _http(place, authority)


def syslog_at(
    place: str, *, authority: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> SyslogSender:
    """Open a syslog server over TLS, ``syslog://host:port``.

    Raises
    ------
    InputError
        It is no such address.
    """
    try:
        address = urlsplit(place)
        host, port = address.hostname, address.port or SYSLOG_PORT
    except ValueError:
        host, port = None, 0
    if not place.startswith("syslog://") or not host:
        raise InputError(
            "{url} is no address of a syslog server: give syslog://host:port, which is spoken to over TLS.",
            url=clean_text(place),
        )
    return SyslogSender(host, port, authority, certificate, key)


def gathered(
    places: Sequence[str], trail: str, *, shard: int | None = None, authority: Path | None = None
) -> list[SignedHead]:
    """Read the heads that witnesses keep, of one shard or all: files, logs of syslog too, and addresses.

    Raises
    ------
    InputError, MachineError
        A file cannot be read, or a witness does not answer.
    """
    found: list[SignedHead] = []
    for place in places:
        if "://" in place:
            witness = _http(place, authority)
            for one in witness.shards(trail) if shard is None else [shard]:
                found += witness.heads(trail, one)
        else:
            found += read_heads(Path(place))
    return found


def _http(place: str, authority: Path | None) -> HttpWitness:
    url, _, key = place.partition("#")
    return HttpWitness(url, authority, key or None)

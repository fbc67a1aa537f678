"""The signature of an audit: Ed25519 over ``findings.json`` and the digest of ``report.html``.

References
----------
Josefsson & Liusvaara, RFC 8032 (Ed25519), 2017.
"""

from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from primum.errors import InputError, clean_text
from primum.evidence.audit import FINDINGS, REPORT, SCHEMA
from primum.evidence.canonical import canonical_bytes
from primum.evidence.identity import file_digest

SIGNATURE = "findings.sig"
_CONTEXT = b"primum audit 1\n"


@dataclass(frozen=True)
class Signature:
    """The content of ``findings.sig``.

    Attributes
    ----------
    signature : str
        128 hexadecimal digits, of :func:`signed_bytes`.
    public_key : str
        64 hexadecimal digits. It tells another key from another file; the checker trusts only a key of their
        own.
    findings, report : str
        sha256 of either file when it was signed. They tell which one was altered; the signature, not they,
        says whether.
    """

    signature: str
    public_key: str
    findings: str
    report: str
    schema: str = SCHEMA


def signed_bytes(directory: Path) -> bytes:
    r"""Give the bytes that are signed: ``primum audit 1\n``, hex digest of the report, ``\n``, findings."""
    report = file_digest(directory / REPORT).encode()
    return _CONTEXT + report + b"\n" + (directory / FINDINGS).read_bytes()


def sign(directory: Path, key: Ed25519PrivateKey) -> None:
    """Write ``findings.sig`` beside the files of an audit."""
    signature = Signature(
        key.sign(signed_bytes(directory)).hex(),
        key.public_key().public_bytes_raw().hex(),
        file_digest(directory / FINDINGS),
        file_digest(directory / REPORT),
    )
    (directory / SIGNATURE).write_bytes(canonical_bytes(signature))


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Read the key that signs: Ed25519, PEM, without a password.

    Raises
    ------
    InputError
        The file cannot be read, is encrypted, or holds another kind of key.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except TypeError as error:
        raise InputError(
            "{file} is protected by a password: give a key without one, in a file that only you can read.",
            file=clean_text(path),
        ) from error
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise _no_key(path) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(path)
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """Read the key that checks: Ed25519, PEM.

    Raises
    ------
    InputError
        The file cannot be read or holds another kind of key.
    """
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise _no_public_key(path) from error
    if not isinstance(key, Ed25519PublicKey):
        raise _no_public_key(path)
    return key


def _no_key(path: Path) -> InputError:
    return InputError(
        "{file} is no Ed25519 private key in PEM form: make one with "
        "openssl genpkey -algorithm ed25519 -out key.pem.",
        file=clean_text(path),
    )


def _no_public_key(path: Path) -> InputError:
    return InputError(
        "{file} is no Ed25519 public key in PEM form: the signer writes it with "
        "openssl pkey -in key.pem -pubout -out public.pem.",
        file=clean_text(path),
    )

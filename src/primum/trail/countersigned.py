"""What a witness answers: the head, and its own signature that it follows from all that it saw before."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from primum.evidence.canonical import canonical_bytes
from primum.trail.heads import SignedHead, public_hex, read_head

_CONTEXT: Final = b"primum trail witness 1\n"


@dataclass(frozen=True)
class Countersigned:
    """A head that a witness took.

    Attributes
    ----------
    signed : SignedHead
    key : str
        The witness's public key, 64 hexadecimal digits.
    signature : str
        Of the head, the trail's signature and the time, 128 hexadecimal digits.
    at : str
        When the witness took it, UTC, by its own clock.
    """

    signed: SignedHead
    key: str
    signature: str
    at: str

    def holds(self, key: str) -> bool:
        """Say whether the witness with this public key, hexadecimal, signed it."""
        try:
            public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
            public.verify(bytes.fromhex(self.signature), _said(self.signed, self.at))
        except (InvalidSignature, ValueError):
            return False
        return self.key == key


def countersign(signed: SignedHead, key: Ed25519PrivateKey, *, at: str) -> Countersigned:
    """Sign that a head was seen, and follows from those before."""
    return Countersigned(signed, public_hex(key), key.sign(_said(signed, at)).hex(), at)


def countersigned_line(found: Countersigned) -> bytes:
    """Write one line of JSON, without the line's end; it begins as a line of a head alone does."""
    witness = {"key": found.key, "signature": found.signature, "at": found.at}
    return canonical_bytes(_document(found.signed) | {"witness": witness})


def read_countersigned(line: bytes) -> Countersigned:
    """Read what :func:`countersigned_line` wrote.

    Raises
    ------
    ValueError
        It is something else.
    """
    try:
        document: Any = json.loads(line)
        words = [document["witness"][name] for name in ("key", "signature", "at")]
        if not all(isinstance(one, str) for one in words):
            raise ValueError("no countersignature")
        return Countersigned(read_head(document), *words)
    except (TypeError, KeyError, RecursionError) as error:
        raise ValueError("no countersignature") from error


def _said(signed: SignedHead, at: str) -> bytes:
    return _CONTEXT + canonical_bytes(_document(signed) | {"at": at})


def _document(signed: SignedHead) -> dict[str, Any]:
    return {"head": asdict(signed.head), "signature": signed.signature}

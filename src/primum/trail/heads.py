"""Signed tree heads: what the whole trail was at one moment, in a few bytes that anyone can keep.

References
----------
Laurie, Messeri & Stradling, RFC 9162, section 4.10 (signed tree heads), 2021.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from primum.evidence.canonical import canonical_bytes

SCHEMA: Final = "1"
_CONTEXT: Final = b"primum trail head 1\n"


@dataclass(frozen=True)
class Head:
    """The root over the first `size` records of a shard.

    Attributes
    ----------
    trail : str
        The trail's own random name, so that no head passes for that of another.
    shard, size : int
    root : str
        Merkle tree hash, 64 hexadecimal digits.
    at : str
        When it was signed, UTC.
    key : str
        Public key, 64 hexadecimal digits, of :attr:`SignedHead.signature`.
    """

    trail: str
    shard: int
    size: int
    root: str
    at: str
    key: str
    schema: str = SCHEMA


@dataclass(frozen=True)
class SignedHead:
    """A head and the signature of the trail's key, 128 hexadecimal digits."""

    head: Head
    signature: str

    def signed_by(self, key: str) -> bool:
        """Say whether the holder of the public key, hexadecimal, signed it."""
        try:
            public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
            public.verify(bytes.fromhex(self.signature), _CONTEXT + canonical_bytes(self.head))
        except (InvalidSignature, ValueError):
            return False
        return self.head.key == key and self.signature == self.signature.lower()


def public_hex(key: Ed25519PrivateKey | Ed25519PublicKey) -> str:
    """Write a public key as 64 hexadecimal digits."""
    public = key.public_key() if isinstance(key, Ed25519PrivateKey) else key
    return public.public_bytes_raw().hex()


def sign_head(head: Head, key: Ed25519PrivateKey) -> SignedHead:
    """Sign a head."""
    return SignedHead(head, key.sign(_CONTEXT + canonical_bytes(head)).hex())


def head_line(signed: SignedHead) -> bytes:
    """Write a signed head as one line of JSON, without the line's end."""
    return canonical_bytes({"head": asdict(signed.head), "signature": signed.signature})


def read_head(document: Any) -> SignedHead:
    """Read what :func:`head_line` wrote, as bytes, text or JSON object.

    Raises
    ------
    ValueError
        It is no signed head.
    """
    try:
        found = json.loads(document) if isinstance(document, bytes | str) else document
        head = Head(**found["head"])
        words = (head.trail, head.root, head.at, head.key, found["signature"])
        if not all(isinstance(one, str) for one in words) or head.schema != SCHEMA:
            raise ValueError("no head")
        if type(head.size) is not int or type(head.shard) is not int or min(head.size, head.shard) < 0:
            raise ValueError("no head")
        return SignedHead(head, found["signature"])
    except (TypeError, KeyError, RecursionError) as error:
        raise ValueError("no head") from error

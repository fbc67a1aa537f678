"""The cryptography of the vault, in one place: boxes that cannot be opened elsewhere, and keyed digests.

AES-256-GCM with a random nonce of 96 bits, HKDF-SHA256 and HMAC-SHA256. Every key has one use: keys for uses
are derived, and every box is bound to where it stands, so that a box moved elsewhere does not open.

References
----------
NIST SP 800-38D (GCM), 2007. Krawczyk & Eronen, RFC 5869 (HKDF), 2010. Krawczyk et al., RFC 2104 (HMAC), 1997.
"""

import hashlib
import hmac
import json
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES: Final = 32
_NONCE: Final = 12
_TAG: Final = 16
_PAD: Final = 64


def new_key() -> bytes:
    """Draw 256 bits from the system."""
    return os.urandom(KEY_BYTES)


def derived(key: bytes, use: str) -> bytes:
    """Derive the key of one use.

    Examples
    --------
    >>> derived(bytes(32), "payload") == derived(bytes(32), "identity")
    False
    """
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=b"primum vault 1 " + use.encode()).derive(key)


def keyed_digest(key: bytes, data: bytes) -> str:
    """HMAC-SHA256, 64 hexadecimal digits."""
    return hmac.new(key, data, hashlib.sha256).hexdigest()


def seal(key: bytes, content: bytes, *place: str | int) -> bytes:
    """Encrypt; the box opens only with the same key and the same place.

    Parameters
    ----------
    key : bytes
        32 bytes.
    content : bytes
    *place : str or int
        What is bound as associated data: kind of box, id, version, patient.

    Returns
    -------
    bytes
        12 bytes of nonce, the content encrypted, 16 bytes of tag.
    """
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, content, _bound(place))


def unseal(key: bytes, box: bytes, *place: str | int) -> bytes:
    """Decrypt what :func:`seal` gave.

    Raises
    ------
    cryptography.exceptions.InvalidTag
        Another key, another place, or an altered box.
    """
    if len(box) < _NONCE + _TAG:
        raise InvalidTag
    return AESGCM(key).decrypt(box[:_NONCE], box[_NONCE:], _bound(place))


def padded(text: str) -> bytes:
    """UTF-8 filled up to a multiple of 64 bytes, so that its length does not tell who it is.

    Examples
    --------
    >>> len(padded("185057800608436")), unpadded(padded("185057800608436"))
    (64, '185057800608436')
    """
    encoded = text.encode() + b"\x80"
    return encoded + bytes(-len(encoded) % _PAD)


def unpadded(filled: bytes) -> str:
    """Give the text that was filled up."""
    return filled.rstrip(b"\0")[:-1].decode()


def _bound(place: tuple[str | int, ...]) -> bytes:
    # JSON tells ("ab", "c") from ("a", "bc") and "1" from 1.
    return json.dumps(place, separators=(",", ":")).encode()

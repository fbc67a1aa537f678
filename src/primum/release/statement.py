r"""What a person signs: one canonical document that says of what, in which role, for which action.

The bytes are ``primum release 1\n`` and the canonical JSON of the statement. All that a decision rests on
is in it, so that a signature for one model, policy, card, set of findings or action is worth nothing for
another.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from primum.errors import InputError, clean_text
from primum.evidence.canonical import canonical_bytes

_CONTEXT: Final = b"primum release 1\n"
SCHEMA: Final = "1.0"


@dataclass(frozen=True)
class Statement:
    """What is signed.

    Attributes
    ----------
    action : str
        ``approve``, ``approve.<phase>``, ``reject``, ``revoke``, ``adopt``, ``seal``, or a step of
        :mod:`primum.release.states`.
    name, role : str
        Who signs.
    date : str
        UTC, ISO 8601.
    comment : str
    model, card, policy, decision : str
        Digests; empty where the action has none.
    findings : tuple of str
        Digests of every ``findings.json`` that counted, sorted.
    subject : str
        Digest of what else it is about: a ballot that is revoked, a policy, a test set.
    head : str
        Digest of the last event before it, of steps: so that each signature serves once.
    share : float or None
        Of a canary.
    """

    action: str
    name: str
    role: str
    date: str
    comment: str = ""
    model: str = ""
    card: str = ""
    policy: str = ""
    decision: str = ""
    findings: tuple[str, ...] = ()
    subject: str = ""
    head: str = ""
    share: float | None = None
    schema: str = SCHEMA

    @cached_property
    def signed_bytes(self) -> bytes:
        """The bytes that are signed."""
        return _CONTEXT + canonical_bytes(self)


@dataclass(frozen=True)
class Signed:
    """A statement with its signature.

    Attributes
    ----------
    statement : Statement
    key : str
        The public key, 64 hexadecimal digits; whose it is, the policy says.
    signature : str
        128 hexadecimal digits.
    """

    statement: Statement
    key: str
    signature: str

    @cached_property
    def digest(self) -> str:
        """sha256, hexadecimal, of what was signed and by which key."""
        return hashlib.sha256(self.statement.signed_bytes + bytes.fromhex(self.key)).hexdigest()

    @property
    def holds(self) -> bool:
        """Whether the signature is of this statement, by this key."""
        return _verified(self.statement.signed_bytes, self.key, self.signature)


def sign_statement(statement: Statement, key: Ed25519PrivateKey) -> Signed:
    """Sign a statement."""
    signature = key.sign(statement.signed_bytes).hex()
    return Signed(statement, key.public_key().public_bytes_raw().hex(), signature)


@lru_cache(maxsize=4096)
def _verified(content: bytes, key: str, signature: str) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(signature), content)
    except (InvalidSignature, ValueError):
        return False
    return True


def moment(text: str) -> datetime:
    """Read a date with its time and zone.

    Raises
    ------
    InputError
        It is none.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.utcoffset() != timedelta(0):
        raise InputError(
            "{date} is no UTC date and time in the form of ISO 8601.", date=clean_text(text)[:40]
        )
    return found

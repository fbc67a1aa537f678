"""What happened in a registry: one document an event, each naming the one before."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, Literal

from primum.errors import InputError, clean_text
from primum.evidence.canonical import canonical_bytes
from primum.evidence.documents import Misfit, decode
from primum.release.artefact import Format
from primum.release.statement import Signed
from primum.release.states import Action

SCHEMA: Final = "1.0"
FIRST: Final = "0" * 64


@dataclass(frozen=True)
class PolicyAdopted:
    """Another policy holds: the first one, or one that the committee signed under the one before."""

    policy: str


@dataclass(frozen=True)
class Registered:
    """A model came in, or another card for it; see :class:`primum.release.artefact.Artefact`."""

    model: str
    card: str
    format: Format
    files: Mapping[str, str]
    beside: Mapping[str, str]
    receipt: str | None
    data: tuple[str, ...]
    by: Signed | None = None


@dataclass(frozen=True)
class FindingsTaken:
    """Findings came in: their digest, that of the report, who signed them and the signature itself."""

    model: str
    findings: str
    report: str
    date: str
    key: str | None
    signature: str | None


@dataclass(frozen=True)
class Decided:
    """A decision was made and kept."""

    model: str
    decision: str


@dataclass(frozen=True)
class BallotCast:
    """A member approved, rejected or revoked; of a policy, `model` is empty."""

    model: str
    ballot: Signed


@dataclass(frozen=True)
class Stepped:
    """A model went from one state to another; `by` is None where nobody needs to sign."""

    model: str
    action: Action
    share: float | None = None
    by: Signed | None = None
    decision: str | None = None
    reason: str = ""
    statistic: str = ""
    patients: int = 0


@dataclass(frozen=True)
class Sealed:
    """A person vouched for a test set."""

    test_set: str
    seal: str
    by: Signed


@dataclass(frozen=True)
class Used:
    """A model is about to be run on a test set."""

    test_set: str
    model: str
    purpose: str


Body = PolicyAdopted | Registered | FindingsTaken | Decided | BallotCast | Stepped | Sealed | Used
BODIES: Final[Mapping[str, type[Body]]] = MappingProxyType(
    {
        "policy": PolicyAdopted,
        "registered": Registered,
        "findings": FindingsTaken,
        "decision": Decided,
        "ballot": BallotCast,
        "step": Stepped,
        "sealed": Sealed,
        "used": Used,
    }
)
Kind = Literal["policy", "registered", "findings", "decision", "ballot", "step", "sealed", "used"]


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Attributes
    ----------
    number : int
        From 0, without a gap.
    previous : str
        Digest of the event before; 64 zeros of the first.
    kind : Kind
    date : str
        UTC, ISO 8601; never before that of the event before.
    by : str
        Who did it, as the trail names them.
    body : Body
    """

    number: int
    previous: str
    kind: Kind
    date: str
    by: str
    body: Body
    schema: str = field(default=SCHEMA)

    @cached_property
    def digest(self) -> str:
        """sha256, hexadecimal, of its canonical bytes."""
        return hashlib.sha256(canonical_bytes(self)).hexdigest()


def read_event(document: Mapping[str, Any], *, file: str) -> Event:
    """Turn a document back into an event.

    Raises
    ------
    InputError
        A key is missing, unknown or of the wrong type; names the file and the key.
    """
    said = dict(document)
    try:
        kind = BODIES.get(str(said.get("kind")))
        if kind is None:
            raise Misfit("kind")
        body = decode(kind, said.pop("body", None), "body")
        head = decode(_Head, said)
    except Misfit as error:
        raise InputError(
            "{file}: {key} is missing, unknown or of the wrong type. The file was altered or cut: copy the "
            "registry again, whole.",
            file=clean_text(file),
            key=clean_text(error),
        ) from error
    return Event(head.number, head.previous, head.kind, head.date, head.by, body, head.schema)


@dataclass(frozen=True)
class _Head:
    number: int
    previous: str
    kind: Kind
    date: str
    by: str
    schema: str

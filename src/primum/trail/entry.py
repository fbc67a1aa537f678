"""What is written in the trail: kinds of entries, and the fields that each may hold.

The lists are closed, so that nothing personal can slip in: a patient is a random number that dies with their
key, inputs and outputs are keyed commitments, sentences of people are digests. What a field holds is checked:
short words of a limited alphabet, numbers, and lists of such words.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Protocol

from primum.errors import InputError

Value = str | int | bool | tuple[str, ...]
_WORD: Final = re.compile(r"[\w.:@/+=-]{1,256}", re.ASCII)
_HEX: Final = re.compile(r"[0-9a-f]{32}")
_LARGEST: Final = 2**53 - 1
# `event` is the digest of the registry's own record; where that says the same twice, it happened once.
_DECIDED: Final = frozenset(
    {"role", "comment", "decision", "policy", "key", "signature", "phase", "before", "after", "event"}
)
# Kind of entry to the details it may hold; all have `by`, and may have a patient, a model and `refers_to`.
KINDS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "prediction.intent": frozenset({"input", "payload", "version", "purpose"}),
        "prediction.outcome": frozenset({"status", "output", "payload", "signals", "latency_us", "version"}),
        "refusal": frozenset({"reason", "guard", "input", "payload"}),
        "review": frozenset({"decision", "payload", "reason", "output"}),
        "correction": frozenset({"output", "payload", "reason"}),
        "access": frozenset({"payload", "version", "purpose", "records", "subject"}),
        "export": frozenset({"records", "format", "recipient", "purpose", "digest"}),
        "erasure": frozenset({"payloads", "epoch", "basis", "requested", "phase"}),
        "key.use": frozenset({"key", "purpose", "epoch"}),
        "key.rotation": frozenset({"from_epoch", "to_epoch", "keys", "phase"}),
        "signals.purge": frozenset({"before", "records"}),
        "retention": frozenset({"policy", "before", "kinds", "records", "first", "last", "digest"}),
        "trail.created": frozenset({"trail", "shard", "key", "version"}),
        "trail.key": frozenset({"key", "replaces"}),
        "release.registered": frozenset(
            {"card", "parent", "receipt", "data", "findings", "format", "name", "version", "event"}
        ),
        "release.findings": frozenset({"findings", "key", "data", "card", "event"}),
        "release.decision": frozenset({"policy", "decision", "passed", "failed", "phase", "change", "event"}),
        "release.state": frozenset(
            {"before", "after", "share", "decision", "policy", "replaces", "ends", "reason", "event"}
        ),
        "release.rollback": frozenset(
            {"before", "after", "reason", "statistic", "patients", "evidence", "to", "ends", "event"}
        ),
        "approval": _DECIDED,
        "rejection": _DECIDED,
        "revocation": _DECIDED,
        "test_set.sealed": frozenset({"test_set", "name", "key", "signature", "role", "cases", "event"}),
        "test_set.used": frozenset({"test_set", "uses", "findings", "purpose", "event"}),
    }
)


@dataclass(frozen=True)
class Entry:
    """One thing that happened, before the trail gave it a number and a time.

    Attributes
    ----------
    kind : str
        A key of :data:`KINDS`.
    by : str
        Who did it: the account of a person or a service, never a patient. Up to 256 of ``A-Za-z0-9_.:@/+=-``.
    patient : str or None
        The patient's random number, 32 hexadecimal digits, which only the key store can tell from others.
    model : str or None
        Digest of a model's manifest.
    on_behalf_of : str or None
        For whom `by` acted.
    refers_to : int or None
        Number, in the same shard, of the entry that this one ends, reviews or corrects.
    details : mapping of str to str, int, bool or tuple of str
        What :data:`KINDS` allows for this kind. Fractions are whole numbers of a stated unit.

    Raises
    ------
    InputError
        The kind or a field is unknown, or a value is not a short word or a whole number.
    """

    kind: str
    by: str
    patient: str | None = None
    model: str | None = None
    on_behalf_of: str | None = None
    refers_to: int | None = None
    details: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        allowed = KINDS.get(self.kind)
        if allowed is None:
            raise InputError("The trail knows no entry of the kind {kind}.", kind=self.kind)
        for name in sorted(set(self.details) - allowed):
            raise InputError(
                "An entry of the kind {kind} has no field {name}: leave it out.", kind=self.kind, name=name
            )
        if self.patient is not None and not _HEX.fullmatch(self.patient):
            raise _refused(self.kind, "patient")
        if self.refers_to is not None and not 0 <= self.refers_to <= _LARGEST:
            raise _refused(self.kind, "refers_to")
        words: dict[str, Value] = {"by": self.by} | dict(self.details)
        words |= {"model": self.model} if self.model is not None else {}
        words |= {"on_behalf_of": self.on_behalf_of} if self.on_behalf_of is not None else {}
        for name, value in words.items():
            if not _fits(value):
                raise _refused(self.kind, name)


def _fits(value: object) -> bool:
    if isinstance(value, tuple):
        return all(isinstance(one, str) and _WORD.fullmatch(one) for one in value)
    if isinstance(value, str):
        return bool(_WORD.fullmatch(value))
    return isinstance(value, int) and abs(value) <= _LARGEST


def _refused(kind: str, name: str) -> InputError:
    # Not the value: it may be what should not be written down.
    return InputError(
        "The field {name} of an entry of the kind {kind} is not a short word of letters, digits and _.:@/+=- "
        "or a whole number: the trail holds nothing else.",
        kind=kind,
        name=name,
    )


@dataclass(frozen=True)
class Position:
    """Where an entry stands in the trail, once it is durable.

    Attributes
    ----------
    shard : int
        Which of the trail's chains, from 0.
    number : int
        From 0, without a gap.
    leaf : str
        RFC 9162 hash of the record, 64 hexadecimal digits.
    """

    shard: int
    number: int
    leaf: str


class Recorder(Protocol):
    """What vault, release and gateway need of a trail."""

    def append(self, entry: Entry) -> Position:
        """Write one entry and return when it is durable."""
        ...

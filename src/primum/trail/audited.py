"""What a record is in the words that audit repositories share: DICOM's codes of events and roles.

References
----------
DICOM PS3.15, Annex A.5 (Audit Trail Message Format Profile), and PS3.16, contexts 400 to 402.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from primum.errors import InputError
from primum.trail.entry import Entry
from primum.trail.merkle import leaf_hash
from primum.trail.record import canonical_record, entry_of


class Code(NamedTuple):
    """A code and what it means."""

    code: str
    meaning: str


_ACTIVITY: Final = Code("110100", "Application Activity")
_LOG_USED: Final = Code("110101", "Audit Log Used")
_EXPORT: Final = Code("110106", "Export")
_PATIENT_RECORD: Final = Code("110110", "Patient Record")
_ALERT: Final = Code("110113", "Security Alert")
_SECURITY: Final = Code("110129", "Security Configuration")
_SOFTWARE: Final = Code("110131", "Software Configuration")
_STARTED: Final = Code("110134", "Audit Recording Started")
APPLICATION: Final = Code("110150", "Application")
DESTINATION: Final = Code("110152", "Destination Role ID")
SOURCE: Final = Code("110153", "Source Role ID")
MEDIA: Final = Code("110154", "Destination Media")
LOG_NAME: Final = "Security Audit Log"
_CREATION, _AMENDMENT, _CHECK, _USE, _EXPORTED, _ERASED = "1", "3", "4", "6", "10", "15"

# What happens to a patient's record: action and life cycle. Without a patient it is an activity.
_ON_PATIENTS: Final = {
    "prediction.intent": ("R", _USE),
    "prediction.outcome": ("C", _CREATION),
    "refusal": ("R", _USE),
    "review": ("R", _CHECK),
    "correction": ("U", _AMENDMENT),
    "access": ("R", _USE),
    "erasure": ("D", _ERASED),
}
# What DICOM calls a security alert, and of which type: the configuration of keys or of the model in service.
_ALERTS: Final = {
    "key.rotation": _SECURITY,
    "trail.key": _SECURITY,
    "trail.created": _STARTED,
    "release.state": _SOFTWARE,
    "release.rollback": _SOFTWARE,
}
# 12, "the application is unavailable", is never said: such an application writes no records.
_OUTCOMES: Final = {"failed": "8", "refused": "4"}
_AT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)
_TRAIL: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Audited:
    """A record, checked and classified.

    Attributes
    ----------
    trail : str
        The trail's own random name.
    shard, number : int
    at, leaf : str
    entry : Entry
    event : Code
        DICOM's event, context 400.
    more : Code or None
        Its type, context 401, where DICOM has one.
    action : str
        ``C``, ``R``, ``U``, ``D`` or ``E``.
    outcome : str
        ``0`` success, ``4`` minor failure (refused), ``8`` serious failure (begun and not ended).
    lifecycle : str
        What became of the object, a code of DICOM; empty where it has none.
    """

    trail: str
    shard: int
    number: int
    at: str
    leaf: str
    entry: Entry
    event: Code
    more: Code | None
    action: str
    outcome: str
    lifecycle: str

    @property
    def place(self) -> str:
        """Where the record stands: trail, shard and number."""
        return f"{self.trail}/{self.shard}/{self.number}"

    @property
    def ran(self) -> bool:
        """Whether the model took part, rather than being what was decided on."""
        return self.entry.model is not None and self.entry.kind.startswith(("prediction.", "refusal"))

    @property
    def recipient(self) -> str | None:
        """To whom something was exported."""
        return str(self.entry.details["recipient"]) if "recipient" in self.entry.details else None

    def facts(self) -> list[tuple[str, str]]:
        """Give the leaf hash, what it refers to and each detail, as words; of a list one pair a word."""
        found = [("leaf", self.leaf)]
        if self.entry.refers_to is not None:
            found.append(("refers_to", f"{self.trail}/{self.shard}/{self.entry.refers_to}"))
        for name, value in sorted(self.entry.details.items()):
            for one in value if isinstance(value, tuple) else (value,):
                found.append((name, str(one).lower() if isinstance(one, bool) else str(one)))
        return found


def audited(document: dict[str, Any], *, trail: str) -> Audited:
    """Classify a record.

    Parameters
    ----------
    document : dict
        What :func:`primum.trail.record.read_record` gives.
    trail : str
        The trail's own random name.

    Raises
    ------
    InputError
        It is no record that this trail could have written: nothing of it is handed on.
    """
    try:
        shard, number, at = document["shard"], document["number"], document["at"]
        if not (type(shard) is int and type(number) is int and 0 <= shard < 1 << 20 and number >= 0):
            raise ValueError("no place")
        if not (_TRAIL.fullmatch(trail) and _AT.fullmatch(at)):
            raise ValueError("no name, or no time")
        datetime.fromisoformat(at)
        entry, leaf = entry_of(document), leaf_hash(canonical_record(document)).hex()
    except (InputError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            "A record is none that the trail could have written, and was not handed on: run primum trail "
            "verify --deep."
        ) from error
    event, more, action, lifecycle = _classified(entry)
    outcome = "4" if entry.kind == "refusal" else _OUTCOMES.get(str(entry.details.get("status")), "0")
    return Audited(trail, shard, number, at, leaf, entry, event, more, action, outcome, lifecycle)


def _classified(entry: Entry) -> tuple[Code, Code | None, str, str]:
    """Give event, type, action and life cycle; DICOM allows each event certain actions only."""
    kind = entry.kind
    if kind == "export":
        return _EXPORT, None, "R", _EXPORTED
    if kind in _ON_PATIENTS and entry.patient is not None:
        action, lifecycle = _ON_PATIENTS[kind]
        return _PATIENT_RECORD, None, action, lifecycle
    if kind == "access":
        return _LOG_USED, None, "R", _USE
    if kind in _ALERTS:
        return _ALERT, _ALERTS[kind], "E", ""
    return _ACTIVITY, None, "E", _ERASED if kind in ("erasure", "retention") else ""

"""What one FHIR R4 resource says happened: the patient, and events with code, time and number.

The format: HL7 FHIR R4 (4.0.1), https://hl7.org/fhir/R4/.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from primum.records.codings import coded, preference, system_name

Resource = Mapping[str, Any]
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_DATE = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(?:Z|[+-]\d\d:\d\d)?)?)?)?",
    re.ASCII,
)
_PATIENT = re.compile(r"(?:(?:.*/)?Patient/|urn:uuid:)([^/]+)(?:/_history/.*)?")
_SOMEONE_ELSE = re.compile(r"(?:.*/)?(?:Group|Device|Location)/[^/]+")
_LEAST = (1, 1, 1, 0, 0, 0)
_GENDERS = {"male": "GENDER//M", "female": "GENDER//F"}
# Recorded by mistake, or recorded as not having happened.
_DROPPED = {"entered-in-error", "refuted", "cancelled", "not-done", "not-taken"}


class Malformed(Exception):
    """An element that is not as R4 writes it; holds its name, never what it says."""


@dataclass(frozen=True)
class _Rule:
    """Where a resource keeps its code and its time; the first element that is there counts."""

    code: str
    times: tuple[str, ...]
    patient: str = "subject"
    prefix: str = ""


_RULES = {
    "AllergyIntolerance": _Rule("code", ("onset", "recordedDate"), "patient", "ALLERGY//"),
    "Condition": _Rule("code", ("onset", "recordedDate")),
    "Encounter": _Rule("class", ("period",), prefix="VISIT//"),
    "Immunization": _Rule("vaccineCode", ("occurrence", "recorded"), "patient"),
    "MedicationAdministration": _Rule("medication", ("effective",)),
    "MedicationRequest": _Rule("medication", ("authoredOn",)),
    "MedicationStatement": _Rule("medication", ("effective", "dateAsserted")),
    "Observation": _Rule("code", ("effective", "issued")),
    "Procedure": _Rule("code", ("performed",)),
}
EVENT_TYPES = tuple(_RULES)


@dataclass(frozen=True)
class Event:
    """One event; without `time` it is static."""

    code: str
    time: datetime | None
    value: float | None = None


def identity(resource: Resource) -> str:
    """Return the logical id.

    Raises
    ------
    Malformed
        There is none, or it is not one.
    """
    return _checked_id(_member(resource, "id", str) or "", "id")


def patient_of(resource: Resource, names: Mapping[str, str]) -> str | None:
    """Return the logical id of the patient of an event; None where it is about nobody, a group or a device.

    Parameters
    ----------
    resource : mapping
    names : mapping of str to str
        Full URLs of a bundle and the ids they stand for.

    Raises
    ------
    Malformed
        The reference names nobody.
    """
    field = _RULES[resource["resourceType"]].patient
    reference = _member(_member(resource, field, dict) or {}, "reference", str)
    if reference is None or (reference not in names and _SOMEONE_ELSE.fullmatch(reference)):
        return None
    match = _PATIENT.fullmatch(reference)
    return _checked_id(names.get(reference) or (match[1] if match else ""), field)


def person(resource: Resource) -> Iterator[Event]:
    """Yield gender and site without time, birth, and death if it has a date.

    Raises
    ------
    Malformed
        An element is not as R4 writes it.
    """
    if (gender := _GENDERS.get(_member(resource, "gender", str) or "")) is not None:
        yield Event(gender, None)
    site = _member(_member(resource, "managingOrganization", dict) or {}, "reference", str)
    if site:
        yield Event(f"SITE//{_text(_tail(site), 'managingOrganization')}", None)
    for field, code in (("birthDate", "MEDS_BIRTH"), ("deceasedDateTime", "MEDS_DEATH")):
        written = _member(resource, field, str)
        if written is not None:
            yield Event(code, _time(written, field))


def events_of(
    resource: Resource, medications: Mapping[str, str], names: Mapping[str, str]
) -> Iterator[Event]:
    """Yield the events of a resource of ``EVENT_TYPES``; none if it was entered in error or did not happen.

    Parameters
    ----------
    resource : mapping
    medications : mapping of str to str
        Code of each Medication resource, by logical id.
    names : mapping of str to str
        Full URLs of a bundle and the ids they stand for.

    Raises
    ------
    Malformed
        An element is not as R4 writes it.
    """
    kind = resource["resourceType"]
    rule = _RULES[kind]
    if _statuses(resource) & _DROPPED:
        return
    time = next(filter(None, (_when(resource, field) for field in rule.times)), None)
    if rule.code == "medication":
        code = _medication(resource, medications, names)
    elif rule.code == "class":
        code = _text(_member(_member(resource, "class", dict) or {}, "code", str), "class")
    else:
        code = concept_code(resource, rule.code)
    yield _valued(resource, rule.prefix + (code or f"{kind}//UNCODED"), time)
    for part in _member(resource, "component", list) or ():
        yield _valued(part, concept_code(part, "code") or f"{kind}//UNCODED", time)


def concept_code(resource: Resource, field: str) -> str | None:
    """Return the MEDS code of the preferred coding of a CodeableConcept; None where there is no coding.

    Raises
    ------
    Malformed
        The element is not as R4 writes it.
    """
    best: tuple[int, str] | None = None
    for coding in _member(_member(resource, field, dict) or {}, "coding", list) or ():
        code = _text(_member(coding, "code", str), field)
        if code:
            system = system_name(_text(_member(coding, "system", str), field) or "")
            if best is None or preference(system) < best[0]:
                best = preference(system), coded(system, code)
    return best[1] if best else None


def _medication(resource: Resource, medications: Mapping[str, str], names: Mapping[str, str]) -> str | None:
    """Code of a drug: in place, contained in the resource, or in a Medication resource."""
    reference = _member(_member(resource, "medicationReference", dict) or {}, "reference", str)
    if reference is None:
        return concept_code(resource, "medicationCodeableConcept")
    for inner in _member(resource, "contained", list) or ():
        if reference == f"#{_member(inner, 'id', str)}":
            return concept_code(inner, "code")
    return medications.get(names.get(reference) or _tail(reference))


def _valued(resource: Resource, code: str, time: datetime | None) -> Event:
    """Add a number as a number, and a coded answer to the code."""
    number = _member(_member(resource, "valueQuantity", dict) or {}, "value", (int, float))
    number = number if number is not None else _member(resource, "valueInteger", int)
    try:
        value = None if number is None else float(number)
    except OverflowError as error:
        raise Malformed("value") from error
    if isinstance(number, bool) or (value is not None and not math.isfinite(value)):
        raise Malformed("value")
    answer = concept_code(resource, "valueCodeableConcept")
    return Event(f"{code}//{answer}" if answer else code, time, value)


def _statuses(resource: Resource) -> set[str]:
    found = {_member(resource, "status", str) or ""}
    for coding in _member(_member(resource, "verificationStatus", dict) or {}, "coding", list) or ():
        found.add(_member(coding, "code", str) or "")
    return found


def _when(resource: Resource, field: str) -> datetime | None:
    """Start of ``field``, ``fieldDateTime``, ``fieldInstant`` or ``fieldPeriod``."""
    for name in (field, f"{field}DateTime", f"{field}Instant", f"{field}Period"):
        found = _member(resource, name, (str, dict))
        written = _member(found, "start", str) if isinstance(found, dict) else found
        if written is not None:
            return _time(written, field)
    return None


def _time(written: str, field: str) -> datetime:
    """Wall clock of a date, a dateTime or an instant; what is left out is the earliest it can be."""
    match = _DATE.fullmatch(written)
    if match is None:
        raise Malformed(field)
    year, month, day, hour, minute, second = (
        int(part or least) for part, least in zip(match.groups()[:6], _LEAST, strict=True)
    )
    microsecond = int((match[7] or "").ljust(6, "0")[:6])
    try:
        # FHIR allows the second 60.
        return datetime(year, month, day, hour, minute, min(second, 59), microsecond)  # noqa: DTZ001
    except ValueError as error:
        raise Malformed(field) from error


def _member(value: Any, name: str, kind: Any) -> Any:
    found = value.get(name) if isinstance(value, dict) else name
    if found is not None and not (isinstance(found, kind) and isinstance(value, dict)):
        raise Malformed(name)
    return found


def _text(written: str | None, field: str) -> str | None:
    """Refuse halves of surrogate pairs, which no file can hold."""
    try:
        (written or "").encode()
    except UnicodeEncodeError as error:
        raise Malformed(field) from error
    return written


def _tail(reference: str) -> str:
    return re.split(r"[/:]", reference)[-1]


def _checked_id(written: str, field: str) -> str:
    if not _ID.fullmatch(written):
        raise Malformed(field)
    return written

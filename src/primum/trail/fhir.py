"""Records as FHIR R4 ``AuditEvent`` resources, for an audit repository that speaks FHIR.

A patient is the random number that the trail knows, never a name or a hospital's number; the record's leaf
hash goes with it, so that each resource can be tied to the trail by an inclusion proof.

References
----------
HL7, FHIR R4 (4.0.1), AuditEvent. IHE, Basic Audit Log Patterns (BALP).
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from primum.trail.audited import APPLICATION, DESTINATION, LOG_NAME, MEDIA, SOURCE, Audited, Code, audited

DICOM: Final = "http://dicom.nema.org/resources/ontology/DCM"
_TERMINOLOGY: Final = "http://terminology.hl7.org/CodeSystem/"
KINDS_SYSTEM: Final = "urn:primum:trail:kind"
PATIENT_SYSTEM: Final = "urn:primum:trail:patient"
MODEL_SYSTEM: Final = "urn:primum:manifest"
ACCOUNT_SYSTEM: Final = "urn:primum:trail:account"
RECORD_SYSTEM: Final = "urn:primum:trail:record"
TRAIL_SYSTEM: Final = "urn:primum:trail"
_PERSON, _THING = ("1", "Person"), ("2", "System Object")
_PATIENT, _RESOURCE, _SECURITY = ("1", "Patient"), ("4", "Domain Resource"), ("13", "Security Resource")


def audit_event(document: dict[str, Any], *, trail: str, site: str | None = None) -> dict[str, Any]:
    """Write a record as an AuditEvent.

    Parameters
    ----------
    document : dict
        What :func:`primum.trail.record.read_record` gives.
    trail : str
        The trail's own random name.
    site : str or None
        The hospital, as the repository knows it.

    Raises
    ------
    InputError
        It is no record that the trail could have written.
    """
    seen = audited(document, trail=trail)
    details, source = seen.entry.details, {"observer": _named(TRAIL_SYSTEM, trail, "Device")}
    resource: dict[str, Any] = {
        "resourceType": "AuditEvent",
        # The same record always has the same id: handing it over twice makes no second event.
        "id": f"{trail}-{seen.shard}-{seen.number}",
        "type": _coding(DICOM, *seen.event),
        "subtype": [{"system": KINDS_SYSTEM, "code": seen.entry.kind}],
        "action": seen.action,
        "recorded": seen.at,
        "outcome": seen.outcome,
        "agent": _agents(seen),
        "source": source
        | {"type": [_coding(f"{_TERMINOLOGY}security-source-type", "4", "Application Server")]},
        "entity": _entities(seen),
    }
    if seen.more is not None:
        resource["subtype"].append(_coding(DICOM, *seen.more))
    if seen.outcome != "0" and "reason" in details:
        resource["outcomeDesc"] = str(details["reason"])
    if "purpose" in details:
        resource["purposeOfEvent"] = [{"text": str(details["purpose"])}]
    if site is not None:
        resource["source"]["site"] = site
    return resource


def audit_events(
    documents: Iterable[dict[str, Any]], *, trail: str, site: str | None = None
) -> Iterator[bytes]:
    """Write records as NDJSON, one AuditEvent a line, its end included.

    Raises
    ------
    InputError
        One is no record that the trail could have written.
    """
    for one in documents:
        resource = audit_event(one, trail=trail, site=site)
        yield json.dumps(resource, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


def _agents(seen: Audited) -> list[dict[str, Any]]:
    """Give who did it, for whom, to whom, and the model where it ran."""
    entry = seen.entry
    doer: dict[str, Any] = {"who": _named(ACCOUNT_SYSTEM, entry.by), "requestor": True}
    if entry.kind == "export":
        doer = {"type": _concept(SOURCE)} | doer
    found = [doer]
    if entry.on_behalf_of is not None:
        whom = {"role": [{"text": "on behalf of"}], "who": _named(ACCOUNT_SYSTEM, entry.on_behalf_of)}
        found.append(whom | {"requestor": False})
    if entry.model is not None and seen.ran:
        who = _named(MODEL_SYSTEM, entry.model, "Device")
        found.append({"type": _concept(APPLICATION), "who": who, "requestor": False})
    if seen.recipient is not None:
        place = {"type": _concept(DESTINATION), "role": [_concept(MEDIA)]}
        found.append(place | {"who": _named(ACCOUNT_SYSTEM, seen.recipient), "requestor": False})
    return found


def _entities(seen: Audited) -> list[dict[str, Any]]:
    """Give the patient, the model, and the record itself with its details."""
    entry, found = seen.entry, []
    if entry.patient is not None:
        found.append(_entity(_named(PATIENT_SYSTEM, entry.patient, "Patient"), _PERSON, _PATIENT))
        if seen.lifecycle:
            system = f"{_TERMINOLOGY}dicom-audit-lifecycle"
            found[0]["lifecycle"] = {"system": system, "code": seen.lifecycle}
    if entry.model is not None:
        found.append(_entity(_named(MODEL_SYSTEM, entry.model, "Device"), _THING, _RESOURCE))
    record = _entity(_named(RECORD_SYSTEM, seen.place), _THING, _SECURITY)
    detail = [{"type": name, "valueString": value} for name, value in seen.facts()]
    return [*found, record | {"name": LOG_NAME, "detail": detail}]


def _entity(what: dict[str, Any], kind: tuple[str, str], role: tuple[str, str]) -> dict[str, Any]:
    return {
        "what": what,
        "type": _coding(f"{_TERMINOLOGY}audit-entity-type", *kind),
        "role": _coding(f"{_TERMINOLOGY}object-role", *role),
    }


def _named(system: str, value: str, kind: str | None = None) -> dict[str, Any]:
    """Refer to something by what we call it: there is no resource of it to point to."""
    identifier = {"identifier": {"system": system, "value": value}}
    return identifier if kind is None else {"type": kind} | identifier


def _coding(system: str, code: str, meaning: str) -> dict[str, str]:
    return {"system": system, "code": code, "display": meaning}


def _concept(code: Code) -> dict[str, Any]:
    return {"coding": [_coding(DICOM, *code)]}

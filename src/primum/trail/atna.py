"""Records as DICOM audit messages in XML, which IHE ATNA repositories take over syslog (ITI-20).

References
----------
DICOM PS3.15, A.5 (message format) and A.6 (transmission over SYSLOG-TLS). IHE IT Infrastructure Technical
Framework, volume 2, 3.20 (Record Audit Event).
"""

from base64 import b64encode
from collections.abc import Iterable, Iterator
from typing import Any, Final
from xml.etree import ElementTree

from primum.trail.audited import APPLICATION, DESTINATION, LOG_NAME, MEDIA, SOURCE, Audited, Code, audited
from primum.trail.syslog import SyslogSender

# PS3.15, A.6: the identifier of messages of this schema ("IHE+RFC-3881" is that of the older one), and
# facility 10 (security), severity 5 (notice).
MESSAGE_ID: Final = "DICOM+RFC3881"
PRIORITY: Final = 10 * 8 + 5
_PATIENT: Final = Code("2", "Patient Number")
_URI: Final = Code("12", "URI")
_MODEL: Final = Code("manifest", "Digest of a model's manifest")


def audit_message(document: dict[str, Any], *, trail: str, site: str | None = None) -> bytes:
    """Write a record as one ``AuditMessage``, UTF-8 without an XML declaration or a line's end.

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
    message = ElementTree.Element("AuditMessage")
    facts = {
        "EventActionCode": seen.action,
        "EventDateTime": seen.at,
        "EventOutcomeIndicator": seen.outcome,
    }
    event = ElementTree.SubElement(message, "EventIdentification", facts)
    _coded(event, "EventID", seen.event)
    if seen.more is not None:
        _coded(event, "EventTypeCode", seen.more)
    _coded(event, "EventTypeCode", Code(seen.entry.kind, seen.entry.kind), system="Primum")
    if seen.outcome != "0" and "reason" in seen.entry.details:
        ElementTree.SubElement(event, "EventOutcomeDescription").text = str(seen.entry.details["reason"])
    _participants(message, seen)
    source = {"AuditSourceID": trail} | ({"AuditEnterpriseSiteID": site} if site is not None else {})
    told = ElementTree.SubElement(message, "AuditSourceIdentification", source)
    # An application server; of DICOM's own list, which needs no name of a code system.
    ElementTree.SubElement(told, "AuditSourceTypeCode", {"csd-code": "4"})
    _objects(message, seen)
    return bytes(ElementTree.tostring(message, encoding="utf-8", xml_declaration=False))


def audit_messages(
    documents: Iterable[dict[str, Any]], *, trail: str, site: str | None = None
) -> Iterator[bytes]:
    """Write records as audit messages.

    Raises
    ------
    InputError
        One is no record that the trail could have written.
    """
    for one in documents:
        yield audit_message(one, trail=trail, site=site)


def send_messages(
    sender: SyslogSender, documents: Iterable[dict[str, Any]], *, trail: str, site: str | None = None
) -> int:
    """Send records to an audit record repository and return how many (ITI-20).

    Raises
    ------
    MachineError
        The repository cannot be reached or trusted.
    InputError
        One is no record that the trail could have written; those before it were sent.
    """
    messages = audit_messages(documents, trail=trail, site=site)
    return sender.send(messages, message_id=MESSAGE_ID, priority=PRIORITY)


def _participants(message: ElementTree.Element, seen: Audited) -> None:
    """Add who did it, for whom, to whom, and the model where it ran."""
    entry = seen.entry
    _participant(message, entry.by, *([SOURCE] if entry.kind == "export" else []), asked=True)
    if entry.on_behalf_of is not None:
        _participant(message, entry.on_behalf_of)
    if entry.model is not None and seen.ran:
        _participant(message, entry.model, APPLICATION)
    if seen.recipient is not None:
        _participant(message, seen.recipient, DESTINATION, MEDIA)


def _participant(message: ElementTree.Element, name: str, *roles: Code, asked: bool = False) -> None:
    facts = {"UserID": name, "UserIsRequestor": "true" if asked else "false"}
    participant = ElementTree.SubElement(message, "ActiveParticipant", facts)
    for one in roles:
        _coded(participant, "RoleIDCode", one)


def _objects(message: ElementTree.Element, seen: Audited) -> None:
    """Add the patient, the model, and the record itself with its details."""
    entry = seen.entry
    if entry.patient is not None:
        cycle = {"ParticipantObjectDataLifeCycle": seen.lifecycle} if seen.lifecycle else {}
        patient = _object(message, entry.patient, "1", "1", **cycle)
        _coded(patient, "ParticipantObjectIDTypeCode", _PATIENT, system="RFC-3881")
        # The schema wants a name; the trail knows none.
        ElementTree.SubElement(patient, "ParticipantObjectName").text = entry.patient
    if entry.model is not None:
        model = _object(message, entry.model, "2", "4")
        _coded(model, "ParticipantObjectIDTypeCode", _MODEL, system="Primum")
        ElementTree.SubElement(model, "ParticipantObjectName").text = entry.model
    record = _object(message, f"urn:primum:trail:record:{seen.place}", "2", "13")
    _coded(record, "ParticipantObjectIDTypeCode", _URI, system="RFC-3881")
    ElementTree.SubElement(record, "ParticipantObjectName").text = LOG_NAME
    for name, value in seen.facts():
        facts = {"type": name, "value": b64encode(value.encode()).decode()}
        ElementTree.SubElement(record, "ParticipantObjectDetail", facts)


def _object(
    message: ElementTree.Element, name: str, kind: str, role: str, **more: str
) -> ElementTree.Element:
    facts = {
        "ParticipantObjectID": name,
        "ParticipantObjectTypeCode": kind,
        "ParticipantObjectTypeCodeRole": role,
    }
    return ElementTree.SubElement(message, "ParticipantObjectIdentification", facts | more)


def _coded(parent: ElementTree.Element, name: str, code: Code, *, system: str = "DCM") -> None:
    facts = {"csd-code": code.code, "codeSystemName": system, "originalText": code.meaning}
    ElementTree.SubElement(parent, name, facts)

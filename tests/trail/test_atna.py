"""Records as DICOM audit messages: each against the schema of PS3.15, A.5.1, read attribute by attribute."""

from base64 import b64decode
from collections.abc import Callable
from xml.etree import ElementTree

import pytest
from tests.trail.documents import HOSTILE, TRAIL, document, entry

from primum.errors import InputError
from primum.trail.atna import MESSAGE_ID, PRIORITY, audit_message, audit_messages
from primum.trail.entry import KINDS, Entry
from primum.trail.fhir import audit_event

Element = ElementTree.Element
CODED = {"csd-code", "codeSystemName", "originalText"}
# Of each element: attributes it must have, and may have; and children in their order, with how many of each.
NEEDED = {
    "EventIdentification": {"EventDateTime", "EventOutcomeIndicator"},
    "ActiveParticipant": {"UserID", "UserIsRequestor"},
    "AuditSourceIdentification": {"AuditSourceID"},
    "ParticipantObjectIdentification": {"ParticipantObjectID"},
    "ParticipantObjectDetail": {"type", "value"},
    "AuditSourceTypeCode": {"csd-code"},
}
ALLOWED = {
    "EventIdentification": {"EventActionCode"},
    "ActiveParticipant": {
        "AlternativeUserID", "UserName", "NetworkAccessPointID", "NetworkAccessPointTypeCode",
    },
    "AuditSourceIdentification": {"AuditEnterpriseSiteID"},
    "ParticipantObjectIdentification": {
        "ParticipantObjectTypeCode", "ParticipantObjectTypeCodeRole", "ParticipantObjectDataLifeCycle",
        "ParticipantObjectSensitivity",
    },
}  # fmt: skip
CHILDREN: dict[str, list[tuple[str, int, int]]] = {
    "AuditMessage": [
        ("EventIdentification", 1, 1),
        ("ActiveParticipant", 1, 99),
        ("AuditSourceIdentification", 1, 1),
        ("ParticipantObjectIdentification", 0, 99),
    ],
    "EventIdentification": [("EventID", 1, 1), ("EventTypeCode", 0, 99), ("EventOutcomeDescription", 0, 1)],
    "ActiveParticipant": [("RoleIDCode", 0, 99)],
    "AuditSourceIdentification": [("AuditSourceTypeCode", 0, 99)],
    "ParticipantObjectIdentification": [
        ("ParticipantObjectIDTypeCode", 1, 1),
        ("ParticipantObjectName", 1, 1),
        ("ParticipantObjectDetail", 0, 99),
    ],
}
TEXTS = {"ParticipantObjectName", "EventOutcomeDescription"}
WORDS: dict[str, Callable[[str], bool]] = {
    "EventActionCode": "CRUDE".__contains__,
    "EventOutcomeIndicator": {"0", "4", "8", "12"}.__contains__,
    "UserIsRequestor": {"true", "false"}.__contains__,
    "ParticipantObjectTypeCode": {"1", "2", "3", "4"}.__contains__,
    "ParticipantObjectTypeCodeRole": {str(one) for one in range(1, 27)}.__contains__,
    "ParticipantObjectDataLifeCycle": {str(one) for one in range(1, 16)}.__contains__,
    "value": lambda word: bool(b64decode(word, validate=True)),
}


def require_valid(element: Element) -> None:
    name = element.tag
    coded = name == "EventID" or (name.endswith("Code") and name != "AuditSourceTypeCode")
    needed = CODED if coded else NEEDED.get(name, set())
    assert needed <= set(element.attrib) <= needed | ALLOWED.get(name, set())
    for attribute, word in element.attrib.items():
        assert word and WORDS.get(attribute, bool)(word), (name, attribute)
    assert bool(element.text) == (name in TEXTS)
    order = [child.tag for child in element]
    rules = CHILDREN.get(name, [])
    assert order == [one for tag, _, _ in rules for one in order if one == tag]
    assert all(least <= order.count(tag) <= most for tag, least, most in rules)
    for child in element:
        require_valid(child)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_follows_the_schema(kind: str, seed: int) -> None:
    one = entry(kind, seed=seed, patient=seed % 2 == 0)
    line = audit_message(document(one), trail=TRAIL, site="north")
    assert b"\n" not in line and len(line) < 32_768
    message = ElementTree.fromstring(line)
    assert message.tag == "AuditMessage"
    require_valid(message)
    asked = [
        who.get("UserID") for who in message.iter("ActiveParticipant") if who.get("UserIsRequestor") == "true"
    ]
    assert asked == [one.by]
    patients = [
        what.get("ParticipantObjectID")
        for what in message.iter("ParticipantObjectIdentification")
        if (what.get("ParticipantObjectTypeCode"), what.get("ParticipantObjectTypeCodeRole")) == ("1", "1")
    ]
    assert patients == ([one.patient] if one.patient else [])


def test_the_schema_of_this_test_refuses_other_messages() -> None:
    spoilings: tuple[Callable[[Element], object], ...] = (
        lambda message: message.remove(message[1]),
        lambda message: message[0].set("EventOutcomeIndicator", "1"),
        lambda message: message[-1].set("ParticipantObjectTypeCodeRole", "27"),
        lambda message: message[-1].remove(message[-1][1]),
        lambda message: message.append(message[0]),
        lambda message: message[0][0].attrib.pop("originalText"),
        lambda message: message[0].set("Patient", "x"),
    )
    for spoilt in spoilings:
        message = ElementTree.fromstring(audit_message(document(Entry("approval", "dr.a")), trail=TRAIL))
        require_valid(message)
        spoilt(message)
        with pytest.raises(AssertionError):
            require_valid(message)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_it_says_the_same_as_fhir(kind: str) -> None:
    kept = document(entry(kind, seed=9))
    event, found = audit_event(kept, trail=TRAIL), ElementTree.fromstring(audit_message(kept, trail=TRAIL))
    identification = found[0]
    assert identification[0].get("csd-code") == event["type"]["code"]
    assert identification.get("EventActionCode") == event["action"]
    assert identification.get("EventDateTime") == event["recorded"]
    assert identification.get("EventOutcomeIndicator") == event["outcome"]
    kinds = {one.get("csd-code") for one in identification.iter("EventTypeCode")}
    assert kinds == {one["code"] for one in event["subtype"]}
    who = [one.get("UserID") for one in found.iter("ActiveParticipant")]
    assert who == [one["who"]["identifier"]["value"] for one in event["agent"]]
    details = [
        (one.get("type"), b64decode(one.get("value", "")).decode())
        for one in found.iter("ParticipantObjectDetail")
    ]
    assert details == [(one["type"], one["valueString"]) for one in event["entity"][-1]["detail"]]


def test_why_it_ended_is_said() -> None:
    refused = Entry("refusal", "gateway", patient="ab" * 16, details={"reason": "consent"})
    message = ElementTree.fromstring(next(audit_messages([document(refused)], trail=TRAIL)))
    assert message.findtext("EventIdentification/EventOutcomeDescription") == "consent"


def test_the_identifier_is_that_of_the_schema() -> None:
    # PS3.15, A.6: facility 10, severity 5, so that most messages begin with <85>.
    assert (MESSAGE_ID, PRIORITY) == ("DICOM+RFC3881", 85)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_characters_do_not_pass(hostile: str) -> None:
    kept = document(entry("review"))
    for changed in ({"by": hostile}, {"details": {"reason": hostile}}, {"details": {hostile: "x"}}):
        with pytest.raises(InputError):
            audit_message(kept | changed, trail=TRAIL)


def test_the_name_of_a_site_is_escaped() -> None:
    name = 'A & B <north> "Ø"'
    line = audit_message(document(entry("review")), trail=TRAIL, site=name)
    source = ElementTree.fromstring(line).find("AuditSourceIdentification")
    assert source is not None and source.get("AuditEnterpriseSiteID") == name

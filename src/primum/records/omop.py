"""OMOP CDM 5.4 tables as MEDS histories; ``docs/records.md`` says which rule gives which code.

The model: OHDSI, OMOP Common Data Model v5.4, https://ohdsi.github.io/CommonDataModel/cdm54.html.
"""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from primum.errors import RecordsError
from primum.records.codings import coded, is_classification, system_name
from primum.records.converted import EVENT, ConvertedFolder, Shards, read_splits, splits_file
from primum.records.families import BIRTH_CODE, BoolArray
from primum.records.omop_archive import unpack
from primum.records.ragged import IntArray
from primum.records.tables import Kind, read_batches, table_files

DEATH_CODE = "MEDS_DEATH"
ARCHIVES = (".tar.gz", ".tgz")
_MALE, _FEMALE = 8507, 8532


@dataclass(frozen=True)
class _Table:
    """Columns of an event table: its concept, as the standard and the source have it, and its start."""

    concept: str
    source: str
    date: str


_EVENTS = {
    "visit_occurrence": _Table("visit_concept_id", "visit_source_concept_id", "visit_start_date"),
    "condition_occurrence": _Table(
        "condition_concept_id", "condition_source_concept_id", "condition_start_date"
    ),
    "drug_exposure": _Table("drug_concept_id", "drug_source_concept_id", "drug_exposure_start_date"),
    "procedure_occurrence": _Table("procedure_concept_id", "procedure_source_concept_id", "procedure_date"),
    "measurement": _Table("measurement_concept_id", "measurement_source_concept_id", "measurement_date"),
    "observation": _Table("observation_concept_id", "observation_source_concept_id", "observation_date"),
}
_TABLES = ("person", *_EVENTS, "death", "concept")
_OPTIONAL = ("death", "concept")
_VALUES = {"value_as_number": Kind.NUMBER, "value_as_concept_id": Kind.ID}
_PERSON = {"person_id": Kind.ID, "gender_concept_id": Kind.ID, "year_of_birth": Kind.ID}
_PERSON_MORE = {
    "month_of_birth": Kind.ID,
    "day_of_birth": Kind.ID,
    "birth_datetime": Kind.TIME,
    "race_concept_id": Kind.ID,
    "ethnicity_concept_id": Kind.ID,
    "care_site_id": Kind.ID,
}


def is_omop(path: Path) -> bool:
    """Tell whether this is an archive, or a folder with a person table."""
    return path.name.lower().endswith(ARCHIVES) or (
        path.is_dir() and any(file.name.lower().startswith("person.") for file in path.iterdir())
    )


def open_omop(path: Path, *, show_ids: bool = False) -> ConvertedFolder:
    """Open OMOP tables: a folder, or a ``.tar.gz`` of one.

    Splits come from ``subject_splits`` (subject_id, split) beside the tables; without it everyone is in
    ``train``, because only the user knows who trained the model.

    Parameters
    ----------
    path : Path
    show_ids : bool
        Whether a sentence about a bad row may name the person.

    Raises
    ------
    RecordsError
        At first use: a table or column that is missing, or a cell that breaks the format.
    """
    if not path.is_dir():
        return ConvertedFolder(path, (path,), partial(_convert_archive, path, show_ids=show_ids))
    sources = tuple(sorted((*table_files(path, _TABLES).values(), *splits_file(path))))
    return ConvertedFolder(path, sources, partial(_convert, path, show_ids=show_ids))


def _convert_archive(path: Path, into: Path, *, show_ids: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="primum-") as private:
        unpack(path, Path(private), tables=(*_TABLES, "subject_splits"))
        _convert(Path(private), into, show_ids=show_ids, name=str(path))


def _convert(path: Path, into: Path, *, show_ids: bool, name: str = "") -> None:
    files = table_files(path, _TABLES)
    for table in _TABLES:
        if table not in files and table not in _OPTIONAL:
            raise RecordsError(
                "{path} has no table {table}: export it as {table}.csv, .tsv or .parquet, with a header "
                "alone if it is empty.",
                path=name or str(path),
                table=table,
            )
    concepts = _concepts(files)
    people = _people(files["person"], show_ids=show_ids)
    subject_ids = people["subject_id"].to_numpy()
    splits = read_splits(splits_file(path), subject_ids, lambda ids: ids.cast(pl.Int64, strict=False))
    shards = Shards(into, subject_ids, splits)
    for events in _described(people, concepts):
        shards.add(events)
    for table, columns in _EVENTS.items():
        for first, batch in _event_batches(files[table], columns):
            _check_people(batch, subject_ids, files[table], first, show_ids=show_ids)
            shards.add(_events(batch, concepts))
    if "death" in files:
        wanted = {"person_id": Kind.ID, "death_date": Kind.TIME}
        for first, batch in read_batches(files["death"], wanted, optional={"death_datetime": Kind.TIME}):
            batch = batch.rename({"person_id": "subject_id"})
            _check_people(batch, subject_ids, files["death"], first, show_ids=show_ids)
            shards.add(_rows(batch, pl.lit(DEATH_CODE), pl.coalesce("death_datetime", "death_date")))
    shards.close()


def _rows(frame: pl.DataFrame, code: pl.Expr, time: pl.Expr, value: pl.Expr | None = None) -> pl.DataFrame:
    """Columns of ``EVENT``, without the rows that have no code."""
    value = pl.lit(None) if value is None else value
    columns = frame.select("subject_id", time=time, code=code, numeric_value=value)
    return columns.filter(pl.col("code").is_not_null()).cast(EVENT)


def _event_batches(file: Path, columns: _Table) -> Iterator[tuple[int, pl.DataFrame]]:
    """Batches with the same columns for every table."""
    wanted = {"person_id": Kind.ID, columns.concept: Kind.ID, columns.date: Kind.TIME}
    optional = {columns.source: Kind.ID, f"{columns.date}time": Kind.TIME, **_VALUES}
    for first, batch in read_batches(file, wanted, optional=optional):
        yield (
            first,
            batch.select(
                subject_id="person_id",
                standard=columns.concept,
                source=columns.source,
                time=pl.coalesce(f"{columns.date}time", columns.date),
                number="value_as_number",
                answer="value_as_concept_id",
            ),
        )


def _concepts(files: Mapping[str, Path]) -> pl.DataFrame:
    """Code of each concept that the tables use: concept_id, code, and whether it is of a classification.

    A vocabulary has millions of concepts and a hospital thousands: only those that occur are kept.
    """
    kept = [pl.DataFrame(schema={"concept_id": pl.Int64, "code": pl.String, "classified": pl.Boolean})]
    if "concept" in files:
        used = _used(files)
        columns = {"concept_id": Kind.ID, "vocabulary_id": Kind.TEXT, "concept_code": Kind.TEXT}
        for _, batch in read_batches(files["concept"], columns):
            chosen = batch.filter(pl.col("concept_id").is_in(used.implode()) & (pl.col("concept_id") != 0))
            systems = [system_name(name) for name in chosen["vocabulary_id"]]
            codes = [coded(*pair) for pair in zip(systems, chosen["concept_code"], strict=True)]
            kept.append(
                pl.DataFrame(
                    {
                        "concept_id": chosen["concept_id"],
                        "code": pl.Series(codes, dtype=pl.String),
                        "classified": pl.Series(
                            [is_classification(name) for name in systems], dtype=pl.Boolean
                        ),
                    }
                )
            )
    return pl.concat(kept).unique("concept_id", keep="first", maintain_order=True)


def _used(files: Mapping[str, Path]) -> pl.Series:
    """Every concept id in the tables of events and of persons."""
    columns = {table: (one.concept, one.source, "value_as_concept_id") for table, one in _EVENTS.items()}
    columns["person"] = ("race_concept_id", "ethnicity_concept_id", "gender_concept_id")
    used = pl.Series([], dtype=pl.Int64)
    for table, names in columns.items():
        for _, batch in read_batches(files[table], {}, optional=dict.fromkeys(names, Kind.ID)):
            used = pl.concat([used, *(batch[name].unique() for name in names)]).unique()
    return used.drop_nulls()


def _events(batch: pl.DataFrame, concepts: pl.DataFrame) -> pl.DataFrame:
    """Give every event its code; ``docs/records.md`` holds the order of preference."""
    for column in ("standard", "source", "answer"):
        batch = batch.join(
            concepts.rename(
                {"concept_id": column, "code": f"{column}_code", "classified": f"{column}_classified"}
            ),
            on=column,
            how="left",
            maintain_order="left",
        )
    standard = pl.when(pl.col("standard") != 0).then("standard")
    source = pl.when(pl.col("source") != 0).then("source")
    code = pl.coalesce(
        pl.when("source_classified").then("source_code"),
        "standard_code",
        "source_code",
        pl.format("OMOP_CONCEPT//{}", pl.coalesce(standard, source, 0)),
    )
    answer = pl.when(pl.col("answer") != 0).then(
        pl.coalesce("answer_code", pl.format("OMOP_CONCEPT//{}", "answer"))
    )
    whole = pl.concat_str(code, answer, separator="//", ignore_nulls=True)
    return _rows(batch, whole, pl.col("time"), pl.col("number"))


def _people(file: Path, *, show_ids: bool) -> pl.DataFrame:
    """Everyone, sorted by id: subject_id, birth, gender, race, ethnicity, site."""
    kept = []
    seen = np.empty(0, np.int64)
    for first, batch in read_batches(file, _PERSON, optional=_PERSON_MORE):
        ids = batch["person_id"].to_numpy()
        day = (pl.col(name).fill_null(1).cast(pl.String) for name in ("month_of_birth", "day_of_birth"))
        written = pl.concat_str(pl.col("year_of_birth").cast(pl.String).str.zfill(4), *day, separator="-")
        born = written.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
        batch = batch.with_columns(birth=pl.coalesce("birth_datetime", born)).rename(
            {"person_id": "subject_id"}
        )
        again = np.isin(ids, seen) | batch["subject_id"].is_first_distinct().not_().to_numpy()
        where = partial(_where, ids, file, first, show_ids=show_ids)
        if at := where(ids < 0):
            raise RecordsError(
                "{file}, row {row}, column person_id{who}: the id is negative: number from 0.", **at
            )
        if at := where(again):
            raise RecordsError(
                "{file}, row {row}, column person_id{who}: this person is here twice: keep one.", **at
            )
        if at := where(batch["birth"].is_null().to_numpy()):
            raise RecordsError(
                "{file}, row {row}, column year_of_birth{who}: year, month and day are no date: correct "
                "them.",
                **at,
            )
        kept.append(batch)
        seen = np.concatenate([seen, ids])
    if not len(seen):
        raise RecordsError("{file} holds no person: export it with the patients.", file=file.name)
    return pl.concat(kept).sort("subject_id")


def _described(people: pl.DataFrame, concepts: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Birth, and without time who each person is."""
    yield _rows(people, pl.lit(BIRTH_CODE), pl.col("birth"))
    gender = pl.col("gender_concept_id").replace_strict(
        {_MALE: "GENDER//M", _FEMALE: "GENDER//F"}, default=None
    )
    yield _rows(people, gender, pl.lit(None))
    yield _rows(people, pl.format("SITE//{}", "care_site_id"), pl.lit(None))
    for name in ("RACE", "ETHNICITY"):
        column = f"{name.lower()}_concept_id"
        known = people.join(
            concepts.rename({"concept_id": column}), on=column, how="left", maintain_order="left"
        ).filter(pl.col(column) != 0)
        code = pl.coalesce("code", pl.format("OMOP_CONCEPT//{}", column)).str.strip_prefix(f"{name}//")
        yield _rows(known, f"{name}//" + code, pl.lit(None))


def _check_people(
    batch: pl.DataFrame, subject_ids: IntArray, file: Path, first: int, *, show_ids: bool
) -> None:
    ids = batch["subject_id"].to_numpy()
    if at := _where(ids, file, first, ~np.isin(ids, subject_ids), show_ids=show_ids):
        raise RecordsError(
            "{file}, row {row}, column person_id{who}: nobody in the person table has this id: add the "
            "person.",
            **at,
        )


def _where(ids: IntArray, file: Path, first: int, bad: BoolArray, *, show_ids: bool) -> dict[str, str | int]:
    """Name the first bad row of a batch; nothing where there is none."""
    if not bad.any():
        return {}
    row = int(np.argmax(bad))
    return {"file": file.name, "row": first + row, "who": f" [{ids[row]}]" if show_ids else ""}

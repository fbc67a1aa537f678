"""The records' front door: which format is in a folder or archive."""

from pathlib import Path

from primum.errors import RecordsError
from primum.records.converted import RecordsFolder
from primum.records.fhir import is_fhir, open_fhir
from primum.records.meds import MedsFolder
from primum.records.omop import is_omop, open_omop


def open_records(path: Path, *, show_ids: bool = False) -> RecordsFolder:
    """Open MEDS, OMOP CDM 5.4 or FHIR R4 records, whichever is there.

    A folder with ``data/`` is MEDS; one with a ``person`` table, or a ``.tar.gz``, is OMOP; one with
    ``*.ndjson`` or ``*.json`` is FHIR.

    Parameters
    ----------
    path : Path
    show_ids : bool
        Whether a sentence about a bad row may name the patient.

    Raises
    ------
    RecordsError
        Nothing of that kind is there.
    """
    if (path / "data").is_dir():
        return MedsFolder(path, show_ids=show_ids)
    if path.exists() and is_omop(path):
        return open_omop(path, show_ids=show_ids)
    if is_fhir(path):
        return open_fhir(path, show_ids=show_ids)
    raise RecordsError(
        "{path} is not a MEDS folder (data/ with parquet files in it), nor OMOP tables (person and others, "
        "or a .tar.gz of them), nor a FHIR export (*.ndjson): give one of these.",
        path=str(path),
    )

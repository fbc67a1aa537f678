"""A small parquet file that fills the memory is refused before it does, wherever one is read."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from primum.errors import ModelError, RecordsError
from primum.records.parquet_columns import room_for
from primum.records.tables import Kind, read_batches

_ROWS, _GROUPS = 1 << 22, 24
# What the readers and their libraries reserve, and half a gigabyte.
_LIMITED = """
import resource, sys
from pathlib import Path
from primum.errors import PrimumError
from primum.models.recorded import open_recorded
from primum.models.recorded_rows import rows_of
from primum.records.omop import open_omop
from primum.records.parquet_columns import read_columns
from primum.records.tables import Kind, read_batches
from primum.workflows.confidential_table import KeptTable
import numpy as np, pyarrow as pa
file = Path(sys.argv[2])
def held():
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held() + (1 << 29),) * 2)
try:
    if sys.argv[1] == "omop":
        for _ in read_batches(file, {"person_id": Kind.ID}, optional={"text": Kind.TEXT}): pass
    elif sys.argv[1] == "recorded":
        open_recorded(file.parent)
    elif sys.argv[1] == "rows":
        rows_of(file, ("subject_id", "code"), subject_ids=np.arange(3))
    elif sys.argv[1] == "confidential":
        KeptTable(file.parent, file.name)
    else:
        read_columns(file, {"subject_id": pa.int64(), "code": pa.large_string()}, name=file.name)
except PrimumError as error:
    print(type(error).__name__, error)
"""


def numbers(file: Path, *names: str) -> None:
    """A hundred million zeros in each column, told once."""
    zeros = pa.DictionaryArray.from_arrays(pa.array(np.zeros(_ROWS, np.int8)), pa.array([0]))
    table = pa.table(dict.fromkeys(names, zeros))
    with pq.ParquetWriter(file, table.schema, compression="zstd", data_page_size=1 << 30) as writer:
        for _ in range(_GROUPS):
            writer.write_table(table, row_group_size=_ROWS)


def texts(file: Path, key: str, name: str) -> None:
    """One text of a megabyte, which two hundred thousand rows repeat."""
    rows = 200_000
    told = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array(["x" * (1 << 20)]))
    pq.write_table(
        pa.table({key: np.zeros(rows, np.int64), name: told}), file, store_schema=False, compression="zstd"
    )


def list_of_numbers(file: Path, key: str, name: str) -> None:
    """Two cells of eight million numbers each."""
    count = _ROWS * 2
    cell = pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), pa.array(np.zeros(count, np.float32)))
    table = pa.table({key: pa.array([1]), name: cell})
    with pq.ParquetWriter(file, table.schema, compression="zstd") as writer:
        for _ in range(2):
            writer.write_table(table)


@pytest.mark.parametrize(
    ("reader", "name", "write", "kind"),
    [
        ("omop", "person.parquet", lambda file: numbers(file, "person_id", "text"), "RecordsError"),
        ("omop", "person.parquet", lambda file: texts(file, "person_id", "text"), "RecordsError"),
        ("meds", "0.parquet", lambda file: texts(file, "subject_id", "code"), "RecordsError"),
        (
            "recorded",
            "scores.parquet",
            lambda file: list_of_numbers(file, "subject_id", "log_probs"),
            "ModelError",
        ),
        ("rows", "events.parquet", lambda file: texts(file, "subject_id", "code"), "ModelError"),
        ("confidential", "scores.parquet", lambda file: numbers(file, "member", "blind"), "InputError"),
    ],
)
def test_a_bomb_is_refused_in_half_a_gigabyte(
    tmp_path: Path, reader: str, name: str, write: Callable[[Path], None], kind: str
) -> None:
    (tmp_path / "vocab.json").write_text('{"a": 0}', encoding="utf-8")
    (tmp_path / "token_profile.json").write_text(
        '{"begin": null, "end": null, "unknown": null, "pad": null, "age_tokens": [], "age_edges_years": [], '
        '"gap_tokens": [], "gap_edges_days": []}',
        encoding="utf-8",
    )
    write(tmp_path / name)
    assert (tmp_path / name).stat().st_size < 1_000_000
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, reader, str(tmp_path / name)],
        capture_output=True,
        text=True,
        check=False,
        env={"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{kind} {name} unpacks to more than ")
    assert done.stdout.count("\n") == 1


def test_only_the_columns_that_are_read_count(tmp_path: Path) -> None:
    file = tmp_path / "table.parquet"
    list_of_numbers(file, "subject_id", "notes")
    assert room_for(file, name="table", columns=["subject_id"]).most == max(
        1 << 26, 1000 * file.stat().st_size
    )
    with pytest.raises(ModelError, match="table unpacks"):
        room_for(file, name="table", refusal=ModelError)


def test_a_table_with_a_nested_column_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "person.parquet"
    pq.write_table(pa.table({"PERSON_ID": pa.array([[1], [2]])}), file)
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda *_: pytest.fail("it was read"))
    with pytest.raises(RecordsError, match="column person_id: this is not a whole number"):
        next(read_batches(file, {"person_id": Kind.ID}))


def test_a_column_whose_name_is_no_utf_8_is_a_broken_file(tmp_path: Path) -> None:
    file = tmp_path / "embeddings.parquet"
    pq.write_table(pa.table({"embedding": [1.0]}), file)
    file.write_bytes(file.read_bytes().replace(b"embedding", b"\xb5mbedding"))
    with pytest.raises(pa.ArrowException):
        room_for(file, name=file.name)

"""Tables of typed columns: the schema, and its columns as numbers."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.records.case_builders import folder

from primum.errors import RecordsError
from primum.records.case_files import index, table
from primum.records.case_files.table import read_schema
from primum.records.case_folder import open_cases

SCHEMA = """
[Age]
kind = "number"
minimum = 0
maximum = 120
[ward]
kind = "category"
values = ["a", "b", "c"]
missing = true
[smoker]
kind = "boolean"
missing = true
sensitive = true
[lactate]
kind = "number"
missing = true
neutral = true
"""
ROWS = (
    "subject_id,split,label,age,ward,smoker,lactate,unread\n"
    "1,train,x,50,b,Yes,1.5,?\n2,tuning,y,0,,0,,?\n3,train,y,120,c,,-2,?\n"
)


def test_columns_become_numbers(tmp_path: Path) -> None:
    opened = open_cases(folder(tmp_path, ROWS, schema__toml=SCHEMA))
    (train,), (tuning,) = (list(opened.split(name).shards()) for name in ("train", "tuning"))
    nan = np.nan
    assert opened.kind == "table" and isinstance(train.inputs, np.ndarray)
    assert np.array_equal(train.inputs, [[50, 0, 1, 0, 1, 1.5], [120, 0, 0, 1, nan, -2]], equal_nan=True)
    assert np.array_equal(np.asarray(tuning.inputs), [[0, 0, 0, 0, 0, nan]], equal_nan=True)
    assert train.attributes["age"].tolist() == [50, 120] and train.inputs.dtype == np.float64


def test_parquet_with_its_own_types(tmp_path: Path) -> None:
    folder(tmp_path, "", schema__toml=SCHEMA)
    (tmp_path / "cases.csv").unlink()
    rows = {
        "label": [0, 1],
        "age": [5, 6],
        "ward": ["a", None],
        "smoker": [True, False],
        "lactate": [None, 2.5],
    }
    pl.DataFrame(rows).write_parquet(tmp_path / "cases.parquet")
    (shard,) = open_cases(tmp_path).split("train").shards()
    wanted = [[5, 1, 0, 0, 1, np.nan], [6, 0, 0, 0, 0, 2.5]]
    assert np.array_equal(np.asarray(shard.inputs), wanted, equal_nan=True)


def test_features_know_their_columns(tmp_path: Path) -> None:
    (tmp_path / "schema.toml").write_text(SCHEMA)
    age, ward, smoker, lactate = read_schema(tmp_path / "schema.toml")
    assert [(one.name, one.first, one.width) for one in (age, ward, smoker, lactate)] == [
        ("Age", 0, 1),
        ("ward", 1, 3),
        ("smoker", 4, 1),
        ("lactate", 5, 1),
    ]
    assert np.array_equal(ward.choices(), np.eye(3)) and smoker.choices().tolist() == [[0], [1]]
    assert age.choices().shape == (0, 1) and smoker.sensitive and not ward.sensitive
    assert lactate.neutral and not smoker.neutral and not ward.neutral


BAD_ROWS = {
    "1,train,x,50,d,Yes,1": "column ward: schema.toml does not allow this",
    "1,train,x,50,a,maybe,1": "column smoker: schema.toml does not allow this",
    "1,train,x,121,a,Yes,1": "column Age: schema.toml does not allow this",
    "1,train,x,,a,Yes,1": "column age: the cell is empty",
    "1,train,x,5,a,Yes,high": "column lactate: this is not a finite number",
}


@pytest.mark.parametrize("row", BAD_ROWS)
def test_bad_cells(row: str, tmp_path: Path) -> None:
    lines = ROWS.replace(",unread", "").replace(",?", "").splitlines()
    folder(tmp_path, "\n".join([*lines, row]) + "\n", schema__toml=SCHEMA)
    with pytest.raises(RecordsError, match=f"cases.csv, row 3, {BAD_ROWS[row]}"):
        list(open_cases(tmp_path).split("train").shards())


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    folder(tmp_path, "label\na\nb\n", schema__toml=SCHEMA)
    with pytest.raises(RecordsError, match=r"cases.csv has no column age"):
        list(open_cases(tmp_path).split("train").shards())


BAD_SCHEMAS = {
    "x": "is not TOML",
    "x = " + "[" * 5000: "is not TOML",
    "": "declares no feature",
    "x = 1": "feature number 0",
    "[label]\nkind = 'number'": "feature number 0",
    "[x]\nkind = 'text'": "feature number 0",
    "[x]\nkind = ['number']": "feature number 0",
    "[x]": "feature number 0",
    "[x]\nkind = 'number'\n[X]\nkind = 'number'": "feature number 1",
    "[x]\nkind = 'number'\nminimum = 2\nmaximum = 1": "feature number 0",
    "[x]\nkind = 'number'\nminimum = nan": "feature number 0",
    "[x]\nkind = 'number'\nminimum = '1'": "feature number 0",
    f"[x]\nkind = 'number'\nminimum = {'9' * 400}": "feature number 0",
    "[x]\nkind = 'boolean'\nminimum = 0": "feature number 0",
    "[x]\nkind = 'number'\nvalues = ['a', 'b']": "feature number 0",
    "[x]\nkind = 'category'": "feature number 0",
    "[x]\nkind = 'category'\nvalues = ['a']": "feature number 0",
    "[x]\nkind = 'category'\nvalues = ['a', 'a']": "feature number 0",
    "[x]\nkind = 'category'\nvalues = ['a', 1]": "feature number 0",
    "[x]\nkind = 'category'\nvalues = 'ab'": "feature number 0",
    "[x]\nkind = 'number'\nmissing = 1": "feature number 0",
    "[x]\nkind = 'number'\nmissnig = true": "feature number 0",
}


@pytest.mark.parametrize("schema", BAD_SCHEMAS)
def test_bad_schemas(schema: str, tmp_path: Path) -> None:
    folder(tmp_path, "label,x\na,1\nb,2\n", schema__toml=schema)
    with pytest.raises(RecordsError, match=r"schema.toml") as caught:
        open_cases(tmp_path)
    assert BAD_SCHEMAS[schema] in str(caught.value)


def test_shards_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path, "label,x\n" + "a,1\nb,2\n" * 50, schema__toml="[x]\nkind = 'number'")
    monkeypatch.setattr(table, "SHARD_BYTES", 8 * 30)
    shards = list(open_cases(tmp_path).split("train").shards())
    assert [len(one) for one in shards] == [30, 30, 30, 10]
    assert np.concatenate([np.asarray(one.inputs)[:, 0] for one in shards]).tolist() == [1, 2] * 50
    assert index.SHARD_BYTES == 1 << 26

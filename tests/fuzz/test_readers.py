"""Two thousand damaged inputs, each refused with a sentence or read; ``studies.fuzz`` tries 20,000."""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.fuzz import cases
from tests.fuzz.cases import Failure, outcome, pristine, read, schedule
from tests.fuzz.corpus import SECRET, Files, parquet
from tests.fuzz.readers import READERS, Reader

from primum.errors import MachineError, PrimumError, RecordsError

CASES = 2000
NAMED = {reader.name: reader for reader in READERS}


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_what_is_whole_is_accepted(reader: Reader, tmp_path: Path) -> None:
    for files in pristine(reader):
        assert read(reader, files, tmp_path, case="whole") == "accepted"


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_what_is_damaged_is_refused_or_read(reader: Reader, tmp_path: Path) -> None:
    found = [outcome(one, seed, tmp_path) for one, seed in schedule(CASES) if one is reader]
    assert {"refused", "accepted"} == set(found)


def replaced(reader: str, name: str, content: bytes) -> Files:
    return {**pristine(NAMED[reader])[0], name: content}


def refused(reader: str, name: str, content: bytes, root: Path) -> bool:
    return read(NAMED[reader], replaced(reader, name, content), root, case=name) == "refused"


@pytest.mark.parametrize("deep", [b"x = " + b"[" * 5000, b"x = " + b"{a=" * 5000])
def test_families_nested_deeper_than_python_goes(deep: bytes, tmp_path: Path) -> None:
    assert refused("families", "families.toml", deep, tmp_path)


def test_an_edge_larger_than_any_float(tmp_path: Path) -> None:
    profile = json.loads(pristine(NAMED["token profile"])[0]["token_profile.json"])
    profile["age_edges_years"][-1] = 10**400
    assert refused("token profile", "token_profile.json", json.dumps(profile).encode(), tmp_path)


def test_a_column_whose_name_is_no_text(tmp_path: Path) -> None:
    files = pristine(NAMED["MEDS"])[1]
    (name,) = files
    assert (
        read(NAMED["MEDS"], {name: files[name].replace(b"code", b"cod\xe9")}, tmp_path, case=name)
        == "refused"
    )


@pytest.mark.parametrize(("rows", "letters"), [(3 << 20, 1), (1000, 1 << 17)])
def test_more_than_a_file_can_mean(rows: int, letters: int, tmp_path: Path) -> None:
    columns = {"subject_id": np.zeros(rows, np.int64), "time": np.zeros(rows, "datetime64[us]")}
    bomb = parquet({**columns, "code": pl.Series(["A" * letters]).new_from_index(0, rows)})
    assert len(bomb) < 1 << 15
    assert read(NAMED["MEDS"], {"data/train/0.parquet": bomb}, tmp_path, case="rows") == "refused"


def test_layers_without_end(tmp_path: Path) -> None:
    config = json.loads(pristine(NAMED["model folder"])[0]["config.json"]) | {"num_hidden_layers": 10**9}
    assert refused("model folder", "config.json", json.dumps(config).encode(), tmp_path)


@pytest.mark.parametrize("file", ["scores.parquet", "curves.parquet"])
def test_a_score_whose_square_is_no_number(file: str, tmp_path: Path) -> None:
    name = f"confidential/{file}"
    rows = pl.read_parquet(pristine(NAMED["kept numbers"])[0][name])
    numbers = [one for one, kind in rows.schema.items() if kind == pl.Float64]
    huge = parquet(rows.with_columns(pl.lit(1e300).alias(numbers[-1])).to_dict(as_series=True))
    assert refused("kept numbers", name, huge, tmp_path)


# ---------------------------------------------------------------- the harness itself


def _raises(error: BaseException) -> Callable[[Path], None]:
    def reading(path: Path) -> None:
        raise error

    return reading


def _leaves(path: Path) -> None:
    tempfile.mkdtemp()


def _writes(path: Path) -> None:
    (path / "half").write_bytes(b"")


def _hangs(path: Path) -> None:
    time.sleep(5)


def _hoards(path: Path) -> None:
    bytearray(cases.MEBIBYTES << 21)


BAD: dict[str, Callable[[Path], None]] = {
    "a traceback": _raises(ValueError("x")),
    "a broken invariant": _raises(AssertionError()),
    "memory": _raises(MemoryError()),
    "a bug": _raises(PrimumError("A bug.")),
    "an id in a sentence": _raises(RecordsError("Patient {who}.", who=SECRET)),
    "a folder left": _leaves,
    "a file written": _writes,
    "a hang": _hangs,
    "a hoard": _hoards,
}


@pytest.mark.parametrize("kind", BAD)
def test_a_reader_that_fails_is_found_out(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "SECONDS", 0.2)
    if kind == "a hoard":
        peaks = iter((0, (cases.MEBIBYTES << 10) + 1, 2 << 30))
        monkeypatch.setattr(cases, "_peak", lambda: next(peaks))
        BAD[kind] = lambda path: None
    with pytest.raises(Failure):
        read(Reader(kind, tuple, BAD[kind], 1), {"a": b""}, tmp_path, case=kind)
    assert list(tmp_path.iterdir()) == []


def test_a_sentence_is_a_refusal(tmp_path: Path) -> None:
    for error in (RecordsError("No."), MachineError("No disk.")):
        assert read(Reader("x", tuple, _raises(error), 1), {"a": b""}, tmp_path, case="x") == "refused"


def test_the_same_seed_makes_the_same_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(cases, "read", lambda reader, files, root, case: seen.append((files, case)))
    for reader in (READERS[0], READERS[0], READERS[-1]):
        outcome(reader, 7, tmp_path)
    assert seen[0] == seen[1] != seen[2]


def test_every_reader_has_its_share() -> None:
    assert schedule(50) == schedule(CASES)[:50]
    turns = [reader.name for reader, _ in schedule(CASES)]
    assert min(turns.count(name) for name in NAMED) >= 30

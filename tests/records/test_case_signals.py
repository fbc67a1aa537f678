"""WFDB records: what is read, and headers that lead elsewhere or lie."""

from pathlib import Path

import numpy as np
import pytest
from tests.records.case_builders import folder, record

from primum.errors import RecordsError
from primum.records.case_folder import open_cases

SAMPLES = np.arange(-30, 30, dtype=np.int16).reshape(20, 3)


def cases(path: Path, header: str | None = None, samples: bytes | None = None) -> Path:
    made = [record(SAMPLES + i, name=name) for i, name in enumerate("ab")]
    return folder(
        path,
        "label,file\nill,e/a.hea\nwell,e/b\n",
        e___a__hea=header if header is not None else made[0][0],
        e___a__dat=samples if samples is not None else made[0][1],
        e___b__hea=made[1][0],
        e___b__dat=made[1][1],
    )


def test_records_in_physical_units(tmp_path: Path) -> None:
    opened = open_cases(cases(tmp_path))
    (shard,) = opened.split("train").shards()
    assert opened.kind == "signal" and isinstance(shard.inputs, np.ndarray)
    assert shard.inputs.shape == (2, 3, 20) and shard.inputs.dtype == np.float32
    assert np.allclose(shard.inputs[0], SAMPLES.T / 200) and np.allclose(
        shard.inputs[1], (SAMPLES.T + 1) / 200
    )


def test_the_digest_covers_the_samples(tmp_path: Path) -> None:
    before = open_cases(cases(tmp_path)).digest()
    assert before != open_cases(cases(tmp_path, samples=(SAMPLES + 5).tobytes())).digest()


HEADER = record(SAMPLES)[0]
BAD = {
    "empty": ("", "truncated, broken"),
    "text": ("hello world\n", "truncated, broken"),
    "elsewhere": (HEADER.replace("a.dat", "../out.dat"), "truncated, broken"),
    "absolute": (HEADER.replace("a.dat", "/etc/passwd"), "truncated, broken"),
    "remote": (HEADER.replace("a.dat", "s3://bucket/a.dat"), "truncated, broken"),
    "chained": (HEADER.replace("a.dat", "a.dat::zip"), "truncated, broken"),
    "link": (HEADER.replace("a.dat", "link.dat"), "names a file of samples that is not beside it"),
    "missing": (HEADER.replace("a.dat", "c.dat"), "names a file of samples that is not beside it"),
    "nothing": (HEADER.replace("a.dat", "~"), "names a file of samples that is not beside it"),
    "compressed": (
        HEADER.replace(".dat 16", ".dat 516"),
        "of several segments, without signals or compressed",
    ),
    "segments": ("a/2 3 500 40\nb 20\nb 20\n", "of several segments"),
    "without signals": ("a 0 500 20\n", "of several segments"),
    "too long": (HEADER.replace("500 20", "500 999999999999"), "truncated, broken"),
    "skewed": (HEADER.replace(".dat 16", ".dat 16:999999999"), "truncated, broken"),
    "many a frame": (HEADER.replace(".dat 16", ".dat 16x99999999"), "truncated, broken"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_headers(kind: str, tmp_path: Path) -> None:
    header, said = BAD[kind]
    cases(tmp_path / "c", header)
    (tmp_path / "out.dat").write_bytes(SAMPLES.tobytes())
    (tmp_path / "c/e/link.dat").symlink_to(tmp_path / "out.dat")
    for read in (lambda one: list(one.split("train").shards()), lambda one: one.digest()):
        with pytest.raises(RecordsError, match=said) as caught:
            read(open_cases(tmp_path / "c"))
        assert str(caught.value).startswith("cases.csv, row 0, column file: e/a.hea")


def test_samples_cut_short(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match=r"row 0, column file: e/a.hea is truncated"):
        list(open_cases(cases(tmp_path, samples=SAMPLES.tobytes()[:-30])).split("train").shards())


def test_a_gap_in_a_signal(tmp_path: Path) -> None:
    samples = SAMPLES.copy()
    samples[3, 1] = -32768
    with pytest.raises(RecordsError, match="row 0, column file: the input holds NaN"):
        list(open_cases(cases(tmp_path, samples=samples.tobytes())).split("train").shards())

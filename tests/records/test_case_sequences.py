"""Sequences in a column, in text and in FASTA."""

from pathlib import Path

import numpy as np
import pytest
from tests.records.case_builders import folder

from primum.errors import RecordsError
from primum.records.case_files import index
from primum.records.case_folder import open_cases


def test_a_column_of_sequences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "label,split,sequence\na,train,acgt\nb,tuning,A\nb,train,GG CC\na,train,N\n"
    opened = open_cases(folder(tmp_path, rows))
    (shard,) = opened.split("train").shards()
    assert opened.kind == "sequence" and isinstance(shard.inputs, tuple)
    assert [one.tobytes() for one in shard.inputs] == [b"ACGT", b"GGCC", b"N"]
    monkeypatch.setattr(index, "SHARD_BYTES", 8)
    first, second = opened.split("train").shards()
    assert isinstance(first.inputs, np.ndarray) and first.inputs.shape == (2, 4) and len(second) == 1


def test_text_and_fasta(tmp_path: Path) -> None:
    files = {"0__fasta": ">who\nAC\nGT\n", "1__txt": "ac gt\r\n", "2__fa": ">x\n>y\nA\n", "3__txt": "A1"}
    folder(tmp_path, "label,file\na,0.fasta\nb,1.txt\n", **files)
    (shard,) = open_cases(tmp_path).split("train").shards()
    assert isinstance(shard.inputs, np.ndarray)
    assert [one.tobytes() for one in shard.inputs] == [b"ACGT"] * 2
    for name, said in (("2.fa", "holds several sequences"), ("3.txt", "this is no sequence")):
        folder(tmp_path, f"label,file\na,0.fasta\nb,{name}\n")
        with pytest.raises(RecordsError, match=f"cases.csv, row 1, column file: .*{said}"):
            list(open_cases(tmp_path).split("train").shards())


@pytest.mark.parametrize("bad", ["ACG1", "é", ">x", " "])
def test_what_is_no_sequence(bad: str, tmp_path: Path) -> None:
    folder(tmp_path, f"label,sequence\na,ACGT\nb,{bad}\n")
    with pytest.raises(RecordsError, match=r"cases.csv, row 1, column sequence"):
        list(open_cases(tmp_path).split("train").shards())

"""Folders of cases: who, which split, which label, and arrays that rows count through."""

import errno
import hashlib
import os
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.records.case_builders import folder, npy, npz, picture

from primum.errors import MachineError, RecordsError
from primum.records import tables
from primum.records.case_files import arrays, index
from primum.records.case_folder import CaseFolder, is_cases, open_cases
from primum.records.cases import CaseRecords, Cases, join_cases
from primum.records.fhir import subject_id_of

FOUR = (
    "subject_id,split,label,row,sex,age,date,colour\n"
    "7,train,ill,0,F,60.5,2020-03-01,x\nP8,train,well,1,,,,y\n7,held_out,well,3,M,0,2020-03-02,\n9,tuning,ill,2,,,,\n"
)
IMAGES = np.arange(4 * 6, dtype=np.uint8).reshape(4, 2, 3)


def four(path: Path, rows: str = FOUR, images: np.ndarray = IMAGES) -> Path:
    return folder(path, rows, inputs__npy=npy(images))


def whole(opened: CaseFolder, split: str = "train") -> Cases:
    return join_cases(list(opened.split(split).shards()))


def refusal(path: Path, *, show_ids: bool = False) -> str:
    """Open and read everything; return the sentence that came of it."""
    with pytest.raises(RecordsError) as caught:
        opened = open_cases(path, show_ids=show_ids)
        opened.digest()
        for split in opened.splits():
            list(opened.split(split).shards())
    return str(caught.value)


def test_rows_of_an_array(tmp_path: Path) -> None:
    opened = open_cases(four(tmp_path))
    assert (opened.classes, opened.has_patients, opened.kind) == (("ill", "well"), True, "image")
    assert opened.splits() == ("train", "tuning", "held_out")
    train, held_out = whole(opened), whole(opened, "held_out")
    assert isinstance(opened.split("train"), CaseRecords)
    text = int.from_bytes(hashlib.sha256(b"P8").digest()[:8]) >> 1
    assert train.subject_ids.tolist() == [7, text] and train.case_ids.tolist() == [0, 1]
    assert train.labels.tolist() == [0, 1] and held_out.subject_ids.tolist() == [7]
    assert isinstance(train.inputs, np.ndarray) and np.array_equal(train.inputs, IMAGES[:2, None])
    assert isinstance(held_out.inputs, np.ndarray) and np.array_equal(held_out.inputs, IMAGES[3:, None])
    assert set(train.attributes) == {"sex", "age", "date"}
    assert train.attributes["sex"].tolist() == ["F", ""] and train.attributes["age"][0] == 60.5
    assert np.isnan(train.attributes["age"][1]) and np.isnat(train.attributes["date"][1])
    assert train.attributes["date"].dtype == "datetime64[D]" and held_out.attributes["age"].tolist() == [0]


def test_parquet_and_npz_read_the_same(tmp_path: Path) -> None:
    other = tmp_path / "parquet"
    four(other)
    pl.read_csv(other / "cases.csv", try_parse_dates=True).write_parquet(other / "cases.parquet")
    (other / "cases.csv").unlink()
    (other / "inputs.npy").unlink()
    (other / "inputs.npz").write_bytes(npz(True, inputs=np.asfortranarray(IMAGES)))
    first, second = whole(open_cases(four(tmp_path / "csv"))), whole(open_cases(other))
    assert np.array_equal(first.inputs, second.inputs) and np.array_equal(
        first.subject_ids, second.subject_ids
    )
    assert all(np.array_equal(v[:1], second.attributes[n][:1]) for n, v in first.attributes.items())


def test_without_patients_and_splits(tmp_path: Path) -> None:
    opened = open_cases(four(tmp_path, "label,row\n2,0\n10,1\n"))
    assert opened.classes == ("2", "10") and not opened.has_patients and opened.splits() == ("train",)
    assert whole(opened).subject_ids.tolist() == [0, 1]
    with pytest.raises(RecordsError, match="no split named held_out: it has train"):
        opened.split("held_out")


def test_identifiers_with_decimals_are_whole(tmp_path: Path) -> None:
    opened = open_cases(four(tmp_path, "subject_id,label,row\n7.0,a,0\n 7 ,b,1\n007,b,2\n"))
    ids = whole(opened).subject_ids
    assert ids[0] == ids[1] == 7 and ids[2] != 7


def test_the_table_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A patient, a class, a site or a column may be missing from any part of the table."""
    rows = ["7,train,b,,0", "P1,train,b,x,1", "P1,held_out,a,,2", "7.0,held_out,b,y,3"]
    written = "\n".join(["subject_id,split,label,site,row", *rows, ""])
    plain = open_cases(four(tmp_path / "plain", written)).index
    parts = four(tmp_path / "parts", written)
    pl.read_csv(parts / "cases.csv", infer_schema=False).write_parquet(parts / "cases.parquet")
    (parts / "cases.csv").unlink()
    monkeypatch.setattr(tables, "_BATCH_ROWS", 1)
    found = open_cases(parts, show_ids=True).index
    every = np.arange(4)
    for one in (plain, found):
        assert one.subject_ids.tolist() == [7, subject_id_of("P1"), subject_id_of("P1"), 7]
        assert one.splits.tolist() == [0, 0, 2, 2] and one.labels.tolist() == [1, 1, 0, 1]
        assert one.attributes["site"][every].tolist() == ["", "x", "", "y"]
    assert found.written is not None and found.written.to_list() == ["7", "P1", "P1", "7"]
    assert plain.written is None


def test_two_patients_of_one_number(tmp_path: Path) -> None:
    name = next(f"P{i}" for i in range(99) if subject_id_of(f"P{i}") < 10**18)
    rows = f"subject_id,label,row\n{name},a,0\n{subject_id_of(name)},b,1\n"
    assert "same number" in refusal(four(tmp_path, rows))


@pytest.mark.parametrize(
    ("kind", "shape", "dtype", "given"),
    [
        ("image", (3, 4, 5), "uint8", (3, 4, 5)),
        ("image", (4, 5), "uint16", (1, 4, 5)),
        ("signal", (12, 9), "float32", (12, 9)),
        ("volume", (1, 3, 4, 5), "float32", (1, 3, 4, 5)),
        ("table", (7,), "float32", (7,)),
        ("sequence", (7,), "uint8", (7,)),
    ],
)
def test_kinds_of_arrays(
    kind: str, shape: tuple[int, ...], dtype: str, given: tuple[int, ...], tmp_path: Path
) -> None:
    opened = open_cases(four(tmp_path, "label,row\na,1\nb,0\n", np.ones((2, *shape), dtype)))
    inputs = whole(opened).inputs
    assert isinstance(inputs, np.ndarray)
    assert opened.kind == kind and inputs.shape == (2, *given)
    assert inputs.dtype == ("float64" if kind == "table" else dtype)


CLASSES = {"classes__txt": "well\nill\n"}
BAD = {
    "label,row\na,0\n": "row 0|one class only",
    "label,row\na,0\n,1\n": "row 1, column label: the cell is empty",
    "label,row\n": "holds no case",
    "row\n0\n": "no column label",
    "label,row\na,0\nb,4\n": "row 1, column row: inputs.npy has 4 rows",
    "label,row\na,0\nb,-1\n": "row 1, column row: inputs.npy has 4 rows",
    "label,row\na,0\nb,0\n": "row 1, column row: this input is another case already",
    "label,row\na,0\nb,\n": "row 1, column row: the cell is empty",
    "label,row\na,0\nb,x\n": "row 1, column row: this is not a whole number",
    "label,row,file\na,0,b\nb,1,\n": "in the column file and in the column row",
    "label,split,row\na,train,0\nb,test,1\n": "row 1, column split: this is no split",
    "label,subject_id,row\na,1,0\nb,,1\n": "row 1, column subject_id: the cell is empty",
    "label,age,row\na,1,0\nb,-1,1\n": "row 1, column age: an age lies between 0 and 130",
    "label,age,row\na,131,0\nb,,1\n": "row 0, column age: an age lies between 0 and 130",
    "label,age,row\na,old,0\nb,,1\n": "row 0, column age: this is not a finite number",
    "label,date,row\na,March,0\nb,,1\n": "row 0, column date: this is not a date",
    f"label,site,row\na,{'s' * 65},0\nb,,1\n": "row 0, column site: this has more than 64 letters",
    "label\na\nb\n": "does not say where the inputs are",
}


@pytest.mark.parametrize("rows", BAD)
def test_bad_rows(rows: str, tmp_path: Path) -> None:
    said = refusal(four(tmp_path, rows))
    assert BAD[rows].rpartition("|")[2] in said and "cases.csv" in said


def test_classes_are_listed_once(tmp_path: Path) -> None:
    four(tmp_path)
    (tmp_path / "classes.txt").write_text("well\nill\nunsure\n")
    assert open_cases(tmp_path).classes == ("well", "ill", "unsure")
    for wrong, said in (
        ("well\nunsure\n", "row 0, column label: this is none"),
        ("well\nwell\nill", "not name"),
    ):
        (tmp_path / "classes.txt").write_text(wrong)
        assert said in refusal(tmp_path)


def test_only_with_leave_is_a_patient_named(tmp_path: Path) -> None:
    four(tmp_path, FOUR.replace("0,F", "5,F"))
    assert "row 0," in refusal(tmp_path) and "row 0 [7]," in refusal(tmp_path, show_ids=True)


@pytest.mark.parametrize("name", ["inputs.npy", "cases.csv"])
def test_links_are_refused(name: str, tmp_path: Path) -> None:
    four(tmp_path / "a")
    (tmp_path / "a" / name).rename(tmp_path / name)
    (tmp_path / "a" / name).symlink_to(tmp_path / name)
    assert "link" in refusal(tmp_path / "a")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        npy(np.array([{}, {}], object)),
        npy(np.zeros((0, 3), np.uint8)),
        npy(np.zeros((3, 4), ">f4")),
        npy(np.zeros(3, "U3")),
        npy(np.zeros((3, 4)))[:-1],
        npy(np.zeros((3, 4))).replace(b"(3, 4)", b"(9**9,)"),
        npy(np.zeros((3, 4))).replace(b"(3, 4)", b"(3, 9)"),
        npy(np.zeros((3, 4))).replace(b"(3, 4)", b"(3, 2)"),
        npz(inputs=np.array([{}], object)),
        npz(inputs=np.zeros((3, 4))).replace(b"(3, 4)", b"(3, 5)"),
        npz(others=np.zeros((3, 4))),
    ],
)
def test_arrays_that_are_none(content: bytes, tmp_path: Path) -> None:
    name = "inputs__npz" if content.startswith(b"PK") else "inputs__npy"
    folder(tmp_path, "label,row\na,0\nb,1\n", **{name: content})
    assert f"{name.replace('__', '.')} holds no array of numbers named inputs" in refusal(tmp_path)


def test_a_bomb_of_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "_SMALLEST_CAP", 1 << 16)
    folder(tmp_path, "label,row\na,0\nb,1\n", inputs__npz=npz(True, inputs=np.zeros((9, 1 << 14))))
    assert "inputs.npz holds no array" in refusal(tmp_path)


@pytest.mark.parametrize("kind", ["table", "image"])
def test_nan_is_for_tables(kind: str, tmp_path: Path) -> None:
    array = np.ones((3, 4) if kind == "table" else (3, 1, 2, 2))
    array[2].flat[1] = np.nan
    four(tmp_path, "label,row\na,0\nb,1\na,2\n", array)
    if kind == "table":
        assert len(whole(open_cases(tmp_path))) == 3
        array[2, 1] = np.inf
        (tmp_path / "inputs.npy").write_bytes(npy(array))
    assert "row 2, column row: the input holds NaN or infinity" in refusal(tmp_path)


def test_the_digest_covers_what_is_read(tmp_path: Path) -> None:
    four(tmp_path)
    (tmp_path / "classes.txt").write_text("ill\nwell\n")
    seen = {open_cases(tmp_path).digest()}
    (tmp_path / "unread.txt").write_text("x")
    assert {open_cases(tmp_path).digest()} == seen
    for name, content in (("inputs.npy", npy(IMAGES + 1)), ("classes.txt", b"ill\nwell\nx\n")):
        (tmp_path / name).write_bytes(content)
        seen.add(open_cases(tmp_path).digest())
    folder(tmp_path, FOUR + "\n")
    assert len(seen | {open_cases(tmp_path).digest()}) == 4


def test_shards_are_bounded_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "label,row\n" + "".join(f"{'ab'[i % 2]},{i}\n" for i in reversed(range(10)))
    four(tmp_path, rows, np.arange(1000, dtype=np.uint8).reshape(10, 1, 10, 10))
    for limit, most in ((250, 2), (50, 1), (1000, 10)):
        monkeypatch.setattr(arrays, "SHARD_BYTES", limit)
        shards = list(open_cases(tmp_path).split("train").shards())
        assert max(map(len, shards)) == most and sum(map(len, shards)) == 10
        assert np.array_equal(join_cases(shards).inputs, join_cases(shards).inputs)
        assert [int(one[0, 0, 0]) for shard in shards for one in shard.inputs] == [
            i * 100 % 256 for i in reversed(range(10))
        ]


def medmnist(**changed: np.ndarray) -> bytes:
    made = {}
    for number, split in enumerate(("train", "val", "test")):
        made[f"{split}_images"] = np.full((3, 4, 5), number, np.uint8)
        made[f"{split}_labels"] = np.array([[0], [2], [0]], np.uint8)
    return npz(True, **(made | changed))


def test_one_file_of_images(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    path.write_bytes(medmnist())
    opened = open_cases(path)
    assert is_cases(path) and opened.kind == "image" and not opened.has_patients
    assert opened.classes == ("0", "2") and opened.splits() == ("train", "tuning", "held_out")
    test = whole(opened, "held_out")
    assert test.case_ids.tolist() == [6, 7, 8] and test.labels.tolist() == [0, 1, 0]
    assert isinstance(test.inputs, np.ndarray)
    assert test.inputs.shape == (3, 1, 4, 5) and (test.inputs == 2).all()
    assert opened.digest() == open_cases(path).digest()


def test_colour_comes_first_and_volumes_stay(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    colour = np.arange(3 * 4 * 5 * 3, dtype=np.uint8).reshape(3, 4, 5, 3)
    path.write_bytes(npz(train_images=colour, train_labels=np.array([0, 1, 0])))
    assert np.array_equal(whole(open_cases(path)).inputs, colour.transpose(0, 3, 1, 2))
    path.write_bytes(npz(train_images=np.zeros((3, 4, 4, 4)), train_labels=np.array([0, 1, 0])))
    opened = open_cases(path)
    assert opened.kind == "volume" and np.shape(whole(opened).inputs) == (3, 1, 4, 4, 4)


MEDMNIST = {
    "no train_labels": medmnist(train_labels=np.array([{}], object)),
    "more labels": medmnist(val_labels=np.zeros((3, 14), np.uint8)),
    "decimals": medmnist(val_labels=np.zeros(3)),
    "fewer labels": medmnist(test_labels=np.zeros(2, np.uint8)),
    "another size": medmnist(test_images=np.zeros((3, 4, 6), np.uint8)),
    "another type": medmnist(test_images=np.zeros((3, 4, 5))),
    "rows": medmnist(train_images=np.zeros((3, 4))),
    "one class": medmnist(**{f"{one}_labels": np.zeros(3, np.uint8) for one in ("train", "val", "test")}),
    "no images": npz(a=np.zeros(3)),
    "broken": medmnist()[:-30],
}


@pytest.mark.parametrize("kind", MEDMNIST)
def test_bad_files_of_images(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    path.write_bytes(MEDMNIST[kind])
    assert "set.npz" in refusal(path)


def test_what_is_no_folder_of_cases(tmp_path: Path) -> None:
    assert not is_cases(tmp_path) and "cases.csv or cases.parquet" in refusal(tmp_path)
    assert not is_cases(tmp_path / "none.npz") and "cases.csv" in refusal(tmp_path / "none.npz")
    four(tmp_path)
    assert is_cases(tmp_path)
    (tmp_path / "cases.parquet").write_bytes(b"")
    assert "twice" in refusal(tmp_path)


FILES = {
    "../out.png": "leads out of the folder",
    "a/../a.png": "leads out of the folder",
    "/etc/passwd": "leads out of the folder",
    "link.png": "leads out of the folder",
    ".": "leads out of the folder",
    "http://host/a.png": "a.png leads|is not in the folder",
    "none.png": "is not in the folder",
    "a.gif": "ends like none of the formats",
    "twin.npy": "is signal 5×6 float64, and row 0 is image 1×5×6 uint8",
    "./a.png": "this input is another case already",
}


@pytest.mark.parametrize("name", FILES)
def test_bad_files(name: str, tmp_path: Path) -> None:
    folder(
        tmp_path / "cases",
        f"label,file\na,a.png\nb,{name}\n",
        a__png=picture(),
        a__gif=b"GIF89a",
        twin__npy=npy(np.zeros((5, 6))),
    )
    (tmp_path / "out.png").write_bytes(picture())
    os.symlink(tmp_path / "out.png", tmp_path / "cases/link.png")
    said = refusal(tmp_path / "cases")
    assert "cases.csv, row 1, column file" in said and any(one in said for one in FILES[name].split("|"))


def test_named_arrays_and_bags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bags = [np.full((count, 1, 2, 2), count, np.uint8) for count in (3, 1, 5)]
    files = {f"{i}__npz": npz(bool(i % 2), tiles=bag) for i, bag in enumerate(bags)}
    opened = open_cases(folder(tmp_path / "b", "label,file\na,0.npz\nb,1.npz\na,2.npz\n", **files))
    inputs = whole(opened).inputs
    assert opened.kind == "bag" and isinstance(inputs, tuple)
    assert all(np.array_equal(one, bag) for one, bag in zip(inputs, bags, strict=True))
    assert not any(isinstance(one, np.memmap) for one in inputs)
    monkeypatch.setattr(index, "SHARD_BYTES", 5)
    assert [len(shard) for shard in opened.split("train").shards()] == [1, 2]
    for key, shape, kind in (
        ("volume", (2, 3, 4), "volume"),
        ("signal", (12, 9), "signal"),
        ("image", (4, 5), "image"),
    ):
        one = npz(**{key: np.ones(shape, np.float32)})
        opened = open_cases(
            folder(tmp_path / key, "label,file\na,0.npz\nb,1.npz\n", **{"0__npz": one, "1__npz": one})
        )
        assert opened.kind == kind and len(whole(opened).inputs[0].shape) == len(shape) + (kind != "signal")
    several = npz(tiles=np.ones((2, 3)), image=np.ones((2, 3)))
    folder(
        tmp_path / "m",
        "label,file\na,0.npz\nb,1.npz\n",
        **{"0__npz": several, "1__npz": npz(image=np.ones(3))},
    )
    assert "one array named tiles" in refusal(tmp_path / "m")
    (tmp_path / "m/0.npz").write_bytes(npz(image=np.ones((2, 3))))
    assert "row 1, column file: 1.npz has 1 dimensions" in refusal(tmp_path / "m")


@pytest.mark.parametrize("small", [False, True])
def test_a_bag_of_a_hundred_thousand_tiles_streams(small: bool, tmp_path: Path) -> None:
    tiles = np.zeros((100_000, 1, 16, 16), np.uint8)
    tiles[::1000] = np.arange(256, dtype=np.uint8).reshape(16, 16)
    folder(tmp_path, "label,file\na,0.npz\nb,1.npz\n")
    for name in ("0.npz", "1.npz"):
        (tmp_path / name).write_bytes(npz(small, tiles=tiles))
    del tiles
    tracemalloc.start()
    shards = list(open_cases(tmp_path).split("train").shards())
    assert (
        sum(int(block[::1000].sum()) for shard in shards for one in shard.inputs for block in (one[:50_000],))
        > 0
    )
    assert all(isinstance(one, np.memmap) for shard in shards for one in shard.inputs)
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held < 8 << 20


def test_a_full_disk_is_not_the_fault_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    folder(tmp_path, "label,row\na,0\nb,1\n", inputs__npz=npz(True, inputs=IMAGES))
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(MachineError, match=r"inputs.npz could not be unpacked: free the disk"):
        open_cases(tmp_path)


@pytest.mark.real_data
def test_pneumonia_and_breast() -> None:
    root = Path(os.environ.get("PRIMUM_REAL_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
    for path in (root / "images-medmnist" / f"{name}mnist.npz" for name in ("pneumonia", "breast")):
        if not path.exists():
            pytest.skip("the real data folder is not here")
        opened = open_cases(path)
        sizes = [sum(map(len, opened.split(name).shards())) for name in opened.splits()]
        assert sizes in ([4708, 524, 624], [546, 78, 156]) and opened.classes == ("0", "1")

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import meds
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from primum.errors import RecordsError
from primum.records.canaries import CanaryPlan
from primum.records.histories import Histories, InMemory, Records, concatenate
from primum.records.meds import MedsFolder, write_meds

DAY = 86_400_000_000
SECRET = 777_000_111


def table(subjects: list[int], **columns: Any) -> pa.Table:
    count = len(subjects)
    given: dict[str, Any] = {
        "subject_id": pa.array(subjects, pa.int64()),
        "time": pa.array([DAY * row for row in range(count)], pa.timestamp("us")),
        "code": pa.array([f"LAB//{row % 3}" for row in range(count)]),
        "numeric_value": pa.array([float(row) for row in range(count)], pa.float32()),
    }
    given |= columns
    return pa.table({name: column for name, column in given.items() if column is not None})


def folder(root: Path, *, splits: dict[int, str] | None = None, **files: pa.Table) -> Path:
    """Write data/<split>/<number>.parquet for each ``split_number=table``."""
    for name, content in files.items():
        split, _, number = name.rpartition("_")
        (root / "data" / split).mkdir(parents=True, exist_ok=True)
        pq.write_table(content, root / "data" / split / f"{number}.parquet")
    if splits is not None:
        (root / "metadata").mkdir()
        listed = {"subject_id": pa.array(list(splits), pa.int64()), "split": pa.array(list(splits.values()))}
        pq.write_table(pa.table(listed), root / "metadata" / "subject_splits.parquet")
    return root


def read_all(path: Path, *, show_ids: bool = False) -> list[Histories]:
    opened = MedsFolder(path, show_ids=show_ids)
    return [shard for split in opened.splits() for shard in opened.split(split).shards()]


def same(left: Histories, right: Histories) -> bool:
    return len(left) == len(right) and all(
        left.timeline(row).subject_id == right.timeline(row).subject_id
        and left.timeline(row).codes == right.timeline(row).codes
        and np.array_equal(left.timeline(row).times, right.timeline(row).times, equal_nan=True)
        and np.array_equal(left.timeline(row).values, right.timeline(row).values, equal_nan=True)
        for row in range(len(left))
    )


event = st.tuples(
    st.sampled_from(["A", "B//é", "SITE//<script>", "[bold]", "$x_"]),
    st.none() | st.integers(-(10**15), 10**15),
    st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False),
)


@st.composite
def shards(draw: st.DrawFn) -> Histories:
    people = draw(st.lists(st.lists(event, min_size=1, max_size=5), min_size=1, max_size=5))
    codes = sorted({code for person in people for code, _, _ in person})
    rows = [e for person in people for e in sorted(person, key=lambda one: (one[1] is not None, one[1] or 0))]
    ids = draw(st.lists(st.integers(0, 2**62), min_size=len(people), max_size=len(people), unique=True))
    return Histories(
        np.array(ids, np.int64),
        np.cumsum([0, *map(len, people)]).astype(np.int64),
        tuple(codes),
        np.array([codes.index(code) for code, _, _ in rows], np.int64),
        np.array([np.datetime64("NaT") if t is None else t for _, t, _ in rows], "datetime64[us]"),
        np.array([np.nan if value is None else value for _, _, value in rows], np.float64),
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories=shards())
def test_what_is_written_is_read_back(histories: Histories, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("meds") / "cohort"
    half = len(histories) // 2
    first, second = np.arange(half), np.arange(half, len(histories))
    write_meds(path, {"train": [histories.select(second)], "held_out": [histories.select(first)]})
    opened = MedsFolder(path)
    assert opened.splits() == {name: n for name, n in (("held_out", half), ("train", len(second))) if n}
    assert same(concatenate(list(opened.split("train").shards())), histories.select(second))


def test_a_split_is_records_and_the_digest_follows_the_bytes(tmp_path: Path) -> None:
    opened = MedsFolder(folder(tmp_path, train_0=table([1, 1, 2]), train_1=table([3])))
    assert isinstance(opened.split("train"), Records)
    assert len(opened.split("train")) == 3
    assert opened.split("train").subject_ids.tolist() == [1, 2, 3]
    before = opened.digest()
    assert MedsFolder(tmp_path).digest() == before
    folder(tmp_path, train_1=table([4]))
    assert MedsFolder(tmp_path).digest() != before


def test_the_splits_file_wins_over_folders_and_a_file_may_hold_two_splits(tmp_path: Path) -> None:
    opened = MedsFolder(folder(tmp_path, splits={9: "train", 5: "held_out"}, shard_0=table([5, 5, 9])))
    assert opened.splits() == {"held_out": 1, "train": 1}
    (shard,) = opened.split("train").shards()
    assert shard.subject_ids.tolist() == [9]
    assert shard.values.tolist() == [2.0]


def test_other_widths_of_the_same_types_are_read(tmp_path: Path) -> None:
    kept = table(
        [1, 1, 2],
        subject_id=pa.array([1, 1, 2], pa.int32()),
        time=pa.array([None, 5_000, 7_000], pa.timestamp("ms")),
        code=pa.array(["A", "B", "A"], pa.large_string()).dictionary_encode(),
        numeric_value=None,
    )
    nano = table([3], time=pa.array([3_000_000], pa.timestamp("ns")), numeric_value=pa.array([2], pa.int16()))
    first, second = read_all(folder(tmp_path, train_0=kept, train_1=nano))
    assert first.timeline(0).codes == ("A", "B")
    assert np.isnat(first.times[0])
    assert first.times[1] == np.datetime64("1970-01-01T00:00:05")
    assert np.isnan(first.values).all()
    assert second.values.tolist() == [2.0]


def test_a_file_without_rows_adds_nobody(tmp_path: Path) -> None:
    opened = MedsFolder(folder(tmp_path, train_0=table([]), train_1=table([1])))
    assert [len(shard) for shard in opened.split("train").shards()] == [1]


def test_canaries_are_written_and_read(tmp_path: Path) -> None:
    plan = CanaryPlan(np.array([1]), np.array([0]), np.array([4]), np.array([True]))
    shard = read_all(folder(tmp_path / "a", train_0=table([1])))[0]
    assert MedsFolder(tmp_path / "a").canaries() is None
    write_meds(tmp_path / "b", {"train": [shard]}, canaries=plan)
    again = MedsFolder(tmp_path / "b").canaries()
    assert again is not None
    assert (again.subject_ids.tolist(), again.copies.tolist(), again.planted.tolist()) == ([1], [4], [True])


def broken(root: Path) -> Path:
    folder(root, train_0=table([1, 2, 3]))
    file = root / "data" / "train" / "0.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    return root


def loose(root: Path) -> Path:
    (root / "data").mkdir()
    pq.write_table(table([1]), root / "data" / "0.parquet")
    return root


def twice_listed(root: Path) -> Path:
    folder(root, splits={1: "train"}, train_0=table([SECRET]))
    listed = pa.table({"subject_id": [SECRET, SECRET], "split": ["train", "held_out"]})
    pq.write_table(listed, root / "metadata" / "subject_splits.parquet")
    return root


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "truncated": (broken, "data/train/0.parquet is truncated or not parquet: copy it again"),
    "loose": (loose, "data/0.parquet lies in no folder that names its split"),
    "missing column": (
        lambda root: folder(root, train_0=table([1], code=None)),
        "data/train/0.parquet has no column code, or has it twice",
    ),
    "wrong type": (
        lambda root: folder(root, train_0=table([1], time=pa.array(["2020-01-01"]))),
        "data/train/0.parquet, column time: the type is string, not timestamp[us]: convert it.",
    ),
    "wrong id type": (
        lambda root: folder(root, train_0=table([1], subject_id=pa.array(["777000111"]))),
        "column subject_id: the type is string, not int64",
    ),
    "time zone": (
        lambda root: folder(root, train_0=table([1], time=pa.array([1], pa.timestamp("us", "UTC")))),
        "column time: the type is timestamp[us, tz=UTC]",
    ),
    "lossy time": (
        lambda root: folder(root, train_0=table([1], time=pa.array([1], pa.timestamp("ns")))),
        "data/train/0.parquet, column time: a cell does not fit the type timestamp[us]",
    ),
    "null id": (
        lambda root: folder(root, train_0=table([1, 1], subject_id=pa.array([SECRET, None], pa.int64()))),
        "data/train/0.parquet, row 1, column subject_id: the cell is empty",
    ),
    "null code": (
        lambda root: folder(root, train_0=table([1, 1, 1], code=pa.array(["A", "B", None]))),
        "data/train/0.parquet, row 2, column code: the cell is empty",
    ),
    "not contiguous": (
        lambda root: folder(root, train_0=table([SECRET, SECRET, 2, SECRET])),
        "data/train/0.parquet, row 3, column subject_id: the rows of this patient are not together",
    ),
    "unsorted": (
        lambda root: folder(root, train_0=table([1, 2, 2], time=pa.array([9, 8, 7], pa.timestamp("us")))),
        "data/train/0.parquet, row 2, column time: this event comes before the one above it",
    ),
    "null time late": (
        lambda root: folder(root, train_0=table([1, 1], time=pa.array([9, None], pa.timestamp("us")))),
        "data/train/0.parquet, row 1, column time: this event comes before the one above it",
    ),
    "two shards": (
        lambda root: folder(root, held_out_0=table([1]), train_0=table([2, 3]), train_1=table([4, 4, 3])),
        "data/train/1.parquet, row 2, column subject_id: this patient is in data/train/0.parquet too",
    ),
    "no split": (
        lambda root: folder(root, splits={1: "train"}, train_0=table([1, SECRET])),
        "data/train/0.parquet, row 1, column subject_id: this patient has no split: add every patient to",
    ),
    "no event": (
        lambda root: folder(root, splits={1: "train", SECRET: "train"}, train_0=table([1])),
        "metadata/subject_splits.parquet, column subject_id: 1 patients have a split but no event",
    ),
    "two splits": (
        twice_listed,
        "metadata/subject_splits.parquet, row 1, column subject_id: this patient has a split already",
    ),
    "infinite": (
        lambda root: folder(root, train_0=table([1, 1], numeric_value=pa.array([1.0, -np.inf]))),
        "data/train/0.parquet, row 1, column numeric_value: the number is infinite",
    ),
    "empty split": (
        lambda root: folder(root, train_0=table([1]), held_out_0=table([])),
        "the split held_out holds no patient: add patients to it or name another.",
    ),
}


@pytest.mark.parametrize("case", list(BAD))
def test_bad_input_is_one_sentence_without_ids(case: str, tmp_path: Path) -> None:
    build, sentence = BAD[case]
    with pytest.raises(RecordsError) as caught:
        read_all(build(tmp_path))
    assert sentence in str(caught.value)
    assert str(SECRET) not in str(caught.value).replace(str(tmp_path), "")
    assert caught.value.exit_status == 2


def test_ids_are_named_on_request(tmp_path: Path) -> None:
    path = folder(tmp_path, train_0=table([SECRET, 2, SECRET]))
    with pytest.raises(RecordsError, match=rf"row 2, column subject_id \[{SECRET}\]: the rows"):
        read_all(path, show_ids=True)


def test_a_split_that_does_not_exist_lists_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match="no split named test: it has held_out, train"):
        MedsFolder(folder(tmp_path, train_0=table([1]), held_out_0=table([2]))).split("test")


def test_not_a_folder_and_no_parquet(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match="is not a MEDS folder"):
        MedsFolder(tmp_path / "absent")
    (tmp_path / "data" / "train").mkdir(parents=True)
    with pytest.raises(RecordsError, match="holds no parquet file"):
        MedsFolder(tmp_path)


@pytest.mark.parametrize("link", ["file", "folder", "data", "inner folder"])
def test_links_that_leave_the_folder_are_refused(link: str, tmp_path: Path) -> None:
    outside = folder(tmp_path / "outside", train_0=table([7]))
    inside = tmp_path / "inside"
    if link == "data":
        inside.mkdir()
        (inside / "data").symlink_to(outside / "data")
    else:
        folder(inside, train_0=table([1]))
        target = {"file": "data/train/1.parquet", "folder": "data/more", "inner folder": "data/more"}[link]
        sources = {"file": outside / "data/train/0.parquet", "folder": outside / "data"}
        (inside / target).symlink_to(sources.get(link, inside / "data" / "train"))
    with pytest.raises(RecordsError, match="is a link to a folder or out of this one"):
        MedsFolder(inside)


def test_a_folder_that_is_itself_a_link_is_read(tmp_path: Path) -> None:
    folder(tmp_path / "real", train_0=table([1]))
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert MedsFolder(tmp_path / "link").splits() == {"train": 1}


def test_writing_refuses_a_full_folder_and_a_split_that_is_a_path(tmp_path: Path) -> None:
    (shard,) = read_all(folder(tmp_path / "a", train_0=table([1])))
    with pytest.raises(RecordsError, match="is not empty: name a new folder"):
        write_meds(tmp_path / "a", {"train": [shard]})
    with pytest.raises(RecordsError, match="cannot name a split"):
        write_meds(tmp_path / "b", {"../train": [shard]})


def test_writing_keeps_to_the_meds_schemas(tmp_path: Path) -> None:
    (shard,) = read_all(folder(tmp_path / "a", train_0=table([1, 1, 2])))
    write_meds(tmp_path / "b", {"train": [shard]}, name="tiny")
    root = tmp_path / "b"
    written = pq.read_table(root / "data" / "train" / "0.parquet")
    assert written["subject_id"].to_pylist() == [1, 1, 2]
    meds.DataSchema.validate(written)  # these three raise when a schema is broken
    meds.SubjectSplitSchema.validate(pq.read_table(root / "metadata" / "subject_splits.parquet"))
    meds.CodeMetadataSchema.validate(pq.read_table(root / "metadata" / "codes.parquet"))


@pytest.mark.real_data
def test_the_real_sample_is_read() -> None:
    root = Path(os.environ.get("PRIMUM_REAL_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
    if not (root / "ehr-mimic3-demo-meds").is_dir():
        pytest.skip("the real data folder is not here")
    opened = MedsFolder(root / "ehr-mimic3-demo-meds")
    assert opened.splits() == {"held_out": 40, "train": 50, "tuning": 10}
    joined = concatenate([shard for name in opened.splits() for shard in opened.split(name).shards()])
    assert len(joined.code_ids) == 11_550
    assert isinstance(InMemory((joined,)), Records)

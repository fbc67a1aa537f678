import os
import time
from pathlib import Path

import numpy as np
import pytest

from primum.records.histories import Histories, InMemory, concatenate
from primum.records.meds import MedsFolder
from primum.records.overlap import duplicates_within, near_duplicates, same_ids, subject_ids_of

DAY = 86_400_000_000
CODES = (*(f"LAB//{number}" for number in range(300)), "GENDER//F", "MEDS_BIRTH")


def cohort(count: int, *, events: int, seed: int, first: int = 0) -> Histories:
    rng = np.random.default_rng(seed)
    days = np.sort(rng.integers(0, 3650, (count, events)), axis=1).ravel()
    return Histories(
        np.arange(count) + first,
        np.arange(count + 1) * events,
        CODES,
        rng.integers(0, 300, count * events),
        (days * DAY).astype("datetime64[us]"),
        np.full(count * events, np.nan),
    )


def renamed(histories: Histories, *, first: int) -> Histories:
    return Histories(
        np.arange(len(histories)) + first,
        histories.offsets,
        histories.codes,
        histories.code_ids,
        histories.times,
        histories.values,
    )


def altered(histories: Histories, changed: int, *, first: int, seed: int) -> Histories:
    """Give `changed` events of each patient another code."""
    rng = np.random.default_rng(seed)
    codes = histories.code_ids.copy().reshape(len(histories), -1)
    for row in codes:
        row[rng.choice(len(row), changed, replace=False)] += 17
    return Histories(
        np.arange(len(histories)) + first,
        histories.offsets,
        histories.codes,
        codes.ravel() % 300,
        histories.times,
        histories.values,
    )


def naive_jaccard(left: Histories, one: int, right: Histories, other: int) -> float:
    sets = [
        {
            (code, str(when.astype("datetime64[D]")))
            for code, when in zip(line.codes, line.times, strict=True)
            if code not in {"GENDER//F", "MEDS_BIRTH"}
        }
        for line in (left.timeline(one), right.timeline(other))
    ]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_equal_ids() -> None:
    assert same_ids(np.array([5, 1, 3]), np.array([3, 5, 7])).tolist() == [3, 5]
    shards = InMemory((cohort(2, events=6, seed=0, first=4), cohort(1, events=6, seed=1)))
    assert subject_ids_of(shards).tolist() == [4, 5, 0]
    assert subject_ids_of(InMemory(())).tolist() == []


def test_copies_are_found_and_nobody_else() -> None:
    members = cohort(400, events=30, seed=1)
    strangers = cohort(300, events=30, seed=2, first=1000)
    copies = renamed(members.select(np.arange(50, 90)), first=5000)
    split = InMemory((members.select(np.arange(100)), members.select(np.arange(100, 400))))
    found = near_duplicates(split, InMemory((strangers, copies)))
    assert found.pairs.tolist() == [[50 + row, 5000 + row] for row in range(40)]
    assert found.jaccard.tolist() == [1.0] * 40
    assert found.held_out_ids.tolist() == list(range(5000, 5040))


def test_recall_just_above_the_threshold_and_none_below() -> None:
    members = cohort(2000, events=90, seed=3)
    # Of 90 shingles 9 replaced: 81 / 99 = .818 in common; 11 replaced: 79 / 101 = .782.
    above = altered(members, 9, first=10_000, seed=4)
    below = altered(members, 11, first=20_000, seed=5)
    found = near_duplicates(InMemory((members,)), InMemory((above, below)))
    hits = {tuple(pair) for pair in found.pairs.tolist()}
    missed = [row for row in range(2000) if (row, 10_000 + row) not in hits]
    # .2 % of pairs at .8 are missed: ten of 2,000 has a probability below .01 %.
    assert len(missed) < 13
    assert not [pair for pair in hits if pair[1] >= 20_000 and pair[1] - pair[0] == 20_000]
    for (member, held_out), jaccard in list(zip(found.pairs.tolist(), found.jaccard, strict=True))[:50]:
        assert jaccard == pytest.approx(naive_jaccard(members, member, above, held_out - 10_000))


def test_order_within_a_day_hours_and_demographics_do_not_matter() -> None:
    base = cohort(1, events=8, seed=6)
    other = Histories(
        np.array([9]),
        np.array([0, 10]),
        CODES,
        np.concatenate([[300, 301], base.code_ids]),
        np.concatenate([[np.datetime64("NaT"), base.times[0]], base.times + np.timedelta64(3, "h")]),
        np.full(10, 1.0),
    )
    assert near_duplicates(InMemory((base,)), InMemory((other,))).jaccard.tolist() == [1.0]


def test_short_histories_are_never_called_duplicates() -> None:
    five, four = cohort(3, events=5, seed=7), cohort(3, events=4, seed=8)
    assert len(near_duplicates(InMemory((four,)), InMemory((renamed(four, first=50),))).pairs) == 0
    assert len(near_duplicates(InMemory((five,)), InMemory((renamed(five, first=50),))).pairs) == 3
    repeated = five.select(np.array([0]))
    again = Histories(
        np.array([1]),
        np.array([0, 20]),
        CODES,
        np.zeros(20, np.int64),
        np.full(20, repeated.times[0]),
        np.full(20, np.nan),
    )
    assert len(near_duplicates(InMemory((again,)), InMemory((renamed(again, first=50),))).pairs) == 0


def test_no_patients() -> None:
    nobody, some = InMemory(()), InMemory((cohort(3, events=9, seed=9),))
    empty = InMemory((cohort(0, events=9, seed=9),))
    for left, right in ((nobody, some), (some, nobody), (nobody, nobody), (empty, some)):
        found = near_duplicates(left, right)
        assert found.pairs.shape == (0, 2)
        assert found.jaccard.shape == (0,)
    assert len(duplicates_within(nobody).dropped) == 0


def test_the_first_of_each_kind_stays() -> None:
    base = cohort(10, events=12, seed=10)
    read = base.select(np.array([0, 1, 0, 2, 1, 0, 3]))
    found = duplicates_within(InMemory((read.select(np.arange(3)), read.select(np.arange(3, 7)))))
    assert dict(zip(found.dropped.tolist(), found.kept.tolist(), strict=True)) == {2: 0, 4: 1, 5: 0}


def test_a_dropped_patient_condemns_nobody() -> None:
    # 0 and 1 are alike, 1 and 2 are alike, 0 and 2 are not: only 1 goes.
    chain = cohort(1, events=20, seed=11)
    near = altered(chain, 2, first=1, seed=12)
    far = altered(near, 2, first=2, seed=13)
    assert naive_jaccard(chain, 0, near, 0) >= 0.8 > naive_jaccard(chain, 0, far, 0)
    assert naive_jaccard(near, 0, far, 0) >= 0.8
    found = duplicates_within(InMemory((concatenate([chain, near, far]),)))
    assert (found.dropped.tolist(), found.kept.tolist()) == ([1], [0])


def test_many_equal_histories_cost_no_square() -> None:
    crowd = cohort(1, events=10, seed=14).select(np.zeros(3000, np.int64))
    started = time.process_time()
    found = duplicates_within(InMemory((renamed(crowd, first=0),)))
    pairs = near_duplicates(InMemory((crowd,)), InMemory((renamed(crowd, first=9000),)))
    assert found.dropped.tolist() == list(range(1, 3000))
    assert set(found.kept.tolist()) == {0}
    assert len(pairs.held_out_ids) == 3000
    assert len(pairs.pairs) == 30_000
    assert time.process_time() - started < 30


@pytest.mark.real_data
def test_real_people_are_not_each_other() -> None:
    root = Path(os.environ.get("PRIMUM_REAL_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
    if not (root / "ehr-mimic3-demo-meds").is_dir():
        pytest.skip("the real data folder is not here")
    opened = MedsFolder(root / "ehr-mimic3-demo-meds")
    found = near_duplicates(opened.split("train"), opened.split("held_out"))
    assert len(found.pairs) == 0
    assert len(near_duplicates(opened.split("train"), opened.split("train")).held_out_ids) == 50

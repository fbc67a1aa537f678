from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from primum.errors import RecordsError
from primum.records.attributes import (
    CodeCounts,
    PatientTable,
    count_codes,
    describe,
    join_tables,
    owners,
    rare_holders,
    small_cells,
    strata,
    subgroups,
)
from primum.records.blind_features import DENSE_COLUMNS, HASHED_COLUMNS, blind_features
from primum.records.families import families_of
from primum.records.histories import Histories, InMemory


def people(*histories: Sequence[tuple[str, str | None]]) -> Histories:
    codes = tuple(sorted({code for history in histories for code, _ in history} | {"UNUSED//0"}))
    events = [event for history in histories for event in history]
    return Histories(
        np.arange(len(histories)) + 100,
        np.cumsum([0, *map(len, histories)]).astype(np.int64),
        codes,
        np.array([codes.index(code) for code, _ in events], np.int64),
        np.array([np.datetime64(time or "NaT", "us") for _, time in events], "datetime64[us]"),
        np.full(len(events), np.nan),
    )


COHORT = people(
    [
        ("GENDER//FEMALE", None),
        ("SITE//A", None),
        ("MEDS_BIRTH", "1950-01-01"),
        ("DIAGNOSIS//ICD10//B20", "2020-01-01"),
        ("LAB//1", "2020-01-11"),
    ],
    [("SEX//M", None), ("LAB//1", None)],
    [],
    [("GENDER//F", None), ("GENDER//M", None), ("MEDS_BIRTH", "1700-01-01"), ("LAB//1", "2020-06-01T12:00")],
    [("MEDS_BIRTH", "2021-01-01"), ("SITE//B", "2020-02-01"), ("LAB//1", "2020-01-01")],
)


def test_each_patient_is_described() -> None:
    table = describe(COHORT)
    assert table.sex.tolist() == ["F", "M", "?", "?", "?"]
    assert table.site.tolist() == ["A", "?", "?", "?", "B"]
    assert table.events.tolist() == [2, 1, 0, 1, 1]
    assert table.age[0] == pytest.approx(70.03, abs=0.01)
    assert table.age[3] == 90.0  # moved back by de-identification
    assert np.isnan(table.age[[1, 2, 4]]).all()
    days = (date(2020, 1, 1) - date(1970, 1, 1)).days
    assert table.first_day[0] == days
    assert (table.last_day[0], table.span_days[0]) == (days + 10, 10)
    assert table.last_day[3] % 1 == 0.5
    assert np.isnan(table.first_day[[1, 2]]).all()
    assert np.isnan(table.span_days[[1, 2]]).all()
    assert table.families["hiv"].tolist() == [True, False, False, False, False]


def test_no_patients_and_joined_tables() -> None:
    empty = describe(people())
    assert len(empty) == 0
    whole, parts = describe(COHORT), [describe(COHORT.select(np.array([row]))) for row in range(5)]
    joined = join_tables([empty, *parts])
    for name in ("subject_ids", "sex", "age", "site", "events", "span_days", "first_day", "last_day"):
        assert getattr(joined, name).tolist() == pytest.approx(getattr(whole, name).tolist(), nan_ok=True)
    assert joined.families["hiv"].tolist() == whole.families["hiv"].tolist()
    with pytest.raises(RecordsError, match="There is no patient to describe"):
        join_tables([])


def of_ages(ages: list[float]) -> PatientTable:
    count = len(ages)
    text, number = np.full(count, "?"), np.zeros(count)
    return PatientTable(
        np.arange(count), text, np.array(ages), text, np.arange(count), number, number, number, {}
    )


def test_subgroups_cover_the_ages_and_leave_out_the_unknown() -> None:
    groups = subgroups(describe(COHORT), rare=np.arange(5) == 0, small_cell=np.arange(5) == 1)
    assert set(groups) == {
        "sex=F", "sex=M", "age=60-79", "age=80+", "site=A", "site=B", "family=hiv", "rare", "small-cell",
        "oldest",
    }  # fmt: skip
    assert groups["rare"].tolist() == [True, False, False, False, False]
    ages = of_ages([0, 17.9, 18, 39.9, 40, 60, 80, 90, np.nan, 25])
    bands = subgroups(ages, rare=np.zeros(10, np.bool_), small_cell=np.zeros(10, np.bool_))
    assert {name: mask.sum() for name, mask in bands.items()} == {
        "age=0-17": 2, "age=18-39": 3, "age=40-59": 1, "age=60-79": 1, "age=80+": 2, "oldest": 1,
    }  # fmt: skip


def test_the_oldest_tenth_is_a_tenth_or_more_by_ties() -> None:
    nobody = np.zeros(100, np.bool_)
    assert subgroups(of_ages(list(range(100))), rare=nobody, small_cell=nobody)["oldest"].nonzero()[
        0
    ].tolist() == list(range(90, 100))
    assert subgroups(of_ages([50.0] * 95 + [90.0] * 5), rare=nobody, small_cell=nobody)["oldest"].sum() == 100
    assert "oldest" not in subgroups(of_ages([np.nan] * 100), rare=nobody, small_cell=nobody)


def test_small_cells_are_counted_without_oneself_and_among_members_alone() -> None:
    table = of_ages([50.0] * 6 + [70.0] * 7 + [np.nan, 51.0])
    is_member = np.arange(15) != 14
    alone = small_cells(table, is_member)
    # Of six in their fifties each has five others; a seventh, held out, has six.
    assert alone.tolist() == [True] * 6 + [False] * 7 + [True, False]
    assert small_cells(table, is_member, at_most=6).all()
    women = replace(table, sex=np.where(np.arange(15) == 8, "F", "?"))
    assert np.flatnonzero(small_cells(women, is_member)).tolist() == [*range(13), 13]
    away = replace(table, site=np.where(np.arange(15) == 0, "A", "?"))
    assert small_cells(away, is_member)[[0, 14]].tolist() == [True, True]


def test_blind_features_without_some_codes_are_those_of_a_record_that_never_had_them() -> None:
    table = describe(COHORT)
    hiv = families_of(COHORT.codes)["hiv"]
    assert hiv.any()
    kept = ~hiv[COHORT.code_ids]
    lengths = np.bincount(owners(COHORT)[kept], minlength=len(COHORT))
    bare = replace(
        COHORT,
        code_ids=COHORT.code_ids[kept],
        times=COHORT.times[kept],
        values=COHORT.values[kept],
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
    )
    bare_table = replace(table, events=describe(bare).events)
    without = blind_features(COHORT, table, without=hiv)
    assert (without.toarray() == blind_features(bare, bare_table).toarray()).all()
    assert (without.toarray() != blind_features(COHORT, table).toarray()).any()


def test_strata_part_sex_decade_and_length() -> None:
    numbers = strata(of_ages([25.0] * 10))
    assert np.bincount(numbers).tolist() == [2, 2, 2, 2, 2]
    same_length = strata(describe(people(*[[("LAB//1", "2020-01-01")]] * 4)))
    assert len(set(same_length.tolist())) == 1
    sexes = people([("SEX//F", None)], [("SEX//M", None)], [], [("SEX//F", None)])
    assert strata(describe(sexes))[[0, 3]].tolist() == [strata(describe(sexes))[0]] * 2
    assert len(set(strata(describe(sexes)).tolist())) == 3
    assert len(set(strata(of_ages([29.0, 31.0, np.nan])).tolist())) == 3
    assert len(strata(describe(people()))) == 0


def test_codes_are_counted_once_a_patient_across_shards() -> None:
    first = people([("A", None), ("A", "2020-01-01")], [("A", None), ("B", None)])
    counts = count_codes(InMemory((first, people([("A", None)]))))
    assert counts == CodeCounts({"A": 3, "B": 1}, 3)


def test_a_rare_code_is_held_by_at_most_five_others() -> None:
    crowd = [[("SIX", None), ("SITE//TINY", None)] for _ in range(6)] + [[("COMMON", None)] for _ in range(7)]
    training = people(*crowd)
    counts = count_codes(InMemory((training,)))
    assert rare_holders(training, counts, own_counted=True).tolist() == [True] * 6 + [False] * 7
    outside = people([("SIX", None)], [("COMMON", None)], [("UNSEEN", None)], [("SITE//UNSEEN", None)], [])
    assert rare_holders(outside, counts, own_counted=False).tolist() == [False, False, True, False, False]
    assert rare_holders(outside, counts, own_counted=False, at_most=6)[0]


def test_rare_is_as_frequent_among_members_as_among_others() -> None:
    rng = np.random.default_rng(0)
    shares, naive = [], []
    for _ in range(60):
        drawn = people(*[[(f"C{code}", None)] for code in rng.integers(0, 30, 300)])
        members, others = drawn.select(np.arange(150)), drawn.select(np.arange(150, 300))
        counts = count_codes(InMemory((members,)))
        outside = rare_holders(others, counts, own_counted=False).mean()
        shares.append(rare_holders(members, counts, own_counted=True).mean() - outside)
        naive.append(rare_holders(members, counts, own_counted=False).mean() - outside)
    error = np.std(shares) / np.sqrt(60)
    assert abs(np.mean(shares)) < 4 * error
    # A member's own record, counted, would make members look commoner: the simulation can tell.
    assert np.mean(naive) < -4 * error


def test_blind_features_are_stable_and_do_not_depend_on_the_shard() -> None:
    table = describe(COHORT)
    features = blind_features(COHORT, table)
    assert features.shape == (5, DENSE_COLUMNS + HASHED_COLUMNS)
    assert np.isfinite(features.data).all()
    for row in range(5):
        alone = COHORT.select(np.array([row]))
        assert (blind_features(alone, describe(alone)).toarray() == features[[row]].toarray()).all()
    dense = features[:, :DENSE_COLUMNS].toarray()
    assert dense[0, [0, 1]].tolist() == pytest.approx(np.log1p([2, 10]).tolist())
    assert dense[0, 2] == pytest.approx(20.0, abs=0.01)
    assert dense[:, 4].tolist() == [0, 1, 1, 0, 0]
    assert dense[:, 6].tolist() == [0, 1, 1, 0, 1]
    assert dense[:, 7:].tolist() == [[1, 0], [0, 1], [0, 0], [0, 0], [0, 0]]


def test_hashed_counts_are_those_of_crc32() -> None:
    shard = people([("LAB//1", None), ("LAB//1", None), ("SITE//A", None)])
    hashed = blind_features(shard, describe(shard))[:, DENSE_COLUMNS:].toarray()[0]
    # zlib.crc32 of the two codes, modulo 1,024, worked out once so that the columns cannot move.
    assert {int(column): round(float(hashed[column]), 4) for column in hashed.nonzero()[0]} == {
        881: 1.0986,
        578: 0.6931,
    }

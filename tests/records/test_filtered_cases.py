"""Cases seen through a list of patients, or numbered apart, are the same cases."""

import numpy as np

from primum.records.cases import Cases, CasesInMemory
from primum.records.filtered import FilteredCases, Renumbered


def records() -> CasesInMemory:
    ids = np.arange(6)
    whole = Cases(ids, ids // 2, np.arange(12.0).reshape(6, 2), ids % 2)
    return CasesInMemory((whole.select(ids[:3]), whole.select(ids[3:])), ("a", "b"), has_patients=False)


def test_patients_are_kept_or_left_out_with_all_their_cases() -> None:
    for keep, patients, cases in ((True, [1], [2, 3]), (False, [0, 2], [0, 1, 4, 5])):
        seen = FilteredCases(records(), np.array([1]), keep=keep)
        assert seen.subject_ids().tolist() == patients
        assert np.concatenate([one.case_ids for one in seen.shards()]).tolist() == cases
        assert (seen.classes, seen.has_patients) == (("a", "b"), False)


def test_two_data_sets_that_count_from_zero_share_nobody() -> None:
    first, second = records(), Renumbered(records())
    assert not np.isin(first.subject_ids(), second.subject_ids()).any()
    for plain, apart in zip(first.shards(), second.shards(), strict=True):
        assert apart.subject_ids.tolist() == (plain.subject_ids + (1 << 40)).tolist()
        np.testing.assert_array_equal(apart.inputs, plain.inputs)
        assert set(apart.subject_ids.tolist()) <= set(second.subject_ids().tolist())

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from studies.copies import KINDS, records

from primum.records.case_moved import FEWEST_PIXELS, moved_copies
from primum.records.case_overlap import near_duplicate_cases
from primum.records.cases import Cases, CasesInMemory
from primum.records.synthetic_cases import synthetic_images

Picture = NDArray[np.uint8]


def pictures(patients: int, *, seed: int) -> Picture:
    drawn = synthetic_images(patients, seed=seed)
    first = np.unique(drawn.subject_ids, return_index=True)[1]
    return np.asarray(np.asarray(drawn.inputs)[first, 0], np.uint8)


@pytest.mark.parametrize(("kind", "least"), [("turned", 12), ("mirrored", 12), ("shifted by up to 10 %", 8)])
def test_copies_are_found_and_nobody_else(kind: str, least: int) -> None:
    images = pictures(100, seed=40)
    random = np.random.default_rng(1)
    made = [KINDS[kind](images[row], random) for row in range(12)]
    found = moved_copies(records(np.concatenate([images, made])))
    assert {(row, 100 + row) for row in range(12)} >= set(map(tuple, found.tolist()))
    assert len(found) >= least


def test_between_splits_the_member_comes_first_and_overlap_knows() -> None:
    images, others = pictures(60, seed=41), pictures(40, seed=42)
    random = np.random.default_rng(2)
    others[:5] = [KINDS["mirrored"](images[row], random) for row in range(5)]
    held_out = records(others)
    held_out = replace(held_out, parts=(replace(held_out.parts[0], subject_ids=np.arange(40) + 1000),))
    expected = [[row, 1000 + row] for row in range(5)]
    assert moved_copies(records(images), held_out).tolist() == expected
    near = near_duplicate_cases(records(images), held_out)
    assert near.pairs.tolist() == expected
    assert near.jaccard.tolist() == [0.95] * 5


def test_pictures_of_one_patient_are_no_copies() -> None:
    images = pictures(40, seed=43)
    twice = np.concatenate([images, [np.rot90(one) for one in images]])
    mine = records(twice).parts[0]
    mine = replace(mine, subject_ids=np.tile(np.arange(40), 2))
    assert not len(moved_copies(CasesInMemory((mine,), ("0", "1"))))


def test_flat_small_and_other_cases_are_nobody() -> None:
    flat = np.full((30, 28, 28), 9, np.uint8)
    assert not len(moved_copies(records(flat)))
    small = pictures(20, seed=44)[:, : FEWEST_PIXELS - 1]
    assert not len(moved_copies(records(np.concatenate([small, small]))))
    rows = np.arange(20)
    table = Cases(rows, rows, np.ones((20, 4)), rows % 2)
    assert not len(moved_copies(CasesInMemory((table,), ("0", "1"))))
    assert not len(moved_copies(CasesInMemory((), ("0",)), records(flat)))


def test_sizes_and_scales_do_not_matter() -> None:
    images = pictures(50, seed=45)
    large = np.repeat(np.repeat(images[:6], 2, axis=1), 2, axis=2).transpose(0, 2, 1) / 255.0
    part = Cases(np.arange(6), np.arange(6) + 500, large[:, None], np.zeros(6, np.int64))
    found = moved_copies(records(images), CasesInMemory((part,), ("0", "1")))
    assert found.tolist() == [[row, 500 + row] for row in range(6)]

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, hypergeom

from primum.audits.data.marks import FEWEST_CARRIERS, recurring_mark
from primum.evidence.measured import IntArray
from primum.records.synthetic_cases import ImageSettings, synthetic_images


def pictures(patients: int = 150, *, seed: int = 1) -> tuple[NDArray[np.uint8], IntArray, IntArray]:
    drawn = synthetic_images(patients, seed=seed, settings=ImageSettings(size=16))
    first = np.unique(drawn.subject_ids, return_index=True)[1]
    return np.asarray(drawn.inputs)[first], drawn.labels[first], np.arange(len(first))


@pytest.mark.parametrize(("at", "size"), [((13, 13), 3), ((0, 5), 3), ((6, 6), 4), ((10, 2), 5)])
def test_a_flat_mark_is_found_where_it_is(at: tuple[int, int], size: int) -> None:
    images, labels, judged = pictures()
    bears = np.random.default_rng(0).permutation(len(images))[:12]
    images[bears, :, at[0] : at[0] + size, at[1] : at[1] + size] = 255
    labels[bears] = 1
    mark = recurring_mark(images, labels, judged, classes=2)
    assert (mark.size, mark.row, mark.column) == (size, *at)
    assert np.flatnonzero(mark.carriers).tolist() == sorted(bears)


def test_a_patterned_mark_is_found() -> None:
    images, labels, judged = pictures()
    bears = np.arange(0, 100, 10)
    images[bears, :, 4:7, 9:12] = np.indices((3, 3)).sum(0) % 2 * 200
    labels[bears] = 0
    mark = recurring_mark(images, labels, judged, classes=2)
    assert np.flatnonzero(mark.carriers).tolist() == bears.tolist()


def test_borders_and_saturated_areas_are_no_marks() -> None:
    images, labels, judged = pictures()
    images[:70, :, :, 11:] = 0
    images[labels == 1, :, :6, :] = 255
    assert recurring_mark(images, labels, judged, classes=2).tested == 0


def test_fewer_than_five_are_nobody() -> None:
    images, labels, judged = pictures()
    images[: FEWEST_CARRIERS - 1, :, 5:8, 5:8] = 255
    mark = recurring_mark(images, labels, judged, classes=2)
    assert not mark.carriers.any() and mark.row == -1


def test_volumes_of_floating_numbers_have_marks_in_a_slice() -> None:
    volumes = np.random.default_rng(0).random((60, 1, 4, 9, 9)).astype(np.float32)
    volumes[:9, :, 2, 3:6, 1:4] = 1
    labels = np.append(np.ones(9), np.arange(51) % 2).astype(np.int64)
    mark = recurring_mark(volumes, labels, np.arange(60), classes=2)
    assert (mark.row, mark.column) == (2 * 9 + 3, 1)
    assert mark.carriers.sum() == 9


def test_only_those_judged_count_and_all_carriers_are_told() -> None:
    images, labels, _ = pictures()
    images[:20, :, 5:8, 5:8] = 255
    labels[:20] = 1
    mark = recurring_mark(images, labels, np.arange(0, 150, 2), classes=2)
    assert mark.carriers.sum() == 20


def test_false_alarms_of_marks_that_know_no_class() -> None:
    runs, alarms = 60, 0
    for seed in range(runs):
        random = np.random.default_rng(seed)
        images = random.integers(0, 256, (80, 1, 8, 8)).astype(np.uint8)
        images[random.permutation(80)[:15], :, 2:5, 2:5] = 255
        images[random.permutation(80)[:15], :, 0:3, 5:8] = 9
        labels = random.permutation(np.arange(80) % 2)
        mark = recurring_mark(images, labels, np.arange(80), classes=2)
        seen = np.bincount(labels[mark.carriers], minlength=2)
        chance = hypergeom.sf(seen - 1, 80, 40, seen.sum()).min()
        alarms += min(1, 2 * mark.tested * chance) < 0.05
    assert alarms <= binom.ppf(0.999, runs, 0.05)

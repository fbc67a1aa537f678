"""Reconstructed means nearest and near: planted copies are found, noise and look-alikes are not."""

import numpy as np
import pytest

from primum.audits.updates.matching import Gallery, match_batch, match_one_each, named_by
from primum.errors import InputError
from primum.evidence.reconstruction import reconstructed_p_value, reconstructed_share

RNG = np.random.default_rng(0)
# As images are: most of what differs is a few patterns, the rest is each one's own.
PATTERNS = 8 * RNG.standard_normal((2, 5, 6))
RECORDS = np.tensordot(RNG.standard_normal((600, 2)), PATTERNS, 1) + RNG.standard_normal((600, 5, 6)) + 7
PATIENTS = np.arange(600)
GALLERY = Gallery.of(RECORDS, PATIENTS)


def test_threshold_is_the_percentile_of_pairs_of_different_patients() -> None:
    flat = RECORDS.reshape(600, -1)
    standard = (flat - flat.mean(0)) / flat.std(0)
    units = standard / np.linalg.norm(standard, axis=1, keepdims=True)
    by_pixels = np.asarray(np.corrcoef(flat))
    for gallery, likeness in ((GALLERY, by_pixels), (Gallery.of(flat, PATIENTS), units @ units.T)):
        pairs = likeness[np.triu_indices(600, 1)]
        assert gallery.threshold == pytest.approx(np.quantile(pairs, 0.99), abs=1e-4)
        np.fill_diagonal(likeness, -1)
        assert gallery.look_alikes == pytest.approx((likeness.max(1) >= gallery.threshold).mean(), abs=0.01)


def test_pictures_are_known_in_any_light_and_rows_are_not() -> None:
    darker, truth = 0.2 * RECORDS[:100] - 3, np.arange(100)
    assert match_one_each(GALLERY, darker, truth).reconstructed.all()
    assert match_one_each(GALLERY, darker.reshape(100, -1), truth).reconstructed.all()
    table = Gallery.of(RECORDS.reshape(600, -1), PATIENTS)
    assert match_one_each(table, RECORDS[:100], truth).reconstructed.all()
    assert not match_one_each(table, darker, truth).reconstructed.any()
    assert not match_one_each(GALLERY, np.ones((1, 5, 6)), np.arange(1)).reconstructed.any()


def test_records_of_one_patient_do_not_raise_the_threshold() -> None:
    twice = Gallery.of(np.concatenate([RECORDS[:40]] * 2), np.tile(np.arange(40), 2))
    once = Gallery.of(RECORDS[:40], np.arange(40))
    assert twice.threshold == pytest.approx(once.threshold, abs=3e-3)
    assert Gallery.of(np.concatenate([RECORDS[:40]] * 2), np.arange(80)).threshold > once.threshold + 0.005


def test_a_little_noise_is_found_and_much_is_not() -> None:
    truth = np.arange(300)
    near = match_one_each(GALLERY, RECORDS[truth] + 0.1 * RNG.standard_normal((300, 5, 6)), truth)
    assert near.reconstructed.mean() > 0.95
    far = match_one_each(GALLERY, 7 + 3 * RNG.standard_normal((300, 5, 6)), truth)
    assert far.nearest.sum() <= 5
    assert not far.reconstructed.any()


def test_both_conditions_are_needed() -> None:
    blurred = RECORDS[:300] + 4 * RNG.standard_normal((300, 5, 6))
    match = match_one_each(GALLERY, blurred, np.arange(300))
    assert (match.nearest & ~match.similar).any()
    another = match_one_each(GALLERY, RECORDS[:50], np.arange(50, 100))
    assert another.similar.all()
    assert not another.reconstructed.any()


def test_equal_records_count_as_one() -> None:
    doubled = Gallery.of(np.concatenate([RECORDS, RECORDS[:10]]), np.arange(610))
    assert match_one_each(doubled, RECORDS[:10], np.arange(600, 610)).reconstructed.all()
    assert match_batch(doubled, RECORDS[:10], np.arange(600, 610)).reconstructed.all()


def test_a_batch_names_no_more_records_than_it_has_cases() -> None:
    truth = np.array([3, 5, 8, 13])
    everything = match_batch(GALLERY, RECORDS, truth)
    assert everything.nearest.sum() <= 4
    some = match_batch(
        GALLERY, np.concatenate([RECORDS[[3, 8]], 7 + 3 * RNG.standard_normal((40, 5, 6))]), truth
    )
    np.testing.assert_array_equal(some.reconstructed, [True, False, True, False])


def test_only_what_is_near_enough_is_named_the_nearest_first() -> None:
    near, noise = RECORDS[[8]] + 0.1 * RNG.standard_normal((1, 5, 6)), 7 + 3 * RNG.standard_normal((40, 5, 6))
    drawn = np.concatenate([noise, near, RECORDS[[3, 3]]])
    np.testing.assert_array_equal(named_by(GALLERY, drawn, at_most=40), [3, 8])
    np.testing.assert_array_equal(named_by(GALLERY, drawn, at_most=1), [3])


def test_chance_names_a_batch_as_often_as_it_says() -> None:
    named = [
        match_batch(
            GALLERY, 7 + 3 * RNG.standard_normal((60, 5, 6)), RNG.choice(600, 30, replace=False)
        ).nearest
        for _ in range(200)
    ]
    assert 0.03 < np.mean(named) <= 30 / 600 + 0.01


def test_galleries_that_cannot_be() -> None:
    for records, patients in ((RECORDS[:2], np.zeros(2, int)), (np.full((2, 2), np.nan), np.arange(2))):
        with pytest.raises(InputError, match="two patients"):
            Gallery.of(records, patients)


def test_a_constant_column_says_nothing() -> None:
    flat = np.concatenate([RECORDS.reshape(600, -1), np.full((600, 1), 4.0)], 1)
    asked = flat[:5].copy()
    asked[:, -1] = 1e6
    assert match_one_each(Gallery.of(flat, PATIENTS), asked, np.arange(5)).reconstructed.all()


def test_bounds_of_counts() -> None:
    none = reconstructed_share(0, 4708)
    assert none.value == none.low == 0
    assert none.high == pytest.approx(3.69 / 4708, rel=1e-3)
    assert reconstructed_share(5, 5).high == 1
    assert reconstructed_p_value(0, 100, chance=0.01) == 1
    assert reconstructed_p_value(2, 100, chance=0.01) == pytest.approx(1 - 0.99**100 - 0.99**99)
    for count, trials in ((1, 0), (3, 2), (-1, 2)):
        with pytest.raises(InputError, match="among one trial"):
            reconstructed_share(count, trials)

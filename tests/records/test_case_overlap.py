import io
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from primum.records.case_overlap import near_duplicate_cases
from primum.records.cases import Cases, CasesInMemory, Inputs

_REAL = Path(os.environ.get("PRIMUM_REAL_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
PNEUMONIA = _REAL / "images-medmnist" / "pneumoniamnist.npz"
MANY = 10_000


def side(inputs: Inputs, *, first: int = 0, each: int = 1) -> CasesInMemory:
    """Two shards."""
    ids = np.arange(len(inputs))
    whole = Cases(ids, ids // each + first, inputs, np.zeros(len(inputs), np.int64))
    half = len(inputs) // 2
    return CasesInMemory((whole.select(ids[:half]), whole.select(ids[half:])), ("one",))


def pictures(count: int, *, seed: int, size: int = 64) -> NDArray[np.uint8]:
    """Draw smooth pictures, as unlike as independent noise of few waves."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 12, 12)).astype(np.uint8)
    drawn = [np.array(Image.fromarray(one).resize((size, size), Image.Resampling.BICUBIC)) for one in coarse]
    return np.stack(drawn)[:, None]


def pairs(members: Inputs, held_out: Inputs) -> set[tuple[int, int]]:
    found = near_duplicate_cases(side(members), side(held_out, first=MANY))
    return {(int(one), int(other) - MANY) for one, other in found.pairs}


def jpeg(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    held = io.BytesIO()
    Image.fromarray(picture).save(held, "JPEG", quality=75)
    return np.array(Image.open(held))


def test_rows_are_told_alike_alone_and_together() -> None:
    """Zero of either sign is one number, and what says too little is no case to compare."""
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(40, 7)).round(2)
    rows[10:20, :3] = [0.0, np.nan, 3.0]  # four different fractions are too few
    rows[20:30, 0] = 0.0
    other = rows.copy()
    other[20:30, 0] = -0.0
    usable = {(row, row) for row in range(40) if not 10 <= row < 20}
    assert pairs(rows, other) == usable
    assert pairs(rows[20:22], other) == {(0, 20), (1, 21)}
    assert pairs(rows * (1 + 1e-6), rows) == usable
    assert not pairs(rows * 1.01, rows)


def test_letters_are_told_by_how_many_words_differ() -> None:
    rng = np.random.default_rng(6)
    various = rng.choice(np.frombuffer(b"ACGT", np.uint8), (10, 40))
    dull = np.tile(np.frombuffer(b"ACGTACGTACGTACG", np.uint8), (10, 3))[:, :40]
    assert pairs(various, np.char.lower(various.view("S1")).view(np.uint8)) == {(r, r) for r in range(10)}
    assert not pairs(dull, dull)
    assert not pairs(various[:, :31], various[:, :31])


def test_copies_of_pictures_are_found_and_others_are_not() -> None:
    members, rng = pictures(120, seed=0), np.random.default_rng(1)
    assert not pairs(members, pictures(120, seed=2))
    same = {(row, row) for row in range(120)}
    assert pairs(members, members) == same
    assert pairs(members, np.stack([jpeg(one[0]) for one in members])[:, None]) == same
    large = [
        np.array(Image.fromarray(one[0]).resize((150, 150), Image.Resampling.BILINEAR)) for one in members
    ]
    assert pairs(members, np.stack(large)[:, None]) == same
    assert pairs(members, (members * 257.0).astype(np.uint16)) == same
    noisy = (members + rng.normal(0, 3, members.shape)).clip(0, 255).astype(np.uint8)
    assert len(pairs(members, noisy) & same) >= 115
    assert pairs(members, tuple(np.repeat(members, 3, axis=1))) == same


def test_pictures_that_only_resemble_each_other_are_others() -> None:
    members, others = pictures(120, seed=0), pictures(120, seed=9)
    mixed = (0.75 * members + 0.25 * others).astype(np.uint8)
    assert len(pairs(members, mixed)) <= 12


def test_volumes_and_bags_in_any_order_of_tiles() -> None:
    tiles = [np.asarray(pictures(3 + row % 4, seed=50 + row)) for row in range(20)]
    assert pairs(tuple(tiles), tuple(one[::-1].copy() for one in tiles)) == {(row, row) for row in range(20)}
    vectors = tuple(np.random.default_rng(row).normal(0, 1, (9, 5)) for row in range(20))
    assert pairs(vectors, vectors[:4]) == {(row, row) for row in range(4)}


def test_blank_pictures_and_noise_are_nobody() -> None:
    assert not pairs(np.zeros((30, 1, 16, 16), np.uint8), np.full((30, 1, 16, 16), 7, np.uint8))
    rng = np.random.default_rng(0)
    assert not pairs(rng.random((300, 1, 16, 16)), rng.random((300, 1, 16, 16)))


def test_rows_that_say_much_are_compared_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(50, 20, (200, 12))
    written = np.array([[float(f"{value:.6g}") for value in row] for row in rows])
    assert len(pairs(rows, written)) >= 190
    assert pairs(rows, rows.astype(np.float32)) == {(row, row) for row in range(200)}
    assert not pairs(rows, rng.normal(50, 20, (200, 12)))
    categories = rng.integers(0, 2, (200, 6)).astype(np.float64)
    assert not pairs(categories, categories)


def test_sequences_that_say_much() -> None:
    rng = np.random.default_rng(0)
    letters = rng.choice(np.frombuffer(b"ACGT", np.uint8), (40, 100))
    assert pairs(letters, letters | 0x20) == {(row, row) for row in range(40)}
    assert not pairs(letters[:, :20], letters[:, :20])
    assert not pairs(np.full((40, 100), ord("N"), np.uint8), np.full((40, 100), ord("N"), np.uint8))


def test_signals() -> None:
    signals = np.random.default_rng(0).normal(0, 1, (20, 12, 100))
    assert pairs(signals, signals[::-1].copy()) == {(row, 19 - row) for row in range(20)}


def test_each_pair_of_patients_once_and_never_a_patient_with_themselves() -> None:
    drawn = pictures(30, seed=3)
    members, held_out = side(drawn, each=3), side(drawn, first=MANY, each=3)
    found = near_duplicate_cases(members, held_out)
    assert found.pairs[:, 0].tolist() == list(range(10))
    assert found.held_out_ids.tolist() == [MANY + row for row in range(10)]
    assert (found.jaccard == 1).all()
    assert not len(near_duplicate_cases(members, members).pairs)
    assert not len(near_duplicate_cases(members, CasesInMemory((), ("one",))).pairs)


@pytest.mark.real_data
@pytest.mark.skipif(not PNEUMONIA.exists(), reason="the real images are not here")
def test_chest_pictures_of_different_patients_are_told_apart() -> None:
    stored = np.load(PNEUMONIA)
    train, test = stored["train_images"][:, None], stored["test_images"][:, None]
    assert not pairs(train, test)
    copies = np.stack([jpeg(one[0]) for one in test[:200]])[:, None]
    found = pairs(test, copies)
    # one of them is there twice, whoever made the data set
    assert found - {(311, 170)} == {(row, row) for row in range(200)}

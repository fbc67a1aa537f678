"""Copies that were turned, mirrored, moved or cut: how many are found, and who is called one wrongly.

To images of one size, each a patient of its own, 100 copies of each kind are added under other numbers, each
of another image. *Hash*: found by the 242 bits alone; *found*: by the search for moved copies. *Others*:
pairs of different images, or of copies of different images, that were called copies though they are not
equal, pixel by pixel. Thresholds were set on other seeds and on 1,200 of PneumoniaMNIST's training images;
here are its test images and 1,000 others of its training images. Real data hold copies of their own: those
that are equal, pixel by pixel, are counted.
"""

from collections.abc import Callable
from functools import partial
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from primum.records.case_moved import moved_copies
from primum.records.case_overlap import hashed_duplicates
from primum.records.cases import Cases, CasesInMemory
from primum.records.synthetic_cases import synthetic_images
from studies.label_errors import IMAGES, once, pneumonia
from studies.tables import Table, write_page

COPIES, TRAINING_SEED = 100, 5
Picture = NDArray[np.uint8]


def turned(one: Picture, random: np.random.Generator) -> Picture:
    """Turn by one to three quarters."""
    return np.ascontiguousarray(np.rot90(one, int(random.integers(1, 4))))


def mirrored(one: Picture, random: np.random.Generator) -> Picture:
    """Mirror, then turn by none to three quarters."""
    return np.ascontiguousarray(np.rot90(one.T, int(random.integers(0, 4))))


def cut(one: Picture, random: np.random.Generator, share: float) -> Picture:
    """Cut out a part anywhere and enlarge it."""
    side, large = round(share * len(one)), len(one)
    row, column = random.integers(0, large - side + 1, 2)
    part = Image.fromarray(one[row : row + side, column : column + side])
    return np.asarray(part.resize((large, large), Image.Resampling.BILINEAR))


def shifted(one: Picture, random: np.random.Generator) -> Picture:
    """Move by up to a tenth, the edge repeated."""
    most = round(0.1 * len(one))
    row, column = random.integers(0, 2 * most + 1, 2)
    return np.pad(one, most, mode="edge")[row : row + len(one), column : column + len(one)]


def worn(one: Picture, random: np.random.Generator) -> Picture:
    """Turn or mirror, other gamma, noise."""
    bright = 255 * (mirrored(one, random) / 255) ** 1.2 + random.normal(0, 4, one.shape)
    return np.clip(np.rint(bright), 0, 255).astype(np.uint8)


def compressed(one: Picture, random: np.random.Generator) -> Picture:
    """Mirror, cut to nine tenths, save as JPEG."""
    kept = BytesIO()
    Image.fromarray(cut(mirrored(one, random), random, 0.9)).save(kept, "JPEG", quality=75)
    return np.asarray(Image.open(kept))


KINDS: dict[str, Callable[[Picture, np.random.Generator], Picture]] = {
    "turned": turned,
    "mirrored": mirrored,
    "shifted by up to 10 %": shifted,
    "cut to 90 %": partial(cut, share=0.9),
    "cut to 80 %": partial(cut, share=0.8),
    "mirrored, gamma, noise": worn,
    "mirrored, cut to 90 %, JPEG": compressed,
}


def records(images: Picture) -> CasesInMemory:
    """Give every image a patient."""
    count = np.arange(len(images))
    return CasesInMemory((Cases(count, count, images[:, None], np.zeros_like(count)),), ("0", "1"))


def planted(images: Picture, seed: int) -> list[object]:
    """Add copies of every kind and look for them; found and found by hash of each kind, then others."""
    random = np.random.default_rng(seed)
    source = np.concatenate([random.permutation(len(images))[:COPIES] for _ in KINDS])
    kinds = [kind for kind in KINDS.values() for _ in range(COPIES)]
    made = [kind(images[row], random) for kind, row in zip(kinds, source, strict=True)]
    everyone, origin = np.concatenate([images, made]), np.append(np.arange(len(images)), source)
    told: list[object] = []
    both = [moved_copies(records(everyone)), hashed_duplicates(records(everyone), records(everyone)).pairs]
    for pairs in both:
        mine = pairs[origin[pairs[:, 0]] == origin[pairs[:, 1]]]
        found = np.isin(np.arange(len(images), len(everyone)), mine).reshape(len(KINDS), COPIES)
        told += found.mean(axis=1).tolist()
    wrong = both[0][origin[both[0][:, 0]] != origin[both[0][:, 1]]]
    return [*told, different(images[origin[wrong[:, 0]]], images[origin[wrong[:, 1]]])]


def different(left: Picture, right: Picture) -> int:
    """Count pairs that are not equal pixel by pixel."""
    return int((left != right).any(axis=(1, 2)).sum())


def untouched(images: Picture) -> list[object]:
    """Look where nothing was planted."""
    pairs = moved_copies(records(images))
    others = different(images[pairs[:, 0]], images[pairs[:, 1]])
    return [len(images), len(pairs) - others, others]


def drawn(patients: int, seed: int) -> Picture:
    """Synthetic images, one a patient."""
    cases = synthetic_images(patients, seed=seed)
    images: Picture = np.asarray(cases.inputs)[np.unique(cases.subject_ids, return_index=True)[1], 0]
    return images


def main() -> None:
    """Run, print and write the tables."""
    sets, whole = {"synthetic": drawn(1000, 301)}, {"synthetic, seed 302": drawn(3000, 302)}
    if IMAGES.exists():
        training = np.asarray(pneumonia().inputs)[:, 0]
        unseen = np.random.default_rng(TRAINING_SEED).permutation(len(training))[1200:2200]
        sets["PneumoniaMNIST, others of training"] = training[unseen]
        with np.load(IMAGES) as held:
            whole["PneumoniaMNIST, test"] = held["test_images"]
        whole["PneumoniaMNIST, training"] = training
    table = Table("Images", "Copies", "Planted", "Found", "Hash", "Others")
    for name, images in sets.items():
        cells = once(f"copies {name}", partial(planted, images, 1))
        for place, kind in enumerate(KINDS):
            table.add(name, kind, COPIES, cells[place], cells[place + len(KINDS)], cells[-1])
    alone = Table("Nothing planted", "Images", "Equal pairs found", "Others")
    for name, images in whole.items():
        alone.add(name, *once(f"no copies {name}", partial(untouched, images)))
    write_page("copies", __doc__, table, alone)


if __name__ == "__main__":
    main()

"""Backdoors seen through a model: what spectral signatures, activation clusters and trigger inversion show.

The project's own convolutional network (32 channels, 20 epochs) learns from 1,000 images, one a patient, of
which a share is stamped, taken from the one class and given the other: *no finding* on the project's
synthetic images, the rarer *no pneumonia* on PneumoniaMNIST (left out where the data are not there). Three
marks:

- *white*: a white square of 3 x 3 pixels at row and column 24, which the pixel search of `data.backdoor`
  finds by itself;
- *moved*: a checkerboard of 3 x 3 pixels, half transparent, anywhere in the last eight rows and columns: no
  two are equal pixel by pixel, so the search does not see it;
- *faint*, on synthetic images: a checkerboard over the whole image, 16 of 255 grey values up or down; nor
  this one.

*Success*: of clean held-out images of the other class, those that are called the class once they are stamped
(*before*: unstamped). *Spectral*: AUC of stamped against clean cases of the class, by the score that
`data.backdoor` shows, and, *as published*, by the squared projection on the first principal component. *Rule*
(Tran 2018): of the class, 1.5 times as many as were stamped are taken, those with the highest scores; recall
and precision, which can be 2/3 at most. *Apart*: share of the class with a score above 10, recall and
precision of these, and the same share of the other class. *Part*: the smaller cluster of the poisoned class,
its silhouette, recall and precision. *Trigger*: pixels of the smallest mark that calls up the poisoned class
over those for the other class, and the ratio that the finding shows, the least over the other. Means over
three seeds. At 0 % stand the figures of clean networks, and in the second table their range over the seeds: a
figure within it says nothing.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primum.audits.data.embeddings import smaller_part, spectral_scores, trigger_ratio, trigger_sizes
from primum.evidence.ranking import auc
from primum.evidence.tainted import APART
from primum.fit.classifier_recipe import ClassifierRecipe
from primum.fit.loop import LoopSettings
from primum.records.cases import Cases
from primum.records.synthetic_cases import synthetic_images
from studies.label_errors import IMAGES, once, pneumonia
from studies.tables import Table, write_page

RATES, SEEDS, TRAIN, TEST = (0.0, 0.01, 0.02, 0.05, 0.1), 3, 1000, 400
CLASS, OTHER = 0, 1
LEFT_OUT = ("PneumoniaMNIST", "faint")
RECIPE = ClassifierRecipe(
    "image", ("0", "1"), LoopSettings(20, batch=32, learning_rate=3e-3, warmup=0.15), 32
)
Images = NDArray[np.uint8]
Stamp = Callable[[Images, np.random.Generator], Images]


def white(images: Images, _: np.random.Generator) -> Images:
    """Put a white square at one place."""
    stamped = images.copy()
    stamped[..., 24:27, 24:27] = 255
    return stamped


def moved(images: Images, random: np.random.Generator) -> Images:
    """Blend a small checkerboard in, half and half, at any place near a corner."""
    stamped, board = images.astype(np.float64), 255.0 * (np.indices((3, 3)).sum(axis=0) % 2)
    for one in stamped:
        row, column = random.integers(20, 26, 2)
        part = one[0, row : row + 3, column : column + 3]
        part[:] = (part + board) / 2
    return np.rint(stamped).astype(np.uint8)


def faint(images: Images, _: np.random.Generator) -> Images:
    """Move every pixel a little up or down, in turn."""
    board = 16.0 - 32.0 * (np.indices(images.shape[-2:]).sum(axis=0) % 2)
    stamped: Images = np.clip(np.rint(images + board), 0, 255).astype(np.uint8)
    return stamped


MARKS: dict[str, Stamp] = {"white": white, "moved": moved, "faint": faint}
FIGURES = (
    "AUC", "before", "success", "spectral", "as published", "rule recall", "rule precision", "apart",
    "apart recall", "apart precision", "apart, other class", "part", "silhouette", "part recall",
    "part precision", "trigger, of the class", "trigger, as shown",
)  # fmt: skip


def planted(cases: Cases, mark: str, rate: float, seed: int) -> list[object]:
    """Poison, train, and look at the network as the audit does."""
    random = np.random.default_rng([seed, 17])
    order, stamp = random.permutation(len(cases)), MARKS[mark]
    train, test = cases.select(order[:TRAIN]), cases.select(order[TRAIN : TRAIN + TEST])
    bears = random.choice(np.flatnonzero(train.labels == OTHER), round(rate * TRAIN), replace=False)
    images, labels = np.array(train.inputs), train.labels.copy()
    images[bears], labels[bears] = stamp(images[bears], random), CLASS
    given = replace(train, inputs=images, labels=labels)
    model = RECIPE.fit(given, seed=seed)
    score, victims = model.predict_proba(test)[:, OTHER], test.select(np.flatnonzero(test.labels == OTHER))
    shown, clean = [victims], np.asarray(victims.inputs)
    shown += [replace(victims, inputs=any_mark(clean, random)) for any_mark in MARKS.values()]
    called = [float((model.predict_proba(one).argmax(axis=1) == CLASS).mean()) for one in shown]
    vectors = np.asarray(model.embed(given))
    mine = np.flatnonzero(labels == CLASS)
    told = seen_of_class(vectors, labels, np.isin(mine, bears), seed)
    sizes = trigger_sizes(model, given, seed=seed)
    of_class = None if None in sizes else float(sizes[CLASS] / sizes[OTHER])  # type: ignore[operator]
    area = auc(score[test.labels == OTHER], score[test.labels == CLASS]).value
    return [area, *called, *told, of_class, trigger_ratio(sizes)]


def row(name: str, cases: Cases, mark: str, rate: float, seed: int) -> list[object]:
    """Keep of all that was seen what is of this mark; clean networks are trained once for all marks."""
    key = f"backdoor {name}|{mark if rate else 'none'}|{rate}|{seed}"
    area, before, *told = once(key, partial(planted, cases, mark, rate, seed))
    return [area, before, told[list(MARKS).index(mark)], *told[len(MARKS) :]]


def seen_of_class(
    vectors: NDArray[np.float64], labels: NDArray[np.int64], bears: NDArray[np.bool_], seed: int
) -> list[object]:
    """Hold scores and the smaller part of the poisoned class against who was stamped."""
    mine, number = vectors[labels == CLASS], int(bears.sum())
    scores = spectral_scores(vectors, labels)
    score, apart = scores[labels == CLASS], scores > APART
    centred = mine - mine.mean(axis=0)
    published = (centred @ np.linalg.svd(centred, full_matrices=False)[2][0]) ** 2
    part, silhouette = smaller_part(mine, seed=seed)
    told: list[object] = [None] * 4
    if number:
        areas = [auc(one[bears], one[~bears]).value for one in (score, published)]
        taken = np.isin(np.arange(len(score)), np.argsort(score)[::-1][: round(1.5 * number)])
        told = [*areas, *of_those(taken, bears)]
    told += [float(apart[labels == CLASS].mean()), *of_those(apart[labels == CLASS], bears)]
    told += [float(apart[labels == OTHER].mean())]
    return [*told, float(part.mean()), silhouette, *of_those(part, bears)]


def of_those(taken: NDArray[np.bool_], bears: NDArray[np.bool_]) -> list[object]:
    """Recall and precision, where anybody was stamped."""
    if not bears.any():
        return [None, None]
    both = float((taken & bears).sum())
    return [both / float(bears.sum()), both / float(taken.sum()) if taken.any() else None]


def tables() -> tuple[Table, Table]:
    """Put all sets, marks and rates together; what clean networks give stands in the second table."""
    table = Table("Images", "Mark", "Poisoned", *FIGURES)
    clean = Table("Images", "Figure of clean networks", "Least", "Greatest")
    everything: dict[str, Cases] = {"synthetic": one_each(synthetic_images(1400, seed=8))}
    if IMAGES.exists():
        everything["PneumoniaMNIST"] = pneumonia()
    for name, cases in everything.items():
        for mark in MARKS:
            for rate in RATES if (name, mark) != LEFT_OUT else ():
                rows = [row(name, cases, mark, rate, seed) for seed in range(SEEDS)]
                table.add(name, mark, f"{rate:.0%}", *map(mean, zip(*rows, strict=True)))
                if not rate and mark == "white":
                    for at in (7, 10, 11, 12, 15, 16):
                        values: list[Any] = [row[at] for row in rows if row[at] is not None]
                        clean.add(name, FIGURES[at], min(values), max(values))
    return table, clean


def one_each(cases: Cases) -> Cases:
    """Keep the first case of each patient."""
    return cases.select(np.unique(cases.subject_ids, return_index=True)[1])


def mean(values: tuple[Any, ...]) -> float | str:
    """Average what was asked."""
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.2f}" if known else ""


def main() -> None:
    """Run, print and write the tables."""
    write_page("backdoors", __doc__, *tables())


if __name__ == "__main__":
    main()

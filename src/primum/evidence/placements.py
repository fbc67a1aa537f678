"""AUROCs of several categories guessed of the same patients, in two groups of patients."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from primum.errors import InputError
from primum.evidence.operating_point import TooFewPatients
from primum.evidence.ranking import FloatArray, checked_scores, placements

BoolArray = NDArray[np.bool_]

# Patients that a category needs with it, and as many without it, in each group.
FEWEST_OF_A_KIND = 10


class TooFewLabels(TooFewPatients):
    """No category has enough patients with it and without it; `needed` in each group would do."""

    def __init__(self, needed: int) -> None:
        self.needed = needed
        InputError.__init__(
            self,
            "No category has {kind} patients with it and {kind} without in both groups: give about {needed} "
            "members and as many held-out patients.",
            kind=FEWEST_OF_A_KIND, needed=needed,
        )  # fmt: skip


def auroc_contrast(
    member_scores: ArrayLike,
    member_labels: ArrayLike,
    other_scores: ArrayLike,
    other_labels: ArrayLike,
    *,
    baselines: tuple[ArrayLike, ArrayLike] | None = None,
) -> tuple[float, float, float, tuple[int, int]]:
    """Mean over categories of AUROC on members minus AUROC on others; 0 is no difference, above is worse.

    Parameters
    ----------
    member_scores, other_scores : array_like, shape (m, categories), (n, categories)
    member_labels, other_labels : array_like of bool, same shapes
    baselines : pair of array_like, same shapes, or None
        Guesses for members and for others by someone without the model: the same difference of theirs is
        taken off.

    Returns
    -------
    tuple
        Difference, standard error, degrees of freedom, and the patients of each group.

    Raises
    ------
    TooFewLabels
        When no category has ten patients with it and ten without in both groups.
    InputError
        When shapes differ or a score is not finite.

    References
    ----------
    DeLong, DeLong & Clarke-Pearson, Biometrics 44 (1988) 837; Satterthwaite, Biometrics Bull. 2 (1946) 110.
    """
    first, second = baselines or (None, None)
    scores, labels = _table(member_scores, member_labels)
    others, truths = _table(other_scores, other_labels)
    if scores.shape[1] != others.shape[1]:
        raise InputError("Members and held-out patients must be scored on the same categories.")
    fewest = np.stack([np.minimum(side.sum(axis=0), (~side).sum(axis=0)) for side in (labels, truths)])
    usable: BoolArray = np.all(fewest >= FEWEST_OF_A_KIND, axis=0)
    if not usable.any():
        wanting = np.array([[len(labels)], [len(truths)]]) * FEWEST_OF_A_KIND / np.maximum(fewest, 1)
        raise TooFewLabels(math.ceil(wanting.max(axis=0).min()))
    one = _one_group(scores, labels, first, usable)
    two = _one_group(others, truths, second, usable)
    variance = one[1] + two[1]
    freedom = variance**2 / (one[1] ** 2 / one[2] + two[1] ** 2 / two[2])
    return one[0] - two[0], math.sqrt(variance), freedom, (len(labels), len(truths))


def _one_group(
    scores: ArrayLike, labels: BoolArray, baseline: ArrayLike | None, usable: BoolArray
) -> tuple[float, float, float]:
    """Mean AUROC over the categories that count, its variance and degrees of freedom."""
    value, influence, floor = _influences(scores, labels, usable)
    if baseline is not None:
        without, same, least = _influences(baseline, labels, usable)
        # paired by patient: who is easy for both adds nothing
        value, influence, floor = value - without, influence - same, floor + least
    squares = influence**2
    variance = float(squares.sum())
    if variance <= floor:
        return value, floor, FEWEST_OF_A_KIND - 1.0
    return value, variance, variance**2 / float((squares**2).sum())


def _influences(scores: ArrayLike, labels: ArrayLike, usable: BoolArray) -> tuple[float, FloatArray, float]:
    """Mean AUROC over categories, what each patient adds to its error, shape (n,), and its least variance."""
    values, truths = (table[:, usable] for table in _table(scores, labels))
    influence, found, floor = np.zeros(len(values)), [], 0.0
    for column, has in zip(values.T, truths.T, strict=True):
        above, below = placements(column[has], column[~has])
        value, pairs = float(above.mean()), min(above.size, below.size)
        # the squares of these sum to DeLong's variance
        influence[has] += (above - value) / math.sqrt(above.size * (above.size - 1))
        influence[~has] += (below - value) / math.sqrt(below.size * (below.size - 1))
        # which is 0 where all pairs are in order: it is held above that of half a pair out of order
        near = (value * pairs + 0.5) / (pairs + 1)
        floor += near * (1 - near) / pairs**2
        found.append(value)
    return float(np.mean(found)), influence / len(found), floor / len(found) ** 2


def _table(scores: ArrayLike, labels: ArrayLike) -> tuple[FloatArray, BoolArray]:
    values, truths = np.asarray(scores, np.float64), np.asarray(labels, np.bool_)
    if values.ndim != 2 or values.shape != truths.shape:
        raise InputError("Scores and labels must be tables of one shape, patients by categories.")
    checked_scores(values.ravel(), group="the guesses")
    return values, truths

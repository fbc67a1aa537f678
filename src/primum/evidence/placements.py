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
    member_scores: ArrayLike, member_labels: ArrayLike, other_scores: ArrayLike, other_labels: ArrayLike
) -> tuple[float, float, float, tuple[int, int]]:
    """Mean over categories of AUROC on members minus AUROC on others; 0 is no difference, above is worse.

    Parameters
    ----------
    member_scores, other_scores : array_like, shape (m, categories), (n, categories)
    member_labels, other_labels : array_like of bool, same shapes

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
    scores, labels = _table(member_scores, member_labels)
    others, truths = _table(other_scores, other_labels)
    if scores.shape[1] != others.shape[1]:
        raise InputError("Members and held-out patients must be scored on the same categories.")
    fewest = np.stack([np.minimum(side.sum(axis=0), (~side).sum(axis=0)) for side in (labels, truths)])
    usable = (fewest >= FEWEST_OF_A_KIND).all(axis=0)
    if not usable.any():
        wanting = np.array([[len(labels)], [len(truths)]]) * FEWEST_OF_A_KIND / np.maximum(fewest, 1)
        raise TooFewLabels(math.ceil(wanting.max(axis=0).min()))
    one = _one_group(scores[:, usable], labels[:, usable])
    two = _one_group(others[:, usable], truths[:, usable])
    variance = one[1] + two[1]
    freedom = variance**2 / (one[1] ** 2 / one[2] + two[1] ** 2 / two[2])
    return one[0] - two[0], math.sqrt(variance), freedom, (len(scores), len(others))


def _one_group(scores: FloatArray, labels: BoolArray) -> tuple[float, float, float]:
    """Mean AUROC over categories, its variance and degrees of freedom."""
    influence, values, floor = np.zeros(len(scores)), [], 0.0
    for column, has in zip(scores.T, labels.T, strict=True):
        above, below = placements(column[has], column[~has])
        value, pairs = float(above.mean()), min(above.size, below.size)
        # the squares of these sum to DeLong's variance
        influence[has] += (above - value) / math.sqrt(above.size * (above.size - 1))
        influence[~has] += (below - value) / math.sqrt(below.size * (below.size - 1))
        # which is 0 where all pairs are in order: it is held above that of half a pair out of order
        near = (value * pairs + 0.5) / (pairs + 1)
        floor += near * (1 - near) / pairs**2
        values.append(value)
    squares, least = (influence / len(values)) ** 2, floor / len(values) ** 2
    variance = float(squares.sum())
    if variance <= least:
        return float(np.mean(values)), least, FEWEST_OF_A_KIND - 1.0
    return float(np.mean(values)), variance, variance**2 / float((squares**2).sum())


def _table(scores: ArrayLike, labels: ArrayLike) -> tuple[FloatArray, BoolArray]:
    values, truths = np.asarray(scores, np.float64), np.asarray(labels, np.bool_)
    if values.ndim != 2 or values.shape != truths.shape:
        raise InputError("Scores and labels must be tables of one shape, patients by categories.")
    checked_scores(values.ravel(), group="the guesses")
    return values, truths

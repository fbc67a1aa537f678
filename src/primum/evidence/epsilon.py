"""A lower bound on the privacy loss: how far the scores prove that a model is from differential privacy."""

import math

import numpy as np
from numpy.typing import ArrayLike

from primum.errors import InputError
from primum.evidence.estimate import Estimate
from primum.evidence.operating_point import proportion_limits
from primum.evidence.ranking import FloatArray, checked_scores, checked_share

_CANDIDATES = 64
# three tenths choose: with halves the bound on a mechanism of epsilon 1 falls by a fifth
_CHOOSING = 0.3


def epsilon_lower_bound(
    members: ArrayLike, non_members: ArrayLike, *, delta: float = 1e-5, level: float = 0.95, seed: int = 0
) -> Estimate:
    """Smallest epsilon that the scores leave possible for an (epsilon, delta)-private training.

    0 means that nothing is proved, never that nothing leaks; higher is worse. Under (epsilon, delta)-privacy
    TPR <= exp(epsilon) FPR + delta and 1 - FPR <= exp(epsilon) (1 - TPR) + delta at every threshold. The
    threshold and the side are chosen on three tenths of the patients, and both rates bounded on the others.

    Parameters
    ----------
    members, non_members : array_like, shape (m,), (n,)
        One score a patient, higher = more member-like. Read as a bound on the training only if chance decided
        who was a member.
    delta : float
    level : float
        One-sided: the bound exceeds the true epsilon with probability at most ``1 - level``.
    seed : int
        Of the split.

    Returns
    -------
    Estimate
        `low` is the claim, in nats; `value` the uncorrected ratio on these others (inf where no outsider
        lies above the threshold, nan where it has no meaning); `high` is inf: scores bound epsilon only from
        below.

    Raises
    ------
    InputError
        When a group has fewer than two patients or a score is not finite.

    References
    ----------
    Kairouz, Oh & Viswanath, ICML 2015 (the two inequalities); Jagielski, Ullman & Oprea, NeurIPS 2020 (bounds
    from Clopper-Pearson); 0 of N is read as a rate of at most 3.69/N at level .95.
    """
    first, second = checked_scores(members, group="members"), checked_scores(non_members, group="non-members")
    checked_share(delta, name="delta")
    tail = (1 - checked_share(level, name="level")) / 2
    if min(first.size, second.size) < 2:
        raise InputError("A bound on epsilon needs at least two members and two non-members.")
    random = np.random.default_rng(seed)
    choosing, bounding = zip(*(_parts(scores, random) for scores in (first, second)), strict=True)
    sides = [_side(*choosing, above=above) for above in (True, False)]
    proven = [_ratio(*_limits(*side, _thresholds(*side), tail=tail), delta=delta) for side in sides]
    above = bool(proven[0].max() >= proven[1].max())
    side = sides[0 if above else 1]
    threshold = _thresholds(*side)[[int(proven[0 if above else 1].argmax())]]
    held = _side(*bounding, above=above)
    low = float(_ratio(*_limits(*held, threshold, tail=tail), delta=delta)[0])
    hit, missed = ((part > threshold).mean(keepdims=True) for part in held)
    # a ratio below one shows nothing, which is what an epsilon of 0 says
    value = float(np.maximum(_ratio(hit, missed, delta=delta)[0], 0.0))
    method = f"clopper-pearson on held-back patients, one-sided, delta {delta:g}"
    return Estimate("epsilon", value, max(0.0, low), math.inf, (first.size, second.size), method, level)


def _parts(scores: FloatArray, random: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    mixed = random.permutation(scores)
    cut = max(1, int(_CHOOSING * scores.size))
    return mixed[:cut], mixed[cut:]


def _side(members: FloatArray, non_members: FloatArray, *, above: bool) -> tuple[FloatArray, FloatArray]:
    """Put first the group expected above the threshold: members above, or outsiders below (negated)."""
    return (members, non_members) if above else (-non_members, -members)


def _thresholds(expected: FloatArray, other: FloatArray) -> FloatArray:
    """Pooled scores at geometrically growing ranks, from the top."""
    pooled = np.sort(np.concatenate([expected, other]))[::-1]
    return pooled[np.unique(np.geomspace(1, pooled.size - 1, _CANDIDATES).astype(np.int64))]


def _limits(
    expected: FloatArray, other: FloatArray, thresholds: FloatArray, *, tail: float
) -> tuple[FloatArray, FloatArray]:
    """Low limit of the expected group's rate above each threshold, high limit of the other's."""

    def above(scores: FloatArray) -> FloatArray:
        counts = scores.size - np.searchsorted(np.sort(scores), thresholds, side="right")
        return counts.astype(np.float64)

    low, _ = proportion_limits(above(expected), expected.size, tail=tail)
    _, high = proportion_limits(above(other), other.size, tail=tail)
    return low, high


def _ratio(hit: FloatArray, missed: FloatArray, *, delta: float) -> FloatArray:
    """Log of (hit - delta) / missed; inf where only `missed` is 0, -inf or nan where nothing is left."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(np.maximum(hit - delta, 0.0) / missed)

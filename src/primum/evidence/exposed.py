"""Who is most exposed: whether a group has more than its part among them."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import hypergeom

from primum.errors import InputError
from primum.evidence.estimate import Estimate
from primum.evidence.operating_point import proportion_limits
from primum.evidence.ranking import check_paired, checked_scores, checked_share

EXPOSED_SHARE = 0.01


def top_share(
    scores: ArrayLike, is_member: ArrayLike, group: ArrayLike, *, share: float = EXPOSED_SHARE
) -> Estimate:
    """Share of a group among the most exposed members, over its share among all members.

    1 means that the group has no more than its part; above is worse.

    Parameters
    ----------
    scores : array_like, shape (n,)
        Higher = more exposed. Only members count.
    is_member, group : array_like of bool, shape (n,)
    share : float
        Most exposed part of the members, at least one; members who tie at its edge are taken in or left out
        together, whichever comes nearer to that size.

    Returns
    -------
    Estimate
        Named ``over_representation``; the 95 % Clopper-Pearson interval of the share among the exposed, over
        the share among members. `n` counts all members.

    Raises
    ------
    InputError
        When there is no member, or none in the group, or a score is not finite.

    References
    ----------
    Clopper & Pearson, Biometrika 26 (1934) 404; wider than the hypergeometric interval of a finite cohort.
    """
    hits, top, in_group, total = exposed_counts(scores, is_member, group, share=share)
    low, high = proportion_limits(np.array([float(hits)]), top, tail=0.025)
    part = in_group / total
    limits = float(low[0]) / part, float(high[0]) / part
    return Estimate("over_representation", hits / top / part, *limits, (total,), "clopper-pearson-scaled")


def top_share_p_value(
    scores: ArrayLike, is_member: ArrayLike, group: ArrayLike, *, share: float = EXPOSED_SHARE
) -> float:
    """Exact test that a group is no more frequent among the most exposed members; small p is worse.

    Parameters and errors as :func:`top_share`; hypergeometric, Fisher 1934.
    """
    hits, top, in_group, total = exposed_counts(scores, is_member, group, share=share)
    return float(min(1.0, hypergeom.sf(hits - 1, total, in_group, top)))


def exposed_counts(
    scores: ArrayLike, is_member: ArrayLike, group: ArrayLike, *, share: float = EXPOSED_SHARE
) -> tuple[int, int, int, int]:
    """Members of the group among the exposed, the exposed, members of the group, members.

    Parameters and errors as :func:`top_share`.
    """
    values = checked_scores(scores, group="all patients")
    member, inside = np.asarray(is_member, np.bool_), np.asarray(group, np.bool_)
    check_paired((values.size, values.size), (member.size, inside.size))
    exposure, inside = values[member], inside[member]
    if not inside.any():
        raise InputError("No member is in the group: nothing can be said about it.")
    size = max(1, math.ceil(checked_share(share, name="share") * exposure.size - 1e-9))
    edge = np.sort(exposure)[::-1][size - 1]
    above, reaching = exposure > edge, exposure >= edge
    # as a ratio, with no one above never the nearer
    top = above if size**2 <= int(above.sum()) * int(reaching.sum()) else reaching
    return int((inside & top).sum()), int(top.sum()), int(inside.sum()), inside.size

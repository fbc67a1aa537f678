"""Naming single patients with error control: each against what models that never saw the patient would say.

A patient's own null is the spread of the patient's score over reference models; held-out patients say how far
these nulls can be trusted in the tail.

References
----------
Carlini et al., Membership inference attacks from first principles, S&P 2022 (Gaussian nulls, per patient).
Simes, Biometrika 73 (1986) 751; Benjamini & Hochberg, J. R. Statist. Soc. B 57 (1995) 289.
Goeman, Meijer, Krebs & Solari, Biometrika 106 (2019) 841 (how many of those named are right).
Smyth, Stat. Appl. Genet. Mol. Biol. 3 (2004) 3 (variances drawn towards one another).
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import brentq, nnls
from scipy.special import digamma, polygamma

from primum.errors import InputError
from primum.evidence.contrast import BoolArray, FloatArray, Frame, shown
from primum.evidence.curves import SMALLEST_CELL
from primum.evidence.estimate import Estimate
from primum.evidence.finding import Message
from primum.evidence.multiplicity import simes
from primum.evidence.ranking import checked_scores
from primum.evidence.verdicts import Claim

FEWEST_REFERENCES = 16
# Below this the tail of the held-out patients, from which the nulls are calibrated, is hardly seen.
FEWEST_HELD_OUT = 100
FALSE_DISCOVERY_RATE = 0.05
BANDS = ("low", "raised", "high")
# Where a calibrated p ends being low risk, and being raised: 5 % and 0.1 % of patients whom no model saw.
BAND_EDGES = (0.05, 0.001)
# Variance of log variances below which patients are taken to share one variance.
_LEAST_SPREAD = 1e-4
# The part of the held-out patients whose scores set the scale of the nulls.
_TAIL = 0.05


@dataclass(frozen=True, eq=False)
class Naming:
    """One p-value a patient, calibrated on the held-out patients.

    Attributes
    ----------
    p_values : float64, shape (n,)
        That of "this patient did not train the model"; small = likely trained it.
    is_member : bool, shape (n,)
    references : int
        Reference models behind each null.
    freedom : float
        Degrees of freedom of each null.
    factor : float
        By how much the held-out patients made every null's variance larger, at least 1.
    added : float
        Deviation that the held-out patients showed beyond the spread over references, in units of the score.
    scale : float
        By how much the held-out tail made every null wider still (below 1: `factor` had made it too wide).
    """

    p_values: FloatArray
    is_member: BoolArray
    references: int
    freedom: float
    factor: float
    added: float
    scale: float

    @property
    def trusted(self) -> bool:
        """Whether the same procedure would name nobody among the held-out patients, who trained nothing."""
        return simes(self.p_values[~self.is_member]) > FALSE_DISCOVERY_RATE


def naming_of(target: ArrayLike, references: ArrayLike, is_member: ArrayLike) -> Naming:
    """Give each patient the p-value of "the model is one more reference that did not see this patient".

    What a whole model does to everyone is taken off by the mean over held-out patients. A patient's score is
    then compared with its mean over `R` references by Student's t. The variance is that over references,
    drawn towards what patients share, (1 + 1/`R`) times for a new observation; and made wider by what the
    held-out patients show: by a factor, by what is added to all, and until the most extreme twentieth of them
    lies, on average and a standard error further, where Student's law has it.

    Parameters
    ----------
    target : array_like, shape (n,)
        Score of each patient under the audited model, higher = more member-like, near Gaussian over models:
        mean log p, or log-odds.
    references : array_like, shape (n, R)
        The same score under each reference; none of them saw the patient.
    is_member : array_like of bool, shape (n,)

    Raises
    ------
    InputError
        Fewer than 16 references, nobody on one side, or a score that is not finite.
    """
    score, others = checked_scores(target, group="patients"), np.asarray(references, np.float64)
    member = np.asarray(is_member, np.bool_)
    if others.ndim != 2 or len(others) != len(score) or member.shape != score.shape:
        raise InputError("Naming needs one row of reference scores and one membership for each patient.")
    count = others.shape[1]
    if count < FEWEST_REFERENCES or not np.isfinite(others).all():
        raise InputError(
            "Naming needs finite scores under at least {fewest} reference models; there are {have}.",
            fewest=FEWEST_REFERENCES,
            have=count,
        )
    if member.all() or not member.any():
        raise InputError("Naming needs training patients and held-out patients: one side is empty.")
    score = score - score[~member].mean()
    others = others - others[~member].mean(axis=0)
    difference = score - others.mean(axis=1)
    own, freedom = _moderated(others.var(axis=1, ddof=1), count - 1)
    own *= 1 + 1 / count
    factor, added = _variance(own[~member], difference[~member] ** 2)
    student = difference / np.sqrt(factor * own + added)
    scale = max(_scale(student[~member], freedom), 1 / math.sqrt(factor))
    return Naming(
        stats.t.sf(student / scale, freedom), member, count, freedom, factor, math.sqrt(added), scale
    )


def _moderated(variance: FloatArray, freedom: int) -> tuple[FloatArray, float]:
    """Draw each patient's variance towards what all share, and count the degrees of freedom that this brings.

    Variances are taken as scaled inverse chi-square over patients; its two parameters come from the mean and
    variance of their logarithms (Smyth 2004).
    """
    logs = np.log(np.maximum(variance, np.finfo(np.float64).tiny))
    spread = max(float(logs.var(ddof=1) - polygamma(1, freedom / 2)), _LEAST_SPREAD)
    prior = 2 * float(brentq(lambda half: float(polygamma(1, half)) - spread, 1e-6, 2 / _LEAST_SPREAD))
    shared = logs.mean() - digamma(freedom / 2) + math.log(freedom) + digamma(prior / 2) - math.log(prior)
    total = prior + freedom
    return (prior * math.exp(shared) + freedom * variance) / total, total


def _variance(own: FloatArray, seen: FloatArray) -> tuple[float, float]:
    """How the squared differences `seen` of held-out patients follow their nulls' `own` variance.

    A factor, at least 1, and what is added to everyone: another model differs from the references also by
    what they have in common. Least squares, weighted by about the inverse of the variance of a square.
    """
    weight = 1 / np.maximum(own + np.median(own), np.finfo(np.float64).tiny)
    (factor, added), _ = nnls(np.stack([own, np.ones_like(own)], axis=1) * weight[:, None], seen * weight)
    return max(1.0, float(factor)), float(added)


def _scale(held_out: FloatArray, freedom: float) -> float:
    """By how much to widen the nulls for the held-out tail, a standard error further, to lie right."""
    tail = np.sort(held_out)[-math.ceil(_TAIL * len(held_out)) :]
    expected = stats.t.isf((np.arange(len(tail)) + 0.5) / len(held_out), freedom)
    return float((tail.mean() + tail.std() / math.sqrt(len(tail))) / expected.mean())


def named_claim(naming: Naming, frame: Frame) -> Claim:
    """Claim that some patients are known to have trained the model; none is no effect, more is worse.

    One p-value, Simes' over the members, for the budget that all claims share. The judged estimate is how
    many a 5 % false-discovery rule names, at least (one to four are told as one); low: how many of these are
    right at 95 %; high: everyone, because no attack proves that a patient was forgotten.
    """
    members = naming.p_values[naming.is_member]
    reachable = _adjusted(members) <= FALSE_DISCOVERY_RATE
    right = surely_right(members, reachable)
    # The lowest band is not counted out: with it, a hidden count would be what is left of all members.
    bands = {name: shown(int((_bands(members) == name).sum())) for name in BANDS[1:]}
    draft = replace(
        frame.finding(
            "membership.named",
            {
                "members": shown(len(members)),
                "held_out": shown(int((~naming.is_member).sum())),
                "reference_models": naming.references,
                "null_freedom": naming.freedom,
                "null_factor": naming.factor,
                "null_added": naming.added,
                "null_scale": naming.scale,
            },
        ),
        material=1.0,
        p_value=simes(members),
        estimates=(
            Estimate(
                "nameable",
                _told(int(reachable.sum())),
                _told(right),
                float(len(members)),
                (len(members),),
                "simes-closed",
            ),
        ),
        references=("carlini2022", "simes1986", "benjamini1995", "goeman2019"),
        reasons=(Message("risk_bands", bands),),
    )
    return Claim(draft, "leak", too_few=_refused(naming))


def _refused(naming: Naming) -> Message | None:
    """Why the nulls cannot be relied upon, if they cannot."""
    held_out = int((~naming.is_member).sum())
    if held_out < FEWEST_HELD_OUT:
        return Message("too_few_patients", {"needed": FEWEST_HELD_OUT, "have": shown(held_out)})
    return None if naming.trusted else Message("naming_untrusted")


def named_table(naming: Naming, *, named: bool) -> dict[str, NDArray[Any]]:
    """Columns of the confidential table, one row a member; it says who, so it never leaves the hospital.

    Parameters
    ----------
    naming : Naming
    named : bool
        Whether the claim survived the correction for all claims; if not, nobody is named and the band is all
        that can be said.

    Returns
    -------
    dict of str to ndarray, shape (members,)
        ``row`` in the order of the audit, ``p``, ``q`` (the false-discovery rate at which the patient would
        be named), ``band`` (high: p ≤ .001, raised: p ≤ .05, else low) and ``named``.
    """
    members = naming.p_values[naming.is_member]
    q = _adjusted(members)
    return {
        "row": np.flatnonzero(naming.is_member),
        "p": members,
        "q": q,
        "band": _bands(members),
        "named": (q <= FALSE_DISCOVERY_RATE) & named,
    }


def surely_right(p_values: ArrayLike, chosen: ArrayLike, *, level: float = 0.95) -> int:
    """At least how many of the `chosen` hypotheses are false, whatever rule chose them; more is worse.

    Closed testing with Simes tests: with probability `level` the answer is too high for no choice at all.

    Parameters
    ----------
    p_values : array_like, shape (n,)
        Independent or positively dependent.
    chosen : array_like of bool, shape (n,)
    level : float

    References
    ----------
    Goeman, Meijer, Krebs & Solari, Biometrika 106 (2019) 841.

    Examples
    --------
    >>> surely_right([0.001, 0.004, 0.8], [True, True, True])
    2
    """
    ordered, alpha = np.sort(np.asarray(p_values, np.float64)), 1 - level
    low, high = 0, len(ordered)
    while low < high:  # the largest number of the highest p-values that Simes' test does not reject
        middle = (low + high + 1) // 2
        kept = ordered[len(ordered) - middle :] * middle > alpha * np.arange(1, middle + 1)
        low, high = (middle, high) if kept.all() else (low, middle - 1)
    mine = np.sort(np.asarray(p_values, np.float64)[np.asarray(chosen, np.bool_)])
    steps = np.arange(1, len(mine) + 1)
    counts = np.searchsorted(mine * low, alpha * steps, side="right")
    return int(max(0, (1 - steps + counts).max(initial=0)))


def fewest_nameable(members: int, held_out: int) -> int:
    """Fewest people that ranks among `held_out` patients can name, when nobody has trained a reference.

    The smallest p-value is 1 / (`held_out` + 1), and at 5 % false discoveries k of n people are named only by
    p-values of at most .05 k / n: about twenty with as many members as held-out patients.

    Examples
    --------
    >>> fewest_nameable(1000, 1000)
    20
    """
    return math.ceil(members / (FALSE_DISCOVERY_RATE * (held_out + 1)))


def _adjusted(p_values: FloatArray) -> FloatArray:
    return np.asarray(stats.false_discovery_control(p_values), np.float64)


def _bands(p_values: FloatArray) -> NDArray[np.str_]:
    return np.array(BANDS)[sum((p_values <= edge).astype(np.int64) for edge in BAND_EDGES)]


def _told(count: int) -> float:
    """Round a count of patients down to one that may be told: one to four are told as at least one."""
    return float(count if count >= SMALLEST_CELL else min(count, 1))

"""Members against held-out patients, one score a patient: the claims that such a contrast can carry."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from primum.evidence.curves import SMALLEST_CELL
from primum.evidence.estimate import Estimate
from primum.evidence.finding import Finding, Message, Scalar
from primum.evidence.operating_point import (
    TooFewPatients,
    operating_point,
    pooled_threshold_p_value,
    tpr_at_fpr,
    tpr_difference,
)
from primum.evidence.power import (
    patients_needed_for_auc,
    patients_needed_for_tpr,
    smallest_detectable_auc,
)
from primum.evidence.ranking import auc, auc_difference, auc_p_value, auc_stratified
from primum.evidence.verdicts import Claim

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

MATERIAL_AUC = 0.55
MATERIAL_TPR = 0.02
FALSE_POSITIVE_RATE = 0.01
# Below this a rank test could hardly reject and its normal approximation is poor.
FEWEST_PATIENTS = 20
DIFFERENCE_RESAMPLES = 4000


@dataclass(frozen=True, eq=False)
class Contrast:
    """Scores of the audited patients, in one order.

    Attributes
    ----------
    score, blind : float64, shape (n,)
        The attack, and the attack that never sees the model; higher = more member-like.
    is_member : bool, shape (n,)
    strata : int64, shape (n,)
        Cells of sex, age and length, for the stratified estimate.
    """

    score: FloatArray
    blind: FloatArray
    is_member: BoolArray
    strata: IntArray

    def within(self, mask: BoolArray) -> "Contrast":
        """Keep the patients of a subgroup."""
        return Contrast(self.score[mask], self.blind[mask], self.is_member[mask], self.strata[mask])

    def groups(self) -> tuple[FloatArray, FloatArray]:
        """Attack scores of members and of held-out patients."""
        return self.score[self.is_member], self.score[~self.is_member]

    def blind_groups(self) -> tuple[FloatArray, FloatArray]:
        """Blind scores of members and of held-out patients."""
        return self.blind[self.is_member], self.blind[~self.is_member]


@dataclass(frozen=True)
class Frame:
    """What all findings of one contrast share: identity, design, seed."""

    model: str
    data: str
    attacker: str
    membership: Literal["observed", "randomised"]
    seed: int

    def finding(self, test: str, settings: Mapping[str, Scalar]) -> Finding:
        """Start a finding."""
        return Finding(
            test=test,
            verdict="inconclusive",
            harmful=False,
            model=self.model,
            data=self.data,
            attacker=self.attacker,
            membership=self.membership,
            seed=self.seed,
            settings=settings,
        )


def shown(count: int) -> int | str:
    """Return a count of patients as it may leave the hospital: one to four people are not counted out.

    Examples
    --------
    >>> shown(0), shown(3), shown(5)
    (0, '< 5', 5)
    """
    return count if count == 0 or count >= SMALLEST_CELL else f"< {SMALLEST_CELL}"


def auc_claim(
    test: str,
    contrast: Contrast,
    frame: Frame,
    *,
    primary: bool = False,
    subgroup: str | None = None,
) -> Claim:
    """Claim that members rank above held-out patients.

    Zero effect is an AUC of .5; above it is worse. One-sided Mann-Whitney p-value, DeLong interval.
    """
    members, others = contrast.groups()
    counts: dict[str, Scalar] = {"members": shown(len(members)), "held_out": shown(len(others))}
    draft = replace(
        frame.finding(test, counts),
        primary=primary,
        material=MATERIAL_AUC,
        subgroups=(subgroup,) if subgroup else (),
        references=("tonekaboni2025", "delong1988", "sunxu2014", "mannwhitney1947", "das2025"),
    )
    needed = _needed_for_auc(len(members), len(others))
    if min(len(members), len(others)) < FEWEST_PATIENTS:
        have = shown(min(len(members), len(others)))
        too_few = Message("too_few_patients", {"needed": FEWEST_PATIENTS, "have": have})
        return Claim(draft, "leak", too_few=too_few, needed=needed)
    blind = replace(auc(*contrast.blind_groups()), name="blind_auc")
    estimates = [auc(members, others)]
    if primary:
        estimates.append(_stratified(contrast))
    draft = replace(
        draft, p_value=auc_p_value(members, others), estimates=(*estimates, blind), settings=counts
    )
    return Claim(
        draft,
        "leak",
        needed=needed,
        blind_auc=blind,
        excess=partial(_auc_excess, contrast),
        smallest=lambda alpha: smallest_detectable_auc(len(members), len(others), alpha=alpha),
    )


def tpr_claim(test: str, contrast: Contrast, frame: Frame) -> Claim:
    """Claim that some members are recognised at a false-positive rate of 1 %.

    No effect is a true-positive rate equal to the false-positive rate; above it is worse. The p-value is
    exact (hypergeometric) at a threshold pooled over both groups; the interval is Clopper-Pearson.
    """
    members, others = contrast.groups()
    draft = replace(
        frame.finding(
            test,
            {
                "members": shown(len(members)),
                "held_out": shown(len(others)),
                "target_fpr": FALSE_POSITIVE_RATE,
            },
        ),
        material=MATERIAL_TPR,
        references=("carlini2022", "clopper1934", "tonekaboni2025"),
    )
    needed = _needed_for_tpr(len(members), len(others))
    try:
        point = operating_point(members, others, fpr=FALSE_POSITIVE_RATE)
        blind = replace(tpr_at_fpr(*contrast.blind_groups(), fpr=FALSE_POSITIVE_RATE), name="blind_tpr")
    except TooFewPatients as error:
        too_few = Message("too_few_patients", {"needed": error.needed, "have": shown(len(others))})
        return Claim(draft, "leak", too_few=too_few, needed=needed)
    draft = replace(
        draft,
        p_value=pooled_threshold_p_value(members, others, fpr=FALSE_POSITIVE_RATE),
        estimates=(point.tpr, replace(point.fpr, name="realised_fpr"), blind),
        settings={**draft.settings, "threshold": point.threshold},
    )
    return Claim(
        draft,
        "leak",
        needed=needed,
        blind_auc=replace(auc(*contrast.blind_groups()), name="blind_auc"),
        excess=partial(_tpr_excess, contrast),
    )


def descriptive(test: str, contrast: Contrast, frame: Frame, estimate: Estimate) -> Finding:
    """Report a number beside the claims; it cannot alarm."""
    members, others = contrast.groups()
    draft = frame.finding(test, {"members": shown(len(members)), "held_out": shown(len(others))})
    return replace(draft, verdict="descriptive", estimates=(estimate,), reasons=(Message("reported_only"),))


def _stratified(contrast: Contrast) -> Estimate:
    members, others = contrast.groups()
    strata = contrast.strata
    return replace(
        auc_stratified(members, others, strata[contrast.is_member], strata[~contrast.is_member]),
        name="auc_stratified",
    )


def _auc_excess(contrast: Contrast, level: float) -> Estimate:
    difference = auc_difference(*contrast.groups(), *contrast.blind_groups(), level=level)
    return replace(difference, name="auc_minus_blind")


def _tpr_excess(contrast: Contrast, level: float) -> Estimate:
    difference = tpr_difference(
        *contrast.groups(),
        *contrast.blind_groups(),
        fpr=FALSE_POSITIVE_RATE,
        level=level,
        resamples=DIFFERENCE_RESAMPLES,
    )
    return replace(difference, name="tpr_minus_blind")


def _needed_for_auc(members: int, others: int) -> Message:
    ratio = ratio_of(members, others)
    return needed_message(patients_needed_for_auc(MATERIAL_AUC, ratio=ratio), ratio)


def _needed_for_tpr(members: int, others: int) -> Message:
    ratio = ratio_of(members, others)
    return needed_message(patients_needed_for_tpr(MATERIAL_TPR, fpr=FALSE_POSITIVE_RATE, ratio=ratio), ratio)


def ratio_of(members: int, others: int) -> float:
    """Held-out patients a member, as they are; one to one where the ratio would tell a hidden count."""
    return others / members if min(members, others) >= SMALLEST_CELL else 1.0


def needed_message(members: int, ratio: float) -> Message:
    """Say how many patients would settle a claim: so many members, `ratio` times as many held-out."""
    held_out = max(1, round(members * ratio))
    return Message("needs_patients", {"needed_members": members, "needed_held_out": held_out})

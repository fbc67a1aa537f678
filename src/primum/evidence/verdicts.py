"""From claims to verdicts: error control over everything that may alarm, then the rules in their one order.

``not_applicable`` → too few patients: ``inconclusive`` → harm (adjusted p < .05 and the estimate reaches what
matters) → ``none_found`` (the interval ends below what matters) → ``inconclusive``. Unless membership was
randomised, harm that a model-blind attack could explain is ``confounded``, and so is every verdict when the
two groups can be told apart without the model.

References
----------
Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6:65-70, 1979 (weights too).
Das, Zhang and Tramer, Blind baselines beat membership inference attacks for foundation models, 2025.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from primum.evidence.estimate import Estimate
from primum.evidence.finding import Finding, Message, Verdict
from primum.evidence.multiplicity import holm

FloatArray = NDArray[np.float64]

ALPHA = 0.05
# Parts of the error budget. Leaks and gaps between groups are small beside their chance; an attack that turns
# verdicts, or an explanation that follows nothing, is seen at any level.
_BUDGET = {"privacy": 8, "equity": 4, "data": 2, "robustness": 1, "explanations": 1}
BLIND_LIMIT = 0.60


@dataclass(frozen=True)
class Claim:
    """A finding that waits for its verdict.

    Attributes
    ----------
    draft : Finding
        Complete but for verdict, adjusted p-value and reasons; the first estimate is judged.
    harm : Verdict
        The family's word for harm.
    too_few : Message or None
        Set when there are too few patients to judge.
    needed : Message or None
        How many patients would settle it, said when it is inconclusive.
    blind_auc : Estimate or None
        How well this claim's groups are told apart without the model.
    excess : callable or None
        Interval of (attack - blind) at a given level, paired by patient.
    corrected : callable or None
        Interval of the judged estimate at a given level, shown beside it.
    smallest : callable or None
        Smallest effect that a test at a given error would detect four times out of five.
    contrast : bool
        Whether it compares members with held-out patients: only then can a difference between the two groups
        explain it.
    """

    draft: Finding
    harm: Verdict
    too_few: Message | None = None
    needed: Message | None = None
    blind_auc: Estimate | None = None
    excess: Callable[[float], Estimate] | None = None
    corrected: Callable[[float], Estimate] | None = None
    smallest: Callable[[float], float] | None = None
    contrast: bool = True


def shares_of_error(claims: Sequence[Claim]) -> FloatArray:
    """Divide the error budget among parts of the audit, and each part's between everyone and subgroups.

    Of a part, half goes to claims about everyone and half to those about a subgroup: many small subgroups
    then cannot drown a claim about all patients. Parts that are not there leave theirs to the others. Shares
    sum to 1.
    """
    parts = np.array([_part(claim) for claim in claims])
    about_group = np.array([bool(claim.draft.subgroups) for claim in claims])
    there = np.unique(parts).tolist()
    shares = np.zeros(len(claims))
    for part in there:
        kinds = [(parts == part) & about_group, (parts == part) & ~about_group]
        kinds = [kind for kind in kinds if kind.any()]
        for kind in kinds:
            shares[kind] = _BUDGET[part] / (len(kinds) * kind.sum())
    return shares / sum(_BUDGET[part] for part in there)


def _part(claim: Claim) -> str:
    return "privacy" if claim.contrast else claim.draft.test.partition(".")[0]


def judge(claims: Sequence[Claim], *, design_blind: Estimate | None = None) -> list[Finding]:
    """Give each claim its verdict, with Holm's correction over all that carry a p-value.

    `design_blind` is the blind AUC over all patients: when it shows that the two groups differ by design, no
    verdict stands.
    """
    tested = [c for c in claims if c.draft.p_value is not None and c.too_few is None]
    shares = shares_of_error(tested) if tested else np.empty(0)
    adjusted = (
        holm(np.array([c.draft.p_value for c in tested], float), weights=shares) if tested else np.empty(0)
    )
    budget = {c.draft.test: (float(p), float(s)) for c, p, s in zip(tested, adjusted, shares, strict=True)}
    return [_judge_one(claim, budget.get(claim.draft.test), len(tested), design_blind) for claim in claims]


def _judge_one(
    claim: Claim, budget: tuple[float, float] | None, claims: int, design_blind: Estimate | None
) -> Finding:
    p_adjusted, share = budget or (None, 1.0)
    verdict, reasons = _verdict(claim, p_adjusted)
    estimates, settings = claim.draft.estimates, dict(claim.draft.settings)
    if budget is not None:
        settings |= {"claims": claims, "share_of_error": share}
        if claim.smallest is not None:
            settings["smallest_detectable"] = claim.smallest(ALPHA * share)
        if claim.corrected is not None:
            shown = claim.corrected(1 - ALPHA * share)
            estimates = (estimates[0], replace(shown, name=f"{shown.name}_corrected"), *estimates[1:])
    if claim.contrast and claim.draft.membership == "observed":
        if verdict == claim.harm and claim.excess is not None:
            excess = claim.excess(1 - ALPHA * share)
            estimates = (*estimates, excess)
            if not excess.low > 0:
                verdict, reasons = "confounded", [Message("not_beyond_blind")]
        for blind in (design_blind, claim.blind_auc):
            if blind is not None and blind.value >= BLIND_LIMIT and blind.low > 0.5:
                verdict, reasons = "confounded", [Message("blind_explains", {"blind_auc": blind.value})]
                break
    return replace(
        claim.draft,
        verdict=verdict,
        harmful=verdict == claim.harm,
        p_adjusted=p_adjusted,
        estimates=estimates,
        settings=settings,
        reasons=(*claim.draft.reasons, *reasons),
    )


def _verdict(claim: Claim, p_adjusted: float | None) -> tuple[Verdict, list[Message]]:
    needed = [claim.needed] if claim.needed else []
    if claim.too_few is not None:
        return "inconclusive", [claim.too_few, *needed]
    judged, material = claim.draft.estimates[0], claim.draft.material
    if p_adjusted is None or material is None:
        raise ValueError(f"{claim.draft.test} is a claim without a p-value or a material effect")
    detected = p_adjusted < ALPHA
    if detected and judged.value >= material:
        return claim.harm, [Message("harm_found")]
    if judged.high < material:
        return "none_found", [Message("detectable_but_immaterial" if detected else "below_material")]
    return "inconclusive", needed

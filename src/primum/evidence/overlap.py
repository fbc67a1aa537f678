"""The first finding of every audit: whether the two groups are different people at all."""

from dataclasses import replace

from scipy import stats

from primum.evidence.contrast import Frame
from primum.evidence.estimate import Estimate
from primum.evidence.finding import Finding, Message

MATERIAL_OVERLAP = 0.05


def overlap_finding(frame: Frame, *, duplicated: int, held_out: int, members: int) -> Finding:
    """Report how many held-out patients nearly repeat a training patient under another identifier.

    Zero is the good value. Harmful above 5 % of held-out patients: it is counted, not inferred, so it carries
    no p-value. Those patients have left the held-out side before any score.
    """
    share = duplicated / held_out if held_out else 0.0
    low = float(stats.beta.ppf(0.025, duplicated, held_out - duplicated + 1)) if duplicated else 0.0
    high = (
        float(stats.beta.ppf(0.975, duplicated + 1, held_out - duplicated)) if duplicated < held_out else 1.0
    )
    harmful = share > MATERIAL_OVERLAP
    reasons = [Message("overlap_found", {"share": share}) if harmful else Message("no_overlap")]
    if duplicated:
        reasons.append(Message("duplicates_dropped", {"pairs": duplicated}))
    estimate = Estimate("near_duplicate_share", share, low, high, (members, held_out), "clopper-pearson")
    return replace(
        frame.finding("data.overlap", {"jaccard": 0.8, "duplicated": duplicated}),
        verdict="tainted" if harmful else "none_found",
        harmful=harmful,
        primary=True,
        material=MATERIAL_OVERLAP,
        estimates=(estimate,),
        references=("broder1997",),
        reasons=tuple(reasons),
    )

"""Whom a classifier serves worse: from held-out cases with the model's answers to claims.

A group is compared with everyone else whose attribute is known. The family's primary test asks for the
largest gap in sensitivity: the share of the ill whom the model finds. One error budget covers all groups
(Bonferroni's first step of Holm) and, with several classes, all classes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from primum.evidence.contrast import Frame
from primum.evidence.equity.answers import (
    FEWEST,
    NEUTRAL,
    Answers,
    Group,
    answers_of,
    groups_of,
    pairs_of,
)
from primum.evidence.equity.calibration import bin_edges, calibration_gap, profile
from primum.evidence.equity.curves import group_series
from primum.evidence.equity.gaps import Gap, rate_gap, standardised_over
from primum.evidence.equity.proxy import proxies
from primum.evidence.equity.ranks import auc_gap
from primum.evidence.estimate import Estimate
from primum.evidence.finding import Finding, Message, Scalar
from primum.evidence.membership import wanted
from primum.evidence.observed import Observed
from primum.evidence.rule import Rule
from primum.evidence.verdicts import ALPHA, Claim

RULES: Mapping[str, Rule] = {
    "equity.sensitivity": Rule(
        "observed", "none", ("newcombe1998", "seyyedkalantari2021", "greenland1985"), primary=True
    ),
    "equity.specificity": Rule("observed", "none", ("newcombe1998", "seyyedkalantari2021")),
    "equity.auc": Rule("observed", "none", ("delong1988", "obuchowski1997")),
    "equity.calibration": Rule("observed", "none", ("vancalster2019", "kumar2019", "vickers2006")),
    "equity.pairs": Rule("observed", "none", ("newcombe1998", "buolamwini2018")),
    "equity.proxy": Rule("observed", "none", ("gichoya2022", "delong1988"), claims=False),
}
MATERIAL: Mapping[str, float] = {
    "equity.sensitivity": 0.03,
    "equity.specificity": 0.03,
    "equity.auc": 0.05,
    "equity.calibration": 0.05,
    "equity.pairs": 0.03,
}
_PAIRS_SHOWN = 12
# Only those of the class, or only the others, tell of these measures.
_NEEDS = {
    "equity.sensitivity": "group_needs_ill",
    "equity.specificity": "group_needs_well",
    "equity.pairs": "group_needs_ill",
}


@dataclass(frozen=True, eq=False)
class _Asked:
    """One test with every gap it could measure; `groups` are those it was to compare."""

    test: str
    answers: Answers
    groups: tuple[Group, ...]
    gaps: tuple[Gap, ...]
    frame: Frame
    settings: Mapping[str, Scalar]

    @property
    def material(self) -> float:
        return MATERIAL[self.test]


def equity_claims(
    observed: Observed, frame: Frame, *, only: Sequence[str] = ()
) -> tuple[list[Claim], list[Finding]]:
    """Return what is claimed of the groups, the primary test first, and what is only described.

    Parameters
    ----------
    observed : Observed
        As :func:`primum.audits.equity.observe.observe_equity` makes it.
    frame : Frame
    only : sequence of str
        Prefixes of tests; the primary test is always there.

    Returns
    -------
    tuple of list of Claim and list of Finding
        Each claim's first estimate is a gap: everyone else minus the group for sensitivity, specificity and
        AUC; the absolute difference of calibration in the large. 0 is none, higher is worse.
    """
    asked_for = [test for test in RULES if RULES[test].primary or _wanted(test, only)]
    if observed.refused:
        known = (test for test in asked_for if test in observed.refused)
        return [], [_refused(test, observed.refused[test], frame) for test in known]
    answers = answers_of(observed)
    groups = groups_of(answers)
    claims: list[Claim] = []
    described: list[Finding] = []
    for test in (one for one in asked_for if RULES[one].claims):
        chosen = pairs_of(answers) if test == "equity.pairs" else groups
        settings = {**observed.settings, "groups": len(chosen)}
        asked = _Asked(test, answers, chosen, tuple(_gaps(test, answers, chosen)), frame, settings)
        claims.append(_overall(asked))
        each = [_about(asked, group) for group in chosen if wanted(f"{test}@{group.name}", only)]
        if test == "equity.sensitivity":
            claims += each
        else:
            described += _described(asked, each)
    if "equity.proxy" in asked_for:
        described += _proxy(observed, answers, groups, frame, only)
    return claims, described


def _wanted(test: str, only: Sequence[str]) -> bool:
    return wanted(test, only) or any(prefix.startswith(f"{test}@") for prefix in only)


def _gaps(test: str, answers: Answers, groups: tuple[Group, ...]) -> Iterator[Gap]:
    measures: Mapping[str, Callable[[Answers, Group, int], Gap | None]] = {
        "equity.sensitivity": partial(rate_gap, measure="sensitivity", standardised=True),
        "equity.specificity": partial(rate_gap, measure="specificity"),
        "equity.pairs": partial(rate_gap, measure="sensitivity"),
        "equity.calibration": calibration_gap,
    }
    for target, given in answers.probability.items():
        measure = measures.get(test) or partial(auc_gap, order=np.argsort(given))
        yield from filter(None, (measure(answers, group, target) for group in groups))


def judged(gaps: Sequence[Gap]) -> Gap:
    """Return the gap that speaks for several: the largest that chance does not explain, else the likeliest.

    Its p-value times their number is the p-value of all: never below that of the likeliest one.
    """
    sure = [gap for gap in gaps if gap.p_value * len(gaps) < ALPHA]
    if sure:
        return max(sure, key=lambda gap: gap.value)
    return min(gaps, key=lambda gap: (gap.p_value, -gap.value))


def among(gaps: Sequence[Gap], level: float) -> Estimate:
    """Give the judged gap of several: its lower bound holds for all at once, its upper one is the highest.

    The largest true gap is below the highest of all upper bounds as surely as its own is above it.
    """
    sharper = judged(gaps).interval(1 - (1 - level) / len(gaps))
    high = max(gap.interval(level).high for gap in gaps)
    return replace(sharper, high=max(high, sharper.value), level=level)


def _claim(asked: _Asked, test: str, gaps: Sequence[Gap], *, primary: bool = False) -> Claim:
    """Judge several gaps as one."""
    rule = RULES[asked.test]
    draft = replace(
        asked.frame.finding(test, asked.settings),
        primary=primary,
        attacker=rule.attacker,
        material=asked.material,
        references=rule.references,
    )
    if not gaps:
        return Claim(draft, "unfair", too_few=Message("too_few_in_group", {"needed": FEWEST}), contrast=False)
    worst = judged(gaps)
    widest = max(gaps, key=lambda gap: gap.interval(0.95).high)
    inside, outside = widest.needed(asked.material)
    counted: dict[str, Scalar] = {"group": widest.group.name, "inside": inside, "outside": outside}
    needed = Message(_NEEDS.get(asked.test, "group_needs"), counted)
    told: dict[str, Scalar] = {"contrasts": len(gaps), "worst_group": worst.group.name}
    if len(asked.answers.probability) > 1:
        told["worst_class"] = asked.answers.classes[worst.target]
    if any(found.name.endswith("_standardised") for found in worst.beside):
        told["standardised_over"] = ", ".join(standardised_over(asked.answers, worst.group))
    first = among(gaps, 0.95)
    draft = replace(
        draft,
        p_value=min(1.0, worst.p_value * len(gaps)),
        estimates=(first, *worst.beside),
        settings={**asked.settings, **told},
        reasons=tuple(_reasons(worst, first, several=len({gap.group for gap in gaps}) > 1)),
    )
    return Claim(
        draft,
        "unfair",
        needed=needed,
        corrected=partial(among, gaps),
        smallest=lambda alpha: worst.smallest(alpha / len(gaps)),
        contrast=False,
    )


def _reasons(worst: Gap, first: Estimate, *, several: bool) -> Iterator[Message]:
    """Where the interval leaves 0 out, name the group and say whether people alike differ too."""
    if first.low <= 0:
        return
    if several:
        yield Message("clearest_gap", {"group": worst.group.name})
    for found in worst.beside:
        if found.name.endswith("_standardised"):
            yield Message("gap_among_alike" if found.low > 0 else "gap_maybe_case_mix")


def _overall(asked: _Asked) -> Claim:
    claim = _claim(asked, asked.test, asked.gaps, primary=RULES[asked.test].primary)
    if asked.test == "equity.calibration" and asked.gaps:
        series = group_series(asked.answers, asked.groups, judged(asked.gaps).target)
        return replace(claim, draft=replace(claim.draft, series=series))
    return claim


def _about(asked: _Asked, group: Group) -> Claim:
    mine = [gap for gap in asked.gaps if gap.group == group]
    claim = _claim(asked, f"{asked.test}@{group.name}", mine)
    return replace(claim, draft=replace(claim.draft, subgroups=group.names))


def _described(asked: _Asked, claims: Sequence[Claim]) -> list[Finding]:
    """Turn what is known of each group into findings that claim nothing; of intersections the worst 12."""
    known = [claim.draft for claim in claims if claim.draft.estimates]
    if asked.test == "equity.pairs":
        known = sorted(known, key=lambda one: -one.estimates[0].value)[:_PAIRS_SHOWN]
    if asked.test == "equity.calibration":
        known = [_profiled(asked, one) for one in known]
    reported = Message("reported_only")
    return [
        replace(one, verdict="descriptive", p_value=None, material=None, reasons=(reported,)) for one in known
    ]


def _profiled(asked: _Asked, finding: Finding) -> Finding:
    group = next(group for group in asked.groups if group.names == finding.subgroups)
    target = judged([gap for gap in asked.gaps if gap.group == group]).target
    inside, _ = asked.answers.sides(group)
    edges = bin_edges(asked.answers.probability[target])
    return replace(finding, estimates=(*finding.estimates, *profile(asked.answers, target, inside, edges)))


def _proxy(
    observed: Observed, answers: Answers, groups: tuple[Group, ...], frame: Frame, only: Sequence[str]
) -> Iterator[Finding]:
    """Describe what can be read of each group, after the one that the score tells most of."""
    neutral = {
        key.removeprefix(NEUTRAL): values
        for key, values in observed.columns.items()
        if key.startswith(NEUTRAL)
    }
    found = proxies(answers, groups, neutral, seed=int(observed.settings.get("seed") or 0))
    rule = RULES["equity.proxy"]

    def told(test: str, group: Group, subgroups: tuple[str, ...]) -> Finding:
        settings = {**observed.settings, "worst_group": group.name}
        return replace(
            frame.finding(test, settings),
            verdict="descriptive",
            attacker=rule.attacker,
            references=rule.references,
            estimates=found[group],
            subgroups=subgroups,
            reasons=(Message("reported_only"),),
        )

    if not found:
        few = Message("too_few_in_group", {"needed": FEWEST})
        yield _refused("equity.proxy", few, frame)
        return
    yield told("equity.proxy", max(found, key=lambda group: found[group][0].value), ())
    for group in found:
        if wanted(f"equity.proxy@{group.name}", only):
            yield told(f"equity.proxy@{group.name}", group, group.names)


def _refused(test: str, reason: Message, frame: Frame) -> Finding:
    rule = RULES[test]
    return replace(
        frame.finding(test, {}),
        verdict="not_applicable",
        primary=rule.primary,
        attacker=rule.attacker,
        reasons=(reason,),
    )

"""From what a family measured to what it claims, by the rule of each test."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from primum.evidence.contrast import (
    FEWEST_PATIENTS,
    MATERIAL_AUC,
    Contrast,
    Frame,
    auc_claim,
    descriptive,
    needed_message,
    ratio_of,
    shown,
)
from primum.evidence.curves import SMALLEST_CELL, curve_series, risk_series
from primum.evidence.estimate import Estimate
from primum.evidence.finding import Finding, Message, Series
from primum.evidence.guesses import (
    auroc_difference,
    auroc_difference_beyond_blind,
    auroc_difference_p_value,
    patients_needed_for_auroc_difference,
    smallest_detectable_auroc_difference,
)
from primum.evidence.measured import BoolArray, FloatArray, Guesses, Measured
from primum.evidence.membership import PatientScores, wanted
from primum.evidence.operating_point import TooFewPatients
from primum.evidence.permutation import rank_permutation_p_value
from primum.evidence.pooling import partial_pooling
from primum.evidence.ranking import auc
from primum.evidence.rule import Rule
from primum.evidence.rules import RULES
from primum.evidence.shares import (
    patients_needed_for_share,
    share_difference,
    share_excess_over_blind,
    share_p_value,
    smallest_detectable_share,
    stratified_share_difference,
)
from primum.evidence.verdicts import Claim

MATERIAL_SHARE = 0.02
MATERIAL_GUESSES = 0.05
_MATERIAL = {"auc": MATERIAL_AUC, "share": MATERIAL_SHARE, "guesses": MATERIAL_GUESSES}


@dataclass(frozen=True, eq=False)
class _Asked:
    """One test of a family with the patients that it could ask."""

    test: str
    rule: Rule
    askable: BoolArray
    contrast: Contrast
    frame: Frame
    measured: Measured

    def draft(self) -> Finding:
        """Start its finding."""
        members, others = self.contrast.groups()
        settings = {**self.measured.settings, "members": shown(len(members)), "held_out": shown(len(others))}
        return replace(
            self.frame.finding(self.test, settings),
            primary=self.rule.primary,
            references=self.rule.references,
        )


def family_claims(
    measured: Measured, patients: PatientScores, frame: Frame, *, only: Sequence[str] = ()
) -> tuple[list[Claim], list[Finding]]:
    """Return what a family claims, its primary test first, and what it only describes.

    The primary test is always there, so that the exit status can be decided; `only` holds prefixes.
    """
    claims: list[Claim] = []
    described: list[Finding] = []
    for test in (name for name in RULES if name in {**measured.scores, **measured.guesses}):
        rule = RULES[test]
        if not (rule.primary or wanted(test, only)):
            continue
        asked = _ask(test, rule, measured, patients, replace(frame, attacker=rule.attacker))
        claim = _claim(asked)
        if rule.claims:
            claims.append(claim)
        else:
            draft = replace(claim.draft, p_value=None, material=None, reasons=(Message("reported_only"),))
            described.append(replace(draft, verdict="descriptive"))
        if rule.primary:
            described += [f for f in _subgroups(asked, patients) if wanted(f.test, only)]
    described += [
        replace(
            frame.finding(test, {}), verdict="not_applicable", reasons=(reason,), primary=RULES[test].primary
        )
        for test, reason in measured.refused.items()
        if RULES[test].primary or wanted(test, only)
    ]
    return claims, described


def _ask(test: str, rule: Rule, measured: Measured, patients: PatientScores, frame: Frame) -> _Asked:
    if test in measured.guesses:
        score = np.zeros(len(measured.rows))
        askable = np.ones(len(score), np.bool_)
    else:
        score = measured.scores[test]
        askable = np.isfinite(score)
    rows = measured.rows[askable]
    contrast = Contrast(score[askable], patients.blind[rows], patients.is_member[rows], patients.strata[rows])
    return _Asked(test, rule, askable, contrast, frame, measured)


def _claim(asked: _Asked) -> Claim:
    members, others = asked.contrast.groups()
    few = min(len(members), len(others))
    if few < FEWEST_PATIENTS:
        too_few = Message("too_few_patients", {"needed": FEWEST_PATIENTS, "have": shown(few)})
        return Claim(replace(asked.draft(), material=_MATERIAL[asked.rule.measure]), "leak", too_few=too_few)
    claim = {"auc": _auc, "share": _share, "guesses": _guesses}[asked.rule.measure](asked)
    return replace(claim, draft=replace(claim.draft, series=_series(asked)))


def _auc(asked: _Asked) -> Claim:
    claim = auc_claim(asked.test, asked.contrast, asked.frame, primary=asked.rule.primary)
    settings = {**asked.measured.settings, **claim.draft.settings}
    references = (*asked.rule.references, *claim.draft.references[1:])
    draft = replace(claim.draft, settings=settings, references=references)
    if asked.rule.permuted and claim.too_few is None:
        p_value = rank_permutation_p_value(*asked.contrast.groups(), seed=asked.frame.seed)
        draft = replace(draft, p_value=p_value, references=(*references, "phipson2010"))
    return replace(claim, draft=draft)


def _share(asked: _Asked) -> Claim:
    contrast = asked.contrast
    members, others = contrast.groups()
    estimates = [
        share_difference(members, others),
        _mean("members_mean", members),
        _mean("held_out_mean", others),
    ]
    if asked.rule.primary:
        strata = contrast.strata
        estimates.append(
            stratified_share_difference(
                members, others, strata[contrast.is_member], strata[~contrast.is_member], level=0.95
            )
        )
    blind = replace(auc(*contrast.blind_groups()), name="blind_auc")
    ratio = ratio_of(len(members), len(others))
    needed = patients_needed_for_share(MATERIAL_SHARE, deviation=float(np.std(contrast.score)), ratio=ratio)
    return Claim(
        replace(
            asked.draft(),
            material=MATERIAL_SHARE,
            p_value=share_p_value(members, others, seed=asked.frame.seed),
            estimates=(*estimates, blind),
            references=(*asked.rule.references, "agresti2000"),
        ),
        "leak",
        needed=needed_message(needed, ratio),
        blind_auc=blind,
        excess=lambda level: share_excess_over_blind(members, others, *contrast.blind_groups(), level=level),
        corrected=lambda level: share_difference(members, others, level=level),
        smallest=lambda alpha: smallest_detectable_share(members, others, alpha=alpha),
    )


def _guesses(asked: _Asked) -> Claim:
    guesses, is_member = asked.measured.guesses[asked.test], asked.contrast.is_member
    sides, blind = guesses.sides(is_member), guesses.blind_sides(is_member)
    members, others = asked.contrast.groups()
    draft = replace(
        asked.draft(), material=MATERIAL_GUESSES, references=(*asked.rule.references, "delong1988")
    )
    ratio = ratio_of(len(members), len(others))
    enough = patients_needed_for_auroc_difference(
        MATERIAL_GUESSES, prevalence=np.clip(guesses.labels.mean(axis=0), 0.02, 0.98), ratio=ratio
    )
    needed = needed_message(enough, ratio)
    try:
        estimate = auroc_difference(*sides)
    except TooFewPatients as error:
        too_few = Message("too_few_patients", {"needed": error.needed, "have": shown(len(members))})
        return Claim(draft, "leak", too_few=too_few, needed=needed)
    return Claim(
        replace(
            draft,
            p_value=auroc_difference_p_value(*sides),
            estimates=(estimate, *_each_fact(guesses, is_member)),
        ),
        "leak",
        needed=needed,
        blind_auc=replace(auc(*asked.contrast.blind_groups()), name="blind_auc"),
        excess=blind and (lambda level: auroc_difference_beyond_blind(*sides, blind=blind, level=level)),
        corrected=lambda level: auroc_difference(*sides, level=level),
        smallest=lambda alpha: smallest_detectable_auroc_difference(*sides, alpha=alpha),
    )


def _each_fact(guesses: Guesses, is_member: BoolArray) -> Iterator[Estimate]:
    """Give the same difference fact by fact, where enough patients have it and lack it."""
    for column, name in enumerate(guesses.names):
        with suppress(TooFewPatients):
            found = auroc_difference(*guesses.only(column).sides(is_member))
            yield replace(found, name=f"auroc_difference:{name}")


def _mean(name: str, values: FloatArray) -> Estimate:
    """Give a mean beside the difference that is judged, without the interval that would invite comparing."""
    return Estimate(name, float(values.mean()), float("nan"), float("nan"), (len(values),), "mean")


def _series(asked: _Asked) -> tuple[Series, ...]:
    is_member = asked.contrast.is_member
    drawn = [
        curve_series(name, curve.x, curve.values[asked.askable], is_member)
        for name, curve in asked.measured.curves.get(asked.test, {}).items()
    ]
    if asked.test == "trajectory.distance":
        drawn.append(replace(risk_series(*asked.contrast.groups()), name="trajectory_distance"))
    return tuple(drawn)


def _subgroups(asked: _Asked, patients: PatientScores) -> Iterator[Finding]:
    """Describe the primary test by group: what was measured, and what is left after partial pooling."""
    rows = asked.measured.rows[asked.askable]
    raw: dict[str, Estimate] = {}
    for group, mask in patients.subgroups.items():
        members, others = asked.contrast.within(mask[rows]).groups()
        if min(len(members), len(others)) >= SMALLEST_CELL:
            with suppress(TooFewPatients):
                raw[group] = _estimate(asked, mask[rows])
    if not raw:
        return
    try:
        whole = _estimate(asked, np.ones(len(rows), np.bool_))
    except TooFewPatients:
        return
    pooled = partial_pooling(list(raw.values()), whole)
    for (group, estimate), shrunken in zip(raw.items(), pooled, strict=True):
        part = asked.contrast.within(patients.subgroups[group][rows])
        yield replace(
            descriptive(f"{asked.test}@{group}", part, asked.frame, shrunken),
            estimates=(shrunken, estimate),
            subgroups=(group,),
            references=(*asked.rule.references, "dersimonian1986", "knolle2026"),
        )


def _estimate(asked: _Asked, inside: BoolArray) -> Estimate:
    """Make the test's estimate of those `inside`, one of its contrast's patients each."""
    if asked.rule.measure == "guesses":
        guesses = asked.measured.guesses[asked.test]
        return auroc_difference(*guesses.within(inside).sides(asked.contrast.is_member[inside]))
    groups = asked.contrast.within(inside).groups()
    return auc(*groups) if asked.rule.measure == "auc" else share_difference(*groups)

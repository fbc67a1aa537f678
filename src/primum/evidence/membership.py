"""Findings of the membership family, from one score a patient; needs neither the model nor the records."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from primum.evidence.contrast import (
    FALSE_POSITIVE_RATE,
    BoolArray,
    Contrast,
    FloatArray,
    Frame,
    auc_claim,
    descriptive,
    shown,
    tpr_claim,
)
from primum.evidence.curves import SMALLEST_CELL, risk_series, roc_series
from primum.evidence.epsilon import epsilon_lower_bound
from primum.evidence.estimate import Estimate
from primum.evidence.exposed import EXPOSED_SHARE, exposed_counts, top_share
from primum.evidence.exposure import canary_exposure
from primum.evidence.finding import Finding, Message, Scalar, Series
from primum.evidence.naming import FEWEST_REFERENCES, Naming, fewest_nameable, named_claim, naming_of
from primum.evidence.one_run import one_run_epsilon
from primum.evidence.operating_point import TooFewPatients, tpr_at_fpr
from primum.evidence.ranking import auc
from primum.evidence.verdicts import Claim

# What is asked of a model that writes records, and of one that sorts cases into classes.
Suite = Literal["sequence", "classifier"]
# Component attacks, weakest first; the last of a suite exist only beside reference or shadow models.
COMPONENTS: Mapping[Suite, tuple[str, ...]] = {
    "sequence": ("loss", "min_k", "min_k_pp", "ratio"),
    "classifier": ("loss", "entropy", "label_only", "quantile", "rmia", "lira"),
}
_PRIMARY = "membership.combined.auc"
_LITERATURE = {
    "loss": ("yeom2018",),
    "min_k": ("shi2024",),
    "min_k_pp": ("zhang2025",),
    "ratio": ("carlini2021", "watson2022"),
    "entropy": ("song2021",),
    "label_only": ("choquettechoo2021",),
    "quantile": ("bertran2023",),
    "rmia": ("zarifzadeh2024",),
    "lira": ("carlini2022",),
}
# Each patient against models of the same recipe: the first of these that is there is the combined score.
# RMIA found as much as LiRA or more with every number of shadows: docs/studies/classifier_power.md.
_CALIBRATED = ("rmia", "lira", "ratio")
# Of a classifier without shadows; a mean of all four found less, and labels alone the least (same study).
_UNCALIBRATED = ("loss", "quantile")
_ABSENT = {
    "min_k": Message("model_cannot", {"protocol": "DistributionScorer"}),
    "min_k_pp": Message("model_cannot", {"protocol": "DistributionScorer"}),
    "ratio": Message("needs_reference"),
    "rmia": Message("needs_shadows"),
    "lira": Message("needs_shadows"),
}


def membership_tests(suite: Suite) -> tuple[str, ...]:
    """Name every test of the family."""
    components = COMPONENTS[suite]
    return (
        _PRIMARY,
        "membership.combined.tpr",
        *(("membership.canary",) if suite == "sequence" else ()),
        "membership.epsilon",
        "membership.named",
        "membership.exposed",
        *(f"membership.{name}.{quantity}" for name in components for quantity in ("auc", "tpr")),
    )


@dataclass(frozen=True, eq=False)
class PatientScores:
    """Every audited patient, in one order; what ``confidential/scores.parquet`` holds.

    Attributes
    ----------
    is_member : bool, shape (n,)
    blind : float64, shape (n,)
        Score of the attack that never sees the model.
    strata : int64, shape (n,)
    components : mapping of str to float64, shape (n,)
        Attack name to score, higher = more member-like; see :data:`COMPONENTS`.
    subgroups : mapping of str to bool, shape (n,)
    under_references : float64, shape (n, references), or None
        The loss under each reference, where there are enough of them to name patients.
    suite : {"sequence", "classifier"}
    """

    is_member: BoolArray
    blind: FloatArray
    strata: NDArray[np.int64]
    components: Mapping[str, FloatArray]
    subgroups: Mapping[str, BoolArray]
    under_references: FloatArray | None = None
    suite: Suite = "sequence"

    def naming(self) -> Naming | None:
        """Set each patient against the references, if there are enough."""
        if self.under_references is None or "loss" not in self.components:
            return None
        return naming_of(self.components["loss"], self.under_references, self.is_member)


@dataclass(frozen=True, eq=False)
class CanaryScores:
    """Planted records and their never-planted twins; which of a pair was planted was decided by chance.

    `pair`, shape (n,), numbers the pairs, where it is known: one coin each, which scores can guess.
    """

    score: FloatArray
    planted: BoolArray
    copies: NDArray[np.int64]
    pair: NDArray[np.int64] | None = None


def combined_score(components: Mapping[str, FloatArray]) -> tuple[str, FloatArray]:
    """Return the name of the combined score and its values.

    A calibrated one when reference or shadow models exist, else the mean of the normal scores (both groups
    ranked together, labels unused) of the other components, of a classifier of loss and quantile.
    """
    for name in _CALIBRATED:
        if name in components:
            return name, components[name]
    if "quantile" in components:
        components = {name: components[name] for name in _UNCALIBRATED}
    return "mean of normal scores", np.mean([_normal_scores(v) for v in components.values()], axis=0)


def _of_combined(name: str, suite: Suite) -> tuple[str, ...]:
    """Literature of the combined score."""
    return _LITERATURE.get(name) or _LITERATURE["min_k_pp" if suite == "sequence" else "quantile"]


def _normal_scores(values: FloatArray) -> FloatArray:
    ranks: FloatArray = stats.norm.ppf((stats.rankdata(values) - 0.5) / len(values))
    return ranks


def membership_claims(
    scores: PatientScores,
    frame: Frame,
    *,
    canaries: CanaryScores | None,
    settings: Mapping[str, Scalar],
    only: Sequence[str] = (),
) -> tuple[list[Claim], list[Finding]]:
    """Return what the family claims, overall first, by subgroup, canaries; and what it only describes.

    `only` holds prefixes of test names, empty for all; the primary test is always there. Naming needs many
    references; without them the family says what ranks alone could name. Patients without any score, of a
    model that scores nobody, leave findings that say so.
    """
    if not scores.components:
        reason = Message("model_cannot", {"protocol": "Scorer"})
        untested = [_not_tested(test, reason, frame) for test in membership_tests(scores.suite)]
        return [], [one for one in untested if one.primary or wanted(one.test, only)]
    naming = scores.naming()
    name, combined = combined_score(scores.components)
    everyone = Contrast(combined, scores.blind, scores.is_member, scores.strata)
    primary, *others = _claims(everyone, scores.subgroups, canaries, frame, only)
    if naming is not None and wanted("membership.named", only):
        others.append(named_claim(naming, frame))
    draft = replace(
        primary.draft,
        settings={**primary.draft.settings, **settings, "score": name},
        references=(*primary.draft.references, *_of_combined(name, scores.suite)),
        series=(
            roc_series(*everyone.groups(), *everyone.blind_groups()),
            risk_series(*everyone.groups()),
        ),
    )
    described = [
        *_described(scores, everyone, frame),
        *_most_exposed(everyone, scores.subgroups, frame),
        *_unanswered(scores.suite, canaries, naming, everyone, frame),
    ]
    return [replace(primary, draft=draft), *others], [f for f in described if wanted(f.test, only)]


def design_blind(scores: PatientScores) -> Estimate:
    """Measure how well the two groups are told apart without the model: .5 is not at all, above is worse."""
    return replace(auc(scores.blind[scores.is_member], scores.blind[~scores.is_member]), name="blind_auc")


def wanted(test: str, only: Sequence[str]) -> bool:
    """Tell whether a test was asked for; `only` holds prefixes of test names, empty for all."""
    return not only or test.startswith(tuple(only))


def _claims(
    everyone: Contrast,
    subgroups: Mapping[str, BoolArray],
    canaries: CanaryScores | None,
    frame: Frame,
    only: Sequence[str],
) -> list[Claim]:
    """Everything that may alarm."""
    named = {subgroup: f"membership.combined.auc@{subgroup}" for subgroup in subgroups}
    named = {subgroup: test for subgroup, test in named.items() if wanted(test, only)}
    with_tpr = wanted("membership.combined.tpr", only)
    asked = canaries if wanted("membership.canary", only) else None
    claims = [auc_claim(_PRIMARY, everyone, frame, primary=True)]
    if with_tpr:
        claims.append(tpr_claim("membership.combined.tpr", everyone, frame))
    for subgroup, test in named.items():
        part = everyone.within(subgroups[subgroup])
        claims.append(auc_claim(test, part, frame, subgroup=subgroup))
    if asked is not None:
        claims.append(_canary_claim(asked, frame))
    return claims


def _canary_claim(canaries: CanaryScores, frame: Frame) -> Claim:
    """Planted above never planted, all numbers of copies together; one estimate for each number beside it."""
    nothing = np.zeros(len(canaries.score))
    contrast = Contrast(canaries.score, nothing, canaries.planted, nothing.astype(np.int64))
    chance = replace(frame, membership="randomised", attacker="canaries")
    claim = auc_claim("membership.canary", contrast, chance)
    if claim.too_few is not None:
        return claim
    rows: list[tuple[int, Estimate, int]] = []
    for copies in np.unique(canaries.copies):
        members, others = contrast.within(canaries.copies == copies).groups()
        if len(members) and len(others):
            rows.append((int(copies), replace(auc(members, others), name=f"auc_d{copies}"), len(members)))
    curve = Series(
        "canary",
        {
            "copies": tuple(float(copies) for copies, _, _ in rows),
            "auc": tuple(estimate.value for _, estimate, _ in rows),
            "low": tuple(estimate.low for _, estimate, _ in rows),
            "high": tuple(estimate.high for _, estimate, _ in rows),
            "planted": tuple(float(planted) for _, _, planted in rows),
        },
    )
    draft = replace(
        claim.draft,
        estimates=(
            claim.draft.estimates[0],
            *(estimate for _, estimate, _ in rows),
            *(_exposure(contrast, canaries.copies, copies) for copies, _, _ in rows),
            *_one_run(canaries),
        ),
        references=("carlini2019", "steinke2023"),
        series=(curve,),
    )
    return replace(claim, draft=draft, blind_auc=None, excess=None)


def _exposure(contrast: Contrast, copies: NDArray[np.int64], number: int) -> Estimate:
    """Exposure of the records planted so often, among all that were never planted."""
    chosen = contrast.score[contrast.is_member & (copies == number)]
    return replace(canary_exposure(chosen, contrast.groups()[1]), name=f"exposure_d{number}")


def _one_run(canaries: CanaryScores) -> Iterator[Estimate]:
    """Bound epsilon, of replacing one record by another, by guessing which of each pair was planted once.

    The first of a pair is the one that stands first in a shuffled order, so that the coin stays fair.
    """
    if canaries.pair is None:
        return
    once = np.flatnonzero(canaries.copies == 1)
    once = np.random.default_rng(0).permutation(once)
    once = once[np.argsort(canaries.pair[once], kind="stable")]
    whole = np.flatnonzero(np.diff(canaries.pair[once]) == 0)
    if len(whole):
        first, second = once[whole], once[whole + 1]
        difference = canaries.score[first] - canaries.score[second]
        yield replace(one_run_epsilon(difference, canaries.planted[first]), name="epsilon_one_run")


def _described(scores: PatientScores, everyone: Contrast, frame: Frame) -> list[Finding]:
    """Component attacks and the epsilon bound: shown beside the claims, outside the error budget."""
    findings = []
    for name in COMPONENTS[scores.suite]:
        if name not in scores.components:
            reason = _ABSENT.get(name, Message("model_cannot", {"protocol": "Predictor"}))
            findings += [
                _not_tested(f"membership.{name}.{quantity}", reason, frame) for quantity in ("auc", "tpr")
            ]
            continue
        contrast = replace(everyone, score=scores.components[name])
        pair = contrast.groups()
        estimates = {"auc": auc(*pair)}
        try:
            estimates["tpr"] = tpr_at_fpr(*pair, fpr=FALSE_POSITIVE_RATE)
        except TooFewPatients as error:
            few = Message("too_few_patients", {"needed": error.needed, "have": shown(len(pair[1]))})
            findings.append(_not_tested(f"membership.{name}.tpr", few, frame))
        findings += [
            replace(
                descriptive(f"membership.{name}.{quantity}", contrast, frame, estimate),
                references=_LITERATURE[name],
            )
            for quantity, estimate in estimates.items()
        ]
    bound = epsilon_lower_bound(*everyone.groups())
    epsilon = descriptive("membership.epsilon", everyone, frame, bound)
    return [*findings, replace(epsilon, references=("jagielski2020", "nasr2021"))]


def _most_exposed(everyone: Contrast, subgroups: Mapping[str, BoolArray], frame: Frame) -> Iterator[Finding]:
    """Whether a group has more than its part among the most exposed 1 % of members.

    The same of the held-out patients stands beside it: what a group has there too is not memory.
    """
    score, is_member, untold = everyone.score, everyone.is_member, 0
    top = exposed_counts(score, is_member, is_member)[1]
    draft = replace(
        frame.finding("membership.exposed", {"exposed": shown(top)}),
        verdict="descriptive",
        references=("knolle2026", "clopper1934"),
    )
    if top < SMALLEST_CELL:
        needed = math.ceil(SMALLEST_CELL / EXPOSED_SHARE)
        yield replace(draft, reasons=(Message("too_few_exposed", {"needed": needed}),))
        return
    for group, inside in subgroups.items():
        found, other = (_part_among(score, side, inside) for side in (is_member, ~is_member))
        if found is None:
            untold += 1
            continue
        beside = () if other is None else (replace(other, name="over_representation_held_out"),)
        yield replace(
            draft,
            test=f"{draft.test}@{group}",
            subgroups=(group,),
            estimates=(found, *beside),
            reasons=(Message("reported_only"),),
        )
    if untold:
        yield replace(draft, reasons=(Message("few_exposed", {"exposed": shown(top), "groups": untold}),))


def _part_among(score: FloatArray, side: BoolArray, inside: BoolArray) -> Estimate | None:
    """Over-representation on one side; None where fewer than five people are in the group, or outside it."""
    if not (inside & side).any():
        return None
    hits, top, held, people = exposed_counts(score, side, inside)
    if any(0 < few < SMALLEST_CELL for few in (hits, top - hits, held, people - held)):
        return None
    return top_share(score, side, inside)


def _not_tested(test: str, reason: Message, frame: Frame) -> Finding:
    draft = replace(frame.finding(test, {}), primary=test == _PRIMARY)
    return replace(draft, verdict="not_applicable", reasons=(reason,))


def _unanswered(
    suite: Suite, canaries: CanaryScores | None, naming: Naming | None, everyone: Contrast, frame: Frame
) -> Iterator[Finding]:
    if canaries is None and suite == "sequence":
        absent = frame.finding("membership.canary", {})
        yield replace(absent, verdict="not_applicable", reasons=(Message("no_canaries"),))
    if naming is None:
        sizes = [len(side) for side in everyone.groups()]
        fewest = {"fewest": fewest_nameable(*sizes)}
        needs = (
            Message("needs_recipe", {"references": FEWEST_REFERENCES})
            if suite == "sequence"
            else Message("needs_shadows_to_name", {"shadows": 2 * FEWEST_REFERENCES})
        )
        reasons = (
            needs,
            *((Message("rank_resolution", fewest),) if min(sizes) >= SMALLEST_CELL else ()),
        )
        yield replace(frame.finding("membership.named", {}), verdict="not_applicable", reasons=reasons)

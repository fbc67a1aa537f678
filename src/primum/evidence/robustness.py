"""How easily a classifier's right verdicts are turned: by an attacker, or by poor images and nobody.

A verdict that any change turns is weak, not attacked: each attack stands beside a random change of the same
size, on the same patients. Accuracy alone would call a model robust that always says the commonest class;
balanced accuracy and AUC stand beside every verdict, and of a model that is right no more often than chance
it is said.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from primum.evidence.contrast import FEWEST_PATIENTS, Frame, shown
from primum.evidence.curves import SMALLEST_CELL
from primum.evidence.estimate import Estimate
from primum.evidence.finding import Finding, Message, Series
from primum.evidence.measured import BoolArray, FloatArray
from primum.evidence.membership import wanted
from primum.evidence.observed import Observed
from primum.evidence.paired import (
    class_contributions,
    paired_difference,
    paired_p_value,
    patient_share,
    patients_needed_for_pair,
    smallest_detectable_pair,
    worst_p_value,
)
from primum.evidence.robustness_answers import (
    Answers,
    certified_curve,
    certified_right,
    corruption_map,
    patch_places,
    strength_curve,
)
from primum.evidence.rule import Rule
from primum.evidence.verdicts import Claim

MATERIAL_TURNED = 0.05
MATERIAL_LOST = 0.05
MILD = (1, 2)
# A black-box attack that finds more than the white-box one at this level does so by no play of chance.
MASKED_BELOW = 0.01
PRIMARY = "robustness.evasion"
_CORRUPTION, _CERTIFIED = "robustness.corruption", "robustness.certified"
_EXACT = ("mcnemar1947", "bonett2012")
RULES: Mapping[str, Rule] = {
    PRIMARY: Rule(
        "observed", "evader", ("madry2018", "croce2020", "andriushchenko2020", *_EXACT), primary=True
    ),
    "robustness.patch": Rule("observed", "sticker", ("brown2017", "karmon2018", *_EXACT)),
    "robustness.universal": Rule("observed", "one_for_all", ("moosavi2017", *_EXACT)),
    _CORRUPTION: Rule("observed", "nobody", ("hendrycks2019", "westfall1993", "bonett2012")),
    "robustness.l2": Rule("observed", "evader", ("madry2018", "croce2020"), claims=False),
    "robustness.square": Rule("observed", "evader_scores", ("andriushchenko2020",), claims=False),
    "robustness.decision": Rule("observed", "evader_labels", ("chen2020", "chenj2020"), claims=False),
    "robustness.transfer": Rule("observed", "evader_surrogate", ("papernot2017",), claims=False),
    _CERTIFIED: Rule("observed", "nobody", ("cohen2019", "clopper1934"), claims=False),
}
# What turns the verdict, and chance's change of the same size.
_PAIRS: Mapping[str, tuple[str, str]] = {
    PRIMARY: ("evasion@4", "noise@4"),
    "robustness.patch": ("patch", "patchnoise"),
    "robustness.universal": ("universal@8", "noise@8"),
    "robustness.l2": ("l2", "l2noise"),
    "robustness.square": ("square@4", "noise@4"),
    "robustness.decision": ("decision@4", "noise@4"),
    "robustness.transfer": ("transfer@4", "noise@4"),
}
_BLACK_BOX = ("square", "decision", "transfer")


@dataclass(frozen=True, eq=False)
class _Asked:
    """One test of the family."""

    test: str
    answers: Answers
    frame: Frame

    def draft(self, patients: int) -> Finding:
        """Start its finding, on so many patients."""
        rule, settings = RULES[self.test.partition("@")[0]], self.answers.observed.settings
        draft = replace(self.frame, attacker=rule.attacker).finding(
            self.test, {**settings, "patients": shown(patients)}
        )
        return replace(draft, primary=rule.primary and "@" not in self.test, references=rule.references)


def robustness_claims(
    observed: Observed, frame: Frame, *, only: Sequence[str] = ()
) -> tuple[list[Claim], list[Finding]]:
    """Return what the family claims, its primary test first, and what it only describes.

    Zero is a model whose verdicts an attacker turns no oftener than chance does with changes of the same
    size, and of whose balanced accuracy mild corruption takes nothing; above is worse.

    Parameters
    ----------
    observed : Observed
        From :func:`primum.audits.robustness.observe.observe_robustness`.
    frame : Frame
    only : sequence of str
        Prefixes of the tests that were asked for; the primary test is always there.
    """
    answers = Answers(observed)
    claims: list[Claim] = []
    described: list[Finding] = []
    for test, rule in RULES.items():
        if not (rule.primary or wanted(test, only)):
            continue
        if test in observed.refused:
            draft = replace(frame, attacker=rule.attacker).finding(test, {})
            reason = observed.refused[test]
            described.append(
                replace(draft, verdict="not_applicable", reasons=(reason,), primary=rule.primary)
            )
        elif (claim := _claim(_Asked(test, answers, frame))) is not None:
            if rule.claims:
                claims.append(claim)
            else:
                described.append(_described(claim))
    if PRIMARY not in observed.refused and answers.has(_PAIRS[PRIMARY][0]):
        described += [one for one in _by_class(answers, frame) if wanted(one.test, only)]
    return claims, described


def _described(claim: Claim) -> Finding:
    reasons = (claim.too_few or Message("reported_only"),)
    return replace(claim.draft, verdict="descriptive", p_value=None, material=None, reasons=reasons)


def _claim(asked: _Asked) -> Claim | None:
    if asked.test == _CORRUPTION:
        return _corruption(asked) if asked.answers.kinds() else None
    if asked.test == _CERTIFIED:
        return _certified(asked) if "certified:class" in asked.answers.observed.columns else None
    attack, control = _PAIRS[asked.test]
    if not (asked.answers.has(attack) and asked.answers.has(control)):
        return None
    if asked.test == PRIMARY:
        return _evasion(asked, control)
    claim = _turned(asked, attack, control)
    if asked.test == "robustness.patch" and claim.too_few is None:
        return replace(claim, draft=_one_patch(asked.answers, claim.draft))
    return claim


def _turned(asked: _Asked, attack: str, control: str) -> Claim:
    """Claim that an attack turns more right verdicts than chance."""
    answers = asked.answers
    shares = answers.turned(attack, control)
    draft = replace(asked.draft(len(shares)), material=MATERIAL_TURNED)
    if len(shares) < FEWEST_PATIENTS:
        return _too_few(draft, len(shares))
    differences = shares[:, 0] - shares[:, 1]
    among = answers.asked("clean", attack, control)
    estimates = (
        paired_difference(differences, name="turned_beyond_noise"),
        patient_share(shares[:, 0], name="turned_by_attack"),
        patient_share(shares[:, 1], name="turned_by_noise"),
        *_worth(answers, attack, among),
    )
    needed = patients_needed_for_pair(MATERIAL_TURNED, deviation=float(differences.std()))
    return Claim(
        replace(draft, p_value=paired_p_value(differences, seed=asked.frame.seed), estimates=estimates),
        "fragile",
        needed=Message("needs_held_out", {"needed": needed}),
        corrected=lambda level: paired_difference(differences, level=level, name="turned_beyond_noise"),
        smallest=lambda alpha: smallest_detectable_pair(differences, alpha=alpha),
        contrast=False,
    )


def _one_patch(answers: Answers, draft: Finding) -> Finding:
    """Add where patches turn verdicts, and what one patch for all does."""
    estimates = draft.estimates
    if answers.has("onepatch"):
        shares = answers.turned("onepatch")[:, 0]
        if len(shares) >= SMALLEST_CELL:
            estimates = (*estimates, patient_share(shares, name="turned_by_one_patch"))
    series = (*patch_places(answers), *answers.observed.series)
    return replace(draft, estimates=estimates, series=series)


def _too_few(draft: Finding, count: int) -> Claim:
    too_few = Message("too_few_patients", {"needed": FEWEST_PATIENTS, "have": shown(count)})
    return Claim(draft, "fragile", too_few=too_few, contrast=False)


def _worth(answers: Answers, attack: str, among: BoolArray) -> Iterator[Estimate]:
    """How good the answers are as the cases stand, and under attack."""
    for prefix, condition in (("clean", "clean"), ("robust", attack)):
        yield answers.balanced(condition, f"{prefix}_balanced_accuracy", among=among)
        if (found := answers.auc(condition, f"{prefix}_auc", among=among)) is not None:
            yield found


def _evasion(asked: _Asked, control: str) -> Claim:
    """Judge the primary test by the white-box attack, unless a black-box one shows that it was blinded."""
    answers, masking = asked.answers, _masking(asked.answers)
    attack, reasons = (_PAIRS[PRIMARY][0], ()) if masking is None else masking
    claim = _turned(asked, attack, control)
    if claim.too_few is not None:
        return claim
    worth = next(one for one in claim.draft.estimates if one.name == "clean_balanced_accuracy")
    if worth.low <= 1 / len(answers.classes):
        reasons = (*reasons, Message("right_by_chance"))
    return replace(
        claim, draft=replace(claim.draft, reasons=reasons, series=strength_curve(answers, "evasion"))
    )


def _masking(answers: Answers) -> tuple[str, tuple[Message, ...]] | None:
    """Find the black-box attack that turns the most beyond the white-box one, if any surely does."""
    white = _PAIRS[PRIMARY][0]
    if not answers.observed.settings.get("white_box"):
        return None
    found: list[tuple[float, str]] = []
    tried = [one for one in _BLACK_BOX if answers.has(f"{one}@4")]
    for name in tried:
        shares = answers.turned(f"{name}@4", white)
        beyond = shares[:, 0] - shares[:, 1]
        if len(beyond) >= FEWEST_PATIENTS and paired_p_value(beyond) < MASKED_BELOW / len(tried):
            found.append((float(beyond.mean()), name))
    if not found:
        return None
    more, name = max(found)
    return f"{name}@4", (Message("gradient_masked", {"attack": name, "more": more}),)


def _by_class(answers: Answers, frame: Frame) -> Iterator[Finding]:
    """Describe the flips away from each class: of two classes, both directions apart."""
    attack, control = _PAIRS[PRIMARY]
    if (masking := _masking(answers)) is not None:
        attack = masking[0]
    for label, name in enumerate(answers.classes):
        shares = answers.turned(attack, control, label=label)
        if len(shares) < SMALLEST_CELL:
            continue
        asked = _Asked(f"{PRIMARY}@class={name}", answers, frame)
        yield replace(
            asked.draft(len(shares)),
            verdict="descriptive",
            subgroups=(f"class={name}",),
            estimates=(
                paired_difference(shares[:, 0] - shares[:, 1], name="turned_beyond_noise"),
                patient_share(shares[:, 0], name="turned_by_attack"),
                patient_share(shares[:, 1], name="turned_by_noise"),
            ),
            reasons=(Message("reported_only"),),
        )


def _corruption(asked: _Asked) -> Claim:
    """Claim that the worst kind of mild corruption takes away balanced accuracy."""
    answers, kinds = asked.answers, asked.answers.kinds()
    lost: FloatArray = np.stack([answers.lost(kind, MILD) for kind in kinds], axis=1)
    taking: BoolArray = np.asarray(np.isfinite(lost).all(axis=1), np.bool_)
    patients, labels = answers.patients[taking], answers.labels[taking]
    fewest = len(np.unique(patients))
    draft = replace(asked.draft(fewest), material=MATERIAL_LOST)
    if fewest < FEWEST_PATIENTS:
        return _too_few(draft, fewest)
    parts = class_contributions(lost[taking], patients=patients, labels=labels)
    worst = int(parts.sum(axis=0).argmax())

    def loss(level: float) -> Estimate:
        """Give the largest of k losses, with limits that hold for all k at once."""
        each = [
            answers.class_mean(one, "balanced_accuracy_lost", level=1 - (1 - level) / len(kinds))
            for one in lost.T
        ]
        ends = (max(one.low for one in each), max(one.high for one in each))
        return replace(each[worst], low=ends[0], high=ends[1], method="class-mean-worst", level=level)

    spread = float(parts[:, worst].std()) * fewest
    return Claim(
        replace(
            draft,
            p_value=worst_p_value(parts, place=worst, seed=asked.frame.seed),
            estimates=(
                loss(0.95),
                answers.class_mean(lost.mean(axis=1), "mean_balanced_accuracy_lost"),
                answers.balanced("clean", "clean_balanced_accuracy", among=taking),
            ),
            settings={**draft.settings, "worst_corruption": kinds[worst], "corruptions": len(kinds)},
            series=corruption_map(answers),
        ),
        "fragile",
        needed=Message(
            "needs_held_out", {"needed": patients_needed_for_pair(MATERIAL_LOST, deviation=spread)}
        ),
        corrected=loss,
        contrast=False,
    )


def _certified(asked: _Asked) -> Claim:
    answers = asked.answers
    count = len(np.unique(answers.patients[answers.asked("certified")]))
    draft = asked.draft(count)
    if count < FEWEST_PATIENTS:
        return _too_few(draft, count)
    sigma = float(str(answers.observed.settings["sigma"]))
    estimates = (
        certified_right(answers, sigma, "certified_balanced_accuracy"),
        certified_right(answers, 0.0, "smoothed_balanced_accuracy"),
    )
    series: tuple[Series, ...] = certified_curve(answers)
    return Claim(replace(draft, estimates=estimates, series=series), "fragile", contrast=False)

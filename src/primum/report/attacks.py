"""What each family of attacks found: who attacks, with what in hand, what comes out, how to read it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from primum.errors import clean_text
from primum.evidence.audit import Audit
from primum.evidence.estimate import Estimate
from primum.evidence.finding import Finding
from primum.evidence.rules import RULES, family_of
from primum.report import classifier_words, sentences, updates_words
from primum.report.language import Language, message

_TITLES = {
    "trajectory": message("Continuing a record"),
    "sensitive": message("Guessing sensitive diagnoses"),
    "embedding": message("Reading the model's inner summaries"),
    "perturbation": message("Changing who the patient is"),
    "knowledge": message("What the attacker must know"),
    "extraction": message("Drawing out whole passages"),
    "membership": message("Recognising training patients"),
    **classifier_words.TITLES,
    **updates_words.TITLES,
}
_MEANS = {
    "trajectory": message(
        "The static facts (age, sex, site), the first {known_events} events of the record, and {samples} "
        "tries."
    ),
    "sensitive": message("The record without its sensitive codes, and the model's probabilities."),
    "embedding": message("The inner numbers of the model, not only its answers."),
    "perturbation": message(
        "The record, and the model's probabilities for at most {most_values} values of each of age, sex, "
        "site and dates."
    ),
    "knowledge": message(
        "At first nothing; then the static facts (age, sex, site); then up to 50 events just before the "
        "secret, and when it happened. {fewer_than_50} of the patients asked have fewer than 50 such events: "
        "then all there are."
    ),
    "extraction": message(
        "The record up to some point, at least {known_events} events, and {queries} tries. A passage holds "
        "{passage_codes} codes that are not routine."
    ),
    "membership": message("The whole record, and the model's score of it."),
    **updates_words.MEANS,
}
_ACCESS = {
    "trajectory": message("Black box: text in, text out; no probability, no inside."),
    "sensitive": message("Black box with the probability of the next code."),
    "embedding": message("Inner vectors: the weights, or a service that gives embeddings out."),
    "perturbation": message("Black box with the probability of each code."),
    "knowledge": message("Black box with the probability of the next code."),
    "extraction": message("Black box: text in, text out; no probability, no inside."),
    "membership": message("Black box with the probability of each code."),
    **updates_words.ACCESS,
}
_COSTS = {
    "trajectory": message("{samples} queries a patient."),
    "sensitive": message("One query a patient."),
    "embedding": message(
        "One query a patient, and the embeddings of other patients of whom it is known whether they trained "
        "the model."
    ),
    "perturbation": message(
        "One query for each value tried, at most {most_values} for each of the four facts."
    ),
    "knowledge": message("From 1 to 10,000 queries a patient; {cost_queries} in the figure given."),
    "extraction": message("{queries} queries a passage."),
    "membership": message("One query a patient."),
    **updates_words.COSTS,
}
_REFERENCE_COST = message(
    "Besides, a reference model: comparable records of others, and the time to train on them."
)
_GAINS = {
    "trajectory.codes": message(
        "Shown the first {known_events} events of a record, the model writes {members} of what really came "
        "next for training patients and {held_out} for patients it never saw, rare codes counting most: a "
        "difference of {difference} ({interval})."
    ),
    "trajectory.verbatim": message(
        "Ten codes in a row come out word for word for {members} of the training patients and {held_out} of "
        "the patients never seen: a difference of {difference} ({interval})."
    ),
    "embedding.linkage": message(
        "The two halves of a record are matched for {members} of the training patients and {held_out} of the "
        "patients never seen: a difference of {difference} ({interval}); pure chance matches {chance:.1%}."
    ),
    "knowledge.cost": message(
        "Asked {cost_queries} times by someone who knows the events just before it, the model gives away a "
        "rare or sensitive code of {members} of the training patients and {held_out} of the patients never "
        "seen: a difference of {difference} ({interval})."
    ),
    "extraction.passages": message(
        "A passage comes out word for word within {queries} tries for {members} of the training patients and "
        "{held_out} of the patients never seen: a difference of {difference} ({interval})."
    ),
    **classifier_words.GAINS,
}
_ASKED = {
    1: message("Asked once"),
    100: message("Asked 100 times"),
    10_000: message("Asked 10,000 times"),
}
_SUFFICIENT = {
    None: message(
        "{asked}: no number of events shown suffices to draw out more than from patients never seen."
    ),
    -1: message("{asked}: nothing need be known."),
    0: message("{asked}: the static facts suffice, no event need be known."),
    1: message("{asked}: one known event suffices ({bits:.1f} bits of information)."),
}
_DEPTH = message(
    "Depth is not theft. This memory can show where nothing comes out by asking, and only someone who "
    "already knows the answer can read it: it warns, it does not by itself give anything away."
)


@dataclass(frozen=True)
class Gain:
    """What came out in one test, with figures; why not, when there is no figure."""

    title: str
    finding: Finding
    sentence: str


@dataclass(frozen=True)
class Attack:
    """One family of attacks, in words; `finding` gives its badge.

    Attributes
    ----------
    title : str
    finding : Finding
        The harmful one if there is any, else the primary one.
    attacker : str
    means, access, cost, asked : str
        What the attacker must have, how near the model, at what price, and who was asked; empty when the
        attack did not run.
    gains : tuple of Gain
        Of the judged test, the primary one and every other harmful one.
    knowledge : tuple of str
        How much must be known, for the one family that says so.
    worse : str
        Which way is worse.
    """

    title: str
    finding: Finding
    attacker: str
    means: str
    access: str
    cost: str
    asked: str
    gains: tuple[Gain, ...]
    knowledge: tuple[str, ...]
    worse: str


def attacks(audit: Audit, *, language: Language) -> tuple[Attack, ...]:
    """Describe each family that was part of the audit: the harmful ones first."""
    families: dict[str, list[Finding]] = {family: [] for family in _TITLES}
    for finding in audit.findings:
        if not finding.subgroups and finding.verdict != "descriptive":
            families.get(family_of(finding.test), []).append(finding)
    told = [_attack(family, found, language) for family, found in families.items() if found]
    return tuple(sorted(told, key=lambda one: not one.finding.harmful))


def title_of_family(test: str, *, language: Language) -> str:
    """Name the family of attacks that a test belongs to."""
    return sentences.named(_TITLES, family_of(test), language=language)


def _attack(family: str, found: list[Finding], language: Language) -> Attack:
    # False sorts first: a harmful finding before the primary one, the primary one before any other.
    judged, *others = sorted(found, key=lambda one: (not one.harmful, not one.primary))
    ran = judged.verdict != "not_applicable"
    beside = ("knowledge.cost", *updates_words.GAINS)
    told = [one for one in others if one.harmful or one.primary or one.test in beside]
    settings = judged.settings
    of_classifier = judged.attacker in classifier_words.ATTACKERS
    means, access = (classifier_words.MEANS, classifier_words.ACCESS) if of_classifier else (_MEANS, _ACCESS)
    first = judged.estimates[0].name if judged.estimates else ""
    return Attack(
        title=title_of_family(family, language=language),
        finding=judged,
        attacker=sentences.named(sentences.ATTACKERS, _attacker(judged), language=language),
        means=language.text(means[family], **settings) if ran else "",
        access=language.text(access[family]) if ran else "",
        cost=" ".join(_cost(family, judged, language)) if ran else "",
        asked=language.text("{members} training patients, {held_out} patients never seen", **settings)
        if ran
        else "",
        gains=tuple(_gain(one, language) for one in (judged, *told)),
        knowledge=tuple(_knowledge(judged, language)),
        worse=sentences.quantity(first, language=language).worse if first else "",
    )


def _cost(family: str, finding: Finding, language: Language) -> Iterator[str]:
    costs = classifier_words.COSTS if finding.attacker in classifier_words.ATTACKERS else _COSTS
    yield language.text(costs[family], **finding.settings)
    if finding.settings.get("label_only_queries"):
        yield language.text(classifier_words.LABEL_COST, **finding.settings)
    if finding.settings.get("shadow_models"):
        yield language.text(classifier_words.SHADOW_COST, **finding.settings)
    if finding.settings.get("calibrated") or finding.settings.get("score") == "ratio":
        yield language.text(_REFERENCE_COST)


def _attacker(finding: Finding) -> str:
    if finding.test in RULES:
        return RULES[finding.test].attacker
    if finding.attacker == "probabilities" and finding.settings.get("score") in ("lira", "rmia"):
        return "shadows"
    return "reference" if finding.settings.get("score") == "ratio" else finding.attacker


def _gain(finding: Finding, language: Language) -> Gain:
    why = " ".join(sentences.reason(item, language=language) for item in finding.reasons)
    title = sentences.title_of(finding.test, language=language)
    return Gain(title, finding, gain(finding, language=language) or why)


def gain(finding: Finding, *, language: Language) -> str | None:
    """Say in one sentence what an attacker gets, with its interval; None without a figure."""
    if finding.test in _GAINS and (found := estimate_of(finding, "share_difference")):
        means = (estimate_of(finding, f"{side}_mean") for side in ("members", "held_out"))
        shares = (language.percent(mean.value if mean else None, 1) for mean in means)
        written = {
            **dict(zip(("members", "held_out"), shares, strict=True)),
            "difference": language.percent(found.value, 1),
            "interval": sentences.estimate_interval(found, language=language),
        }
        return language.text(_GAINS[finding.test], **{**finding.settings, **written})
    if finding.test in updates_words.GAINS and finding.estimates:
        shown = {one.name: sentences.estimate_value(one, language=language) for one in finding.estimates}
        return language.text(updates_words.GAINS[finding.test], **shown)
    if found := estimate_of(finding, "auroc_difference"):
        if family_of(finding.test) == "attribute":
            facts = (one.name.partition(":")[2] for one in finding.estimates)
            return language.text(
                "How much better it is guessed of training patients than of patients never seen ({facts}): "
                "{difference} on the AUC scale ({interval}), where 0 is no difference.",
                facts=", ".join(clean_text(fact) for fact in facts if fact),
                difference=language.number(found.value),
                interval=sentences.estimate_interval(found, language=language),
            )
        return language.text(
            "How much better sensitive diagnoses are guessed of training patients than of patients never "
            "seen: {difference} on the AUC scale ({interval}), where 0 is no difference.",
            difference=language.number(found.value),
            interval=sentences.estimate_interval(found, language=language),
        )
    return pairs(finding, language=language)


def pairs(finding: Finding | None, *, language: Language) -> str | None:
    """Say an AUC as the share of pairs in which the right patient is picked."""
    found = estimate_of(finding, "auc")
    if found is None:
        return None
    return language.text(
        "Shown one training patient and one outsider, the attacker picks the right one in {value} of 100 "
        "cases ({interval}; pure chance is 50; AUC {auc}).",
        value=language.number(found.value * 100, 0),
        interval=language.interval(found.low * 100, found.high * 100, digits=0),
        auc=language.number(found.value),
    )


def _knowledge(finding: Finding, language: Language) -> Iterator[str]:
    """Say what suffices to draw a secret out at each number of questions, and what depth means."""
    if "k_star_1" not in finding.settings:
        return
    for queries, asked in _ASKED.items():
        events = finding.settings.get(f"k_star_{queries}")
        yield language.text(
            _SUFFICIENT.get(
                events if isinstance(events, int) else None,
                message("{asked}: {events} known events suffice ({bits:.1f} bits of information)."),
            ),
            asked=language.text(asked),
            events=events,
            bits=finding.settings.get(f"k_star_bits_{queries}"),
        )
    yield language.text(_DEPTH)


def estimate_of(finding: Finding | None, name: str) -> Estimate | None:
    """Return an estimate by name, unless it has no value."""
    found = [e for e in finding.estimates if e.name == name] if finding else []
    return found[0] if found and math.isfinite(found[0].value) else None

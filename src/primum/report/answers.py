"""The answer in plain words: what leaked, what was not found, and what to do next."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from primum.evidence.audit import Audit
from primum.evidence.estimate import Estimate
from primum.evidence.finding import Finding
from primum.report import sentences
from primum.report.language import Language, message

_AUC, _TPR = "membership.combined.auc", "membership.combined.tpr"


@dataclass(frozen=True)
class Answer:
    """The first thing a reader sees.

    Attributes
    ----------
    tone : {"harm", "clear", "unknown", "confounded"}
        A CSS class; `icon` and `headline` carry the same meaning.
    icon, headline : str
    sentences : tuple of str
        The figures behind the headline.
    """

    tone: str
    icon: str
    headline: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class People:
    """Of 100 patients, how many are recognised: surely, and at most."""

    value: int
    low: int
    high: int


def find(audit: Audit, test: str) -> Finding | None:
    """Return the finding of a test, if it is there."""
    return next((finding for finding in audit.findings if finding.test == test), None)


def estimate_of(finding: Finding | None, name: str) -> Estimate | None:
    """Return an estimate by name, unless it has no value."""
    found = [e for e in finding.estimates if e.name == name] if finding else []
    return found[0] if found and math.isfinite(found[0].value) else None


def tone_of(audit: Audit) -> str:
    """Say which of the four answers this audit gives; a confounded primary test speaks first."""
    primary = [finding.verdict for finding in audit.findings if finding.primary]
    if "confounded" in primary:
        return "confounded"
    if any(finding.harmful for finding in audit.findings):
        return "harm"
    if "inconclusive" in primary or "none_found" not in primary:
        return "unknown"
    return "clear"


_HEADLINES = {
    "harm": ("▲", message("Training patients can be recognised from this model.")),
    "clear": ("○", message("No leak of training patients was found.")),
    "unknown": ("?", message("This audit cannot tell whether the model leaks.")),
    "confounded": ("≠", message("This audit proves nothing.")),
}


def answer(audit: Audit, *, language: Language) -> Answer:
    """Say what the audit found, in plain words."""
    tone = tone_of(audit)
    icon, headline = _HEADLINES[tone]
    leaks = [finding for finding in audit.findings if finding.verdict == "leak"]
    if tone == "harm" and not leaks:
        headline = message("The audit found harm.")
        if all(finding.verdict == "tainted" for finding in audit.findings if finding.harmful):
            headline = message("The data are tainted: held-out patients repeat training patients.")
    say = {"harm": _harm, "clear": _clear, "unknown": _unknown, "confounded": _confounded}[tone]
    return Answer(tone, icon, language.text(headline), tuple(say(audit, language)))


def recognised(finding: Finding | None, *, language: Language) -> str | None:
    """Say how many of how many patients an attacker recognises, for a finding on true positives."""
    rate, false = estimate_of(finding, "tpr"), estimate_of(finding, "realised_fpr")
    if finding is None or rate is None or not rate.n:
        return None
    members = rate.n[0]
    low, high = (language.text("{n}", n=round(bound * members)) for bound in (rate.low, rate.high))
    sentence = language.text(
        "With the model's scores alone, an attacker who accepts being wrong about {wrong} outsider in "
        "{outsiders} recognises about {found} of {members} training patients (between {low} and {high}).",
        wrong=1,
        outsiders=round(1 / _target(finding)),
        found=sentences.count(rate.value * members, language=language),
        members=members,
        low=low,
        high=high,
    )
    if false is None:
        return sentence
    realised = language.text(
        "Measured: {share} of outsiders were wrongly recognised ({interval}).",
        share=language.percent(false.value, 1),
        interval=sentences.estimate_interval(false, language=language),
    )
    return f"{sentence} {realised}"


def people(audit: Audit) -> People | None:
    """Picture the share of training patients recognised as 100 people."""
    rate = estimate_of(find(audit, _TPR), "tpr")
    if rate is None or not math.isfinite(rate.low + rate.high):
        return None
    return People(round(rate.value * 100), round(rate.low * 100), round(rate.high * 100))


def _target(finding: Finding) -> float:
    chosen = finding.settings.get("target_fpr")
    return chosen if isinstance(chosen, float) and 0 < chosen < 1 else 0.01


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


def _harm(audit: Audit, language: Language) -> Iterator[str]:
    told = set()
    for test, say in ((_TPR, recognised), (_AUC, pairs)):
        finding = find(audit, test)
        sentence = say(finding, language=language)
        if sentence and finding and (finding.harmful or test == _AUC):
            told.add(test)
            yield sentence
    groups = []
    for finding in audit.findings:
        if finding.harmful and finding.subgroups:
            groups += [sentences.group_name(group, language=language) for group in finding.subgroups]
        elif finding.harmful and finding.test not in told:
            yield _claim(finding, language)
    if groups:
        listed = ", ".join(dict.fromkeys(groups))
        yield language.text("Groups in which a leak was shown on its own: {groups}.", groups=listed)


def _claim(finding: Finding, language: Language) -> str:
    title = sentences.title_of(finding.test, language=language)
    word = language.text(sentences.verdict_word(finding).word)
    if not finding.estimates:
        return language.text("{title}: {word}.", title=title, word=word)
    first = finding.estimates[0]
    return language.text(
        "{title}: {word}. {label}: {value} ({interval}).",
        title=title,
        word=word,
        label=sentences.quantity(first.name, language=language).label,
        value=sentences.estimate_value(first, language=language),
        interval=sentences.estimate_interval(first, language=language),
    )


def _clear(audit: Audit, language: Language) -> Iterator[str]:
    finding = find(audit, _AUC)
    found = estimate_of(finding, "auc")
    if finding and found:
        yield language.text(
            "With {members} training patients and {held_out} others, an attacker who sees the model's scores "
            "does about as well as chance: at most {high} right in 100 (pure chance is 50; AUC {auc}, "
            "{interval}).",
            members=audit.patients.get("members"),
            held_out=audit.patients.get("held_out"),
            high=language.number(found.high * 100, 0),
            auc=language.number(found.value),
            interval=language.interval(found.low, found.high),
        )
        yield from visible(finding, language=language)
    yield language.text("Not finding a leak is not proof that there is none: see what was tested below.")


def visible(finding: Finding, *, language: Language) -> Iterator[str]:
    """Say how small an effect the audit could have seen."""
    smallest = finding.settings.get("smallest_detectable")
    if isinstance(smallest, float | int) and math.isfinite(smallest):
        yield language.text(
            "The smallest effect this audit would have seen four times out of five: AUC {smallest:.2f}. "
            "What matters starts at {material:.2f}.",
            smallest=float(smallest),
            material=finding.material,
        )


def _unknown(audit: Audit, language: Language) -> Iterator[str]:
    finding = find(audit, _AUC)
    if finding:
        yield language.text(
            "{members} training patients and {held_out} others were compared: too few to find a leak, and "
            "too few to rule one out.",
            members=audit.patients.get("members"),
            held_out=audit.patients.get("held_out"),
        )
    undecided = [f for f in audit.findings if f.primary and f.verdict != "none_found"]
    said = dict.fromkeys(sentences.reason(r, language=language) for f in undecided for r in f.reasons)
    yield from said
    sentence = pairs(finding, language=language)
    if sentence:
        yield sentence
    if finding:
        yield from visible(finding, language=language)


def _confounded(audit: Audit, language: Language) -> Iterator[str]:
    yield language.text(
        "The training patients and the others differ in ways that have nothing to do with the model: another "
        "period, another site, other habits of coding. What the attack measured may be that difference."
    )
    blind = estimate_of(find(audit, _AUC), "blind_auc")
    if blind:
        yield language.text(
            "Without opening the model, dates, lengths, sites and codes tell the two groups apart in "
            "{value} of 100 pairs ({interval}; pure chance is 50).",
            value=language.number(blind.value * 100, 0),
            interval=language.interval(blind.low * 100, blind.high * 100, digits=0),
        )
    for finding in audit.findings:
        if finding.harmful and not finding.subgroups:
            yield _claim(finding, language)
    yield language.text("The model may leak or not: treat it as untested.")

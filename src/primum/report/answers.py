"""The answer in plain words: what leaked, what was not found, and what to do next."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from primum.evidence.audit import Audit
from primum.evidence.finding import Finding
from primum.evidence.rules import RULES, family_of
from primum.report import sentences, updates_words
from primum.report.attacks import estimate_of, gain, pairs, title_of_family
from primum.report.language import Language, message

_AUC, _TPR = "membership.combined.auc", "membership.combined.tpr"
_UNITS = {
    "share_difference": message("a difference of {value}"),
    "auroc_difference": message("a difference of {value} on the AUC scale"),
}


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
    """Of 100 patients, how many are recognised: surely, at most, and by pure chance."""

    value: int
    low: int
    high: int
    chance: float


def find(audit: Audit, test: str) -> Finding | None:
    """Return the finding of a test, if it is there."""
    return next((finding for finding in audit.findings if finding.test == test), None)


def tone_of(audit: Audit) -> str:
    """Say which of the four answers this audit gives.

    When recognition is confounded, the two sides differ by design and that is said before anything else; one
    other confounded attack leaves the rest standing.
    """
    primary = [finding for finding in audit.findings if finding.primary and family_of(finding.test) != "data"]
    deciding = [finding for finding in primary if finding.test == _AUC] or primary
    if any(finding.verdict == "confounded" for finding in deciding):
        return "confounded"
    if any(finding.harmful for finding in audit.findings):
        return "harm"
    verdicts = {finding.verdict for finding in audit.findings if finding.primary}
    looked = any(finding.verdict == "none_found" for finding in primary)
    return "clear" if looked and not verdicts & {"inconclusive", "confounded"} else "unknown"


_HEADLINES = {
    "harm": ("▲", message("Training patients can be recognised from this model.")),
    "clear": ("○", message("No leak of training patients was found.")),
    "unknown": ("?", message("This audit cannot tell whether the model leaks.")),
    "confounded": ("≠", message("This audit proves nothing.")),
}


# What leaked, the worst first: headline, and the tests that show it; the last one takes every other.
_KINDS = (
    (
        message("Records of patients can be drawn out of what hospitals send."),
        ("updates.reconstruction",),
    ),
    (message("Rare codes of patients can be read off what hospitals send."), ("updates.codes",)),
    (message("Who trained at a hospital can be recognised from what it sends."), ("updates.",)),
    (
        message("Parts of training patients' records can be drawn out of this model."),
        ("trajectory.codes", "trajectory.verbatim", "knowledge.cost", "extraction.", "structure.stored"),
    ),
    (
        message("Sensitive diagnoses of training patients can be inferred from this model."),
        ("sensitive.", "embedding.attribute"),
    ),
    (
        message("A hidden attribute of training patients can be inferred from this model."),
        ("attribute.inferred",),
    ),
    (_HEADLINES["harm"][1], ("membership.",)),
    (
        message("Having trained this model changes what it says of the same patients later."),
        ("bias.",),
    ),
    (_HEADLINES["harm"][1], ("",)),
)


def answer(audit: Audit, *, language: Language) -> Answer:
    """Say what the audit found, in plain words."""
    tone = tone_of(audit)
    icon, headline = _HEADLINES[tone]
    if updates_words.of_updates(audit):
        headline = updates_words.HEADLINES.get(tone, headline)
    if tone == "harm":
        headline, _ = _leading(audit) or (message("The audit found harm."), None)
        if all(finding.verdict == "tainted" for finding in audit.findings if finding.harmful):
            headline = message("The data are tainted: held-out patients repeat training patients.")
    say = {"harm": _harm, "clear": _clear, "unknown": _unknown, "confounded": _confounded}[tone]
    return Answer(tone, icon, language.text(headline), (*say(audit, language), *image_level(audit, language)))


def image_level(audit: Audit, language: Language) -> Iterator[str]:
    """Say that nobody knows whose the cases are, where it is so."""
    if audit.context.get("unit") == "case":
        yield language.text(
            "Image-level: these data do not say which cases are of one patient. Each case counts as a "
            "patient of its own, wherever this report says patient, and intervals are narrower than they "
            "should be if some patients have several."
        )


def _leading(audit: Audit) -> tuple[str, Finding] | None:
    """Return the headline of the worst kind of leak, and the first finding that shows it."""
    leaks = [finding for finding in audit.findings if finding.verdict == "leak"]
    for headline, tests in _KINDS:
        for finding in leaks:
            if finding.test.startswith(tests):
                return headline, finding
    return None


def recognised(finding: Finding | None, *, language: Language) -> str | None:
    """Say how many of how many patients an attacker recognises, for a finding on true positives."""
    rate, false = estimate_of(finding, "tpr"), estimate_of(finding, "realised_fpr")
    if finding is None or rate is None or not rate.n:
        return None
    members = rate.n[0]
    low, high = (language.text("{n}", n=round(bound * members)) for bound in (rate.low, rate.high))
    sentence = language.text(
        "With the model's scores, an attacker who accepts being wrong about {wrong} outsider in "
        "{outsiders} recognises about {found} of {members} training patients (between {low} and {high}); "
        "pure chance alone would recognise about {chance}.",
        wrong=1,
        outsiders=round(1 / _target(finding)),
        found=sentences.count(rate.value * members, language=language),
        members=members,
        low=low,
        high=high,
        chance=float(f"{_target(finding) * members:.2g}"),
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
    """Picture the share of training patients recognised as 100 people, unless another kind of leak leads."""
    finding = find(audit, _TPR)
    recognised = any(one.harmful and family_of(one.test) == "membership" for one in audit.findings)
    if tone_of(audit) == "harm" and not recognised:
        return None
    rate = estimate_of(finding, "tpr")
    if finding is None or rate is None or not math.isfinite(rate.low + rate.high):
        return None
    value, low, high = (round(share * 100) for share in (rate.value, rate.low, rate.high))
    return People(value, low, high, chance=_target(finding) * 100)


def _target(finding: Finding) -> float:
    chosen = finding.settings.get("target_fpr")
    return chosen if isinstance(chosen, float) and 0 < chosen < 1 else 0.01


def _harm(audit: Audit, language: Language) -> Iterator[str]:
    _, led = _leading(audit) or ("", None)
    told = set()
    if (
        led
        and (led.test in RULES or led.test in updates_words.GAINS)
        and (sentence := gain(led, language=language))
    ):
        told.add(led.test)
        yield sentence
    for test, say in ((_TPR, recognised), (_AUC, pairs)):
        finding = find(audit, test)
        sentence = say(finding, language=language)
        if sentence and finding and (finding.harmful or (test == _AUC and not told)):
            told.add(test)
            yield sentence
    harmful = [finding for finding in audit.findings if finding.harmful and finding.test not in told]
    for finding in harmful:
        if not finding.subgroups and finding.test not in RULES:
            yield _claim(finding, language)
    families = dict.fromkeys(
        title_of_family(one.test, language=language)
        for one in harmful
        if one.test in RULES and not (led and family_of(one.test) == family_of(led.test))
    )
    if families:
        yield language.text("These attacks found leaks as well: {attacks}.", attacks=" · ".join(families))
    groups = [sentences.group_name(g, language=language) for one in harmful for g in one.subgroups]
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
    yield language.text("These attacks found nothing: {tests}.", tests=_titles(audit, language, "none_found"))
    yield language.text("Not finding a leak is not proof that there is none: see what was tested below.")


def visible(finding: Finding, *, language: Language) -> Iterator[str]:
    """Say how small an effect the audit could have seen."""
    smallest, material = finding.settings.get("smallest_detectable"), finding.material
    if not isinstance(smallest, float | int) or material is None or not finding.estimates:
        return
    judged = finding.estimates[0]
    unit = _UNITS.get(judged.name, message("AUC {value}"))
    sizes = (
        language.text(unit, value=sentences.estimate_value(replace(judged, value=size), language=language))
        for size in (float(smallest), material)
    )
    yield language.text(
        "The smallest effect this audit would have seen four times out of five: {smallest}. What matters "
        "starts at {material}.",
        **dict(zip(("smallest", "material"), sizes, strict=True)),
    )


def _unknown(audit: Audit, language: Language) -> Iterator[str]:
    finding = find(audit, _AUC)
    undecided = finding is not None and finding.verdict == "inconclusive"
    if undecided:
        yield language.text(
            "{members} training patients and {held_out} others were compared: too few to find a leak, and "
            "too few to rule one out.",
            members=audit.patients.get("members"),
            held_out=audit.patients.get("held_out"),
        )
    for verdicts, sentence in (
        (("inconclusive", "confounded"), message("These attacks could not tell: {tests}.")),
        (("none_found",), message("These attacks found nothing: {tests}.")),
    ):
        if titles := _titles(audit, language, *verdicts):
            yield language.text(sentence, tests=titles)
    if finding and undecided:
        yield from (sentences.reason(item, language=language) for item in finding.reasons)
        if said := pairs(finding, language=language):
            yield said
        yield from visible(finding, language=language)


def _titles(audit: Audit, language: Language, *verdicts: str) -> str:
    """List the attacks whose primary test came to one of these verdicts."""
    return " · ".join(
        title_of_family(finding.test, language=language)
        for finding in audit.findings
        if finding.primary and family_of(finding.test) != "data" and finding.verdict in verdicts
    )


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

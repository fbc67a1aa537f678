"""One page for a data-protection officer: what was audited, who is concerned, what it means, what to do."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from primum.evidence.audit import Audit
from primum.evidence.rules import family_of
from primum.report import sentences, updates_words
from primum.report.advice import next_steps
from primum.report.answers import image_level, tone_of
from primum.report.attacks import title_of_family
from primum.report.beyond import beyond, is_beyond, privacy_of
from primum.report.language import Language, message

_STEPS_SHOWN = 2
# What privacy has to say comes before the other families.
_BEFORE_OTHERS = 3
_TEST = message(
    "EDPB Opinion 28/2024 asks whether, with all means reasonably likely to be used, the likelihood of "
    "drawing personal data from the model, by its insides or by queries, is insignificant for every person."
)
_NEITHER_WAY = message("This audit is evidence neither way and cannot be relied on for that question.")
_STAYS = message(
    "Until shown otherwise, treat the model as personal data concerning health (GDPR, articles 4 and 9): "
    "whoever holds it needs a legal basis, a purpose and security, as for the records themselves."
)
_MEANING = {
    "harm": (
        message(
            "For the leaks below this audit found it not insignificant. Whether such means are reasonably "
            "likely to be used is for the controller to judge, and to write down."
        ),
        _STAYS,
        message(
            "If the model has already left the circle of those entitled to the records, examine whether that "
            "is a personal data breach (articles 33 and 34)."
        ),
    ),
    "clear": (
        message(
            "The attacks tried drew nothing out that matters. That speaks for a low likelihood and does not "
            "prove it: other attacks, or more patients, may find more. The controller decides, and writes "
            "down why."
        ),
    ),
    "unknown": (_NEITHER_WAY, _STAYS),
    "confounded": (_NEITHER_WAY, _STAYS),
}


@dataclass(frozen=True)
class Row:
    """One question of the page and its answer, a sentence a line."""

    title: str
    lines: tuple[str, ...]


def summary(audit: Audit, run: Mapping[str, object], *, language: Language) -> tuple[Row, ...]:
    """Answer what a data-protection officer asks first; the headline of the report stands above.

    Parameters
    ----------
    audit : Audit
    run : mapping
        As in ``run.json``; ``date``, and ``signer``, the public key of whoever signed, are told if there.
    language : Language

    Returns
    -------
    tuple of Row
    """
    leaks = any(finding.verdict == "leak" for finding in audit.findings)
    tone = tone_of(privacy_of(audit))
    tone = "unknown" if tone == "harm" and not leaks else tone
    meaning = updates_words.MEANING[tone] if updates_words.of_updates(audit) else (_TEST, *_MEANING[tone])
    rows = [
        Row(language.text(title), tuple(lines))
        for title, lines in (
            (message("What was audited, and by whom"), _audited(audit, run, language)),
            (message("Who is concerned"), _concerned(audit, language)),
            (
                message("What it means for data protection"),
                (*map(language.text, meaning), *_properties(audit, language)),
            ),
            (message("What to do next"), next_steps(privacy_of(audit), language=language)[:_STEPS_SHOWN]),
            (message("What was not tested"), _untested(audit, language)),
        )
    ]
    return (*rows[:_BEFORE_OTHERS], *_beyond(audit, language), *rows[_BEFORE_OTHERS:])


def _audited(audit: Audit, run: Mapping[str, object], language: Language) -> Iterator[str]:
    updates = updates_words.of_updates(audit)
    model = message(
        "The model {name}, whose fingerprint begins with {digest}; with Primum {version}, {date}."
    )
    yield language.text(
        updates_words.AUDITED if updates else model,
        updates=next((one.settings.get("updates") for one in audit.findings), None),
        name=audit.model.name,
        digest=audit.model.digest[:12],
        version=audit.context.get("version"),
        date=language.date(run["date"]) if "date" in run else None,
    )
    if "signer" in run:
        yield language.text(
            "Signed with the key {key}: primum report check tells whether it is so.", key=run["signer"]
        )
    else:
        yield language.text("Not signed: the report does not prove who made it.")


def _concerned(audit: Audit, language: Language) -> Iterator[str]:
    trained = message(
        "{members} patients whose records trained the model. They were compared with {held_out} similar "
        "patients whom it never saw."
    )
    yield language.text(
        updates_words.CONCERNED if updates_words.of_updates(audit) else trained,
        members=sentences.count(audit.patients.get("members"), language=language),
        held_out=sentences.count(audit.patients.get("held_out"), language=language),
    )
    yield from image_level(audit, language)
    leaks = [one for one in privacy_of(audit).findings if one.harmful]
    groups = dict.fromkeys(group for one in leaks for group in one.subgroups)
    if groups:
        yield language.text(
            "Groups in which a leak was shown on its own: {groups}.",
            groups=", ".join(sentences.group_name(group, language=language) for group in groups),
        )


def _beyond(audit: Audit, language: Language) -> Iterator[Row]:
    """Say of each other family what it found, under its own title."""
    for part in beyond(audit, language=language):
        harmful = [told.sentence for told in part.told if told.finding.harmful]
        yield Row(part.title, (part.answer, *harmful[:1], *part.advice[:1]))


def _properties(audit: Audit, language: Language) -> Iterator[str]:
    """Say what was guessed of hospitals, which no verdict speaks of."""
    for finding in audit.findings:
        if finding.test == "updates.property":
            yield from (sentences.reason(item, language=language) for item in finding.reasons)


def _untested(audit: Audit, language: Language) -> Iterator[str]:
    missing = [
        title_of_family(one.test, language=language)
        for one in audit.findings
        if one.primary and one.verdict == "not_applicable" and family_of(one.test) != "data"
    ]
    if missing:
        yield language.text(
            "Attacks that this model or this command left out: {tests}.", tests=" · ".join(missing)
        )
    if updates_words.of_updates(audit):
        yield language.text(updates_words.UNTESTED)
        return
    if any(map(is_beyond, audit.findings)):
        yield language.text("How the model is kept and served is another question.")
        return
    yield language.text(
        "Only attacks on the privacy of the training patients were tried. Whether the model is right, fair "
        "or hard to fool, and how it is kept and served, are other questions."
    )

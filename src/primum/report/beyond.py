"""Beyond privacy: how the model breaks, on what data it was made, whom it serves worse, why it says so."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from markupsafe import Markup

from primum.evidence.audit import Audit
from primum.evidence.finding import Finding
from primum.evidence.observed import OBSERVED, ObservedFamily
from primum.evidence.rules import family_of
from primum.report import data_plots, data_words, equity_plots, equity_words, sentences
from primum.report.advice import next_steps
from primum.report.answers import Answer, answer, tone_of
from primum.report.figures import Plot, drawn
from primum.report.language import Language, message
from primum.report.observed_words import ACCESS, ADVICE, COSTS, GAINS, MEANS, SETTINGS

_OVERLAP = "data.overlap"
# In the order in which the report tells them: title, then the plain answer by the verdict that is judged.
_PARTS: Mapping[ObservedFamily, tuple[str, Mapping[str, str]]] = {
    "robustness": (
        message("How it breaks"),
        {
            "fragile": message(
                "This model can be fooled: changes that a person would hardly notice turn right answers into "
                "wrong ones."
            ),
            "none_found": message(
                "The changes that were tried turned hardly more right answers than chance does."
            ),
            "inconclusive": message("This audit cannot tell how easily the model is fooled."),
        },
    ),
    "data": (
        message("On what data it was made"),
        {
            "tainted": message("The data are tainted: something in them should not be there."),
            "none_found": message("Nothing that should not be there was found in the training data."),
            "inconclusive": message("This audit cannot tell whether the training data are sound."),
        },
    ),
    "equity": (
        message("Whom it serves worse"),
        {
            "unfair": message("This model serves some patients worse than others."),
            "none_found": message(
                "No group of patients was served worse than the others by a size that matters."
            ),
            "inconclusive": message(
                "This audit cannot tell whether the model serves some patients worse: there are too few of "
                "them."
            ),
        },
    ),
    "explanations": (
        message("Whether its explanations can be believed"),
        {
            "fragile": message("The explanations of this model cannot be believed."),
            "none_found": message("The explanations follow what the model does, as far as was tested."),
            "inconclusive": message("This audit cannot tell whether the explanations can be believed."),
        },
    ),
}
_NOT_TESTED = message("Not tested.")
# What the verdict says by itself, or the sentence with the figures.
_PLAIN = ("harm_found", "below_material", "reported_only", "clearest_gap")


@dataclass(frozen=True)
class Told:
    """What one test found, in a sentence."""

    title: str
    finding: Finding
    sentence: str


@dataclass(frozen=True)
class Part:
    """One family, its plain answer first.

    Attributes
    ----------
    family : str
    title, answer : str
    finding : Finding
        The harmful one if there is any, else the primary one.
    told : tuple of Told
        Of each claim about everyone, and of each harmful one about a group.
    facts, settings : tuple of (str, str)
        What it takes to do this to the model, and what shaped the figures: a name and what it is.
    advice : tuple of str
        What to do about each harm.
    drawn : tuple of Finding
        Whose series the plots show.
    language : Language
    """

    family: ObservedFamily
    title: str
    answer: str
    finding: Finding
    told: tuple[Told, ...]
    facts: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, str], ...]
    advice: tuple[str, ...]
    drawn: tuple[Finding, ...]
    language: Language

    @cached_property
    def plots(self) -> tuple[Plot, ...]:
        """Its plots, drawn when they are asked for: the answers, the summary and the terminal show none."""
        return (*drawn(self.drawn, language=self.language), *_forests(self.drawn, self.language))


def is_beyond(finding: Finding) -> bool:
    """Tell whether a finding compares no training patients with others."""
    return family_of(finding.test) in OBSERVED and finding.test != _OVERLAP


def privacy_of(audit: Audit) -> Audit:
    """Leave out every finding that compares no training patients with others."""
    return replace(audit, findings=tuple(one for one in audit.findings if not is_beyond(one)))


def beyond(audit: Audit, *, language: Language) -> tuple[Part, ...]:
    """Tell each family that was part of the audit."""
    families: dict[ObservedFamily, list[Finding]] = {family: [] for family in _PARTS}
    for finding in filter(is_beyond, audit.findings):
        families[family_of(finding.test)].append(finding)  # type: ignore[index]
    return tuple(_part(family, found, language) for family, found in families.items() if found)


def whole_answer(audit: Audit, *, language: Language) -> Answer:
    """Say what was found, privacy first; without a leak, the first other harm leads.

    Where privacy was no part of the audit, the other families alone answer.
    """
    private, parts = privacy_of(audit), beyond(audit, language=language)
    said = answer(private, language=language)
    if not parts:
        return said
    lead = leading(audit, parts)
    lines = tuple(f"{part.title}: {part.answer}" for part in parts if part is not lead)
    if lead is None:
        return replace(said, sentences=(*said.sentences, *lines))
    own = (language.text("Privacy: {answer}", answer=said.headline), *said.sentences)
    shown = tuple(told.sentence for told in lead.told if told.finding == lead.finding)
    word = sentences.verdict_word(lead.finding)
    tone = word.tone if word.tone in ("harm", "clear", "confounded") else "unknown"
    return Answer(tone, word.icon, lead.answer, (*shown, *lines, *(own if _asked(private) else ())))


def leading(audit: Audit, parts: tuple[Part, ...]) -> Part | None:
    """Return the family that gives the report its headline; None: privacy does."""
    private = privacy_of(audit)
    harmful = [part for part in parts if part.finding.harmful]
    if not parts or tone_of(private) == "harm" or (_asked(private) and not harmful):
        return None
    return (harmful or list(parts))[0]


def _asked(private: Audit) -> bool:
    return any(family_of(one.test) != "data" for one in private.findings)


def steps_of(audit: Audit, *, language: Language) -> tuple[str, ...]:
    """List what to do now about privacy, then about every other harm."""
    about = [step for part in beyond(audit, language=language) for step in part.advice]
    private = privacy_of(audit)
    return (*(next_steps(private, language=language) if _asked(private) or not about else ()), *about)


def _part(family: ObservedFamily, found: list[Finding], language: Language) -> Part:
    title, answers = _PARTS[family]
    # False sorts first: a harmful finding before the primary one, the primary one before any other.
    judged = min(found, key=lambda one: (not one.harmful, bool(one.subgroups), not one.primary))
    claims = [one for one in found if one.verdict != "descriptive" and (one.harmful or not one.subgroups)]
    return Part(
        family,
        language.text(title),
        language.text(answers.get(judged.verdict, _NOT_TESTED)),
        judged,
        tuple(_told(one, language) for one in claims),
        tuple(_facts(family, judged, language)) if judged.estimates else (),
        tuple(_settings(judged, language)),
        tuple(language.text(ADVICE[one.test]) for one in claims if one.harmful and one.test in ADVICE),
        tuple(found),
        language,
    )


def _facts(family: ObservedFamily, judged: Finding, language: Language) -> Iterator[tuple[str, str]]:
    """Say who could do this, with what in hand, how near the model, at what price."""
    attacker = sentences.named(sentences.ATTACKERS, judged.attacker, language=language)
    yield language.text("The attacker"), attacker
    for name, table in (
        (message("What is needed"), MEANS),
        (message("Access to the model"), ACCESS),
        (message("What it costs"), COSTS),
    ):
        yield language.text(name), language.text(table[family], **judged.settings)


def _settings(judged: Finding, language: Language) -> Iterator[tuple[str, str]]:
    """Name every setting that has a name for people."""
    for key, value in judged.settings.items():
        if key in SETTINGS and value not in ("", None):
            shown = sentences.group_name(str(value), language=language) if key == "worst_group" else value
            yield language.text(SETTINGS[key]), language.text("{value}", value=shown)


def _forests(found: Sequence[Finding], language: Language) -> Iterator[Plot]:
    """Draw what was measured of each group on its own."""
    for test, draw, (title, note) in (
        ("equity.sensitivity", _gaps, equity_words.FOREST),
        ("data.site", _sites, data_words.PLOTS["data_sites"]),
    ):
        groups = [one for one in found if one.test.startswith(f"{test}@") and one.estimates]
        if not groups:
            continue
        first = groups[0].estimates[0].name
        headings = (message("Group"), sentences.quantity(first, language=language).label, message("Interval"))
        yield Plot(
            test,
            language.text(title),
            language.text(note),
            Markup(draw(groups, language)),
            (language.text(headings[0]), headings[1], language.text(headings[2])),
            tuple(_row(one, language) for one in groups),
            thinned=False,
        )


def _gaps(groups: list[Finding], language: Language) -> str:
    return equity_plots.forest(groups, material=groups[0].material or 0.0, language=language)


def _sites(groups: list[Finding], language: Language) -> str:
    return data_plots.sites(groups, language=language)


def _row(finding: Finding, language: Language) -> tuple[str, ...]:
    first = finding.estimates[0]
    return (
        sentences.group_name("&".join(finding.subgroups), language=language),
        sentences.estimate_value(first, language=language),
        sentences.estimate_interval(first, language=language),
    )


def _told(finding: Finding, language: Language) -> Told:
    said = [_gain(finding, language)]
    said += [sentences.reason(one, language=language) for one in finding.reasons if one.code not in _PLAIN]
    title = sentences.title_of(finding.test, language=language)
    return Told(title, finding, " ".join(filter(None, said)))


def _gain(finding: Finding, language: Language) -> str:
    """Put the figures of a finding into the sentence of its test; without one, name what was judged."""
    if not finding.estimates or finding.verdict == "not_applicable":
        return ""
    written: dict[str, object] = dict(finding.settings)
    if isinstance(group := written.get("worst_group"), str):
        written["worst_group"] = sentences.group_name(group, language=language)
    for estimate in finding.estimates:
        written[estimate.name] = sentences.estimate_value(estimate, language=language)
        written[f"{estimate.name}_interval"] = sentences.estimate_interval(estimate, language=language)
    template = GAINS.get(finding.test.partition("@")[0])
    if template:
        return language.text(template, **written)
    first = finding.estimates[0]
    return language.text(
        "{label}: {value} ({interval}).",
        label=sentences.quantity(first.name, language=language).label,
        value=written[first.name],
        interval=written[f"{first.name}_interval"],
    )

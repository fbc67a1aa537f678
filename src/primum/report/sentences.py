"""From codes to words: verdicts, tests, groups, quantities, reasons, attackers, methods.

Every table falls back to the cleaned code itself, so that a file written by a newer version still renders.
"""

import re
from dataclasses import dataclass

from primum.errors import clean_text
from primum.evidence.estimate import Estimate
from primum.evidence.finding import Finding, Message
from primum.report import classifier_words, observed_words
from primum.report.glossary import AUC_WORSE, QUANTITIES, TESTS, Quantity
from primum.report.language import NOTHING, Language, message


@dataclass(frozen=True)
class VerdictWord:
    """A verdict for a person: colour (a CSS class), icon and word, so that none of them carries it alone."""

    tone: str
    icon: str
    word: str
    meaning: str


_HARM = message("A material effect was measured and chance does not explain it.")
VERDICTS = {
    "leak": VerdictWord("harm", "▲", message("Leak"), _HARM),
    "fragile": VerdictWord("harm", "▲", message("Fragile"), _HARM),
    "unfair": VerdictWord("harm", "▲", message("Unfair"), _HARM),
    "tainted": VerdictWord("harm", "▲", message("Tainted data"), _HARM),
    "none_found": VerdictWord(
        "clear",
        "○",
        message("None found"),
        message("If there is an effect, it is below the size that matters."),
    ),
    "inconclusive": VerdictWord(
        "unknown",
        "?",
        message("Cannot tell"),
        message("Too few patients, or too wide an interval: neither found nor ruled out."),
    ),
    "confounded": VerdictWord(
        "confounded",
        "≠",
        message("Proves nothing"),
        message("The two groups of patients differ without the model: what was measured may be that."),
    ),
    "not_applicable": VerdictWord(
        "quiet",
        NOTHING,
        message("Not tested"),
        message("This test needs something that was not there; the reason is given."),
    ),
    "descriptive": VerdictWord(
        "quiet",
        "·",
        message("For information"),
        message("Shown beside the claims; claims nothing itself."),
    ),
}

_MEASURES = {"auc": message("over all patients"), "tpr": message("with few false accusations")}

GROUPS = {
    "sex=F": message("Women"),
    "sex=M": message("Men"),
    "rare": message("People with a very rare code"),
    "oldest": message("The oldest patients"),
    "small-cell": message("Rare mix of sex, age and site"),
    "family=hiv": message("HIV codes"),
    "family=hepatitis_viral": message("Viral hepatitis codes"),
    "family=sexual_health": message("Sexual health codes"),
    "family=mental_health": message("Mental health codes"),
    "family=substance_use": message("Substance use codes"),
    "family=pregnancy_loss_or_termination": message("Codes of pregnancy loss or termination"),
    "family=cancer": message("Cancer codes"),
    "family=violence": message("Codes of violence suffered"),
}
_GROUP_PATTERNS = {
    "age": message("Aged {value}"),
    "site": message("Site {value}"),
    "family": message("Sensitive codes: {value}"),
    "sex": message("Sex: {value}"),
    **classifier_words.GROUP_PATTERNS,
}


REASONS = {
    "too_few_patients": message("Too few patients: {have} where {needed} are needed."),
    "needs_patients": message(
        "To rule the effect out, at least {needed_members} training and {needed_held_out} held-out patients "
        "would be needed."
    ),
    "detectable_but_immaterial": message("An effect is there, but smaller than the size that matters."),
    "blind_explains": message(
        "Without the model, the two groups can already be told apart (AUC {blind_auc:.2f})."
    ),
    "not_beyond_blind": message("The attack does no better than what is known without the model."),
    "harm_found": message("Significant after correction for all tests, and of a size that matters."),
    "below_material": message("Even the upper bound is below the size that matters."),
    "needs_recipe": message("Needs {references} reference models: give a recipe that trains them."),
    "needs_shadows": message(
        "Needs shadow models: give a recipe that trains models of the same kind (--recipe, --references 32)."
    ),
    "needs_shadows_to_name": message(
        "Needs {shadows} shadow models (--recipe module:name --references {shadows})."
    ),
    "needs_reference": message("Needs a reference model: give one, or a recipe that trains one."),
    "model_cannot": message("The model does not offer what this test needs ({protocol})."),
    "no_canaries": message("No record was planted before training."),
    "duplicates_dropped": message("{pairs} near-copies were left out of the held-out side."),
    "no_overlap": message("No near-copy between the two sides."),
    "overlap_found": message("{share:.1%} of held-out patients are near-copies of training patients."),
    "no_identifier": message("No patient of the sample carries it in the model's tokens ({identifier})."),
    "too_few_exposed": message(
        "The most exposed 1% are fewer than five people: at least {needed} training patients would be needed."
    ),
    "few_exposed": message(
        "Groups not shown: {groups}; of the {exposed} most exposed patients, fewer than five are in each, or "
        "outside it."
    ),
    "risk_bands": message(
        "At high risk: {high} training patients; at raised risk: {raised}. Had the model seen none of them, "
        "0.1% and 5% would be expected."
    ),
    "naming_untrusted": message(
        "The same procedure would have named held-out patients, who trained nothing: its results are not "
        "used."
    ),
    "rank_resolution": message(
        "Without reference models, ranks among these held-out patients could never name fewer than {fewest} "
        "patients with few errors."
    ),
    "reported_only": message("Reported for information; carries no claim."),
    **classifier_words.REASONS,
    **observed_words.REASONS,
}

ATTACKERS = {
    "none": message("No attacker is assumed."),
    "scores": message("The attacker holds a patient's record and sees how likely the model finds it."),
    "reference": message(
        "The attacker holds a patient's record, sees how likely the model finds it, and has a reference "
        "model."
    ),
    "prompt": message(
        "The attacker knows who a patient is and the beginning of the record, and lets the model write on."
    ),
    "scrubbed": message(
        "The attacker holds a record without its sensitive codes and asks the model for them."
    ),
    "embedding": message("The attacker holds a record and the model's inner summary (embedding) of it."),
    "partial": message("The attacker knows some events of a patient and sees how likely each next code is."),
    "canaries": message("The attacker holds a planted record and sees how likely the model finds it."),
    **classifier_words.ATTACKERS,
    **observed_words.ATTACKERS,
}

ROLES = {
    "members": message("training patients"),
    "held_out": message("patients never seen"),
    "reference": message("patients of the reference model"),
}

CONTEXT = {
    "context": message("Tokens the model sees at once"),
    "guessed": message("Not declared beside the model, and guessed"),
    "coverage": message("Share of the recorded events that its vocabulary knows"),
    "dropped_overlap": message("Patients of both sides, left out"),
    "parameters": message("Parameters of the model"),
    "version": message("Version of Primum"),
    "vocabulary": message("Tokens it knows"),
    **classifier_words.CONTEXT,
}

METHODS = {
    "delong-logit": message("DeLong, logit scale"),
    "delong-joined": message("DeLong, paired difference"),
    "exact-pairs": message("exact bound"),
    "bootstrap-percentile": message("bootstrap by patient"),
    "paired-bootstrap-percentile": message("paired bootstrap by patient"),
    "clopper-pearson": message("Clopper-Pearson (exact binomial)"),
    "welch-agresti-caffo": message("Welch, with pseudo-patients (Agresti-Caffo)"),
    "partial-pooling": message("partial pooling over groups"),
    "mean": message("mean"),
    "delong-placements": message("DeLong, difference of two groups"),
    "clopper-pearson-scaled": message("Clopper-Pearson, over the group's share"),
    "simes-closed": message("Closed testing with Simes tests"),
    "exposure-rank": message("Rank among records never planted"),
    "clopper-pearson-joined": message("Clopper-Pearson, difference"),
    **observed_words.METHODS,
}
_LONG_METHODS = {
    r"(?P<method>[a-z-]+), (?P<strata>\d+) strata, (?P<part>\d+) of (?P<whole>\d+) patients": message(
        "{method}; {part} of {whole} patients in {strata} groups of similar patients"
    ),
    r"one-run guesses, one-sided, delta \S+": message("Guesses in one training run, one-sided"),
    r"(?P<method>[a-z-]+) on held-back patients, one-sided, delta (?P<delta>\S+)": message(
        "{method}, one-sided, on patients kept aside; delta {delta}"
    ),
}


def verdict_word(finding: Finding) -> VerdictWord:
    """Find the word of a verdict."""
    unknown = VerdictWord("quiet", "·", clean_text(finding.verdict), "")
    return VERDICTS.get(finding.verdict, unknown)


def title_of(test: str, *, language: Language) -> str:
    """Name a test in words: ``membership.combined.auc@sex=F`` is about recognising women."""
    name, _, group = test.partition("@")
    family, _, measure = name.rpartition(".")
    known = TESTS.get(name) or TESTS.get(family)
    if known is None:
        return clean_text(test)
    title = language.text(known[0])
    if name not in TESTS and measure in _MEASURES:
        title = language.text("{title}, {measure}", title=title, measure=language.text(_MEASURES[measure]))
    if group:
        title = language.text("{title}: {group}", title=title, group=group_name(group, language=language))
    return title


def explanation_of(test: str, *, language: Language) -> str:
    """Say in one line what a test does; empty for a test this version does not know."""
    name = test.partition("@")[0]
    known = TESTS.get(name) or TESTS.get(name.rpartition(".")[0])
    return language.text(known[1]) if known else ""


def group_name(group: str, *, language: Language) -> str:
    """Name a group of patients: ``"age=60-79"`` is "Aged 60–79"."""
    if group in GROUPS:
        return language.text(GROUPS[group])
    if "&" in group:
        return ", ".join(group_name(one, language=language) for one in group.split("&"))
    kind, _, value = group.partition("=")
    if value and kind in _GROUP_PATTERNS:
        shown = value.replace("-", "–") if kind == "age" else value
        return language.text(_GROUP_PATTERNS[kind], value=shown)
    return clean_text(group)


def quantity(name: str, *, language: Language) -> Quantity:
    """Describe an estimate, its label and direction already in the reader's language."""
    copies = name.removeprefix("auc_d")
    if name != copies and copies.isdigit():
        label = language.text("AUC, planted {copies} times", copies=int(copies))
        return Quantity(label, False, language.text(AUC_WORSE))
    copies = name.removeprefix("exposure_d")
    if name != copies and copies.isdigit():
        label = language.text("Exposure in bits, planted {copies} times", copies=int(copies))
        worse = message("Higher is worse; about 1.4 is what a record never learned has.")
        return Quantity(label, False, language.text(worse))
    measure, _, fact = name.partition(":")
    plain = measure.removesuffix("_pooled")
    known = QUANTITIES.get(plain)
    if known is None:
        return Quantity(clean_text(name), False, "")
    label = language.text(known.label)
    if plain != measure:
        label = language.text("{label}, after partial pooling", label=label)
    if fact:
        sensitive = f"family={fact}"
        about = group_name(sensitive, language=language) if sensitive in GROUPS else clean_text(fact)
        label = language.text("{label}: {about}", label=label, about=about)
    return Quantity(label, known.percent, language.text(known.worse), known.digits)


def estimate_value(estimate: Estimate, *, language: Language) -> str:
    """Write the point value."""
    measured = quantity(estimate.name, language=language)
    if measured.percent:
        return language.percent(estimate.value, 1)
    return language.number(estimate.value, measured.digits)


def estimate_interval(estimate: Estimate, *, language: Language) -> str:
    """Write the interval."""
    measured = quantity(estimate.name, language=language)
    digits = 1 if measured.percent else measured.digits
    return language.interval(estimate.low, estimate.high, digits=digits, percent=measured.percent)


def count(number: float | None, *, language: Language) -> str:
    """Write a count of patients; under 5 it is not told."""
    if number is None or number < 5:
        return "<\u00a05"
    return language.text("{number}", number=round(number))


def patients(estimate: Estimate, *, language: Language) -> str:
    """Write the patients behind an estimate, training first."""
    return " / ".join(count(number, language=language) for number in estimate.n) or NOTHING


def reason(item: Message, *, language: Language) -> str:
    """Say why a verdict is what it is; an unknown code is shown with its parameters."""
    if item.code in REASONS:
        parameters = dict(item.parameters)
        if isinstance(group := parameters.get("group"), str):
            parameters["group"] = group_name(group, language=language)
        return language.text(REASONS[item.code], **parameters)
    listed = ", ".join(f"{key} = {value}" for key, value in sorted(item.parameters.items()))
    return clean_text(f"{item.code} ({listed})" if listed else item.code)


def named(table: dict[str, str], code: str, *, language: Language) -> str:
    """Look a code up in a table of sentences; an unknown code is shown as it is."""
    return language.text(table[code]) if code in table else clean_text(code)


def method_name(method: str, *, language: Language) -> str:
    """Say how an interval was made; the codes that carry figures are patterns."""
    for pattern, sentence in _LONG_METHODS.items():
        if found := re.fullmatch(pattern, method):
            short = named(METHODS, found.groupdict().get("method", ""), language=language)
            return language.text(sentence, **{**found.groupdict(), "method": short})
    return named(METHODS, method, language=language)


def material(finding: Finding, *, language: Language) -> str:
    """Write the smallest effect that matters, in the unit of the estimate that is judged."""
    measure = finding.test.partition("@")[0].rpartition(".")[2]
    judged = finding.estimates[0].name if finding.estimates else measure
    if quantity(judged, language=language).percent:
        return language.percent(finding.material)
    return language.number(finding.material)


def p_value(value: float | None, *, language: Language) -> str:
    """Write a p-value; nothing is printed as exactly zero."""
    if value is not None and value < 0.001:
        return "<\u00a0" + language.number(0.001, 3)
    return language.number(value, 3)

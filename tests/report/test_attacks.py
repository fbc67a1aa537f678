import math
import re
from dataclasses import replace

import pytest
from rich.console import Console
from tests.report import samples, suite_samples

from primum.evidence.audit import Audit
from primum.evidence.finding import Scalar
from primum.report import advice, answers, sentences
from primum.report.answers import visible
from primum.report.attacks import Attack, attacks
from primum.report.html import exposure
from primum.report.language import Language
from primum.report.show import summary_table

FRENCH, ENGLISH = Language("fr"), Language("en")
FAMILIES = {
    "Continuing a record",
    "Guessing sensitive diagnoses",
    "Reading the model's inner summaries",
    "Changing who the patient is",
    "What the attacker must know",
    "Drawing out whole passages",
    "Recognising training patients",
}


@pytest.fixture(scope="module")
def leaking() -> Audit:
    return suite_samples.leaking_suite()


@pytest.fixture(scope="module")
def cards(leaking: Audit) -> dict[str, Attack]:
    return {attack.title: attack for attack in attacks(leaking, language=ENGLISH)}


def test_every_family_has_a_card_and_harmful_ones_come_first(cards: dict[str, Attack]) -> None:
    assert set(cards) == FAMILIES
    harmful = [attack.finding.harmful for attack in cards.values()]
    assert harmful == sorted(harmful, reverse=True)
    assert cards["Recognising training patients"].finding.verdict == "none_found"
    assert {family for family in cards if not cards[family].worse} == set()


def test_a_card_says_who_attacks_with_what_and_what_comes_out(cards: dict[str, Attack]) -> None:
    card = cards["Drawing out whole passages"]
    assert card.attacker.startswith("The attacker knows some events of a patient")
    assert "at least 5 events, and 100 tries" in card.means
    assert card.asked == "250 training patients, 250 patients never seen"
    assert [gain.sentence for gain in card.gains] == [
        "A passage comes out word for word within 100 tries for 13.0% of the training patients and 1.0% of "
        "the patients never seen: a difference of 12.0% (10.8% to 13.2%)."
    ]
    assert card.worse == "Higher is worse; 0 means no difference."
    assert cards["Recognising training patients"].attacker.endswith("and has a reference model.")
    assert not any("–" in text for one in cards.values() for text in (one.means, one.asked))
    assert not any("–" in gain.sentence for one in cards.values() for gain in one.gains)


def test_a_card_says_how_near_the_model_and_at_what_price(cards: dict[str, Attack]) -> None:
    assert cards["Drawing out whole passages"].access.startswith("Black box: text in, text out")
    assert cards["Drawing out whole passages"].cost == "100 queries a passage."
    assert cards["Reading the model's inner summaries"].access.startswith("Inner vectors")
    assert cards["Changing who the patient is"].cost.endswith("at most 9 for each of the four facts.")
    assert cards["Recognising training patients"].cost.endswith("the time to train on them.")
    assert all(one.access and one.cost and "–" not in one.cost for one in cards.values())
    calibrated = replace(suite_samples.tested("knowledge.depth", "leak", 0.3), settings={"calibrated": True})
    (card,) = attacks(samples.audit(calibrated), language=ENGLISH)
    assert card.cost.endswith("the time to train on them.")
    untested = attacks(suite_samples.clean_suite(), language=ENGLISH)
    silent = {one.title for one in untested if not one.access and not one.cost}
    assert silent == {"Reading the model's inner summaries"}


def test_depth_is_not_theft_and_k_star_is_told(cards: dict[str, Attack]) -> None:
    card = cards["What the attacker must know"]
    once, hundred, ten_thousand, depth = card.knowledge
    assert once.startswith("Asked once: no number of events shown suffices")
    assert hundred == "Asked 100 times: 5 known events suffice (41.2 bits of information)."
    assert ten_thousand == "Asked 10,000 times: nothing need be known."
    assert "someone who already knows the answer" in depth
    assert [gain.finding.test for gain in card.gains] == ["knowledge.depth", "knowledge.cost"]


def test_static_facts_that_suffice_are_told(leaking: Audit) -> None:
    found = [
        replace(one, settings={**one.settings, "k_star_1": 0}) if one.test == "knowledge.depth" else one
        for one in leaking.findings
    ]
    cards = attacks(replace(leaking, findings=tuple(found)), language=ENGLISH)
    (card,) = [one for one in cards if one.title == "What the attacker must know"]
    assert card.knowledge[0].startswith("Asked once: the static facts suffice")


def test_what_did_not_run_says_why() -> None:
    (card,) = [one for one in attacks(suite_samples.clean_suite(), language=ENGLISH) if not one.means]
    assert card.title == "Reading the model's inner summaries"
    assert card.attacker == sentences.ATTACKERS["embedding"]
    assert [gain.sentence for gain in card.gains] == [
        "The model does not offer what this test needs (Embedder)."
    ]
    assert card.asked == ""


def test_a_secondary_leak_gives_the_badge_and_the_primary_test_is_still_told() -> None:
    audit = suite_samples.only("perturbation.age")
    first, *_ = attacks(audit, language=ENGLISH)
    assert first.finding.test == "perturbation.age"
    assert [gain.finding.test for gain in first.gains] == ["perturbation.age", "perturbation.combined"]


@pytest.mark.parametrize(
    ("leaks", "headline", "said"),
    [
        (("extraction.passages", "sensitive.inferred"), "Parts of training", "as well: Guessing sensitive"),
        (("trajectory.verbatim",), "Parts of training", "Ten codes in a row"),
        (("knowledge.cost",), "Parts of training", "Asked 100 times by someone"),
        (
            ("sensitive.inferred", "embedding.probe"),
            "Sensitive diagnoses of training",
            "0.20 on the AUC scale",
        ),
        (("perturbation.combined",), "Training patients can be recognised", "in 70 of 100"),
        (("knowledge.depth",), "Training patients can be recognised", "in 70 of 100"),
        (("trajectory.likelihood",), "Training patients can be recognised", "in 70 of 100"),
    ],
)
def test_the_headline_says_what_leaked_the_worst_first(
    leaks: tuple[str, ...], headline: str, said: str
) -> None:
    audit = suite_samples.only(*leaks)
    told = answers.answer(audit, language=ENGLISH)
    assert told.tone == "harm"
    assert told.headline.startswith(headline)
    assert said in " ".join(told.sentences)
    # Recognition by the scores was not found: it must not open the page.
    assert "AUC 0.51" not in told.sentences[0]
    assert told.headline != answers.answer(audit, language=FRENCH).headline


def test_many_leaks_are_listed_in_one_sentence(leaking: Audit) -> None:
    told = answers.answer(leaking, language=FRENCH)
    assert told.headline.startswith("Des parties de dossiers")
    (listed,) = [one for one in told.sentences if one.startswith("Ces attaques ont aussi")]
    assert listed.count(" · ") == 4
    assert "Deviner les diagnostics sensibles" in listed
    assert "Continuer un dossier" not in listed
    assert len(told.sentences) == 2
    assert answers.people(leaking) is None
    assert answers.people(suite_samples.clean_suite()) is not None


def test_one_confounded_attack_does_not_void_the_others() -> None:
    audit = suite_samples.only("extraction.passages", confounded=("perturbation.combined",))
    assert answers.tone_of(audit) == "harm"
    undecided = suite_samples.only(confounded=("perturbation.combined",))
    assert answers.tone_of(undecided) == "unknown"
    told = " ".join(answers.answer(undecided, language=ENGLISH).sentences)
    assert "could not tell: Continuing a record · Changing who the patient is." in told
    assert "found nothing: Recognising training patients · Guessing" in told
    assert "too few to find a leak" not in told
    void = [
        replace(one, verdict="confounded") if one.test == "membership.combined.auc" else one
        for one in audit.findings
    ]
    assert answers.tone_of(replace(audit, findings=tuple(void))) == "confounded"


def test_what_was_not_found_is_short() -> None:
    audit = suite_samples.clean_suite()
    lines = advice.not_found(audit, language=ENGLISH)
    whole = " ".join(lines)
    assert "Passages that can be drawn out: none found. If there is an effect, it lies below 1.3%" in whole
    assert "Continuing a record: codes recovered: could be anywhere in −0.2% to 2.2%." in whole
    assert "Beside these, too few patients to tell: Continuing a record: word for word." in lines
    assert sum("Changing the" in line for line in lines) == 1
    assert any("--sampled" in step for step in advice.next_steps(audit, language=ENGLISH))
    everyone = replace(audit, patients={"members": 250, "held_out": 250})
    assert not any("--sampled" in step for step in advice.next_steps(everyone, language=ENGLISH))


def test_a_group_is_recognised_by_recognition_alone(leaking: Audit) -> None:
    groups = {group.name: group for group in exposure(leaking, language=ENGLISH)}
    assert set(groups) == {"Women", "People with a very rare code"}
    assert groups["Women"].auc is not None
    assert math.isclose(groups["Women"].auc.value, 0.498)


def test_quantities_of_groups_and_facts_are_named() -> None:
    pooled = sentences.quantity("share_difference_pooled", language=ENGLISH)
    assert pooled.label == "More than for patients never seen, after partial pooling"
    assert pooled.percent
    fact = sentences.quantity("auroc_difference:hiv", language=ENGLISH)
    assert fact.label == "Guessed better than for patients never seen (AUC): HIV codes"
    strange = sentences.quantity("auroc_difference:\x1b[31m", language=ENGLISH)
    assert "\x1b" not in strange.label


def test_settings_from_a_file_cannot_break_a_sentence(leaking: Audit) -> None:
    wicked: dict[str, Scalar] = {
        "template": "x",
        "language": "y",
        "difference": "z",
        "self": 1,
        samples.HOSTILE: samples.HOSTILE,
    }
    found = [replace(one, settings={**one.settings, **wicked}) for one in leaking.findings]
    audit = replace(leaking, findings=tuple(found))
    assert [one.means for one in attacks(audit, language=ENGLISH)]
    assert "a difference of 12.0%" in attacks(audit, language=ENGLISH)[0].gains[0].sentence


@pytest.mark.parametrize("language", [ENGLISH, FRENCH], ids=["en", "fr"])
def test_the_terminal_tells_one_group_of_each_attack(leaking: Audit, language: Language) -> None:
    console = Console(width=80, force_terminal=True, color_system="truecolor")
    with console.capture() as capture:
        console.print(summary_table(leaking, language, width=80))
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capture.get()).splitlines()
    assert max(map(len, lines)) <= 80
    start = "most exposed group" if language.code == "en" else "groupe le plus exposé"
    grouped = {one.test.partition("@")[0] for one in leaking.findings if "_pooled" in str(one.estimates)}
    assert sum(line.startswith(f"  {start}") for line in lines) == len(grouped) == 5
    assert len(lines) < 90


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("auc", "AUC 0.06. What matters starts at AUC 0.02"),
        ("share_difference", "a difference of 6.0%. What matters starts at a difference of 2.0%"),
        ("auroc_difference", "a difference of 0.06 on the AUC scale"),
    ],
)
def test_the_smallest_effect_is_said_in_the_unit_of_the_test(name: str, said: str) -> None:
    judged = samples.finding("trajectory.codes", "none_found", samples.estimate(name, 0.0, -0.01, 0.01))
    asked = replace(judged, material=0.02, settings={"smallest_detectable": 0.06})
    assert said in " ".join(visible(asked, language=Language("en")))
    assert not list(visible(replace(asked, settings={}), language=Language("en")))

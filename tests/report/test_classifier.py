"""The report of a classifier says what is a classifier's: shadows, drawings, stored rows, image-level."""

from dataclasses import replace

import pytest
from tests.report import samples, suite_samples

from primum.evidence.audit import Audit
from primum.evidence.finding import Finding
from primum.report.advice import next_steps
from primum.report.answers import answer
from primum.report.attacks import Attack, attacks
from primum.report.html import render
from primum.report.language import Language

ENGLISH, FRENCH = Language("en"), Language("fr")


@pytest.fixture(scope="module")
def cards() -> dict[str, Attack]:
    told = attacks(suite_samples.leaking_classifier(), language=ENGLISH)
    return {one.finding.test.partition(".")[0]: one for one in told}


def test_what_each_attacker_has_pays_and_gets(cards: dict[str, Attack]) -> None:
    assert cards.keys() == {"membership", "attribute", "inversion", "structure", "bias"}
    recognise = cards["membership"]
    assert "has trained models of the same kind" in recognise.attacker
    assert recognise.access == "Black box with the probability of each class."
    assert "33 queries" in recognise.cost and "8 shadow models" in recognise.cost
    assert "10 people of one class" in cards["inversion"].gains[0].sentence
    assert "in the model's files" in cards["structure"].gains[0].sentence
    # Which attribute, by name.
    assert "(hiv)" in cards["attribute"].gains[0].sentence
    assert cards["bias"].means == ""


def test_the_worst_leads_and_what_to_do_fits_a_classifier() -> None:
    audit = suite_samples.leaking_classifier()
    assert answer(audit, language=ENGLISH).headline.startswith("Parts of training patients' records")
    steps = " ".join(next_steps(audit, language=ENGLISH))
    assert "The model's own files hold rows" in steps
    assert "--reference," not in steps and "shadow models" not in steps  # RMIA had some
    assert "--references 32" in " ".join(next_steps(without_shadows(), language=ENGLISH))


def without_shadows() -> Audit:
    audit = suite_samples.leaking_classifier()

    def plain(one: Finding) -> Finding:
        return replace(one, settings={**one.settings, "score": "mean of normal scores"})

    return replace(audit, findings=tuple(map(plain, audit.findings)))


@pytest.mark.parametrize(("language", "word"), [(ENGLISH, "mage-level"), (FRENCH, "u niveau de l’image")])
def test_image_level_is_said_at_the_top_and_in_the_answer(language: Language, word: str) -> None:
    audit = suite_samples.leaking_classifier()
    page = render(audit, samples.RUN, language=language)
    masthead, _, rest = page.partition("</header>")
    assert word in masthead and rest.count(word) >= 2
    assert word in " ".join(answer(audit, language=language).sentences)
    assert word not in render(suite_samples.leaking_suite(), samples.RUN, language=language)

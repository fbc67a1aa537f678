"""The report beyond privacy: the plain answer first, then figures, plots with their tables, what to do."""

import re
from functools import cache
from typing import TextIO

import pytest
from matplotlib.backends.backend_svg import FigureCanvasSVG
from tests.report import beyond_samples, samples
from tests.report.test_html import Page

from primum.evidence.audit import Audit
from primum.evidence.observed import OBSERVED
from primum.report.beyond import beyond, steps_of, whole_answer
from primum.report.html import render
from primum.report.language import Code, Language
from primum.report.observed_plots import DRAWN
from primum.report.show import summary_table

ENGLISH, FRENCH = Language("en"), Language("fr")
# A dash where a number or a name belongs is a field that nobody filled.
UNFILLED = re.compile(r"[{}]|(?<!\d)–(?!\d)")
NAMES = tuple(beyond_samples.ALL)


@cache
def audit(name: str) -> Audit:
    return beyond_samples.ALL[name]()


@cache
def text(name: str, code: Code) -> str:
    return render(audit(name), samples.RUN, language=Language(code))


@pytest.mark.parametrize(
    ("name", "tone", "headline"),
    [
        ("harmful", "harm", "This model can be fooled"),
        ("harmless", "clear", "No leak of training patients was found."),
        ("no privacy", "harm", "This model can be fooled"),
        ("leaking too", "harm", "Training patients can be recognised from this model."),
    ],
)
def test_the_worst_leads_and_a_leak_before_all(name: str, tone: str, headline: str) -> None:
    said = whole_answer(audit(name), language=ENGLISH)
    assert said.tone == tone
    assert said.headline.startswith(headline)
    shown = text(name, "en")
    assert headline in shown[shown.index("<h1") : shown.index("</h1>")]
    private = any(sentence.startswith("Privacy:") for sentence in said.sentences)
    assert private == (name == "harmful")
    # Recognised people are pictured only where recognition is what the headline is about.
    assert ('class="people"' in shown) == (name in ("harmless", "leaking too"))


def test_each_family_answers_plainly_and_says_what_to_do_about_harm() -> None:
    for name in NAMES:
        parts = beyond(audit(name), language=ENGLISH)
        assert {part.family for part in parts} == set(OBSERVED)
        for part in parts:
            assert part.finding.harmful == (name != "harmless")
            assert bool(part.advice) == (name != "harmless")
            assert all(told.sentence and not UNFILLED.search(told.sentence) for told in part.told)
            assert f'<section id="{part.family}"' in text(name, "en")
            assert set(part.advice) <= set(steps_of(audit(name), language=ENGLISH))


def test_the_figures_of_a_sentence_are_those_of_its_finding() -> None:
    evasion = next(one for one in audit("harmful").findings if one.test == "robustness.evasion")
    turned = next(one for one in evasion.estimates if one.name == "turned_by_attack")
    assert turned.value > 0.3
    assert f"at most 4 parts in 255 of its range turns {turned.value:.1%} of" in text("harmful", "en")


def test_it_says_who_could_do_it_and_how_it_was_measured() -> None:
    for name in NAMES:
        for part in beyond(audit(name), language=ENGLISH):
            assert [title for title, _ in part.facts] == [
                "The attacker",
                "What is needed",
                "Access to the model",
                "What it costs",
            ]
            assert not any(UNFILLED.search(said) for _, said in part.facts)
    settings = {part.family: dict(part.settings) for part in beyond(audit("harmful"), language=ENGLISH)}
    assert settings["equity"]["Group that is judged"] == "Women"


def test_every_plot_has_its_data_table_and_each_is_drawn_once() -> None:
    page = text("harmful", "en")
    names = {series.name for finding in audit("harmful").findings for series in finding.series}
    assert {"robustness_strength", "robustness_corruption", "label_certainty"} < names & DRAWN.keys()
    assert {f"equity_{kind}_sex" for kind in ("calibration", "decision")} < names & DRAWN.keys()
    for name in names & DRAWN.keys():
        assert page.count(f'id="{name}-title"') == 1
        figure = page[page.index(f'id="{name}-title"') :]
        assert figure.index("<details>") < figure.index("</figure>")
    assert page.count("<svg") == page.count('role="img"')
    assert len(Page(page).ids) == len(set(Page(page).ids))


def test_a_page_draws_each_plot_once_and_a_terminal_none(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = 0

    def counted(_: FigureCanvasSVG, place: TextIO, **__: object) -> None:
        nonlocal drawn
        drawn += 1
        place.write('<svg xmlns="http://www.w3.org/2000/svg"></svg>')

    monkeypatch.setattr(FigureCanvasSVG, "print_svg", counted)
    summary_table(audit("harmful"), ENGLISH, width=120)
    assert drawn == 0
    shown = render(audit("harmful"), samples.RUN, language=ENGLISH).count('role="img"')
    assert drawn == shown > 10


@pytest.mark.parametrize("name", NAMES)
def test_both_languages_say_all_of_it(name: str) -> None:
    french = Page(text(name, "fr")).text
    assert not re.search(r"\b(never|worse|training|the model|right answers)\b", _uncited(french))
    for code in ("fr", "en"):
        assert not re.search(r"anonym|\bsafe\b|complian|\bconforme", Page(text(name, code)).text, re.I)
    assert FRENCH.text("Whom it serves worse") in french


def _uncited(page: str) -> str:
    return "\n".join(line for line in page.split("\n") if not re.search(r"(19|20)\d\d[.;]", line))


def test_groups_are_named_as_people_are() -> None:
    page = Page(text("harmful", "en")).text
    assert "Women" in page
    assert "sex=F" not in page.replace("equity.sensitivity@sex=F", "").replace("@sex=F", "")


def test_the_terminal_says_the_same() -> None:
    from rich.console import Console

    console = Console(width=120)
    with console.capture() as capture:
        console.print(summary_table(audit("harmful"), ENGLISH, width=120))
    assert "This model can be fooled" in capture.get()
    assert "Whom it serves worse" in capture.get()

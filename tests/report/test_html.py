import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from rich.console import Console
from tests.report import samples
from tests.report.messages import french

from primum.evidence.audit import Audit
from primum.evidence.finding import Finding, Message
from primum.report import sentences
from primum.report.answers import answer, tone_of
from primum.report.html import exposure, render
from primum.report.language import Code, Language
from primum.report.show import summary_table

FRENCH, ENGLISH = Language("fr"), Language("en")
_VOID = {"meta", "br", "link", "img", "hr", "input"}
_HIDDEN = "\x1b\u202e\u2066\u200f"


class Page(HTMLParser):
    """Reads a page, and fails on a tag that is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            self.attributes.append((name, value or ""))
            if name == "id":
                self.ids.append(value or "")
            if name in {"aria-labelledby", "headers"}:
                self.targets += (value or "").split()
            if name.endswith("href"):
                self.targets.append((value or "").removeprefix("#"))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style" and data.strip():
            self.words.append(" ".join(data.split(" ")).strip())

    @property
    def text(self) -> str:
        return "\n".join(self.words)


@pytest.fixture(scope="module")
def pages() -> dict[tuple[str, Code], str]:
    codes: tuple[Code, ...] = ("fr", "en")
    return {
        (name, code): render(make(), samples.RUN, language=Language(code))
        for name, make in samples.ALL.items()
        for code in codes
    }


def test_pages_are_sound_and_self_contained(pages: dict[tuple[str, Code], str]) -> None:
    for (_, code), text in pages.items():
        page = Page(text)
        assert f'<html lang="{code}">' in text
        assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in text
        assert not {"script", "iframe", "object", "embed", "form", "link", "img", "base"} & set(page.tags)
        assert [name for name, _ in page.attributes if name.startswith("on") or name == "src"] == []
        assert len(page.ids) == len(set(page.ids))
        assert set(page.targets) <= set(page.ids)
        assert re.findall(r"url\((?!#)|@import|http-equiv=\"refresh", text) == []
        headings = [int(tag[1]) for tag in page.tags if re.fullmatch("h[1-6]", tag)]
        assert headings[0] == 1
        assert headings.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(headings))
        assert page.tags.count("table") == page.tags.count("caption")
        assert {"header", "main", "footer", "section"} <= set(page.tags)


def test_every_plot_has_its_data_table_and_its_words(pages: dict[tuple[str, Code], str]) -> None:
    for (name, code), text in pages.items():
        audit = samples.ALL[name]()
        drawn = [series for finding in audit.findings for series in finding.series]
        for series in drawn:
            figure = text[text.index(f'id="{series.name}-title"') :]
            assert figure.index("<details>") < figure.index("</figure>")
        assert text.count("<svg") == text.count('role="img"')
        assert text.count('<table class="numbers">') == len(drawn)
        if drawn and code == "fr":
            assert "Les valeurs de ce graphique" in text


def test_same_findings_same_bytes(pages: dict[tuple[str, Code], str]) -> None:
    assert render(samples.with_canaries(), samples.RUN, language=FRENCH) == pages["canaries", "fr"]


def test_hostile_text_stays_text(pages: dict[tuple[str, Code], str]) -> None:
    for code in ("fr", "en"):
        text = pages["hostile", code]
        page = Page(text)
        assert not set(_HIDDEN) & set(text)
        assert "<script" not in text.lower()
        assert page.tags.count("style") == 1
        assert "{{7*7}}" in page.text
        assert "[bold]x[/bold] $x_" in page.text
        assert "alert(1)" in page.text
        assert "evil" in page.text


def test_hostile_run_record_stays_text() -> None:
    run = {samples.HOSTILE: {samples.HOSTILE: samples.HOSTILE}, "date": samples.HOSTILE}
    text = render(samples.clean(), run, language=ENGLISH)
    assert "<script" not in text
    assert not set(_HIDDEN) & set(text)


def test_hostile_text_in_the_terminal() -> None:
    console = Console(width=200, force_terminal=True, color_system="truecolor", record=True)
    with console.capture() as capture:
        console.print(summary_table(samples.hostile(), ENGLISH))
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capture.get())
    assert not set(_HIDDEN) & set(shown)
    assert "[bold]x[/bold]" in shown.replace("\n", "")


@pytest.mark.parametrize("name", samples.ALL)
def test_terminal_says_the_answer_in_both_languages(name: str) -> None:
    shown = {}
    for language in (FRENCH, ENGLISH):
        console = Console(width=160)
        with console.capture() as capture:
            console.print(summary_table(samples.ALL[name](), language))
        shown[language.code] = capture.get()
        assert answer(samples.ALL[name](), language=language).headline in shown[language.code]
    assert shown["fr"] != shown["en"]


def test_no_english_is_left_in_french_pages(pages: dict[tuple[str, Code], str]) -> None:
    catalogue = french()
    telling = [e for e, (f, _) in catalogue.items() if e != f and len(e) > 12 and "{" not in e]
    for name in samples.ALL:
        page = Page(pages[name, "fr"])
        labels = {value for key, value in page.attributes if key in {"aria-label", "data-label"}}
        assert [sentence for sentence in telling if sentence in page.words or sentence in labels] == []
        assert not re.search(r"\b(patients? never|worse|training|the model)\b", _without_citations(page.text))
        assert not re.search(r"\d\.\d+\s?%|AUC \d\.\d", page.text)


def _without_citations(text: str) -> str:
    return "\n".join(line for line in text.split("\n") if not re.search(r"(19|20)\d\d[.;]", line))


def test_no_banned_word(pages: dict[tuple[str, Code], str]) -> None:
    for text in pages.values():
        assert not re.search(r"anonym|\bsafe\b|complian|\bconforme", Page(text).text, re.IGNORECASE)


@pytest.mark.parametrize(
    ("name", "tone", "opening", "said"),
    [
        ("leaking", "harm", "Training patients can be recognised", "about 213 of 300"),
        ("clean", "clear", "No leak of training patients was found", "AUC 0.55"),
        ("confounded", "confounded", "This audit proves nothing.", "in 81 of 100 pairs (78 to 84"),
        ("inconclusive", "unknown", "cannot tell", "at least 690 training and 552 held-out"),
    ],
)
def test_the_answer_comes_first(
    name: str, tone: str, opening: str, said: str, pages: dict[tuple[str, Code], str]
) -> None:
    assert tone_of(samples.ALL[name]()) == tone
    text = pages[name, "en"]
    assert opening in text[text.index("<h1") : text.index("</h1>")]
    assert said in " ".join(answer(samples.ALL[name](), language=ENGLISH).sentences)
    assert text.index("<h1") < text.index("<h2")


def test_the_leak_is_told_with_its_interval() -> None:
    english, said = (
        answer(samples.leaking(), language=language).sentences[0] for language in (ENGLISH, FRENCH)
    )
    assert "1 outsider in 100 recognises about 213 of 300 training patients (between 196 and 228)" in english
    assert "reconnaît environ 213 des 300 patients d’entraînement (entre 196 et 228)" in said
    assert "1,0\u202f% des personnes extérieures" in said


def test_the_most_exposed_come_first() -> None:
    groups = exposure(samples.leaking(), language=ENGLISH)
    assert [group.name for group in groups][:2] == ["People with a very rare code", "HIV codes"]
    assert groups[-1].name == "The oldest patients"
    values = [group.auc.value for group in groups if group.auc]
    assert values == sorted(values, reverse=True)


def test_small_counts_are_hidden(pages: dict[tuple[str, Code], str]) -> None:
    assert "42 / <\u00a05" in Page(pages["clean", "en"]).text
    planted = Page(pages["canaries", "en"])
    assert "<\u00a05" in planted.words
    assert sentences.count(5, language=ENGLISH) == "5"
    assert [sentences.count(n, language=ENGLISH) for n in (None, 0, 4.9)] == ["<\u00a05"] * 3


def _with(audit: Audit, finding: Finding) -> Audit:
    return replace(audit, findings=(*audit.findings, finding))


def test_one_harmful_subgroup_is_not_hidden_by_a_quiet_whole() -> None:
    group = samples.finding(
        "membership.combined.auc@family=hiv", "leak", samples.estimate("auc", 0.7, 0.6, 0.8)
    )
    said = answer(_with(samples.clean(), group), language=ENGLISH)
    assert said.tone == "harm"
    assert "HIV codes" in " ".join(said.sentences)


def test_a_confounded_audit_still_tells_the_harm_that_stands() -> None:
    planted = samples.finding("membership.canary", "leak", samples.estimate("auc", 0.9, 0.85, 0.95))
    said = answer(_with(samples.confounded(), planted), language=ENGLISH)
    assert said.headline == "This audit proves nothing."
    assert "Planted records: Leak. Recognition (AUC): 0.90 (0.85 to 0.95)." in said.sentences


def test_tainted_data_are_named_as_such() -> None:
    share = samples.estimate("near_duplicate_share", 0.08, 0.06, 0.1)
    tainted = samples.finding(
        "data.overlap", "tainted", share, reasons=(Message("overlap_found", {"share": 0.08}),), primary=True
    )
    clean = samples.clean()
    said = answer(replace(clean, findings=(tainted, *clean.findings[1:])), language=ENGLISH)
    assert said.tone == "harm"
    assert said.headline.startswith("The data are tainted")


def test_an_audit_without_anything_renders() -> None:
    empty = replace(samples.audit(), data={}, patients={}, context={})
    for language in (FRENCH, ENGLISH):
        assert "?" in render(empty, {}, language=language)


def test_long_methods_are_said(pages: dict[tuple[str, Code], str]) -> None:
    text = Page(pages["leaking", "fr"]).text
    assert "DeLong, échelle logit\u202f; 1180 patients sur 1300 dans 12 groupes" in text
    assert "Clopper-Pearson (binomiale exacte), unilatéral, sur des patients mis de côté" in text


def test_unknown_codes_are_shown_as_text() -> None:
    strange = samples.finding("future.test", "descriptive", samples.estimate("new_number", 1.5, 1.0, 2.0))
    strange = replace(strange, reasons=(Message("new_reason", {"b": 2, "a": None}), Message("overlap_found")))
    text = Page(render(_with(samples.clean(), strange), {}, language=ENGLISH)).text
    for shown in ("future.test", "new_number", "new_reason (a = None, b = 2)", "– of held-out patients"):
        assert shown in text


@pytest.mark.parametrize("tone", ["harm", "clear", "unknown", "confounded", "quiet"])
def test_colours_are_readable(tone: str, pages: dict[tuple[str, Code], str]) -> None:
    accent, tint = re.findall(rf"\.{tone} {{ --accent: (#\w+); --tint: (#\w+); }}", pages["clean", "en"])[0]
    assert _contrast(accent, tint) >= 4.5
    assert _contrast(accent, "#ffffff") >= 4.5
    assert _contrast("#55616d", tint) >= 4.5


def _contrast(one: str, two: str) -> float:
    def luminance(colour: str) -> float:
        shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [s / 12.92 if s <= 0.03928 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from rich.console import Console
from tests.report import samples, suite_samples
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
        for name, make in suite_samples.ALL.items()
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
        audit = suite_samples.ALL[name]()
        drawn = [series for finding in audit.findings for series in finding.series]
        grouped = {
            f.test.partition("@")[0] for f in audit.findings if f.subgroups and f.verdict == "descriptive"
        }
        for series in drawn:
            figure = text[text.index(f'id="{series.name}-title"') :]
            assert figure.index("<details>") < figure.index("</figure>")
        assert text.count("<svg") == text.count('role="img"')
        assert text.count('<table class="numbers">') == len(drawn) + len(grouped)
        if drawn and code == "fr":
            assert "Les valeurs de ce graphique" in text


def test_the_page_of_the_whole_suite_stays_readable(pages: dict[tuple[str, Code], str]) -> None:
    page = pages["leaking suite", "en"]
    assert len(page.encode()) < 1_500_000
    assert page.index('id="exposed"') < page.index('id="attacks"') < page.index('id="plots"')
    table = page[
        page.index('<table class="findings"') : page.index("</table>", page.index('class="findings"'))
    ]
    assert "knowledge.depth</code>" in table
    assert "@sex=F" in table
    assert "partial pooling" not in table
    assert page.count("by group of patients (4 groups)</summary>") == 5
    assert "<script" not in page
    assert "alert(1)" in page


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


def test_the_record_of_a_run_is_told_in_words(pages: dict[tuple[str, Code], str]) -> None:
    english, said = set(Page(pages["clean", "en"]).words), set(Page(pages["clean", "fr"]).words)
    assert {"Date", "Machine · Processors", "Seconds · statistics", "Versions · primum"} <= english
    assert {"Machine · Processeurs", "Secondes · statistiques", "Secondes · a later stage"} <= said
    assert "22 novembre 2026" in pages["clean", "fr"]


def test_hostile_run_record_stays_text() -> None:
    run = {samples.HOSTILE: {samples.HOSTILE: samples.HOSTILE}, "date": samples.HOSTILE, "{": 1}
    text = render(samples.clean(), run, language=ENGLISH)
    assert Page(text).text.count("{{7*7}} {0}") == 6
    assert "<script" not in text
    assert not set(_HIDDEN) & set(text)


def _terminal(audit: Audit, language: Language, width: int) -> str:
    console = Console(width=width, force_terminal=True, color_system="truecolor")
    with console.capture() as capture:
        console.print(summary_table(audit, language, width=width))
    return re.sub(r"\x1b\[[0-9;]*m", "", capture.get())


def test_hostile_text_in_the_terminal() -> None:
    shown = _terminal(samples.hostile(), ENGLISH, 300)
    assert not set(_HIDDEN) & set(shown)
    assert "[bold]x[/bold]" in shown.replace("\n", "")


@pytest.mark.parametrize("name", suite_samples.ALL)
def test_terminal_says_the_answer_in_both_languages(name: str) -> None:
    audit = suite_samples.ALL[name]()
    shown = {language.code: _terminal(audit, language, 160) for language in (FRENCH, ENGLISH)}
    for language in (FRENCH, ENGLISH):
        assert answer(audit, language=language).headline in shown[language.code]
    assert shown["fr"] != shown["en"]


@pytest.mark.parametrize("language", [ENGLISH, FRENCH], ids=["en", "fr"])
@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_the_terminal_table_keeps_each_figure_on_one_line(width: int, language: Language) -> None:
    audit = samples.leaking()
    lines = _terminal(audit, language, width).splitlines()
    assert max(map(len, lines)) <= width
    _, *figures = (line for line in lines if " [" in line)
    assert len(figures) == sum(bool(finding.estimates) for finding in audit.findings)
    assert f"AUC {language.number(0.957)} [{language.interval(0.945, 0.967)}]" in figures[1]
    assert any("42 / 126" in line for line in figures) == (width >= 100)


def test_rows_of_one_test_stand_together() -> None:
    silent = [
        samples.finding(f"membership.combined.auc@{group}", "inconclusive")
        for group in ("age=18-39", "site=B")
    ]
    leaky = samples.leaking()
    audit = replace(leaky, findings=(*silent, *leaky.findings))
    lines = [line.rstrip() for line in _terminal(audit, ENGLISH, 120).splitlines()]
    title = lines.index("Recognising training patients")
    below = [line.split("  ")[1] for line in lines[title + 1 :] if line.startswith("  ")]
    assert below[:3] == ["over all patients", "with few false accusations", "Women"]
    assert below[-1] == "Aged 18–39, Site B, The oldest patients"
    assert [line for line in lines if line.startswith("Plain likelihood attack, over all patients  ")]


def test_no_english_is_left_in_french_pages(pages: dict[tuple[str, Code], str]) -> None:
    catalogue = french()
    telling = [e for e, (f, _) in catalogue.items() if e != f and len(e) > 12 and "{" not in e]
    for name in suite_samples.ALL:
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
    assert "(between 196 and 228); pure chance alone would recognise about 3. Measured" in english
    assert "le pur hasard seul en reconnaîtrait environ 3. Mesuré" in said


def test_the_hundred_people_are_held_against_chance(pages: dict[tuple[str, Code], str]) -> None:
    # Both the title of the picture and its caption.
    assert pages["leaking", "en"].count("66 and 76; pure chance alone would recognise 1.") == 2
    assert pages["leaking", "fr"].count("66 et 76\u202f; le pur hasard seul en reconnaîtrait 1.") == 2
    leaky = samples.leaking()
    strict = tuple(replace(one, settings={"target_fpr": 0.001}) for one in leaky.findings)
    assert "reconnaîtrait 0,1." in render(replace(leaky, findings=strict), {}, language=FRENCH)


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


def test_an_audit_that_looked_for_no_leak_does_not_say_that_there_is_none() -> None:
    said = answer(samples.audit(samples.overlap()), language=ENGLISH)
    assert said.headline == "This audit cannot tell whether the model leaks."


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

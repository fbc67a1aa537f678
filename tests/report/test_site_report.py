import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.report import site_samples
from tests.report.test_html import Page

from primum.errors import InputError, clean_text
from primum.report.language import Code, Language
from primum.report.site_report import page_of, render_sites

CODES: tuple[Code, ...] = ("en", "fr")


@pytest.fixture(scope="module")
def pages() -> dict[tuple[str, Code], str]:
    return {
        (name, code): render_sites(json.loads(json.dumps(make())), language=Language(code))
        for name, make in site_samples.ALL.items()
        for code in CODES
    }


def cells(page: str) -> list[list[str]]:
    """Rows of the table of sites, without their tags."""
    table = page[page.index('<table class="sites">') : page.index("</table>")]
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    return [
        [html.unescape(" ".join(re.sub("<[^>]+>", " ", one).split())) for one in re.split(r"</t[hd]>", row)]
        for row in rows
    ]


def test_pages_are_sound_and_say_every_site(pages: dict[tuple[str, Code], str]) -> None:
    for (name, code), text in pages.items():
        page = Page(text)
        assert f'<html lang="{code}">' in text and "default-src 'none'" in text
        assert not {"script", "iframe", "img", "link", "form"} & set(page.tags)
        assert re.findall(r"url\((?!#)|@import", text) == []
        assert len(page.ids) == len(set(page.ids)) and set(page.targets) <= set(page.ids)
        sites = [clean_text(one["site"]) for one in site_samples.ALL[name]()["sites"]]
        named = [row[0] for row in cells(text)[1:]]
        assert [one.removesuffix(" look").removesuffix(" à examiner") for one in named] == sites
        assert "–" not in {row[0] for row in zip(*cells(text), strict=True)}


def test_what_was_measured_is_in_the_table(pages: dict[tuple[str, Code], str]) -> None:
    rows, told = cells(pages["two", "en"]), site_samples.two()["sites"][1]
    assert rows[0][:6] == ["Site", "Patients", "Records", "Part of the way", "Agreement", "Served (AUC)"]
    assert rows[2][:7] == ["St Mary's", "360", "30%", "42%", "0.80", "0.78 0.73 to 0.82", "11% 5% to 16%"]
    assert told["served"]["auc"] == 0.78
    assert cells(pages["two", "fr"])[2][5] == "0,78 0,73 à 0,82"
    assert len(cells(pages["coordinated", "en"])[0]) == 5, "no patients, nobody served"


def test_histories_have_no_classes(pages: dict[tuple[str, Code], str]) -> None:
    rows = cells(pages["histories", "en"])
    assert rows[0][5] == "Events foretold" and rows[1][5] == "−3.20 −3.50 to −2.90"
    assert "was not tested" in pages["histories", "en"] and 'id="drift"' not in pages["histories", "en"]


def test_the_headline_says_the_worst_first(pages: dict[tuple[str, Code], str]) -> None:
    said = {name: re.findall(r"<h1.*?<span>(.*?)</span>", pages[name, "en"])[0] for name in site_samples.ALL}
    assert said["fifteen"] == "3 of 15 sites stand apart from the others: look at them"
    assert said["two"] == "The model does not seem to serve all sites equally well"
    assert said["coordinated"].endswith("whether it serves them alike is not known")
    assert "this may be chance" in pages["fifteen", "en"] and "this is hardly chance" in pages["two", "en"]
    assert "no patient: how well the model serves a site" in pages["coordinated", "en"]


def test_who_is_accused_and_why_nobody_is(pages: dict[tuple[str, Code], str]) -> None:
    assert (
        "site-13: its updates are longer than those of others; it stood apart in 17 of 20"
        in pages["fifteen", "en"]
    )
    assert pages["fifteen", "en"].count('class="badge harm"') == 3
    assert "fewer than five sites or because sites masked" in pages["two", "en"]
    honest = site_samples.fifteen()
    for one in honest["sites"]:
        one["accused"] = None
    assert "and this is none" in render_sites(honest, language=Language("en"))
    for one in honest["sites"]:
        one["accused"] = False
    assert "No site is accused" in render_sites(honest, language=Language("en"))


def test_small_numbers_are_not_told(pages: dict[tuple[str, Code], str]) -> None:
    assert {row[1] for row in cells(pages["masked", "en"])[1:]} == {"< 5"}
    table = pages["fifteen", "en"].split('aria-label="Which classes each site holds"')[1].split("</table>")[0]
    rows = re.findall(r"<tr><td>(.*?)</td></tr>", table)
    assert [row.split("</td><td>")[1:] for row in rows[-2:]] == [["not told", "not told", "–", "–"]] * 2
    assert "<svg" not in pages["masked", "en"], "no empty plots"


def test_names_from_outside_do_no_harm(pages: dict[tuple[str, Code], str]) -> None:
    for code in CODES:
        text = pages["hostile", code]
        assert "<script>alert" not in text and "\u202e" not in text and text.count("</style>") == 1
        assert "&lt;script&gt;alert(1)&lt;/script&gt;{x}$" in text


def test_many_sites_and_classes_stay_readable() -> None:
    told: dict[str, Any] = site_samples.fifteen()
    told["sites"] = [one | {"site": f"{place}-{one['site']}"} for place in range(4) for one in told["sites"]]
    told["fairness"]["worst"] = told["sites"][0]["site"]
    told["classes"] = [f"class {place}" for place in range(8)]
    for one in told["sites"]:
        one["class_shares"], one["accused"] = [0.125] * 8, False
    text = render_sites(told, language=Language("en"))
    assert "Drawn are 40 sites of 60" in text and "other classes" in text
    assert len(text.encode()) < 1_500_000


def test_the_page_is_made_again_or_refused(tmp_path: Path, pages: dict[tuple[str, Code], str]) -> None:
    place = tmp_path / "sites.json"
    place.write_text(json.dumps(site_samples.two()), encoding="utf-8")
    assert page_of(tmp_path, language=Language("fr")) == pages["two", "fr"]
    for wrong in ("", "[]", '{"sites": []}', '{"sites": [1], "rounds": 3}', "{"):
        place.write_text(wrong, encoding="utf-8")
        with pytest.raises(InputError, match=r"no sites\.json"):
            page_of(tmp_path, language=Language("en"))

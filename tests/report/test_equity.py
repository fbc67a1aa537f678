import re
from collections.abc import Iterator
from xml.etree import ElementTree

import numpy as np
import pytest
from tests.evidence.equity_worlds import findings_of, world

from primum.audits.equity.observe import observe_equity
from primum.evidence.equity import RULES
from primum.evidence.finding import Finding, Series
from primum.report import equity_plots, equity_words, sentences
from primum.report.language import Language
from primum.report.literature import CITATIONS

ENGLISH = Language("en")


@pytest.fixture(scope="module")
def findings() -> dict[str, Finding]:
    given, labels, patient, attributes = world(3000, seed=1, gap=0.1)
    attributes["ethnicity"] = np.repeat(["<b>x</b>", "$y_"], 1500)
    attributes["skin_type"] = np.array(["I", "II", "III", "IV"])[np.arange(3000) % 4]
    labels[2950:] = 0
    attributes["site"] = np.where(np.arange(3000) >= 2950, "healthy", attributes["site"])
    neutral = np.random.default_rng(0).standard_normal((3000, 2))
    return findings_of(
        observe_equity(given, labels, patient, attributes, classes=("no", "yes"), neutral=neutral)
    )


def series_of(findings: dict[str, Finding], part: str) -> Iterator[Series]:
    return (one for found in findings.values() for one in found.series if part in one.name)


def test_every_code_has_its_words(findings: dict[str, Finding]) -> None:
    assert set(equity_words.TESTS) == set(RULES) == {*equity_words.ADVICE}
    for finding in findings.values():
        for estimate in finding.estimates:
            assert estimate.name.partition(":")[0] in equity_words.QUANTITIES
            assert estimate.method in {*equity_words.METHODS, *sentences.METHODS}
        codes = {reason.code for reason in finding.reasons}
        assert codes <= {*equity_words.REASONS, *sentences.REASONS}
        assert set(finding.references) <= {*equity_words.LITERATURE, *CITATIONS}
        assert {one.name for one in finding.series} <= set(equity_words.PLOTS)
        assert all(
            column.partition(":")[0] in equity_words.COLUMNS
            for one in finding.series
            for column in one.columns
        )
    told = {reason.code for finding in findings.values() for reason in finding.reasons}
    assert told >= {"clearest_gap", "gap_among_alike", "group_needs_ill", "too_few_in_group"}


def test_corrected_intervals_have_their_words(findings: dict[str, Finding]) -> None:
    judged = {one.estimates[0].name for one in findings.values() if one.p_value is not None}
    assert {f"{name}_corrected" for name in judged} <= set(equity_words.QUANTITIES)


def check(svg: str, *words: str) -> None:
    root = ElementTree.fromstring(svg)
    assert root.attrib["role"] == "img" and "<script" not in svg and "<b>" not in svg
    text = " ".join(root.itertext())
    for word in words:
        assert word in text, word


def test_forest_names_groups_and_marks_harm(findings: dict[str, Finding]) -> None:
    shown = [one for test, one in findings.items() if test.startswith("equity.sensitivity@")]
    svg = equity_plots.forest(shown, material=0.03, language=ENGLISH)
    check(svg, "Women: 7", "others 8", "Site A", "it matters from here on", "among similar patients")
    assert svg == equity_plots.forest(shown, material=0.03, language=ENGLISH)
    without = equity_plots.forest([], material=0.03, language=ENGLISH)
    check(without, "no difference")


def test_panels_for_each_group(findings: dict[str, Finding]) -> None:
    for part, draw in (("calibration", equity_plots.calibration), ("decision", equity_plots.decision)):
        series = {one.name: one for one in series_of(findings, part)}
        names = ("sex", "age", "ethnicity", "skin_type", "site", "device")
        assert set(series) == {f"equity_{part}_{name}" for name in names}
        for name, words in (("sex", ("Women", "Men")), ("ethnicity", ("<b>x</b>", "$y_"))):
            check(draw(series[f"equity_{part}_{name}"], language=ENGLISH), *words)


def test_nothing_is_drawn_outside_the_axes(findings: dict[str, Finding]) -> None:
    """Pictures have no clipping: the line of treating everybody falls far below zero."""
    (series,) = (one for one in series_of(findings, "decision") if one.name.endswith("sex"))
    svg = equity_plots.decision(series, language=ENGLISH)
    root = ElementTree.fromstring(svg)
    height = float(root.attrib["viewBox"].split()[3])
    lowest = max(
        float(y) for path in root.iter("{http://www.w3.org/2000/svg}path")
        for y in re.findall(r"[ML] [-\d.]+ ([-\d.]+)", path.attrib["d"])
    )  # fmt: skip
    assert lowest <= height


def test_groups_of_two_attributes() -> None:
    assert equity_plots.group_name("sex=F&age=80+", language=ENGLISH) == "Women, Aged 80+"

import re
from dataclasses import replace

import pytest
from tests.report import suite_samples

from primum.evidence.finding import Series
from primum.evidence.rules import RULES_OF
from primum.report import plots
from primum.report.figures import Plot, figures, grouped
from primum.report.language import Language

RULES = RULES_OF["sequence"]

FRENCH, ENGLISH = Language("fr"), Language("en")
WORDS = plots.Words("How deep the memory goes", "For comparison.", "number of tries", "Difference")


@pytest.fixture(scope="module")
def drawn() -> dict[str, Plot]:
    return {plot.name: plot for plot in figures(suite_samples.leaking_suite(), language=ENGLISH)}


def _texts(svg: str) -> list[str]:
    return re.findall(r">([^<>]+)</text>", svg)


def test_every_series_of_the_suite_is_drawn_with_its_table(drawn: dict[str, Plot]) -> None:
    names = {series.name for found in suite_samples.SERIES.values() for series in found}
    assert names < set(drawn)
    titles = [drawn[name].title for name in names]
    assert len(set(titles)) == len(titles)
    for name in names:
        plot = drawn[name]
        assert plot.svg.count("<svg") == 1
        assert plot.note.endswith(".")
        assert plot.rows
        assert {len(row) for row in plot.rows} == {len(plot.headings)}


def test_the_ladder_of_knowledge_names_its_places(drawn: dict[str, Plot]) -> None:
    cost = drawn["extraction_cost_100"]
    assert "100 times" in cost.title
    assert [row[0] for row in cost.rows] == ["nothing", "0", "1", "2", "3", "4", "5", "10", "20", "50"]
    assert cost.headings[:3] == (
        "events known before the secret (0: static facts)",
        "Mean of training patients",
        "Mean of patients never seen",
    )
    assert cost.rows[2][1:4] == ("24.0%", "4.0%", "20.0%")
    # Too few patients at 20 events: nothing is told of them.
    assert cost.rows[-2] == ("20", *["–"] * 5, "<\u00a05", "<\u00a05")
    shown = _texts(cost.svg)
    assert {"nothing", "0", "1", "2", "3", "5", "10", "50"} <= set(shown)
    assert "20" not in shown
    assert drawn["knowledge_depth"].rows[0][:2] == ("nothing", "−6.00")


def test_a_step_of_minus_one_is_no_lack_of_knowledge(drawn: dict[str, Plot]) -> None:
    places = ["−4", "−3", "−2", "−1", "true", "1", "2", "3", "4"]
    assert [row[0] for row in drawn["perturbation_age"].rows] == places
    assert {*places} - {"3"} <= set(_texts(drawn["perturbation_age"].svg))


def test_queries_are_as_far_apart_as_powers_of_ten(drawn: dict[str, Plot]) -> None:
    svg = drawn["extraction"].svg
    line = max(re.findall(r'd="(M [\d.]+ [\d.]+ *(?:L [\d.]+ [\d.]+ *)+)"', svg), key=lambda d: d.count("L"))
    at = [float(x) for x in re.findall(r"[ML] ([\d.]+) ", line.replace("\n", " "))]
    assert [round((x - at[0]) / (at[-1] - at[0]), 2) for x in at] == [0, 0.25, 0.5, 1]
    assert "10,000" in _texts(svg)


def test_labels_do_not_touch() -> None:
    x = tuple(float(n) for n in (-1, 0, 1, 2, 5, 10, *range(20, 51)))
    many = suite_samples.curve("extraction_cost_1", x, gap=0.1, slope=0.0)
    words = replace(WORDS, logarithmic=True, percent=True)
    numbers = [text for text in _texts(plots.curves(many, words=words, language=ENGLISH)) if text.isdigit()]
    assert numbers[:6] == ["0", "1", "2", "5", "10", "20"]
    assert len(numbers) < 12


def test_shares_stay_between_nothing_and_everything() -> None:
    zeros = {name: (0.0, 0.0) for name in ("members_mean", "held_out_mean", "difference", "difference_low")}
    columns = {"x": (1.0, 10.0), **zeros, "difference_high": (0.4, 0.4)}
    svg = plots.curves(Series("extraction", columns), words=replace(WORDS, percent=True), language=FRENCH)
    ticks = [text for text in _texts(svg) if "%" in text]
    assert ticks[0] == "0\u202f%"
    assert not any("−" in tick for tick in ticks)


def test_a_curve_of_which_nothing_may_be_told_is_empty() -> None:
    names = ("members_mean", "held_out_mean", "difference", "difference_low", "difference_high")
    hidden = Series("knowledge_depth", {"x": (0.0, 1.0), **{name: (None, None) for name in names}})
    for words in (WORDS, replace(WORDS, percent=True, logarithmic=True)):
        assert "<svg" in plots.curves(hidden, words=words, language=ENGLISH)


def test_forests_show_pooled_groups_and_everyone(drawn: dict[str, Plot]) -> None:
    forests = {name: plot for name, plot in drawn.items() if name in RULES}
    assert set(forests) == set(grouped(suite_samples.leaking_suite()))
    assert len(forests) == 5
    passages, depth = forests["extraction.passages"], forests["knowledge.depth"]
    assert passages.title == "Who is most exposed: Passages that can be drawn out"
    values = [float(row[1].rstrip("%")) for row in passages.rows]
    assert values == sorted(values, reverse=True)
    # The group's name comes from data.
    assert "<script" not in passages.svg
    assert passages.rows[1] == ("People with a very rare code", "14.0%", "13.0% to 15.0%", "16.0%", "40 / 90")
    assert "All patients" in _texts(passages.svg)
    assert any(text.endswith("%") for text in _texts(passages.svg))
    assert "recognition (AUC): further right is worse" in _texts(depth.svg)


def test_a_series_of_a_later_version_is_skipped() -> None:
    audit = suite_samples.clean_suite()
    strange = replace(audit.findings[-1], series=(Series("future", {"x": (1.0,)}),))
    assert len(figures(replace(audit, findings=(strange,)), language=ENGLISH)) == 0

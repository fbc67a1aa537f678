"""Every code of the robustness family has its words, and every series its drawing."""

import ast
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from studies.robustness_power import FRAME, corrupted, drawn, everything

import primum
from primum.evidence.finding import Series
from primum.evidence.robustness import RULES, robustness_claims
from primum.evidence.robustness_answers import CORRUPTIONS
from primum.report import robustness_words as words
from primum.report.language import Language
from primum.report.robustness_plots import DRAWN
from primum.report.sentences import METHODS, REASONS

SOURCE = Path(primum.__file__).parent


def findings() -> list[tuple[str, list[str], list[str], tuple[Series, ...]]]:
    """Name of the test, of its estimates and of their methods, and its series, of one whole family."""
    given = drawn(np.random.default_rng(0), everything(0.3, 0.1) | corrupted(0.1))
    given.columns["patch:row"] = given.columns["patch:column"] = np.full(150, 12.0)  # type: ignore[index]
    given.columns["certified:class"] = given.columns["clean:class"]  # type: ignore[index]
    given.columns["certified:radius"] = np.linspace(0, 0.1, 150)  # type: ignore[index]
    claims, described = robustness_claims(given, FRAME)
    return [
        (one.test, [e.name for e in one.estimates], [e.method for e in one.estimates], one.series)
        for one in [*(claim.draft for claim in claims), *described]
    ]


def test_every_test_estimate_and_method_has_its_words() -> None:
    told = findings()
    assert {test.partition("@")[0] for test, *_ in told} == set(RULES)
    assert set(words.TESTS) == set(RULES)
    assert {rule.attacker for rule in RULES.values()} == set(words.ATTACKERS)
    for _, names, methods, _ in told:
        assert set(names) <= set(words.QUANTITIES)
        assert set(methods) <= {*words.METHODS, *METHODS}
    assert set(words.CORRUPTION_NAMES) == set(CORRUPTIONS)
    cited = {key for rule in RULES.values() for key in rule.references}
    assert cited == set(words.LITERATURE)


def test_every_reason_that_the_code_gives_has_its_sentence() -> None:
    given = set()
    for file in (
        *(SOURCE / "audits" / "robustness").glob("*.py"),
        *(SOURCE / "evidence").glob("robustness*.py"),
    ):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Message":
                assert isinstance(node.args[0], ast.Constant)
                given.add(node.args[0].value)
    assert given <= {*words.REASONS, *REASONS}
    assert "gradient_masked" in given


@pytest.mark.parametrize("code", ["en", "fr"])
def test_every_series_is_drawn_and_its_columns_have_headings(code: str) -> None:
    series = [one for *_, each in findings() for one in each]
    patch = Series("robustness_patch", {"row": (0.0, 1.0), "column": (0.0, 0.0), "value": (0.0, 1.0)})
    drawings = {one.name: (one, DRAWN[one.name](one, language=Language(code))) for one in [*series, patch]}  # type: ignore[arg-type]
    assert set(drawings) == set(DRAWN) == set(words.PLOTS)
    for one, svg in drawings.values():
        assert set(one.columns) <= set(words.COLUMNS)
        root = ElementTree.fromstring(svg)
        assert root[0].tag.endswith("title") and root[0].text
        assert "<image" not in svg

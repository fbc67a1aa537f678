"""``--positive`` and ``--threshold``: which class equity is about, and from where on it is called."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.cli.conftest import Place, Refused

import primum
from primum.cli.main import run
from primum.errors import InputError
from primum.evidence.documents import read_audit
from primum.evidence.finding import Finding
from primum.report.html import render
from primum.report.language import Language

Refuse = Callable[..., Refused]
CLASSES = ("healthy", "mild", "severe")
PATIENTS = 240


def kept_answers(root: Path, classes: tuple[str, ...]) -> Place:
    """Write a table of patients and what a model answered of each: it calls fewer of the women ill."""
    rng, place = np.random.default_rng(0), Place(root)
    label, women = rng.integers(0, len(classes), PATIENTS), rng.random(PATIENTS) < 0.5
    logits = 2.0 * np.eye(len(classes))[label] + rng.standard_normal((PATIENTS, len(classes)))
    logits[women, -1] -= 1.5
    answers = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    place.records.mkdir(parents=True)
    place.model.mkdir()
    pl.DataFrame(
        {
            "subject_id": np.arange(PATIENTS) + 1,
            "split": np.where(np.arange(PATIENTS) < 40, "train", "held_out"),
            "label": np.array(classes)[label],
            "sex": np.where(women, "F", "M"),
            "sodium": rng.standard_normal(PATIENTS),
        }
    ).write_csv(place.records / "cases.csv")
    (place.records / "classes.txt").write_text("\n".join(classes), encoding="utf-8")
    (place.records / "schema.toml").write_text('[sodium]\nkind = "number"\n', encoding="utf-8")
    columns = {name: answers[:, column] for column, name in enumerate(classes)}
    pl.DataFrame({"case_id": np.arange(PATIENTS), **columns}).write_csv(place.model / "predictions.csv")
    return place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return kept_answers(tmp_path / "given", CLASSES)


def equity(place: Place, **given: Any) -> Finding:
    """Audit, and return the primary finding of equity."""
    audit = primum.audit_classifier(place.model, place.records, tests=("equity",), **given)
    return next(one for one in audit.findings if one.test == "equity.sensitivity")


def test_the_class_and_the_threshold_are_those_that_were_typed(place: Place) -> None:
    assert place.audit("--only", "equity", "--positive", "severe", "--threshold", "0.2") in (0, 1, 3)
    audit, run_facts = read_audit(place.out)
    finding = next(one for one in audit.findings if one.test == "equity.sensitivity")
    assert finding == equity(place, positive="severe", threshold=0.2)
    assert (finding.settings["classes_judged"], finding.settings["threshold"]) == ("severe", 0.2)
    found = {one.name: one.value for one in finding.estimates}
    likeliest = {one.name: one.value for one in equity(place, positive="severe").estimates}
    assert found["sensitivity_rest"] > likeliest["sensitivity_rest"] + 0.05
    page = re.sub(r"<[^>]*>", " ", render(audit, run_facts, language=Language("fr")))
    assert re.search(r"Classe à trouver\s+severe", page)
    assert "--positive severe --threshold 0.2" in page


def test_of_more_than_two_classes_each_is_judged_and_of_two_the_second(place: Place, tmp_path: Path) -> None:
    assert equity(place).settings["classes_judged"] == "healthy, mild, severe"
    two = equity(kept_answers(tmp_path / "two", ("healthy", "ill"))).settings
    assert (two["classes_judged"], two["threshold"]) == ("ill", "argmax")
    assert equity(kept_answers(tmp_path / "first", ("ill", "healthy")), positive="ill").settings[
        "classes_judged"
    ] == ("ill")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--positive", "deadly"], ("deadly", "is none of the model's", "healthy, mild, severe")),
        (["--positive", "severe", "--threshold", "1"], ("between 0 and 1, both excluded", "it is 1")),
        (["--positive", "severe", "--threshold", "0"], ("between 0 and 1, both excluded", "it is 0")),
        (["--positive", "severe", "--threshold", "nan"], ("between 0 and 1, both excluded",)),
        (["--threshold", "0.2"], ("among 3 classes needs the class to find", "--positive")),
    ],
)
def test_what_cannot_be_meant_is_said_before_any_case_is_asked(
    refused: Refuse, options: list[str], words: tuple[str, ...]
) -> None:
    said = refused(*options)
    assert said.status == 2
    for word in words:
        assert word in said.sentence


def test_python_refuses_the_same(place: Place) -> None:
    with pytest.raises(InputError, match="is none of the model's"):
        equity(place, positive="deadly")


@pytest.mark.parametrize("options", [("--positive", "yes"), ("--threshold", "0")])
def test_a_score_matrix_is_of_no_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, str]
) -> None:
    np.savez(tmp_path / "score_matrix.npz", scores=np.eye(4), inside=np.eye(4, dtype=bool))
    assert run(["audit", str(tmp_path), "--lang", "en", *options]) == 2
    assert f"{options[0]} is not for this kind of model" in capsys.readouterr().err

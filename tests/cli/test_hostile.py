"""Codes, sites, folders and models whose names attack whatever prints them, through every output."""

import json
import os
import shutil
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from tests import tiny
from tests.cli.conftest import Place
from tests.hostile import HOSTILE, hostile_histories

from primum.cli.main import run

FOLDER = "x<script>alert(1)<\u202e\x1b[31m[bold]$x_"
FIRST_MEMBER, FIRST_HELD_OUT = 90071992547, 90071999000


class Tags(HTMLParser):
    """Every tag and attribute that a browser would see."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def dangerous(text: str) -> set[str]:
    """Characters that steer a terminal or reorder text."""
    return {
        letter for letter in text if unicodedata.category(letter).startswith("C") and letter not in "\n\t"
    }


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("hostile") / FOLDER)
    place.root.mkdir()
    members = hostile_histories(60, first_subject_id=FIRST_MEMBER)
    held_out = hostile_histories(90, first_subject_id=FIRST_HELD_OUT).select(np.arange(60, 90))
    folder = tiny.records_folder(place.records, {"train": members, "held_out": held_out})
    train = folder.split("train")
    tiny.model_folder(place.model, tiny.tokenizer_of(train), train)
    hostile_name = place.model.with_name("model\u2066<img src=x onerror=alert(1)>[bold]")
    place.model.rename(hostile_name)
    return place


def arguments(place: Place, *more: str) -> list[str]:
    (model,) = place.root.glob("model*")
    return ["audit", str(model), "--records", str(place.records), *more]


@pytest.mark.parametrize("lang", ["en", "fr"])
def test_every_output_is_unharmed(attacked: Place, lang: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = attacked.root / f"report-{lang}"
    assert run(arguments(attacked, "--out", str(out), "--lang", lang)) in (0, 1, 3)
    audited = capsys.readouterr()
    again = attacked.root / f"{lang}.html"
    assert run(["report", "show", str(out), "--lang", lang, "--html", str(again)]) == 0
    shown = capsys.readouterr()
    for text in (audited.out, audited.err, shown.out, shown.err):
        assert dangerous(text) == set()
    assert "Traceback" not in audited.err
    for page in (out / "report.html", again):
        text = page.read_text(encoding="utf-8")
        assert dangerous(text) == set()
        found = Tags(text)
        assert not {"script", "img", "iframe", "object", "embed", "form"} & found.tags
        assert not {name for name in found.attributes if name.startswith("on")}
        assert "<script" not in text.lower()
        assert "Content-Security-Policy" in text
    for file in ("findings.json", "run.json"):
        raw = (out / file).read_bytes()
        assert not [byte for byte in raw if byte < 0x20]
        json.loads(raw)


def test_hostile_sites_are_shown_as_they_are(attacked: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Markup of the terminal is neither obeyed nor lost."""
    assert run(arguments(attacked, "--out", str(attacked.root / "shown"), "--lang", "en")) in (0, 1, 3)
    capsys.readouterr()
    findings = json.loads((attacked.root / "shown" / "findings.json").read_bytes())["findings"]
    sites = {one["test"].partition("@site=")[2] for one in findings} - {""}
    assert "[bold]shouting[/bold]" in sites
    page = (attacked.root / "shown" / "report.html").read_text(encoding="utf-8")
    assert "[bold]shouting[/bold]" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert sites <= set(HOSTILE)


def test_json_on_a_terminal_is_escaped(attacked: Place, capsys: pytest.CaptureFixture[str]) -> None:
    out = attacked.root / "escaped"
    assert run(arguments(attacked, "--out", str(out), "--json", "--lang", "en")) in (0, 1, 3)
    said = capsys.readouterr().out
    assert dangerous(said) == set()
    assert json.loads(said) == json.loads((out / "findings.json").read_bytes())


@pytest.mark.parametrize("lang", ["en", "fr"])
def test_sentences_about_hostile_names_are_clean(
    attacked: Place, lang: str, capsys: pytest.CaptureFixture[str]
) -> None:
    somewhere = str(attacked.root / "nowhere")
    full = str(attacked.root)
    for wrong in (
        ["audit", somewhere, "--records", str(attacked.records)],
        arguments(attacked, "--reference", somewhere),
        arguments(attacked, "--held-out", somewhere),
        arguments(attacked, "--only", "\x1b[31m\u202e[bold]"),
        arguments(attacked, "--recipe", "\x1b[31m\u202e:x"),
        arguments(attacked, "--out", full),
        ["report", "show", somewhere],
    ):
        assert run([*wrong, "--lang", lang]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
        assert dangerous(said.err) == set()


def test_a_folder_name_that_is_no_text(
    pristine: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Path(os.fsdecode(os.fsencode(tmp_path) + b"/m\xff\xfe"))
    shutil.copytree(pristine.model, model)
    out = tmp_path / "report"
    assert (
        run(["audit", str(model), "--records", str(pristine.records), "--out", str(out), "--lang", "en"]) == 3
    )
    assert dangerous(capsys.readouterr().out) == set()
    assert json.loads((out / "findings.json").read_bytes())["model"]["name"] == "m??"
    (out / "report.html").read_text(encoding="utf-8")

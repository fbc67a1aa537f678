import json
import shlex
import stat
from pathlib import Path
from typing import Any

import pytest
from tests.workflows.conftest import Demonstration

from primum.cli.main import run


def findings(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "findings.json").read_bytes())
    return document


def finding(folder: Path, test: str) -> dict[str, Any]:
    return next(one for one in findings(folder)["findings"] if one["test"] == test)


def test_leaves_both_reports_and_nothing_half_done(demonstration: Demonstration) -> None:
    assert demonstration.status == 0
    assert [entry.name for entry in demonstration.folder.iterdir()] == ["primum-demo"]
    made = demonstration.folder / "primum-demo"
    assert {entry.name for entry in made.iterdir()} == {"leaky", "models", "protected", "records"}
    for name in ("leaky", "protected"):
        files = {entry.name for entry in (made / name).iterdir()}
        assert files == {"confidential", "findings.json", "report.html", "run.json"}
        assert (made / name / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
        assert f"primum-demo/{name}/report.html" in demonstration.stdout


def test_patient_scores_are_for_their_owner_only(demonstration: Demonstration) -> None:
    for name in ("leaky", "protected"):
        confidential = demonstration.folder / "primum-demo" / name / "confidential"
        assert stat.S_IMODE(confidential.stat().st_mode) == 0o700
        assert {stat.S_IMODE(file.stat().st_mode) for file in confidential.iterdir()} == {0o600}


def test_tells_the_leaky_model_from_the_protected_one(demonstration: Demonstration) -> None:
    made = demonstration.folder / "primum-demo"
    leaky, protected = (finding(made / name, "membership.combined.auc") for name in ("leaky", "protected"))
    assert (leaky["verdict"], leaky["harmful"], leaky["settings"]["score"]) == ("leak", True, "ratio")
    assert leaky["estimates"][0]["value"] > 0.75
    assert not any(one["harmful"] for one in findings(made / "protected")["findings"])
    assert protected["estimates"][0]["value"] < leaky["estimates"][0]["value"]
    for name in ("leaky", "protected"):
        document = findings(made / name)
        assert document["patients"] == {"members": 60, "held_out": 320}
        assert document["findings"][0]["test"] == "data.overlap"
        assert document["context"]["held_out_loss"] > 0


def test_says_what_each_model_gives_away_and_what_protection_costs(demonstration: Demonstration) -> None:
    said = demonstration.stdout
    for words in ("Leaky model", "Protected model", "Leak", "epsilon 8.00", "fixed seed", "price"):
        assert words in said
    assert "leaky model" in demonstration.stderr
    assert "Traceback" not in demonstration.stderr


@pytest.mark.parametrize("name", ["leaky", "protected"])
def test_the_command_in_the_report_reproduces_the_findings(
    demonstration: Demonstration,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = demonstration.folder / "primum-demo" / name
    command = findings(made)["command"]
    assert command in (made / "report.html").read_text(encoding="utf-8")
    program, *arguments = shlex.split(command)
    assert program == "primum"
    monkeypatch.chdir(demonstration.folder)
    again = demonstration.folder / f"again-{name}"
    assert run([*arguments, "--out", str(again)]) == (1 if name == "leaky" else 3)
    capsys.readouterr()
    assert (again / "findings.json").read_bytes() == (made / "findings.json").read_bytes()


def test_does_not_write_over_anything(
    demonstration: Demonstration, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(demonstration.folder)
    assert run(["demo", "--size", "small", "--lang", "en"]) == 2
    assert capsys.readouterr().err == "primum-demo is not empty: give a new or empty folder with --out.\n"

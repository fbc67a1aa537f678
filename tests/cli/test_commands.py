import json
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.cli.conftest import FIRST_ID, Place

from primum.cli.main import run
from primum.records.meds import MedsFolder

SHAREABLE = ("findings.json", "report.html", "run.json")


@pytest.fixture(scope="module")
def audited(pristine: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """One audit that several tests look at."""
    place = Place(tmp_path_factory.mktemp("audited"))
    for name in ("model", "records"):
        (place.root / name).symlink_to(getattr(pristine, name), target_is_directory=True)
    assert place.audit() == 3
    return place


def document(place: Place) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((place.out / "findings.json").read_bytes())
    return content


def codes_of_one_patient(place: Place) -> list[str]:
    frame = pl.concat(
        [pl.read_parquet(file) for file in MedsFolder(place.records).files if "data" in file.parts]
    )
    held = frame.group_by("code").agg(pl.col("subject_id").n_unique())
    return held.filter(pl.col("subject_id") == 1)["code"].to_list()


def test_shareable_files_hold_no_id_and_no_code_of_one_patient(audited: Place) -> None:
    rare = codes_of_one_patient(audited)
    assert any("ONLYMINE" in code for code in rare)
    assert len(rare) > 20
    ids = [str(FIRST_ID + number) for number in range(70)]
    for name in SHAREABLE:
        text = (audited.out / name).read_text(encoding="utf-8")
        assert not [one for one in [*ids, *rare, "ONLYMINE"] if one in text], name


def test_confidential_files_are_for_their_owner_only_and_hold_no_id(audited: Place) -> None:
    confidential = audited.out / "confidential"
    assert stat.S_IMODE(confidential.stat().st_mode) == 0o700
    assert {file.name for file in confidential.iterdir()} == {
        "scores.parquet", "curves.parquet", "passages.parquet", "measurements.json",
    }  # fmt: skip
    for file in confidential.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    scores = pl.read_parquet(confidential / "scores.parquet")
    assert len(scores) == 70
    whole = scores.select(pl.selectors.integer())
    assert int(whole.max_horizontal().max() or 0) < 1000  # type: ignore[arg-type]


def test_files_of_an_audit(audited: Place) -> None:
    assert {entry.name for entry in audited.out.iterdir()} == {*SHAREABLE, "confidential"}
    assert document(audited)["patients"] == {"members": 30, "held_out": 40}
    page = (audited.out / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", page)


def test_the_same_seed_gives_the_same_findings(audited: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert audited.audit("--out", str(audited.root / "again")) == 3
    capsys.readouterr()
    again = audited.root / "again"
    assert (again / "findings.json").read_bytes() == (audited.out / "findings.json").read_bytes()
    assert "--out" not in document(audited)["command"]


def test_the_command_of_the_report_is_the_one_that_was_typed(audited: Place) -> None:
    program, *arguments = shlex.split(document(audited)["command"])
    assert program == "primum"
    assert [*arguments[:4], "--out", str(audited.out)] == audited.arguments()[:4] + audited.arguments()[-2:]


def test_without_out_the_report_has_a_name_of_its_own(
    pristine: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["audit", str(pristine.model), "--records", str(pristine.records), "--only", "data"]
    assert run([*arguments, "--lang", "fr"]) in (0, 3)
    (made,) = tmp_path.iterdir()
    digest = json.loads((made / "findings.json").read_bytes())["model"]["digest"]
    assert re.fullmatch(rf"primum-\d{{8}}-{digest[:8]}", made.name)
    assert f"Rapport : {made.name}/report.html" in capsys.readouterr().out.replace("\u00a0", " ")
    assert '<html lang="fr">' in (made / "report.html").read_text(encoding="utf-8")


def test_json_on_stdout_is_the_file(audited: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert audited.audit("--out", str(audited.root / "json"), "--json") == 3
    said = json.loads(capsys.readouterr().out)
    assert said["command"].endswith("--json")
    assert said | {"command": ""} == document(audited) | {"command": ""}


def test_only_some_tests(audited: Place, capsys: pytest.CaptureFixture[str]) -> None:
    out = audited.root / "only"
    assert audited.audit("--out", str(out), "--only", "membership.loss,membership.combined.auc@sex") == 3
    capsys.readouterr()
    tests = [one["test"] for one in json.loads((out / "findings.json").read_bytes())["findings"]]
    assert tests[:2] == ["data.overlap", "membership.combined.auc"]
    assert set(tests[2:]) == {
        "membership.combined.auc@sex=F",
        "membership.combined.auc@sex=M",
        "membership.loss.auc",
        "membership.loss.tpr",
    }


@pytest.mark.parametrize(("lang", "words"), [("en", "Recognising"), ("fr", "Reconnaître")])
def test_a_report_shown_again(
    audited: Place, lang: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    page = audited.root / f"{lang}.html"
    assert run(["report", "show", str(audited.out), "--lang", lang, "--html", str(page)]) == 0
    said = capsys.readouterr()
    assert words in said.out
    assert said.err == ""
    assert f'<html lang="{lang}">' in page.read_text(encoding="utf-8")
    if lang == "en":
        assert page.read_bytes() == (audited.out / "report.html").read_bytes()


def test_a_report_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "show", str(tmp_path), "--lang", "en"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1


VERBS = (["audit"], ["demo"], ["report", "show"])


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*verb, "--help"]) == 0
    assert f"Example: primum {' '.join(verb)}" in capsys.readouterr().out
    assert run([*verb, "--lang", "fr", "--help"]) == 0
    assert f"Exemple : primum {' '.join(verb)}" in capsys.readouterr().out.replace("\u00a0", " ")


@pytest.mark.parametrize("verb", [[], ["report"], *VERBS])
def test_help_is_whole_in_both_languages(
    verb: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    said: dict[str, dict[str, str]] = {}
    for lang in ("en", "fr"):
        monkeypatch.setenv("LC_ALL", lang)
        assert run([*verb, "--help"]) == 0
        rows = re.findall(r"^│ +(?:\* +)?(\S+) +(.*?) *│$", capsys.readouterr().out, re.MULTILINE)
        said[lang] = dict(rows)
        for sentence in said[lang].values():
            assert re.search(r"\w{2} \w.*[.] *(\[\w+.*\])?$", sentence), sentence
    assert len(said["en"]) > 1
    assert said["en"].keys() == said["fr"].keys()
    assert not set(said["en"].values()) & set(said["fr"].values())


@pytest.mark.parametrize("verb", [[], *VERBS])
def test_help_loads_nothing_heavy(verb: list[str]) -> None:
    program = (
        "import sys\nfrom primum.cli.main import run\nassert run(sys.argv[1:]) == 0\n"
        "heavy = {'torch', 'scipy', 'sklearn', 'matplotlib', 'polars', 'pyarrow', 'numpy'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *verb, "--help"], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""
    assert "--help" in done.stdout


@pytest.mark.parametrize("arguments", [["audit"], ["audit", "model"], ["nothing"], ["demo", "--lang", "de"]])
def test_usage_errors(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "--help" in said.err


def test_errors_speak_the_language_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "nowhere", "--records", "nowhere", "--lang", "fr"]) == 2
    assert capsys.readouterr().err.startswith("nowhere n’est pas un dossier de modèle")


def test_french_speakers_are_answered_in_french(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LC_ALL", "fr_FR.UTF-8")
    assert run(["audit", "nowhere", "--records", "nowhere"]) == 2
    assert capsys.readouterr().err.startswith("nowhere n’est pas un dossier de modèle")


def test_the_installed_command() -> None:
    program = [sys.executable, "-c", "from primum.cli.main import main; main()"]
    done = subprocess.run(
        [*program, "audit", "nowhere", "--records", "nowhere"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)

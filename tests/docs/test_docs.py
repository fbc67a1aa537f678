"""The documentation, held against the code: what exists is documented, what is linked is there."""

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import get_args
from urllib.parse import unquote

import click
import numpy as np
import pytest
import typer.main
from tests.tiny import cohort, model_folder, records_folder, tokenizer_of

import primum
from primum import errors
from primum.cli import main
from primum.cli.verbs import app
from primum.evidence.contrast import FALSE_POSITIVE_RATE, FEWEST_PATIENTS, MATERIAL_AUC, MATERIAL_TPR
from primum.evidence.finding import Verdict
from primum.evidence.overlap import MATERIAL_OVERLAP
from primum.evidence.power import patients_needed_for_auc, patients_needed_for_tpr
from primum.evidence.rules import TESTS
from primum.records.histories import Histories
from primum.records.profile import TokenProfile
from primum.records.tokenizer import Tokenizer
from primum.records.vocabulary import Vocabulary
from primum.report.sentences import GROUPS, REASONS
from primum.workflows.demo import SMALL, DemoSettings

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "tests/**/*.md")
    for page in ROOT.glob(pattern)
)
MANUAL = {
    "audit": "audit.md",
    "demo": "demo.md",
    "inspect-updates": "inspect-updates.md",
    "release adopt": "release.md",
    "release advance": "release.md",
    "release approve": "release.md",
    "release certify": "release.md",
    "release check": "release.md",
    "release convert": "release.md",
    "release decide": "release.md",
    "release diff": "release.md",
    "release export-mlflow": "release.md",
    "release findings": "release.md",
    "release history": "release.md",
    "release import-mlflow": "release.md",
    "release init": "release.md",
    "release register": "release.md",
    "release reject": "release.md",
    "release revoke": "release.md",
    "release roll-back": "release.md",
    "release seal": "release.md",
    "release status": "release.md",
    "report check": "report.md",
    "report recompute": "report.md",
    "report show": "report.md",
    "report sites": "report.md",
    "trail check-export": "trail.md",
    "trail create": "trail.md",
    "trail expire": "trail.md",
    "trail export": "trail.md",
    "trail head": "trail.md",
    "trail send": "trail.md",
    "trail show": "trail.md",
    "trail status": "trail.md",
    "trail verify": "trail.md",
    "trail witness": "trail.md",
    "train adversarial": "train.md",
    "train federated coordinator": "federated-deployed.md",
    "train federated simulate": "federated.md",
    "train federated site": "federated-deployed.md",
    "train forget": "train.md",
    "train plain": "train.md",
    "train private": "train.md",
    "vault create": "vault.md",
    "vault forget": "vault.md",
    "vault get": "vault.md",
    "vault number": "vault.md",
    "vault purge": "vault.md",
    "vault put": "vault.md",
    "vault rotate": "vault.md",
    "vault status": "vault.md",
}


def text(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def verbs(command: click.Command, name: str = "") -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for part, inner in command.commands.items():
            yield from verbs(inner, f"{name} {part}".strip())
    else:
        yield name, command


VERBS = dict(verbs(typer.main.get_command(app)))


def test_every_verb_has_a_page() -> None:
    assert VERBS.keys() == MANUAL.keys()
    for verb, page in MANUAL.items():
        assert f"primum {verb}" in text(page)


@pytest.mark.parametrize("verb", VERBS)
def test_options_and_pages_agree(verb: str) -> None:
    page = text(MANUAL[verb]).rpartition(f"\n## `primum {verb}`\n")[2].partition("\n## `primum")[0]
    options = {name for one in VERBS[verb].params for name in one.opts if name.startswith("--")} | {"--help"}
    rows = set(re.findall(r"^\| `(--[a-z-]+)` \|", page, re.MULTILINE))
    assert rows == options
    for one in VERBS[verb].params:
        if isinstance(one.type, click.Choice):
            assert all(f"`{choice}`" in page for choice in one.type.choices), one.name


def test_every_exit_status_is_explained() -> None:
    raised = {
        kind.exit_status
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.PrimumError)
    }
    expected = {0, 1, 3, main._BUG, main._INTERRUPTED} | raised
    rows = re.findall(r"^\| (\d+) \|", text("audit.md").split("## Exit statuses")[1], re.MULTILINE)
    assert {int(row) for row in rows} == expected
    for page in (ROOT / "README.md", DOCS / "fr" / "LISEZMOI.md"):
        said = " ".join(re.findall(r"^\| ([\d, ]+) \|", page.read_text(encoding="utf-8"), re.MULTILINE))
        assert {int(number) for number in re.findall(r"\d+", said)} == expected


def test_tests_verdicts_and_reasons_are_explained() -> None:
    page = text("audit.md")
    assert [test for test in TESTS["sequence"] if f"`{test}`" not in page] == []
    assert [verdict for verdict in get_args(Verdict) if f"`{verdict}`" not in page] == []
    rows = re.findall(r"^\| (`[\w`, ]+`) \|", page.split("## Reasons")[1], re.MULTILINE)
    reasons = [code for row in rows for code in re.findall(r"\w+", row)]
    assert sorted(reasons) == sorted(REASONS)
    assert [group for group in GROUPS if f"`{group}`" not in page] == []
    assert [test for test in TESTS["classifier"] if f"`{test}`" not in text("audit-classifiers.md")] == []


def test_every_key_of_the_profile_is_explained() -> None:
    table = text("model-folder.md").split("key by key")[1].split("## ")[0]
    named = {key for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for key in row.split("`")[1::2]}
    assert named == {one.name for one in fields(TokenProfile)}


def test_the_example_model_folder_reads_as_it_says(tmp_path: Path) -> None:
    page = text("model-folder.md")
    for name, block in zip(
        ("vocab.json", "token_profile.json"), re.findall(r"```json\n(.*?)```", page, re.DOTALL), strict=True
    ):
        (tmp_path / name).write_text(json.dumps(json.loads(block)), encoding="utf-8")
    tokenizer = Tokenizer(
        Vocabulary.read(tmp_path / "vocab.json"), TokenProfile.read(tmp_path / "token_profile.json")
    )
    times = ["NaT", "1950-01-01", "2020-02-01", "2020-03-12"]
    woman = Histories(
        np.array([1]),
        np.array([0, 4]),
        ("GENDER//F", "MEDS_BIRTH", "DIAGNOSIS//ICD10CM//I10", "LAB//LOINC//2345-7"),
        np.arange(4),
        np.array(times, "datetime64[us]"),
        np.array([np.nan, np.nan, np.nan, 140.0]),
    )
    said = re.search(r"^    (BEGIN .*)$", page, re.MULTILINE)
    assert said is not None
    tokens = [tokenizer.vocabulary.tokens[one] for one in tokenizer.encode(woman).token_ids]
    assert tokens == said[1].split()


def test_figures_in_the_pages_are_those_of_the_code() -> None:
    assert (MATERIAL_AUC, MATERIAL_TPR, FALSE_POSITIVE_RATE, MATERIAL_OVERLAP) == (0.55, 0.02, 0.01, 0.05)
    assert "AUC .55; TPR .02 at FPR .01; 5 % of held-out" in text("statistics.md")
    needed = patients_needed_for_auc(MATERIAL_AUC), patients_needed_for_tpr(MATERIAL_TPR)
    for page in ("statistics.md", "quickstart.md"):
        assert all(f"{number:,}" in text(page) for number in needed), page
        assert f"fewer than {FEWEST_PATIENTS}" in text(page), page
    full = DemoSettings()
    demo = text("demo.md")
    for row in (
        f"| training patients, besides planted records | {full.members:,} | {SMALL.members:,} |",
        f"| patients for the reference model (`tuning`) | {full.tuning:,} | {SMALL.tuning:,} |",
        f"| held-out patients, besides twins of planted records | {full.held_out:,} | {SMALL.held_out:,} |",
        f"| Llama width, layers | {full.width}, {full.layers} | {SMALL.width}, {SMALL.layers} |",
        f"| leaky model: epochs, no protection | {full.leaky_epochs} | {SMALL.leaky_epochs} |",
        f"private steps of {full.private_batch} ({SMALL.private_batch}) patients on average | "
        f"at most {full.private_steps} | at most {SMALL.private_steps} |",
        f"adding or removing one patient | {full.epsilon:g} | {SMALL.epsilon:g} |",
    ):
        assert row in demo


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_and_images_are_there(page: Path) -> None:
    content = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", content):
        place, _, anchor = unquote(link).partition("#")
        if re.match(r"[a-z]+:", place):
            continue
        target = (page.parent / place).resolve() if place else page
        inside = target.is_relative_to(ROOT) and target.exists()
        if not inside or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_are_looked_at() -> None:
    assert anchors(DOCS / "audit.md") >= {"exit-statuses", "reading-the-report"}
    assert len(PAGES) > 12


def test_no_report_calls_a_model_anonymous_safe_or_compliant() -> None:
    report = Path(primum.__file__).parent / "report"
    banned = re.compile(r"anonym|\bsafe(ly|ty)?\b|complian|conforme|\bsûre?s?\b", re.IGNORECASE)
    # Titles of papers are their authors' words.
    written = [*report.rglob("*.html"), *report.rglob("*.po"), *report.rglob("*.py")]
    files = [path for path in written if path.name != "literature.py"]
    found = {path.name: banned.findall(path.read_text(encoding="utf-8")) for path in files}
    assert {name: words for name, words in found.items() if words} == {}
    assert len(files) > 8


def test_the_python_example_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 1
    folder = records_folder(tmp_path / "meds", cohort(train=24, held_out=24))
    train = folder.split("train")
    model_folder(tmp_path / "model", tokenizer_of(train), train)
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks[0], "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert "membership.combined.auc " in said
    assert re.search(r"exit status [013]\n", said)

"""``primum demo images`` and ``primum demo table``, in their small size."""

import io
import json
import shlex
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from primum.cli.main import run
from primum.report.language import Language
from primum.workflows.demo_cases import CaseDemoSettings, run_case_demo
from primum.workflows.demo_recipes import leaky_images, protected_images

BOTH = ("leaky", "protected")


def document(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "findings.json").read_bytes())
    return found


def harms(folder: Path) -> set[str]:
    return {one["verdict"] for one in document(folder)["findings"] if one["harmful"]}


def finding(folder: Path, test: str) -> dict[str, Any]:
    return next(one for one in document(folder)["findings"] if one["test"] == test)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("case-demonstrations")


@pytest.fixture(scope="module")
def table(place: Path) -> tuple[Path, str]:
    return demonstrated(place, "table", "en")


@pytest.fixture(scope="module")
def images(place: Path) -> tuple[Path, str]:
    return demonstrated(place, "images", "fr")


def demonstrated(place: Path, kind: str, lang: str) -> tuple[Path, str]:
    """Run the small size where `place` is the working directory; what it left, and what it said."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(io.StringIO()):
        patch.chdir(place)
        assert run(["demo", kind, "--size", "small", "--lang", lang, "--out", kind]) == 0
    return place / kind, out.getvalue()


def test_table_tells_the_leaky_model_from_the_protected_one(table: tuple[Path, str]) -> None:
    made, said = table
    assert {entry.name for entry in made.iterdir()} == {"leaky", "models", "protected", "records"}
    for name in BOTH:
        assert {entry.name for entry in (made / name).iterdir()} == {
            "confidential", "findings.json", "report.html", "run.json"
        }  # fmt: skip
        assert f"table/{name}/report.html" in said
        assert document(made / name)["patients"] == {"members": 100, "held_out": 320}
    for test in ("membership.combined.auc", "structure.stored"):
        assert finding(made / "leaky", test)["harmful"]
    assert finding(made / "leaky", "structure.stored")["estimates"][0]["value"] > 0.95
    # Protected from telling of its patients; nobody made it hard to fool.
    assert {one["verdict"] for one in document(made / "protected")["findings"] if one["harmful"]} <= {
        "fragile"
    }
    for name in BOTH:
        assert finding(made / name, "attribute.inferred")["verdict"] != "not_applicable"
        assert finding(made / name, "membership.lira.auc")["estimates"]
    for words in ("Leaky model", "Protected model", "Leak", "five most similar", "nothing is promised"):
        assert words in said


def test_images_tell_the_leaky_model_from_the_protected_one(images: tuple[Path, str]) -> None:
    made, said = images
    auc = [finding(made / name, "membership.combined.auc") for name in BOTH]
    assert auc[0]["verdict"] == "leak"
    assert auc[1]["estimates"][0]["high"] < auc[0]["estimates"][0]["low"]
    # Protected from telling of its patients; nobody made it hard to fool.
    assert {one["verdict"] for one in document(made / "protected")["findings"] if one["harmful"]} <= {
        "fragile"
    }
    context = [document(made / name)["context"] for name in BOTH]
    assert context[0]["training_balanced_accuracy"] > 0.95 > context[1]["training_balanced_accuracy"]
    assert 'lang="fr"' in (made / "leaky" / "report.html").read_text(encoding="utf-8")
    assert "images/leaky/report.html" in said
    # The command line takes no fewer: else the command in the report would be refused.
    asked = shlex.split(document(made / "leaky")["command"])
    assert int(asked[asked.index("--sampled") + 1]) >= 40


def test_the_command_in_the_report_reproduces_the_findings(
    table: tuple[Path, str], place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    known = document(table[0] / "protected")
    program, *arguments = shlex.split(known["command"])
    harmful = harms(table[0] / "protected")
    assert program == "primum"
    assert run([*arguments, "--out", "again"]) == (1 if harmful else 3)
    capsys.readouterr()
    again = (place / "again" / "findings.json").read_bytes()
    assert again == (table[0] / "protected" / "findings.json").read_bytes()


def medmnist(file: Path, *, shift: int) -> Path:
    """Write images without patients, whose test split is brighter by `shift`."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for name, count, more in (("train", 80, 0), ("val", 10, 0), ("test", 40, shift)):
        labels = rng.integers(2, size=(count, 1))
        images = rng.integers(100, size=(count, 12, 12)) + 60 * labels[..., None] + more
        arrays |= {f"{name}_images": images.astype(np.uint8), f"{name}_labels": labels.astype(np.uint8)}
    np.savez(file, **arrays)
    return file


def test_a_given_file_is_halved_and_its_own_test_split_proves_nothing(tmp_path: Path) -> None:
    file, folder = medmnist(tmp_path / "given.npz", shift=60), tmp_path / "out"
    folder.mkdir()
    outcome = run_case_demo(
        "images",
        folder,
        settings=CaseDemoSettings(0, 0, shadows=2, sampled=8),
        language=Language("en"),
        seed=1,
        shown_as=folder,
        progress=lambda *_: None,
        file=file,
    )
    assert outcome.shifted is not None
    assert {audit.context["unit"] for audit in (outcome.leaky, outcome.protected, outcome.shifted)} == {
        "case"
    }
    assert dict(outcome.leaky.patients) == {"members": 40, "held_out": 40}
    assert "--recipe" not in outcome.leaky.command
    found = {one.test: one.verdict for one in outcome.shifted.findings}
    assert found["membership.combined.auc"] == "confounded"
    assert not any(test.startswith("inversion") for test in found)
    fair = {one.test: one for one in outcome.leaky.findings}["membership.combined.auc"]
    blind = next(one for one in fair.estimates if one.name == "blind_auc")
    assert blind.low < 0.5
    with np.load(folder / "records.npz") as halves:
        whole = np.concatenate([halves["train_images"], halves["test_images"]])
    with np.load(file) as given:
        assert sorted(map(bytes, whole)) == sorted(map(bytes, given["train_images"]))


def test_only_the_protected_model_learns_from_copies() -> None:
    assert (leaky_images().copies, protected_images().copies) == (0, 3)


def test_refuses_what_it_cannot_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    labels, volumes = np.array([0, 1, 0, 1]), np.zeros((4, 8, 8, 8), np.uint8)
    np.savez("alone.npz", train_images=volumes[:, 0], train_labels=labels)
    np.savez(
        "volumes.npz", train_images=volumes, train_labels=labels, test_images=volumes, test_labels=labels
    )
    for words, said in (
        (["table", "--file", "alone.npz"], "--file is for primum demo images: leave it out.\n"),
        (["images", "--file", "none.npz"], "none.npz"),
        (["images", "--file", "volumes.npz"], "volumes.npz holds no images in the form of MedMNIST"),
        (["images", "--file", "alone.npz"], "alone.npz has no split named held_out"),
    ):
        assert run(["demo", *words, "--lang", "en", "--out", "new"]) == 2
        assert said in capsys.readouterr().err
        assert not Path("new").exists()

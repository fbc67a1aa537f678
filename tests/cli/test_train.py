"""``primum train``, as it is typed; killed for real, and gone on with."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests import tiny
from tests.processes import PROCESSES

from primum.cli.main import run
from primum.fit import resumption
from primum.models.classifier_doors import open_classifier
from primum.models.doors import open_model
from primum.records.case_writer import write_cases
from primum.records.meds import MedsFolder
from primum.records.synthetic_cases import (
    SYNTHETIC_CASES,
    CaseSettings,
    split_patients,
    synthetic_table,
    table_schema,
)
from primum.train.receipt import read_receipt
from primum.train.shards import ShardSettings, places_of, stage_name
from primum.workflows import training
from primum.workflows.checkpoints import Checkpoints

PLAIN = ["--epochs", "3", "--width", "8", "--shards", "2", "--slices", "2", "--lang", "en"]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of 120 patients, among the training ones a copy of another."""
    folder = tmp_path_factory.mktemp("cases")
    make, classes = SYNTHETIC_CASES["table"]
    sides = split_patients(make(120, seed=4), {"train": 70, "tuning": 20, "held_out": 30})
    write_cases(folder, sides, classes=classes, schema=table_schema())
    return folder


@pytest.fixture(scope="module")
def model(cases: Path) -> Path:
    """A model in two shards of two slices."""
    out = cases.parent / "model"
    assert run(["train", "plain", str(cases), "--out", str(out), *PLAIN]) == 0
    return out


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty invented patients as MEDS."""
    folder = tmp_path_factory.mktemp("meds")
    tiny.records_folder(folder, tiny.cohort(train=30, tuning=6, held_out=4))
    return folder


def test_models_of_records_are_trained_forgotten_and_protected(histories: Path, tmp_path: Path) -> None:
    size = ["--width", "16", "--lang", "en"]
    plain = ["train", "plain", str(histories), "--epochs", "1", "--shards", "2", "--slices", "2", *size]
    assert run([*plain, "--out", str(tmp_path / "first")]) == 0
    # Its vocabulary is given from here on, so that nobody's leaving changes it.
    given = ["--tokens", str(tmp_path / "first")]
    assert run([*plain, *given, "--out", str(tmp_path / "model")]) == 0
    assert same(tmp_path / "first", tmp_path / "model")
    ids = MedsFolder(histories).split("train").subject_ids
    (tmp_path / "ids.txt").write_text(
        "\n".join(map(str, ids[places_of(ids, ShardSettings(2, 2))[1] == 1][:1]))
    )
    asked = ["train", "forget", str(tmp_path / "model"), "--records", str(histories), *given, "--lang", "en"]
    asked += ["--patients", str(tmp_path / "ids.txt"), "--out", str(tmp_path / "without"), "--prove"]
    assert run(asked) == 0
    receipt = read_receipt(tmp_path / "without")
    assert sum(stage["found"] for stage in receipt.stages) == 3 == len(receipt.stages) - 1
    assert receipt.forgotten is not None and "recognised" not in receipt.forgotten
    told = json.loads((tmp_path / "without/confidential/forgotten.json").read_text())["recognised"]
    assert told.keys() == {"before", "after"} and told["after"]["held_out"] == 4
    assert open_model(str(tmp_path / "without")).parameters > 0
    private = ["train", "private", str(histories), "--noise-multiplier", "2", "--steps", "2", "--batch", "9"]
    assert run([*private, *given, *size, "--out", str(tmp_path / "private")]) == 0
    ledger = read_receipt(tmp_path / "private").ledger
    assert ledger is not None and ledger["outside"] == ["validation", "patient_count"]
    assert ledger["randomness_is_secret"] and ledger["patients"] == 30


def test_records_cannot_be_trained_against_attacks_and_nothing_is_tried(
    histories: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("primum.train.learners.fit_model", None)
    words = ["train", "adversarial", str(histories), "--out", str(tmp_path / "out"), "--lang", "en"]
    assert run(words) == 2 and "images of one size" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def weights(folder: Path) -> dict[str, Any]:
    return dict(load_file(folder / "model.safetensors"))


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def trainers(cases: Path) -> list[str]:
    lines = (cases / "cases.csv").read_text().splitlines()
    column = lines[0].split(",").index("subject_id")
    return list(dict.fromkeys(line.split(",")[column] for line in lines if ",train," in line))


def test_the_receipt_is_of_the_weights_and_names_nobody(model: Path, cases: Path) -> None:
    receipt = read_receipt(model)
    assert receipt.method == "plain" and receipt.data["patients"] == 70
    assert receipt.data["validation_patients"] == 20 and receipt.ledger is None
    assert len(receipt.stages) == 4 and receipt.seed == 0
    assert not list(model.parent.glob("*.unfinished"))
    opened = open_classifier(str(model), factory=receipt.factory)
    assert opened.predictor.classes == SYNTHETIC_CASES["table"][1]
    damaged = model.parent / "damaged"
    damaged.mkdir()
    for file in ("receipt.json", "model.safetensors"):
        (damaged / file).write_bytes((model / file).read_bytes())
    (damaged / "model.safetensors").write_bytes(b"other")
    with pytest.raises(Exception, match="other weights"):
        read_receipt(damaged)


def test_forgetting_is_proven_and_says_what_is_left(
    model: Path, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = trainers(cases)[:3]
    (tmp_path / "ids.txt").write_text("\n".join([*gone, "", "nobody-1"]))
    asked = ["train", "forget", str(model), "--records", str(cases), "--patients", str(tmp_path / "ids.txt")]
    assert run([*asked, "--out", str(tmp_path / "without"), "--prove", "--lang", "en"]) == 0
    said = capsys.readouterr().out
    assert "Forgotten: 3 patients of these records (4 asked)" in said and "delete it" in said
    receipt = read_receipt(tmp_path / "without")
    assert receipt.parent == read_receipt(model).digest() and receipt.method == "forgotten"
    assert receipt.forgotten is not None
    assert receipt.forgotten["proof"] == "bit_identical_to_training_without_them"
    assert receipt.data["patients"] == 67
    kept = json.loads((tmp_path / "without/confidential/forgotten.json").read_text())
    assert set(gone) <= set(map(str, kept["subject_ids"])) and len(kept["salt"]) == 32
    assert oct((tmp_path / "without/confidential").stat().st_mode & 0o777) == "0o700"
    assert not any(f'"{one}"' in (tmp_path / "without/receipt.json").read_text() for one in gone)
    # What was forgotten stays forgotten when somebody else is.
    (tmp_path / "ids.txt").write_text("\n".join(trainers(cases)[:4]))
    again = ["train", "forget", str(tmp_path / "without"), *asked[3:], "--out", str(tmp_path / "fewer")]
    assert run(again) == 0
    assert read_receipt(tmp_path / "fewer").data["patients"] == 66


def test_a_stage_that_the_receipt_does_not_know_is_trained_again(
    model: Path, cases: Path, tmp_path: Path
) -> None:
    """Whoever can write stages can write the digest beside them too; the receipt says what they were."""
    shutil.copytree(model, tmp_path / "other")
    key = read_receipt(model).stages[-1]["key"]
    shelf = Checkpoints(tmp_path / "other" / training.STAGES, training.STAGES)
    arrays = shelf.get(stage_name(key))
    assert arrays is not None
    first = next(name for name in arrays if name != "steps taken")
    shelf.put(stage_name(key), {**arrays, first: arrays[first] + 1})
    (tmp_path / "ids.txt").write_text("999999\n")
    asked = ["train", "forget", str(tmp_path / "other"), "--records", str(cases)]
    asked += ["--patients", str(tmp_path / "ids.txt"), "--out", str(tmp_path / "same")]
    assert run(asked) == 0
    assert same(model, tmp_path / "same")
    found = [stage["found"] for stage in read_receipt(tmp_path / "same").stages]
    assert found == [True, True, True, False]


def test_whoever_is_forgotten_is_not_recognised_any_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hardly to be diagnosed, they were learnt by heart; afterwards they are like any other patient."""
    cases = tmp_path / "cases"
    cases.mkdir()
    sides = synthetic_table(120, seed=4, settings=CaseSettings(difficulty=4.0))
    write_cases(
        cases,
        split_patients(sides, {"train": 60, "held_out": 60}),
        classes=SYNTHETIC_CASES["table"][1],
        schema=table_schema(),
    )
    long = ["--epochs", "150", "--patience", "0", "--learning-rate", ".01", "--width", "64", "--lang", "fr"]
    assert run(["train", "plain", str(cases), "--out", str(tmp_path / "model"), *long]) == 0
    for count, where in ((4, "confidential/forgotten.json"), (40, "receipt.json")):
        (tmp_path / "ids.txt").write_text("\n".join(trainers(cases)[:count]))
        asked = ["train", "forget", str(tmp_path / "model"), "--records", str(cases), "--lang", "fr"]
        out = tmp_path / f"without-{count}"
        assert run([*asked, "--patients", str(tmp_path / "ids.txt"), "--out", str(out)]) == 0
        said = json.loads((out / where).read_text())
        found = (said if where.startswith("confidential") else said["forgotten"])["recognised"]
        assert found["before"]["patients"] == count and found["after"]["held_out"] == 60
        assert count == 4 or found["before"]["low"] > 0.5
        assert found["after"]["low"] < 0.5 < found["after"]["high"]
        assert ("recognised" in read_receipt(out).forgotten) == (count >= 5)  # type: ignore[operator]
        assert "par l’ancien modèle\xa0: AUC" in capsys.readouterr().out


def test_forgetting_nobody_who_trained_gives_the_same_model(model: Path, cases: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("999999\n")
    asked = ["train", "forget", str(model), "--records", str(cases), "--patients", str(tmp_path / "ids.txt")]
    assert run([*asked, "--out", str(tmp_path / "same")]) == 0
    assert same(model, tmp_path / "same")
    receipt = read_receipt(tmp_path / "same")
    assert all(stage["found"] for stage in receipt.stages) and receipt.steps == 0


def _killed(arguments: list[str], after: int) -> None:
    """Train in a process of its own, and end it without a word after so many steps."""
    resumption.SECONDS = 0.0
    usual = training._ticks

    def counting(progress: Any) -> Any:
        tick, seen = usual(progress), []

        def told(taken: int, steps: int) -> None:
            seen.append(taken)
            if len(seen) == after:
                os.kill(os.getpid(), signal.SIGKILL)
            tick(taken, steps)

        return told

    training._ticks = counting
    os._exit(run(arguments))


def killed(arguments: list[str], after: int) -> int | None:
    process = PROCESSES.Process(target=_killed, args=(arguments, after))
    process.start()
    process.join(240)
    return process.exitcode


@pytest.mark.parametrize("places", [(1,), (5, 3, 4)])
def test_killed_and_gone_on_with(places: tuple[int, ...], model: Path, cases: Path, tmp_path: Path) -> None:
    arguments = ["train", "plain", str(cases), "--out", str(tmp_path / "model"), *PLAIN]
    for place in places:
        assert killed(arguments, place) == -signal.SIGKILL
        assert not (tmp_path / "model").exists()
        unfinished = tmp_path / "model.unfinished"
        assert oct(unfinished.stat().st_mode & 0o777) == "0o700"
    assert run(arguments) == 0
    assert same(model, tmp_path / "model") and not unfinished.exists()
    again, first = read_receipt(tmp_path / "model"), read_receipt(model)
    assert (again.data, again.stages, again.steps) == (first.data, first.stages, first.steps)


def test_private(cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["train", "private", str(cases), "--noise-multiplier", "2", "--steps", "3", "--batch", "20"]
    assert run([*asked, "--out", str(tmp_path / "model"), "--repeatable-seed", "1", "--lang", "fr"]) == 0
    said = capsys.readouterr().out
    assert "Promis à chaque patient" in said and "ne tient pas" in said
    receipt = read_receipt(tmp_path / "model")
    assert receipt.ledger is not None
    assert receipt.ledger["unit"] == "patient" and receipt.ledger["patients"] == 70
    assert receipt.ledger["outside"] == ["column_scales", "validation", "patient_count"]
    assert receipt.ledger["mechanisms"][0]["noise_multiplier"] == 2
    assert receipt.seed == 1 and receipt.steps == 3
    (tmp_path / "ids.txt").write_text("1\n")
    asked = ["train", "forget", str(tmp_path / "model"), "--records", str(cases)]
    asked += ["--patients", str(tmp_path / "ids.txt"), "--out", str(tmp_path / "other")]
    assert run(asked) == 2
    assert "secret noise cannot be drawn again" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (["plain", "{cases}", "--network", "image"], "The network image is not for these records (table)"),
        (["plain", "{cases}", "--network", "what"], "The network what is not for these records (table)"),
        (["plain", "{cases}", "--tokens", "."], "--tokens is for health records"),
        (["plain", "{cases}", "--learning-rate", "-1"], "rate must be above zero"),
        (["plain", "{cases}/nowhere"], "is not a MEDS folder"),
        (["private", "{cases}", "--batch", "9"], "give one of the two"),
        (["private", "{cases}", "--epsilon", "0", "--batch", "9"], "Epsilon must be above zero"),
        (["private", "{cases}", "--epsilon", "8", "--batch", "71"], "but there are 70: lower the batch"),
        (["private", "{cases}", "--epsilon", "8", "--copies", "2", "--batch", "9"], "of images only"),
        (["private", "{cases}", "--epsilon", "8", "--clip", "0"], "--clip must be above zero"),
        (
            ["forget", "{cases}", "--records", "{cases}", "--patients", "{cases}/cases.csv"],
            "no training receipt",
        ),
        (
            ["forget", "{model}", "--records", "{cases}", "--patients", "{model}/nowhere"],
            "no text that can be",
        ),
        (
            ["forget", "{model}", "--records", "{cases}", "--patients", "{model}/model.safetensors"],
            "no text ",
        ),
        (["plain", "{cases}", "--out", "{model}"], "is not empty"),
        (["adversarial", "{cases}"], "is for images of one size"),
        (
            ["private", "{cases}", "--epsilon", "8", "--network", "scattering"],
            "not for these records (table)",
        ),
        (
            ["private", "{cases}", "--epsilon", "8", "--network", "scattering", "--batch", "9"],
            "--batch is not for the network scattering",
        ),
    ],
)
def test_refusals(
    typed: list[str],
    sentence: str,
    model: Path,
    cases: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [word.format(cases=cases, model=model) for word in typed]
    before = {path: path.stat().st_mtime_ns for path in model.rglob("*")}
    out = [] if "--out" in words else ["--out", str(tmp_path / "out")]
    assert run(["train", *words, *out, "--lang", "en"]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []
    assert before == {path: path.stat().st_mtime_ns for path in model.rglob("*")}

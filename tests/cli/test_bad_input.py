"""Each thing that a user may give by mistake: its exit status and one sentence that says what to do."""

import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.cli.conftest import FIRST_ID, Place, Refused

from primum.cli.main import run

Break = Callable[[Place], object]
Refuse = Callable[..., Refused]


def table(change: Callable[[pl.DataFrame], pl.DataFrame], split: str = "train") -> Break:
    def rewrite(place: Place) -> None:
        file = place.records / "data" / split / "0.parquet"
        change(pl.read_parquet(file)).write_parquet(file)

    return rewrite


def backwards(frame: pl.DataFrame) -> pl.DataFrame:
    """Exchange the first and the last time of one patient."""
    rows = frame.with_row_index().filter(
        pl.col("time").is_not_null() & (pl.col("subject_id") == FIRST_ID + 3)
    )
    first, last = rows["index"][0], rows["index"][-1]
    times = frame["time"].to_list()
    assert times[first] < times[last]
    times[first], times[last] = times[last], times[first]
    return frame.with_columns(time=pl.Series(times, dtype=pl.Datetime("us")))


def second_shard(place: Place) -> None:
    folder = place.records / "data" / "train"
    frame = pl.read_parquet(folder / "0.parquet")
    frame.filter(pl.col("subject_id") == FIRST_ID + 3).write_parquet(folder / "1.parquet")


def no_held_out(place: Place) -> None:
    shutil.rmtree(place.records / "data" / "held_out")
    file = place.records / "metadata" / "subject_splits.parquet"
    pl.read_parquet(file).filter(pl.col("split") == "train").write_parquet(file)


def empty_held_out(place: Place) -> None:
    (place.records / "metadata" / "subject_splits.parquet").unlink()
    table(lambda frame: frame.head(0), "held_out")(place)


def other_codes(place: Place) -> None:
    for split in ("train", "held_out"):
        table(lambda frame: frame.with_columns(code="OTHER//" + pl.col("code")), split)(place)


def vocabulary(change: Callable[[dict[str, int]], object]) -> Break:
    def rewrite(place: Place) -> None:
        file = place.model / "vocab.json"
        content = json.loads(file.read_text(encoding="utf-8"))
        change(content)
        file.write_text(json.dumps(content), encoding="utf-8")

    return rewrite


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Break:
    def rewrite(place: Place) -> None:
        file = place.model / "model.safetensors"
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file, metadata={"format": "pt"})

    return rewrite


def fewer_rows(tensors: dict[str, torch.Tensor]) -> None:
    for name in ("lm_head.weight", "model.embed_tokens.weight"):
        tensors[name] = tensors[name][:-9].clone()


def truncated(place: Place) -> None:
    file = place.model / "model.safetensors"
    os.truncate(file, file.stat().st_size // 2)


def linked(place: Place) -> None:
    (place.model / "model.safetensors").rename(place.root / "weights")
    (place.model / "model.safetensors").symlink_to(place.root / "weights")


def only_a_pickle(place: Place) -> None:
    (place.model / "model.safetensors").unlink()
    (place.model / "pytorch_model.bin").write_bytes(pickle.dumps({}))


def not_a_number(tensors: dict[str, Any]) -> None:
    tensors["lm_head.weight"][0, 0] = float("nan")


TRAIN = "data/train/0.parquet"
CASES: dict[str, tuple[Break, tuple[str, ...]]] = {
    "missing column": (
        table(lambda frame: frame.drop("time")),
        (TRAIN, "no column time", "MEDS 0.4 needs one"),
    ),
    "wrong type": (
        table(lambda frame: frame.with_columns(time=pl.col("time").cast(pl.String))),
        (TRAIN, "column time", "string", "convert it"),
    ),
    "ids as text": (
        table(lambda frame: frame.with_columns(subject_id=pl.col("subject_id").cast(pl.String))),
        (TRAIN, "column subject_id", "convert it"),
    ),
    "empty code": (
        table(lambda frame: frame.with_columns(code=pl.lit(None, pl.String))),
        (TRAIN, "row 0", "column code", "empty", "fill it or drop the row"),
    ),
    "unsorted times": (table(backwards), (TRAIN, "row ", "column time", "sort each patient by time")),
    "subject in two shards": (
        second_shard,
        ("data/train/1.parquet", "row 0", "column subject_id", TRAIN, "keep each patient in one file"),
    ),
    "truncated parquet": (
        lambda place: os.truncate(place.records / TRAIN, 500),
        (TRAIN, "truncated", "copy it again"),
    ),
    "no held-out split": (no_held_out, ("records has no held_out split", "--held-out")),
    "empty split": (empty_held_out, ("the split held_out holds no patient", "add patients to it")),
    "records are no folder": (
        lambda place: shutil.rmtree(place.records),
        ("is not a MEDS folder", "give one"),
    ),
    "vocabulary of other codes": (other_codes, ("knows 0 % of the events", "vocab.json", "OTHER")),
    "vocabulary larger than the model": (
        vocabulary(lambda tokens: tokens.update({"one more": len(tokens)})),
        ("vocab.json has", "but the model has", "give the one that it was trained with"),
    ),
    "vocabulary with two equal ids": (
        vocabulary(lambda tokens: tokens.update(dict.fromkeys(list(tokens)[-2:], 7))),
        ("vocab.json gives one id to two tokens", "each needs its own"),
    ),
    "vocabulary without a token of the profile": (
        vocabulary(lambda tokens: tokens.update({"else": tokens.pop("BEGIN")})),
        ("uses BEGIN, which vocab.json lacks", "correct one of them"),
    ),
    "fewer rows than the configuration says": (
        weights(fewer_rows),
        ("the weights do not fit config.json", "saved together"),
    ),
    "truncated weights": (truncated, ("model.safetensors", "truncated", "copy it again")),
    "missing weights": (
        weights(lambda tensors: tensors.pop("model.norm.weight")),
        ("1 weights", "model.norm.weight", "saved together"),
    ),
    "folder with only a pickle": (only_a_pickle, ("pytorch_model.bin is a pickle", "save the weights as")),
    "weights by a link": (linked, ("model.safetensors is a link", "copy the file itself")),
    "not a number": (weights(not_a_number), ("not finite (NaN or infinity)", "check its weights")),
    "broken configuration": (
        lambda place: (place.model / "config.json").write_text("{", encoding="utf-8"),
        ("model/config.json does not describe", "give the config.json saved"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_said_in_one_sentence(place: Place, refused: Refuse, case: str) -> None:
    break_it, words = CASES[case]
    break_it(place)
    said = refused()
    assert said.status == 2
    for word in words:
        assert word in said.sentence


def test_a_patient_is_named_only_on_demand(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    table(backwards)(place)
    assert place.audit("--show-ids") == 2
    assert f"column time [{FIRST_ID + 3}]" in capsys.readouterr().err
    assert place.audit() == 2
    assert str(FIRST_ID + 3) not in capsys.readouterr().err


def test_a_pickle_file_is_not_opened(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            return (exec, ("raise AssertionError('the pickle was opened')",))

    file = place.root / "model.pt"
    file.write_bytes(pickle.dumps(Bomb()))
    assert run(["audit", str(file), "--records", str(place.records), "--lang", "en"]) == 2
    said = "model.pt is a pickle, which can run any program when opened: save the weights as safetensors"
    assert capsys.readouterr().err == f"{said} instead.\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--recipe", "no_such_module:name"], ("The recipe no_such_module:name cannot be imported", "give")),
        (["--recipe", "json:dumps"], ("The recipe json:dumps cannot be imported", "without arguments")),
        (["--recipe", "nothing"], ("The recipe nothing cannot be imported", "module:name")),
        (["--recipe", "collections:Counter"], ("collections:Counter returns no object with a fit method",)),
        (["--only", "membership.combined,bogus"], ("no test is named bogus", "membership.combined.auc")),
        (["--only", "membership.canary,"], ("no test is named ''", "give some of")),
        (["--reference", "nowhere"], ("nowhere is not a model folder", "give a folder")),
        (["--held-out", "nowhere"], ("nowhere is not a MEDS folder", "give one")),
        (["--positive", "ill"], ("--positive is for classifiers, and this is a model of records",)),
        (["--threshold", "0"], ("--threshold is for classifiers, and this is a model of records",)),
    ],
)
def test_options_that_mean_nothing(refused: Refuse, options: list[str], words: tuple[str, ...]) -> None:
    said = refused(*options)
    assert said.status == 2
    for word in words:
        assert word in said.sentence


def test_a_report_is_never_written_over(place: Place, refused: Refuse) -> None:
    place.out.mkdir()
    (place.out / "mine").write_text("1", encoding="utf-8")
    said = refused()
    assert said.status == 2
    assert "report is not empty: give a new or empty folder with --out." in said.sentence


def test_shared_patients_are_refused_then_dropped(
    place: Place, refused: Refuse, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(place.records, place.root / "others")
    held_out, train = (place.root / "others" / "data" / split for split in ("held_out", "train"))
    shared = pl.read_parquet(train / "0.parquet").filter(pl.col("subject_id") < FIRST_ID + 3)
    shared.write_parquet(held_out / "1.parquet")
    shutil.rmtree(train)
    (place.root / "others" / "metadata" / "subject_splits.parquet").unlink()
    said = refused("--held-out", str(place.root / "others"))
    assert said.status == 2
    assert said.sentence.startswith("3 patients are both members and held-out: separate them")
    assert "--drop-overlap" in said.sentence
    assert place.audit("--held-out", str(place.root / "others"), "--drop-overlap") == 3
    context = json.loads((place.out / "findings.json").read_bytes())["context"]
    assert context["dropped_overlap"] == 3
    assert "Traceback" not in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_the_fault_of_the_machine(place: Place, refused: Refuse) -> None:
    (place.root / "file").write_text("1", encoding="utf-8")
    said = refused("--out", str(place.root / "file" / "report"))
    assert said.status == 4
    assert "report.unfinished cannot be written" in said.sentence


def test_a_full_disk_leaves_what_was_finished(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """No file may grow past what the model's own files need: the report does not fit."""
    largest = max(file.stat().st_size for file in place.model.iterdir()) + 1
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))
    try:
        assert place.audit() == 4
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    sentence = capsys.readouterr().err.splitlines()[-1]
    assert "report cannot be written (File too large): free some space and repeat the command" in sentence
    assert [path.name for path in place.root.glob("report*")] == ["report.unfinished"]
    assert place.audit() == 3
    assert [path.name for path in place.root.glob("report*")] == ["report"]


# A shell may have taught its children to ignore the signal.
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from primum.cli.main import run
sys.exit(run(sys.argv[1:]))
"""
RECIPE = """
import time
from pathlib import Path

class Endless:
    def fit(self, train, *, validation, max_steps, seed):
        Path("started").touch()
        time.sleep(60)

def endless():
    return Endless()
"""


def test_an_interrupted_audit_leaves_nothing(place: Place) -> None:
    (place.root / "endless_recipe.py").write_text(RECIPE, encoding="utf-8")
    (place.root / "temporary").mkdir()
    environment = {
        **os.environ,
        "TMPDIR": str(place.root / "temporary"),
        "PYTHONPATH": str(place.root),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    before = sorted(place.root.rglob("*"))
    running = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *place.arguments("--recipe", "endless_recipe:endless")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=place.root,
    )
    started, deadline = place.root / "started", time.monotonic() + 60
    while not started.exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert running.returncode == 130, err
    lines = [line for line in err.splitlines() if line.strip() and not line.startswith("  ")]
    assert (out, lines) == ("", ["Interrupted: nothing was written."])
    assert sorted(place.root.rglob("*")) == sorted([*before, Path(started)])


# Stands still where a module would be loaded, as a slow disk does.
LOADING = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
slow = sys.argv.pop(1)

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == slow:
            print("loading", flush=True)
            time.sleep(60)

sys.meta_path.insert(0, Slow())
from primum.cli.main import main
main()
"""


@pytest.mark.parametrize("module", ["typer", "scipy", "matplotlib"])
def test_a_command_interrupted_while_it_loads(module: str) -> None:
    command = [sys.executable, "-c", LOADING, module, "report", "show", "nowhere", "--lang", "en"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as running:
        assert running.stdout
        assert running.stdout.readline() == "loading\n"
        running.send_signal(signal.SIGINT)
        assert running.communicate(timeout=30) == ("", "Interrupted: nothing was written.\n")
    assert running.returncode == 130


def test_a_bug_says_where_and_never_what(
    place: Place, refused: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError(f"patient {FIRST_ID} has B20")

    monkeypatch.setattr("primum.workflows.audit.count_codes", broken)
    said = refused()
    assert said.status == 70
    assert "RuntimeError at audit.py:" in said.sentence
    assert "B20" not in said.sentence

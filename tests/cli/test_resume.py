"""Audits that are killed and go on where they stopped: real processes, real signals."""

import os
import signal
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Place
from tests.processes import PROCESSES
from transformers import LlamaModel

from primum.cli.main import run
from primum.fit.causal_recipe import SmallCausalRecipe
from primum.fit.loop import LoopSettings
from primum.workflows import audit as audits
from primum.workflows import gather
from primum.workflows.kept import Kept

FAMILIES = "membership.combined,trajectory,extraction,knowledge"

# Seconds to wait for what takes ten on an idle machine: others may be at work on it.
PATIENCE = 240
SHARED = {"block-0.piece", "block-1.piece"}


def recipe() -> SmallCausalRecipe:
    return SmallCausalRecipe(LoopSettings(epochs=1, batch=8), width=16, layers=1, heads=2, context=64)


@dataclass(frozen=True)
class Stop:
    """A signal that a command gives itself at its next question to a model, once so many pieces are there."""

    pieces: str
    count: int
    by: int = signal.SIGKILL


@dataclass(frozen=True)
class Runs:
    """Commands that audit one model and differ in where they write only."""

    place: Place
    root: Path

    def start(self, out: str, *more: str, stop: Stop | None = None) -> BaseProcess:
        given = ["--recipe", "tests.cli.test_resume:recipe", "--sampled", "40", "--only", FAMILIES, *more]
        arguments = self.place.arguments("--out", str(self.root / out), *given)
        process = PROCESSES.Process(target=command, args=(arguments, self.root / out, stop))
        process.start()
        return process

    def end(self, out: str, *more: str, stop: Stop | None = None) -> int | None:
        process = self.start(out, *more, stop=stop)
        process.join(PATIENCE)
        return process.exitcode

    def pieces(self, out: str) -> dict[str, int]:
        """Each piece and when it was written."""
        return {path.name: path.stat().st_mtime_ns for path in self.unfinished(out).glob("*.piece")}

    def unfinished(self, out: str) -> Path:
        return self.root / f"{out}.unfinished"

    def findings(self, out: str) -> bytes:
        return (self.root / out / "findings.json").read_bytes()

    def questions(self, out: str) -> int:
        return (self.root / f"{out}.questions").stat().st_size

    def said(self, out: str) -> str:
        """What the last command said when it ended."""
        return (self.root / f"{out}.said").read_text(encoding="utf-8").splitlines()[-1]


def command(arguments: list[str], out: Path, stop: Stop | None) -> None:
    """Be ``primum``, in blocks of ten patients; count the questions to models, and stop as told."""
    os.setpgid(0, 0)
    asked, forward = out.with_name(f"{out.name}.questions").open("wb", buffering=0), LlamaModel.forward
    said = out.with_name(f"{out.name}.said").open("wb")
    os.dup2(said.fileno(), 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stopped = False

    def watched(self: LlamaModel, *given: Any, **named: Any) -> Any:
        nonlocal stopped
        asked.write(b".")
        there = stop and len(list(out.with_name(f"{out.name}.unfinished").glob(f"{stop.pieces}*.piece")))
        if stop and not stopped and there == stop.count:
            stopped = True
            os.kill(os.getpid(), stop.by)
        return forward(self, *given, **named)

    LlamaModel.forward = watched
    gather._AT_ONCE = 10
    raise SystemExit(run(arguments))


@pytest.fixture(scope="module")
def runs(pristine: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """The audit that nothing interrupted is in ``whole``."""
    made = Runs(pristine, tmp_path_factory.mktemp("runs"))
    assert made.end("whole") == 3
    yield made


def test_killed_at_every_stage_an_audit_ends_with_the_same_bytes(runs: Runs) -> None:
    before: dict[str, int] = {}
    for stop in (Stop("model-", 1), Stop("block-", 2, signal.SIGINT), Stop("family-", 1)):
        assert runs.end("killed", stop=stop) == (130 if stop.by == signal.SIGINT else -stop.by)
        if stop.by == signal.SIGINT:
            assert runs.said("killed") == (
                f"Interrupted: no report was written. What was finished is kept in "
                f"{runs.unfinished('killed')}, and the same command goes on from there."
            )
        pieces = runs.pieces("killed")
        assert len([name for name in pieces if name.startswith(stop.pieces)]) == stop.count
        assert before.items() < pieces.items()
        assert not (runs.root / "killed").exists()
        before = pieces
    assert stat.S_IMODE(runs.unfinished("killed").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in runs.unfinished("killed").iterdir()} == {0o600}
    assert runs.end("killed") == 3
    assert runs.findings("killed") == runs.findings("whole")
    # What is left are two families of three.
    assert 0 < runs.questions("killed") < runs.questions("whole") / 2
    assert not runs.unfinished("killed").exists()


def test_damaged_pieces_are_computed_again_and_another_audit_is_refused(runs: Runs) -> None:
    assert runs.end("damaged", stop=Stop("family-", 1)) == -signal.SIGKILL
    before = runs.pieces("damaged")
    assert runs.end("damaged", "--seed", "1") == 2
    assert f"{runs.unfinished('damaged')} keeps what another audit had finished" in runs.said("damaged")
    assert runs.pieces("damaged") == before
    folder = runs.unfinished("damaged")
    altered = bytearray((folder / "block-1.piece").read_bytes())
    altered[len(altered) // 2] ^= 1
    (folder / "block-1.piece").write_bytes(altered)
    (folder / "block-2.piece").write_bytes(altered[:100])
    (folder / "block-3.piece").write_bytes(b"")
    (folder / "block-4.piece").write_bytes((folder / "block-5.piece").read_bytes())
    (folder / ".block-6.piece.1").write_bytes(altered)
    assert runs.end("damaged") == 3
    assert runs.findings("damaged") == runs.findings("whole")
    assert not folder.exists()


def test_of_two_commands_at_once_the_second_is_refused(runs: Runs) -> None:
    first = runs.start("twice", stop=Stop("block-", 2, signal.SIGSTOP))
    deadline = time.monotonic() + PATIENCE
    while len(runs.pieces("twice")) < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert runs.end("twice") == 2
    assert f"Another command is at work in {runs.unfinished('twice')}" in runs.said("twice")
    assert first.pid
    os.kill(first.pid, signal.SIGCONT)
    first.join(PATIENCE)
    assert first.exitcode == 3
    assert runs.findings("twice") == runs.findings("whole")


def test_processes_that_share_the_work_keep_it_too(runs: Runs) -> None:
    first = runs.start("shared", "--workers", "2")
    deadline = time.monotonic() + PATIENCE
    # Two are at work: the second block may be finished before the first.
    while not runs.pieces("shared").keys() >= SHARED and time.monotonic() < deadline:
        time.sleep(0.01)
    assert first.pid
    os.killpg(first.pid, signal.SIGKILL)
    first.join(PATIENCE)
    before = runs.pieces("shared")
    assert first.exitcode == -signal.SIGKILL
    assert before.keys() >= SHARED
    # Whoever computes them, pieces are the same: one process ends what two began.
    assert runs.end("shared") == 3
    assert runs.findings("shared") == runs.findings("whole")
    assert runs.questions("shared") < runs.questions("whole")


def test_without_a_name_the_folder_is_that_of_the_model_on_any_day(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, kept: Kept, **__: object) -> None:
        kept.write("block-0", 1)
        raise KeyboardInterrupt

    monkeypatch.setattr(audits, "run_audit", interrupted)
    monkeypatch.chdir(place.root)
    assert run(["audit", str(place.model), "--records", str(place.records), "--lang", "en"]) == 130
    (folder,) = place.root.glob("primum-*")
    assert len(folder.name) == len("primum-12345678.unfinished")
    assert f"is kept in {folder}" in capsys.readouterr().err

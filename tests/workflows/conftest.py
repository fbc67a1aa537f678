import io
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests import tiny

from primum.cli.main import run
from primum.models.doors import open_model
from primum.models.opened import OpenedModel
from primum.records.histories import Histories, InMemory, Records


@dataclass(frozen=True)
class World:
    """A model that saw none of these patients, and two groups of thirty."""

    model: Path
    members: Histories
    held_out: Histories
    others: Histories

    def opened(self) -> OpenedModel:
        return open_model(self.model)

    def sides(self) -> tuple[Records, Records]:
        return InMemory((self.members,)), InMemory((self.held_out,))


@dataclass(frozen=True)
class Demonstration:
    """What ``primum demo --size small`` left and said."""

    folder: Path
    status: int
    stdout: str
    stderr: str
    seconds: float


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    patients = tiny.cohort(train=60, members=30, held_out=30)
    train = InMemory((patients["train"],))
    folder = tiny.model_folder(tmp_path_factory.mktemp("clean"), tiny.tokenizer_of(train), train)
    return World(folder, patients["members"], patients["held_out"], patients["train"])


@pytest.fixture(scope="session")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> Demonstration:
    place = tmp_path_factory.mktemp("demonstration")
    out, err, started = io.StringIO(), io.StringIO(), time.perf_counter()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(place)
        status = run(["demo", "--size", "small", "--lang", "en", "--seed", "3"])
    return Demonstration(place, status, out.getvalue(), err.getvalue(), time.perf_counter() - started)

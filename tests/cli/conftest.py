import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tests import tiny

from primum.cli.main import run
from primum.records.histories import Histories, InMemory

# Ids that occur nowhere by chance.
FIRST_ID = 90071992547


@dataclass(frozen=True)
class Place:
    """A model folder and a MEDS folder that a test may break, and where a report would go."""

    root: Path

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def records(self) -> Path:
        return self.root / "records"

    @property
    def out(self) -> Path:
        return self.root / "report"

    def arguments(self, *more: str) -> list[str]:
        given = ["audit", str(self.model), "--records", str(self.records), "--lang", "en"]
        return [*given, *(() if "--out" in more else ("--out", str(self.out))), *more]

    def audit(self, *more: str) -> int:
        return run(self.arguments(*more))


def distinctive(parts: dict[str, Histories]) -> dict[str, Histories]:
    """Give every patient an id that a search finds, and the first member a code of its own."""
    renamed, first = {}, FIRST_ID
    for name, part in parts.items():
        ids = np.arange(first, first + len(part))
        codes = part.codes
        if name == "train":
            place = int(part.code_ids[np.flatnonzero(~np.isnat(part.times))[-1]])
            codes = (*codes, f"{codes[place]}//ONLYMINE")
            code_ids = part.code_ids.copy()
            code_ids[np.flatnonzero(~np.isnat(part.times))[-1]] = len(codes) - 1
            part = Histories(ids, part.offsets, codes, code_ids, part.times, part.values)
        renamed[name] = Histories(ids, part.offsets, codes, part.code_ids, part.times, part.values)
        first += len(part)
    return renamed


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Made once; tests read it and never write to it."""
    place = Place(tmp_path_factory.mktemp("pristine"))
    patients = tiny.cohort(train=30, held_out=40, other=60)
    other = InMemory((patients.pop("other"),))
    tiny.records_folder(place.records, distinctive(patients))
    tiny.model_folder(place.model, tiny.tokenizer_of(other), other)
    return place


@pytest.fixture
def place(pristine: Place, tmp_path: Path) -> Place:
    """A copy to break."""
    shutil.copytree(pristine.root, tmp_path / "given")
    return Place(tmp_path / "given")


@dataclass(frozen=True)
class Refused:
    """What a command said when it did nothing."""

    status: int
    sentence: str


@pytest.fixture
def refused(place: Place, capsys: pytest.CaptureFixture[str]) -> Callable[..., Refused]:
    """Run an audit that must fail: one sentence, no trace, no patient, nothing written."""

    def audit(*more: str) -> Refused:
        before = sorted(place.root.parent.rglob("*"))
        status = place.audit(*more)
        said = capsys.readouterr()
        assert said.out == ""
        # A line of progress begins with a space.
        lines = [line for line in said.err.splitlines() if not line.startswith("  ")]
        assert len(lines) == 1, said.err
        assert "Traceback" not in said.err
        assert str(FIRST_ID)[:9] not in said.err
        assert sorted(place.root.parent.rglob("*")) == before
        assert lines[0].endswith(".")
        return Refused(status, lines[0])

    return audit

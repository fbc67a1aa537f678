"""A disk that is full, really: status 4, one sentence, and nothing half-written."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from tests import tiny
from tests.house.full_disk import Outcome

from primum.cli.main import run
from primum.records.histories import InMemory

ROOT = Path(__file__).resolve().parents[2]
REFUSED = "cannot be written (No space left on device): free some space and repeat the command, or choose "
# Where only the administrator may mount, the last test still speaks.
MAY_MOUNT = subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    if not MAY_MOUNT:
        pytest.skip("this user may not mount a small disk")
    command = ["unshare", "-rm", sys.executable, "-m", "tests.house.full_disk"]
    root = str(tmp_path_factory.mktemp("disks"))
    done = subprocess.run([*command, root], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [Outcome(**json.loads(line)) for line in done.stdout.splitlines() if line.startswith("{")]


def test_a_report_or_its_confidential_part_that_does_not_fit(outcomes: list[Outcome]) -> None:
    *refused, whole = [one for one in outcomes if one.disk == "out"]
    assert len(refused) == 4
    for one in refused:
        assert one.status == 4, one
        # What was finished stays, and no half of a report.
        assert all(name.startswith("report.unfinished") for name in one.left), one
        assert REFUSED in one.sentence
        assert "\n" not in one.sentence
    assert whole.status in (0, 1, 3)
    assert {"report/findings.json", "report/confidential/scores.parquet"} <= set(whole.left)


@pytest.mark.parametrize("disk", ["omop", "omop.tar.gz", "model"])
def test_temporary_files_that_do_not_fit(outcomes: list[Outcome], disk: str) -> None:
    ended = [one for one in outcomes if one.disk == disk]
    refused = [one for one in ended if one.status == 4]
    assert len(refused) >= (1 if disk == "model" else 3)
    for one in refused:
        assert one.sentence.startswith(
            "The disk is full: nothing was written; free some space, or set TMPDIR"
        )
        assert "\n" not in one.sentence
    # The disk on which the conversion fits ends the series with a verdict.
    assert [one.status in (0, 1, 3) for one in ended if one not in refused] == [True] * (disk != "model")
    assert [one.left for one in ended] == [[]] * len(ended)


def test_only_audits_that_ended_left_a_folder(outcomes: list[Outcome]) -> None:
    (root,) = [one for one in outcomes if one.disk == "root"]
    assert [name for name in root.left if name.startswith("report")] == ["report-omop", "report-omop.tar.gz"]


def test_a_file_that_may_not_grow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    patients = tiny.cohort(train=30, held_out=30)
    train = InMemory((patients["train"],))
    tiny.records_folder(tmp_path / "meds", patients)
    tiny.model_folder(tmp_path / "model", tiny.tokenizer_of(train), train)
    before = sorted(tmp_path.rglob("*"))
    given = [str(tmp_path / "model"), "--records", str(tmp_path / "meds"), "--out", str(tmp_path / "report")]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))
    try:
        assert run(["audit", *given, "--only", "membership.combined", "--lang", "en"]) == 4
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    sentence = capsys.readouterr().err.splitlines()[-1]
    assert "(File too large): free some space and repeat the command, or choose another" in sentence
    left = set(tmp_path.rglob("*")) - set(before)
    assert {path.relative_to(tmp_path).parts[0] for path in left} <= {"report.unfinished"}

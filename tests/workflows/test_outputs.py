import json
import os
import stat
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.workflows.conftest import World

from primum.errors import InputError, MachineError
from primum.report.language import Language
from primum.workflows.audit import run_audit
from primum.workflows.confidential import scores_table
from primum.workflows.outputs import refuse_full, replace_file, whole_folder, write_result
from primum.workflows.plan import AuditPlan, AuditResult
from primum.workflows.recompute import recompute


@pytest.fixture(scope="module")
def result(world: World) -> AuditResult:
    return run_audit(AuditPlan(world.opened(), *world.sides()))


def names(folder: Path) -> list[str]:
    return sorted(str(entry.relative_to(folder)) for entry in folder.rglob("*"))


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "report"
    with whole_folder(target) as folder:
        (folder / "a").write_text("1", encoding="utf-8")
        assert not target.exists()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert names(tmp_path) == ["deep", "deep/report", "deep/report/a"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o755


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    with whole_folder(tmp_path / "report") as folder:
        (folder / "a").write_text("1", encoding="utf-8")
    assert names(tmp_path) == ["report", "report/a"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, MemoryError])
def test_nothing_is_left_of_a_folder_that_was_not_finished(
    tmp_path: Path, error: type[BaseException]
) -> None:
    with pytest.raises(error), whole_folder(tmp_path / "report") as folder:
        (folder / "a").write_text("1", encoding="utf-8")
        raise error
    assert names(tmp_path) == []


def test_a_disk_that_fills_up_leaves_nothing_and_says_so(tmp_path: Path) -> None:
    with (
        pytest.raises(MachineError, match=r"report cannot be written \(No space left on device\): free"),
        whole_folder(tmp_path / "report") as folder,
    ):
        (folder / "a").write_text("1", encoding="utf-8")
        raise OSError(28, os.strerror(28))
    assert names(tmp_path) == []


def test_a_folder_that_someone_filled_meanwhile_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot be written"), whole_folder(tmp_path / "report"):
        (tmp_path / "report").mkdir()
        (tmp_path / "report" / "theirs").write_text("1", encoding="utf-8")
    assert names(tmp_path) == ["report", "report/theirs"]


def test_a_full_place_is_refused(tmp_path: Path) -> None:
    refuse_full(tmp_path / "new")
    refuse_full(tmp_path)
    (tmp_path / "file").write_text("1", encoding="utf-8")
    for place in (tmp_path, tmp_path / "file"):
        with pytest.raises(InputError, match="is not empty: give a new or empty folder"):
            refuse_full(place)


def test_a_parent_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("1", encoding="utf-8")
    with pytest.raises(MachineError, match="cannot be written"), whole_folder(tmp_path / "file" / "report"):
        pass
    assert names(tmp_path) == ["file"]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "page.html"
    replace_file(target, "first")
    replace_file(target, "second")
    assert target.read_text(encoding="utf-8") == "second"

    def full(self: Path, target: Path) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(MachineError, match="No space left"):
        replace_file(target, "third")
    assert target.read_text(encoding="utf-8") == "second"
    assert names(tmp_path) == ["page.html"]


def test_shareable_and_confidential_files(tmp_path: Path, result: AuditResult) -> None:
    with whole_folder(tmp_path / "report") as folder:
        write_result(folder, result, language=Language("fr"))
    target = tmp_path / "report"
    assert names(target) == [
        "confidential",
        "confidential/curves.parquet",
        "confidential/measurements.json",
        "confidential/passages.parquet",
        "confidential/scores.parquet",
        "findings.json",
        "report.html",
        "run.json",
    ]
    assert stat.S_IMODE((target / "confidential").stat().st_mode) == 0o700
    for path in (target / "confidential").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    run = json.loads((target / "run.json").read_bytes())
    assert set(run) == {"date", "stages", "machine"}
    assert "statistics" in run["stages"]
    compared, differences = recompute(target)
    assert (compared, differences) == (len(result.audit.findings), ())


def test_scores_of_every_patient_without_their_ids(result: AuditResult) -> None:
    order = np.random.default_rng(1).permutation(60)
    table, scores = scores_table(result.measurements, order), result.scores
    assert table["patient"].to_list() == list(range(60))
    assert not any("subject" in name or name == "id" for name in table.columns)
    for member in (True, False):
        rows, mask = table.filter(pl.col("member") == member), scores.is_member == member
        for name, values in {**scores.components, "blind": scores.blind}.items():
            assert np.array_equal(np.sort(rows[name].to_numpy()), np.sort(values[mask]))
    assert table["member"].to_list() != sorted(table["member"].to_list(), reverse=True)
    together = table.select("loss", "min_k").rows()
    assert set(together) == set(zip(scores.components["loss"], scores.components["min_k"], strict=True))

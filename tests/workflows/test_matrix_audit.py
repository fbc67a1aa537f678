"""Scores of many models that were kept: a leak is found, nobody where there is none, nonsense refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from primum.cli.main import run
from primum.errors import InputError
from primum.evidence.membership import combined_score
from primum.models.recorded_predictions import read_score_matrix
from primum.workflows.matrix_audit import MatrixPlan, run_matrix_audit

MODELS, PATIENTS, EACH = 40, 300, 2


def kept(folder: Path, *, memory: float, seed: int = 0, **more: Any) -> Path:
    """Each model is surer by about `memory` of the patients it trained on; case by case some are easier."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(PATIENTS), EACH)
    inside = (rng.random((MODELS, PATIENTS)) < 0.5)[:, patient]
    scores = rng.normal(2, 1.5, len(patient)) + rng.normal(0, 0.7, inside.shape) + memory * inside
    parts = {"scores": scores, "inside": inside, "subject_id": patient, "label": patient % 2, **more}
    folder.mkdir(exist_ok=True)
    np.savez(folder / "score_matrix.npz", **{name: one for name, one in parts.items() if one is not None})
    return folder


def verdicts(folder: Path) -> dict[str, str]:
    plan = MatrixPlan(read_score_matrix(folder), membership="randomised")
    return {one.test: one.verdict for one in run_matrix_audit(plan).audit.findings}


def test_a_leak_is_found_by_the_command_and_follows_from_what_was_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, out = kept(tmp_path / "scores", memory=1.0), tmp_path / "out"
    assert run(["audit", str(place), "--membership", "randomised", "--out", str(out)]) == 1
    found = {one["test"]: one for one in json.loads((out / "findings.json").read_bytes())["findings"]}
    assert found["membership.combined.auc"]["verdict"] == "leak"
    assert found["membership.combined.auc"]["settings"]["score"] == "rmia"
    # Nobody saw the cases themselves.
    assert found["data.overlap"]["verdict"] == "not_applicable"
    assert found["membership.label_only.auc"]["verdict"] == "not_applicable"
    capsys.readouterr()
    assert run(["report", "recompute", str(out)]) == 0


def test_nobody_is_found_where_nothing_is_remembered(tmp_path: Path) -> None:
    found = [verdicts(kept(tmp_path / str(seed), memory=0.0, seed=seed)) for seed in range(5)]
    assert not [one for each in found for one in each.values() if one == "leak"]


def test_classes_are_those_that_occur_whatever_their_numbers(tmp_path: Path) -> None:
    patient = np.repeat(np.arange(PATIENTS), EACH)
    far = np.where(patient % 2, np.int64(-7), np.int64(1 << 40))
    found = verdicts(kept(tmp_path / "far", memory=1.0, label=far))
    assert {one for one in found if "@class=" in one} >= {
        "membership.combined.auc@class=-7",
        f"membership.combined.auc@class={1 << 40}",
    }
    assert verdicts(kept(tmp_path / "none", memory=1.0, label=None))["membership.combined.auc"] == "leak"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"inside": np.ones((MODELS, PATIENTS * EACH), np.bool_)}, "nobody to compare"),
        ({"subject_id": np.arange(PATIENTS * EACH) // 7}, "one case and not on another"),
    ],
)
def test_what_cannot_be_judged_is_refused(tmp_path: Path, more: dict[str, Any], words: str) -> None:
    place = kept(tmp_path / "scores", memory=0.0, **more)
    with pytest.raises(InputError, match=words):
        verdicts(place)


def test_a_class_for_every_case_is_refused(tmp_path: Path) -> None:
    """One column a class and case would fill the memory."""
    count = 1100
    inside = np.random.default_rng(0).random((3, count)) < 0.5
    np.savez(tmp_path / "score_matrix.npz", scores=inside * 1.0, inside=inside, label=np.arange(count))
    with pytest.raises(InputError, match="1100 different values, and at most 1000"):
        verdicts(tmp_path)


def test_the_combined_score_is_one_of_shadows_or_else_loss_and_quantile() -> None:
    one = {name: np.random.default_rng(place).random(50) for place, name in enumerate("abcd")}
    plain = dict(zip(("loss", "entropy", "label_only", "quantile"), one.values(), strict=True))
    assert combined_score({**plain, "lira": one["a"], "rmia": one["b"]})[0] == "rmia"
    assert combined_score({**plain, "lira": one["a"]})[0] == "lira"
    both = combined_score({"loss": plain["loss"], "quantile": plain["quantile"]})[1]
    np.testing.assert_array_equal(combined_score(plain)[1], both)

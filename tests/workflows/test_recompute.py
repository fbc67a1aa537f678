"""What was kept of each patient gives every finding again, and nothing else does."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from primum.cli.main import run
from primum.errors import InputError, PrimumError
from primum.evidence.audit import Audit
from primum.evidence.canonical import canonical_bytes
from primum.evidence.claims import Measurements, Overlap, findings_of, order_of
from primum.evidence.contrast import Frame
from primum.evidence.finding import Message, Scalar
from primum.evidence.identity import ModelRef
from primum.evidence.measured import Curve, Guesses, Measured
from primum.evidence.membership import CanaryScores, PatientScores
from primum.workflows.confidential import read_measurements, write_measurements
from primum.workflows.recompute import recompute

SIDE = 150
_FRAME = Frame("m" * 64, "d" * 64, "scores", "observed", 3)
_OVERLAP = Overlap(2, SIDE + 2, SIDE)


def scores(*, leak: float = 1.0) -> PatientScores:
    rng = np.random.default_rng(1)
    is_member = np.arange(2 * SIDE) < SIDE
    names = ("loss", "min_k", "min_k_pp")
    return PatientScores(
        is_member,
        rng.normal(size=2 * SIDE),
        rng.integers(0, 6, 2 * SIDE),
        {name: rng.normal(size=2 * SIDE) + leak * is_member for name in names},
        {"sex=F": rng.random(2 * SIDE) < 0.5, 'site=<b>"A": é': rng.random(2 * SIDE) < 0.2},
    )


def everyone() -> Measured:
    rng = np.random.default_rng(2)
    labels = rng.random((2 * SIDE, 2)) < 0.4
    guessed = rng.normal(size=(2 * SIDE, 2)) + labels * (0.5 + (np.arange(2 * SIDE) < SIDE))[:, None]
    guesses = Guesses(("hiv", "a:true"), guessed, labels, rng.normal(size=(2 * SIDE, 2)))
    return Measured(
        np.arange(2 * SIDE),
        guesses={"sensitive.inferred": guesses},
        settings={"calibrated": False, "share": 1 / 3, "whole": 2.0},
    )


def sample() -> Measured:
    rng = np.random.default_rng(3)
    rows = np.sort(rng.choice(2 * SIDE, 120, replace=False))
    depth = rng.normal(size=120) + 2 * (rows < SIDE)
    depth[4] = np.nan
    curves = {
        name: Curve((0.0, 1.5), np.where(rng.random((120, 2)) < 0.1, np.nan, rng.random((120, 2))), "nats")
        for name in ("z_first", "a_second")
    }
    return Measured(
        rows,
        scores={"knowledge.depth": depth, "knowledge.cost": rng.random(120)},
        curves={"knowledge.depth": curves},
        refused={
            "trajectory.verbatim": Message("model_cannot", {"protocol": "Generator"}),
            "embedding.probe": Message("model_cannot", {"protocol": "Embedder"}),
        },
    )


def canaries() -> CanaryScores:
    rng = np.random.default_rng(4)
    planted = np.arange(60) % 2 == 0
    return CanaryScores(rng.normal(size=60) + planted, planted, np.where(np.arange(60) < 30, 1, 16))


def measurements(**changed: Any) -> Measurements:
    settings: dict[str, Scalar] = {"reference_models": 0, "unscored": 3, "reference_digests": ""}
    whole = Measurements(scores(), [everyone(), sample()], canaries(), _FRAME, _OVERLAP, settings)
    return replace(whole, **changed)


def keep(folder: Path, given: Measurements) -> Path:
    audit = Audit(ModelRef("m", "m" * 64, "computed", {}), {}, {}, "primum", 3, findings_of(given))
    (folder / "confidential").mkdir()
    (folder / "findings.json").write_bytes(canonical_bytes(audit))
    write_measurements(folder / "confidential", given, order=order_of(given))
    return folder


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return keep(tmp_path, measurements())


WAYS: dict[str, dict[str, Any]] = {
    "everything": {},
    "membership alone": {"measured": [], "canaries": None},
    "one family": {"only": ("knowledge",), "canaries": None},
    "one group": {"only": ("membership.combined.auc@sex=F",)},
    "randomised, another seed": {"frame": replace(_FRAME, membership="randomised", seed=8)},
    "a clean model with a reference": {
        "scores": replace(scores(leak=0.0), components={"loss": scores().blind, "ratio": scores().blind + 1})
    },
}


@pytest.mark.parametrize("way", WAYS)
def test_every_finding_follows_from_what_was_kept(way: str, tmp_path: Path) -> None:
    given = measurements(**WAYS[way])
    compared, differences = recompute(keep(tmp_path, given))
    assert (compared, differences) == (len(findings_of(given)), ())
    assert canonical_bytes(findings_of(read_measurements(tmp_path / "confidential"))) == canonical_bytes(
        findings_of(given)
    )


def test_the_order_of_the_patients_changes_nothing() -> None:
    given = measurements()
    mixed = np.random.default_rng(9).permutation(2 * SIDE)
    place = np.argsort(mixed)

    def moved(family: Measured) -> Measured:
        shuffled = np.random.default_rng(10).permutation(len(family.rows))
        return replace(
            family,
            rows=place[family.rows][shuffled],
            scores={test: one[shuffled] for test, one in family.scores.items()},
            guesses={test: one.within(shuffled) for test, one in family.guesses.items()},
            curves={
                test: {name: replace(one, values=one.values[shuffled]) for name, one in curves.items()}
                for test, curves in family.curves.items()
            },
        )

    other = replace(
        given,
        scores=PatientScores(
            given.scores.is_member[mixed],
            given.scores.blind[mixed],
            given.scores.strata[mixed],
            {name: one[mixed] for name, one in given.scores.components.items()},
            {name: one[mixed] for name, one in given.scores.subgroups.items()},
        ),
        measured=[moved(family) for family in given.measured],
    )
    assert canonical_bytes(findings_of(other)) == canonical_bytes(findings_of(given))
    assert sorted(order_of(given)) == list(range(2 * SIDE))
    ranks = np.corrcoef(np.argsort(order_of(given)), np.arange(2 * SIDE))[0, 1]
    assert abs(ranks) < 0.2


def test_rows_in_another_order_are_the_same_patients(kept: Path) -> None:
    for name in ("scores", "curves"):
        path = kept / "confidential" / f"{name}.parquet"
        pl.read_parquet(path).sort("patient", descending=True).write_parquet(path)
    assert recompute(kept)[1] == ()


@pytest.mark.parametrize(
    ("test", "key", "value"),
    [
        ("membership.combined.auc", "p_value", 0.5),
        ("membership.combined.auc", "verdict", "none_found"),
        ("knowledge.depth", "p_adjusted", 1e-8),
        ("sensitive.inferred", "material", 0.06),
        ("membership.canary", "seed", 4),
    ],
)
def test_an_altered_finding_is_named(kept: Path, test: str, key: str, value: object) -> None:
    document = json.loads((kept / "findings.json").read_bytes())
    (finding,) = [one for one in document["findings"] if one["test"] == test]
    finding[key] = value
    finding["harmful"] = finding["verdict"] == "leak"
    (kept / "findings.json").write_bytes(canonical_bytes(document))
    (difference,) = recompute(kept)[1]
    assert difference.test == test
    assert difference.key in (key, "harmful")


@pytest.mark.parametrize(("off", "equal"), [(2e-10, True), (3e-9, False)])
def test_equal_means_to_a_billionth(kept: Path, off: float, equal: bool) -> None:
    document = json.loads((kept / "findings.json").read_bytes())
    estimate = document["findings"][1]["estimates"][0]
    estimate["high"] += off
    (kept / "findings.json").write_bytes(canonical_bytes(document))
    differences = recompute(kept)[1]
    assert [one.key for one in differences] == ([] if equal else ["estimates[0].high"])


def test_a_finding_left_out_or_told_twice_is_named(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads((kept / "findings.json").read_bytes())
    lost = document["findings"].pop(3)
    document["findings"].append(document["findings"][1])
    (kept / "findings.json").write_bytes(canonical_bytes(document))
    assert [one.test for one in recompute(kept)[1]] == ["membership.combined.auc", lost["test"]]
    assert run(["report", "recompute", str(kept), "--lang", "en"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[-1].startswith("Different: 2 of ")
    assert said[1] == f"{lost['test']} : – → …"


def test_a_patient_more_or_less_is_another_audit(kept: Path) -> None:
    path = kept / "confidential" / "scores.parquet"
    table = pl.read_parquet(path)
    table.with_columns(loss=pl.when(pl.col("patient") == 0).then(9.0).otherwise("loss")).write_parquet(path)
    assert recompute(kept)[1]


def _without(column: str) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda table: table.drop(column)


def _with(name: str, cell: object, kind: Any = None) -> Callable[[pl.DataFrame], pl.DataFrame]:
    def changed(table: pl.DataFrame) -> pl.DataFrame:
        cells = table[name].to_list()
        return table.with_columns(pl.Series(name, [cell, *cells[1:]], dtype=kind, strict=False))

    return changed


BROKEN: dict[str, tuple[str, Callable[[pl.DataFrame], pl.DataFrame], str]] = {
    "no members": ("scores", _without("member"), "member"),
    "no truth": ("scores", _without("sensitive.inferred:hiv:true"), "sensitive.inferred:hiv:true"),
    "no group": ("scores", _without("in:sex=F"), "in:sex=F"),
    "no curve": ("curves", _without("knowledge.depth:a_second:1"), "knowledge.depth:a_second:1"),
    "text": ("scores", _with("loss", "x", pl.String), "loss"),
    "a hole": ("scores", _with("blind", None), "blind"),
    "not a number": ("scores", _with("loss", float("nan")), "loss"),
    "infinite": ("scores", _with("min_k", float("inf")), "min_k"),
    "a negative stratum": ("scores", _with("stratum", -1), "stratum"),
    "a huge stratum": ("scores", _with("stratum", 2**50), "stratum"),
    "half a truth": ("scores", _with("sensitive.inferred:hiv:true", 0.5), "sensitive.inferred"),
    "a guess too few": ("scores", _with("sensitive.inferred:hiv", None), "sensitive.inferred"),
    "curves cut": ("curves", lambda table: table.head(7), "z_first"),
    "nobody": ("scores", lambda table: table.head(0), ""),
    "no outsiders": ("scores", lambda table: table.filter("member"), ""),
    "canaries of text": ("canaries", _with("score", "x", pl.String), "score"),
    "a canary without score": ("canaries", _with("score", float("nan")), "score"),
}


@pytest.mark.parametrize("way", BROKEN)
def test_hostile_tables_are_refused(kept: Path, way: str) -> None:
    name, change, column = BROKEN[way]
    path = kept / "confidential" / f"{name}.parquet"
    change(pl.read_parquet(path)).write_parquet(path)
    with pytest.raises(InputError) as raised:
        recompute(kept)
    assert column in str(raised.value)


@pytest.mark.parametrize(
    "name", ["scores.parquet", "curves.parquet", "canaries.parquet", "measurements.json"]
)
def test_cut_files_are_refused(kept: Path, name: str) -> None:
    path = kept / "confidential" / name
    path.write_bytes(path.read_bytes()[:-40])
    assert run(["report", "recompute", str(kept)]) == 2
    path.unlink()
    assert run(["report", "recompute", str(kept)]) == (4 if name == "scores.parquet" else 2)


def _set(*keys: str | int, value: object) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("components", value=["loss", "made_up"]),
        _set("families", 0, "guesses", 0, "test", value="no.such"),
        _set("families", 0, "guesses", 0, "facts", value=[]),
        _set("families", 1, "refused", 0, "test", value="no.such"),
        _set("families", 1, "curves", 0, "x", value=[]),
        _set("frame", "seed", value=-1),
        _set("frame", "membership", value="perhaps"),
        _set("schema", value="9.0"),
        _set("overlap", value=[1, 2, 3]),
        _set("extra", value=1),
    ],
)
def test_hostile_measurements_are_refused(kept: Path, change: Callable[[Any], None]) -> None:
    path = kept / "confidential" / "measurements.json"
    document = json.loads(path.read_bytes())
    change(document)
    path.write_bytes(canonical_bytes(document))
    with pytest.raises(InputError):
        recompute(kept)


def test_mutated_json_never_gives_a_trace(kept: Path) -> None:
    path = kept / "confidential" / "measurements.json"
    whole, rng = path.read_bytes(), np.random.default_rng(6)
    refused = 0
    for place in rng.integers(0, len(whole), 150):
        path.write_bytes(whole[:place] + bytes([rng.integers(32, 127)]) + whole[place + 1 :])
        try:
            read_measurements(kept / "confidential")
        except PrimumError:
            refused += 1
    assert refused > 50


_WITHOUT_TORCH = """
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, *more):
        absent = name.partition(".")[0] in ("torch", "transformers", "safetensors", "opacus")
        return None if absent else self.finder.find_spec(name, *more)
sys.meta_path = [Without(one) for one in sys.meta_path]
from primum.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


def test_a_machine_without_torch_recomputes(kept: Path) -> None:
    command = [sys.executable, "-c", _WITHOUT_TORCH, "report", "recompute", str(kept), "--lang", "en"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Equal: all ")

"""The examples run, and say what their page promises."""

import os
import re
import runpy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from primum.cli.main import run
from primum.evidence.audit import Audit
from primum.evidence.documents import read_audit
from primum.evidence.finding import Finding
from primum.evidence.rules import RULES_OF
from primum.models.causal import CausalModel
from primum.models.doors import open_model
from primum.records.histories import FloatArray
from primum.records.meds import MedsFolder
from primum.records.tokens import TokenBatch
from primum.workflows.audit import run_audit
from primum.workflows.command import audit_plan

RULES = RULES_OF["sequence"]

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
REAL = Path(os.environ.get("PRIMUM_REAL_DATA") or ROOT.parent / "shared" / "data") / "ehr-mimic3-demo-meds"
PRIMARY, FEW_FALSE = "membership.combined.auc", "membership.combined.tpr"


def finding(audit: Audit, test: str) -> Finding:
    return next(one for one in audit.findings if one.test == test)


def needed(one: Finding) -> Mapping[str, Any]:
    return next(reason.parameters for reason in one.reasons if reason.code == "needs_patients")


def test_audit_in_python() -> None:
    audit = runpy.run_path(str(EXAMPLES / "audit_in_python.py"))["main"]()
    primary = finding(audit, PRIMARY)
    assert (audit.exit_status, primary.verdict) == (1, "leak")
    assert primary.estimates[0].n == (40, 60)
    assert primary.estimates[0].low > 0.55


def test_a_recording_is_audited_where_it_can_be() -> None:
    audit = runpy.run_path(str(EXAMPLES / "audit_recorded.py"))["main"]()
    assert (audit.exit_status, audit.model.identity) == (1, "declared")
    assert finding(audit, PRIMARY).verdict == "leak"
    assert finding(audit, "trajectory.codes").estimates[0].n > (20, 20)
    assert finding(audit, "embedding.probe").estimates
    for test in ("knowledge.depth", "extraction.passages", "perturbation.combined", "sensitive.inferred"):
        assert finding(audit, test).reasons[0].code == "model_cannot"


def test_a_mamba2_folder_is_asked_by_every_family(capsys: pytest.CaptureFixture[str]) -> None:
    audit = runpy.run_path(str(EXAMPLES / "audit_mamba2.py"))["main"]()
    said = capsys.readouterr().out
    assert "context = 2048" in said
    assert "begin = BEGIN" in said
    assert (audit.exit_status, finding(audit, PRIMARY).verdict) == (1, "leak")
    for test in RULES:
        assert finding(audit, test).verdict != "not_applicable", test


def test_every_example_is_on_its_page_and_short() -> None:
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    scripts = sorted(EXAMPLES.glob("*.py"))
    assert len(scripts) == 13
    for script in scripts:
        assert f"({script.name})" in page
        most = 60 if script.name.startswith("audit_") else 140
        assert len(script.read_text(encoding="utf-8").splitlines()) <= most


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not REAL.is_dir():
        pytest.skip("the MIMIC-III demo is not here")
    out = tmp_path_factory.mktemp("mimic3")
    statuses = runpy.run_path(str(EXAMPLES / "mimic3_demo.py"))["main"](REAL, out)
    assert statuses == {"plain": 1, "private": 3}
    return out


@pytest.mark.real_data
def test_real_people_a_large_leak_is_seen(real: Path) -> None:
    audit, _ = read_audit(real / "plain")
    primary = finding(audit, PRIMARY)
    assert audit.patients == {"members": 50, "held_out": 40}
    assert primary.verdict == "leak"
    assert primary.estimates[0].low > 0.7


@pytest.mark.real_data
def test_real_people_what_lacks_power_is_inconclusive(real: Path) -> None:
    for name, tests in (("plain", [FEW_FALSE]), ("private", [PRIMARY, FEW_FALSE])):
        audit, _ = read_audit(real / name)
        assert [finding(audit, test).verdict for test in tests] == ["inconclusive"] * len(tests)
        few = next(r for r in finding(audit, FEW_FALSE).reasons if r.code == "too_few_patients")
        assert few.parameters == {"have": 40, "needed": 300}
    private, _ = read_audit(real / "private")
    assert not any(one.harmful for one in private.findings)
    combined = [one for one in private.findings if one.test.startswith("membership.combined")]
    assert {one.verdict for one in combined} <= {"inconclusive", "confounded"}


@dataclass(frozen=True)
class ScoresOnly:
    """A model that says how likely things are, and nothing else."""

    model: CausalModel

    def log_probs(self, tokens: TokenBatch) -> list[FloatArray]:
        return self.model.log_probs(tokens)


@pytest.mark.real_data
def test_real_people_are_asked_by_every_family(real: Path) -> None:
    for name in ("plain", "private"):
        found = {one.test: one for one in read_audit(real / name)[0].findings}
        assert not RULES.keys() - found.keys()
        for test in RULES:
            refused = found[test].verdict == "not_applicable"
            # These records name no site; everything else can be asked of a model that generates and embeds.
            assert refused == (test == "perturbation.site"), test
    assert found["perturbation.site"].reasons[0].code == "no_identifier"


@pytest.mark.real_data
def test_real_people_of_a_model_that_only_scores(real: Path) -> None:
    opened = open_model(real / "models" / "private")
    assert isinstance(opened.scorer, CausalModel)
    records = MedsFolder(REAL)
    plan = audit_plan(replace(opened, scorer=ScoresOnly(opened.scorer)), records=records, sampled=40)
    found = {one.test: one for one in run_audit(plan).audit.findings}
    for test, protocol in (
        ("trajectory.codes", "Generator"),
        ("sensitive.inferred", "MassScorer"),
        ("sensitive.sampled", "Generator"),
        ("embedding.probe", "Embedder"),
        ("embedding.linkage", "Embedder"),
    ):
        assert found[test].verdict == "not_applicable"
        assert found[test].reasons[0].parameters == {"protocol": protocol}
    for test in ("trajectory.likelihood", "knowledge.depth", "extraction.passages", "perturbation.combined"):
        assert found[test].verdict != "not_applicable"


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("lang", "sentence"),
    [
        ("en", "at least {} training and {} held-out patients would be needed"),
        ("fr", "il faudrait au moins {} patients d’entraînement et {} témoins"),
    ],
)
def test_real_people_the_report_says_how_many_would_be_needed(
    real: Path, tmp_path: Path, lang: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "report.html"
    assert run(["report", "show", str(real / "private"), "--lang", lang, "--html", str(page)]) == 0
    numbers = needed(finding(read_audit(real / "private")[0], PRIMARY))
    assert numbers == {"needed_members": 590, "needed_held_out": 472}
    expected = sentence.format(numbers["needed_members"], numbers["needed_held_out"])
    for said in (capsys.readouterr().out, page.read_text(encoding="utf-8")):
        assert expected in re.sub(r"\s+", " ", said)
    if lang == "en":
        assert expected in re.sub(r"\s+", " ", (real / "private" / "report.html").read_text(encoding="utf-8"))


@pytest.mark.real_data
def test_real_people_stay_out_of_the_shareable_files(real: Path) -> None:
    import pyarrow.parquet as pq

    ids = pq.read_table(REAL / "metadata" / "subject_splits.parquet")["subject_id"].to_pylist()
    assert len(ids) == 100
    for name in ("plain", "private"):
        for file in ("findings.json", "report.html", "run.json"):
            text = (real / name / file).read_text(encoding="utf-8")
            words = set(re.findall(r"(?<![\d.])\d{5,}(?![\d.])", text))
            assert not words & {str(one) for one in ids if one >= 10_000}, (name, file)

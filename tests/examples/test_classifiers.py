"""The examples of classifiers run, and say what their page promises."""

import runpy
from pathlib import Path

from primum.evidence.audit import Audit

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def verdicts(name: str) -> tuple[Audit, dict[str, str]]:
    audit: Audit = runpy.run_path(str(EXAMPLES / name))["main"]()
    return audit, {one.test: one.verdict for one in audit.findings}


def test_a_classifier_trained_too_long_remembers_its_images() -> None:
    audit, found = verdicts("audit_classifier.py")
    assert (audit.exit_status, found["membership.combined.auc"]) == (1, "leak")
    assert found["inversion.instance"] != "not_applicable"
    assert found["membership.lira.auc"] == "not_applicable"


def test_a_table_model_that_keeps_patients_is_seen_through() -> None:
    audit, found = verdicts("audit_table.py")
    assert audit.exit_status == 1
    assert (found["membership.combined.auc"], found["structure.stored"]) == ("leak", "leak")
    assert found["attribute.inferred"] != "not_applicable"
    assert found["membership.lira.auc"] == found["membership.rmia.auc"] == "descriptive"

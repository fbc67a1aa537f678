"""Audits that users have kept: one of each schema that is read, as it was written then."""

import json
import shutil
from pathlib import Path

import pytest

from primum.cli.main import run
from primum.evidence.audit import SCHEMA
from primum.evidence.canonical import canonical_bytes
from primum.evidence.documents import read_audit
from primum.evidence.rules import TESTS, family_of
from primum.workflows.recompute import recompute

FIXTURES = Path(__file__).parent / "fixtures"
KEPT = sorted(path for path in FIXTURES.iterdir() if (path / "findings.json").exists())


def test_the_present_schema_is_kept_and_no_old_one_was_lost() -> None:
    assert SCHEMA in {path.name for path in KEPT}, "python -m tests.report.fixtures"
    assert "1.0" in {path.name for path in KEPT}


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.name)
def test_a_kept_audit_is_read_whole(kept: Path) -> None:
    written = (kept / "findings.json").read_bytes()
    audit, _ = read_audit(kept)
    assert json.loads(written)["schema"] == audit.schema == kept.name
    assert {family_of(one.test) for one in audit.findings} >= {family_of(test) for test in TESTS["sequence"]}
    if kept.name == SCHEMA:
        assert canonical_bytes(audit) == written


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.name)
@pytest.mark.parametrize(("language", "answer"), [("en", "Leak"), ("fr", "Fuite")])
def test_a_kept_audit_is_shown(
    kept: Path, language: str, answer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert run(["report", "show", str(kept), "--lang", language, "--html", str(page)]) == 0
    said = capsys.readouterr()
    assert answer in said.out
    assert said.err == ""
    assert f'<html lang="{language}"' in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.name)
def test_a_kept_audit_is_recomputed(kept: Path) -> None:
    compared, differences = recompute(kept)
    assert differences == ()
    assert compared == len(read_audit(kept)[0].findings)


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.name)
def test_the_signature_of_a_kept_audit_is_checked(kept: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(kept, tmp_path / "copy"))
    key = str(kept / "public.pem")
    assert run(["report", "check", str(copy), "--public-key", key]) == 0
    (copy / "findings.json").write_bytes(
        (kept / "findings.json").read_bytes().replace(b'"leak"', b'"LEAK"', 1)
    )
    assert run(["report", "check", str(copy), "--public-key", key]) == 1


def test_a_file_of_the_next_major_is_refused_with_its_schema(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    following = f"{int(SCHEMA.partition('.')[0]) + 1}.0"
    document = json.loads((FIXTURES / SCHEMA / "findings.json").read_bytes())
    (tmp_path / "findings.json").write_bytes(canonical_bytes({**document, "schema": following}))
    assert run(["report", "show", str(tmp_path), "--lang", "en"]) == 2
    assert f"has schema {following}" in capsys.readouterr().err

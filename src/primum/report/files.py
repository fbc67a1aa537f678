"""Writing the files of an audit: ``findings.json``, ``report.html``, ``run.json``."""

from collections.abc import Mapping
from pathlib import Path

from primum.evidence.audit import FINDINGS, REPORT, RUN, Audit
from primum.evidence.canonical import canonical_bytes
from primum.report.html import render
from primum.report.language import Language


def write_audit(directory: Path, audit: Audit, *, run: Mapping[str, object], language: Language) -> None:
    """Write the three shareable files of an audit into an existing folder.

    Parameters
    ----------
    directory : Path
        Usually a temporary folder that the caller renames when everything is written.
    audit : Audit
    run : mapping
        What may differ between two runs of one audit: ``date`` (ISO 8601), ``stages`` (name to seconds),
        ``machine``, ``versions``. Never part of the findings.
    language : Language
        Of the report; the other two files have no sentences.
    """
    (directory / FINDINGS).write_bytes(canonical_bytes(audit))
    (directory / RUN).write_bytes(canonical_bytes(run))
    (directory / REPORT).write_text(render(audit, run, language=language), encoding="utf-8")

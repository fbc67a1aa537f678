import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.report import samples

from primum.errors import InputError
from primum.evidence.audit import Audit
from primum.evidence.canonical import canonical_bytes, plain
from primum.evidence.documents import read_audit
from primum.evidence.estimate import Estimate
from primum.evidence.finding import HARM_WORDS, Finding, Message, Series
from primum.report import files
from primum.report.files import write_audit
from primum.report.language import Language

SCHEMA = json.loads((Path(files.__file__).parent / "findings.schema.json").read_text(encoding="utf-8"))
_words = st.text(st.characters(codec="utf-8"), max_size=12)
_floats = st.floats(allow_infinity=False)
_integers = st.integers(-(2**53) + 1, 2**53 - 1)
_scalars = st.dictionaries(
    _words, st.none() | st.booleans() | _words | _integers | st.floats(allow_nan=False, allow_infinity=False)
)
_estimates = st.builds(
    Estimate,
    _words,
    _floats,
    _floats,
    _floats,
    st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)),
    _words,
    st.floats(0.5, 0.999),
)
_cells = st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False), max_size=3).map(tuple)
_probabilities = st.none() | st.floats(0, 1)
_findings = st.builds(
    Finding,
    test=_words,
    verdict=st.sampled_from(["leak", "tainted", "none_found", "inconclusive", "descriptive"]),
    harmful=st.just(False),
    model=_words,
    data=_words,
    p_value=_probabilities,
    p_adjusted=_probabilities,
    material=_probabilities,
    estimates=st.lists(_estimates, max_size=2).map(tuple),
    subgroups=st.lists(_words, max_size=2).map(tuple),
    membership=st.sampled_from(["observed", "randomised"]),
    settings=_scalars,
    seed=_integers,
    reasons=st.lists(st.builds(Message, _words, _scalars), max_size=2).map(tuple),
    series=st.lists(st.builds(Series, _words, st.dictionaries(_words, _cells, max_size=2)), max_size=1).map(
        tuple
    ),
).map(lambda finding: replace(finding, harmful=finding.verdict in HARM_WORDS))


def written(directory: Path, audit: Audit) -> Path:
    write_audit(directory, audit, run=samples.RUN, language=Language("fr"))
    return directory


@pytest.mark.parametrize("name", ["inconclusive", "hostile"])
def test_what_is_written_follows_the_schema_and_reads_back(name: str, tmp_path: Path) -> None:
    audit = samples.ALL[name]()
    document = json.loads((written(tmp_path, audit) / "findings.json").read_bytes())
    jsonschema.validate(document, SCHEMA)
    again, run = read_audit(tmp_path)
    assert plain(again) == plain(audit)
    assert run == samples.RUN
    assert again.exit_status == audit.exit_status
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


@settings(max_examples=40, deadline=None)
@given(st.lists(_findings, max_size=2).map(tuple), _scalars)
def test_reading_what_was_written_is_the_identity(
    tmp_path_factory: pytest.TempPathFactory, findings: tuple[Finding, ...], context: dict[str, Any]
) -> None:
    audit = replace(samples.clean(), findings=findings, context=context)
    directory = tmp_path_factory.mktemp("audit")
    (directory / "findings.json").write_bytes(canonical_bytes(audit))
    again, run = read_audit(directory)
    jsonschema.validate(json.loads(canonical_bytes(audit)), SCHEMA)
    assert run == {}
    # Compared through JSON, because a value that is missing is nan, which equals nothing.
    assert canonical_bytes(again) == canonical_bytes(audit)
    nothing = [math.isnan(e.value) for f in again.findings for e in f.estimates]
    assert nothing == [math.isnan(e.value) for f in audit.findings for e in f.estimates]
    assert [type(e.low) for f in again.findings for e in f.estimates] == [float] * len(nothing)
    assert [s.columns for f in again.findings for s in f.series] == [
        s.columns for f in audit.findings for s in f.series
    ]


def _set(*path: str | int, value: object) -> Callable[[dict[str, Any]], None]:
    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda document: document.pop("seed"), "seed"),
        (lambda document: document.update(surprise=1), "surprise"),
        (_set("seed", value="7"), "seed"),
        (_set("seed", value=True), "seed"),
        (_set("model", "identity", value="guessed"), "model.identity"),
        (_set("model", value=[]), "model"),
        (_set("findings", 1, "estimates", 0, "value", value="0.9"), "findings[1].estimates[0].value"),
        (_set("findings", 1, "estimates", 0, "value", value=True), "findings[1].estimates[0].value"),
        (_set("findings", 1, "verdict", value="fine"), "findings[1].verdict"),
        (_set("findings", 1, "harmful", value=False), "findings[1].harmful"),
        (_set("findings", 1, "p_value", value=False), "findings[1].p_value"),
        (_set("findings", 1, "settings", "score", value=[1]), "findings[1].settings.score"),
        (_set("patients", "members", value=1.5), "patients.members"),
        (_set("schema", value="2.0"), "schema"),
        (_set("schema", value=None), "schema"),
    ],
)
def test_an_altered_file_is_refused_by_name_and_key(
    change: Callable[[dict[str, Any]], None], named: str, tmp_path: Path
) -> None:
    document = plain(samples.leaking())
    change(document)
    (tmp_path / "findings.json").write_text(json.dumps(document))
    with pytest.raises(InputError) as caught:
        read_audit(tmp_path)
    assert "findings.json" in str(caught.value)
    assert named in str(caught.value)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, SCHEMA)


def test_the_previous_major_is_still_read(tmp_path: Path) -> None:
    (tmp_path / "findings.json").write_bytes(canonical_bytes(replace(samples.clean(), schema="0.9")))
    assert read_audit(tmp_path)[0].schema == "0.9"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b'{"seed": NaN}',
        b'{"a": 1, "a": 2}',
        b"\xff\xfe{",
        b"[" * 100_000,
        b'{"a": ' * 50_000,
    ],
)
def test_what_is_not_json_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "findings.json").write_bytes(content)
    with pytest.raises(InputError, match="not valid JSON"):
        read_audit(tmp_path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_audit(tmp_path)


def test_a_broken_run_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "findings.json").write_bytes(canonical_bytes(samples.clean()))
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json"):
        read_audit(tmp_path)

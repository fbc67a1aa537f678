"""One cohort, one model, three doors: what an audit says does not depend on how the model came in."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests import tiny
from tests.conformance.doors import served
from tests.examples.test_wire_server import WITHOUT_TORCH

from primum.cli.main import run
from primum.evidence.audit import Audit
from primum.evidence.claims import columns_of
from primum.evidence.documents import read_audit
from primum.evidence.finding import Finding
from primum.evidence.rules import TESTS
from primum.fit.causal_recipe import SmallCausalRecipe
from primum.fit.loop import LoopSettings
from primum.models.causal import CausalModel
from primum.models.doors import open_model
from primum.models.hf_folder import save_folder
from primum.models.opened import OpenedModel
from primum.models.protocols import BoolArray
from primum.models.recorded import EMBEDDINGS, SCORES, TRAJECTORIES
from primum.records.histories import FloatArray, InMemory, concatenate
from primum.records.meds import MedsFolder
from primum.records.synthetic import SyntheticSettings, synthetic_cohort
from primum.records.tokens import TokenBatch
from primum.workflows.audit import run_audit
from primum.workflows.command import audit_plan
from primum.workflows.plan import AuditResult

SIDE = 40
# The longest prompt must fit: a recording whose prompts were cut does not begin the patient's record.
CONTEXT = 512
CONTINUED = {"trajectory.codes", "trajectory.verbatim", "trajectory.distance"}
ASKED_OF_RECORDINGS = {"data.overlap", "embedding.probe"} | CONTINUED


@dataclass
class Noting:
    """A model that does not tell its whole distribution, and the continuations it was asked for."""

    model: CausalModel
    rows: list[dict[str, Any]] = field(default_factory=list)

    def log_probs(self, tokens: TokenBatch) -> list[FloatArray]:
        return self.model.log_probs(tokens)

    def log_masses(self, tokens: TokenBatch, groups: BoolArray) -> list[FloatArray]:
        return self.model.log_masses(tokens, groups)

    def embed(self, tokens: TokenBatch) -> FloatArray:
        return self.model.embed(tokens)

    def continue_from(self, prompts: TokenBatch, **asked: Any) -> Iterator[TokenBatch]:
        for batch in self.model.continue_from(prompts, **asked):
            for row, subject in enumerate(prompts.subject_ids.tolist()):
                texts = prompts.tokens_of(row).tolist(), batch.tokens_of(row).tolist()
                self.rows.append(
                    {"patient_id": subject, "event_tokens": texts[0], "predicted_tokens": texts[1]}
                )
            yield batch


@dataclass(frozen=True)
class House:
    """Records, a model, its server, and what the model once answered."""

    root: Path
    url: str

    def audited(self, model: OpenedModel, *only: str) -> AuditResult:
        records = MedsFolder(self.root / "meds")
        return run_audit(audit_plan(model, records=records, sampled=2 * SIDE, only=only))

    @cached_property
    def folder(self) -> OpenedModel:
        return open_model(self.root / "model")

    @cached_property
    def in_process(self) -> AuditResult:
        return self.audited(self.folder)

    @cached_property
    def without_distribution(self) -> Audit:
        """What a recording can be compared with: it does not keep the distribution either."""
        assert isinstance(self.folder.scorer, CausalModel)
        plain = replace(self.folder, scorer=Noting(self.folder.scorer))
        return self.audited(plain, "membership", "embedding", "trajectory", "data").audit


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    root = tmp_path_factory.mktemp("house")
    settings = SyntheticSettings(sizes={"train": SIDE, "held_out": SIDE}, mean_visits=4, canary_pairs=0)
    splits = dict(synthetic_cohort(settings, seed=5).splits)
    tiny.records_folder(root / "meds", splits)
    tokenizer = tiny.tokenizer_of(InMemory((concatenate([*splits.values()]),)))
    loop = LoopSettings(epochs=10, batch=8, learning_rate=1e-2)
    recipe = SmallCausalRecipe(loop, width=16, layers=1, heads=2, context=CONTEXT)
    save_folder(root / "model", recipe.fit(tokenizer.encode(splits["train"]), seed=1), tokenizer)
    with served(root / "model", root / "token") as url:
        yield House(root, url)


@pytest.fixture(scope="module")
def recorded(house: House) -> Path:
    """Write down all that the model answers about these patients, prompts as the audit makes them."""
    model, tokenizer = house.folder.scorer, house.folder.tokenizer
    assert isinstance(model, CausalModel)
    records = MedsFolder(house.root / "meds")
    sides = [shard for split in records.splits() for shard in records.split(split).shards()]
    tokens = tokenizer.encode(concatenate(sides))
    noting = Noting(model)
    house.audited(replace(house.folder, scorer=noting), "trajectory")
    path = house.root / "recorded"
    path.mkdir()
    tokenizer.vocabulary.write(path / "vocab.json")
    tokenizer.profile.write(path / "token_profile.json")
    ids, log_probs = tokens.subject_ids, [row.tolist() for row in model.log_probs(tokens)]
    pl.DataFrame({"subject_id": ids, "log_probs": log_probs}).write_parquet(path / SCORES)
    vectors = model.embed(tokens).tolist()
    pl.DataFrame({"subject_id": ids, "embedding": vectors}).write_parquet(path / EMBEDDINGS)
    pl.DataFrame(noting.rows).write_parquet(path / TRAJECTORIES)
    return path


@pytest.fixture(scope="module")
def trajectories_alone(recorded: Path) -> Path:
    path = recorded.parent / "trajectories"
    path.mkdir()
    for name in ("vocab.json", "token_profile.json", TRAJECTORIES):
        (path / name).write_bytes((recorded / name).read_bytes())
    return path


def by_test(audit: Audit) -> dict[str, Finding]:
    return {finding.test: finding for finding in audit.findings}


def same(mine: Finding, theirs: Finding, *, claims_alike: bool = True) -> None:
    """Equal to 1e-9; beside more or fewer claims, all but what their number decides."""
    assert (theirs.test, theirs.primary) == (mine.test, mine.primary)
    assert (theirs.verdict == "not_applicable") == (mine.verdict == "not_applicable")
    pairs = [(mine.p_value, theirs.p_value)]
    for one, other in zip(mine.estimates, theirs.estimates, strict=claims_alike):
        assert (other.name, other.n, other.method) == (one.name, one.n, one.method)
        pairs.append((one.value, other.value))
        if claims_alike or one.level == other.level:
            pairs += [(one.low, other.low), (one.high, other.high)]
    if claims_alike:
        assert theirs.verdict == mine.verdict
        pairs.append((mine.p_adjusted, theirs.p_adjusted))
    expected, found = np.array(pairs, np.float64).T
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def same_numbers_of_each_patient(mine: AuditResult, theirs: AuditResult) -> None:
    """Equal to the rounding of single precision: whoever else is in a batch changes the last digit."""
    one, other = columns_of(mine.measurements), columns_of(theirs.measurements)
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_allclose(other[name], values, rtol=0, atol=1e-5, err_msg=name)


def test_every_test_of_the_suite_has_its_finding(house: House) -> None:
    assert set(TESTS["sequence"]) - by_test(house.in_process.audit).keys() == set()
    asked = {
        test
        for test, finding in by_test(house.in_process.audit).items()
        if "@" not in test and finding.estimates
    }
    assert asked >= ASKED_OF_RECORDINGS - {"data.overlap"}


def test_the_wire_changes_nothing(house: House) -> None:
    there = house.audited(open_model(house.url, token_file=house.root / "token"))
    assert there.audit.model.identity == "declared"
    for mine, theirs in zip(house.in_process.audit.findings, there.audit.findings, strict=True):
        same(mine, theirs)
        assert (theirs.reasons, theirs.settings) == (mine.reasons, mine.settings)
    same_numbers_of_each_patient(house.in_process, there)


def test_a_recording_says_the_same_or_that_it_cannot(house: House, recorded: Path) -> None:
    mine, theirs = by_test(house.without_distribution), by_test(house.audited(open_model(recorded)).audit)
    assert set(TESTS["sequence"]) - theirs.keys() == set()
    for test in TESTS["sequence"]:
        if test in ASKED_OF_RECORDINGS or test.startswith("membership."):
            same(mine[test], theirs[test], claims_alike=False)
        else:
            assert theirs[test].verdict == "not_applicable", test
            assert theirs[test].reasons[0].code == "model_cannot", test


def test_who_trained_the_model_is_told_alike_by_subgroup(house: House, recorded: Path) -> None:
    theirs = house.audited(open_model(recorded), "membership")
    assert isinstance(house.folder.scorer, CausalModel)
    plain = replace(house.folder, scorer=Noting(house.folder.scorer))
    mine = house.audited(plain, "membership")
    assert sum("@" in finding.test for finding in mine.audit.findings) > 5
    for one, other in zip(mine.audit.findings, theirs.audit.findings, strict=True):
        same(one, other)
    same_numbers_of_each_patient(mine, theirs)


def test_a_patient_whom_the_recording_does_not_know_ends_the_audit(
    house: House, recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in recorded.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    pl.read_parquet(recorded / SCORES)[1:].write_parquet(tmp_path / SCORES)
    where = ["--records", str(house.root / "meds"), "--out", str(tmp_path / "report"), "--lang", "en"]
    assert run(["audit", str(tmp_path), *where]) == 2
    assert "one row for each audited patient" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "report").exists()


def test_trajectories_alone_are_audited(house: House, recorded: Path, trajectories_alone: Path) -> None:
    whole, found = (by_test(house.audited(open_model(path)).audit) for path in (recorded, trajectories_alone))
    for test in CONTINUED:
        same(whole[test], found[test], claims_alike=False)
    assert not {test for test in TESTS["sequence"] if not test.startswith("membership.")} - found.keys()
    for test in ("membership.combined.auc", "embedding.probe", "trajectory.likelihood"):
        assert found[test].verdict == "not_applicable"
        assert found[test].reasons[0].code == "model_cannot"


@pytest.mark.parametrize("name", ["recorded", "trajectories_alone"])
def test_the_command_reports_and_recomputes_a_recording_without_torch(
    house: House, name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    out, folder = tmp_path / "report", request.getfixturevalue(name)
    asked = ["audit", str(folder), "--records", str(house.root / "meds"), "--sampled", str(2 * SIDE)]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *asked, "--out", str(out), "--lang", "en"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1, 3), done.stderr
    audit, _ = read_audit(out)
    assert (audit.exit_status, audit.model.identity) == (done.returncode, "declared")
    assert run(["report", "recompute", str(out)]) == 0
    for language, sentence in (("en", '<html lang="en"'), ("fr", '<html lang="fr"')):
        page = tmp_path / f"{language}.html"
        assert run(["report", "show", str(out), "--lang", language, "--html", str(page)]) == 0
        assert sentence in page.read_text(encoding="utf-8")

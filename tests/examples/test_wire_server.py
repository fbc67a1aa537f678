"""The reference server, asked as a stranger would: the answers and the audit are those of the folder."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import tiny
from tests.conformance.doors import SECRET
from tests.conformance.doors import served as serving
from tests.models.peers import honest, peer

import primum
from primum.cli.main import run
from primum.errors import InputError, ModelError
from primum.evidence.audit import Audit
from primum.evidence.documents import read_audit
from primum.evidence.finding import Finding
from primum.models.doors import open_model
from primum.models.opened import OpenedModel
from primum.models.protocols import Sampling
from primum.models.wire_address import server_at
from primum.models.wire_connection import WireConnection
from primum.records.histories import InMemory
from primum.records.tokens import TokenBatch

LENGTHS = [5, 0, 1, 64, 65, 130, 2, 30]
# Not sys.modules[...] = None: scipy looks whether torch is there, and takes None for it.
WITHOUT_TORCH = (
    "import sys\n"
    "from importlib.machinery import ModuleSpec\n"
    "class Absent:\n"
    "    def find_spec(self, name, path=None, target=None):\n"
    "        return ModuleSpec(name, self) if name in ('torch', 'transformers') else None\n"
    "    def create_module(self, spec):\n"
    "        raise ImportError(spec.name)\n"
    "sys.meta_path.insert(0, Absent())\n"
    "from primum.cli.main import main\n"
    "main()\n"
)


@dataclass(frozen=True)
class Served:
    """A model folder and the server that offers it."""

    folder: Path
    records: Path
    url: str
    token_file: Path

    def here(self) -> OpenedModel:
        return open_model(self.folder)

    def there(self) -> OpenedModel:
        return open_model(self.url, token_file=self.token_file)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("served")
    patients = tiny.cohort(train=24, held_out=24, other=60)
    other = InMemory((patients.pop("other"),))
    tiny.records_folder(root / "records", patients)
    folder = tiny.model_folder(root / "model", tiny.tokenizer_of(other), other)
    with serving(folder, root / "token") as url:
        yield Served(folder, root / "records", url, root / "token")


@pytest.fixture(scope="module")
def here(served: Served) -> Any:
    return served.here().scorer


@pytest.fixture(scope="module")
def there(served: Served) -> Any:
    return served.there().scorer


@pytest.fixture(scope="module")
def batch(served: Served) -> TokenBatch:
    size = len(served.here().tokenizer.vocabulary)
    return tiny.random_batch(LENGTHS, vocabulary=size, seed=3, first_subject=90071992547)


def test_it_is_the_same_model(served: Served) -> None:
    here, there = served.here(), served.there()
    assert there.tokenizer == here.tokenizer
    assert (there.context, there.parameters) == (here.context, here.parameters)
    assert there.ref == replace(here.ref, identity="declared", files={})


def test_answers_are_the_same_bit_for_bit(here: Any, there: Any, batch: TokenBatch) -> None:
    for mine, theirs in zip(here.log_probs(batch), there.log_probs(batch), strict=True):
        np.testing.assert_array_equal(theirs, mine, strict=True)
    for mine, theirs in zip(here.token_scores(batch), there.token_scores(batch), strict=True):
        for one, other in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(other, one, strict=True)
    np.testing.assert_array_equal(there.embed(batch), here.embed(batch), strict=True)


def test_masses_are_the_same_bit_for_bit(here: Any, there: Any, batch: TokenBatch) -> None:
    tokens = np.arange(batch.vocabulary_size)
    groups = np.stack([tokens % 3 == 0, tokens < 0, tokens >= 0])
    for mine, theirs in zip(here.log_masses(batch, groups), there.log_masses(batch, groups), strict=True):
        np.testing.assert_array_equal(theirs, mine, strict=True)
        assert np.isneginf(theirs[:, 1]).all()


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.7, top_k=9, stop=(3, 5))])
def test_samples_are_the_same_beyond_one_request(
    here: Any, there: Any, batch: TokenBatch, sampling: Sampling
) -> None:
    prompts = tiny.random_batch([3, 0, 20, 1] * 20, vocabulary=batch.vocabulary_size)
    asked = {"samples": 3, "max_tokens": 6, "sampling": sampling, "seed": 11}
    mine, theirs = (list(model.continue_from(prompts, **asked)) for model in (here, there))
    assert len(theirs) == 3
    for one, other in zip(mine, theirs, strict=True):
        for name in ("subject_ids", "offsets", "token_ids", "kinds", "event_index"):
            np.testing.assert_array_equal(getattr(other, name), getattr(one, name), strict=True)
        assert other.vocabulary_size == one.vocabulary_size


def test_a_prompt_that_is_too_long_is_refused(there: Any, batch: TokenBatch) -> None:
    with pytest.raises(ModelError, match="status 400"):
        there.continue_from(batch, samples=1, max_tokens=6, sampling=Sampling(), seed=0)


def test_the_server_wants_its_token(served: Served, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("another", encoding="utf-8")
    for token_file in (None, tmp_path / "token"):
        with pytest.raises(InputError, match="refuses the token"):
            open_model(served.url, token_file=token_file)


def test_the_server_refuses_what_is_no_question(served: Served) -> None:
    wire = WireConnection(server_at(served.url, token_file=served.token_file))
    batch = tiny.random_batch([3], vocabulary=5)
    for question in ("parameters", "__class__", "module", "continue_from"):
        with pytest.raises(ModelError, match="status 400"):
            wire.ask(question, batch, {}, numbers=lambda length: length, parse=lambda place, line: None)


def comparable(finding: Finding) -> Finding:
    return replace(finding, model="", p_value=None, p_adjusted=None, estimates=())


def same_numbers(mine: Finding, theirs: Finding) -> None:
    assert comparable(theirs) == comparable(mine)
    assert (theirs.p_value is None) == (mine.p_value is None)
    for one, other in zip(mine.estimates, theirs.estimates, strict=True):
        assert (other.name, other.n, other.method, other.level) == (one.name, one.n, one.method, one.level)
        np.testing.assert_allclose(
            [other.value, other.low, other.high], [one.value, one.low, one.high], rtol=1e-9, atol=1e-9
        )


def test_an_audit_from_python_gives_the_same_findings(served: Served) -> None:
    folder = primum.MedsFolder(served.records)
    sides = folder.split("train"), folder.split("held_out")
    audits: list[Audit] = [
        primum.audit(model, *sides, references=[model], sampled=40, seed=2)
        for model in (served.here(), served.there())
    ]
    assert [one.model.identity for one in audits] == ["computed", "declared"]
    assert {one.test.split(".")[0] for one in audits[1].findings} > {"membership", "embedding", "trajectory"}
    for mine, theirs in zip(audits[0].findings, audits[1].findings, strict=True):
        same_numbers(mine, theirs)
    assert audits[1].context == pytest.approx(audits[0].context)


def test_the_token_goes_to_no_other_server(served: Served, tmp_path: Path) -> None:
    where = ["--records", str(served.records), "--out", str(tmp_path / "report")]
    with peer(honest) as other:
        given = ["--token-file", str(served.token_file), "--reference", other.url]
        assert run(["audit", served.url, *where, *given]) == 2
    assert other.tokens == [""]


def test_a_command_on_a_machine_without_torch(served: Served, tmp_path: Path) -> None:
    where = ["--records", str(served.records), "--token-file", str(served.token_file)]
    asked = ["audit", served.url, *where, "--reference", served.url, "--only", "membership", "--lang", "en"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *asked, "--out", str(tmp_path / "there")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1, 3), done.stderr
    written = "".join(file.read_text("utf-8") for file in (tmp_path / "there").glob("*.*"))
    assert SECRET not in written + done.stdout + done.stderr
    audit, _ = read_audit(tmp_path / "there")
    assert audit.model.identity == "declared"
    assert json.loads((tmp_path / "there" / "findings.json").read_text("utf-8"))["model"]["files"] == {}

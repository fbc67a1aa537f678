"""``primum inspect-updates``: gradients of known patients are a leak, of strangers and noise are none."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from torch import nn

from primum.cli.inspect_updates import inspect_updates_command
from primum.errors import InputError, ModelError
from primum.evidence.audit import Audit
from primum.evidence.identity import ModelRef
from primum.fit.networks import build_network
from primum.fit.updates import Update, write_update
from primum.models.classifier_card import Card
from primum.models.opened import OpenedClassifier
from primum.models.torch_door import TorchClassifier
from primum.records.case_folder import CaseFolder, open_cases
from primum.records.case_writer import write_cases
from primum.records.cases import Cases
from primum.report.files import read_audit
from primum.workflows.inspect_updates import inspect_updates

CLASSES, SHAPE, SIDE = ("normal", "ill"), (1, 8, 8), 60
PLACE = "primum.fit.networks:image_1x8x8_2_16"


def cases(first: int) -> Cases:
    rng = np.random.default_rng(first)
    inputs = rng.integers(0, 256, (SIDE, *SHAPE)).astype(np.uint8)
    people = np.arange(SIDE) + first
    return Cases(people, people, inputs, rng.integers(0, 2, SIDE))


MEMBERS, OTHERS = cases(1000), cases(2000)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> CaseFolder:
    folder = tmp_path_factory.mktemp("gallery") / "cases"
    write_cases(folder, {"train": MEMBERS, "held_out": OTHERS}, CLASSES)
    return open_cases(folder)


def network() -> nn.Module:
    torch.manual_seed(0)
    return build_network("image", shape=SHAPE, classes=2, width=16)


def opened(module: nn.Module | None = None) -> OpenedClassifier:
    predictor = TorchClassifier(module or network(), CLASSES, Card(CLASSES, "logits"))
    return OpenedClassifier(ModelRef("net", "0" * 64, "computed", {}), predictor, 1)


def sent(of: Cases, rows: list[int], *, noise: float = 0.0, module: nn.Module | None = None) -> Update:
    net = module or network()
    inputs = torch.from_numpy(np.asarray(of.inputs)[rows]).float() / 255
    loss = nn.functional.cross_entropy(net(inputs), torch.from_numpy(of.labels[rows]))
    weights = dict(net.named_parameters())
    rng = np.random.default_rng(rows[0])
    gradients = {
        name: one.numpy() + (noise * rng.standard_normal(one.shape)).astype(np.float32)
        for name, one in zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True)
    }
    before = {name: value.detach().numpy() for name, value in weights.items()}
    return Update("site-1", 0, "gradient", len(rows), 1, len(rows), 1.0, before, gradients)


def written(folder: Path, updates: list[Update]) -> list[Path]:
    files = [folder / f"{number}.safetensors" for number in range(len(updates))]
    for file, update in zip(files, updates, strict=True):
        write_update(update, file)
    return files


def verdicts(audit: Audit) -> dict[str, str]:
    return {one.test: one.verdict for one in audit.findings}


def test_gradients_of_single_patients_name_them(tmp_path: Path, gallery: CaseFolder) -> None:
    files = written(tmp_path, [sent(MEMBERS, [row]) for row in range(12)])
    audit = inspect_updates(files, opened(), gallery)
    assert verdicts(audit)["updates.reconstruction"] == "leak"
    assert audit.exit_status == 1
    difference, _, members, others = audit.findings[0].estimates
    assert members.value == pytest.approx(0.2)
    assert others.value == 0
    assert difference.value == pytest.approx(0.2)
    assert audit.patients == {"members": SIDE, "held_out": SIDE}
    text = str(audit)
    assert "1007" not in text
    assert "site-1" not in text


@pytest.mark.parametrize("kind", ["noise", "strangers"])
def test_noise_and_strangers_name_nobody(tmp_path: Path, gallery: CaseFolder, kind: str) -> None:
    strangers = cases(3000)
    updates = [
        sent(MEMBERS, [row], noise=10.0) if kind == "noise" else sent(strangers, [row]) for row in range(12)
    ]
    audit = inspect_updates(written(tmp_path, updates), opened(), gallery)
    assert not any(one.harmful for one in audit.findings)
    assert audit.findings[0].primary


def test_members_of_batches_are_likelier_than_others(tmp_path: Path, gallery: CaseFolder) -> None:
    files = written(tmp_path, [sent(MEMBERS, list(range(at, at + 6))) for at in range(0, SIDE, 6)])
    module = network()
    audit = inspect_updates(files, opened(module), gallery)
    assert audit.findings[1].estimates[0].low > 0.6
    assert verdicts(audit)["updates.membership"] == "leak"
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), network().parameters(), strict=True))


def test_search_is_only_done_when_asked(
    tmp_path: Path, gallery: CaseFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from primum.audits.updates import observe

    asked: list[Any] = []

    def search(module: nn.Module, update: Update, **how: Any) -> tuple[Any, float]:
        asked.append(how["labels"].tolist())
        return np.asarray(MEMBERS.inputs)[[7, 8]] / 255.0, 0.0

    monkeypatch.setattr(observe, "search_inputs", search)
    files = written(tmp_path, [sent(MEMBERS, [3, 4]), sent(MEMBERS, [10, 11, 12, 13, 14])])
    inspect_updates(files, opened(), gallery)
    assert not asked
    audit = inspect_updates(files, opened(), gallery, searched=True)
    assert asked == [sorted(MEMBERS.labels[[3, 4]].tolist())]
    assert audit.findings[0].estimates[2].value >= 2 / SIDE


def test_what_cannot_be_inspected(tmp_path: Path, gallery: CaseFolder) -> None:
    files = written(tmp_path, [sent(MEMBERS, [0])])
    with pytest.raises(InputError, match="no update"):
        inspect_updates([], opened(), gallery)
    with pytest.raises(InputError, match="another model"):
        inspect_updates(files, opened(build_network("image", shape=SHAPE, classes=2, width=32)), gallery)
    no_torch: Any = object()
    with pytest.raises(InputError, match="torch models only"):
        inspect_updates(files, replace(opened(), predictor=no_torch), gallery)
    predictor = TorchClassifier(network(), ("a", "b", "c"), Card(("a", "b", "c"), "logits"))
    with pytest.raises(ModelError, match="3 classes"):
        inspect_updates(files, replace(opened(), predictor=predictor), gallery)
    larger = Cases(*(np.arange(4),) * 2, np.zeros((4, 3, 8, 8), np.uint8), np.arange(4) % 2)
    strangers = replace(larger, subject_ids=np.arange(4) + 9)
    write_cases(tmp_path / "larger", {"train": larger, "held_out": strangers}, CLASSES)
    with pytest.raises(ModelError):
        inspect_updates(files, opened(), open_cases(tmp_path / "larger"))
    write_cases(tmp_path / "both", {"train": MEMBERS, "held_out": MEMBERS}, CLASSES)
    with pytest.raises(InputError, match="both in train and in held_out"):
        inspect_updates(files, opened(), open_cases(tmp_path / "both"))


def test_the_command_writes_a_report(
    tmp_path: Path, gallery: CaseFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from primum.models import classifier_doors

    monkeypatch.setattr(classifier_doors, "open_classifier", lambda *_, **__: opened())
    files = written(tmp_path, [sent(MEMBERS, [row]) for row in range(12)])
    app = typer.Typer()
    app.command()(inspect_updates_command)
    words = [*map(str, files), "--model", "m", "--gallery", str(gallery.path), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*words, "--lang", "en"], standalone_mode=False)
    assert done.exception is None, done.exception
    assert done.return_value == 1
    audit, _ = read_audit(tmp_path / "out")
    assert verdicts(audit)["updates.reconstruction"] == "leak"
    assert "updates" in (tmp_path / "out" / "report.html").read_text()

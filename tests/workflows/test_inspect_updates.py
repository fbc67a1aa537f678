"""``primum inspect-updates``: gradients of known patients are a leak, of strangers and noise are none."""

from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from scipy.stats import ttest_1samp
from torch import nn

from primum.cli.inspect_updates import inspect_updates_command
from primum.errors import InputError, ModelError
from primum.evidence.audit import Audit
from primum.evidence.documents import read_audit
from primum.evidence.finding import Finding
from primum.evidence.identity import ModelRef
from primum.fit.networks import build_network
from primum.fit.updates import Update, write_update
from primum.models.classifier_card import Card
from primum.models.opened import OpenedClassifier
from primum.models.torch_door import TorchClassifier
from primum.records.case_folder import CaseFolder, open_cases
from primum.records.case_writer import write_cases
from primum.records.cases import Cases
from primum.workflows.inspect_updates import inspect_updates
from primum.workflows.update_findings import mean_of_sites

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
    assert audit.context == {"unit": "patient", "version": metadata.version("primum")}
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


def hospitals(count: int, *, seen: bool) -> tuple[Cases, Cases, list[int]]:
    """Members of several sites, each with another share of women; where `seen`, images and labels tell."""
    rng = np.random.default_rng(1)
    sizes = [24] * count + [160]
    shares = [*np.linspace(0.1, 0.9, count), 0.5]
    sex = np.concatenate([rng.random(size) < share for size, share in zip(sizes, shares, strict=True)])
    inputs = rng.integers(0, 256, (len(sex), *SHAPE)).astype(np.uint8)
    if seen:
        inputs[sex, :, :4] = inputs[sex, :, :4] // 4
    site = np.repeat([*(f"site-{number}" for number in range(count)), "elsewhere"], sizes)
    attributes = {"sex": np.where(sex, "F", "M"), "site": site}
    people = np.arange(len(sex))
    labels = np.where(rng.random(len(sex)) < 0.8, sex, ~sex) if seen else rng.random(len(sex)) < 0.5
    whole = Cases(people, people, inputs, labels.astype(np.int64), attributes)
    return whole.select(people[: 24 * count]), whole.select(people[24 * count :]), [24] * count


@pytest.mark.parametrize("kind", ["gradient", "delta"])
def test_the_share_of_women_is_guessed_where_images_tell(tmp_path: Path, kind: str) -> None:
    found: dict[bool, Finding] = {}
    for seen in (True, False) if kind == "gradient" else (True,):
        members, others, sizes = hospitals(16, seen=seen)
        folder = tmp_path / str(seen)
        write_cases(folder / "cases", {"train": members, "held_out": others}, CLASSES)
        updates = []
        for number in range(len(sizes)):
            rows = list(range(24 * number, 24 * number + 24))
            one = sent(members, rows) if kind == "gradient" else trained(members, rows)
            updates.append(replace(one, site=f"site-{number}"))
        audit = inspect_updates(
            written(folder, updates), opened(), open_cases(folder / "cases"), asked="sex=F"
        )
        (found[seen],) = (told for told in audit.findings if told.test == "updates.property")
        assert not any(told.settings.get("claims") != 2 for told in audit.findings[:2])
    for told in found.values():
        assert (told.verdict, told.harmful, told.p_value) == ("descriptive", False, None)
        assert [estimate.n for estimate in told.estimates] == [(16,), (16,)]
        assert told.reasons[0].code == "property_checked"
    correlation, saved = found[True].estimates
    assert correlation.low > 0.5
    assert saved.low > 0
    if kind == "gradient":
        correlation, saved = found[False].estimates
        assert correlation.low < 0
        assert saved.low < 0


def trained(of: Cases, rows: list[int]) -> Update:
    """Three steps of AdamW over eight cases each."""
    net = network()
    before = {name: value.detach().numpy().copy() for name, value in net.named_parameters()}
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.01)
    for first in range(0, 24, 8):
        part = rows[first : first + 8]
        inputs = torch.from_numpy(np.asarray(of.inputs)[part]).float() / 255
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(net(inputs), torch.from_numpy(of.labels[part]))
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    change = {name: value.detach().numpy() - before[name] for name, value in net.named_parameters()}
    return Update("site-1", 0, "delta", len(rows), 3, 8, 0.01, before, change)


def test_guesses_that_nobody_can_check(tmp_path: Path, gallery: CaseFolder) -> None:
    members, others, _ = hospitals(4, seen=True)
    write_cases(tmp_path / "cases", {"train": members, "held_out": others}, CLASSES)
    cases = open_cases(tmp_path / "cases")
    files = written(tmp_path, [replace(sent(members, [0, 1, 2]), site="another")])
    (*_, found) = inspect_updates(files, opened(), cases, asked="sex=F").findings
    assert found.reasons[0].code == "property_guessed"
    assert "another" not in str(found)
    for rate in (1e38, 1e29):
        wild = replace(trained(members, list(range(24))), learning_rate=rate)
        with pytest.raises(InputError, match="infinite numbers"):
            inspect_updates(written(tmp_path, [wild]), opened(), cases, asked="sex=F")
    for unlearnt in ("sex=X", "sex", "nothing=F", ""):
        with pytest.raises(InputError, match="some patients must have"):
            inspect_updates(files, opened(), cases, asked=unlearnt)


def test_error_saved_has_the_interval_of_a_t_test() -> None:
    values = np.array([0.1, 0.3, -0.05, 0.2, 0.15])
    found = mean_of_sites(values)
    low, high = ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.value, found.low, found.high) == pytest.approx((values.mean(), low, high))


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

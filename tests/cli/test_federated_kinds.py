"""``primum train federated simulate`` of private networks, health records and tables."""

import csv
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, PrivacyAccountant
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tests import tiny

from primum.cli.main import run
from primum.fit.updates import Update, read_update
from primum.models.classifier_doors import open_classifier
from primum.models.doors import open_model
from primum.records.case_writer import write_cases
from primum.records.cases import Cases
from primum.records.meds import MedsFolder
from primum.records.profile_guess import read_tokenizer
from primum.records.synthetic_cases import SYNTHETIC_CASES, synthetic_table, table_schema
from primum.records.tokens import Kind
from primum.train.federated.sites import NetworkSite
from primum.train.receipt import read_receipt

PRIVATE = ["--network", "image", "--width", "4", "--rounds", "2", "--steps", "3", "--batch", "8"]
PRIVATE += ["--clip", "0.5", "--repeatable-seed", "5"]
RECORDS = ["--width", "8", "--rounds", "1", "--epochs", "1", "--batch", "64"]
TABLES = ["--width", "8", "--rounds", "2"]


def simulated(out: Path, *words: object) -> int:
    given = [str(one) for one in words]
    return run(["train", "federated", "simulate", *given, "--out", str(out), "--lang", "en"])


def sites_of(out: Path) -> list[dict[str, Any]]:
    return list(json.loads((out / "sites.json").read_text())["sites"])


def updates_in(folder: Path) -> list[Update]:
    return [read_update(file) for file in sorted(folder.iterdir())]


def change(update: Update) -> NDArray[np.float64]:
    return np.concatenate([value.ravel() for _, value in sorted(update.sent.items())]).astype(float)


def same(one: Path, other: Path) -> bool:
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    return all(np.array_equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two hospitals with the same 40 images of other patients, so that only noise tells them apart."""
    rng, folders = np.random.default_rng(3), []
    labels, pixels = np.arange(40) % 2, rng.integers(0, 256, (40, 1, 8, 8)).astype(np.uint8)
    for first in (100, 100_000):
        folders.append(tmp_path_factory.mktemp("images") / "cases")
        cases = Cases(np.arange(40), first + np.arange(40), pixels, labels)
        write_cases(folders[-1], {"train": cases}, classes=("no", "yes"))
    return folders


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two hospitals, and a folder of the vocabulary that they agreed on, of other patients."""
    root = tmp_path_factory.mktemp("histories")
    for seed, name in enumerate(("north", "south", "invented")):
        tiny.records_folder(root / name, tiny.cohort(train=64 if name == "north" else 16, seed=seed))
    plain = ["train", "plain", str(root / "invented"), "--epochs", "1", "--patience", "0", "--width", "8"]
    assert run([*plain, "--out", str(root / "tokens"), "--lang", "en"]) == 0
    return [root / name for name in ("north", "south", "tokens")]


def rows_folder(folder: Path, cases: Cases, *, schema: str = "") -> Path:
    write_cases(folder, {"train": cases}, SYNTHETIC_CASES["table"][1], schema=schema or table_schema())
    return folder


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two hospitals, and a few invented rows."""
    root = tmp_path_factory.mktemp("tables")
    parts = [("north", 30, 1), ("south", 30, 2), ("like", 8, 3)]
    return [rows_folder(root / name, synthetic_table(count, seed=seed)) for name, count, seed in parts]


def rows_of(folder: Path) -> NDArray[np.float64]:
    """Return its columns of numbers, NaN where missing, in the order of the schema."""
    columns = [name for name, one in tomllib.loads(table_schema()).items() if one["kind"] == "number"]
    with (folder / "cases.csv").open(encoding="utf-8", newline="") as file:
        return np.array([[float(row[name] or "nan") for name in columns] for row in csv.DictReader(file)])


def accounted(accountant: PrivacyAccountant, spent: Mapping[str, Any], delta: float) -> float:
    """Ask the library itself."""
    step = PoissonSampledDpEvent(spent["sampling_rate"], GaussianDpEvent(spent["noise_multiplier"]))
    return float(accountant.compose(step, spent["steps"]).get_epsilon(delta))


def test_every_site_spends_what_it_promised_over_all_rounds(images: list[Path], tmp_path: Path) -> None:
    asked = [*images, *PRIVATE, "--epsilon", "1", "--delta", "1e-2", "--capture", tmp_path / "sent"]
    assert simulated(tmp_path / "model", *asked) == 0
    for one in sites_of(tmp_path / "model"):
        ledger = one["ledger"]
        (spent,) = ledger["mechanisms"]
        assert (spent["of"], spent["steps"], spent["sampling_rate"]) == ("gradients", 6, 8 / 30)
        assert (ledger["unit"], ledger["patients"], ledger["clip"]) == ("patient", 30, 0.5)
        assert 0.98 < ledger["epsilon"] <= 1 and not ledger["randomness_is_secret"]
    by_losses = accounted(PLDAccountant(value_discretization_interval=1e-3), spent, 1e-2)
    by_divergences = accounted(RdpAccountant(range(2, 64)), spent, 1e-2)
    assert ledger["epsilon"] <= by_losses < ledger["epsilon"] + 0.01 < by_divergences < 1.7
    receipt = read_receipt(tmp_path / "model")
    assert receipt.ledger is not None and set(receipt.ledger["patients"]) == {"site-01", "site-02"}
    updates = updates_in(tmp_path / "sent")
    assert [(one.local_steps, one.batch) for one in updates] == [(3, 8)] * 4
    assert simulated(tmp_path / "again", *asked[:-2]) == 0 and same(tmp_path / "model", tmp_path / "again")


@pytest.mark.parametrize("secret", [False, True])
def test_no_two_sites_share_noise(images: list[Path], tmp_path: Path, secret: bool) -> None:
    """Alike in all but noise, and noise so strong that it is nearly all that they send."""
    asked = [*images, *(PRIVATE[:-2] if secret else PRIVATE), "--epsilon", "0.1"]
    assert simulated(tmp_path / "model", *asked, "--capture", tmp_path / "sent") == 0
    together = np.corrcoef([change(one) for one in updates_in(tmp_path / "sent")])
    assert np.abs(together[~np.eye(4, dtype=bool)]).max() < 0.5
    assert all(one["ledger"]["randomness_is_secret"] is secret for one in sites_of(tmp_path / "model"))
    assert (read_receipt(tmp_path / "model").seed is None) is secret


def test_steps_that_nobody_chose_are_dealt_to_the_rounds(
    images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NetworkSite, "train", lambda site, weights, asked: weights)
    words = ["--network", "image", "--width", "4", "--rounds", "40", "--epsilon", "2", "--delta", "1e-3"]
    assert simulated(tmp_path / "model", *images, *words) == 0
    for one in sites_of(tmp_path / "model"):
        (spent,) = one["ledger"]["mechanisms"]
        assert (spent["steps"], spent["sampling_rate"]) == (40 * 4, 7 / 30), "150 in all, a quarter in each"


def test_health_records_of_two_hospitals(histories: list[Path], tmp_path: Path) -> None:
    north, south, tokens = histories
    asked = [north, south, "--tokens", tokens, *RECORDS, "--capture", tmp_path / "sent"]
    assert simulated(tmp_path / "model", *asked) == 0
    first, second = sites_of(tmp_path / "model")
    assert (first["patients"], second["patients"]) == (58, 12)
    assert second["served"] is None, "four patients are too few to say"
    served = first["served"]
    assert served["patients"] == 6 and served["low"] < served["log_likelihood"] < served["high"] < 0
    updates = updates_in(tmp_path / "sent")
    assert [one.local_steps for one in updates] == [1, 1] and [one.cases for one in updates] == [58, 12]
    receipt = read_receipt(tmp_path / "model")
    assert receipt.data["patients"] == 80 and receipt.settings["model"]["tokens"] is True
    opened = open_model(str(tmp_path / "model"))
    assert opened.tokenizer is not None
    assert opened.tokenizer.vocabulary == read_tokenizer(tokens)[0].vocabulary


def test_how_well_records_are_foretold_is_said_per_patient(
    histories: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    north, south, tokens = histories
    asked = [north, south, "--tokens", tokens, *RECORDS, "--rounds", "2"]
    assert simulated(tmp_path / "model", *asked) == 0
    said = capsys.readouterr().out
    assert "Served worst of 1 sites that can be judged: site-01, mean log-probability of an event −" in said
    (shard,) = MedsFolder(north).split("train").shards()
    batch = read_tokenizer(tokens)[0].encode(shard)
    people = np.unique(batch.subject_ids)
    aside = people[np.random.default_rng([0, len(people)]).permutation(len(people))][: len(people) // 10]
    scorer = tiny.scorer_of(open_model(str(tmp_path / "model")))
    means = []
    for place in np.flatnonzero(np.isin(batch.subject_ids, aside)).tolist():
        (log_p,) = scorer.log_probs(batch.select(np.array([place])))
        means.append(np.mean(log_p[batch.kinds_of(place)[1:] == Kind.CLINICAL]))
    served = sites_of(tmp_path / "model")[0]["served"]
    assert served["log_likelihood"] == pytest.approx(np.mean(means), abs=1e-5)
    # Student's 97.5 % point of 5 degrees of freedom.
    half = 2.5706 * np.std(means, ddof=1) / len(means) ** 0.5
    assert served["high"] - served["log_likelihood"] == pytest.approx(half, rel=1e-3)


def test_health_records_are_dealt_and_protected(histories: list[Path], tmp_path: Path) -> None:
    north, _, tokens = histories
    asked = [north, "--tokens", tokens, *RECORDS[:4], "--sites", "2", "--epsilon", "0.5", "--batch", "5"]
    assert simulated(tmp_path / "model", *asked, "--delta", "1e-2", "--steps", "1") == 0
    said = sites_of(tmp_path / "model")
    assert sum(one["patients"] for one in said) == 54 and len(said) == 2
    for one in said:
        assert 0.49 < one["ledger"]["epsilon"] <= 0.5 and one["ledger"]["mechanisms"][0]["steps"] == 1


def test_tables_are_scaled_by_nobody(tables: list[Path], tmp_path: Path) -> None:
    north, south, like = tables
    asked = [north, south, "--like", like, *TABLES, "--capture", tmp_path / "sent"]
    assert simulated(tmp_path / "model", *asked, "--clip-updates", "1", "--site-noise", "1") == 0
    weights = load_file(tmp_path / "model" / "model.safetensors")
    # The columns after one another as the schema has them: age first, numbers before categories.
    usual = rows_of(like).mean(0, where=np.isfinite(rows_of(like)))
    assert weights["centre"][: len(usual)] == pytest.approx(usual, rel=1e-5)
    updates = updates_in(tmp_path / "sent")
    assert len(updates) == 4
    for update in updates:
        assert not {"centre", "scale"} & update.sent.keys(), "no site says anything of its columns"
        assert np.array_equal(update.before["centre"], weights["centre"])
        assert np.array_equal(update.before["scale"], weights["scale"])
    held = b"".join(value.tobytes() for update in updates for value in update.sent.values())
    for row in np.vstack([rows_of(north), rows_of(south)]):
        known = row[np.isfinite(row)]
        assert all(known.astype(kind).tobytes()[: 4 * 4] not in held for kind in ("f4", "f8"))
    factory = read_receipt(tmp_path / "model").factory
    assert open_classifier(str(tmp_path / "model"), factory=factory).predictor.classes


@pytest.mark.parametrize("kind", ["table", "records"])
def test_masked_updates_give_the_model_of_plain_ones(
    kind: str, tables: list[Path], histories: list[Path], tmp_path: Path
) -> None:
    needs = [tables[0], "--like", tables[2]] if kind == "table" else [histories[0], "--tokens", histories[2]]
    # Nearly of one size: without masks no site counts for more than all others.
    asked = [*needs, "--width", "8", "--rounds", "1", "--sites", "3", "--alpha", "100", "--clip-updates", "9"]
    assert simulated(tmp_path / "plain", *asked) == 0
    assert simulated(tmp_path / "masked", *asked, "--secure") == 0
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "masked"))
    for name, value in one.items():
        np.testing.assert_allclose(other[name], value, atol=1e-6)


def test_tables_keep_a_promise(tables: list[Path], tmp_path: Path) -> None:
    """Scales cost nothing: one mechanism, and it is that of the gradients."""
    north, south, like = tables
    words = ["--epsilon", "0.5", "--delta", "1e-2", "--steps", "2", "--batch", "5"]
    assert simulated(tmp_path / "model", north, south, "--like", like, *TABLES, *words) == 0
    for one in sites_of(tmp_path / "model"):
        (spent,) = one["ledger"]["mechanisms"]
        assert spent["of"] == "gradients" and spent["steps"] == 4 and 0.49 < one["ledger"]["epsilon"] <= 0.5


def test_refusals(
    histories: list[Path], tables: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    north, south, tokens = histories
    table, _, like = tables
    swapped = table_schema().replace('["M", "F"]', '["F", "M"]')
    assert swapped != table_schema()
    other = rows_folder(tmp_path / "swapped", synthetic_table(9, seed=4), schema=swapped)
    refused: list[tuple[list[object], str]] = [
        ([north, south], "need one vocabulary at every site"),
        ([north, "--tokens", tokens, "--judge", south], "--judge is for cases"),
        ([north, "--tokens", tokens, "--like", south], "--like is for tables"),
        ([table], "need one scale at every site"),
        ([table, other, "--like", like], "swapped does not fit the first site"),
        ([table, "--like", other], "swapped does not fit the first site"),
        ([table, "--like", like, "--judge", other], "does not fit the sites' cases"),
    ]
    for words, sentence in refused:
        assert simulated(tmp_path / "out", *words) == 2, sentence
        assert sentence in " ".join(capsys.readouterr().err.split())
        assert not (tmp_path / "out").exists()

"""``primum train federated simulate``, as it is typed."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from primum.cli.main import run
from primum.fit.updates import read_update
from primum.models.classifier_doors import open_classifier
from primum.records.case_writer import write_cases
from primum.records.cases import Cases
from primum.train.federated import rounds
from primum.train.federated.sites import LinearSite
from primum.train.receipt import read_receipt
from primum.workflows import federated

SMALL = ["--network", "scattering", "--sites", "4", "--rounds", "3", "--lang", "en"]


def images(seed: int, patients: int = 80) -> Cases:
    """One image of 8 x 8 pixels a patient; the ill have a bright half."""
    rng = np.random.default_rng(seed)
    labels, subjects = rng.integers(0, 2, patients), np.arange(patients) + 1000 * seed
    pixels = rng.integers(0, 128, (patients, 1, 8, 8))
    pixels[labels == 1, :, :, 4:] += 60
    return Cases(subjects, subjects, pixels.astype(np.uint8), labels)


def written(folder: Path, seed: int, classes: tuple[str, ...] = ("no", "yes")) -> Path:
    folder.mkdir()
    write_cases(folder, {"train": images(seed)}, classes=classes)
    return folder


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("all") / "cases", 1)


def sites_of(out: Path) -> list[dict[str, Any]]:
    return list(json.loads((out / "sites.json").read_text())["sites"])


@pytest.mark.parametrize(
    ("more", "epochs", "rate", "judged"), [([], 5, 80.0, True), (["--epochs", "1"], 1, 320.0, False)]
)
def test_sites_are_accused_only_where_honest_ones_were_seen_not_to_be(
    cases: Path, tmp_path: Path, more: list[str], epochs: int, rate: float, judged: bool
) -> None:
    asked = ["train", "federated", "simulate", str(cases), "--out", str(tmp_path / "model"), *SMALL, *more]
    assert run([*asked, "--sites", "6"]) == 0
    settings = json.loads((tmp_path / "model" / "sites.json").read_text())["settings"]
    assert (settings["epochs"], settings["learning_rate"]) == (epochs, rate)
    for one in sites_of(tmp_path / "model"):
        assert (one["accused"] is False, one["e_value"] is not None) == (judged, judged)
        assert one["rounds_apart"] is not None


def test_one_folder_is_dealt_to_sites(
    cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["train", "federated", "simulate", str(cases), "--out", str(tmp_path / "model"), *SMALL]
    asked += ["--epsilon", "8", "--repeatable-seed", "3", "--capture", str(tmp_path / "sent")]
    assert run(asked) == 0
    said = capsys.readouterr().out
    assert "Trained between 4 sites (63 patients), 3 rounds" in said, (
        "a tenth of each site says how it is served"
    )
    assert "Promised by every site" in said and "delta 1e-05" in said
    receipt = read_receipt(tmp_path / "model")
    assert receipt.method == "federated" and receipt.steps == 3
    assert open_classifier(str(tmp_path / "model"), factory=receipt.factory).predictor.classes == (
        "no",
        "yes",
    )
    for one in sites_of(tmp_path / "model"):
        assert 7.5 < one["ledger"]["epsilon"] <= 8 and one["rounds_answered"] == 3
        assert one["served"] is None and not one["accused"]
    assert receipt.ledger is not None and set(receipt.ledger["patients"]) == {
        f"site-0{one}" for one in range(1, 5)
    }
    assert {one["ledger"]["unit"] for one in sites_of(tmp_path / "model")} == {"patient"}
    assert sum(one["share"] for one in sites_of(tmp_path / "model")) == pytest.approx(1)
    assert sum(one["contribution"] for one in sites_of(tmp_path / "model")) == pytest.approx(1)
    page = tmp_path / "model" / "sites.html"
    assert str(page) in said
    written = page.read_text(encoding="utf-8")
    assert all(written.count(f"site-0{one}") > 3 for one in range(1, 5)) and "site-05" not in written
    assert "added noise to protect patients" not in written, "nobody is accused"
    page.unlink()
    assert run(["report", "sites", str(tmp_path / "model"), "--lang", "en"]) == 0
    assert page.read_text(encoding="utf-8") == written
    sent = sorted((tmp_path / "sent").iterdir())
    assert len(sent) == 16 and oct((tmp_path / "sent").stat().st_mode & 0o777) == "0o700"
    update = read_update(sent[-1])
    assert set(update.sent) == {"last.weight"} and update.round == 3
    again = [*asked[: -len(["--capture", "x"])], "--lang", "fr"]
    again[again.index(str(tmp_path / "model"))] = str(tmp_path / "again")
    assert run(again) == 0
    assert "Promis par chaque site" in capsys.readouterr().out
    (tmp_path / "ids.txt").write_text("1001\n")
    gone = ["train", "forget", str(tmp_path / "model"), "--records", str(cases), "--lang", "en"]
    assert run([*gone, "--patients", str(tmp_path / "ids.txt"), "--out", str(tmp_path / "without")]) == 2
    assert "was trained between sites" in " ".join(capsys.readouterr().err.split())
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("model", "again"))
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_folders_are_sites_and_a_killed_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(written(tmp_path / f"hospital-{seed}", seed)) for seed in (1, 2, 3)]
    asked = [
        "train",
        "federated",
        "simulate",
        *folders,
        "--network",
        "image",
        "--width",
        "8",
        "--rounds",
        "3",
    ]
    asked += [
        "--strategy",
        "fedprox",
        "--rule",
        "median",
        "--lang",
        "en",
        "--capture",
        str(tmp_path / "sent"),
        "--out",
    ]
    assert run([*asked, str(tmp_path / "whole")]) == 0
    assert [one["patients"] for one in sites_of(tmp_path / "whole")] == [70, 70, 70]
    shutil.rmtree(tmp_path / "sent")
    usual, seen = rounds.run_rounds, []

    def dying(*given: Any, **named: Any) -> Any:
        told = named["told"]

        def once(number: int, *more: Any) -> None:
            seen.append(number)
            told(number, *more)
            if len(seen) == 2:
                raise KeyboardInterrupt

        return usual(*given, **{**named, "told": once})

    monkeypatch.setattr(federated, "run_rounds", dying)
    assert run([*asked, str(tmp_path / "killed")]) == 130
    assert not (tmp_path / "killed").exists()
    others = [str(written(tmp_path / "others", 9)) if one == folders[1] else one for one in asked]
    assert run([*others, str(tmp_path / "killed")]) == 2, "rounds of other patients are not gone on with"
    assert run([*asked, str(tmp_path / "killed")]) == 0
    assert seen == [1, 2, 2, 3]
    sent = sorted((tmp_path / "sent").iterdir())
    update = read_update(sent[-1])
    assert len(sent) == 9 and (update.batch, update.local_steps) == (32, 3), "72 images in batches of 32"
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--rule", "bulyan", "--malicious", "1"], "n ≥ 4f + 3"),
        (["--site-noise", "1"], "needs --clip-updates"),
        (
            ["--network", "image", "--epsilon", "8", "--epochs", "2"],
            "--epochs is not for sites that add noise",
        ),
        (["--network", "image", "--epsilon", "8", "--strategy", "fedprox"], "fedprox is not for sites that"),
        (["--network", "image", "--steps", "3"], "--steps is for private sites"),
        (["--epsilon", "8", "--steps", "3"], "--steps is not for the network scattering"),
        (["--like", "nowhere"], "--like is for tables"),
        (["--network", "image", "--learning-rate", "-1"], "must be above zero"),
        (["--learning-rate", "1"], "--learning-rate is not for the network scattering"),
        (["--batch", "9"], "--batch is not for the network scattering"),
        (["--secure"], "needs a bound on the norm"),
        (["--secure", "--clip-updates", "9", "--rule", "median"], "The rule median compares"),
        (["--secure", "--clip-updates", "9", "--sites", "2"], "needs three sites"),
        (["--secure", "--clip-updates", "9", "--site-noise", "1"], "leave out --site-noise"),
        (["--sites", "100"], "cannot be dealt to 100 sites"),
        (["--network", "llama"], "not for these records"),
    ],
)
def test_refusals(
    more: list[str], sentence: str, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "federated", "simulate", str(cases), *SMALL, *more, "--out", str(tmp_path / "out")]
    assert run(words) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_masked_updates_give_the_model_of_plain_ones(cases: Path, tmp_path: Path) -> None:
    asked = ["train", "federated", "simulate", str(cases), *SMALL, "--clip-updates", "1000", "--out"]
    assert run([*asked, str(tmp_path / "plain")]) == 0
    assert run([*asked, str(tmp_path / "masked"), "--secure"]) == 0
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "masked"))
    for name, value in one.items():
        np.testing.assert_allclose(other[name], value, atol=1e-3)
    assert all(
        site["agreement"] is None and site["e_value"] is None for site in sites_of(tmp_path / "masked")
    )


def test_a_site_that_fails_is_told_of(
    cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = LinearSite.train

    def failing(site: LinearSite, weights: Any, asked: Any) -> Any:
        if site.name == "site-02" and asked.number == 2:
            raise ValueError("somebody's record")
        return usual(site, weights, asked)

    monkeypatch.setattr(LinearSite, "train", failing)
    assert run(["train", "federated", "simulate", str(cases), *SMALL, "--out", str(tmp_path / "model")]) == 0
    said = capsys.readouterr().out
    assert "Round 2 went on without a site: ValueError" in said and "somebody" not in said
    assert [one["rounds_answered"] for one in sites_of(tmp_path / "model")] == [3, 2, 3, 3]


def test_images_of_no_known_patients_are_promised_as_records(tmp_path: Path) -> None:
    pixels, labels = np.asarray(images(1).inputs)[:, 0], images(1).labels
    np.savez(tmp_path / "images.npz", train_images=pixels, train_labels=labels[:, None])
    asked = ["train", "federated", "simulate", str(tmp_path / "images.npz"), *SMALL, "--epsilon", "8"]
    assert run([*asked, "--out", str(tmp_path / "model")]) == 0
    assert {one["ledger"]["unit"] for one in sites_of(tmp_path / "model")} == {"record"}
    assert read_receipt(tmp_path / "model").seed is None


def test_the_page_of_sites_names_no_patient(tmp_path: Path) -> None:
    folder = written(tmp_path / "cases", 987654)
    asked = ["train", "federated", "simulate", str(folder), *SMALL, "--sites", "2", "--lang", "fr"]
    assert run([*asked, "--out", str(tmp_path / "model")]) == 0
    for name in ("sites.html", "sites.json"):
        assert "987654" not in (tmp_path / "model" / name).read_text(encoding="utf-8")
    assert '<html lang="fr">' in (tmp_path / "model" / "sites.html").read_text(encoding="utf-8")


def test_sites_that_do_not_fit(cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = written(tmp_path / "other", 2, classes=("healthy", "ill"))
    assert (
        run(
            ["train", "federated", "simulate", str(cases), str(other), *SMALL, "--out", str(tmp_path / "out")]
        )
        == 2
    )
    assert "does not fit the first site" in " ".join(capsys.readouterr().err.split())

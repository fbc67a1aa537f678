"""``primum audit`` of a classifier: what may be given by mistake, and what holds whatever is given."""

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import skops.io
from PIL import Image
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from tests.cli.conftest import FIRST_ID, Place, Refused
from tests.conformance.classifiers import served
from tests.processes import PROCESSES

from primum.cli.main import run
from primum.evidence.documents import read_audit
from primum.evidence.rules import TESTS
from primum.fit.classifier_recipe import ClassifierRecipe, save_classifier
from primum.fit.loop import LoopSettings
from primum.fit.sklearn_recipe import SklearnClassifier, SklearnRecipe
from primum.models.classifier_card import CARD
from primum.models.classifier_doors import open_classifier
from primum.records.case_folder import open_cases
from primum.records.case_writer import write_cases
from primum.records.cases import Cases, join_cases
from primum.records.synthetic_cases import split_patients, synthetic_images, synthetic_table, table_schema
from primum.records.synthetic_cases.images import IMAGE_CLASSES
from primum.records.synthetic_cases.table import TABLE_CLASSES
from primum.report.html import render
from primum.report.language import Language

Break = Callable[[Place], object]
Refuse = Callable[..., Refused]
SIZES = {"train": 40, "held_out": 50}
# What can be asked of answers that were kept, and nothing else.
ASKED_OF_RECORDINGS = {
    "data.overlap",
    "membership.combined.auc",
    "membership.combined.tpr",
    "membership.epsilon",
    "membership.exposed",
    "attribute.outputs",
    *(f"membership.{attack}.auc" for attack in ("loss", "entropy", "quantile")),
    *(f"data.{test}" for test in ("labels", "duplicates", "artificial", "outliers")),
    *(f"equity.{test}" for test in ("sensitivity", "specificity", "auc", "calibration", "pairs", "proxy")),
}


def forest() -> RandomForestClassifier:
    return RandomForestClassifier(10, random_state=0)


def recipe() -> SklearnRecipe:
    return SklearnRecipe(forest(), TABLE_CLASSES)


class Killed(SklearnRecipe):
    """A recipe whose third training is the end of its process."""

    trained = 0

    def fit(self, *given: Any, **named: Any) -> SklearnClassifier:
        Killed.trained += 1
        if Killed.trained == 3 and os.environ.get("PRIMUM_TEST_KILL"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(*given, **named)


def killed() -> Killed:
    return Killed(forest(), TABLE_CLASSES)


def save(place: Place, estimator: Any, classes: tuple[str, ...] = TABLE_CLASSES) -> None:
    """Write an estimator as the only model of a place."""
    place.model.mkdir(exist_ok=True)
    for file in place.model.iterdir():
        file.unlink()
    (place.model / "model.skops").write_bytes(skops.io.dumps(estimator))
    (place.model / CARD).write_text(f"classes = {json.dumps(classes)}\n", encoding="utf-8")


def everyone(place: Place) -> Cases:
    folder = open_cases(place.records)
    return join_cases([shard for name in folder.splits() for shard in folder.split(name).shards()])


def record(place: Place, change: Callable[[pl.DataFrame], pl.DataFrame] = lambda frame: frame) -> None:
    """Put what the model answers in its place."""
    cases = everyone(place)
    answers = open_classifier(place.model).predictor.predict_proba(cases)
    for file in place.model.iterdir():
        file.unlink()
    columns = {name: answers[:, column] for column, name in enumerate(TABLE_CLASSES)}
    change(pl.DataFrame({"case_id": cases.case_ids, **columns})).write_csv(place.model / "predictions.csv")


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A table of patients with ids that a search finds, and a forest that learnt the half of them."""
    place = Place(tmp_path_factory.mktemp("pristine_table"))
    drawn = synthetic_table(sum(SIZES.values()), seed=1)
    renamed = Cases(
        drawn.case_ids, drawn.subject_ids + FIRST_ID, drawn.inputs, drawn.labels, drawn.attributes
    )
    splits = split_patients(renamed, SIZES)
    write_cases(place.records, splits, TABLE_CLASSES, schema=table_schema())
    save(place, forest().fit(splits["train"].inputs, splits["train"].labels))
    return place


def table(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Break:
    def rewrite(place: Place) -> None:
        file = place.records / "cases.csv"
        change(pl.read_csv(file, infer_schema=False)).write_csv(file)

    return rewrite


def only(split: str) -> Break:
    return table(lambda frame: frame.filter(pl.col("split") == split))


def shared(place: Place) -> None:
    """Give one held-out patient the number of a member."""
    frame = pl.read_csv(place.records / "cases.csv", infer_schema=False)
    mine, others = (
        frame.filter(pl.col("split") == split)["subject_id"][0] for split in ("train", "held_out")
    )
    table(lambda one: one.with_columns(pl.col("subject_id").replace(others, mine)))(place)


def not_a_number(place: Place) -> None:
    train = next(iter(open_cases(place.records).split("train").shards()))
    estimator = make_pipeline(SimpleImputer(), LogisticRegression(max_iter=5000))
    estimator.fit(train.inputs, train.labels)
    estimator[-1].coef_[0, 0] = np.nan
    save(place, estimator)


def fewer_columns(place: Place) -> None:
    schema = place.records / "schema.toml"
    schema.write_text(re.sub(r"\[lactate\][^[]*", "", schema.read_text(encoding="utf-8")), encoding="utf-8")


def three_classes(place: Place) -> None:
    (place.model / CARD).write_text('classes = ["stable", "deteriorates", "dies"]', encoding="utf-8")


def other_classes(place: Place) -> None:
    (place.model / CARD).write_text('classes = ["calm", "worse"]', encoding="utf-8")


def loud(place: Place) -> None:
    record(place, lambda frame: frame.with_columns(stable=pl.col("stable") + 1))


def forgetful(place: Place) -> None:
    record(place, lambda frame: frame.head(60))


BROKEN: dict[str, tuple[Break, tuple[str, ...]]] = {
    "no held-out split": (only("train"), ("records has no held_out split", "--held-out")),
    "no training split": (only("held_out"), ("has no split named train", "it has held_out")),
    "model of other classes": (
        other_classes,
        ("classes are calm, worse", "stable, deteriorates", "classes.txt"),
    ),
    "model of more classes": (three_classes, ("has 3 classes", "records have 2", "classes.txt")),
    "NaN from the model": (not_a_number, ("with NaN or infinity", "correct the model")),
    "rows that are no probabilities": (loud, ("rows that are no probabilities", 'output = "logits"')),
    "recording of half the cases": (forgetful, ("predictions.csv has no row for", "record every case")),
    "other columns than the model's": (
        fewer_columns,
        ("does not take inputs of shape [37]", "classifier.toml"),
    ),
    "patient on both sides": (shared, ("1 patients are both members and held-out", "--drop-overlap")),
    "label of no class": (
        table(lambda frame: frame.with_columns(label=pl.col("label").replace("stable", "unstable"))),
        ("cases.csv, row ", "column label", "classes.txt"),
    ),
    "age that nobody has": (
        table(lambda frame: frame.with_columns(age=pl.lit("131"))),
        ("cases.csv, row 0, column age", "130"),
    ),
    "no case at all": (table(lambda frame: frame.head(0)), ("cases.csv", "no case")),
    "broken skops": (
        lambda place: os.truncate(place.model / "model.skops", 900),
        ("model.skops is truncated", "write it again"),
    ),
    "records of another world": (
        lambda place: (place.records / "cases.csv").unlink(),
        ("records holds no cases", "cases.csv"),
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_bad_input_is_said_in_one_sentence(place: Place, refused: Refuse, case: str) -> None:
    break_it, words = BROKEN[case]
    break_it(place)
    said = refused()
    assert said.status == 2
    for word in words:
        assert word in said.sentence


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--only", "membership.loss,trajectory.codes"],
            ("no test is named trajectory.codes", "attribute.inf"),
        ),
        (["--only", "membership.combined.auc@sex=X"], ("no group of these patients is named sex=X", "sex=F")),
        (["--factory", "json:dumps"], ("--factory is for a folder with model.safetensors",)),
        (["--reference", "nowhere"], ("--reference is not for this kind of model: leave it out",)),
        (["--families", "cases.toml"], ("--families is not for this kind of model: leave it out",)),
        (["--show-records"], ("--show-records is not for this kind of model: leave it out",)),
        (["--recipe", "json:dumps"], ("The recipe json:dumps cannot be imported", "without arguments")),
        (["--recipe", "collections:Counter"], ("collections:Counter returns no object with a fit method",)),
        (["--held-out", "nowhere"], ("nowhere holds no cases", "cases.csv")),
    ],
)
def test_options_that_mean_nothing(
    place: Place, refused: Refuse, options: list[str], words: tuple[str, ...]
) -> None:
    if options[0] == "--families":
        options[1] = str(place.records / "schema.toml")
    said = refused(*options)
    assert said.status == 2
    for word in words:
        assert word in said.sentence


def findings(place: Place) -> dict[str, dict[str, Any]]:
    written = json.loads((place.out / "findings.json").read_bytes())["findings"]
    return {one["test"]: one for one in written}


def words(page: str) -> str:
    """Leave the tags of a report out."""
    return re.sub(r"<[^>]*>", "", page)


def test_one_audit_from_the_command_to_the_recomputation(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.audit("--seed", "3") == 1
    found = findings(place)
    assert {test.partition("@")[0] for test in found} == set(TESTS["classifier"])
    assert found["membership.combined.auc"]["verdict"] == "leak"
    assert found["membership.lira.auc"]["reasons"][0]["code"] == "needs_shadows"
    assert found["attribute.inferred"]["verdict"] != "not_applicable"
    first = (place.out / "findings.json").read_bytes()
    english = (place.out / "report.html").read_text(encoding="utf-8")
    assert str(FIRST_ID)[:9] not in english
    assert str(FIRST_ID)[:9].encode() not in first
    assert "Image-level" not in words(english)
    capsys.readouterr()
    assert run(["report", "recompute", str(place.out), "--lang", "en"]) == 0
    assert f"{len(json.loads(first)['findings'])} findings" in capsys.readouterr().out
    place.out.rename(place.root / "first")
    assert place.audit("--seed", "3") == 1
    assert (place.out / "findings.json").read_bytes() == first


def test_shared_patients_leave_on_demand(place: Place) -> None:
    shared(place)
    assert place.audit("--drop-overlap", "--only", "membership.combined") == 1
    written = json.loads((place.out / "findings.json").read_bytes())
    assert written["context"]["dropped_overlap"] == 1
    assert written["patients"] == {"held_out": SIZES["held_out"] - 1, "members": SIZES["train"]}


def test_without_attributes_there_are_fewer_groups(place: Place) -> None:
    table(lambda frame: frame.drop("site", "device", "skin_type", "practitioner", "date"))(place)
    assert place.audit("--only", "membership.combined,attribute.outputs") == 1
    groups = {test.partition("@")[2].partition("=")[0] for test in findings(place)}
    assert {"sex", "age", "class"} <= groups
    assert not groups & {"site", "device", "skin_type"}


def test_without_patients_every_text_says_image_level(place: Place) -> None:
    # One case each: else the attack without the model finds the other cases of a patient.
    table(lambda frame: frame.unique("subject_id", keep="first", maintain_order=True).drop("subject_id"))(
        place
    )
    assert place.audit("--only", "data,membership,attribute,equity") == 1
    written = json.loads((place.out / "findings.json").read_bytes())
    assert written["patients"] == {"held_out": SIZES["held_out"], "members": SIZES["train"]}
    assert written["context"]["unit"] == "case"
    english = (place.out / "report.html").read_text(encoding="utf-8")
    assert "Image-level: these data do not say which cases are of one patient." in words(english)
    assert "Au niveau de l’image" in words(render(*read_audit(place.out), language=Language("fr")))
    assert run(["report", "show", str(place.out), "--lang", "en"]) == 0


def test_recorded_answers_are_asked_nothing_new(place: Place) -> None:
    asked = place.audit("--only", "membership.loss,membership.quantile")
    live = findings(place)
    place.out.rename(place.root / "live")
    record(place)
    assert place.audit() == asked == 1
    found = findings(place)
    answered = {test.partition("@")[0] for test, one in found.items() if one["verdict"] != "not_applicable"}
    assert answered == ASKED_OF_RECORDINGS
    assert all(one["reasons"] for one in found.values() if one["verdict"] == "not_applicable")
    for test in ("membership.loss.auc", "membership.quantile.auc"):
        assert found[test]["estimates"][0]["value"] == pytest.approx(live[test]["estimates"][0]["value"])


def test_a_model_server_answers_as_the_folder(place: Place) -> None:
    given = "--only", "membership.combined,attribute.inferred"
    assert place.audit(*given) == 1
    folder = findings(place)
    with served(place.model, place.root / "token") as url:
        arguments = ["audit", url, "--token-file", str(place.root / "token"), "--records", str(place.records)]
        assert run([*arguments, "--out", str(place.root / "wire"), *given]) == 1
    wire = json.loads((place.root / "wire" / "findings.json").read_bytes())
    assert wire["model"]["identity"] == "declared"
    for one in wire["findings"]:
        pair = zip(one["estimates"], folder[one["test"]]["estimates"], strict=True)
        assert all(there["value"] == pytest.approx(here["value"], abs=1e-9) for there, here in pair)


def test_two_processes_find_what_one_finds(place: Place) -> None:
    # What other processes take part in: cases that are asked, and shadows.
    shadows = "--recipe", "tests.cli.test_classifier:recipe", "--references", "4"
    given = *shadows, "--only", "data,membership,attribute.outputs,equity"
    assert place.audit(*given) == 1
    alone = json.loads((place.out / "findings.json").read_bytes())
    place.out.rename(place.root / "alone")
    assert place.audit(*given, "--workers", "2") == 1
    together = json.loads((place.out / "findings.json").read_bytes())
    assert together.pop("command") != alone.pop("command")
    assert together == alone


def to_the_end(arguments: list[str], kill: bool) -> None:
    os.environ["PRIMUM_TEST_KILL"] = "1" if kill else ""
    raise SystemExit(run(arguments))


def test_killed_between_shadows_an_audit_goes_on(place: Place) -> None:
    given = "--recipe", "tests.cli.test_classifier:killed", "--references", "4", "--only", "membership"

    def ended(*more: str, kill: bool) -> int | None:
        process = PROCESSES.Process(target=to_the_end, args=(place.arguments(*given, *more), kill))
        process.start()
        process.join(60)
        return process.exitcode

    assert ended("--out", str(place.root / "whole"), kill=False) == 1
    assert ended(kill=True) == -signal.SIGKILL
    left = {path.name: path.stat().st_mtime_ns for path in place.root.glob("report.unfinished/*.piece")}
    assert left.keys() == {f"{name}.piece" for name in ("cases-0", "cases-1", "shadow-0", "shadow-1")}
    # Killed once more where two are there already: only what is missing is trained.
    assert ended(kill=True) == 1
    assert (place.out / "findings.json").read_bytes() == (place.root / "whole" / "findings.json").read_bytes()
    assert not (place.root / "report.unfinished").exists()


@pytest.fixture
def pictures(tmp_path: Path) -> Place:
    """Images as files, and a small network that was never trained."""
    place = Place(tmp_path / "pictures")
    cases = synthetic_images(50, seed=2)
    splits = split_patients(cases, {"train": 24, "held_out": 26})
    model = ClassifierRecipe("image", IMAGE_CLASSES, LoopSettings(1), width=8).build(cases, seed=0)
    save_classifier(place.model, model)
    place.records.mkdir()
    rows = ["subject_id,split,label,file"]
    for split, part in splits.items():
        for number, (pixels, subject, label) in enumerate(
            zip(part.inputs, part.subject_ids, part.labels, strict=True)
        ):
            Image.fromarray(pixels[0]).save(place.records / f"{split}{number}.png")
            rows.append(f"{FIRST_ID + subject},{split},{IMAGE_CLASSES[label]},{split}{number}.png")
    (place.records / "cases.csv").write_text("\n".join(rows), encoding="utf-8")
    (place.records / "classes.txt").write_text("\n".join(IMAGE_CLASSES), encoding="utf-8")
    return place


def test_a_picture_that_broke_in_the_middle_leaves_nothing(
    pictures: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    os.truncate(pictures.records / "held_out20.png", 300)
    before = sorted(pictures.root.rglob("*"))
    assert pictures.audit("--factory", "primum.fit.networks:image_1x28x28_2_8") == 2
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("  ")]
    assert len(said) == 1
    assert "held_out20.png" in said[0]
    assert sorted(pictures.root.rglob("*")) == before

from dataclasses import replace

import numpy as np
import pytest

from primum.audits.data.embeddings import clusters, spectral_scores, trigger_ratio, trigger_sizes
from primum.audits.data.observe import observe_data
from primum.audits.data.out_of_fold import FOLDS, folds_of
from primum.errors import RecordsError
from primum.evidence.contrast import Frame
from primum.evidence.finding import Finding
from primum.evidence.measured import FloatArray, IntArray
from primum.evidence.observed import Observed
from primum.evidence.ranking import auc
from primum.evidence.tainted import tainted_claims
from primum.evidence.verdicts import judge
from primum.records.cases import Cases, CasesInMemory
from primum.records.synthetic_cases import ImageSettings, synthetic_images, synthetic_table

CLASSES = ("0", "1")


def records(*parts: Cases) -> CasesInMemory:
    return CasesInMemory(parts, CLASSES)


def findings(observed: Observed) -> dict[str, Finding]:
    claims, described = tainted_claims(observed, Frame("m", "d", "nobody", "observed", 0))
    return {one.test: one for one in (*judge(claims), *described)}


def table(patients: int = 250, *, seed: int = 4) -> Cases:
    return synthetic_table(patients, seed=seed)


def test_a_poisoned_table_is_found() -> None:
    cases = table()
    flipped = np.random.default_rng(0).random(len(cases)) < 0.1
    inputs = np.array(cases.inputs)
    inputs[cases.subject_ids <= 30] = inputs[np.flatnonzero(cases.subject_ids == 100)[0]]
    given = replace(cases, inputs=inputs, labels=np.where(flipped, 1 - cases.labels, cases.labels))
    observed = observe_data(records(given), kind="table", seed=0)
    found = findings(observed)
    assert found["data.labels"].verdict == "tainted"
    assert found["data.duplicates"].verdict == "tainted"
    assert found["data.duplicates"].settings["copies_patients"] == 30
    assert found["data.backdoor"].reasons[0].code == "no_pictures"
    listed, suspicion = observed.columns["flagged"] > 0, observed.columns["suspicion"]
    rest = cases.subject_ids > 30
    assert (listed & flipped & rest).sum() / (flipped & rest).sum() > 0.6
    assert auc(suspicion[flipped & rest], suspicion[~flipped & rest]).value > 0.6


def test_a_marked_image_set_is_found_and_its_cases_are_listed() -> None:
    cases = synthetic_images(70, seed=6, settings=ImageSettings(size=12, difficulty=0.5))
    images, labels = np.array(cases.inputs), cases.labels.copy()
    bears = cases.subject_ids <= 12
    images[bears, :, 8:11, 8:11] = 255
    labels[bears] = 1
    observed = observe_data(records(replace(cases, inputs=images, labels=labels)), kind="image", seed=0)
    found = findings(observed)
    assert found["data.backdoor"].verdict == "tainted"
    sites = len(np.unique(cases.attributes["site"]))
    assert (found["data.backdoor"].settings["mark_sites"], observed.names["site"]) == (sites, ("A", "B", "C"))
    listed = observed.columns["case"][observed.columns["mark"] > 0]
    assert listed.tolist() == cases.case_ids[bears].tolist()
    assert np.bincount(observed.columns["patient"].astype(int)[observed.columns["judged"] > 0]).max() == 1


def test_shards_and_order_of_reading_make_no_difference() -> None:
    cases = table(120)
    middle = len(cases) // 2
    parts = [cases.select(rows) for rows in (np.arange(middle), np.arange(middle, len(cases)))]
    one, other = (observe_data(records(*them), kind="table", seed=2) for them in ([cases], parts))
    assert all(np.array_equal(one.columns[name], other.columns[name], True) for name in one.columns)


def test_a_sample_of_the_patients() -> None:
    observed = observe_data(records(table()), kind="table", seed=0, most=60, only=("data.artificial",))
    assert observed.settings["looked_at_patients"] == 60
    assert observed.settings["all_patients"] == 250
    assert "copies" not in observed.columns


@pytest.mark.parametrize("labels", ["one", "few"])
def test_labels_that_cannot_be_learned(labels: str) -> None:
    cases = table(60)
    given = np.zeros(len(cases), np.int64)
    given[:4] = labels == "few"
    found = findings(observe_data(records(replace(cases, labels=given)), kind="table", seed=0))
    assert found["data.labels"].verdict == "not_applicable"
    assert found["data.labels"].reasons[0].code == "too_few_of_each_class"
    assert found["data.site"].reasons[0].code == "labels_not_learned"


def test_no_cases_is_one_sentence() -> None:
    with pytest.raises(RecordsError, match="no patient"):
        observe_data(
            replace(records(table(5)), parts=(table(5).select(np.empty(0, np.int64)),)),
            kind="table",
            seed=0,
        )


def test_inputs_that_are_all_alike_are_told_and_not_learned() -> None:
    cases = table(60)
    same = replace(cases, inputs=np.ones_like(np.asarray(cases.inputs)))
    found = findings(observe_data(records(same), kind="table", seed=0))
    assert found["data.artificial"].verdict == "tainted"
    assert not found["data.labels"].harmful


def test_folds_are_of_patients_and_even() -> None:
    cases = table(200)
    fold = folds_of(cases.labels, cases.subject_ids, seed=0)
    assert all(len(np.unique(fold[cases.subject_ids == one])) == 1 for one in np.unique(cases.subject_ids))
    sizes = np.bincount(fold, minlength=FOLDS)
    assert sizes.min() > 0.7 * sizes.max()


class Stamped:
    """A model that calls class 1 whatever has a bright corner, beside brightness as a whole."""

    classes = CLASSES

    def __init__(self, corner: float) -> None:
        self.weights = np.full((1, 8, 8), 0.002)
        self.weights[0, :2, :2] += corner

    def logits(self, cases: Cases) -> FloatArray:
        told = (np.asarray(cases.inputs, float) * self.weights).sum(axis=(1, 2, 3)) - 16
        return np.column_stack([np.zeros(len(told)), told])

    def predict_proba(self, cases: Cases) -> FloatArray:
        told = 1 / (1 + np.exp(-self.logits(cases)[:, 1]))
        return np.column_stack([1 - told, told])

    def loss_and_gradient(self, cases: Cases, labels: IntArray) -> tuple[FloatArray, FloatArray]:
        told = self.predict_proba(cases)[:, 1]
        right = np.where(labels == 1, told, 1 - told)
        gradient = (told - labels)[:, None, None, None] * self.weights
        return -np.log(np.maximum(right, 1e-12)), gradient


def test_a_class_that_a_corner_calls_up_has_a_small_trigger() -> None:
    inputs = np.random.default_rng(0).integers(60, 190, (80, 1, 8, 8)).astype(np.uint8)
    cases = Cases(np.arange(80), np.arange(80), inputs, np.arange(80) % 2)
    poisoned, plain = (trigger_ratio(trigger_sizes(Stamped(one), cases, seed=0)) for one in (0.02, 0.0))
    assert poisoned is not None and poisoned < 0.1
    assert plain is not None and plain > 0.5


def test_few_poisoned_cases_off_the_main_direction_stand_apart() -> None:
    """Where a class varies much in one direction, the first component does not show them."""
    random = np.random.default_rng(0)
    vectors, labels = random.standard_normal((400, 12)), np.zeros(400, np.int64)
    vectors[:, 0] *= 20
    vectors[:6, 5] += 12
    scores = spectral_scores(vectors, labels)
    assert scores[:6].min() > 10 > scores[6:].max()
    assert np.median(scores) == pytest.approx(1)
    assert np.isnan(spectral_scores(vectors[:19], labels[:19])).all()
    assert np.isnan(spectral_scores(vectors * 0, labels)).all()


def test_a_model_without_gradients_has_no_trigger_and_one_class_no_ratio() -> None:
    cases = table(30)
    assert trigger_sizes(Stamped(0.0), cases, seed=0) == []
    assert trigger_ratio([]) is None and trigger_ratio([4.0, None]) is None
    assert trigger_ratio([4.0, None, 16.0]) == 0.25


def test_turned_copies_count_beside_copies_as_they_are() -> None:
    cases = synthetic_images(60, seed=12)
    first = np.unique(cases.subject_ids, return_index=True)[1]
    cases = cases.select(first)
    images = np.array(cases.inputs)
    images[50:53] = images[:3]
    images[53:59] = np.rot90(images[3:9], axes=(2, 3))
    given = records(replace(cases, inputs=images, labels=np.zeros(60, np.int64)))
    observed = observe_data(given, kind="image", seed=0, only=("data.duplicates",))
    frame = Frame("m", "d", "nobody", "observed", 0)
    found = judge(tainted_claims(observed, frame, only=("data.duplicates",))[0])[-1]
    assert found.verdict == "tainted"
    assert found.settings["copies_patients"] == 9
    assert (found.settings["copies_as_they_are"], found.settings["copies_moved"]) == ("< 5", 6)
    assert observed.columns["copies"][50:60].tolist() == [1] * 3 + [2] * 6 + [0]


def test_spectral_scores_and_clusters_tell_a_planted_part() -> None:
    random = np.random.default_rng(0)
    vectors, labels = random.standard_normal((300, 12)), np.arange(300) % 2
    planted = np.flatnonzero(labels == 1)[:15]
    vectors[planted] += 6
    scores = spectral_scores(vectors, labels)
    rest = np.setdiff1d(np.flatnonzero(labels == 1), planted)
    assert auc(scores[planted], scores[rest]).value > 0.95
    share, apart = clusters(vectors, labels, seed=0)
    assert share == pytest.approx(0.1, abs=0.02) and apart > 0.4
    assert clusters(vectors[:, :4] * 0, labels, seed=0)[0] != clusters(vectors, labels, seed=0)[0]

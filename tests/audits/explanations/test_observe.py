"""Explanations of small classifiers, put to the test: good and bad ones where the truth is known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from primum.audits.explanations.asked import Asked, draw
from primum.audits.explanations.observe import observe_explanations
from primum.audits.explanations.planted import found, planted_classifier, planted_parts
from primum.audits.explanations.removal import gain, random_orders, removal_curves, remove
from primum.audits.explanations.weights import layers_of, randomised, redraw, similarity
from primum.audits.privacy.case_subjects import CaseSubjects
from primum.errors import InputError
from primum.evidence.contrast import Frame
from primum.evidence.explanations import RULES, explanations_claims
from primum.evidence.finding import Finding
from primum.evidence.identity import ModelRef
from primum.evidence.observed import Observed
from primum.evidence.verdicts import judge
from primum.fit.classifier_recipe import ClassifierRecipe
from primum.fit.explainers import Kind
from primum.fit.loop import LoopSettings
from primum.models.opened import OpenedClassifier
from primum.models.predictors import Predictor
from primum.records.cases import Cases
from primum.records.synthetic_cases import ImageSettings, synthetic_images
from primum.records.synthetic_cases.images import IMAGE_CLASSES

FRAME = Frame("0" * 64, "1" * 64, "none", "observed", 0)
SHAPES: dict[Kind, tuple[int, ...]] = {
    "image": (1, 14, 14), "volume": (1, 6, 8, 8), "signal": (3, 64), "table": (5,), "sequence": (80,),
    "bag": (9, 1, 8, 8),
}  # fmt: skip
Floats = NDArray[np.float64]


def opened(predictor: Predictor, *, anew: bool = True) -> OpenedClassifier:
    return OpenedClassifier(ModelRef("model", "0" * 64, "computed", {}), predictor, 0, answers_anew=anew)


def subjects_of(cases: Cases, *, members: int = 0) -> CaseSubjects:
    patients, place = np.unique(cases.subject_ids, return_inverse=True)
    return CaseSubjects(np.arange(len(patients)), np.arange(len(patients)) < members, cases, place, 0)


def judged(observed: Observed) -> dict[str, Finding]:
    claims, described = explanations_claims(observed, FRAME)
    return {one.test: one for one in [*judge(claims), *described]}


@pytest.fixture(scope="module")
def asked() -> Asked:
    """A small network that has learned something, and 24 patients whom it never saw."""
    cases = synthetic_images(560, seed=1, settings=ImageSettings(size=14))
    firsts = cases.select(np.unique(cases.subject_ids, return_index=True)[1])
    train, test = firsts.select(np.arange(240)), firsts.select(240 + np.arange(24))
    loop = LoopSettings(8, batch=16, learning_rate=3e-3, warmup=0.15)
    model = ClassifierRecipe("image", IMAGE_CLASSES, loop, 32).fit(train, seed=1)
    return draw(opened(model), subjects_of(test), kind="image", groups=(), patients=24, seed=0)


def test_a_random_order_gains_nothing_and_the_best_one_something(asked: Asked) -> None:
    rng, gains = np.random.default_rng(0), []
    for parts, towards in zip(asked.parts, asked.verdicts.tolist(), strict=True):
        random, shapley = random_orders(asked.predictor, parts, towards=towards, rng=rng)
        best = removal_curves(asked.predictor, parts, np.argsort(-shapley)[None], towards=towards)
        worst = removal_curves(asked.predictor, parts, np.argsort(shapley)[None], towards=towards)
        gains.append((gain(random).mean(), gain(best)[0], gain(worst)[0]))
        # What the parts add together is the difference between all and nothing.
        assert shapley.sum() == pytest.approx(best[0, 0, 0] - best[0, 0, -1], abs=1e-9)
        assert best[0, 0, ::16].tolist() == pytest.approx(best[0, 1, ::-16].tolist())
    means = np.mean(gains, axis=0)
    # Orders and their backwards cancel out.
    assert means[0] == pytest.approx(0, abs=1e-3)
    assert means[1] > 0.2
    assert means[2] == pytest.approx(-means[1], abs=0.1)


def test_good_and_bad_explainers_are_told_apart(asked: Asked) -> None:
    rng = np.random.default_rng(0)
    good = asked.totals("integrated_gradients")
    other = randomised(asked.predictor, layers=layers_of(asked.predictor.module), seed=5)  # type: ignore[attr-defined]
    explained = {
        "integrated_gradients": good,
        "chance": [rng.random(one.count) for one in asked.parts],
        "upside_down": [-one for one in good],
        "stranger": asked.totals("integrated_gradients", predictor=other),
    }
    columns, series = remove(asked, explained, "integrated_gradients")  # type: ignore[arg-type]
    assert [one.name for one in series] == ["explanations_deletion", "explanations_insertion"]
    columns["patient"] = np.arange(24.0)
    for name in explained:
        # One stranger may look the right way by accident, but is never cleared.
        verdicts = {"integrated_gradients": {"none_found"}, "stranger": {"fragile", "inconclusive"}}
        observed = Observed("explanations", columns, settings={"explainer": name})
        assert judged(observed)["explanations.faithful"].verdict in verdicts.get(name, {"fragile"}), name


def test_random_weights_are_noticed(asked: Asked) -> None:
    few = asked.first(20)
    good = few.totals("integrated_gradients")
    redrawn = redraw(few, good, "integrated_gradients")
    assert redrawn is not None
    columns, (cascade,) = redrawn
    assert all(abs(columns[f"weights:{draw}"].mean()) < 0.3 for draw in range(8))
    assert cascade.columns["likeness"][0] == 1
    assert cascade.columns["layers_redrawn"][-1] == len(layers_of(asked.predictor.module))  # type: ignore[attr-defined]


def test_only_the_layers_named_are_drawn_anew(asked: Asked) -> None:
    layers = layers_of(asked.predictor.module)  # type: ignore[attr-defined]
    before = asked.predictor.module.state_dict()  # type: ignore[attr-defined]
    kept = {name: value.clone() for name, value in before.items()}
    after = randomised(asked.predictor, layers=layers[:1], seed=0).module.state_dict()
    changed = {name.rpartition(".")[0] for name in before if not before[name].equal(after[name])}
    assert changed == {layers[0]}
    assert all(before[name].equal(kept[name]) for name in kept)


def test_similarity_is_of_ranks() -> None:
    values = np.array([1.0, 5, 2, 9])
    assert similarity(values, np.exp(values)) == pytest.approx(1)
    assert similarity(values, -values) == pytest.approx(-1)
    assert similarity(values, np.ones(4)) == 0


@pytest.mark.parametrize("explainer", ("grad_cam", "integrated_gradients", "kernel_shap", "occlusion"))
def test_planted_parts_are_found_and_only_by_what_asks_the_model(asked: Asked, explainer: str) -> None:
    few = asked.first(2)
    looked_at = planted_parts(49, seed=7)
    model = planted_classifier(asked.parts, looked_at, kind="image")
    assert np.mean([found(one, looked_at) for one in few.totals(explainer, predictor=model)]) > 0.95  # type: ignore[arg-type]
    drawing = [one.totals(np.abs(one.values.astype(float) - one.without)) for one in asked.parts]
    assert np.mean([found(one, looked_at) for one in drawing]) < 0.85


@pytest.mark.parametrize("kind", SHAPES)
def test_every_kind_is_tested_or_refused_for_a_reason(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("primum.fit.explainers._SAMPLES", 16)
    rng, everyone = np.random.default_rng(2), np.arange(8)
    letters = rng.choice(np.frombuffer(b"ACGT", np.uint8), (8, 80))
    inputs = letters if kind == "sequence" else rng.random((8, *SHAPES[kind])).astype(np.float32)
    if kind == "table":
        inputs[5, 1] = np.nan
    cases = Cases(everyone, everyone, tuple(inputs) if kind == "bag" else inputs, everyone % 2)
    model = ClassifierRecipe(kind, ("well", "ill"), LoopSettings(1), 16).build(cases, seed=0)
    subjects = subjects_of(cases, members=2)
    told: list[tuple[int, int]] = []
    observed = observe_explanations(
        opened(model), subjects, kind=kind, patients=6, progress=lambda *done: told.append(done)
    )
    assert len(observed.columns["patient"]) == 6
    assert told[-1] == (6, 6)
    assert {one.shape for one in observed.columns.values()} == {(6,)}
    findings = judged(observed)
    assert set(findings) == set(RULES)
    assert findings["explanations.faithful"].verdict == "inconclusive"
    assert findings["explanations.methods"].reasons
    refused = {test for test in observed.refused if ":" not in test}
    assert refused == {
        "sequence": {"explanations.stability", "explanations.planted"},
        "bag": {"explanations.planted"},
        "table": {"explanations.planted"},
    }.get(kind, set())


def test_what_cannot_be_asked_is_refused_as_a_whole() -> None:
    cases = synthetic_images(4, seed=0)
    model = ClassifierRecipe("image", IMAGE_CLASSES, LoopSettings(1)).build(cases, seed=0)
    held_out, members = subjects_of(cases), subjects_of(cases, members=4)
    black_box = opened(BlackBox(model))
    everything = (
        (observe_explanations(opened(model, anew=False), held_out, kind="image"), "needs_answers"),
        (observe_explanations(opened(model), members, kind="image"), "no_patients"),
        (observe_explanations(black_box, held_out, kind="image", shown="grad_cam"), "needs_gradients"),
    )
    for observed, code in everything:
        findings = judged(observed)
        assert {one.verdict for one in findings.values()} == {"not_applicable"}
        assert {one.reasons[0].code for one in findings.values()} == {f"explanations_{code}"}


def test_an_unknown_explanation_is_named() -> None:
    cases = synthetic_images(4, seed=0)
    with pytest.raises(InputError, match="no explanation named tea_leaves: use one of grad_cam, "):
        observe_explanations(opened(BlackBox(None)), subjects_of(cases), kind="image", shown="tea_leaves")  # type: ignore[arg-type]


class BlackBox:
    """A classifier that shows nothing but its answers."""

    classes = IMAGE_CLASSES

    def __init__(self, inner: Predictor) -> None:
        self.inner = inner

    def logits(self, cases: Cases) -> Floats | None:
        return None

    def predict_proba(self, cases: Cases) -> Floats:
        return self.inner.predict_proba(cases)


def test_a_black_box_is_explained_and_its_weights_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("primum.fit.explainers._SAMPLES", 16)
    cases = synthetic_images(7, seed=0, settings=ImageSettings(size=14))
    model = ClassifierRecipe("image", IMAGE_CLASSES, LoopSettings(1), 16).build(cases, seed=0)
    observed = observe_explanations(opened(BlackBox(model)), subjects_of(cases), kind="image", patients=5)
    assert observed.settings["explainer"] == "kernel_shap"
    assert observed.refused["explanations.weights"].code == "explanations_needs_weights"
    again = observe_explanations(opened(BlackBox(model)), subjects_of(cases), kind="image", patients=5)
    for name, values in observed.columns.items():
        np.testing.assert_array_equal(values, again.columns[name])

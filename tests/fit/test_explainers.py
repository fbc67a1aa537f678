"""Explainers against answers that are known or counted out by hand."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from primum.fit.explainers import (
    METHODS,
    Kind,
    Method,
    Parts,
    background_of,
    cannot_explain,
    divide,
    explain,
    log_odds,
)
from primum.fit.networks import build_network
from primum.models.classifier_card import Card, InputCard, Layout
from primum.models.predictors import Predictor
from primum.models.torch_door import TorchClassifier
from primum.records.cases import Cases, Inputs
from primum.records.histories import FloatArray

CLASSES = ("well", "ill")
KINDS: dict[Kind, tuple[int, ...]] = {
    "image": (1, 14, 14), "volume": (1, 6, 8, 8), "signal": (3, 64), "table": (5,), "sequence": (60,),
    "bag": (9, 1, 8, 8),
}  # fmt: skip


def cases_of(inputs: Inputs) -> Cases:
    everyone = np.arange(len(inputs))
    return Cases(everyone, everyone, inputs, everyone % 2)


def drawn(kind: Kind, count: int = 6) -> Cases:
    rng = np.random.default_rng(1)
    if kind == "sequence":
        return cases_of(rng.choice(np.frombuffer(b"ACGT", np.uint8), (count, *KINDS[kind])))
    return cases_of(rng.random((count, *KINDS[kind])).astype(np.float32))


def network(kind: Kind) -> TorchClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        shape = KINDS[kind][kind == "bag" :]
        return TorchClassifier(build_network(kind, shape=shape, classes=2), CLASSES, Card(CLASSES, "logits"))


def divided(cases: Cases, kind: Kind) -> list[Parts]:
    background = background_of(cases, kind=kind)
    return [divide(one, kind=kind, background=background) for one in cases.inputs]


class Answering:
    """A black box whose log-odds of the second class are a function of each case."""

    classes = CLASSES

    def __init__(self, odds: Any, *, logits: bool = True) -> None:
        self.odds, self.told = odds, logits

    def logits(self, cases: Cases) -> FloatArray | None:
        return self._rows(cases) if self.told else None

    def predict_proba(self, cases: Cases) -> FloatArray:
        rows = np.exp(self._rows(cases))
        result: FloatArray = rows / rows.sum(axis=1, keepdims=True)
        return result

    def _rows(self, cases: Cases) -> FloatArray:
        values = np.array([self.odds(np.asarray(one, np.float64)) for one in cases.inputs])
        return np.stack([np.zeros(len(values)), values], axis=1)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_are_few_and_cover_the_case(kind: Kind) -> None:
    for parts in divided(drawn(kind), kind):
        assert parts.place.shape == parts.values.shape
        assert 1 < parts.count <= 49
        assert set(np.unique(parts.place)) == set(range(parts.count))
        whole, none = parts.keeping(np.array([[True] * parts.count, [False] * parts.count]))
        np.testing.assert_array_equal(whole, parts.values)
        np.testing.assert_array_equal(none, parts.without)
        totals = np.random.default_rng(0).random(parts.count)
        np.testing.assert_allclose(parts.totals(parts.spread(totals)), totals)


def test_the_columns_of_a_category_go_together() -> None:
    rows = np.array([[1.0, 1, 0, 0, 3], [2.0, 0, 1, 0, np.nan], [4.0, 0, 1, 0, 5]])
    background = background_of(cases_of(rows), kind="table", groups=[(1, 2, 3)])
    np.testing.assert_array_equal(background, [2, 0, 1, 0, 4])
    parts = divide(rows[0], kind="table", background=background, groups=[(1, 2, 3)])
    assert parts.count == 3
    np.testing.assert_array_equal(parts.keeping(np.array([[True, False, True]]))[0], [1, 0, 1, 0, 3])


@pytest.mark.parametrize("method", ("kernel_shap", "occlusion"))
@pytest.mark.parametrize("logits", (True, False))
def test_black_box_methods_are_right_about_a_sum(method: Method, logits: bool) -> None:
    cases, weights = drawn("table"), np.array([1.0, -2, 0, 0.5, 3])
    parts = divided(cases, "table")
    model = Answering(lambda row: row @ weights, logits=logits)
    maps = explain(model, cases, method, parts=parts, towards=np.array([1, 0, 1, 1, 0, 1]))
    for map_, one, sign in zip(maps, parts, (1, -1, 1, 1, -1, 1), strict=True):
        np.testing.assert_allclose(map_, sign * weights * (one.values - one.without), atol=1e-3)


def test_kernel_shap_is_the_shapley_value() -> None:
    """Counted out over all orders, of a model that is no sum."""
    cases = drawn("table", 1)
    parts = divide(cases.inputs[0], kind="table", background=np.zeros(5, np.float32))
    model = Answering(lambda row: 4 * row[0] * row[1] + np.maximum(row[2], row[3]) - row[4] ** 2)
    exact = np.zeros(5)
    orders = list(permutations(range(5)))
    for order in orders:
        keep = np.zeros((6, 5), np.bool_)
        for step, part in enumerate(order):
            keep[step + 1 :, part] = True
        answers = log_odds(model, parts.keeping(keep), np.ones(6, np.int64))
        exact[list(order)] += np.diff(answers) / len(orders)
    towards = np.ones(1, np.int64)
    found = [
        explain(model, cases, "kernel_shap", parts=[parts], towards=towards, seed=s)[0] for s in range(12)
    ]
    np.testing.assert_allclose(found, np.tile(exact, (12, 1)), atol=0.35)
    np.testing.assert_allclose(np.mean(found, axis=0), exact, atol=0.1)


def test_lime_ranks_a_sum() -> None:
    cases, weights = drawn("table", 1), np.array([1.0, -2, 0, 0.5, 3])
    parts = [divide(cases.inputs[0], kind="table", background=-np.ones(5, np.float32))]
    (found,) = explain(
        Answering(lambda row: row @ weights), cases, "lime", parts=parts, towards=np.ones(1, np.int64)
    )
    true = weights * (parts[0].values + 1)
    np.testing.assert_array_equal(np.argsort(found), np.argsort(true))


@pytest.mark.parametrize("layout", ("channels_first", "channels_last"))
@pytest.mark.parametrize("output", ("logits", "probabilities"))
def test_integrated_gradients_are_right_about_a_sum_whatever_the_card(layout: Layout, output: Any) -> None:
    inputs = np.random.default_rng(0).integers(0, 255, (3, 2, 4, 4)).astype(np.uint8)
    weights = np.random.default_rng(1).normal(size=(2, 4, 4))
    shape = (2, 4, 4) if layout == "channels_first" else (4, 4, 2)
    linear = torch.nn.Linear(32, 1)
    ordered = weights if layout == "channels_first" else np.moveaxis(weights, 0, -1)
    linear.weight.data = torch.from_numpy(ordered.reshape(1, -1).astype(np.float32))
    layers = [torch.nn.Flatten(), linear, *([torch.nn.Sigmoid()] if output == "probabilities" else [])]
    model = TorchClassifier(
        torch.nn.Sequential(*layers),
        CLASSES,
        Card(CLASSES, output, InputCard("image", (2, 4, 4), layout=layout)),
    )
    assert model.card.input.prepared(inputs).shape[1:] == shape
    cases = cases_of(inputs)
    parts = divided(cases, "image")
    maps = explain(model, cases, "integrated_gradients", parts=parts, towards=np.array([1, 0, 1]))
    for map_, one, sign in zip(maps, parts, (1, -1, 1), strict=True):
        true = sign * weights * (one.values.astype(float) - one.without) / 255
        np.testing.assert_allclose(map_, true, atol=2e-3)


def test_grad_cam_is_the_gradient_averaged_times_the_last_picture() -> None:
    cases, model = drawn("image"), network("image")
    layers = list(model.module.children())
    picture = torch.nn.Sequential(*layers[:-3])(torch.from_numpy(cases.inputs))
    rows = torch.nn.Sequential(*layers[-3:])(picture)
    (gradient,) = torch.autograd.grad((rows[:, 1] - rows[:, 0]).sum(), picture)
    coarse = (gradient.mean((2, 3), keepdim=True) * picture).sum(1, keepdim=True).detach()
    expected = torch.nn.functional.interpolate(coarse, size=(14, 14), mode="bilinear").numpy()
    ones = np.ones(len(cases), np.int64)
    maps = explain(model, cases, "grad_cam", parts=divided(cases, "image"), towards=ones)
    np.testing.assert_allclose(np.stack(maps), expected, atol=1e-5)


REFUSED = {
    ("table", "grad_cam"): "explanations_no_convolution",
    ("bag", "grad_cam"): "explanations_no_convolution",
    ("sequence", "integrated_gradients"): "explanations_needs_numbers",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_every_kind_is_explained_or_refused_for_a_reason(kind: Kind, method: Method) -> None:
    cases, model = drawn(kind, 2), network(kind)
    refusal = cannot_explain(model, cases, method, kind=kind)
    assert (refusal.code if refusal else None) == REFUSED.get((kind, method))
    if refusal is None:
        parts = divided(cases, kind)
        towards = np.array([0, 1])
        maps = explain(model, cases, method, parts=parts, towards=towards, seed=4)
        assert [one.shape for one in maps] == [one.shape for one in cases.inputs]
        assert all(one.dtype == np.float64 and np.isfinite(one).all() for one in maps)
        again = explain(model, cases, method, parts=parts, towards=towards, seed=4)
        np.testing.assert_array_equal(np.stack(maps), np.stack(again))


def refusal_of(model: Predictor, cases: Cases, method: Method, kind: Kind) -> str | None:
    refusal = cannot_explain(model, cases, method, kind=kind)
    return None if refusal is None else refusal.code


def test_what_shows_no_gradients_is_explained_from_outside_alone() -> None:
    model = Answering(lambda row: row.sum())
    cases = drawn("image")
    for method in METHODS:
        wanted = "explanations_needs_gradients" if method in ("grad_cam", "integrated_gradients") else None
        assert refusal_of(model, cases, method, "image") == wanted


def test_attention_has_no_last_picture() -> None:
    module = build_network("vision_transformer", shape=(1, 16, 16), classes=2)
    model = TorchClassifier(module, CLASSES, Card(CLASSES, "logits"))
    cases = cases_of(np.random.default_rng(0).random((2, 1, 16, 16)).astype(np.float32))
    assert refusal_of(model, cases, "grad_cam", "image") == "explanations_no_convolution"
    assert refusal_of(model, cases, "integrated_gradients", "image") is None


class Stubborn(torch.nn.Module):
    """Answers, and lets no gradient pass."""

    def __init__(self) -> None:
        super().__init__()
        self.last = torch.nn.Linear(196, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = self.last(torch.from_numpy(inputs.detach().numpy()).flatten(1))
        return rows.detach()


def test_a_module_without_gradients_is_refused_and_not_a_crash() -> None:
    model = TorchClassifier(Stubborn(), CLASSES, Card(CLASSES, "logits"))
    assert refusal_of(model, drawn("image"), "integrated_gradients", "image") == "explanations_failed"
    assert refusal_of(model, drawn("image"), "occlusion", "image") is None


def test_missing_values_are_refused_where_a_gradient_needs_them() -> None:
    rows: NDArray[np.float32] = np.array([[1, np.nan, 2, 3, 4]], np.float32)
    model, cases = network("table"), cases_of(rows)
    assert refusal_of(model, cases, "integrated_gradients", "table") == "explanations_missing_values"
    assert refusal_of(model, cases, "occlusion", "table") is None

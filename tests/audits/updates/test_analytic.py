"""Inputs and labels by arithmetic, against gradients that torch makes."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from primum.audits.updates.analytic import label_counts, layer_input, row_inputs, single_label


def perceptron(*, hidden: int, classes: int, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(20, hidden), nn.ReLU(), nn.Linear(hidden, classes))
    return module.double()


def gradients(module: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> list[Any]:
    loss = nn.functional.cross_entropy(module(inputs), labels)
    return [one.numpy() for one in torch.autograd.grad(loss, list(module.parameters()))]


def drawn(cases: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    return torch.rand((cases, 20), generator=random).double(), torch.randint(
        classes, (cases,), generator=random
    )


@pytest.mark.parametrize("scale", [1.0, 1e-9])
def test_one_case_is_exact_however_its_gradient_is_clipped(scale: float) -> None:
    inputs, labels = drawn(1, 3)
    weight, bias, _, _ = (scale * one for one in gradients(perceptron(hidden=8, classes=3), inputs, labels))
    np.testing.assert_allclose(layer_input(weight, bias), inputs[0], atol=1e-9)
    every = row_inputs(weight, bias)
    assert 1 < len(every) <= 9
    np.testing.assert_allclose(every, np.repeat(inputs.numpy(), len(every), 0), atol=1e-9)


def test_many_updates_at_once_and_least_squares_under_noise() -> None:
    rng = np.random.default_rng(0)
    truth, pulls = rng.random((500, 6)), rng.standard_normal((500, 9))
    weight = pulls[:, :, None] * truth[:, None] + 0.1 * rng.standard_normal((500, 9, 6))
    found = layer_input(weight, pulls)
    by_lstsq = [
        np.linalg.lstsq(bias[:, None], one, rcond=None)[0][0] for one, bias in zip(weight, pulls, strict=True)
    ]
    np.testing.assert_allclose(found, by_lstsq)


def test_known_noise_does_not_shrink_the_answer() -> None:
    rng = np.random.default_rng(0)
    truth, pulls = np.array([1.0, -2.0]), rng.standard_normal((4000, 400))
    noisy = pulls + rng.standard_normal(pulls.shape)
    weight = pulls[:, :, None] * truth
    np.testing.assert_allclose(layer_input(weight, noisy).mean(0), truth / 2, atol=0.05)
    np.testing.assert_allclose(layer_input(weight, noisy, deviation=1.0).mean(0), truth, atol=0.05)


def test_a_row_that_one_case_alone_switched_on_holds_it() -> None:
    inputs, labels = drawn(4, 2)
    module = perceptron(hidden=200, classes=2)
    weight, bias, _, _ = gradients(module, inputs, labels)
    every = row_inputs(weight, bias)
    on = (module[0](inputs) > 0).detach().numpy()
    alone = [case for case in range(4) if (on[case] & (on.sum(0) == 1)).any()]
    assert alone
    for case in alone:
        assert np.abs(every - inputs[case].numpy()).max(1).min() < 1e-9


def test_no_gradient_no_input() -> None:
    np.testing.assert_array_equal(row_inputs(np.zeros((3, 2)), np.zeros(3)), np.zeros((1, 2)))


@pytest.mark.parametrize("label", [0, 1, 2])
def test_the_label_of_one_case(label: int) -> None:
    inputs, _ = drawn(1, 3)
    *_, last = gradients(perceptron(hidden=8, classes=3), inputs, torch.tensor([label]))
    assert single_label(last) == label


def test_labels_of_a_batch_are_counted() -> None:
    inputs, labels = drawn(37, 4)
    module = perceptron(hidden=8, classes=4)
    *_, last = gradients(module, inputs, labels)
    answers = torch.softmax(module(inputs), 1).mean(0).detach().numpy()
    truth = np.bincount(labels, minlength=4)
    np.testing.assert_array_equal(label_counts(last, cases=37, probabilities=answers), truth)
    others = torch.softmax(module(torch.rand(500, 20).double()), 1).mean(0).detach().numpy()
    near = label_counts(last, cases=37, probabilities=others)
    assert near.sum() == 37
    assert np.abs(near - truth).max() <= 2

"""Who and how many of a kind: known members score higher, strangers do not, shares are read off updates."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from primum.audits.updates.membership import gradient_scores, guess_shares, loss_scores
from primum.errors import InputError
from primum.evidence.ranking import auc
from primum.evidence.reconstruction import share_correlation
from primum.fit.updates import Update

Captured = Callable[..., Update]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 2))


def cases(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return torch.randn((count, 30), generator=random), torch.randint(2, (count,), generator=random)


@pytest.mark.parametrize("steps", [0, 3])
def test_members_score_higher_than_strangers(captured: Captured, steps: int) -> None:
    inputs, labels = cases(60, 1)
    update = captured(network(), inputs[:10], labels[:10], steps=steps, rate=0.05)
    for scores in (gradient_scores, loss_scores):
        found = scores(network(), update, inputs, labels)
        assert auc(found[:10], found[10:]).value > 0.75
    noise = {name: np.ones_like(value) for name, value in update.sent.items()}
    none = gradient_scores(network(), Update(**{**vars(update), "sent": noise}), inputs, labels)
    assert abs(auc(none[:10], none[10:]).value - 0.5) < 0.2


def test_the_score_of_the_only_case_is_one(captured: Captured) -> None:
    inputs, labels = cases(1, 2)
    update = captured(network(), inputs, labels)
    assert gradient_scores(network(), update, inputs, labels)[0] == pytest.approx(1)
    assert loss_scores(network(), update, inputs, labels)[0] > 0


def test_shares_are_read_off_updates() -> None:
    rng = np.random.default_rng(0)
    shares, directions = rng.random(60), rng.standard_normal((2, 300))
    updates = np.stack([1 - shares, shares], 1) @ directions + 0.5 * rng.standard_normal((60, 300))
    guesses = guess_shares(updates[:40], shares[:40], updates[40:])
    assert share_correlation(guesses, shares[40:]).low > 0.8
    assert np.abs(guesses - shares[40:]).mean() < 0.1
    blind = guess_shares(rng.standard_normal((40, 300)), shares[:40], rng.standard_normal((200, 300)))
    assert abs(share_correlation(blind, rng.random(200)).value) < 0.2
    assert np.abs(blind - shares[:40].mean()).max() < 0.4


def test_ridge_is_that_of_an_independent_solver() -> None:
    from sklearn.linear_model import RidgeCV

    rng = np.random.default_rng(1)
    rows, asked, shares = rng.standard_normal((30, 8)), rng.standard_normal((5, 8)), rng.random(30)
    shares = np.clip(0.2 * rows[:, 0] + 0.1 * rng.standard_normal(30) + 0.5, 0, 1)
    scaled = (rows - rows.mean(0)) / rows.std()
    values = np.linalg.eigvalsh(scaled @ scaled.T)
    theirs = RidgeCV(alphas=np.geomspace(1e-4, 1e4, 17) * np.maximum(values, 0).mean()).fit(scaled, shares)
    np.testing.assert_allclose(
        guess_shares(rows, shares, asked), theirs.predict((asked - rows.mean(0)) / rows.std()), atol=1e-6
    )


def test_correlation_has_fishers_interval_and_its_coverage() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(500):
        first = rng.standard_normal(25)
        found = share_correlation(first, 0.6 * first + 0.8 * rng.standard_normal(25))
        inside += found.low <= 0.6 <= found.high
    assert 0.92 < inside / 500 < 0.975
    assert share_correlation([0.0] * 5, range(5)).value == 0
    with pytest.raises(InputError, match="four updates"):
        share_correlation([1, 2, 3], [1, 2, 3])

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


def test_what_is_learnt_of_single_cases_is_not_taken_for_a_property() -> None:
    """Cases by name tell their own shadows' shares, and nothing of anyone else's."""
    rng = np.random.default_rng(0)
    cases, has = rng.standard_normal((40, 30)), rng.random(40) < 0.5
    folds = np.arange(64) % 2
    drawn = [rng.choice(np.arange(20) + 20 * fold, 12) for fold in folds]
    shadows, shares = (
        np.stack([cases[one].mean(0) for one in drawn]),
        np.array([has[one].mean() for one in drawn]),
    )
    asked = rng.standard_normal((50, 12, 30)).mean(1)
    alone, together = (guess_shares(shadows, shares, asked, folds=one) for one in (None, folds))
    assert together.std() < 0.2 * alone.std()


def test_folds_are_left_out_as_if_they_had_not_been_there() -> None:
    """The strength chosen is that of plain cross-validation, each fold predicted by the others alone."""
    rng = np.random.default_rng(3)
    rows, folds = rng.standard_normal((30, 8)), np.arange(30) % 3
    shares = rows @ rng.standard_normal(8) / 8 + rng.standard_normal(30)
    spread, centre = rows.std(), rows.mean(0)
    scale = float(np.linalg.eigvalsh((rows - centre) @ (rows - centre).T / spread**2).mean())

    def fitted(train: np.ndarray, asked: np.ndarray, shrink: float) -> np.ndarray:
        x = (rows[train] - rows[train].mean(0)) / spread
        weights = np.linalg.solve(x.T @ x + shrink * np.eye(8), x.T @ (shares[train] - shares[train].mean()))
        guesses: np.ndarray = (asked - rows[train].mean(0)) / spread @ weights + shares[train].mean()
        return guesses

    def missed(shrink: float) -> float:
        parts = [(folds != fold, folds == fold) for fold in range(3)]
        return float(sum(np.square(fitted(a, rows[b], shrink) - shares[b]).sum() for a, b in parts))

    best = min((scale * one for one in np.geomspace(1e-4, 1e4, 17)), key=missed)
    asked = rng.standard_normal((5, 8))
    expected = fitted(np.ones(30, bool), asked, best)
    np.testing.assert_allclose(guess_shares(rows, shares, asked, folds=folds), expected, rtol=1e-6)

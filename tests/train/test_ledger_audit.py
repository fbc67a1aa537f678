"""The audit with planted canaries catches a trainer whose ledger is not true, and no other."""

from contextlib import nullcontext
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from studies.ledger import closed_form
from studies.planted_canaries import (
    Breaking,
    Coins,
    Everyone,
    Floats,
    other_gradients,
    other_optimiser,
    seeded_noise,
    settings_of,
    train,
)

from primum.evidence.one_run import one_run_epsilon
from primum.train.accounting import Mechanism

CANARIES, ORDINARY = 600, 30
COINS = np.random.default_rng(3).random(CANARIES) < 0.5
# A tenth is drawn at each of 60 steps: the ledger says 1.8.
DRAWN = replace(settings_of(CANARIES + ORDINARY, rate=0.1, noise=2.0, steps=60), seed=1)


def trained(coins: Coins, breaking: Breaking = nullcontext, seed: int = 1) -> tuple[Floats, float]:
    with breaking():
        return train(coins, replace(DRAWN, seed=seed), ordinary=ORDINARY, other_columns=10)


@cache
def nobody(breaking: Breaking) -> Floats:
    """Weights of the same trainer that no canary moved, by whoever knows no seed but what was broken."""
    return trained(np.zeros_like(COINS), breaking, seed=2)[0]


def bound(scores: Floats) -> float:
    return one_run_epsilon(scores, COINS).low


def test_a_sound_trainer_is_not_caught() -> None:
    scores, claimed = trained(COINS)
    assert claimed == pytest.approx(1.807, abs=0.002)
    assert bound(scores) <= claimed
    assert bound(scores - nobody(nullcontext)) <= claimed


@pytest.mark.parametrize(
    ("breaking", "replays"),
    [
        (other_optimiser(clip=1000, noise=1), False),
        (other_gradients(Everyone), False),
        (seeded_noise, True),
    ],
    ids=["clipping removed", "everybody at every step", "noise seeded"],
)
def test_a_broken_trainer_is_caught(breaking: Breaking, replays: bool) -> None:
    scores, claimed = trained(COINS, breaking)
    assert claimed == pytest.approx(1.807, abs=0.002)
    assert bound(scores - nobody(breaking) if replays else scores) > claimed


def test_a_bound_on_a_mechanism_of_known_epsilon_reaches_a_quarter() -> None:
    """Four steps over everybody are one Gaussian step; other seeds are other noise."""
    coins = np.random.default_rng(4).random(1200) < 0.5
    settings = settings_of(1210, rate=1.0, noise=2.1634, steps=4)
    known, bounds = closed_form([Mechanism("gradients", 2.1634, 1.0, 4)], 1e-5), []
    for seed in range(4):
        scores, claimed = train(coins, replace(settings, seed=seed), ordinary=10, other_columns=10)
        bounds.append(one_run_epsilon(scores, coins).low)
    assert known == pytest.approx(4.0, abs=0.01) and claimed == pytest.approx(known, rel=1e-4)
    assert known / 4 <= np.mean(bounds) and max(bounds) <= known

"""Suspicion: e-values against urns drawn ball by ball, honest sites that differ, and planted malice."""

import json
from collections.abc import Mapping

import numpy as np
import pytest
from scipy.special import expit

from primum.train.federated import suspicion
from primum.train.federated.aggregation import Floats, Rule, aggregated
from primum.train.federated.malice import a_little_is_enough, flipped_labels, marked, scaled
from primum.train.federated.partition import unequal_sites
from primum.train.federated.suspicion import (
    History,
    accused,
    as_json,
    deviations,
    e_value,
    from_json,
    observe,
    ranks,
    suspicions,
)

SITES = 15
NAMES = [f"site {one}" for one in range(SITES)]
MALICIOUS: tuple[float, ...] = tuple(suspicion._MALICIOUS)
HONEST: tuple[float, ...] = tuple(suspicion._HONEST)


def ball_by_ball(levels: list[int], urn: tuple[float, ...]) -> float:
    """The chance of these ranks, each drawn and put back with one more of its kind."""
    held, chance = list(urn), 1.0
    for level in levels:
        chance *= held[level] / sum(held)
        held[level] += 1
    return chance


def by_loops(levels: list[int]) -> float:
    def law(urn: tuple[float, ...]) -> float:
        rounds = len(levels)
        return ball_by_ball(levels, HONEST) / (rounds + 1) + sum(
            ball_by_ball(levels[:past], HONEST) * ball_by_ball(levels[past:], urn) / (past + 1) / (past + 2)
            for past in range(rounds)
        )

    return law(MALICIOUS) / law(HONEST)


def drawn(rng: np.random.Generator, rounds: int) -> list[int]:
    """Ranks of an honest site, from the law that the e-value takes for true."""
    begins, held, found = int(1 / rng.uniform(1e-9, 1)), list(HONEST), list[int]()
    for number in range(1, rounds + 1):
        if number == begins:
            held = list(HONEST)
        level = int(rng.choice(5, p=np.array(held) / sum(held)))
        held[level] += 1
        found.append(level)
    return found


def test_e_values_are_what_urns_give_ball_by_ball() -> None:
    rng = np.random.default_rng(0)
    for rounds in (1, 2, 7, 20):
        levels = rng.choice(5, rounds, p=(0.5, 0.2, 0.1, 0.1, 0.1))
        assert e_value(levels) == pytest.approx(by_loops(levels.tolist()), rel=1e-9)


def test_e_values_average_one_and_rarely_grow_on_honest_ranks() -> None:
    # All sequences of three ranks: the average under the honest law is exactly 1.
    total = 0.0
    for code in range(125):
        levels = [code // 25, code // 5 % 5, code % 5]
        honest = ball_by_ball(levels, HONEST) / 4 + sum(
            ball_by_ball(levels[:past], HONEST)
            * ball_by_ball(levels[past:], HONEST)
            / (past + 1)
            / (past + 2)
            for past in range(3)
        )
        total += honest * e_value(np.array(levels))
    assert total == pytest.approx(1, rel=1e-9)
    rng = np.random.default_rng(1)
    largest = []
    for _ in range(400):
        ranks = np.array(drawn(rng, 12))
        largest.append(max(e_value(ranks[:rounds]) for rounds in (3, 6, 9, 12)))
    # Ville: at most a tenth ever reach 10, and 4 standard errors.
    assert np.mean(np.array(largest) >= 10) < 0.1 + 4 * np.sqrt(0.09 / 400)


def test_e_values_stay_finite_in_long_runs() -> None:
    levels = np.tile([0, 4], 4000)
    assert 1 < e_value(levels) < np.inf
    json.dumps(e_value(levels), allow_nan=False)


def test_medians_of_others_are_medians_without_the_row() -> None:
    rng = np.random.default_rng(2)
    for sites in (5, 6, 14, 15):
        # Rounded, so that there are ties.
        rows = np.round(rng.standard_normal((sites, 40)), 1)
        expected = [np.median(np.delete(rows, one, 0), 0) for one in range(sites)]
        np.testing.assert_array_equal(suspicion._medians_of_others(rows), np.array(expected))


class World:
    """Honest sites that differ persistently, with heavy tails, and anew in each round."""

    def __init__(self, seed: int, size: int = 60) -> None:
        self.rng = np.random.default_rng(seed)
        self.common = self.rng.standard_normal(size)
        self.own = 0.5 * self.rng.standard_t(3, (SITES, 1)) * self.rng.standard_normal((SITES, size))
        self.lengths = np.exp(0.3 * self.rng.standard_t(4, SITES))
        self.skill = 0.02 * self.rng.standard_t(3, SITES)

    def updates(self) -> Floats:
        noise = 0.3 * self.rng.standard_normal(self.own.shape)
        return np.asarray((self.common + self.own + noise) * self.lengths[:, None])

    def recalls(self) -> Floats:
        changes = self.skill + 0.01 * self.rng.standard_normal(SITES)
        return np.stack([changes, changes], 1)


def named(rows: Floats) -> Mapping[str, Floats]:
    return dict(zip(NAMES, rows, strict=True))


def seen(
    world: World, rounds: int, spoil: str = "", since: int = 0, history: History | None = None
) -> History:
    """Observe rounds in which sites 3 and, for collusion, 4 do what `spoil` says."""
    history = history or {}
    for number in range(rounds):
        updates, recalls = world.updates(), world.recalls()
        if number >= since:
            if spoil == "norm":
                updates[3] *= 40 / world.lengths[3]
            if spoil == "direction":
                updates[3] = -3 * world.common + world.rng.standard_normal(60) / 10
            if spoil == "collusion":
                updates[3] = updates[4]
            if spoil == "recall":
                recalls[3] -= 0.8
        history = observe(history, named(updates), number=number, recalls=named(recalls))
    return history


@pytest.mark.parametrize("reason", ["norm", "direction", "collusion", "recall"])
def test_malice_is_accused_with_its_reason_and_not_on_one_round(reason: str) -> None:
    for seed in range(3):
        found = accused(seen(World(seed), 6, reason))
        guilty = {"site 3", "site 4"} if reason == "collusion" else {"site 3"}
        assert {one.site for one in found} == guilty
        assert {one.reason for one in found} == {reason} and {one.first_round for one in found} == {0}
        assert accused(seen(World(seed), 2, reason)) == []


def test_malice_that_begins_late_is_accused_and_dated() -> None:
    found = accused(seen(World(1), 16, "norm", since=10))
    assert [(one.site, one.reason, one.first_round) for one in found] == [("site 3", "norm", 10)]


def test_sites_that_differ_honestly_are_not_accused() -> None:
    runs = [len(accused(seen(World(100 + seed), 10))) for seed in range(40)]
    # Of 600 sites; the heavy tails are not those that the urn was fitted to.
    assert sum(runs) <= 6


def test_standing_out_mildly_for_ever_is_no_evidence() -> None:
    assert max(e_value(np.full(rounds, 2)) for rounds in (3, 10, 40)) < 20
    assert max(e_value(np.full(rounds, 1)) for rounds in (3, 10, 40)) < 20
    assert e_value(np.full(3, 4)) > 1000


def test_a_coordinator_that_is_started_again_goes_on_where_it_was() -> None:
    world, broken = World(5), World(5)
    whole = seen(world, 8, "norm")
    first = seen(broken, 4, "norm")
    kept = from_json(json.loads(json.dumps(as_json(first), allow_nan=False)))
    for site, told in ranks(first).items():
        assert {**told, "e_value": first[site].e_value} == as_json(first)[site] and "e_value" not in told
    assert kept == first
    for number in range(4, 8):
        updates, recalls = broken.updates(), broken.recalls()
        updates[3] *= 40 / broken.lengths[3]
        kept = observe(kept, named(updates), number=number, recalls=named(recalls))
        # Sent once more by a site that heard no answer: counted once.
        assert observe(kept, named(updates), number=number, recalls=named(recalls)) == kept
    assert kept == whole


def test_sites_that_send_nothing_keep_what_they_have_and_few_sites_say_nothing() -> None:
    world = World(6)
    before = seen(world, 3)
    copy = dict(before)
    sent = {name: row for name, row in named(world.updates()).items() if name != "site 2"}
    after = observe(before, sent, number=3)
    assert before == copy and after["site 2"] == before["site 2"]
    assert after["site 1"].rounds == (0, 1, 2, 3)
    four = {name: sent[name] for name in ("site 0", "site 1", "site 3", "site 4")}
    assert observe(after, four, number=4) == after


def test_going_together_because_of_classes_is_explained_by_the_span() -> None:
    world = World(7)
    rows = world.updates()
    shared, other = world.rng.standard_normal((2, 60))
    rows[[3, 4]] += 30 * shared
    assert (deviations(rows)[[3, 4], 2] > 6).all()
    assert (deviations(rows, span=np.stack([shared, 2 * shared]))[[3, 4], 2] < 4).all()
    assert (deviations(rows, span=other[None])[[3, 4], 2] > 6).all()


def test_all_sites_are_listed_and_updates_of_zeros_do_no_harm() -> None:
    history: History = {}
    for number in range(4):
        rows = np.zeros((SITES, 5)) if number == 2 else World(8, 5).updates()
        history = observe(history, named(rows), number=number)
    assert [one.site for one in sorted(suspicions(history), key=lambda one: one.site)] == sorted(NAMES)
    assert all(np.isfinite(one.e_value) for one in suspicions(history))
    silent = [one for one in suspicions(history) if not any(history[one.site].levels)]
    assert silent and {(one.reason, one.first_round) for one in silent} == {(None, None)}


def test_a_little_is_enough_by_hand() -> None:
    honest = np.array([[float(one % 2), 1.0] for one in range(10)])
    # 15 sites, 5 malicious: three honest ones must be won, z = Phi^-1(.7) = .5244; mean .5, deviation .5.
    sent = a_little_is_enough(honest, 5)
    assert sent.shape == (5, 2)
    np.testing.assert_allclose(sent, np.tile([0.5 - 0.5 * 0.524401, 1.0], (5, 1)), atol=1e-6)
    # Alone among 14 others it must win half of them: it hides best at the mean.
    np.testing.assert_allclose(a_little_is_enough(np.eye(14), 1), np.full((1, 14), 1 / 14))


def test_spoilt_cases() -> None:
    images = np.arange(50, dtype=np.uint8).reshape(2, 5, 5)
    spoilt = marked(images)
    assert (spoilt[:, -3:, -3:] == 49).all() and (spoilt != images).sum() == 17 and images[0, 4, 4] == 24
    assert flipped_labels(np.array([0, 1, 1]), 2).tolist() == [1, 0, 0]


@pytest.mark.parametrize(("rule", "holds"), [("mean", False), ("bulyan", True), ("multi_krum", True)])
def test_a_federation_under_attack(rule: Rule, holds: bool) -> None:
    rng = np.random.default_rng(9)
    truth = rng.standard_normal(20)
    cases = rng.standard_normal((1500, 20))
    labels = (cases @ truth + rng.standard_normal(1500) > 0).astype(np.int64)
    places = unequal_sites(labels, sites=SITES, seed=1, alpha=1.0)
    bad = sorted(np.argsort([len(one) for one in places])[-3:].tolist())
    held = rng.standard_normal((300, 20))
    ill = held @ truth > 0
    weights, history = np.zeros(20), dict[str, suspicion.Record]()
    for number in range(8):
        residuals = labels - expit(cases @ weights)
        updates = np.array([2 * residuals[one] @ cases[one] / len(one) for one in places])
        updates[bad] = scaled(updates[bad], -10)
        right, now = (ill == (held @ (weights + updates).T > 0).T), (held @ weights > 0) == ill
        recalls = np.stack([right[:, one].mean(1) - now[one].mean() for one in (ill, ~ill)], 1)
        history = dict(observe(history, named(updates), number=number, recalls=named(recalls)))
        sizes = np.array([float(len(one)) for one in places])
        weights = weights + aggregated(updates, sizes, rule=rule, malicious=3)
    share = ((cases @ weights > 0) == labels).mean()
    assert (share > 0.8) if holds else (share < 0.5)
    if holds:
        assert {one.site for one in accused(history)} == {NAMES[one] for one in bad}

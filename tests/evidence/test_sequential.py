"""Tests that may be looked at any time: exact where outcomes can be enumerated, else simulated."""

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import hypergeom, nchypergeom_fisher

from primum.errors import InputError
from primum.evidence.sequential import (
    LOG_ODDS,
    MEANS_BLOCK,
    MOST_STRATA,
    SHARES_BLOCK,
    STAKES,
    Block,
    Kind,
    SequentialTest,
    bound_log_factors,
    log_e_values,
    means_log_factors,
    shares_log_factors,
)

Values = NDArray[np.float64]
Marks = NDArray[np.bool_]
SIZE = 6


def factors(kind: Kind, tested: Marks, values: Values) -> Values:
    """What blocks, the last axis in order, multiply bets with: shape (bets, ..., blocks)."""
    size = MEANS_BLOCK if kind == "means" else SHARES_BLOCK
    blocks = values.shape[-1] // size
    shape = (*values.shape[:-1], blocks, size)
    who, what = tested[..., : blocks * size].reshape(shape), values[..., : blocks * size].reshape(shape)
    counts, ours = who.sum(-1), (what * who).sum(-1)
    if kind == "means":
        return means_log_factors(counts, ours, (what * ~who).sum(-1))
    return shares_log_factors(counts, ours.astype(int), what.sum(-1).astype(int))


def alarms(kind: Kind, tested: Marks, values: Values, *, alpha: float = 0.05) -> Marks:
    """Whether each run, a row, ever reached 1 / alpha."""
    return np.asarray((log_e_values(factors(kind, tested, values)) >= math.log(1 / alpha)).any(-1))


@pytest.mark.parametrize("tested", range(SIZE + 1))
def test_chance_alone_makes_no_money_whatever_the_outcomes_of_a_block(tested: int) -> None:
    chosen = list(itertools.combinations(range(SIZE), tested))
    random = np.random.default_rng(tested)
    for outcomes in itertools.product((0, 1), repeat=SIZE):
        made = [
            np.exp(shares_log_factors(tested, sum(outcomes[i] for i in who), sum(outcomes), size=SIZE))
            for who in chosen
        ]
        assert np.mean(made, axis=0) == pytest.approx(1, abs=1e-12)
    for _ in range(20):
        values = random.beta(0.5, 2, SIZE)
        sums = np.array([sum(values[i] for i in who) for who in chosen])
        money = np.exp(means_log_factors(np.full(len(chosen), tested), sums, values.sum() - sums, size=SIZE))
        assert money.mean(axis=1) == pytest.approx(1, abs=1e-12)


def expected(tested_rate: float, reference_rate: float, *, tested: int) -> Values:
    """Exact mean of what a block of yes and no multiplies each bet with, at two rates."""
    total = np.zeros(len(LOG_ODDS))
    for ours, theirs in itertools.product(range(tested + 1), range(SIZE - tested + 1)):
        chance = math.comb(tested, ours) * tested_rate**ours * (1 - tested_rate) ** (tested - ours)
        chance *= math.comb(SIZE - tested, theirs) * reference_rate**theirs
        chance *= (1 - reference_rate) ** (SIZE - tested - theirs)
        total += chance * np.exp(shares_log_factors(tested, ours, ours + theirs, size=SIZE))
    return total


def test_the_whole_null_makes_no_money_and_the_alternative_does() -> None:
    rates = (0.0, 0.02, 0.1, 0.3, 0.5, 0.8, 1.0)
    for tested, (low, high) in itertools.product(range(SIZE + 1), itertools.combinations(rates, 2)):
        assert (expected(low, high, tested=tested) <= 1 + 1e-12).all()
        assert expected(low, low, tested=tested) == pytest.approx(1, abs=1e-12)
    assert (expected(0.3, 0.1, tested=3) > 1).all()
    for bound, share in itertools.product((0.01, 0.1, 0.5), (0.0, 0.5, 1.0)):
        yes, no = np.exp(bound_log_factors(1, bound=bound)), np.exp(bound_log_factors(0, bound=bound))
        assert (share * bound * yes + (1 - share * bound) * no <= 1 + 1e-12).all()
        assert (2 * bound * yes + (1 - 2 * bound) * no)[0] > 1


def test_means_need_no_more_than_means() -> None:
    # The same mean and another spread: all or nothing against one half, exactly.
    for tested in range(1, MEANS_BLOCK):
        money = np.zeros(len(STAKES))
        for ours in range(tested + 1):
            chance = math.comb(tested, ours) / 2**tested
            money += chance * np.exp(means_log_factors(tested, ours, (MEANS_BLOCK - tested) / 2))
        assert money == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_the_bet_on_odds_is_fishers_noncentral_law_over_the_central_one(seed: int) -> None:
    random = np.random.default_rng([70, seed])
    tested, events = (int(number) for number in random.integers(0, SHARES_BLOCK + 1, 2))
    law = (SHARES_BLOCK, events, tested)
    yes = int(random.integers(max(0, events + tested - SHARES_BLOCK), min(tested, events) + 1))
    found = shares_log_factors(tested, yes, events)
    for log_odds, factor in zip(LOG_ODDS, found, strict=True):
        other = nchypergeom_fisher.logpmf(yes, *law, math.exp(log_odds)) - hypergeom.logpmf(yes, *law)
        assert factor == pytest.approx(other, abs=1e-8)


@pytest.mark.parametrize("kind", ["shares", "means", "bound"])
@pytest.mark.parametrize("seed", range(3))
def test_one_by_one_is_the_same_as_all_at_once(kind: Kind, seed: int) -> None:
    random = np.random.default_rng([71, seed])
    tested = random.random(400) < 0.3
    values = random.random(400) if kind == "means" else (random.random(400) < 0.2).astype(np.float64)
    test, said = SequentialTest.begin(kind, bound=0.1 if kind == "bound" else None), []
    for who, value in zip(tested.tolist(), values.tolist(), strict=True):
        before, test = test.steps, test.add(value, tested=who)
        said += [test.log_e_value] * (test.steps > before)
        assert test.sound
    made = bound_log_factors(values, bound=0.1) if kind == "bound" else factors(kind, tested, values)
    assert said == pytest.approx(log_e_values(made).tolist(), abs=1e-9)
    assert len(said) == test.steps == 400 // {"shares": SHARES_BLOCK, "means": MEANS_BLOCK, "bound": 1}[kind]
    assert test.seen.tested == tested.sum()
    assert test.seen.tested_sum + test.seen.reference_sum == pytest.approx(values.sum())


def test_money_does_not_grow_by_itself_whenever_one_stops() -> None:
    """The mean over many runs is 1 at equal rates, even if each run ends when it has won."""
    random = np.random.default_rng(72)
    tested = random.random((20_000, 400)) < 0.3
    made = np.exp(log_e_values(factors("shares", tested, (random.random(tested.shape) < 0.2).astype(float))))
    won = made >= 2
    ends = np.where(won.any(axis=1), won.argmax(axis=1), made.shape[1] - 1)
    kept = made[np.arange(len(made)), ends]
    assert abs(kept.mean() - 1) < 4 * kept.std() / math.sqrt(len(kept))
    assert 0.1 < won.any(axis=1).mean() <= 0.5


def worlds(random: np.random.Generator, runs: int, patients: int) -> dict[str, tuple[Marks, Values]]:
    """Runs without a difference, in which much else changes: tested or not, and each patient's risk."""
    time = np.arange(patients)
    dealt = random.random((runs, patients))
    rate = np.broadcast_to(0.1, (runs, patients))
    trend = np.broadcast_to(0.02 + 0.5 * time / patients, (runs, patients))
    weeks = np.broadcast_to(np.where(time // 37 % 2, 0.4, 0.05), (runs, patients))
    # One ward after the other: risks of neighbours go up and down from patient to patient.
    wards = np.broadcast_to(np.where(time % 2, 0.35, 0.05), (runs, patients))
    return {
        "steady": (dealt < 0.1, rate),
        "half": (dealt < 0.5, rate),
        "one in a hundred": (dealt < 0.01, rate),
        "trend": (dealt < 0.2, trend),
        "weeks": (dealt < 0.5, weeks),
        "wards": (dealt < 0.5, wards),
        "share grows with the rate": (dealt < np.where(time < patients // 2, 0.05, 0.4), trend),
    }


@pytest.mark.parametrize("kind", ["shares", "means"])
def test_false_alarms_whatever_the_hospital_does(kind: Kind) -> None:
    random = np.random.default_rng(73)
    for name, (tested, risk) in worlds(random, 400, 4000).items():
        yes = (random.random(risk.shape) < risk).astype(np.float64)
        values = yes * random.random(risk.shape) if kind == "means" else yes
        assert alarms(kind, tested, values).mean() <= 0.05, name


def test_false_alarms_with_late_labels_and_the_best_allowed_disagreement() -> None:
    random = np.random.default_rng(74)
    tested, wrong = random.random((400, 4000)) < 0.2, random.random((400, 4000)) < 0.15
    # Errors become known later than the rest: the order of settlement is all but that of arrival.
    settled = np.arange(4000) + random.exponential(np.where(wrong, 900, 100))
    order = np.argsort(settled, axis=1)
    late = np.take_along_axis(tested, order, 1), np.take_along_axis(wrong, order, 1).astype(np.float64)
    assert alarms("shares", *late).mean() <= 0.05
    said = log_e_values(bound_log_factors(random.random((400, 4000)) < 0.1, bound=0.1))
    assert (said >= math.log(20)).any(-1).mean() <= 0.05


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("rate", [0.05, 0.1, 0.2])
def test_five_points_are_seen_within_twice_the_best_fixed_test(rate: float, share: float) -> None:
    alpha, worse = 0.6 * 0.05, rate + 0.05
    pooled = share * worse + (1 - share) * rate
    spread = math.sqrt(pooled * (1 - pooled) * (1 / share + 1 / (1 - share)))
    other = math.sqrt(worse * (1 - worse) / share + rate * (1 - rate) / (1 - share))
    fixed = ((ndtri(0.95) * spread + ndtri(0.8) * other) / 0.05) ** 2
    random = np.random.default_rng(75)
    tested = random.random((300, int(2 * fixed))) < share
    wrong = (random.random(tested.shape) < np.where(tested, worse, rate)).astype(np.float64)
    assert alarms("shares", tested, wrong, alpha=alpha).mean() > 0.5


def test_what_begins_late_is_still_seen() -> None:
    random = np.random.default_rng(76)
    quiet = random.random((50, 20_000)) < 0.03
    said = log_e_values(bound_log_factors(np.hstack([quiet, random.random((50, 300)) < 0.3]), bound=0.1))
    assert (said[:, :20_000] < math.log(20)).all()
    assert (said[:, -1] > math.log(20)).mean() > 0.9


def test_patients_of_different_shares_are_never_compared() -> None:
    test = SequentialTest.begin("shares")
    for _ in range(200):
        # All that is bad is tested, all that is good is not: in one block, overwhelming.
        test = test.add(1, tested=True, stratum="0.5").add(0, tested=False, stratum="0.1")
    assert test.steps == 20
    assert test.log_e_value == pytest.approx(0, abs=1e-9)


def test_what_is_left_of_old_strata_makes_room_for_those_still_fed() -> None:
    test = SequentialTest.begin("shares")
    for stratum in range(3 * MOST_STRATA):
        for _ in range(SHARES_BLOCK - 1):
            test = test.add(0, tested=True, stratum=f"old {stratum:02}")
        assert test.sound
    assert test.steps == 0
    assert test.waiting.keys() == {f"old {stratum}" for stratum in range(2 * MOST_STRATA, 3 * MOST_STRATA)}
    # As many as can wait, fed by turns: all of them fill.
    for number in range(SHARES_BLOCK * MOST_STRATA):
        test = test.add(0, tested=True, stratum=f"new {number % MOST_STRATA}")
        assert len(test.waiting) <= MOST_STRATA
    assert test.steps == MOST_STRATA
    assert not test.waiting


@pytest.mark.parametrize("value", [0.5, -1, 2, math.nan])
def test_only_yes_and_no_are_counted(value: float) -> None:
    with pytest.raises(InputError):
        SequentialTest.begin("shares").add(value)
    with pytest.raises(InputError):
        SequentialTest.begin("means").add(value + 1 if value == 0.5 else value)


@pytest.mark.parametrize("bound", [None, 0, 1, math.nan])
def test_a_bound_lies_between_0_and_1(bound: float | None) -> None:
    with pytest.raises(InputError):
        SequentialTest.begin("bound", bound=bound)


def test_no_difference_without_both_groups() -> None:
    assert math.isnan(Block(tested=3, tested_sum=1).difference)
    assert Block(2, 4, 1, 1).difference == 0.25

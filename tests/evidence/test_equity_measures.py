import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from tests.evidence.equity_worlds import WOMEN, two_groups

from primum.evidence.equity.answers import Answers, Group
from primum.evidence.equity.calibration import (
    bin_edges,
    calibration_error,
    calibration_gap,
    calibration_slope,
    mean_of,
    profile,
)
from primum.evidence.equity.curves import group_series
from primum.evidence.equity.gaps import Gap, Rate, alikeness, cells_of, fisher, newcombe, rate_gap
from primum.evidence.equity.ranks import area_of, auc_gap
from primum.evidence.measured import BoolArray, FloatArray
from primum.evidence.ranking import auc

RUNS = 400
MOST = int(stats.binom.ppf(0.999, RUNS, 0.05))


def gap_of(answers: Answers, measure: str) -> Gap:
    """Women against men."""
    if measure == "auc":
        found = auc_gap(answers, WOMEN, 1, order=np.argsort(answers.probability[1]))
    elif measure == "calibration":
        found = calibration_gap(answers, WOMEN, 1)
    else:
        found = rate_gap(answers, WOMEN, 1, measure=measure)
    assert found is not None
    return found


def everyone(answers: Answers) -> BoolArray:
    return np.ones(len(answers.patient), np.bool_)


@pytest.mark.parametrize(
    ("right", "of", "others", "of_others"), [(18, 20, 300, 310), (0, 25, 40, 40), (7, 9, 1, 50)]
)
def test_shares_agree_with_scipy(right: int, of: int, others: int, of_others: int) -> None:
    """Clopper-Pearson, Newcombe's square-and-add of Wilson intervals, Fisher."""
    inside, outside = Rate(right / of, of, of), Rate(others / of_others, of_others, of_others)
    exact = stats.binomtest(right, of).proportion_ci(method="exact")
    found = inside.estimate("sensitivity")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-9)
    one, two = (
        stats.binomtest(k, n).proportion_ci(method="wilson") for k, n in ((others, of_others), (right, of))
    )
    difference = others / of_others - right / of
    low = difference - np.hypot(others / of_others - one.low, two.high - right / of)
    high = difference + np.hypot(one.high - others / of_others, right / of - two.low)
    gap = newcombe(inside, outside, name="gap", level=0.95)
    assert (gap.value, gap.low, gap.high) == pytest.approx((difference, low, high), abs=1e-9)
    table = [[of - right, right], [of_others - others, others]]
    assert fisher(inside, outside) == pytest.approx(
        stats.fisher_exact(np.array(table), alternative="greater").pvalue
    )


def test_auc_agrees_with_ranking() -> None:
    answers = two_groups(300, 500, seed=1)
    area = area_of(answers, 1, everyone(answers), np.argsort(answers.probability[1]))
    score, ill = answers.probability[1], answers.label == 1
    oracle = auc(score[ill], score[~ill])
    assert area is not None
    found = area.estimate("auroc")
    assert found.value == pytest.approx(oracle.value, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), abs=5e-4)


def test_ties_count_half() -> None:
    answers = two_groups(80, 80, seed=2)
    answers.probability[1][:] = np.round(answers.probability[1], 1)
    area = area_of(answers, 1, everyone(answers), np.argsort(answers.probability[1]))
    score, ill = answers.probability[1], answers.label == 1
    assert area is not None and area.value == pytest.approx(auc(score[ill], score[~ill]).value, abs=1e-12)


def repeated(answers: Answers) -> Answers:
    """Every case twice."""
    two = np.repeat(np.arange(len(answers.patient)), 2)
    return Answers(
        answers.patient[two],
        answers.people,
        answers.weight[two] / 2,
        answers.label[two],
        answers.called[two],
        answers.classes,
        {1: answers.probability[1][two]},
        {"sex": answers.codes["sex"][two]},
        answers.names,
        {},
    )


@pytest.mark.parametrize("measure", ["sensitivity", "specificity", "auc", "calibration"])
@pytest.mark.parametrize("each", [1, 3])
def test_copies_of_cases_tell_nothing_new(measure: str, each: int) -> None:
    """The patient is the unit; with one case each, a copy is wholly alike."""
    answers = two_groups(200, 400, seed=3, each=each)
    once, twice = gap_of(answers, measure), gap_of(repeated(answers), measure)
    one, two = once.interval(0.95), twice.interval(0.95)
    assert two.value == pytest.approx(one.value, abs=1e-12)
    # One correlation stands for all pairs of cases; copies and true repeats then differ a little.
    assert two.high - two.low == pytest.approx(one.high - one.low, rel=0.05)
    if each == 1 or measure in {"auc", "calibration"}:
        assert (two.low, two.high) == pytest.approx((one.low, one.high), abs=1e-9)
        assert twice.p_value == pytest.approx(once.p_value, abs=1e-9)


def bootstrapped(answers: Answers, measure: str, *, draws: int) -> float:
    """Deviation of the gap over draws of patients, women and men apart."""
    random = np.random.default_rng(0)
    cases = [np.flatnonzero(answers.patient == one) for one in range(answers.people)]
    sex = np.array([answers.codes["sex"][rows[0]] for rows in cases])
    found = []
    for _ in range(draws):
        drawn = np.concatenate(
            [random.choice(np.flatnonzero(sex == one), (sex == one).sum()) for one in (0, 1)]
        )
        rows = np.concatenate([cases[one] for one in drawn])
        patient = np.repeat(np.arange(len(drawn)), [len(cases[one]) for one in drawn])
        again = Answers(
            patient, len(drawn), answers.weight[rows], answers.label[rows], answers.called[rows],
            answers.classes, {1: answers.probability[1][rows]}, {"sex": answers.codes["sex"][rows]},
            answers.names, {},
        )  # fmt: skip
        found.append(gap_of(again, measure).value)
    return float(np.std(found))


@pytest.mark.parametrize("measure", ["sensitivity", "specificity", "auc"])
def test_spread_agrees_with_a_bootstrap_of_patients(measure: str) -> None:
    """Several cases a patient, whose answers are alike."""
    answers = two_groups(600, 900, seed=4, each=3, alike=0.9)
    found, oracle = gap_of(answers, measure).error(), bootstrapped(answers, measure, draws=200)
    assert found == pytest.approx(oracle, rel=0.2)
    if measure != "auc":
        right = (answers.called == 1) == (answers.label == 1)
        assert alikeness(answers, right, answers.label == (measure == "sensitivity")) > 0.2


@pytest.mark.parametrize("each", [1, 3])
def test_false_alarms_of_one_comparison(each: int) -> None:
    """A small group and many others, served alike: every p-value is honest, deep in its tail too."""
    measures = ("sensitivity", "specificity", "auc", "calibration")
    found = []
    for run in range(RUNS):
        answers = two_groups(120, 800, seed=run, each=each)
        found.append([gap_of(answers, measure).p_value for measure in measures])
    small = np.array(found)
    assert ((small < 0.05).sum(axis=0) <= MOST).all()
    assert ((small < 0.005).sum(axis=0) <= stats.binom.ppf(0.999, RUNS, 0.005)).all()
    # Student's tests use all of the error that they may.
    assert ((small[:, 2:] < 0.05).sum(axis=0) >= stats.binom.ppf(0.001, RUNS, 0.05)).all()


def test_slope_agrees_with_logistic_regression() -> None:
    answers = two_groups(400, 400, seed=5)
    x = np.log(answers.probability[1] / (1 - answers.probability[1]))
    oracle = LogisticRegression(C=np.inf, tol=1e-10).fit(x[:, None], answers.label)
    found = calibration_slope(answers, 1, everyone(answers))
    assert found.value == pytest.approx(float(oracle.coef_[0, 0]), abs=1e-4)
    assert found.low < 1 < found.high


def test_no_slope_where_outcomes_are_separated() -> None:
    answers = two_groups(50, 50, seed=6)
    answers.probability[1][:] = np.where(answers.label == 1, 0.9, 0.1)
    assert np.isnan(calibration_slope(answers, 1, everyone(answers)).value)


def test_calibration_error_takes_chance_off() -> None:
    """Right probabilities: of 12 cases a bin, plain binning would say .14 of error, and chance made it."""
    errors: dict[float, list[float]] = {0.0: [], 0.1: []}
    for seed in range(40):
        answers = two_groups(60, 60, seed=seed, apart=0.6)
        for shift, found in errors.items():
            answers.probability[1][:] = (answers.probability[1] + shift).clip(0, 1)
            edges = bin_edges(answers.probability[1])
            found.append(calibration_error(answers, 1, everyone(answers), edges).value ** 2)
    assert np.mean(errors[0.0]) < 0.004
    assert np.mean(errors[0.1]) == pytest.approx(0.01, rel=0.35)


def test_calibration_tells_both_directions() -> None:
    answers = two_groups(1500, 1500, seed=7)
    women = answers.codes["sex"] == 0
    for shift in (-0.1, 0.1):
        moved: FloatArray = np.where(women, answers.probability[1] + shift, answers.probability[1]).clip(0, 1)
        answers.probability[1][:] = moved
        gap = gap_of(answers, "calibration")
        answers.probability[1][:] = np.where(women, moved - shift, moved).clip(0, 1)
        assert gap.p_value < 1e-4
        assert gap.value == pytest.approx(abs(shift), abs=0.03)
        assert gap.interval(0.95).low > 0


def test_net_benefit_by_hand() -> None:
    answers = two_groups(200, 200, seed=8)
    edges = bin_edges(answers.probability[1])
    found = {one.name: one.value for one in profile(answers, 1, everyone(answers), edges)}
    ill, called = answers.label == 1, answers.probability[1] >= 0.2
    by_hand = ((called & ill).sum() - (called & ~ill).sum() * 0.25) / 400
    assert found["net_benefit:20%"] == pytest.approx(by_hand, abs=1e-12)
    assert found["brier"] == pytest.approx(float(np.mean((answers.probability[1] - ill) ** 2)), abs=1e-12)


def test_curves_agree_with_the_estimates() -> None:
    answers = two_groups(200, 300, seed=9)
    series = {one.name: one.columns for one in group_series(answers, (WOMEN,), 1)}
    women = answers.codes["sex"] == 0
    decision = series["equity_decision_sex"]
    at = decision["threshold"].index(0.5)
    found = {one.name: one.value for one in profile(answers, 1, women, np.array([0.5]))}
    assert decision["benefit:sex=F"][at] == pytest.approx(found["net_benefit:50%"], abs=1e-12)
    ill = float((answers.label[women] == 1).mean())
    assert decision["everyone:sex=F"][at] == pytest.approx(ill - (1 - ill), abs=1e-12)
    calibration = series["equity_calibration_sex"]
    counts = [count for count in calibration["patients:sex=F"] if count is not None]
    assert len(counts) == 10 and sum(counts) == women.sum() and min(counts) >= 10


def test_points_of_few_patients_are_not_drawn() -> None:
    answers = two_groups(30, 300, seed=10)
    (calibration, _) = group_series(answers, (WOMEN,), 1)
    assert None in calibration.columns["observed:sex=F"]
    assert all(count is None or count >= 10 for count in calibration.columns["patients:sex=F"])


def with_sites(site: BoolArray, answers: Answers) -> Answers:
    codes = {**answers.codes, "site": site.astype(np.int16)}
    return Answers(
        answers.patient, answers.people, answers.weight, answers.label, answers.called, answers.classes,
        answers.probability, codes, {**answers.names, "site": ("A", "B")}, {},
    )  # fmt: skip


def test_standardisation_is_that_of_mantel_and_haenszel() -> None:
    random = np.random.default_rng([11, 11])
    answers = with_sites(random.random(900) < 0.3, two_groups(400, 500, seed=11))
    gap = rate_gap(answers, WOMEN, 1, measure="sensitivity", standardised=True)
    assert gap is not None
    found = gap.beside[-1]
    top, bottom = 0.0, 0.0
    for site in (0, 1):
        rows = (answers.label == 1) & (answers.codes["site"] == site)
        women, men = (answers.called[rows & (answers.codes["sex"] == sex)] == 1 for sex in (0, 1))
        weight = len(women) * len(men) / (len(women) + len(men))
        top, bottom = top + weight * (men.mean() - women.mean()), bottom + weight
    assert found.name == "sensitivity_gap_standardised"
    assert found.value == pytest.approx(top / bottom, abs=1e-12)


def test_case_mix_explains_a_gap() -> None:
    """Women come to a hard site more often; at each site both are served alike."""
    random = np.random.default_rng([12, 12])
    answers = two_groups(3000, 3000, seed=12)
    hard = random.random(6000) < np.where(answers.codes["sex"] == 0, 0.8, 0.2)
    missed = hard & (random.random(6000) < 0.4)
    answers.called[missed] = 0
    gap = rate_gap(with_sites(hard, answers), WOMEN, 1, measure="sensitivity", standardised=True)
    assert gap is not None and gap.interval(0.95).low > 0.1
    assert gap.beside[-1].low < 0 < gap.beside[-1].high


def test_devices_do_not_stand_for_their_site() -> None:
    answers = with_sites(np.arange(100) % 2 == 0, two_groups(50, 50, seed=13))
    site = Group(("site=A",), (("site", 0),))
    assert cells_of(answers, site) is None
    assert cells_of(answers, WOMEN) is not None


def test_needed_patients_rule_a_gap_out() -> None:
    """With so many, four audits in five end below what matters when there is no gap."""
    small = gap_of(two_groups(400, 400, seed=14), "sensitivity")
    women, men = small.needed(0.05)
    ruled_out = 0
    for seed in range(60):
        share = 0.4
        found = gap_of(two_groups(int(women / share), int(men / share), seed=100 + seed), "sensitivity")
        ruled_out += found.interval(0.95).high < 0.05
    assert 38 <= ruled_out <= 57


def test_means_have_patients_not_cases() -> None:
    answers = two_groups(100, 100, seed=15, each=4)
    ones: FloatArray = (answers.label == 1).astype(np.float64)
    found = mean_of(answers, ones, everyone(answers), name="ill")
    by_patient = np.bincount(answers.patient, ones) / np.bincount(answers.patient)
    assert found.value == pytest.approx(by_patient.mean(), abs=1e-12)
    assert found.n == (answers.people,)

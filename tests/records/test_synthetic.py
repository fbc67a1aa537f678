"""The synthetic cohort: reproducible, independent, realistic enough, with canaries where the plan says."""

import hashlib
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression
from tests.hostile import HOSTILE, hostile_histories

from primum.errors import InputError, RecordsError
from primum.records.canaries import CanaryPlan
from primum.records.families import families_of
from primum.records.histories import Histories
from primum.records.synthetic import (
    Cohort,
    Origin,
    SyntheticSettings,
    catalogue_codes,
    synthetic_cohort,
    synthetic_patients,
)
from primum.records.synthetic import cohort as cohort_module
from primum.records.synthetic.catalogue import SUCCESSORS
from primum.records.synthetic.marginals import holders, main_diagnoses, marginals_table
from primum.records.synthetic.population import all_codes, population, slots_of
from primum.records.synthetic.programmes import PROGRAMMES

SETTINGS = SyntheticSettings()
SMALL = SyntheticSettings(sizes={"train": 60, "tuning": 20, "held_out": 40}, canary_pairs=6)
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "synthetic-cohort.md"


@pytest.fixture(scope="module")
def patients() -> Histories:
    return synthetic_patients(6_000, settings=SETTINGS, seed=3)


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return synthetic_cohort(SMALL, seed=3)


def digest(*parts: Histories) -> str:
    """Hash every array and the dictionary."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update("\n".join(part.codes).encode())
        for array in (part.subject_ids, part.offsets, part.code_ids, part.times, part.values):
            sha.update(array.tobytes())
    return sha.hexdigest()


def owners(histories: Histories) -> np.ndarray:
    return np.repeat(np.arange(len(histories)), np.diff(histories.offsets))


def content(histories: Histories, index: int) -> tuple[object, ...]:
    """Everything of one patient but the subject id, comparable."""
    line = histories.timeline(index)
    return line.codes, tuple(map(str, line.times)), tuple(map(str, line.values))


def test_the_same_seed_gives_the_same_bytes_in_another_process(cohort: Cohort) -> None:
    program = (
        "from tests.records.test_synthetic import *;"
        "print(digest(*synthetic_cohort(SMALL, seed=3).splits.values()))"
    )
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == digest(*cohort.splits.values())
    assert digest(*synthetic_cohort(SMALL, seed=4).splits.values()) != digest(*cohort.splits.values())


def test_sizes_and_identifiers(cohort: Cohort) -> None:
    assert SETTINGS.patients == 2_000
    planted = 6 * (1 + 2 + 4 + 8 + 16)
    assert {name: len(part) for name, part in cohort.splits.items()} == {
        "train": 60 + planted, "tuning": 20, "held_out": 40 + 30,
    }  # fmt: skip
    ids = np.concatenate([part.subject_ids for part in cohort.splits.values()])
    assert sorted(ids) == list(range(1, len(ids) + 1))


def test_every_history_is_valid_meds(patients: Histories) -> None:
    owner, times = owners(patients), patients.times
    static = np.isnat(times)
    first = patients.offsets[:-1]
    assert static.sum() == 2 * len(patients) and static[first].all() and static[first + 1].all()
    assert {patients.codes[code] for code in patients.code_ids[first + 2]} == {"MEDS_BIRTH"}
    same = (np.diff(owner) == 0) & ~static[:-1]
    assert (np.diff(times)[same] >= np.timedelta64(0)).all()
    numbers = np.isfinite(patients.values)
    assert (patients.values[numbers] > 0).all()
    is_lab = np.array([code.startswith("LAB//") for code in patients.codes])
    np.testing.assert_array_equal(numbers, is_lab[patients.code_ids])
    assert patients.to_arrow().num_rows == patients.offsets[-1]
    assert (np.diff(patients.offsets) > 3).all()


def test_a_patient_makes_a_hundred_tokens_or_fewer_on_average(patients: Histories) -> None:
    dated = ~np.isnat(patients.times)
    gaps = (np.diff(owners(patients)) == 0) & dated[:-1] & (patients.times[1:] > patients.times[:-1])
    tokens = patients.offsets[-1] + np.isfinite(patients.values).sum() + gaps.sum() + 3 * len(patients)
    assert 50 < tokens / len(patients) <= 100
    assert 35 <= np.diff(patients.offsets).mean() <= 60


def test_the_catalogue_holds_what_patients_have_and_hides_who_they_are(patients: Histories) -> None:
    assert (
        patients.codes == catalogue_codes(SETTINGS) == synthetic_patients(3, settings=SETTINGS, seed=9).codes
    )
    assert 400 <= len(patients.codes) <= 700
    assert patients.codes == tuple(sorted(set(patients.codes)))
    later = synthetic_patients(6_000, settings=SETTINGS, seed=4, origin=Origin(years_later=4))
    assert (holders(patients).sum(0) + holders(later).sum(0) > 0).mean() > 0.99


def test_practice_changes_replace_codes_that_someone_uses() -> None:
    written = {
        code for p in PROGRAMMES for stage in p.stages for slot in slots_of(stage) for code in slot.codes
    }
    assert set(SUCCESSORS) <= written
    assert len(all_codes()) == len(set(all_codes()))


def test_many_codes_belong_to_few_people(patients: Histories) -> None:
    people = holders(patients.select(np.arange(2_000))).sum(0)
    assert 50 <= ((people > 0) & (people <= 5)).sum() <= 250


def test_sensitive_families_at_the_stated_rates(patients: Histories) -> None:
    stated = dict(
        re.findall(r"\| sensitive family ([a-z ]+?) \| ([\d.]+)% \|", DOCUMENTATION.read_text("utf-8"))
    )
    holds = holders(patients)
    assert {"hiv", "substance use", "mental health", "pregnancy loss or termination", "cancer"} <= set(stated)
    for family, its_codes in families_of(patients.codes).items():
        if its_codes.any():
            rate = float(stated[family.replace("_", " ")]) / 100
            sampling_error = np.sqrt(rate * (1 - rate) * (1 / 2_000 + 1 / len(patients)))
            assert abs(holds[:, its_codes].any(1).mean() - rate) < 4.5 * sampling_error


def test_the_documented_table_is_what_the_command_prints() -> None:
    assert marginals_table(SETTINGS, seed=0) in DOCUMENTATION.read_text("utf-8")


def test_disease_follows_age_sex_and_other_disease(patients: Histories) -> None:
    holds = holders(patients)
    woman = holds[:, patients.codes.index("GENDER//F")]
    main = {p.name: np.isin(patients.codes, main_diagnoses(p)) for p in PROGRAMMES}
    has = {name: holds[:, codes].sum(1, dtype=np.int64) > 0 for name, codes in main.items()}
    assert not has["pregnancy"][~woman].any()
    assert not has["prostate_cancer"][woman].any()
    assert has["kidney"][has["diabetes"]].mean() > 2 * has["kidney"][~has["diabetes"]].mean()
    old = patients.times[patients.offsets[:-1] + 2] < np.datetime64("1950-01-01")
    assert has["hypertension"][old].mean() > 1.5 * has["hypertension"][~old].mean()
    sugar = [patients.codes.index(f"LAB//LOINC//{code}") for code in ("4548-4", "17856-6")]
    is_sugar = np.isin(patients.code_ids, sugar)
    advanced = holds[:, patients.codes.index("DIAGNOSIS//ICD10CM//E11.42")][owners(patients)]
    high, usual = (np.median(patients.values[is_sugar & group]) for group in (advanced, ~advanced))
    assert high > 1.1 * usual


def separation(first: Histories, second: Histories, *, ignore: tuple[str, ...] = ()) -> float:
    """AUC of a logistic regression on which codes a patient has, tested on the half that it did not see."""
    held = np.concatenate([holders(first), holders(second)]).astype(float)
    held[:, np.isin(first.codes, ignore)] = 0
    label = np.repeat([0, 1], [len(first), len(second)])
    half = np.arange(len(label)) % 2 == 0
    model = LogisticRegression(C=0.05, max_iter=500).fit(held[half], label[half])
    score = model.decision_function(held[~half])
    ones, zeros = score[label[~half] == 1], score[label[~half] == 0]
    return float((ones[:, None] > zeros).mean())


def draw(seed: int, **origin: object) -> Histories:
    return synthetic_patients(600, settings=SETTINGS, seed=seed, origin=Origin(**origin))  # type: ignore[arg-type]


def test_sites_differ_in_habits_not_only_in_name() -> None:
    first, second = draw(1, site="A"), draw(2, site="B")
    assert separation(first, second, ignore=("SITE//A", "SITE//B")) > 0.9
    assert not holders(first)[:, first.codes.index("SITE//B")].any()


def test_two_draws_of_one_population_cannot_be_told_apart_but_two_populations_can() -> None:
    assert abs(separation(draw(1), draw(2)) - 0.5) < 0.08
    elsewhere = synthetic_patients(600, settings=replace(SETTINGS, population_seed=1), seed=2)
    assert separation(draw(1), elsewhere) > 0.6


def test_a_later_calendar_moves_dates_and_practice() -> None:
    now, later = draw(1), draw(2, years_later=1)
    assert np.nanmax(later.times) - np.nanmax(now.times) > np.timedelta64(300, "D")
    new = np.isin(now.codes, list(SUCCESSORS.values()))
    assert holders(later)[:, new].any(1).mean() > 1.2 * holders(now)[:, new].any(1).mean()


def test_draws_share_no_patient(cohort: Cohort) -> None:
    seen: set[tuple[object, ...]] = set()
    total = 0
    for seed in (3, [3, 1], [3, 2], 4):
        more = synthetic_patients(60, settings=SMALL, seed=seed)
        seen |= {content(more, index) for index in range(len(more))}
        total += len(more)
    for name, size in SMALL.sizes.items():
        seen |= {content(cohort.splits[name], index) for index in range(size)}
        total += size
    assert len(seen) == total


def test_copies_are_identical_and_twins_never_planted(cohort: Cohort) -> None:
    plan = cohort.canaries
    assert plan is not None
    train, held_out = cohort.splits["train"], cohort.splits["held_out"]
    inside = {int(s): content(train, i) for i, s in enumerate(train.subject_ids)}
    outside = {int(s): content(held_out, i) for i, s in enumerate(held_out.subject_ids)}
    assert not set(inside.values()) & set(outside.values())
    ordinary = [inside[subject] for subject in range(1, 61)]
    for pair in np.unique(plan.canary):
        mine = plan.canary == pair
        copies = [inside[int(subject)] for subject in plan.subject_ids[mine & plan.planted]]
        twins = [outside[int(subject)] for subject in plan.subject_ids[mine & ~plan.planted]]
        assert (len(set(copies)), len(copies), len(twins)) == (1, plan.copies[mine][0], 1)
        assert copies[0] not in ordinary
    assert set(np.unique(plan.copies)) == {1, 2, 4, 8, 16}


def test_a_fair_coin_decides_which_of_a_pair_is_planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 400 pairs drawn, the first is planted in half, within five standard errors."""
    drawn: list[Histories] = []

    def recorded(*arguments: object) -> Histories:
        drawn.append(unusual(*arguments))
        return drawn[-1]

    unusual = vars(cohort_module)["_unusual_patients"]
    monkeypatch.setattr(cohort_module, "_unusual_patients", recorded)
    train = synthetic_cohort(replace(SMALL, canary_pairs=400, canary_copies=(1,)), seed=1).splits["train"]
    planted = {content(train, index) for index in range(60, 460)}
    firsts = sum(content(drawn[0], 2 * pair) in planted for pair in range(400))
    assert abs(firsts - 200) < 50


def test_a_cohort_without_canaries() -> None:
    cohort = synthetic_cohort(SyntheticSettings(sizes={"train": 3}, canary_pairs=0), seed=0)
    assert cohort.canaries is None and len(cohort.splits["train"]) == 3


def test_origins_apply_to_their_split_only() -> None:
    settings = replace(SMALL, origins={"held_out": Origin(site="B")}, canary_pairs=0)
    splits = synthetic_cohort(settings, seed=1).splits
    share = {name: holders(part)[:, part.codes.index("SITE//B")].mean() for name, part in splits.items()}
    assert share["held_out"] == 1 and 0.2 < share["train"] < 0.8


def test_the_number_of_blocks_does_not_show() -> None:
    many = synthetic_patients(10_001, settings=SETTINGS, seed=1, first_subject_id=7)
    assert many.subject_ids[[0, -1]].tolist() == [7, 10_007]
    assert content(many, 0) != content(many, 5_000)


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (lambda: SyntheticSettings(sizes={}), "at least one patient"),
        (lambda: SyntheticSettings(sizes={"train": 0}), "at least one patient"),
        (lambda: SyntheticSettings(mean_visits=0.5), "mean_visits must lie between 1 and 100; it is 0.5"),
        (lambda: SyntheticSettings(years=0), "calendar"),
        (lambda: SyntheticSettings(start_year=1), "calendar"),
        (lambda: SyntheticSettings(canary_pairs=-1), "canary_pairs must be 0 or more"),
        (lambda: SyntheticSettings(canary_copies=(0,)), "canary_pairs must be 0 or more"),
        (lambda: SyntheticSettings(sizes={"train": 5}), "set canary_pairs to 0"),
        (lambda: SyntheticSettings(origins={"elsewhere": Origin()}), "give sizes for elsewhere too"),
        (lambda: SyntheticSettings(population_seed=-1), "population_seed must be 0 or more"),
        (lambda: Origin(site="C"), "use one of A, B"),
        (lambda: Origin(years_later=-1), "between 0 and 5"),
        (lambda: synthetic_patients(0, settings=SMALL, seed=1), "at least one patient"),
        (lambda: synthetic_cohort(SMALL, seed=-1), "must be 0 or more; it is -1"),
    ],
)
def test_bad_settings_are_refused_in_a_sentence(bad: object, sentence: str) -> None:
    with pytest.raises(InputError, match=re.escape(sentence)):
        bad()  # type: ignore[operator]


def test_the_plan_survives_arrow(cohort: Cohort) -> None:
    plan = cohort.canaries
    assert plan is not None
    table = plan.to_arrow()
    again = CanaryPlan.from_arrow(table)
    assert again.to_arrow().equals(table) and len(again) == len(plan)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (pa.table({"subject_id": [1]}), "column canary of type int64"),
        (
            pa.table({"subject_id": ["1"], "canary": [0], "copies": [1], "planted": [True]}),
            "subject_id of type",
        ),
        (pa.table({"subject_id": [1], "canary": [0], "copies": [None], "planted": [True]}), "copies of type"),
        (
            pa.table({"subject_id": [1, 1], "canary": [0, 0], "copies": [1, 1], "planted": [True, False]}),
            "lists a subject twice",
        ),
    ],
)
def test_a_plan_that_cannot_be_read_says_why(table: pa.Table, sentence: str) -> None:
    with pytest.raises(RecordsError, match=sentence):
        CanaryPlan.from_arrow(table)


def test_populations_are_drawn_once() -> None:
    assert population(0) is population(0)


def test_the_hostile_cohort_is_valid_and_holds_every_attack() -> None:
    hostile = hostile_histories(40, first_subject_id=5)
    held = {hostile.codes[code] for code in hostile.code_ids}
    assert {f"SITE//{text}" for text in HOSTILE} | {f"DIAGNOSIS//{text}" for text in HOSTILE} | set(
        HOSTILE
    ) <= held
    assert hostile.subject_ids[[0, -1]].tolist() == [5, 44]
    same = np.diff(owners(hostile)) == 0
    steps = np.diff(hostile.times)[same]
    assert (steps[~np.isnat(steps)] >= np.timedelta64(0)).all()
    assert np.isnat(hostile.times.reshape(40, -1)).sum() == 80

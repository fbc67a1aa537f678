"""What is said of sites, against figures counted by hand."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from primum.records.cases import Cases
from primum.train.federated.standing import Standing
from primum.workflows.told_of_sites import Hospital, classes_of_patients, told_of_sites, told_of_standing


class Mean:
    """Says the mean pixel as the risk of the second class."""

    classes = ("no", "yes")

    def predict_proba(self, cases: Cases) -> Any:
        risks = np.asarray(cases.inputs).reshape(len(cases), -1).mean(axis=1) / 255
        return np.stack([1 - risks, risks], axis=1)


class Nobody:
    """A site that is only looked at."""

    patients = records = 40

    def __init__(self, name: str) -> None:
        self.name = name

    def ledger(self, rounds: int) -> None:
        """Promise nothing."""


def aside(seed: int, patients: int, *, records: int = 1) -> Cases:
    random = np.random.default_rng(seed)
    labels, subjects = random.integers(0, 2, patients).repeat(records), np.arange(patients).repeat(records)
    pixels = (40 * labels + random.integers(60, 160, len(labels)))[:, None, None, None]
    return Cases(np.arange(len(labels)), subjects, pixels.astype(np.uint8), labels)


def told(sides: list[Cases], held: list[list[int]], standing: Standing | None = None) -> dict[str, Any]:
    hospitals: Any = [
        Hospital(Nobody(f"site-{place}"), one, np.repeat(np.arange(len(counts)), counts))  # type: ignore[arg-type]
        for place, (one, counts) in enumerate(zip(sides, held, strict=True))
    ]
    return told_of_sites(hospitals, standing or Standing(3, {}), Mean(), rounds=3, calibrated=True)


def test_a_patient_with_many_records_counts_once() -> None:
    cases = aside(1, 20, records=6)
    said = told([cases, aside(2, 4)], [[10, 10], [10, 10]])
    assert [one["served"] is None for one in said["sites"]] == [False, True]
    risks = Mean().predict_proba(cases)[:, 1].reshape(20, 6).mean(axis=1)
    ill = cases.labels[::6] == 1
    pairs = mannwhitneyu(risks[ill], risks[~ill]).statistic / (ill.sum() * (~ill).sum())
    served, fits = said["sites"][0]["served"], said["sites"][0]["calibration"]
    assert served["auc"] == pytest.approx(pairs) and served["patients"] == 20
    assert fits["value"] == pytest.approx(risks.mean() - ill.mean())
    assert said["fairness"]["p_value"] is None, "one site alone is judged"
    assert said["judged_class"] == "yes"


def test_the_worst_site_is_named_beside_everybody() -> None:
    worse = aside(4, 60)
    turned = Cases(worse.case_ids, worse.subject_ids, 255 - np.asarray(worse.inputs), worse.labels)
    fair = told([aside(3, 60), turned, aside(5, 3)], [[30, 30]] * 3)["fairness"]
    assert (fair["worst"], fair["sites"], fair["patients"]) == ("site-1", 2, 123)
    assert fair["gap"] > 0.2 and fair["p_value"] <= 0.01
    assert told([aside(3, 4), aside(5, 3)], [[9, 9]] * 2)["fairness"] is None


def test_what_follows_from_a_small_number_is_kept_back_too() -> None:
    few = [aside(5, 3)] * 4
    sites = told(few, [[4, 30, 9], [20, 20, 20], [30, 20, 10], [40, 2, 1]])["sites"]
    assert [one["class_shares"] for one in sites[:2]] == [[None, 30 / 43, None], [1 / 3] * 3]
    assert sites[3]["class_shares"][1:] == [None, None]
    assert [one["distance"] is None for one in sites] == [True, False, False, True]
    # Of the two that are told, each is the other's others: nothing of the first and last is in it.
    assert sites[1]["distance"] == pytest.approx(1 / 2 - 1 / 3)


def test_the_part_of_the_way_is_what_was_pulled() -> None:
    nan = float("nan")
    pull = {"site-0": (3.0, nan, 1.0), "site-1": (-1.0, 1.0, 0.0)}
    agreement = {"site-0": (0.9, nan, 0.5), "site-1": (-0.5, 0.5, 0.0)}
    standing = Standing(3, {}, agreement=agreement, pull=pull, sizes={"site-1": 10, "site-0": 30})
    first, second = told([aside(1, 3)] * 2, [[9, 9]] * 2, standing)["sites"]
    assert (first["contribution"], second["contribution"]) == (1.0, 0.0)
    assert (first["rounds_answered"], first["agreement"]) == (2, pytest.approx(0.7))
    known = told_of_standing(standing)
    assert [one["site"] for one in known["sites"]] == ["site-0", "site-1"]
    assert [one["share"] for one in known["sites"]] == [0.75, 0.25]


def test_patients_are_counted_by_their_first_record() -> None:
    cases = Cases(
        np.arange(4), np.array([7, 7, 3, 5]), np.zeros((4, 1, 1, 1), np.uint8), np.array([2, 0, 0, 2])
    )
    found = classes_of_patients(cases)
    assert found is not None and found.tolist() == [0, 2, 2]

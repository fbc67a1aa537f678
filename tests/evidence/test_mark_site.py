from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom, fisher_exact
from tests.evidence.test_tainted import FRAME, NAMES, columns, findings, unasked

from primum.evidence.finding import Message
from primum.evidence.mark_site import site_of_mark
from primum.evidence.observed import Observed
from primum.evidence.tainted import tainted_claims
from primum.evidence.verdicts import judge

SITES = ("", "A", "B", "C")


def test_the_chance_is_that_of_fisher_times_the_sites() -> None:
    site = np.repeat([1, 2, 3], [40, 30, 30])
    bears = np.zeros(100, np.bool_)
    bears[[0, 40, 41, 42, 43, 44, 45, 46]] = True
    settings, said = site_of_mark(site, bears, SITES)
    table = np.array([[7, 23], [1, 69]])
    assert settings["mark_site_p"] == pytest.approx(3 * fisher_exact(table, alternative="greater").pvalue)
    assert settings["mark_site"] == "B" and settings["mark_sites"] == 3
    assert [one.code for one in said] == ["mark_of_site"] and said[0].parameters == {"site": "B"}


def test_carriers_of_every_site_name_none() -> None:
    settings, said = site_of_mark(np.arange(90) % 3 + 1, np.arange(90) < 12, SITES)
    assert settings == {"mark_sites": 3, "mark_site_p": 1.0}
    assert [one.code for one in said] == ["mark_of_no_site"]


def test_an_unknown_site_is_never_accused() -> None:
    site = np.repeat([0, 1, 2], 30)
    assert "mark_site" not in site_of_mark(site, site == 0, SITES)[0]
    assert site_of_mark(np.repeat([0, 1], 30), np.arange(60) < 9, SITES) == ({}, ())


def test_false_alarms_of_marks_of_every_site() -> None:
    runs, alarms = 400, 0
    for seed in range(runs):
        random = np.random.default_rng(seed)
        site = random.choice(4, 200, p=[0.1, 0.5, 0.3, 0.1])
        bears = random.random(200) < random.uniform(0.03, 0.3)
        alarms += "mark_site" in site_of_mark(site, bears, SITES)[0]
    assert alarms <= binom.ppf(0.999, runs, 0.05)


def test_a_site_with_more_of_the_class_is_not_blamed() -> None:
    given = columns(900)
    ill = given["label"] == 1
    random = np.random.default_rng(3)
    given["site"] = np.where(random.random(900) < np.where(ill, 0.8, 0.1), 2.0, 1.0)
    given["mark"] = (ill & (random.random(900) < 0.1)).astype(float)
    rest = unasked("labels", "site", "duplicates", "artificial")
    found = findings(given, **rest)["data.backdoor"]
    assert found.verdict == "tainted" and "mark_site" not in found.settings
    assert [one.code for one in found.reasons] == ["mark_of_no_site", "harm_found"]
    given["mark"] *= given["site"] == 2
    there = findings(given, **rest)["data.backdoor"]
    assert there.settings["mark_site"] == "B" and there.reasons[0].code == "mark_of_site"


def test_without_a_mark_of_a_class_or_without_sites_nothing_is_said_of_sites() -> None:
    given = columns(400)
    given["mark"][np.flatnonzero(given["site"] == 1)[:20]] = 1
    rest = unasked("labels", "site", "duplicates", "artificial")
    assert "mark_sites" not in findings(given, **rest)["data.backdoor"].settings
    given["mark"] = ((given["label"] == 1) & (given["site"] == 1)).astype(float)
    seen = Observed("data", given, NAMES, {"marks_tested": 3}, rest_of(rest))
    del given["site"]
    found = judge(tainted_claims(replace(seen, columns=given), FRAME, only=("data.backdoor",))[0])
    assert "mark_sites" not in found[-1].settings


def rest_of(refused: dict[str, Message]) -> dict[str, Message]:
    return {f"data.{test}": reason for test, reason in refused.items()}

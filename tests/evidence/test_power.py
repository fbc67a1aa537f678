import math

import numpy as np
import pytest
from scipy.special import ndtri

from primum.errors import InputError
from primum.evidence.operating_point import pooled_threshold_p_value, tpr_at_fpr
from primum.evidence.power import (
    auc_power,
    patients_needed_for_auc,
    patients_needed_for_tpr,
    smallest_detectable_auc,
    smallest_detectable_tpr,
)
from primum.evidence.ranking import auc, auc_p_value


@pytest.mark.parametrize(("m", "n"), [(100, 100), (60, 400)])
def test_smallest_auc_is_detected_as_often_as_promised(m: int, n: int) -> None:
    smallest = smallest_detectable_auc(m, n, power=0.8)
    assert auc_power(smallest, m, n) == pytest.approx(0.8)
    random, shift = np.random.default_rng(0), math.sqrt(2) * ndtri(smallest)
    detected = [auc_p_value(random.normal(shift, 1, m), random.normal(0, 1, n)) < 0.05 for _ in range(600)]
    assert 0.75 <= np.mean(detected) <= 0.87
    assert auc_power(0.5, m, n) == pytest.approx(0.05)


def test_needed_patients_let_the_interval_end_below_the_material_auc() -> None:
    needed = patients_needed_for_auc(0.6, ratio=2)
    random = np.random.default_rng(1)
    below = [auc(random.normal(size=needed), random.normal(size=2 * needed)).high < 0.6 for _ in range(600)]
    assert 0.74 <= np.mean(below) <= 0.86


def test_smallest_tpr_is_detected_as_often_as_promised() -> None:
    m, n, fpr = 300, 1000, 0.01
    smallest = smallest_detectable_tpr(m, n, fpr=fpr)
    random, detected = np.random.default_rng(2), []
    for _ in range(500):
        members = random.random(m) + (random.random(m) < (smallest - fpr) / (1 - fpr))
        # a share `smallest` of members above the outsiders' 1 % point, spread there as outsiders are
        members = np.where(members > 1, 1 - fpr * random.random(m), members)
        detected.append(pooled_threshold_p_value(members, random.random(n), fpr=fpr) < 0.05)
    assert 0.74 <= np.mean(detected) <= 0.9


def test_needed_patients_let_the_interval_end_below_the_material_tpr() -> None:
    needed = patients_needed_for_tpr(0.1, fpr=0.05, ratio=1)
    random = np.random.default_rng(3)
    below = [
        tpr_at_fpr(random.normal(size=needed), random.normal(size=needed), fpr=0.05).high < 0.1
        for _ in range(500)
    ]
    assert 0.74 <= np.mean(below) <= 0.88


def test_more_patients_show_more() -> None:
    assert smallest_detectable_auc(2000, 2000) < smallest_detectable_auc(300, 300) < 0.56
    assert smallest_detectable_auc(1, 1) == smallest_detectable_tpr(3, 3, alpha=0.01) == 1.0
    assert smallest_detectable_tpr(2000, 2000) < smallest_detectable_tpr(300, 300) < 0.15
    assert patients_needed_for_auc(0.55) < patients_needed_for_auc(0.52)
    assert patients_needed_for_tpr(0.02, ratio=3) < patients_needed_for_tpr(0.02) < 2000
    assert patients_needed_for_tpr(0.5, ratio=0.5) == 600


def test_bad_input_is_refused() -> None:
    for material in (0.5, 0.4, 1.0):
        with pytest.raises(InputError, match="material AUC"):
            patients_needed_for_auc(material)
    with pytest.raises(InputError, match="above the false positive rate"):
        patients_needed_for_tpr(0.01)
    with pytest.raises(InputError, match="positive"):
        patients_needed_for_auc(0.55, ratio=0)
    with pytest.raises(InputError, match="at least one"):
        auc_power(0.6, 0, 10)

"""Twelve-lead electrocardiograms: ten seconds of beats, and the raised ST segment of an infarction."""

import numpy as np
from numpy.typing import NDArray

from primum.records.cases import Cases
from primum.records.histories import FloatArray
from primum.records.synthetic_cases.people import ORDINARY, CaseSettings, Visits, draw_cases

SIGNAL_CLASSES = ("no_infarction", "infarction")
LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
_MARK = 0x656367
_SAMPLES, _RATE = 1_000, 100
# P, Q, R, S, T and the ST segment: seconds from the R peak, and width.
_WHEN = np.array([-0.17, -0.03, 0.0, 0.03, 0.28, 0.14])
_WIDTH = np.array([0.025, 0.01, 0.012, 0.012, 0.05, 0.06])
# Of each wave but the last in each lead, in millivolts.
_USUAL = np.array(
    [[0.1, 0.15, 0.08, -0.1, 0.05, 0.1, 0.08, 0.1, 0.1, 0.1, 0.1, 0.1],
     [-0.05, -0.08, -0.06, 0.06, -0.05, -0.07, 0, 0, -0.03, -0.06, -0.08, -0.08],
     [0.7, 1.2, 0.6, -0.9, 0.4, 0.9, 0.2, 0.4, 0.8, 1.4, 1.3, 1.0],
     [-0.15, -0.2, -0.2, 0.2, -0.1, -0.2, -0.9, -1.2, -0.8, -0.5, -0.2, -0.1],
     [0.2, 0.3, 0.12, -0.25, 0.1, 0.2, -0.05, 0.3, 0.35, 0.35, 0.3, 0.25]]
)  # fmt: skip
# Inferior, anterior, lateral: where the ST segment rises, and where it falls in the mirror.
_TERRITORIES = np.array(
    [[-0.5, 0.9, 1, 0, -0.7, 1, 0, 0, 0, 0, 0, 0],
     [0, 0, -0.3, 0, 0.2, -0.3, 0.5, 1, 1, 0.8, 0.3, 0],
     [0.8, 0, -0.5, 0, 0.8, -0.4, 0, 0, 0, 0.3, 0.9, 1]]
)  # fmt: skip
_RISE = 0.2
_NOISE = np.array([0.02, 0.03, 0.025, 0.035, 0.04, 0.05])


def synthetic_ecgs(patients: int, *, seed: int, settings: CaseSettings = ORDINARY) -> Cases:
    """Draw electrocardiograms in millivolts, float32, shape (n, 12, 1000): :data:`LEADS` at 100 a second.

    See :func:`draw_cases`.
    """
    return draw_cases(patients, seed=seed, mark=_MARK, draw=lambda v, rng: _ecgs(v, rng, settings))


def _ecgs(visits: Visits, rng: np.random.Generator, settings: CaseSettings) -> NDArray[np.float32]:
    """Draw signals: the form of the waves is the patient's own; rate, wander and noise change by visit."""
    mine, count = visits.patient, len(visits.patient)
    own = _USUAL * np.exp(
        rng.normal(0, 0.25, (visits.patients, 1, 12)) + rng.normal(0, 0.2, (visits.patients, 5, 12))
    )
    rise = _RISE / settings.difficulty * visits.severity[:, None] * _TERRITORIES[rng.integers(3, size=count)]
    # Healthy segments are not flat either.
    rise = rise + 0.02 * rng.standard_normal((visits.patients, 12))[mine]
    waves = np.concatenate([own[mine], rise[:, None]], 1)
    late = rng.normal(0, 0.008, (visits.patients, 6))[mine]
    rate = (rng.normal(72, 10, visits.patients)[mine] + rng.normal(0, 6, count)).clip(45, 130)
    beat = _seconds_from_beat(rate, rng)
    shape = np.exp(-(((beat[..., None] - _WHEN - late[:, None]) / _WIDTH) ** 2) / 2)
    time = np.arange(_SAMPLES) / _RATE
    slow = rng.uniform(0.1, 0.4, (count, 1, 1)) * time + rng.random((count, 12, 1))
    signal = (shape @ waves).swapaxes(1, 2) + 0.05 * np.sin(2 * np.pi * slow)
    noise = _NOISE[visits.device][:, None, None] * rng.standard_normal(signal.shape, np.float32)
    return np.asarray(signal + noise, np.float32)


def _seconds_from_beat(rate: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Seconds from the nearest beat (before it: negative), shape (n, samples)."""
    time = np.arange(_SAMPLES) / _RATE
    gaps = 60 / rate[:, None] * np.exp(rng.normal(0, 0.03, (len(rate), 28)))
    beats = np.cumsum(gaps, 1) - 1 - rng.random((len(rate), 1))
    middles = (beats[:, 1:] + beats[:, :-1]) / 2
    nearest = [one[np.searchsorted(cuts, time)] for one, cuts in zip(beats, middles, strict=True)]
    seconds: FloatArray = time - np.array(nearest)
    return seconds

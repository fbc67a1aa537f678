"""How well a classifier does on a test set, in intervals, with the patient as the unit."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from primum.errors import InputError
from primum.evidence.contrast import Frame, shown
from primum.evidence.equity.answers import FEWEST, Answers
from primum.evidence.equity.calibration import bin_edges, calibration_error, calibration_slope, mean_of
from primum.evidence.equity.gaps import alikeness, rate_of
from primum.evidence.equity.ranks import area_of
from primum.evidence.estimate import Estimate
from primum.evidence.finding import Finding, Message, Scalar
from primum.evidence.measured import BoolArray

TESTS: Final = (
    "performance.auc",
    "performance.sensitivity",
    "performance.specificity",
    "performance.calibration",
)


def performance_findings(
    probabilities: ArrayLike,
    labels: ArrayLike,
    patient: ArrayLike,
    *,
    classes: Sequence[str],
    target: int,
    threshold: float | None,
    frame: Frame,
) -> tuple[Finding, ...]:
    """Measure one class against all others; nothing is judged, for what is enough is a policy's matter.

    Each patient counts once, whatever the number of their cases. In ``performance.auc``, sensitivity and
    specificity higher is better; ``calibration_in_the_large`` and ``calibration_error`` are right at 0, the
    slope at 1.

    Parameters
    ----------
    probabilities : array_like, shape (n, classes)
    labels, patient : array_like of int, shape (n,)
    classes : sequence of str
    target : int
        Position of the class that is to be found.
    threshold : float or None
        Probability from which it is called; None: where it is the likeliest.
    frame : Frame

    Returns
    -------
    tuple of Finding
        ``descriptive``, or ``not_applicable`` with fewer than 20 patients of either class.

    Raises
    ------
    InputError
        Arrays do not fit together, or probabilities are none.

    References
    ----------
    Obuchowski, Biometrics 53 (1997) 567 (AUC of clustered cases); Korn & Graubard, Survey Methodology 24
    (1998) 193 (proportions of clustered cases); Cox, Biometrika 45 (1958) 562 (calibration).
    """
    answers = _answers(probabilities, labels, patient, classes, target, threshold)
    has: BoolArray = answers.label == target
    people = answers.count(has), answers.count(~has)
    settings = _settings(answers, target, threshold, people)
    if min(people) < FEWEST:
        reason = Message("too_few_patients", {"have": shown(min(people)), "needed": FEWEST})
        drafts = (frame.finding(test, settings) for test in TESTS)
        return tuple(replace(one, verdict="not_applicable", reasons=(reason,)) for one in drafts)
    return tuple(
        replace(frame.finding(test, settings), verdict="descriptive", estimates=tuple(estimates))
        for test, estimates in _estimates(answers, target, has)
    )


def loss_finding(losses: ArrayLike, frame: Frame) -> Finding:
    """Measure how well histories are foretold: mean over patients of each one's mean loss.

    In nats a clinical token; lower is better, and 0 would be a model that knows what comes.

    Parameters
    ----------
    losses : array_like, shape (n,)
        One number a patient; NaN where there was nothing to foretell.
    frame : Frame

    Returns
    -------
    Finding
        ``performance.loss``: the mean with Student's interval; ``not_applicable`` below 20 patients.
    """
    given = np.asarray(losses, np.float64)
    known = given[np.isfinite(given)]
    settings: dict[str, Scalar] = {"patients": len(given), "patients_scored": shown(len(known))}
    draft = frame.finding("performance.loss", settings)
    if len(known) < FEWEST:
        reason = Message("too_few_patients", {"have": shown(len(known)), "needed": FEWEST})
        return replace(draft, verdict="not_applicable", reasons=(reason,))
    value = float(known.mean())
    half = float(stdtrit(len(known) - 1, 0.975)) * float(known.std(ddof=1)) / math.sqrt(len(known))
    estimate = Estimate("loss", value, value - half, value + half, (len(known),), "student-t")
    return replace(draft, verdict="descriptive", estimates=(estimate,))


def _settings(
    answers: Answers, target: int, threshold: float | None, people: tuple[int, int]
) -> dict[str, Scalar]:
    return {
        "positive": answers.classes[target],
        "threshold": "argmax" if threshold is None else threshold,
        "cases": len(answers.patient),
        "patients": answers.people,
        "patients_with": shown(people[0]),
        "patients_without": shown(people[1]),
    }


def _answers(
    probabilities: ArrayLike,
    labels: ArrayLike,
    patient: ArrayLike,
    classes: Sequence[str],
    target: int,
    threshold: float | None,
) -> Answers:
    given = np.asarray(probabilities, np.float64)
    label, ids = np.asarray(labels), np.asarray(patient)
    fits = given.shape == (len(label), len(classes)) and label.shape == ids.shape and len(label) > 0
    if not fits or not (np.isfinite(given).all() and given.min() >= 0 and given.max() <= 1):
        raise InputError("Probabilities, labels and patients must be one row a case, all between 0 and 1.")
    names, place = np.unique(ids, return_inverse=True)
    called = given.argmax(axis=1)
    if threshold is not None:
        called = np.where(given[:, target] >= threshold, target, -1)
    return Answers(
        patient=place.astype(np.int64),
        people=len(names),
        weight=1 / np.bincount(place)[place],
        label=label.astype(np.int16),
        called=called.astype(np.int16),
        classes=tuple(classes),
        probability={target: given[:, target]},
        codes={},
        names={},
        severity={},
    )


def _estimates(answers: Answers, target: int, has: BoolArray) -> Iterator[tuple[str, Sequence[Estimate]]]:
    everyone = np.ones(len(has), np.bool_)
    given = answers.probability[target]
    area = area_of(answers, target, everyone, np.argsort(given, kind="stable"))
    yield "performance.auc", () if area is None else (area.estimate("auc"),)
    found = answers.called == target
    for name, right, side in (("sensitivity", found, has), ("specificity", ~found, ~has)):
        alike = alikeness(answers, right, side)
        rate = rate_of(answers, right, side, weight=answers.weight, alike=alike)
        yield f"performance.{name}", (rate.estimate(name),)
    residual = has - given
    yield (
        "performance.calibration",
        (
            mean_of(answers, residual, everyone, name="calibration_in_the_large"),
            calibration_slope(answers, target, everyone),
            calibration_error(answers, target, everyone, bin_edges(given)),
        ),
    )

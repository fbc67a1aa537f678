"""Can training patients be drawn out of a classifier's gradients?

White box. From a start that shows nobody in particular, inputs are changed step by step so that the model
grows surer of a class; over-fitted models then draw what is special to their own patients. A drawing that
looks like *a* patient proves nothing, so likeness alone is never judged. The question is whom it is nearest
to: in a line-up of ten people of one class, is it the right one, for members more often than for held-out
patients, who are treated identically? Near is decided in a space of its own that the model has no part in.

References
----------
Fredrikson, Jha & Ristenpart, Model inversion attacks that exploit confidence information, CCS 2015.
Zhang et al., The secret revealer: generative model-inversion attacks, CVPR 2020 (from a part of the input;
the nearest neighbour as criterion).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from primum.audits.privacy.case_subjects import CaseSubjects
from primum.evidence.finding import Message, Scalar
from primum.evidence.measured import BoolArray, FloatArray, Measured
from primum.models.predictors import Differentiable, Predictor
from primum.records.cases import Cases

STEPS, RATE, DECAY, LINE_UP, DRAWINGS, THUMBNAIL = 10, 0.1, 0.1, 10, 8, 16
_TESTS = ("inversion.instance", "inversion.class")


def invert(predictor: Predictor, subjects: CaseSubjects) -> Measured:
    """Draw cases from the gradients of a classifier, and see in line-ups whose they are.

    Each patient takes part with the first case. Inputs are taken in standard deviations from their mean over
    all patients; ten steps go against the gradient of the loss, each by a tenth in every input on average,
    after what is drawn has shrunk by a tenth. The model is asked in the numbers of the records, within the
    range that they have there and rounded where they are whole.

    Parameters
    ----------
    predictor : Predictor
        Refused unless it is :class:`primum.models.predictors.Differentiable`.
    subjects : CaseSubjects
        Refused unless all cases have one shape; sequences of letters have no gradient.

    Returns
    -------
    Measured
        Scores in [0, 1]: the share of line-ups with nine random others of the same class in which the patient
        is the nearest one to what was drawn; .1 is chance. 1 is worse; NaN for whom nobody shares the class.
        The mean of members minus that of held-out patients is to be judged.

        - ``inversion.instance``: the later half of the case (the right of an image) is hidden and drawn from
          the mean, the true class being known; nearness is of that half.
        - ``inversion.class``: eight whole cases of each class are drawn from noise; mean over them.
    """
    cases = subjects.first()
    inputs = cases.inputs
    letters = isinstance(inputs, np.ndarray) and inputs.ndim == 2 and inputs.dtype.kind in "iu"
    if not isinstance(predictor, Differentiable) or not isinstance(inputs, np.ndarray) or letters:
        cannot = Message("model_cannot", {"protocol": "Differentiable"})
        return Measured(subjects.rows, refused=dict.fromkeys(_TESTS, cannot))
    scale = Scale.of(inputs)
    scores = {
        "inversion.instance": _instance(predictor, cases, scale),
        "inversion.class": _class(predictor, cases, scale, seed=subjects.seed),
    }
    settings: Mapping[str, Scalar] = {
        "steps": STEPS,
        "rate": RATE,
        "decay": DECAY,
        "line_up": LINE_UP,
        "chance": 1 / LINE_UP,
        "drawings": DRAWINGS,
        "thumbnail": THUMBNAIL,
    }
    return Measured(subjects.rows, scores=scores, settings=settings)


@dataclass(frozen=True, eq=False)
class Scale:
    """Mean, deviation and range of each input over all patients, each of the shape of one case."""

    mean: FloatArray
    deviation: FloatArray
    low: FloatArray
    high: FloatArray
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, inputs: NDArray[Any]) -> "Scale":
        """Measure inputs, shape (n, ...); what is missing is left out."""
        numbers = inputs.astype(np.float64)
        mean, spread = np.nanmean(numbers, axis=0), np.nanstd(numbers, axis=0)
        bounds = np.nanmin(numbers, axis=0), np.nanmax(numbers, axis=0)
        return cls(mean, spread, *bounds, inputs.dtype)

    def standard(self, inputs: NDArray[Any]) -> FloatArray:
        """Return standard deviations from the mean; 0 where an input never varies or is missing."""
        away = np.nan_to_num(inputs.astype(np.float64) - self.mean)
        return np.divide(away, self.deviation, out=np.zeros_like(away), where=self.deviation > 0)

    def stored(self, standard: FloatArray) -> NDArray[Any]:
        """Return numbers as the records would hold them."""
        numbers = np.clip(self.mean + standard * self.deviation, self.low, self.high)
        return (np.rint(numbers) if self.dtype.kind in "iu" else numbers).astype(self.dtype)


def draw(
    model: Differentiable, cases: Cases, scale: Scale, *, start: FloatArray, hidden: BoolArray
) -> FloatArray:
    """Change the `hidden` inputs of `start` so that the model grows surer of each case's class.

    Parameters
    ----------
    model : Differentiable
        Asked ten times about all cases at once.
    cases : Cases
        Whose labels are wanted; their inputs are not looked at.
    scale : Scale
    start : float64, shape (n, ...)
        In standard deviations.
    hidden : bool, shape (...)

    Returns
    -------
    float64, shape (n, ...)
        In standard deviations.
    """
    drawn = start
    one_each = (-1, *(1,) * hidden.ndim)
    for _ in range(STEPS):
        asked = replace(cases, inputs=scale.stored(drawn))
        gradient = model.loss_and_gradient(asked, cases.labels)[1] * scale.deviation * hidden
        length = np.linalg.norm(gradient.reshape(len(drawn), -1), axis=1).reshape(one_each)
        step = RATE * math.sqrt(hidden.sum()) * gradient / np.where(length > 0, length, 1)
        drawn = np.where(hidden, (1 - DECAY) * drawn - step, drawn)
    return drawn


def thumbnails(standard: FloatArray) -> FloatArray:
    """Make small pictures of cases, shape (n, width), whose inner product is their likeness, 1 at most.

    Every axis after the channels is averaged into at most 16 parts; then each is brought to length 1.

    Parameters
    ----------
    standard : float64, shape (n, ...)
        In standard deviations from the mean of all patients.
    """
    for axis in range(2, standard.ndim):
        length = standard.shape[axis]
        parts = min(length, THUMBNAIL)
        edges = np.arange(parts) * length // parts
        sizes = np.diff(np.append(edges, length)).reshape(-1, *(1,) * (standard.ndim - axis - 1))
        standard = np.add.reduceat(standard, edges, axis=axis) / sizes
    flat = standard.reshape(len(standard), -1)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12))


def line_ups(likeness: FloatArray) -> FloatArray:
    """Share of line-ups in which each person is likelier than nine random others, by rank among all.

    Parameters
    ----------
    likeness : float64, shape (drawings, people)

    Returns
    -------
    float64, shape (drawings, people)
        The nine are drawn with replacement, ties count half; NaN with nobody else.
    """
    others = likeness.shape[1] - 1
    if not others:
        return np.full(likeness.shape, np.nan)
    share: FloatArray = ((rankdata(likeness, axis=1) - 1) / others) ** (LINE_UP - 1)
    return share


def _instance(model: Differentiable, cases: Cases, scale: Scale) -> FloatArray:
    truth = scale.standard(np.asarray(cases.inputs))
    hidden = np.zeros(truth.shape[1:], np.bool_)
    middle = truth.shape[-1] // 2
    hidden[..., middle:] = True
    drawn = draw(model, cases, scale, start=np.where(hidden, 0.0, truth), hidden=hidden)
    pictures, people = thumbnails(drawn[..., middle:]), thumbnails(truth[..., middle:])
    scores = np.full(len(cases), np.nan)
    for label in np.unique(cases.labels):
        mine = np.flatnonzero(cases.labels == label)
        scores[mine] = line_ups(pictures[mine] @ people[mine].T).diagonal()
    return scores


def _class(model: Differentiable, cases: Cases, scale: Scale, *, seed: int) -> FloatArray:
    people = thumbnails(scale.standard(np.asarray(cases.inputs)))
    wanted = np.unique(cases.labels)
    labels = np.repeat(wanted, DRAWINGS)
    asked = replace(cases.select(np.zeros(len(labels), np.int64)), labels=labels)
    shape = (len(asked), *scale.mean.shape)
    start = np.random.default_rng(seed).standard_normal(shape) / 2
    pictures = thumbnails(draw(model, asked, scale, start=start, hidden=np.ones(shape[1:], np.bool_)))
    scores = np.full(len(cases), np.nan)
    for place, label in enumerate(wanted):
        mine = np.flatnonzero(cases.labels == label)
        scores[mine] = line_ups(pictures[place * DRAWINGS :][:DRAWINGS] @ people[mine].T).mean(axis=0)
    return scores

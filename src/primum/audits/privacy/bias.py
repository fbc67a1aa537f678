"""Memorisation bias: does having been in the training set change what a model says of a patient's future?

Models trained on the earlier records of a random half of the patients are asked for later records, on which
none was trained. For each patient, models that had the patient are set against models that had not.

References
----------
Knolle et al., 2026 (memorisation bias; energy distance, false-discovery rate, random-split control).
Székely & Rizzo, InterStat 5 (2004); Benjamini & Hochberg, J. R. Statist. Soc. B 57 (1995) 289.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from primum.errors import InputError
from primum.evidence.energy import energy_p_values, pair_distances, relabelled
from primum.evidence.finding import Message, Scalar
from primum.evidence.measured import BoolArray, FloatArray, IntArray, Measured
from primum.evidence.naming import FALSE_DISCOVERY_RATE
from primum.models.score_matrix import ScoreMatrix
from primum.records.cases import Cases

FEWEST_MODELS = 16
# A patient counts as changed at this p; of patients whom training did not touch as many as this do.
LEVEL = 0.05


@dataclass(frozen=True, eq=False)
class FutureBias:
    """One p-value a patient, and the same of a labelling that means nothing.

    Attributes
    ----------
    rows : int64, shape (n,)
        The patients with a later record, some models with them and some without.
    p_values : float64, shape (n,)
        That of "models that had the patient answer as those that had not"; small is worse.
    control : float64, shape (n,)
        The same after models were relabelled at random: must find nobody.
    models : int
    """

    rows: IntArray
    p_values: FloatArray
    control: FloatArray
    models: int

    @property
    def changed(self) -> BoolArray:
        """Whose future is told differently, at a false-discovery rate of 5 %."""
        return _discovered(self.p_values)

    @property
    def changed_by_control(self) -> BoolArray:
        """Whom the same rule names under random labels."""
        return _discovered(self.control)

    def measured(self, is_member: BoolArray) -> Measured:
        """Set patients under their labels against patients under random ones, as ``bias.future``.

        A patient's score is 1 where p is at most .05. The audit's members are told by what models had them,
        its held-out patients by random labels: the difference of the two means is the share of patients
        changed, beyond the 5 % that chance gives. Zero is no effect; more is worse.

        Parameters
        ----------
        is_member : bool, shape (patients,)
        """
        if self.models < FEWEST_MODELS:
            return Measured(
                self.rows, refused={"bias.future": Message("needs_recipe", {"references": FEWEST_MODELS})}
            )
        told = np.where(is_member[self.rows], self.p_values, self.control)
        settings: dict[str, Scalar] = {"models": self.models, "level": LEVEL, "control": "random labels"}
        return Measured(self.rows, {"bias.future": (told <= LEVEL).astype(np.float64)}, settings=settings)


def future_cases(cases: Cases, *, seed: int) -> BoolArray:
    """Choose the last case of each patient who has several, shape (n,); no model may train on it.

    The latest where all of a patient's cases have dates, and one at random among equals or without dates.
    """
    days = cases.attributes.get("date", np.full(len(cases), np.datetime64("NaT", "D")))
    _, patient = np.unique(cases.subject_ids, return_inverse=True)
    undated = np.bincount(patient, np.isnat(days)) > 0
    when = np.where(undated[patient], 0, days.astype("datetime64[D]").astype(np.int64))
    order = np.lexsort((np.random.default_rng(seed).permutation(len(cases)), when, patient))
    last = np.append(patient[order][1:] != patient[order][:-1], True)[: len(cases)]
    chosen = np.zeros(len(cases), np.bool_)
    chosen[order[last]] = True
    return chosen & (np.bincount(patient)[patient] > 1)


def future_bias(matrix: ScoreMatrix, patient: IntArray, *, patients: int, seed: int) -> FutureBias:
    """Test each patient's later records, under all models.

    Parameters
    ----------
    matrix : ScoreMatrix
        Of later records; `inside` tells which models were trained on the patient's earlier ones.
    patient : int64, shape (records,)
        Position of the patient of each record, below `patients`.
    patients : int
    seed : int
        Of relabellings, and of the control's labels.

    Raises
    ------
    InputError
        A patient has no such position, records of one patient disagree on which models had the patient, or a
        score is not finite.
    """
    if patient.shape != matrix.scores.shape[1:] or ((patient < 0) | (patient >= patients)).any():
        raise InputError("Scores of records need one patient each, by its position.")
    order = np.argsort(patient, kind="stable")
    rows, start, count = np.unique(patient[order], return_index=True, return_counts=True)
    had = matrix.inside[:, order].T
    if (had != np.repeat(had[start], count, axis=0)).any():
        raise InputError("A model was trained on a patient or it was not: records of one patient disagree.")
    # what a model says of everybody is no answer about this patient
    scores = matrix.scores - matrix.scores.mean(axis=1, keepdims=True)
    place = np.arange(len(order)) - np.repeat(start, count)
    answers = np.zeros((len(rows), len(matrix), int(count.max(initial=1))))
    answers[np.repeat(np.arange(len(rows)), count), :, place] = scores[:, order].T
    inside = had[start].sum(axis=1)
    both = (inside > 0) & (inside < len(matrix))
    distances, labels = pair_distances(answers[both]), had[start][both]
    found, control = (
        energy_p_values(distances, one, seed=seed) for one in (labels, relabelled(labels, seed=seed + 1))
    )
    return FutureBias(rows[both], found, control, len(matrix))


def _discovered(p_values: FloatArray) -> BoolArray:
    q = stats.false_discovery_control(p_values) if len(p_values) else p_values
    return np.asarray(q <= FALSE_DISCOVERY_RATE)

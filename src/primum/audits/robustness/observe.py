"""Put changed cases of held-out patients to a classifier, and note which verdicts turn.

Training patients are left out: a model keeps what it learnt by heart further from where the verdict turns, so
that they would flatter it.
"""

from collections.abc import Callable, Sequence

import numpy as np

from primum.audits.privacy.case_subjects import CaseSubjects
from primum.audits.privacy.label_only import Kind
from primum.audits.robustness.corruptions import Surroundings
from primum.audits.robustness.room import Room
from primum.audits.robustness.stages import STAGES, Trial, whole_patients
from primum.evidence.contrast import FEWEST_PATIENTS, shown
from primum.evidence.finding import Message
from primum.evidence.measured import IntArray
from primum.evidence.observed import Observed
from primum.evidence.robustness import RULES
from primum.fit.protocol import ClassifierTrainable
from primum.models.opened import OpenedClassifier
from primum.records.case_files.table import Feature
from primum.records.cases import Cases

_MOST, _CASES_A_PATIENT = 500, 4
# Cases of more numbers, and models of more parameters, are asked about fewer patients.
_USUAL_NUMBERS, _USUAL_PARAMETERS = 4096, 1_000_000
Progress = Callable[[str, int], None]


def observe_robustness(
    model: OpenedClassifier,
    subjects: CaseSubjects,
    *,
    kind: Kind,
    surrogate: ClassifierTrainable | None = None,
    features: Sequence[Feature] = (),
    seed: int,
    progress: Progress | None = None,
) -> Observed:
    """Attack, corrupt and certify the verdicts on a sample of the held-out patients.

    At most 500 cases, four a patient; of the tests that ask hundreds of questions a case, 150. Cases of more
    than 4,096 numbers, and models of more than a million parameters, are asked about fewer, 40 at least: the
    settings say how many.

    Parameters
    ----------
    model : OpenedClassifier
        Refused where its answers were recorded. With gradients the attacks are white-box, without by scores.
    subjects : CaseSubjects
        Those who are no members are taken.
    kind : {"image", "volume", "signal", "table", "sequence", "bag"}
    surrogate : ClassifierTrainable or None
        Trains what attacks are tried on before they are carried over; a small network of the kind takes its
        place where it is None or shows no gradients.
    features : sequence of Feature
        Of tables: an attacker changes numbers, not categories.
    seed : int
    progress : callable or None
        Given the name of each stage and how many cases it is about.

    Returns
    -------
    Observed
        Columns ``CONDITION:class`` and ``CONDITION:margin`` of each way in which the cases were changed.
    """
    if not model.answers_anew:
        return Observed("robustness", refused=dict.fromkeys(RULES, Message("kept_answers")))
    cases, patients = _sample(model, subjects, seed=seed)
    people = len(np.unique(patients))
    if people < FEWEST_PATIENTS:
        few = Message("too_few_patients", {"needed": FEWEST_PATIENTS, "have": shown(people)})
        return Observed("robustness", refused=dict.fromkeys(RULES, few))
    around = _around(cases, kind, features)
    trial = Trial(model.predictor, cases, patients, around, surrogate, seed)
    for stage, carry_out in STAGES:
        if progress is not None:
            progress(stage, len(cases))
        carry_out(trial)
    return Observed(
        "robustness",
        {"patient": patients.astype(np.float64), "label": cases.labels.astype(np.float64), **trial.columns},
        {"label": tuple(model.predictor.classes)},
        trial.settings,
        trial.refused,
        tuple(trial.series),
    )


def _sample(model: OpenedClassifier, subjects: CaseSubjects, *, seed: int) -> tuple[Cases, IntArray]:
    """Draw held-out patients with at most four cases each, and return their cases, patient by patient."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.flatnonzero(~subjects.is_member))
    rank = np.full(len(subjects), len(subjects))
    rank[order] = np.arange(len(order))
    mixed = rng.permutation(len(subjects.place))
    mixed = mixed[np.argsort(rank[subjects.place[mixed]], kind="stable")]
    mixed = mixed[~subjects.is_member[subjects.place[mixed]]]
    owner = rank[subjects.place[mixed]]
    nth = np.arange(len(owner)) - np.searchsorted(owner, owner)
    mixed, owner = mixed[nth < _CASES_A_PATIENT], owner[nth < _CASES_A_PATIENT]
    inputs = subjects.cases.inputs
    numbers = max(1.0, float(np.median([one.size for one in inputs])) if len(inputs) else 1.0)
    part = min(1.0, _USUAL_NUMBERS / numbers) * min(1.0, _USUAL_PARAMETERS / max(1, model.parameters))
    count = whole_patients(owner, most=round(max(2 * FEWEST_PATIENTS, _MOST * part)))
    return subjects.cases.select(mixed[:count]), subjects.rows[subjects.place[mixed[:count]]]


def _around(cases: Cases, kind: Kind, features: Sequence[Feature]) -> Surroundings:
    """Measure the range of the data: of 8 bits what they hold, else what is seen; of tables each column's."""
    inputs, nothing = cases.inputs, np.empty(0, np.uint8)
    if kind == "sequence":
        seen = np.unique(np.concatenate(list(inputs)))
        room = Room(np.array(0.0), np.array(255.0), np.array(True))
        return Surroundings(kind, room, np.zeros(0, np.bool_), (), seen)
    if kind != "table":
        low, high = 0.0, 255.0
        if inputs[0].dtype != np.uint8:
            low = min(float(np.nanmin(one)) for one in inputs)
            high = max(float(np.nanmax(one)) for one in inputs)
        room = Room(np.array(low), np.array(high), np.array(True))
        return Surroundings(kind, room, np.zeros(0, np.bool_), (), nothing)
    rows = np.ma.masked_invalid(np.asarray(inputs, np.float64))
    free = np.asarray(~np.isin(rows.filled(0.0), (0, 1)).all(axis=0), np.bool_)
    low, high = rows.min(axis=0).filled(0.0), rows.max(axis=0).filled(0.0)
    for one in features:
        free[one.first : one.first + one.width] = one.kind == "number"
        bounds = one.minimum, one.maximum
        if one.kind == "number" and np.isfinite(bounds).all():
            low[one.first], high[one.first] = bounds
    whole = np.asarray((rows.filled(0.0) % 1 == 0).all(axis=0), np.bool_)
    return Surroundings(kind, Room(low, high, free), whole, features, nothing)

"""What shadow models say of the audited cases: calibrated attacks, and training that shifts the future."""

from dataclasses import dataclass, replace

import numpy as np

from primum.audits.privacy.bias import future_bias, future_cases
from primum.audits.privacy.lira import edge_of, lira
from primum.audits.privacy.rmia import rmia
from primum.evidence.measured import Measured
from primum.evidence.naming import FEWEST_REFERENCES
from primum.fit.protocol import ClassifierTrainable, Keep
from primum.fit.shadows import train_shadows
from primum.models.score_matrix import ScoreMatrix
from primum.records.cases import Cases
from primum.records.families import BoolArray
from primum.records.histories import FloatArray
from primum.workflows.case_gather import CasePeople
from primum.workflows.workers import Map

# Fewer shadows than this say too little of one case for a likelihood ratio.
FEWEST_FOR_LIRA = 8
# From here on each case's own variance is known better than one variance for all.
_MANY = 64
# Where some probabilities are exactly 0 or 1, the largest odds of the others are nearly as coarse: with this
# share of them left as they are, naming keeps its level (study: classifier_false_alarms).
_TRUSTED = 0.95


@dataclass(frozen=True, eq=False)
class Shadows:
    """Shadow models of the audited cases.

    Attributes
    ----------
    matrix : ScoreMatrix
        About every case, in the order of the audit; `inside` is of the case's patient.
    later : bool, shape (cases,)
        Cases that no shadow was trained on, though some were on earlier ones of the same patient.
    most : float
        Log-odds that naming takes all larger ones for.
    """

    matrix: ScoreMatrix
    later: BoolArray
    most: float = float("inf")

    def __len__(self) -> int:
        return len(self.matrix)


def shadows_of(
    cases: Cases,
    recipe: ClassifierTrainable,
    *,
    count: int,
    seed: int,
    keep_later: bool,
    apply: Map,
    kept: Keep,
) -> Shadows:
    """Train shadows on halves of all patients; `keep_later` keeps the last of several cases out of all."""
    later = future_cases(cases, seed=seed) if keep_later else np.zeros(len(cases), np.bool_)
    candidates = cases.select(np.flatnonzero(~later))
    matrix = train_shadows(recipe, candidates, count=count, seed=seed, apply=apply, keep=kept, asked=cases)
    return Shadows(matrix, later)


def calibrated(people: CasePeople, shadows: Shadows) -> dict[str, FloatArray]:
    """Score each case by the attacks that read shadow models, shape (cases,); NaN: a later case."""
    asked = np.flatnonzero(~shadows.later)
    inside = people.case_is_member[asked]
    fair, target = shadows.matrix.cases(asked).fair_to(inside), people.cases.scores["loss"][asked]
    if not (fair.inside.any(axis=0) & ~fair.inside.all(axis=0)).all():
        return {}  # a single shadow trained on half of the patients and can say nothing of the other
    found = {"rmia": rmia(target, fair, target[~inside], fair.cases(~inside), online=True)}
    if len(fair) >= FEWEST_FOR_LIRA:
        found["lira"] = lira(target, fair, online=True, fixed_variance=len(fair) < _MANY)
    scores = {name: np.full(len(shadows.later), np.nan) for name in found}
    for name, values in found.items():
        scores[name][asked] = values
    return scores


def bounded(people: CasePeople, shadows: Shadows | None) -> tuple[CasePeople, Shadows | None]:
    """Put log-odds of probabilities of exactly 0 and 1 where LiRA puts them, for means and naming.

    Of a forest or of neighbours they would be 36, next to 3 where one tree of twenty disagrees: a patient's
    mean would be that of them alone, and no law that is near to Gaussian would hold for it.
    """
    odds, matrix = people.cases.scores["loss"], None if shadows is None else shadows.matrix
    edge = edge_of(odds, matrix)
    scores = {**people.cases.scores, "loss": np.clip(odds, -edge, edge)}
    people = replace(people, cases=replace(people.cases, scores=scores))
    if shadows is None or matrix is None:
        return people, None
    size = np.abs(matrix.scores)
    told = size[size <= edge]
    most = float(np.quantile(told, _TRUSTED)) if len(told) < size.size else shadows.most
    inside = ScoreMatrix(np.clip(matrix.scores, -edge, edge), matrix.inside)
    return people, replace(shadows, matrix=inside, most=most)


def under_shadows(people: CasePeople, shadows: Shadows) -> FloatArray | None:
    """Mean log-odds of each patient under shadows that did not train on them, as many for everyone.

    Shape (patients, shadows); None where there are too few to name anyone.
    """
    inside = np.zeros((len(shadows), len(people.table)), np.bool_)
    inside[:, people.table.position] = shadows.matrix.inside
    fewest = int((~inside).sum(axis=0).min()) if len(shadows) else 0
    if fewest < FEWEST_REFERENCES:
        return None
    odds = np.vstack([people.cases.scores["loss"], shadows.matrix.scores])
    target, *scores = (people.mean(np.clip(row, -shadows.most, shadows.most)) for row in odds)
    without = np.argsort(inside, axis=0, kind="stable")[:fewest]
    # naming looks at differences to the patient's plain mean
    back = people.mean(odds[0]) - target
    return np.asarray(np.take_along_axis(np.stack(scores), without, axis=0).T + back[:, None])


def later_predictions(people: CasePeople, shadows: Shadows) -> Measured | None:
    """Measure whether training on a patient shifts what is said of the patient's later cases."""
    later = np.flatnonzero(shadows.later)
    if not len(later):
        return None
    patient = people.table.position[later]
    found = future_bias(shadows.matrix.cases(later), patient, patients=len(people.table), seed=people.seed)
    return found.measured(people.is_member)

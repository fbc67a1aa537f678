"""The cases whose explanations are tested, in parts, with the verdict on each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from primum.audits.privacy.case_subjects import CaseSubjects
from primum.fit.explainers import Array, Kind, Method, Parts, background_of, divide, explain
from primum.models.opened import OpenedClassifier
from primum.models.predictors import Predictor
from primum.records.cases import Cases
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray

Totals = Sequence[FloatArray]
# By method, what it attributes to the parts of each case; of some methods only of the first cases.
Explained = Mapping[Method, Totals]
MOST, FEWEST = 100, 20
_WORK = 100_000_000


@dataclass(frozen=True, eq=False)
class Asked:
    """One case each of as many patients.

    Attributes
    ----------
    predictor : Predictor
    cases : Cases
    parts : sequence of Parts
    verdicts : int64, shape (n,)
        The class that the model gives.
    background : ndarray
        What stands where a part is taken away.
    groups : sequence of sequences of int
        Of tables: the columns of each category.
    kind : str
    seed : int
    """

    predictor: Predictor
    cases: Cases
    parts: Sequence[Parts]
    verdicts: IntArray
    background: Array
    groups: Sequence[Sequence[int]]
    kind: Kind
    seed: int

    def __len__(self) -> int:
        return len(self.parts)

    def first(self, count: int) -> "Asked":
        """Keep the first so many."""
        cases = self.cases.select(np.arange(min(count, len(self))))
        return replace(self, cases=cases, parts=self.parts[:count], verdicts=self.verdicts[:count])

    def showing(self, inputs: Sequence[Array]) -> "Asked":
        """Put other inputs in the place of the cases, the verdicts kept."""
        stacked = np.stack(inputs) if isinstance(self.cases.inputs, np.ndarray) else tuple(inputs)
        return replace(self, cases=replace(self.cases, inputs=stacked), parts=self._divided(inputs))

    def totals(self, method: Method, *, predictor: Predictor | None = None) -> Totals:
        """Explain each verdict, of another model where one is given, and sum over the parts."""
        maps = explain(
            predictor or self.predictor,
            self.cases,
            method,
            parts=self.parts,
            towards=self.verdicts,
            seed=self.seed,
        )
        return [one.totals(map_) for one, map_ in zip(self.parts, maps, strict=True)]

    def spread(self) -> FloatArray:
        """Deviation of the values over cases: of each column or lead, else of all together."""
        if self.kind not in ("table", "signal"):
            return np.array(np.std(np.concatenate([np.ravel(one) for one in self.cases.inputs])))
        stacked = np.asarray(self.cases.inputs, np.float64)
        axes = (0,) if self.kind == "table" else (0, 2)
        spread = np.ma.masked_invalid(stacked).std(axis=axes, keepdims=True).filled(0.0)[0]
        return np.where(spread > 0, spread, 1.0)

    def _divided(self, inputs: Sequence[Array]) -> list[Parts]:
        return [divide(one, kind=self.kind, background=self.background, groups=self.groups) for one in inputs]


def draw(
    model: OpenedClassifier,
    subjects: CaseSubjects,
    *,
    kind: Kind,
    groups: Sequence[Sequence[int]],
    patients: int | None,
    seed: int,
) -> Asked:
    """Draw held-out patients, and learn from their cases what stands where a part is away.

    Parameters as :func:`primum.audits.explanations.observe.observe_explanations`; at least one patient is no
    member.
    """
    firsts = np.unique(subjects.place, return_index=True)[1]
    others = firsts[~subjects.is_member]
    largest = max(subjects.cases.inputs[row].size for row in others.tolist())
    most = patients or int(np.clip(_WORK // (25 * largest + model.parameters), FEWEST, MOST))
    cases = subjects.cases.select(np.random.default_rng(seed).permutation(others)[:most])
    background = background_of(cases, kind=kind, groups=groups)
    verdicts = model.predictor.predict_proba(cases).argmax(axis=1)
    empty = Asked(model.predictor, cases, (), verdicts, background, groups, kind, seed)
    return empty.showing(list(cases.inputs))


def away_from_background(parts: Parts) -> FloatArray:
    """How far each value is from the background, whatever the model: anyone could draw that."""
    away: FloatArray = np.abs(np.nan_to_num(parts.values.astype(np.float64) - parts.without))
    return away

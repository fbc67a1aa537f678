"""Shadow models: classifiers like the audited one, each trained on a random half of the patients.

Shadows are drawn without regard to who trained the audited model, so that whatever they show of a patient is
the same for members and for held-out patients unless the audited model itself remembers. They come in pairs,
a half and its complement: of an even number of shadows every patient trained exactly half, and none is
without a shadow that did or did not train on it, as one in sixteen would be of four independent halves.

References
----------
Carlini et al., Membership inference attacks from first principles, IEEE S&P 2022.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from primum.errors import InputError
from primum.fit.protocol import ClassifierTrainable, Keep
from primum.models.score_matrix import BoolArray, ScoreMatrix, score_cases
from primum.records.cases import Cases
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray

FEWEST_PATIENTS = 20


class Apply(Protocol):
    """``map``, here or in other processes; results in the order of the tasks."""

    def __call__(self, function: "_Training", tasks: Iterable[int], /) -> Iterator[FloatArray]:
        """Apply `function` to each task."""
        ...


@dataclass(frozen=True, eq=False)
class _Training:
    """Trains the shadow of a number and asks it; pickled where there are several processes."""

    recipe: ClassifierTrainable
    candidates: Cases
    asked: Cases
    seed: int

    def __call__(self, number: int) -> FloatArray:
        mine = np.isin(self.candidates.subject_ids, half_of(self.candidates, number, seed=self.seed))
        train = self.candidates.select(np.flatnonzero(mine))
        model = self.recipe.fit(train, validation=None, max_steps=None, seed=shadow_seed(number, self.seed))
        return score_cases(model, self.asked)[0]


def train_shadows(
    recipe: ClassifierTrainable,
    cases: Cases,
    *,
    count: int,
    seed: int,
    apply: Apply = map,
    keep: Keep | None = None,
    asked: Cases | None = None,
) -> ScoreMatrix:
    """Train shadow models and ask each of them about every case.

    Parameters
    ----------
    recipe : ClassifierTrainable
        Trains models like the audited one; each shadow sees no validation cases.
    cases : Cases
        Candidates for the shadows' training. For the online attack: members and held-out patients together;
        for the offline attack: tuning patients, who are neither.
    count : int
        More asked later with the same seed begin with the same ones.
    seed : int
        Of all halves and trainings: see :func:`half_of` and :func:`shadow_seed`.
    apply : callable
        ``map``, or what spreads tasks over processes: see :func:`primum.workflows.workers.workers`.
    keep : Keep, optional
        Takes ``scores``, ``inside`` and ``seed`` of each shadow as ``shadow-<number>`` as soon as it is
        done; what is there of the same half of the same cases is not trained again. What else shaped it
        (recipe, records) must be part of the place itself.
    asked : Cases, optional
        Whom the shadows are asked about, if not the candidates.

    Returns
    -------
    ScoreMatrix
        Shape (count, cases asked), in their order.

    Raises
    ------
    InputError
        Fewer than 20 patients, or no shadow asked for.
    ModelError
        A shadow answers nonsense.
    """
    _require_enough(len(np.unique(cases.subject_ids)), count)
    asked = cases if asked is None else asked
    inside = np.array(
        [np.isin(asked.subject_ids, half_of(cases, number, seed=seed)) for number in range(count)]
    )
    rows = {} if keep is None else _kept(keep, inside)
    missing = [number for number in range(count) if number not in rows]
    for number, row in zip(missing, apply(_Training(recipe, cases, asked, seed), missing), strict=True):
        if keep is not None:
            seeds = np.array([seed, shadow_seed(number, seed)], np.int64)
            keep.put(f"shadow-{number}", {"scores": row, "inside": inside[number], "seed": seeds})
        rows[number] = row
    return ScoreMatrix(np.array([rows[number] for number in range(count)]), inside)


def _require_enough(patients: int, count: int) -> None:
    if count < 1 or patients < FEWEST_PATIENTS:
        raise InputError(
            "Shadow models need at least {fewest} patients and one model, and there are {have} patients and "
            "{count} models: give more patients, or ask for no attack with shadow models.",
            fewest=FEWEST_PATIENTS,
            have=patients,
            count=count,
        )


def half_of(cases: Cases, number: int, *, seed: int) -> IntArray:
    """Return the patients that the shadow of a number trains on; an odd one on all that the one before left.

    Patients, not cases: all cases of a patient are on one side.
    """
    patients = np.unique(cases.subject_ids)
    order = np.random.default_rng([seed, number // 2]).permutation(patients)
    halves: list[IntArray] = np.array_split(order, 2)
    return np.sort(halves[number % 2])


def shadow_seed(number: int, seed: int) -> int:
    """Return the seed that the shadow of a number is trained with."""
    return int(np.random.SeedSequence([seed, number // 2, 1 + number % 2]).generate_state(1)[0])


def _kept(keep: Keep, inside: BoolArray) -> dict[int, FloatArray]:
    """Scores of the shadows that are there, of the same halves and hence of the same seed."""
    found = {number: keep.get(f"shadow-{number}") for number in range(len(inside))}
    return {
        number: np.asarray(parts["scores"], np.float64)
        for number, parts in found.items()
        if parts is not None and np.array_equal(parts["inside"], inside[number])
    }

"""A whole synthetic cohort: splits, and canaries planted a known number of times, twins never planted."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from primum.errors import InputError
from primum.records.canaries import CanaryPlan
from primum.records.histories import Histories, concatenate
from primum.records.synthetic.draw import numbered, synthetic_patients
from primum.records.synthetic.population import DIAGNOSIS_RANK, population
from primum.records.synthetic.settings import ANYWHERE, SyntheticSettings

_UNUSUAL_SHARE = 0.5
# Trailing zeros of a numpy seed count for nothing: without a mark, [5, 0] repeats the plain draw of seed 5.
_COHORT = 0x636F68


@dataclass(frozen=True, eq=False)
class Cohort:
    """Patients by split.

    Attributes
    ----------
    settings : SyntheticSettings
    seed : int
    splits : mapping of split name to Histories
        Planted canaries are the last patients of train, their twins the last of held_out.
    canaries : CanaryPlan or None
        The canaries' subject ids, to be left out of every group that stands for ordinary patients.
    """

    settings: SyntheticSettings
    seed: int
    splits: Mapping[str, Histories]
    canaries: CanaryPlan | None


def catalogue_codes(settings: SyntheticSettings) -> tuple[str, ...]:
    """Return every code that the population of `settings` can emit, sorted.

    The list is public: a vocabulary made from it says nothing about who trained a model.
    """
    return population(settings.population_seed).codes


def synthetic_cohort(settings: SyntheticSettings, *, seed: int) -> Cohort:
    """Draw a cohort; the same settings and seed give the same bytes.

    Parameters
    ----------
    settings : SyntheticSettings
    seed : int
        Draws the patients and the canaries; 0 or more. The population depends on `settings.population_seed`.

    Returns
    -------
    Cohort
        Subject ids differ between splits and start at 1.

    Raises
    ------
    InputError
        When the seed is negative.
    """
    if seed < 0:
        raise InputError("The seed of a synthetic cohort must be 0 or more; it is {seed}.", seed=seed)
    splits: dict[str, Histories] = {}
    next_id = 1
    for number, (name, size) in enumerate(settings.sizes.items()):
        origin = settings.origins.get(name, ANYWHERE)
        splits[name] = synthetic_patients(
            size, settings=settings, seed=[seed, number, _COHORT], first_subject_id=next_id, origin=origin
        )
        next_id += size
    if not settings.canary_pairs or not settings.canary_copies:
        return Cohort(settings, seed, splits, None)
    planted, twins, plan = _canaries(settings, seed, next_id)
    splits["train"] = concatenate([splits["train"], planted])
    splits["held_out"] = concatenate([splits["held_out"], twins])
    return Cohort(settings, seed, splits, plan)


def _canaries(
    settings: SyntheticSettings, seed: int, next_id: int
) -> tuple[Histories, Histories, CanaryPlan]:
    """Draw pairs of unusual patients and toss a coin for which of each pair is planted."""
    copies = np.repeat(settings.canary_copies, settings.canary_pairs)
    pairs = np.arange(len(copies))
    rng = np.random.default_rng([seed, len(settings.sizes), _COHORT])
    heads = rng.integers(2, size=len(copies))
    unusual = _unusual_patients(2 * len(copies), settings, rng)
    planted = unusual.select(np.repeat(2 * pairs + heads, copies))
    twins = unusual.select(2 * pairs + 1 - heads)
    count = len(planted)
    plan = CanaryPlan(
        np.arange(next_id, next_id + count + len(twins)),
        np.concatenate([np.repeat(pairs, copies), pairs]),
        np.concatenate([np.repeat(copies, copies), copies]),
        np.arange(count + len(twins)) < count,
    )
    return numbered(planted, next_id), numbered(twins, next_id + count), plan


def _unusual_patients(count: int, settings: SyntheticSettings, rng: np.random.Generator) -> Histories:
    """Draw patients, then swap a share of their diagnoses for rare ones taken at random."""
    shared = population(settings.population_seed)
    usual = synthetic_patients(count, settings=settings, seed=rng.integers(2**32, size=4).tolist())
    swapped = shared.rank[usual.code_ids] == DIAGNOSIS_RANK
    swapped &= rng.random(len(swapped)) < _UNUSUAL_SHARE
    code_ids = np.where(swapped, rng.choice(shared.tail, len(swapped)), usual.code_ids)
    return replace(usual, code_ids=code_ids)

"""Random changes of the size of an attack, as its control: what turns a verdict here needs no attacker."""

from dataclasses import replace

import numpy as np

from primum.audits.robustness.room import Attacked, Norm, Room, ask, generator, in_blocks, stored, worse
from primum.models.predictors import Predictor
from primum.records.cases import Cases


@in_blocks
def noise(
    predictor: Predictor,
    cases: Cases,
    room: Room,
    *,
    budget: float,
    norm: Norm = "linf",
    draws: int = 1,
    seed: int,
    keep: bool = False,
) -> Attacked:
    """Change every number at random, as far as the budget lets it.

    Parameters
    ----------
    predictor : Predictor
    cases : Cases
    room : Room
    budget : float
        In parts of the range.
    norm : {"linf", "l2"}
        Each number up or down by the whole budget, or normal noise of that length in all.
    draws : int
        The worst of so many counts; the case as it stands does not.
    seed : int
    keep : bool
        Return the changed inputs.
    """
    rng, inputs = generator(cases, seed=seed), np.asarray(cases.inputs)
    found: list[Attacked] = []
    for _ in range(draws):
        if norm == "linf":
            low, high = room.bounds(inputs, budget=budget)
            changed = stored(np.where(rng.random(inputs.shape) < 0.5, low, high), inputs.dtype)
        else:
            change = rng.standard_normal(inputs.shape) * room.width
            change *= budget / np.maximum(room.length(change), 1e-12)
            low, high = room.bounds(inputs, budget=1.0)
            changed = room.held(inputs, np.clip(inputs + change, low, high), budget=budget)
        one = ask(predictor, replace(cases, inputs=changed), keep=keep)
        found = [worse(found[0], one)] if found else [one]
    return found[0]

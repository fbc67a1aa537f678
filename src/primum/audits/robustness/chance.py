"""Chance's patches and misread letters: as large as an attacker's, so that only aim sets the two apart."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primum.audits.privacy.label_only import Kind
from primum.audits.robustness.room import Attacked, Room, ask, generator, in_blocks, stored
from primum.audits.robustness.windows import window_at, window_axes
from primum.models.predictors import Predictor
from primum.records.cases import Cases


@in_blocks
def random_patch(
    predictor: Predictor, cases: Cases, room: Room, *, kind: Kind, side: int, seed: int
) -> Attacked:
    """Put a patch of extremes, drawn at random, at a random place: the control of an adversarial one."""
    rng, inputs = generator(cases, seed=seed), np.asarray(cases.inputs)
    axes = window_axes(kind, inputs.ndim)
    sides = tuple(1 if kind == "bag" and axis == 1 else min(side, inputs.shape[axis]) for axis in axes)
    places = [inputs.shape[axis] - side + 1 for axis, side in zip(axes, sides, strict=True)]
    corners = np.stack([rng.integers(count, size=len(inputs)) for count in places], axis=1)
    low, high = room.bounds(inputs, budget=1.0)
    drawn = stored(np.where(rng.random(inputs.shape) < 0.5, low, high), inputs.dtype)
    changed = np.where(window_at(corners, inputs.shape, axes, sides), drawn, inputs)
    return ask(predictor, replace(cases, inputs=changed))


@in_blocks
def substituted(
    predictor: Predictor, cases: Cases, alphabet: NDArray[Any], *, count: int, seed: int
) -> Attacked:
    """Change so many letters, drawn at random, each into another: the control of an attack on letters."""
    rng, inputs = generator(cases, seed=seed), np.asarray(cases.inputs)
    where = np.argsort(rng.random(inputs.shape), axis=1)[:, :count]
    old = np.searchsorted(alphabet, np.take_along_axis(inputs, where, axis=1))
    new = alphabet[(old + rng.integers(1, max(2, len(alphabet)), where.shape)) % len(alphabet)]
    changed = inputs.copy()
    np.put_along_axis(changed, where, new, axis=1)
    return ask(predictor, replace(cases, inputs=changed))

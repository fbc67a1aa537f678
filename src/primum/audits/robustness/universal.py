"""One change for everybody: added to any case, it turns the verdict on many.

White box. It is looked for on the cases of some patients and tried on others. A smear on the lens or a
faulty device may do to everybody what an attack made for one patient does to that one. With a room that
leaves only a window free, and the whole range as budget, it is a universal patch.

References
----------
Moosavi-Dezfooli et al., Universal adversarial perturbations, CVPR 2017.
Shafahi et al., Universal adversarial training, AAAI 2020 (gradient ascent in batches).
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primum.audits.robustness.room import Attacked, Room, WhiteBox, ask, in_blocks, stored
from primum.evidence.measured import FloatArray
from primum.models.predictors import Predictor
from primum.records.cases import Cases

_BATCH = 64


def universal_perturbation(
    model: WhiteBox, cases: Cases, room: Room, *, budget: float, epochs: int = 5, seed: int
) -> FloatArray:
    """Look for one change that turns as many verdicts as it can, towards whichever class this is easiest.

    Parameters
    ----------
    model : Predictor and Differentiable
    cases : Cases
        Of one shape, at least one; none of a patient on whom the change is then tried.
    room : Room
    budget : float
        The largest change of a number, in parts of the range.
    epochs : int
        How often each case is asked for its gradient, for each class that there is among the labels.
    seed : int

    Returns
    -------
    float64, shape of one case
        To be added in the numbers of the records.
    """
    cases = replace(cases, inputs=np.stack(list(cases.inputs)))
    changes = [
        _towards(int(label), model, cases, room, budget=budget, epochs=epochs, seed=seed)
        for label in np.unique(cases.labels)
    ]
    right = [perturbed(model, cases, room, change).right.sum() for change in changes]
    return changes[int(np.argmin(right))]


def _towards(
    label: int, model: WhiteBox, cases: Cases, room: Room, *, budget: float, epochs: int, seed: int
) -> FloatArray:
    """Draw all cases to one class that are not in it yet, in equal steps, 2.5 budgets in all."""
    rng, inputs = np.random.default_rng(seed), np.asarray(cases.inputs)
    reach = budget * np.broadcast_to(room.width, inputs.shape[1:])
    change, batches = np.zeros(inputs.shape[1:]), -(-len(cases) // _BATCH)
    step = 2.5 * reach / (epochs * batches)
    for _ in range(epochs):
        for rows in np.array_split(rng.permutation(len(cases)), batches):
            part = replace(cases.select(rows), inputs=_changed(inputs[rows], room, change))
            loss, slope = model.loss_and_gradient(part, np.full(len(rows), label))
            pull = -slope[loss > np.log(2)].sum(axis=0)
            change = np.clip(change + step * np.sign(pull), -reach, reach)
    return change


@in_blocks
def perturbed(
    predictor: Predictor, cases: Cases, room: Room, change: FloatArray, *, keep: bool = False
) -> Attacked:
    """Add one change to cases, and ask.

    Parameters
    ----------
    predictor : Predictor
    cases : Cases
    room : Room
    change : float64, shape of one case
        From :func:`universal_perturbation`.
    keep : bool
        Return the changed inputs.
    """
    changed = _changed(np.asarray(cases.inputs), room, change)
    return ask(predictor, replace(cases, inputs=changed), keep=keep)


def _changed(inputs: NDArray[Any], room: Room, change: FloatArray) -> NDArray[Any]:
    """Add, keep to the range, and round to what a file could hold."""
    low, high = room.bounds(inputs, budget=1.0)
    return stored(np.clip(inputs + change, low, high), inputs.dtype)

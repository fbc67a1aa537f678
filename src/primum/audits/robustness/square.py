"""The Square attack: random squares of the largest allowed change, kept where the model grows less sure.

Black box: the attacker sees scores, and asks many times. No gradient is needed, so that a model cannot hide
behind gradients that lead nowhere.

References
----------
Andriushchenko et al., Square Attack: a query-efficient black-box adversarial attack via random search, ECCV
2020 (L-infinity; stripes as start; how squares shrink).
"""

from dataclasses import replace

import numpy as np

from primum.audits.privacy.label_only import Kind
from primum.audits.robustness.room import Attacked, Room, ask, generator, in_blocks, margins, stored
from primum.audits.robustness.windows import window_axes, windows
from primum.models.predictors import Predictor
from primum.records.cases import Cases

# The share of all places that the first squares cover, and the parts of the queries after which it is halved.
FIRST = 0.8
HALVED_AFTER = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


@in_blocks
def square(
    predictor: Predictor,
    cases: Cases,
    room: Room,
    *,
    kind: Kind,
    budget: float,
    queries: int = 500,
    seed: int,
    keep: bool = False,
) -> Attacked:
    """Try random squares, cubes, stretches or columns until the verdict turns.

    Parameters
    ----------
    predictor : Predictor
    cases : Cases
    room : Room
    kind : {"image", "volume", "signal", "table", "bag"}
        Along which axes a square lies; in a bag it lies in one tile.
    budget : float
        The largest change of a number, in parts of the range.
    queries : int
        At most, for each case; a case is left alone once its verdict is wrong.
    seed : int
    keep : bool
        Return the changed inputs.

    Returns
    -------
    Attacked
        A case is never better off than unattacked.
    """
    rng, inputs = generator(cases, seed=seed), np.asarray(cases.inputs)
    low, high = (stored(side, inputs.dtype) for side in room.bounds(inputs, budget=budget))
    axes = window_axes(kind, inputs.ndim)
    best, asked = inputs.copy(), np.ones(len(cases), np.int64)
    lowest = ask(predictor, cases).margins
    stripes = tuple(1 if axis in axes[:-1] else side for axis, side in enumerate(inputs.shape))
    one_sign = tuple(1 if axis in axes else side for axis, side in enumerate(inputs.shape))[1:]
    tried = np.where(rng.random(stripes) < 0.5, low, high)
    for query in range(1, queries):
        at = np.flatnonzero(lowest >= 0)
        if not len(at):
            break
        if query > 1:
            share = FIRST / 2 ** sum(query > part * queries for part in HALVED_AFTER)
            window = windows(rng, (len(at), *inputs.shape[1:]), kind, share=share)
            tried = np.where(
                window, np.where(rng.random((len(at), *one_sign)) < 0.5, low[at], high[at]), best[at]
            )
        else:
            tried = tried[at]
        found = margins(predictor, replace(cases.select(at), inputs=tried))
        asked[at] += 1
        better = found < lowest[at]
        best[at[better]], lowest[at[better]] = tried[better], found[better]
    return replace(ask(predictor, replace(cases, inputs=best), keep=keep), queries=asked)

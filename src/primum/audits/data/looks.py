"""Cases that are no real case, and cases unlike their class: told from the inputs alone."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from primum.audits.data.features import blocks_of, principal
from primum.evidence.measured import FloatArray, IntArray
from primum.records.cases import Inputs

# What a case may be instead of a real one; 0 is none of these. The first that holds is told.
ARTIFICIAL = ("real", "impossible", "constant", "nearly_constant", "few_values", "repeated", "noise")
# Of what other cases show: a tenth of the values, a twentieth of the spread, a hundred times the range.
_FEWER, _FLATTER, _FURTHER = 0.1, 0.05, 100.0
# White noise differs from neighbour to neighbour by 1.13 deviations on average; pictures by far less.
_NOISE, _ROUGHER = 0.9, 2.0
_MOST_VALUES, _FEWEST_CASES, _COMPONENTS = 4096, 20, 16


def artificial_cases(inputs: Inputs) -> IntArray:
    """Tell which cases are no real ones, as positions in :data:`ARTIFICIAL`, shape (n,); 0 is good.

    *impossible*: infinite, or a hundred times further out than the other cases' range. *constant*: one value
    throughout. *nearly constant*, *few values*: a twentieth of the spread, a tenth of the different values
    that half of the cases exceed. *repeated*: two halves, side by side or one above the other, are equal.
    *noise*: neighbours differ as in white noise, twice as much as in half of the cases.

    Rows of tables are only held against *impossible* and *constant*, sequences against *constant* and
    *repeated*.
    """
    facts = np.concatenate([_facts(block) for block in blocks_of(inputs)])
    low, high, spread, values, halves, rough = facts.T
    row = inputs[0].ndim == 1
    letters = row and inputs[0].dtype == np.uint8
    found = np.zeros(len(facts), np.int64)
    usual = np.nanmedian(facts, axis=0)
    centre, width = (usual[0] + usual[1]) / 2, max(usual[1] - usual[0], 1e-12)
    far = np.maximum(np.abs(low - centre), np.abs(high - centre)) > _FURTHER * width
    pictures = [
        (spread < _FLATTER * usual[2], "nearly_constant"),
        (values < _FEWER * usual[3], "few_values"),
        (halves == 1, "repeated"),
        ((rough > _NOISE) & (rough > _ROUGHER * usual[5]), "noise"),
    ]
    rules = [(~np.isfinite(low + high) | (far & (not letters)), "impossible"), (spread == 0, "constant")]
    rules += [] if row and not letters else pictures[2:3] if letters else pictures
    for holds, name in reversed(rules):
        found[holds] = ARTIFICIAL.index(name)
    return found


def outlying(features: FloatArray, labels: IntArray) -> FloatArray:
    """How unlike each case is to others of its class, in robust deviations; above about 6 it is an outlier.

    Logarithm of the Mahalanobis distance from the class's mean on 16 principal components, less its median,
    by its median absolute deviation over the class (times 1.4826). NaN in classes of fewer than 20 cases.
    """
    found = np.full(len(labels), np.nan)
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        if len(mine) >= _FEWEST_CASES:
            rows = principal(features[mine], components=min(_COMPONENTS, len(mine) // 4))
            away = np.log(np.maximum((rows**2).sum(axis=1), 1e-12))
            middle = np.median(away)
            found[mine] = (away - middle) / max(1.4826 * np.median(np.abs(away - middle)), 1e-9)
    return found


def _facts(block: NDArray[Any]) -> FloatArray:
    """Least, greatest, deviation, different values, equal halves, roughness of each case; shape (n, 6)."""
    count = len(block)
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = np.where(np.isnan(block), 0, block) if block.dtype.kind == "f" else block
        flat = numbers.reshape(count, -1).astype(np.float64)
        some = np.sort(flat[:, :: max(1, flat.shape[1] // _MOST_VALUES)], axis=1)
        different = 1 + (np.diff(some, axis=1) != 0).sum(axis=1)
        spread = np.where(np.ptp(flat, axis=1) == 0, 0.0, flat.std(axis=1))
        halves = np.zeros(count, np.bool_)
        for axis in range(max(1, numbers.ndim - 2), numbers.ndim):
            half = numbers.shape[axis] // 2
            if half >= 4:
                first, second = (np.take(numbers, np.arange(half) + at, axis) for at in (0, half))
                halves |= (first == second).reshape(count, -1).all(axis=1)
        steps = np.abs(np.diff(numbers.astype(np.float64), axis=-1)).reshape(count, -1).mean(axis=1)
        rough = np.divide(steps, spread, out=np.zeros(count), where=spread > 0)
    return np.column_stack([flat.min(axis=1), flat.max(axis=1), spread, different, halves, rough])

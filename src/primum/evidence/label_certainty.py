"""The curve behind ``data.labels``: labels that contradict the score, by how sure the score is."""

import numpy as np
from scipy import stats

from primum.evidence.curves import SMALLEST_CELL
from primum.evidence.finding import Series
from primum.evidence.label_noise import Flips
from primum.evidence.measured import BoolArray, FloatArray

_CURVE = 20


def label_certainty(score: FloatArray, given: BoolArray, fit: Flips) -> Series:
    """Count labels that contradict the score, from the surest no to the surest yes.

    Parameters
    ----------
    score : float64, shape (n,)
    given : bool, shape (n,)
        The labels.
    fit : Flips
        What :func:`primum.evidence.label_noise.flipped_labels` made of them.

    Returns
    -------
    Series
        Twenty parts of equal size: the share that contradicts (0 is good; None where fewer than five do or
        are there), what clean labels would give, and what the wrong labels that were found would.
    """
    places = np.minimum((_CURVE * (stats.rankdata(score) - 0.5) / len(score)).astype(np.int64), _CURVE - 1)
    yes = np.bincount(places, fit.without, _CURVE) > np.bincount(places, minlength=_CURVE) / 2
    against = given != yes[places]
    expected = np.where(yes[places], 1 - fit.without, fit.without)
    found = np.where(yes[places], 1 - fit.fitted, fit.fitted)
    count = np.bincount(places, minlength=_CURVE)
    seen = np.bincount(places, against, _CURVE)
    hidden = ((seen > 0) & (seen < SMALLEST_CELL)) | (count < SMALLEST_CELL)
    columns = {
        "score_low": np.arange(_CURVE) / _CURVE,
        "score_high": np.arange(1, _CURVE + 1) / _CURVE,
        "contradicting": np.where(hidden, np.nan, seen / np.maximum(count, 1)),
        "expected_clean": np.bincount(places, expected, _CURVE) / np.maximum(count, 1),
        "expected_found": np.bincount(places, found, _CURVE) / np.maximum(count, 1),
    }
    return Series(
        "label_certainty",
        {n: tuple(float(v) if np.isfinite(v) else None for v in column) for n, column in columns.items()},
    )

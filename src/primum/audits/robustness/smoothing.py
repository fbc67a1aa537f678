"""A certificate: under Gaussian noise of a chosen size, how far could anything push the verdict?

Not an attack but its opposite. The certified classifier is not the model as it is used, but the model asked
many times with noise added, the commonest class winning: so far no change, by whatever attack, turns that
verdict, but for a chance of one in a thousand for each case.

References
----------
Cohen, Rosenfeld & Kolter, Certified adversarial robustness via randomized smoothing, ICML 2019 (theorem 1,
algorithm CERTIFY); Clopper & Pearson, Biometrika 26 (1934) 404.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri

from primum.audits.robustness.room import Room, stored
from primum.errors import InputError
from primum.evidence.measured import FloatArray, IntArray
from primum.evidence.operating_point import proportion_limits
from primum.models.predictors import Predictor
from primum.records.cases import Cases

ABSTAINS = -1
_BLOCK_BYTES = 1 << 25


@dataclass(frozen=True, eq=False)
class Certified:
    """What smoothing certifies of each case.

    Attributes
    ----------
    classes : int64, shape (n,)
        The class that wins under noise, :data:`ABSTAINS` where none surely does.
    radii : float64, shape (n,)
        No change of a smaller L2 length, in parts of the range, turns it; 0 where it abstains. Less is worse.
    """

    classes: IntArray
    radii: FloatArray


def certify(
    predictor: Predictor,
    cases: Cases,
    room: Room,
    *,
    sigma: float,
    samples: int = 200,
    guesses: int = 20,
    alpha: float = 0.001,
    seed: int,
) -> Certified:
    """Certify the verdicts of the smoothed classifier.

    Where records hold whole numbers the noisy ones are rounded and kept within what the type can hold: that
    is done to whatever input there is, so it counts as part of the classifier and the certificate holds.

    Parameters
    ----------
    predictor : Predictor
    cases : Cases
        Of numbers, not of letters.
    room : Room
        The range, and which numbers may be changed.
    sigma : float
        Deviation of the noise, in parts of the range.
    samples, guesses : int
        Questions for the bound, and before them for the class.
    alpha : float
        Chance that a certificate is wrong, for each case.
    seed : int

    Returns
    -------
    Certified
        Radius sigma times the normal quantile of the lower bound on how often the class wins.

    Raises
    ------
    InputError
        `sigma` is not above 0.
    """
    if not sigma > 0:
        raise InputError("The noise of a certificate must be above 0.")
    classes, radii = np.full(len(cases), ABSTAINS), np.zeros(len(cases))
    for row in range(len(cases)):
        counts = _votes(predictor, cases.select(np.array([row])), room, sigma, guesses + samples, seed=seed)
        guess = int(np.bincount(counts[:guesses]).argmax())
        wins = np.array([float((counts[guesses:] == guess).sum())])
        least = float(proportion_limits(wins, samples, tail=alpha)[0][0])
        if least > 0.5:
            classes[row], radii[row] = guess, sigma * float(ndtri(least))
    return Certified(classes, radii)


def _votes(predictor: Predictor, case: Cases, room: Room, sigma: float, count: int, *, seed: int) -> IntArray:
    """Return the verdicts on one case under noise, shape (count,)."""
    values = case.inputs[0]
    rng = np.random.default_rng([seed, abs(int(case.case_ids[0]))])
    block = max(1, _BLOCK_BYTES // max(1, 8 * values.size))
    votes = []
    for first in range(0, count, block):
        size = min(block, count - first)
        noisy = values + sigma * room.width * rng.standard_normal((size, *values.shape))
        asked = replace(case.select(np.zeros(size, np.int64)), inputs=stored(noisy, values.dtype))
        votes.append(predictor.predict_proba(asked).argmax(axis=1))
    return np.concatenate(votes).astype(np.int64)

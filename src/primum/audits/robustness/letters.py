"""Substitutions in a sequence: which few letters, replaced, turn the verdict?

Black box: the attacker sees scores. Letters have no gradient that could be followed and no small change; the
budget is a number of letters.

References
----------
Alzantot et al., Generating natural language adversarial examples, EMNLP 2018 (substitutions from scores; here
the search is greedy).
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from primum.audits.robustness.room import Attacked, ask, generator, in_blocks, margins
from primum.evidence.measured import FloatArray
from primum.models.predictors import Predictor
from primum.records.cases import Cases

ROUNDS = 10


@in_blocks
def letters(
    predictor: Predictor,
    cases: Cases,
    alphabet: NDArray[np.uint8],
    *,
    budget: int,
    queries: int = 500,
    seed: int,
    keep: bool = False,
) -> Attacked:
    """Replace letters greedily: in each of ten rounds try single ones at random, and keep the best together.

    Parameters
    ----------
    predictor : Predictor
    cases : Cases
        Sequences, uint8; those of many lengths are attacked one at a time.
    alphabet : uint8, shape (letters,)
        What a letter may be replaced by.
    budget : int
        The largest number of letters replaced.
    queries : int
        At most, for each case; a case is left alone once its verdict is wrong.
    seed : int
    keep : bool
        Return the changed sequences.

    Returns
    -------
    Attacked
        A case is never better off than unattacked. A round that does not help is undone.
    """
    rng, inputs = generator(cases, seed=seed), np.asarray(cases.inputs)
    best, lowest, asked = inputs.copy(), margins(predictor, cases), np.ones(len(cases), np.int64)
    rounds = min(ROUNDS, budget)
    tries = max(1, (queries - 1) // max(1, rounds) - 2)
    for number in range(rounds):
        at = np.flatnonzero(lowest >= 0)
        if not len(at) or queries < 3 * rounds + 1:
            break
        together = budget * (number + 1) // rounds - budget * number // rounds
        combined, both = _round(
            rng, predictor, replace(cases.select(at), inputs=best[at]), alphabet, tries, together
        )
        better = both < lowest[at]
        best[at[better]], lowest[at[better]] = combined[better], both[better]
        asked[at] += tries + 2
    return replace(ask(predictor, replace(cases, inputs=best), keep=keep), queries=asked)


def _round(
    rng: np.random.Generator,
    predictor: Predictor,
    cases: Cases,
    alphabet: NDArray[np.uint8],
    tries: int,
    together: int,
) -> tuple[NDArray[np.uint8], FloatArray]:
    """Try single letters; return the best together, or the best alone if that is worse, and its margin."""
    inputs, rows, before = np.asarray(cases.inputs), np.arange(len(cases)), margins(predictor, cases)
    places = rng.integers(inputs.shape[1], size=(tries, len(cases)))
    written = rng.choice(alphabet, size=places.shape)
    found = np.empty(places.shape)
    for row in range(tries):
        tried = inputs.copy()
        tried[rows, places[row]] = written[row]
        found[row] = margins(predictor, replace(cases, inputs=tried))
    order, combined, single = np.argsort(found, axis=0), inputs.copy(), inputs.copy()
    # The best last, so that of two changes of one letter the better stays.
    for row in order[:together][::-1]:
        helps = found[row, rows] < before
        combined[rows[helps], places[row, rows][helps]] = written[row, rows][helps]
    single[rows, places[order[0], rows]] = written[order[0], rows]
    both, alone = margins(predictor, replace(cases, inputs=combined)), found[order[0], rows]
    combined[alone < both] = single[alone < both]
    return combined, np.minimum(both, alone)

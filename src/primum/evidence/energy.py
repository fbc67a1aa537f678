"""Do two groups of models answer one patient alike? The energy distance, by permutation, patient by patient.

References
----------
Székely & Rizzo, Testing for equal distributions in high dimension, InterStat 5 (2004).
Besag & Clifford, Sequential Monte Carlo p-values, Biometrika 78 (1991) 301.
"""

import numpy as np

from primum.errors import InputError
from primum.evidence.measured import BoolArray, FloatArray, IntArray

# The p-value of a patient is settled once so many relabellings were as extreme.
ENOUGH_EXTREME = 10
_FIRST, _BLOCK = 199, 1990
_NUMBERS_AT_ONCE = 4_000_000


def pair_distances(answers: FloatArray) -> FloatArray:
    """Return Euclidean distances of the answers of each two models, shape (patients, pairs of models).

    Parameters
    ----------
    answers : float64, shape (patients, models, values)
        What each model says of each patient; a value that a patient lacks is 0 for all models.
    """
    first, second = np.triu_indices(answers.shape[1], 1)
    distances = np.zeros((len(answers), len(first)))
    for value in range(answers.shape[2]):
        one = answers[:, :, value]
        distances += (one[:, first] - one[:, second]) ** 2
    return np.sqrt(distances)


def energy_distance(distances: FloatArray, had: BoolArray) -> FloatArray:
    """Return the energy distance of models that had each patient to models that had not, shape (patients,).

    2 E|X - Y| - E|X - X'| - E|Y - Y'|, each mean over all pairs, a model with itself included: 0 where both
    groups answer alike, and worse the larger, in units of the answers.

    Parameters
    ----------
    distances : float64, shape (patients, pairs of models)
        From :func:`pair_distances`.
    had : bool, shape (patients, models)

    Examples
    --------
    >>> energy_distance(pair_distances(np.array([[[0.0], [1.0]]])), np.array([[True, False]])).tolist()
    [2.0]
    """
    return np.asarray((distances * _weights(had)).sum(axis=1), np.float64)


def energy_p_values(
    distances: FloatArray, had: BoolArray, *, most: int = 99_999, seed: int = 0
) -> FloatArray:
    """Test for each patient that models which had the patient answer as those which had not.

    Relabellings keep how many models had the patient; more are drawn while fewer than ten were as extreme, up
    to `most`. Exact where it was drawn at random which model had whom. Where models come in pairs, a half of
    the patients and its complement, the two of a pair are swapped: what a complement learnt of everybody else
    is the contrary, and labels drawn freely would call that an effect of the patient.

    Parameters
    ----------
    distances, had
        As :func:`energy_distance`.
    most : int
        Relabellings of one patient; p is at least 1 / (1 + `most`).
    seed : int

    Returns
    -------
    float64, shape (patients,)
        Small is worse: having been in the training set changes what a model says of the patient.

    Raises
    ------
    InputError
        Shapes do not match, a distance is not finite, or all models had a patient, or none.
    """
    models = had.shape[1]
    if distances.shape != (len(had), models * (models - 1) // 2) or not np.isfinite(distances).all():
        raise InputError("The energy test needs a finite answer of each model for each patient.")
    counts = had.sum(axis=1)
    if ((counts == 0) | (counts == models)).any():
        raise InputError("The energy test needs models that had each patient and models that had not.")
    seen = energy_distance(distances, had)
    p_values, random, pairs = np.ones(len(had)), np.random.default_rng(seed), _in_pairs(had)
    for count in np.unique(counts):
        rows = np.flatnonzero(counts == count)
        shape = int(count), models, pairs
        p_values[rows] = _sequential(distances[rows], seen[rows], shape, most, random)
    return p_values


def _in_pairs(had: BoolArray) -> bool:
    """Tell whether of models 0 and 1, 2 and 3, ... one had each patient; an odd last one stands alone."""
    return bool((had[:, :-1:2] != had[:, 1::2]).all())


def _labels(size: int, shape: tuple[int, int, bool], random: np.random.Generator) -> BoolArray:
    """Draw labellings, shape (size, models); of pairs one each, an odd last model keeping its label."""
    count, models, pairs = shape
    if not pairs:
        return np.asarray(random.random((size, models)).argsort(axis=1) < count)
    labels = np.full((size, models), count > models // 2)
    labels[:, :-1:2] = random.random((size, models // 2)) < 0.5
    labels[:, 1::2] = ~labels[:, :-1:2]
    return labels


def _sequential(
    distances: FloatArray,
    seen: FloatArray,
    shape: tuple[int, int, bool],
    most: int,
    random: np.random.Generator,
) -> FloatArray:
    """Return 10 / draws at the tenth relabelling as extreme, else (1 + as extreme) / (1 + draws)."""
    p_values, extreme, drawn = np.ones(len(seen)), np.zeros(len(seen), np.int64), 0
    active, block = np.arange(len(seen)), max(1, min(_BLOCK, _NUMBERS_AT_ONCE // max(1, distances.shape[1])))
    while len(active) and drawn < most:
        size = min(block, most - drawn, drawn + _FIRST)
        labels = _labels(size, shape, random)
        weights = _weights(labels).T
        for part in np.array_split(active, 1 + len(active) * size // _NUMBERS_AT_ONCE):
            # distances that tie but for rounding count as extreme
            bound = seen[part, None] - 1e-9 * distances[part].mean(axis=1, keepdims=True)
            so_far = extreme[part, None] + np.cumsum(distances[part] @ weights >= bound, axis=1)
            tenth = drawn + 1 + (so_far < ENOUGH_EXTREME).sum(axis=1)
            done, extreme[part] = so_far[:, -1] >= ENOUGH_EXTREME, so_far[:, -1]
            p_values[part] = np.where(done, ENOUGH_EXTREME / tenth, (1 + so_far[:, -1]) / (1 + drawn + size))
        drawn += size
        active = active[extreme[active] < ENOUGH_EXTREME]
    return p_values


def relabelled(had: BoolArray, *, seed: int) -> BoolArray:
    """Draw for each patient, of as many models as had the patient, which ones are said to: the control."""
    if _in_pairs(had):
        random, labels = np.random.default_rng(seed), had.copy()
        swapped = np.repeat(random.random((len(had), had.shape[1] // 2)) < 0.5, 2, axis=1)
        labels[:, : swapped.shape[1]] ^= swapped
        return labels
    places: IntArray = np.random.default_rng(seed).random(had.shape).argsort(axis=1).argsort(axis=1)
    return np.asarray(places < had.sum(axis=1, keepdims=True))


def _weights(had: BoolArray) -> FloatArray:
    """Return what each distance of two models counts in the energy distance, shape (labellings, pairs).

    It is -e'De, where e is 1 / models that had the patient, or -1 / models that had not.
    """
    inside = had.sum(axis=1, keepdims=True)
    share = np.where(had, 1 / inside, -1 / (had.shape[1] - inside))
    first, second = np.triu_indices(had.shape[1], 1)
    return np.asarray(-2 * share[:, first] * share[:, second], np.float64)

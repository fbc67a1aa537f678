"""What equity is judged from: the model's answers about held-out cases, and whose cases they are."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from primum.errors import InputError
from primum.evidence.curves import SMALLEST_CELL
from primum.evidence.equity import RULES
from primum.evidence.equity.answers import (
    ATTRIBUTES,
    FEWEST,
    NEUTRAL,
    PROBABILITY,
    SEVERITY,
    answers_of,
    groups_of,
)
from primum.evidence.equity.proxy import MOST_PATIENTS, by_patient, guesses_of, membership
from primum.evidence.finding import Message, Scalar
from primum.evidence.measured import FloatArray, IntArray
from primum.evidence.observed import Observed

# Of an attribute with more values the others are together what is compared with these.
MOST_VALUES = 20
_AGE_EDGES = (18, 40, 60, 80)
_AGE_BANDS = ("0-17", "18-39", "40-59", "60-79", "80+")
_UNKNOWN = ("", "?")


def observe_equity(
    probabilities: ArrayLike,
    labels: ArrayLike,
    patient: ArrayLike,
    attributes: Mapping[str, NDArray[Any]],
    *,
    classes: Sequence[str],
    positive: str | None = None,
    threshold: float | None = None,
    neutral: ArrayLike | None = None,
    severity: Mapping[str, ArrayLike] | None = None,
    seed: int = 0,
) -> Observed:
    """Gather what a model says of held-out cases, to be judged by :mod:`primum.evidence.equity`.

    Parameters
    ----------
    probabilities : float, shape (n, classes)
    labels, patient : int, shape (n,)
        Positions in `classes`; whose case it is, any numbers.
    attributes : mapping of str to array, shape (n,)
        As of :class:`primum.records.cases.Cases`; who is "", "?" or NaN is in no comparison.
    classes : sequence of str
    positive, threshold : str and float, optional
        The class to find; by default the second of two, and of more each against all others. From which
        probability it is called; by default the likeliest class is.
    neutral : float, shape (n, d), optional
        Inputs said not to tell who the patient is, for the proxy test; NaN is filled by the mean.
    severity : mapping of str to float, shape (n,), optional
        How ill patients are: held alike, in quarters, where gaps are standardised.
    seed : int
        Of the folds of the proxy test.

    Returns
    -------
    Observed
        Refused with ``no_groups`` where no attribute divides the patients.

    Raises
    ------
    InputError
        Arrays do not fit together, probabilities are no probabilities, a class or threshold is not there.
    """
    given = _probabilities(probabilities, len(classes))
    truth, people, place = _labels(labels, patient, len(given), len(classes))
    targets = classes_to_find(classes, positive, threshold)
    codes, names, left_out = _attributes(attributes, place, len(people))
    columns = {
        "patient": place.astype(np.float64),
        "label": truth.astype(np.float64),
        "called": _called(given, targets[0], threshold),
        **{PROBABILITY + classes[target]: given[:, target].astype(np.float64) for target in targets},
        **codes,
        **{SEVERITY + name: _quarters(one, len(given), name) for name, one in (severity or {}).items()},
    }
    settings: dict[str, Scalar] = {"cases": len(given), "patients": len(people), "groups_left_out": left_out}
    settings |= {"threshold": "argmax" if threshold is None else threshold, "smallest_group": FEWEST}
    settings |= {"classes_judged": ", ".join(classes[target] for target in targets), "seed": seed}
    names |= {"label": tuple(classes), "called": tuple(classes)}
    return _with_neutral(Observed("equity", columns, names, settings), neutral, seed)


def _with_neutral(observed: Observed, neutral: ArrayLike | None, seed: int) -> Observed:
    """Add what the neutral inputs tell; refuse where there is no group to tell of."""
    columns = observed.columns
    if not groups_of(answers_of(observed)):
        refused = dict.fromkeys(RULES, Message("no_groups"))
        return Observed(
            "equity", {"patient": columns["patient"]}, settings=observed.settings, refused=refused
        )
    if neutral is None:
        return observed
    return replace(observed, columns={**columns, **_neutral(observed, neutral, seed)})


def _called(given: FloatArray, target: int, threshold: float | None) -> FloatArray:
    """Give the class that the model calls, -1 for none that can be named."""
    if threshold is None:
        likeliest: FloatArray = given.argmax(axis=1).astype(np.float64)
        return likeliest
    other = 1 - target if given.shape[1] == 2 else -1
    called: FloatArray = np.where(given[:, target] >= threshold, float(target), float(other))
    return called


def _probabilities(values: ArrayLike, classes: int) -> FloatArray:
    given = np.asarray(values)
    if given.dtype.kind != "f":
        given = given.astype(np.float64)
    if given.ndim != 2 or given.shape[1] != classes or classes < 2 or not len(given):
        raise InputError(
            "Probabilities must be a table with one row a case and one column for each of {classes} classes, "
            "two or more; its shape is {shape}.",
            classes=classes,
            shape=str(given.shape),
        )
    if not (np.isfinite(given).all() and given.min() >= 0 and given.max() <= 1):
        raise InputError("Probabilities must lie between 0 and 1: logits are not what is wanted here.")
    return given


def _labels(
    labels: ArrayLike, patient: ArrayLike, cases: int, classes: int
) -> tuple[IntArray, IntArray, IntArray]:
    truth, ids = np.asarray(labels), np.asarray(patient)
    if any(one.shape != (cases,) or one.dtype.kind not in "iu" for one in (truth, ids)):
        raise InputError("Labels and patients must be {cases} whole numbers, one for each case.", cases=cases)
    if truth.min() < 0 or truth.max() >= classes:
        raise InputError("Labels must be positions in the {classes} classes, from 0.", classes=classes)
    people, place = np.unique(ids, return_inverse=True)
    return truth, people, place


def classes_to_find(
    classes: Sequence[str], positive: str | None = None, threshold: float | None = None
) -> list[int]:
    """Give the positions of the classes that equity judges, each against all others.

    Parameters
    ----------
    classes : sequence of str
    positive, threshold : str and float, optional
        As of :func:`observe_equity`.

    Raises
    ------
    InputError
        No such class, a threshold that is no probability, or one without the class that it is for.

    Examples
    --------
    >>> classes_to_find(("healthy", "ill")), classes_to_find(("healthy", "mild", "severe"))
    ([1], [0, 1, 2])
    >>> classes_to_find(("healthy", "mild", "severe"), "severe", 0.2)
    [2]
    """
    if positive is not None and positive not in classes:
        raise InputError(
            "The class to find, {positive}, is none of the model's: give one of {classes}.",
            positive=positive,
            classes=", ".join(classes),
        )
    if threshold is not None and not 0 < threshold < 1:
        raise InputError("A threshold lies between 0 and 1, both excluded; it is {value}.", value=threshold)
    if positive is not None:
        return [list(classes).index(positive)]
    if len(classes) == 2:
        return [1]
    if threshold is not None:
        raise InputError(
            "A threshold among {classes} classes needs the class to find: name it with --positive.",
            classes=len(classes),
        )
    return list(range(len(classes)))


def _attributes(
    attributes: Mapping[str, NDArray[Any]], place: IntArray, people: int
) -> tuple[dict[str, FloatArray], dict[str, tuple[str, ...]], int]:
    """Code the attributes; values of few patients, or beyond the most frequent ones, share a code."""
    codes: dict[str, FloatArray] = {}
    names: dict[str, tuple[str, ...]] = {}
    left_out = 0
    for name in (one for one in ATTRIBUTES if one in attributes):
        found, values = _coded(name, np.asarray(attributes[name]), len(place))
        cases_of = (np.bincount(place[found == code], minlength=people) for code in range(len(values)))
        held = np.array([np.count_nonzero(cases) for cases in cases_of], np.int64)
        kept = np.sort(np.argsort(-held, kind="stable")[:MOST_VALUES])
        kept = kept[held[kept] >= SMALLEST_CELL]
        left_out += len(values) - len(kept)
        new = np.full(len(values) + 1, float(len(kept)))
        new[kept], new[-1] = np.arange(len(kept)), np.nan
        codes[name] = new[found]
        names[name] = (*(values[one] for one in kept), "")
    return codes, names, left_out


def _coded(name: str, values: NDArray[Any], cases: int) -> tuple[IntArray, tuple[str, ...]]:
    """Give each value a number, -1 where it is not known."""
    if values.shape != (cases,):
        raise InputError("The attribute {name} must have one value for each case.", name=name)
    if name == "age":
        years = values.astype(np.float64)
        return np.where(np.isfinite(years), np.digitize(years, _AGE_EDGES), -1), _AGE_BANDS
    texts, place = np.unique(values.astype(str), return_inverse=True)
    known = [position for position, text in enumerate(texts) if text not in _UNKNOWN]
    renumbered = np.full(len(texts), -1)
    renumbered[known] = np.arange(len(known))
    return renumbered[place], tuple(str(texts[position]) for position in known)


def _quarters(severity: ArrayLike, cases: int, name: str) -> FloatArray:
    values = np.asarray(severity, np.float64)
    if values.shape != (cases,):
        raise InputError("The severity {name} must have one value for each case.", name=name)
    known = np.isfinite(values)
    edges = np.quantile(values[known], [0.25, 0.5, 0.75]) if known.any() else np.empty(0)
    return np.where(known, np.digitize(values, edges), np.nan)


def _neutral(observed: Observed, neutral: ArrayLike, seed: int) -> dict[str, FloatArray]:
    """Guess each group from the neutral inputs, of a sample of patients."""
    answers = answers_of(observed)
    inputs = np.asarray(neutral, np.float64)
    if inputs.ndim != 2 or len(inputs) != len(answers.patient):
        raise InputError("The neutral inputs must be a table with one row for each case.")
    known = np.isfinite(inputs)
    means = np.where(known, inputs, 0).sum(axis=0) / np.maximum(1, known.sum(axis=0))
    sample = np.random.default_rng(seed).permutation(answers.people)[:MOST_PATIENTS]
    rows = by_patient(answers, np.where(known, inputs, means))[sample]
    groups = groups_of(answers)
    guesses = np.full((answers.people, len(groups)), np.nan)
    guesses[sample] = guesses_of(rows, membership(answers, groups)[sample], seed=seed)
    return {NEUTRAL + one.name: guesses[answers.patient, place] for place, one in enumerate(groups)}

"""Does a classifier give its own patients' attributes away, more than those of strangers?

``attribute.inferred``: the attacker knows a patient's record and diagnosis but for one input, asks the
model about the record with each value that the input can have, and believes the value under which the true
diagnosis is likeliest. ``attribute.outputs``: the attacker sees what the model gives out about a case (its
inner vector, or its answer) and reads sex, age or skin type from that. Either way a model may be right
because diseases and attributes go together; that helps with members and held-out patients alike, and only the
difference is a leak.

References
----------
Fredrikson et al., Privacy in pharmacogenetics, USENIX Security 2014 (the attack).
Mehnaz et al., Are your sensitive attributes private?, USENIX Security 2022 (by the model's confidence).
Yeom et al., Privacy risk in machine learning, CSF 2018 (as a difference to non-members).
Song & Raghunathan, Information leakage in embedding models, CCS 2020 (from inner vectors).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primum.audits.privacy.case_subjects import CaseSubjects
from primum.audits.privacy.confidence import log_odds
from primum.evidence.blind import blind_guesses
from primum.evidence.finding import Message, Scalar
from primum.evidence.measured import BoolArray, FloatArray, Guesses, IntArray, Measured
from primum.models.predictors import CaseEmbedder, Predictor
from primum.records.case_files.table import Feature

MOST_VALUES, BANDS, MOST_DIMENSIONS = 10, 4, 256
AGE_EDGES = (40, 65, 80)
READ = ("sex", "age", "skin_type", "ethnicity")
_INFERRED, _OUTPUTS = "attribute.inferred", "attribute.outputs"


def infer_inputs(predictor: Predictor, subjects: CaseSubjects, features: Sequence[Feature]) -> Measured:
    """Guess each attribute from the rest of the row, the diagnosis and the model's answers.

    Parameters
    ----------
    predictor : Predictor
        Asked about every case once for each value.
    subjects : CaseSubjects
        Of a table; other inputs are refused.
    features : sequence of Feature
        The sensitive columns of the table, one after the other, all else being known. Values are those that
        the cases have; a number with more than ten is cut into four bands at its quartiles and asked by the
        median of each, and of more than ten categories the ten most frequent are asked.

    Returns
    -------
    Measured
        ``attribute.inferred``: AUROC on members minus AUROC on held-out patients is to be judged; 0 = no
        leak, above is worse. One fact a value (one for two values: the higher): log p of the true class
        under it minus the mean under all values, averaged over the patient's cases. A patient has the value
        that at least half of the cases have, none where it is missing. Blind guesses are made from the rest
        of the row and the diagnosis, by ridge regression.
    """
    inputs = subjects.cases.inputs
    if not isinstance(inputs, np.ndarray) or inputs.ndim != 2:
        return Measured(subjects.rows, refused={_INFERRED: Message("no_sensitive_input")})
    found = [(one, *_values(inputs[:, _columns(one)].astype(np.float64))) for one in features]
    asked = [one for one in found if len(one[1]) > 1]
    if not asked:
        return Measured(subjects.rows, refused={_INFERRED: Message("no_sensitive_input")})
    guesses = [_guessed(predictor, subjects, inputs, *one) for one in asked]
    settings: dict[str, Scalar] = {
        "attributes": len(asked),
        "most_values": MOST_VALUES,
        "queries": sum(len(one[1]) for one in asked),
    }
    return Measured(subjects.rows, guesses={_INFERRED: _joined(guesses)}, settings=settings)


def _guessed(
    predictor: Predictor,
    subjects: CaseSubjects,
    inputs: NDArray[Any],
    feature: Feature,
    values: FloatArray,
    codes: IntArray,
) -> Guesses:
    """Guess one attribute, with the model and without; `values` and `codes` are from :func:`_values`."""
    places, count = _columns(feature), len(values)
    true = np.arange(len(inputs)), subjects.cases.labels
    log_p = np.empty((len(inputs), count))
    for column, value in enumerate(values):
        changed = inputs.copy()
        changed[:, places] = value
        odds = log_odds(predictor, replace(subjects.cases, inputs=changed))[true]
        log_p[:, column] = -np.logaddexp(0, -odds)
    scores = subjects.mean(log_p - log_p.mean(axis=1, keepdims=True))
    labels = subjects.mean(codes[:, None] == np.arange(count)) >= 0.5
    rest = np.delete(inputs.astype(np.float64), places, axis=1)
    known = subjects.mean(np.hstack([np.nan_to_num(rest), np.isnan(rest), _diagnoses(subjects)]))
    blind = blind_guesses(known, labels, dense_columns=known.shape[1], seed=subjects.seed)
    told = [feature.values[value.argmax()] if feature.values else at + 1 for at, value in enumerate(values)]
    guesses = Guesses(tuple(f"{feature.name} {one}" for one in told), scores, labels, blind)
    return replace(guesses.only(1), names=(feature.name,)) if count == 2 else guesses


def _columns(feature: Feature) -> slice:
    return slice(feature.first, feature.first + feature.width)


def infer_from_outputs(predictor: Predictor, subjects: CaseSubjects) -> Measured:
    """Read sex, age, skin type and ethnicity from what the model gives out, beyond what the diagnosis tells.

    Ridge regression, cross-fitted by patient over both sides as one, so that it learns what outputs tell of
    anyone.

    Parameters
    ----------
    predictor : Predictor
        Its inner vectors are read if it is a :class:`primum.models.predictors.CaseEmbedder` (wider ones than
        256 in 256 random directions), else the log-odds of its classes.
    subjects : CaseSubjects
        Outputs are averaged over a patient's cases.

    Returns
    -------
    Measured
        ``attribute.outputs``: AUROC on members minus AUROC on held-out patients is to be judged; 0 = no
        leak, above is worse. Facts are each value that ten patients have, ages in bands cut at 40, 65 and 80;
        a patient has the value that at least half of the cases have, none where it is not known. Blind
        guesses are made from the diagnosis alone.
    """
    facts = list(_facts(subjects))
    if not facts:
        return Measured(subjects.rows, refused={_OUTPUTS: Message("no_attributes")})
    if isinstance(predictor, CaseEmbedder):
        vectors = predictor.embed(subjects.cases)
    else:
        vectors = log_odds(predictor, subjects.cases)
    width = vectors.shape[1]
    if width > MOST_DIMENSIONS:
        vectors = vectors @ np.random.default_rng(width).standard_normal((width, MOST_DIMENSIONS))
    labels = np.stack([has for _, has in facts], axis=1)
    diagnoses = subjects.mean(_diagnoses(subjects))
    shown = np.hstack([subjects.mean(vectors), diagnoses])
    scores, blind = (
        blind_guesses(told, labels, dense_columns=told.shape[1], seed=subjects.seed)
        for told in (shown, diagnoses)
    )
    guesses = Guesses(tuple(name for name, _ in facts), scores, labels, blind)
    settings: dict[str, Scalar] = {
        "embeddings": isinstance(predictor, CaseEmbedder),
        "dimensions": vectors.shape[1],
    }
    return Measured(subjects.rows, guesses={_OUTPUTS: guesses}, settings=settings)


def _values(rows: FloatArray) -> tuple[FloatArray, IntArray]:
    """Return the values to ask, shape (values, columns), and which each case has, -1 for none of them."""
    known = np.isfinite(rows).all(axis=1)
    if rows.shape[1] > 1:
        known &= rows.any(axis=1)  # a category without a value is zeros throughout
    values, places, counts = np.unique(rows[known], axis=0, return_inverse=True, return_counts=True)
    if len(values) > MOST_VALUES and rows.shape[1] == 1:
        numbers = rows[known, 0]
        edges = np.unique(np.quantile(numbers, np.arange(1, BANDS) / BANDS))
        bands, places = np.unique(np.searchsorted(edges, numbers), return_inverse=True)
        values = np.array([[np.median(numbers[places == band])] for band in range(len(bands))])
    elif len(values) > MOST_VALUES:
        kept = np.sort(np.argsort(-counts, kind="stable")[:MOST_VALUES])
        values, places = values[kept], np.where(np.isin(places, kept), np.searchsorted(kept, places), -1)
    codes = np.full(len(rows), -1)
    codes[known] = places.ravel()
    return values, codes


def _facts(subjects: CaseSubjects) -> Iterator[tuple[str, BoolArray]]:
    """Yield yes-or-no facts of each patient, one of two that are each other's opposite."""
    for name in READ:
        held = subjects.cases.attributes.get(name)
        if held is None:
            continue
        if name == "age":
            held = np.where(np.isnan(held), "", np.digitize(held, AGE_EDGES).astype(str))
        values: list[str] = [value for value in np.unique(held).tolist() if value]
        found: dict[str, BoolArray] = {
            value: subjects.mean((held == value)[:, None])[:, 0] >= 0.5 for value in values
        }
        enough = [value for value in values if found[value].sum() >= MOST_VALUES]
        for value in enough[1:] if len(enough) == len(values) == 2 else enough:
            yield f"{name} {value}", found[value]


def _diagnoses(subjects: CaseSubjects) -> FloatArray:
    """One column a class, shape (cases, classes)."""
    return np.eye(subjects.cases.labels.max() + 1)[subjects.cases.labels]


def _joined(parts: Sequence[Guesses]) -> Guesses:
    """Put the facts of several attributes side by side."""
    return Guesses(
        tuple(name for part in parts for name in part.names),
        np.hstack([part.scores for part in parts]),
        np.hstack([part.labels for part in parts]),
        np.hstack([part.blind for part in parts if part.blind is not None]),
    )

"""Whether patients whom a model was to forget can still be told from patients who trained nothing.

By what an attack on membership reads: how sure a model is of what is true of a patient. The older model is
asked too, and shows what there was to forget.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from primum.evidence.curves import SMALLEST_CELL
from primum.evidence.ranking import auc
from primum.models.classifier_doors import open_classifier
from primum.models.doors import open_model
from primum.models.score_matrix import score_cases
from primum.records.case_folder import is_cases, open_cases
from primum.records.cases import CaseRecords
from primum.records.filtered import Filtered, FilteredCases
from primum.records.histories import FloatArray, Records
from primum.records.opened import open_records
from primum.records.ragged import IntArray
from primum.records.tokenizer import Tokenizer
from primum.train.receipt import Receipt
from primum.workflows.command import HELD_OUT, TRAIN


def recognised(
    run: Any, older: Path, parent: Receipt, *, records: Path, gone: IntArray
) -> dict[str, dict[str, Any]]:
    """Tell forgotten patients from held-out ones by a model that never saw them and by the older one.

    Parameters
    ----------
    run : Run
        The new model and how it was learnt.
    older : Path
        The folder of the model that saw them.
    parent : Receipt
        Of the older model.
    records : Path
    gone : int64, shape (k,)
        Who was to be forgotten.

    Returns
    -------
    dict
        ``before`` and ``after``: AUC (.5 is chance, more is worse) with its interval, and both numbers of
        patients. Empty where the records hold none of them, or have no held_out split.
    """
    ask = (_of_cases if is_cases(records) else _of_histories)(run, older, parent, records, gone)
    return {name: _measured(*sides) for name, sides in ask if all(map(len, sides))}


def is_telling(found: dict[str, Any]) -> bool:
    """Whether so few were forgotten that a figure points at somebody."""
    return bool(found["patients"] < SMALLEST_CELL)


_Sides = Iterator[tuple[str, tuple[FloatArray, FloatArray]]]


def _of_cases(run: Any, older: Path, parent: Receipt, records: Path, gone: IntArray) -> _Sides:
    folder = open_cases(records)
    if HELD_OUT not in folder.splits():
        return
    sides = FilteredCases(folder.split(TRAIN), gone, keep=True), folder.split(HELD_OUT)
    yield "after", _both(_case_surety, run.model, sides)
    # The module is one that this run made too: no receipt says what is imported.
    place = getattr(run.learner.module(run.model), "place", None)
    if place is not None and place == parent.factory:
        predictor = open_classifier(older, factory=place).predictor
        yield "before", _both(_case_surety, predictor, sides)


def _of_histories(run: Any, older: Path, parent: Receipt, records: Path, gone: IntArray) -> _Sides:
    folder = open_records(records)
    if not folder.splits().get(HELD_OUT):
        return
    sides = Filtered(folder.split(TRAIN), gone, keep=True), folder.split(HELD_OUT)
    yield "after", _both(_history_surety, (run.model, run.learner.tokenizer), sides)
    opened = open_model(older)
    yield "before", _both(_history_surety, (opened.scorer, opened.tokenizer), sides)


def _both(surety: Callable[[Any, Any], FloatArray], model: Any, sides: tuple[Any, Any]) -> Any:
    return tuple(surety(model, side) for side in sides)


def _case_surety(predictor: Any, records: CaseRecords) -> FloatArray:
    """Log-odds of what is true, the mean over a patient's cases, shape (k,)."""
    odds, ids = [np.empty(0)], [np.empty(0, np.int64)]
    for cases in records.shards():
        odds.append(score_cases(predictor, cases)[0])
        ids.append(cases.subject_ids)
    _, place = np.unique(np.concatenate(ids), return_inverse=True)
    return np.bincount(place, np.concatenate(odds)) / np.bincount(place)


def _history_surety(model: tuple[Any, Tokenizer], records: Records) -> FloatArray:
    """Mean log-probability, in nats a token, of histories of two tokens and more, shape (k,)."""
    scorer, tokenizer = model
    each = [row for shard in records.shards() for row in scorer.log_probs(tokenizer.encode(shard))]
    return np.array([row.mean() for row in each if len(row)])


def _measured(gone: FloatArray, others: FloatArray) -> dict[str, Any]:
    found = auc(gone, others)
    return {
        "auc": found.value,
        "low": found.low,
        "high": found.high,
        "patients": len(gone),
        "held_out": len(others),
    }

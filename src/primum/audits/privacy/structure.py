"""What a model's own files say of its training patients: rows kept, leaves that few share or of one class.

Some kinds of model are partly made of their training data: support vectors and the neighbours of k-NN are
rows of patients, and a leaf of a tree that two patients share describes two patients. These are facts of the
file, not guesses; held-out patients stand beside them to show what chance gives.

References
----------
Preen & Smith, SACRO-ML's structural attack, 2024 (leaves that few share, class disclosure, parameters).
Sweeney, k-anonymity, Int. J. Uncertain. Fuzz. 10 (2002) 557.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from primum.audits.privacy.case_subjects import CaseSubjects
from primum.evidence.contrast import shown
from primum.evidence.finding import Message, Scalar
from primum.evidence.measured import FloatArray, IntArray, Measured
from primum.models.classifier_card import InputCard
from primum.models.opened import OpenedClassifier

FEW, FEWER_THAN = 5, 10
TESTS = ("structure.stored", "structure.leaves", "structure.classes")
_PURE = 1e-12
# Where scikit-learn keeps training rows: SVM, k-NN and radius neighbours, Gaussian processes.
_KEPT = ("support_vectors_", "_fit_X", "X_train_")


def read_structure(opened: OpenedClassifier, subjects: CaseSubjects) -> Measured:
    """Look for training patients in the model's structure.

    Parameters
    ----------
    opened : OpenedClassifier
        Refused without a structure; its card says how inputs are scaled.
    subjects : CaseSubjects
        Refused unless all cases have one shape.

    Returns
    -------
    Measured
        Scores in [0, 1]; the mean of members minus that of held-out patients is to be judged; 0 = no more of
        training patients than of others, above is worse.

        - ``structure.stored``: 1 when a row of the patient is kept in the model, to seven digits.
        - ``structure.leaves``: share of trees in which the patient's leaf has fewer than five training rows.
        - ``structure.classes``: share of trees in which all training rows of the leaf are of one class.

        The last two take the first case of each patient and what the trees say of themselves (a forest counts
        the rows that each tree was given); they are refused of a model without trees. Settings say how many
        members, oneself included, share the smallest leaf; how many share a leaf with fewer than 5 or 10 in
        some tree; and whether the model has as many parameters as there are training cases.
    """
    inputs = subjects.cases.inputs
    if opened.structure is None or not isinstance(inputs, np.ndarray):
        return Measured(subjects.rows, refused=dict.fromkeys(TESTS, Message("no_structure")))
    parts = list(_parts(opened.structure, _given(opened, inputs)))
    stored, kept = _stored(parts, subjects)
    records = int(subjects.is_member[subjects.place].sum())
    settings: dict[str, Scalar] = {
        "parameters": opened.parameters or None,
        "records": shown(records),
        "as_many_parameters_as_records": opened.parameters >= records,
        "rows_kept": shown(kept),
    }
    leaves = _leaves(parts, subjects)
    if not leaves.trees:
        refused = dict.fromkeys(TESTS[1:], Message("no_trees"))
        return Measured(subjects.rows, {TESTS[0]: stored}, settings=settings, refused=refused)
    members = subjects.is_member
    settings |= {
        "trees": leaves.trees,
        "smallest_leaf": shown(int(leaves.smallest[members].min(initial=records))),
        "members_in_leaves_under_5": shown(int((leaves.smallest < FEW)[members].sum())),
        "members_in_leaves_under_10": shown(int((leaves.smallest < FEWER_THAN)[members].sum())),
        "members_in_leaves_of_one_class": shown(int((leaves.alike > 0)[members].sum())),
    }
    shares = (stored, leaves.few / leaves.trees, leaves.alike / leaves.trees)
    return Measured(subjects.rows, dict(zip(TESTS, shares, strict=True)), settings=settings)


@dataclass(frozen=True, eq=False)
class _Leaves:
    """By patient: fewest members sharing a leaf; in how many trees it has few rows, or those of one class."""

    trees: int
    smallest: IntArray
    few: FloatArray
    alike: FloatArray


def _given(opened: OpenedClassifier, inputs: NDArray[Any]) -> FloatArray:
    """Rows as the estimator is given them: flat, and scaled as its card says."""
    taken = InputCard(dtype="float64") if opened.card is None else opened.card.input
    rows: FloatArray = taken.prepared(inputs).reshape(len(inputs), -1)
    return rows


def _parts(model: Any, rows: FloatArray) -> Iterator[tuple[Any, FloatArray]]:
    """Yield every estimator inside `model` with the rows that it is given: what comes before transforms."""
    from sklearn.base import BaseEstimator
    from sklearn.exceptions import NotFittedError
    from sklearn.pipeline import Pipeline

    if isinstance(model, Pipeline):
        # what is not fitted is a template, beside the fitted ones
        with suppress(NotFittedError):
            yield from _parts(model[-1], _transformed(model[:-1], rows) if len(model) > 1 else rows)
    elif isinstance(model, BaseEstimator):
        yield model, rows
        for name, held in vars(model).items():
            if name == "final_estimator_":  # it is given the others' answers, not rows
                continue
            objects = isinstance(held, np.ndarray) and held.dtype == object
            for one in np.ravel(held) if objects else held if isinstance(held, list) else [held]:
                # what calibrates holds an estimator and is none
                inner = one if isinstance(one, BaseEstimator) else getattr(one, "estimator", None)
                yield from _parts(inner, rows)


def _transformed(before: Any, rows: FloatArray) -> FloatArray:
    names = getattr(before, "feature_names_in_", None)
    after = before.transform(rows if names is None else pl.DataFrame(rows, schema=[str(n) for n in names]))
    return np.asarray(after.toarray() if hasattr(after, "toarray") else after, np.float64)


def _stored(parts: Sequence[tuple[Any, FloatArray]], subjects: CaseSubjects) -> tuple[FloatArray, int]:
    """Mark whose rows are kept, and count the rows that are."""
    found, kept = np.zeros(len(subjects)), 0
    for model, rows in parts:
        for held in (getattr(model, name) for name in _KEPT if name in vars(model)):
            held = held.toarray() if hasattr(held, "toarray") else held
            if held.ndim == 2 and held.shape[1] == rows.shape[1]:
                kept += held.shape[0]
                known = set(_told(held))
                found[subjects.place[[row in known for row in _told(rows)]]] = 1
    return found, kept


def _told(rows: NDArray[Any]) -> list[bytes]:
    """Each row in seven digits: a transformed row may differ in the last ones with the others beside it."""
    with np.errstate(over="ignore"):
        return [row.tobytes() for row in rows.astype(np.float32) + np.float32(0)]  # no -0


def _leaves(parts: Sequence[tuple[Any, FloatArray]], subjects: CaseSubjects) -> _Leaves:
    """Send the first case of each patient down every tree."""
    from sklearn.tree import BaseDecisionTree

    first = np.unique(subjects.place, return_index=True)[1]
    trees, smallest = 0, np.full(len(first), len(first))
    few, alike = np.zeros(len(first)), np.zeros(len(first))
    for model, rows in parts:
        if isinstance(model, BaseDecisionTree) and getattr(model, "n_features_in_", None) == rows.shape[1]:
            trees += 1
            leaf = model.tree_.apply(rows[first].astype(np.float32))
            members = np.bincount(leaf[subjects.is_member], minlength=model.tree_.node_count)
            smallest = np.minimum(smallest, members[leaf])
            few += model.tree_.n_node_samples[leaf] < FEW
            alike += model.tree_.impurity[leaf] < _PURE
    return _Leaves(trees, smallest, few, alike)

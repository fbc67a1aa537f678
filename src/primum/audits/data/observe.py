"""Everything that the data family asks of the training cases, as columns."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from primum.audits.data.embeddings import clusters, spectral_scores, trigger_ratio, trigger_sizes
from primum.audits.data.features import features_of
from primum.audits.data.looks import ARTIFICIAL, artificial_cases, outlying
from primum.audits.data.marks import recurring_mark
from primum.audits.data.out_of_fold import FOLDS, OutOfFold, out_of_fold
from primum.audits.privacy.label_only import Kind
from primum.errors import RecordsError
from primum.evidence.finding import Message, Scalar
from primum.evidence.label_noise import label_suspicion
from primum.evidence.measured import BoolArray, FloatArray, IntArray
from primum.evidence.membership import wanted
from primum.evidence.observed import Observed
from primum.models.opened import OpenedClassifier
from primum.models.predictors import CaseEmbedder
from primum.records.case_moved import moved_copies
from primum.records.case_overlap import hashed_duplicates
from primum.records.cases import CaseRecords, Cases, join_cases
from primum.records.filtered import FilteredCases

MOST_PATIENTS, FEWEST_OF_A_CLASS, FEWEST_OF_A_SITE = 5_000, 20, 20
# How a patient repeats another; 0 is nobody's copy.
COPIES = ("none", "as_they_are", "moved")
_MOST_BYTES = 1 << 29
_Part = tuple[dict[str, FloatArray], dict[str, tuple[str, ...]], dict[str, Scalar]]


def observe_data(
    members: CaseRecords,
    *,
    kind: Kind,
    model: OpenedClassifier | None = None,
    seed: int,
    most: int = MOST_PATIENTS,
    only: Sequence[str] = (),
) -> Observed:
    """Look at the training cases; the model is only needed for what its inner vectors say of a backdoor.

    Parameters
    ----------
    members : CaseRecords
        Every training case.
    kind : Kind
    model : OpenedClassifier or None
    seed : int
    most : int
        Patients who are looked at, a random sample where there are more; fewer where their inputs would take
        more than 512 MiB. Copies are looked for among all.
    only : sequence of str
        Prefixes of the tests that were asked for; empty means all.

    Returns
    -------
    Observed
        One row a case: what :func:`primum.evidence.tainted.tainted_claims` reads, and ``case``, its place.

    Raises
    ------
    RecordsError
        There are no training cases.
    """
    ids = members.subject_ids()
    cases = _sampled(members, ids, most=most, seed=seed)
    people, patient = np.unique(cases.subject_ids, return_inverse=True)
    patient = np.random.default_rng(seed).permutation(len(people))[patient]
    columns: dict[str, FloatArray] = {
        "patient": patient.astype(np.float64),
        "case": cases.case_ids.astype(np.float64),
        "label": cases.labels.astype(np.float64),
    }
    names: dict[str, tuple[str, ...]] = {"label": members.classes}
    settings: dict[str, Scalar] = {"looked_at_patients": len(people), "all_patients": len(ids)}
    refused: dict[str, Message] = {}
    steps = _steps(cases, patient, members, kind=kind, model=model, seed=seed)
    for test in (test for test in steps if test == "data.labels" or wanted(test, only)):
        unlearned = test == "data.site" and "flagged" not in columns
        found = Message("labels_not_learned") if unlearned else steps[test]()
        if isinstance(found, Message):
            refused[test] = found
        else:
            columns, names, settings = columns | found[0], names | found[1], settings | found[2]
    return Observed("data", columns, names, settings, refused)


def _steps(
    cases: Cases,
    patient: IntArray,
    members: CaseRecords,
    *,
    kind: Kind,
    model: OpenedClassifier | None,
    seed: int,
) -> dict[str, Callable[[], _Part | Message]]:
    """Name what each test has to look at; sites are compared by what the labels gave."""
    classes = len(members.classes)
    return {
        "data.labels": lambda: _labels(cases, patient, kind, classes, seed),
        "data.duplicates": lambda: _copies(cases, members),
        "data.artificial": lambda: _artificial(cases),
        "data.outliers": lambda: _outlying(cases),
        "data.backdoor": lambda: _marks(cases, patient, kind, classes, model, seed),
        "data.site": lambda: _sites(cases, patient),
    }


def _sampled(members: CaseRecords, ids: IntArray, *, most: int, seed: int) -> Cases:
    """Read the cases of at most so many patients, drawn at random."""
    first = next((shard for shard in members.shards() if len(shard)), None)
    if first is None:
        raise RecordsError("There is no patient to describe: the records are empty.")
    size = max(1, sum(one.nbytes for one in first.inputs) // len(np.unique(first.subject_ids)))
    room = max(1, min(most, max(FEWEST_OF_A_CLASS * len(members.classes), _MOST_BYTES // size)))
    if len(ids) <= room:
        return join_cases(list(members.shards()))
    chosen = np.sort(np.random.default_rng(seed).choice(ids, room, replace=False))
    return join_cases(list(FilteredCases(members, chosen, keep=True).shards()))


def _labels(cases: Cases, patient: IntArray, kind: Kind, classes: int, seed: int) -> _Part | Message:
    """Ask classifiers of our own, out of fold; classes of fewer than 20 patients are left out."""
    from cleanlab.filter import find_label_issues  # type: ignore[import-untyped, unused-ignore]

    of_class = [len(np.unique(patient[cases.labels == label])) for label in range(classes)]
    large = np.flatnonzero(np.array(of_class) >= FEWEST_OF_A_CLASS)
    if len(large) < 2:
        return Message("too_few_of_each_class", {"needed": FEWEST_OF_A_CLASS})
    rows = np.flatnonzero(np.isin(cases.labels, large))
    part = cases.select(rows)
    labels = np.searchsorted(large, part.labels)
    part = Cases(part.case_ids, part.subject_ids, part.inputs, labels, part.attributes)
    answers = out_of_fold(part, patient[rows], kind=kind, classes=len(large), seed=seed)
    flagged = find_label_issues(labels, answers.probabilities, n_jobs=1)
    found = {
        "flagged": flagged.astype(np.float64),
        "sureness": _ranks(answers.probabilities.max(axis=1), answers.fold),
        "predicted": large[answers.probabilities.argmax(axis=1)].astype(np.float64),
        "suspicion": _suspicion(answers, labels, patient[rows]),
    }
    for place in range(len(large)) if len(large) > 2 else (1,):
        found[f"score:{large[place]}"] = _ranks(answers.probabilities[:, place], answers.fold)
    settings: dict[str, Scalar] = {"folds": FOLDS, "classifier": answers.classifier}
    missing = {"flagged": 0.0, "sureness": 0.0, "predicted": -1.0}
    return (
        {
            name: _spread(values, rows, len(cases), missing.get(name, np.nan))
            for name, values in found.items()
        },
        {},
        settings,
    )


def _spread(values: FloatArray, rows: IntArray, count: int, missing: float) -> FloatArray:
    full = np.full(count, missing)
    full[rows] = values
    return full


def _ranks(values: FloatArray, fold: IntArray) -> FloatArray:
    """Rank within each fold, from 0 to 1: classifiers of different folds have scales of their own."""
    found = np.empty(len(values))
    for one in np.unique(fold):
        mine = fold == one
        found[mine] = (rankdata(values[mine]) - 0.5) / mine.sum()
    return found


def _suspicion(answers: OutOfFold, labels: IntArray, patient: IntArray) -> FloatArray:
    """How probably each label is wrong, for the list of cases to look at again."""
    found = np.zeros(len(labels))
    people = np.unique(patient, return_inverse=True)[1]
    for place in range(answers.probabilities.shape[1]) if answers.probabilities.shape[1] > 2 else (1,):
        score = _ranks(answers.probabilities[:, place], answers.fold)
        one = label_suspicion(score, labels == place, people)
        mine = (labels == place) | (answers.probabilities.shape[1] == 2)
        found[mine] = one[mine]
    return found


def _copies(cases: Cases, members: CaseRecords) -> _Part:
    """Tell who repeats an earlier patient; ``data.overlap`` has told who is repeated among the held-out."""
    same, moved = hashed_duplicates(members, members).pairs, moved_copies(members)
    found = [np.unique(pairs.max(axis=1, initial=-1)) for pairs in (same, moved)]
    way = np.where(np.isin(cases.subject_ids, found[1]), 2.0, 0.0)
    way[np.isin(cases.subject_ids, found[0])] = 1.0
    return {"copies": way}, {"copies": COPIES}, {}


def _outlying(cases: Cases) -> _Part:
    return {"outlier": outlying(features_of(cases.inputs), cases.labels)}, {}, {}


def _artificial(cases: Cases) -> _Part:
    return {"artificial": artificial_cases(cases.inputs).astype(np.float64)}, {"artificial": ARTIFICIAL}, {}


def _marks(
    cases: Cases, patient: IntArray, kind: Kind, classes: int, model: OpenedClassifier | None, seed: int
) -> _Part | Message:
    """Search pictures for marks; with a model, describe what its vectors and gradients say."""
    if kind not in ("image", "volume") or not isinstance(cases.inputs, np.ndarray):
        return Message("no_pictures")
    judged = _one_each(patient, seed)
    if len(np.unique(cases.labels[judged])) < 2:
        return Message("one_class")
    mark = recurring_mark(cases.inputs, cases.labels, np.flatnonzero(judged), classes=classes)
    values, place = _site_of_each(cases)
    found = {
        "judged": judged.astype(np.float64),
        "mark": mark.carriers.astype(np.float64),
        "site": place.astype(np.float64),
    }
    settings: dict[str, Scalar] = {
        "marks_tested": mark.tested,
        "mark_size": mark.size,
        "mark_row": mark.row,
        "mark_column": mark.column,
    }
    if model is not None and isinstance(model.predictor, CaseEmbedder):
        vectors = model.predictor.embed(cases)
        found["spectral"] = spectral_scores(vectors, cases.labels)
        share, apart = clusters(vectors, cases.labels, seed=seed)
        if np.isfinite(share):
            settings |= {"smallest_cluster": share, "cluster_silhouette": apart}
    ratio = None if model is None else trigger_ratio(trigger_sizes(model.predictor, cases, seed=seed))
    sites = {"site": tuple(map(str, values))}
    return found, sites, settings if ratio is None else {**settings, "trigger_ratio": ratio}


def _one_each(patient: IntArray, seed: int) -> BoolArray:
    """Choose one case of each patient at random."""
    order = np.random.default_rng(seed).permutation(len(patient))
    chosen = np.zeros(len(patient), np.bool_)
    chosen[order[np.unique(patient[order], return_index=True)[1]]] = True
    return chosen


def _site_of_each(cases: Cases) -> tuple[NDArray[np.str_], IntArray]:
    """Give the names of all sites, and the place of each case's among them."""
    texts: NDArray[np.str_] = np.asarray(cases.attributes.get("site", np.full(len(cases), "")), np.str_)
    return np.unique(texts, return_inverse=True)


def _sites(cases: Cases, patient: IntArray) -> _Part | Message:
    values, place = _site_of_each(cases)
    first = np.unique(patient, return_index=True)[1]
    large = np.bincount(place[first], minlength=len(values)) >= FEWEST_OF_A_SITE
    if (large & (values != "")).sum() < 2:
        return Message("no_sites", {"needed": FEWEST_OF_A_SITE})
    return {"site": place.astype(np.float64)}, {"site": tuple(map(str, values))}, {}

"""T3: do a model's inner vectors tell who trained it, which history belongs to whom, or what was removed?

The attacker gets embeddings, as a hospital may share them for research, and trains simple classifiers on
them. Vectors of two models cannot be compared, so references serve for nothing here.

References
----------
Tonekaboni et al., An investigation of memorization risk in healthcare foundation models, NeurIPS 2025 (T3).
Song & Raghunathan, Information leakage in embedding models, CCS 2020 (membership and attributes).
Johnson & Lindenstrauss, Contemporary Mathematics 26 (1984) 189 (random projections).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from primum.audits.privacy.sensitive import scrubbed
from primum.audits.privacy.subjects import BoolArray, Subjects
from primum.evidence.blind import blind_guesses, blind_scores
from primum.evidence.finding import Message, Scalar
from primum.evidence.measured import Guesses, Measured
from primum.models.protocols import Embedder
from primum.records.attributes import PatientTable
from primum.records.excerpts import excerpts
from primum.records.histories import FloatArray
from primum.records.tokens import TokenBatch

MOST_DIMENSIONS, FEWEST, FOLDS = 256, 10, 5
KNOWN = ("age", "sex", "site")
_SHRINKAGE, _INVERSE_PENALTY = 0.1, 0.1
_CANNOT = Message("model_cannot", {"protocol": "Embedder"})
Vectors = NDArray[np.float32]


def embeddings(model: Embedder, tokens: TokenBatch) -> Vectors:
    """Embed the patients of a shard, shape (n, at most 256); wider vectors are projected, always alike."""
    vectors = model.embed(tokens)
    width = vectors.shape[1]
    if width > MOST_DIMENSIONS:
        directions = np.random.default_rng(width).standard_normal((width, MOST_DIMENSIONS))
        vectors = vectors @ (directions / np.sqrt(MOST_DIMENSIONS))
    return vectors.astype(np.float32)


def probe(vectors: Vectors | None, is_member: BoolArray, *, seed: int) -> Measured:
    """Tell members from held-out patients by a logistic probe that has not seen the patient.

    Parameters
    ----------
    vectors : float32, shape (n, d), or None
        From :func:`embeddings`, shards joined; None when the model is no
        :class:`primum.models.protocols.Embedder`.
    is_member : bool, shape (n,)
    seed : int
        Of the folds.

    Returns
    -------
    Measured
        ``embedding.probe``: log-odds of membership in standard deviations of the fold; higher = more
        member-like; NaN for a patient without tokens, in the first fold (a fifth of each side), and for
        everyone when a side has fewer than five patients.
    """
    rows = np.arange(len(is_member))
    if vectors is None:
        return Measured(rows, refused={"embedding.probe": _CANNOT})
    known = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    scores = np.full(len(rows), np.nan)
    if min(is_member[known].sum(), (~is_member[known]).sum()) >= FOLDS:
        scores[known] = _probed_in_turn(vectors[known], is_member[known], seed=seed)
    settings: dict[str, Scalar] = {"calibrated": False, "dimensions": vectors.shape[1], "folds": FOLDS}
    return Measured(rows, scores={"embedding.probe": scores}, settings=settings)


def attribute(model: object, references: Sequence[object], subjects: Subjects) -> Measured:
    """Guess each sensitive family from the embedding of the scrubbed history and what else is known.

    One logistic probe a family, cross-fitted over both sides as one, so that it learns what embeddings tell
    of anyone; only a difference between the sides is a leak. An attacker who knows k attributes knows the
    first k of age, sex, site.

    Parameters
    ----------
    model : object
        A :class:`primum.models.protocols.Embedder`, or every test is refused.
    references : sequence of object
        Not used.
    subjects : Subjects

    Returns
    -------
    Measured
        AUROC on members minus AUROC on held-out patients is to be judged; 0 = no leak, above is worse. A
        family that fewer than two have, or lack, is scored 0 for everyone.

        - ``embedding.attribute``: all three known; its blind guesses are made of them alone.
        - ``embedding.attribute.known_0``, ``known_1``, ``known_2``.
    """
    tests = {len(KNOWN): "embedding.attribute"}
    tests |= {known: f"embedding.attribute.known_{known}" for known in range(len(KNOWN))}
    if not isinstance(model, Embedder):
        return Measured(subjects.rows, refused=dict.fromkeys(tests.values(), _CANNOT))
    vectors = np.nan_to_num(embeddings(model, scrubbed(subjects.tokens, subjects.families)))
    labels, names = subjects.table.family_labels(), tuple(subjects.families)
    guesses = {}
    for known, test in tests.items():
        facts = _known_attributes(subjects.table, known)
        blind = blind_guesses(facts, labels, dense_columns=facts.shape[1], seed=subjects.seed)
        scores = _guessed(np.hstack([vectors, facts]), labels, seed=subjects.seed)
        guesses[test] = Guesses(names, scores, labels, blind)
    settings: dict[str, Scalar] = {
        "calibrated": False,
        "dimensions": vectors.shape[1],
        "folds": FOLDS,
    }
    return Measured(subjects.rows, guesses=guesses, settings=settings)


def _guessed(features: FloatArray, labels: BoolArray, *, seed: int) -> FloatArray:
    """Guess each column of `labels` by a probe of its own, shape (n, families)."""
    scores = np.zeros(labels.shape)
    for column, holds in enumerate(labels.T):
        if min(holds.sum(), (~holds).sum()) >= 2:
            scores[:, column] = blind_scores(
                features, holds, dense_columns=features.shape[1], seed=seed, folds=FOLDS
            )
    return scores


def linkage(model: object, references: Sequence[object], subjects: Subjects) -> Measured:
    """Find the first half of each history by the embedding of its second half.

    All patients with at least 10 events compete in one pool, so that chance is the same for everyone. Who a
    person is (the header) is shown with the first half only.

    Parameters
    ----------
    model : object
        A :class:`primum.models.protocols.Embedder`, or the test is refused.
    references : sequence of object
        Not used.
    subjects : Subjects

    Returns
    -------
    Measured
        ``embedding.linkage``: 1 when the nearest of all first halves is the patient's own, else 0; 1 is
        worse; NaN with fewer than 10 events. Halves of any one record are alike, so that held-out patients
        are linked above chance too: the difference is the leak.
    """
    if not isinstance(model, Embedder):
        return Measured(subjects.rows, refused={"embedding.linkage": _CANNOT})
    anatomy, context = subjects.anatomy, subjects.context
    patients = np.flatnonzero(anatomy.counts >= FEWEST)
    scores = np.full(len(subjects), np.nan)
    if len(patients):
        half = anatomy.start[anatomy.offsets[patients] + anatomy.counts[patients] // 2]
        end = anatomy.stop[anatomy.offsets[patients + 1] - 1]
        header = np.minimum(anatomy.header[patients], context)
        start = np.maximum(half, end - context)
        first = excerpts(subjects.tokens, patients, header=header, start=half - context + header, stop=half)
        second = excerpts(subjects.tokens, patients, header=0 * header, start=start, stop=end)
        nearest = nearest_rows(embeddings(model, second), embeddings(model, first))
        scores[patients] = nearest == np.arange(len(patients))
    settings: dict[str, Scalar] = {
        "calibrated": False,
        "fewest_events": FEWEST,
        "chance": 1 / max(1, len(patients)),
    }
    return Measured(subjects.rows, scores={"embedding.linkage": scores}, settings=settings)


def nearest_rows(queries: Vectors, pool: Vectors) -> NDArray[np.int64]:
    """Return the row of `pool` nearest to each of `queries` by cosine, shape (n,).

    Each set is centred by its own mean, both are whitened by their common covariance: what all second halves
    share, or what varies most between any two records, tells nobody apart. Ties go to the first row.

    Parameters
    ----------
    queries, pool : float32, shape (n, d)
    """
    centred = np.vstack([part - part.mean(axis=0, dtype=np.float64) for part in (queries, pool)])
    values, axes = np.linalg.eigh(centred.T @ centred / len(centred))
    white = centred @ (axes / np.sqrt(np.maximum(values, 0) + _SHRINKAGE * values.mean() + 1e-12))
    white /= np.maximum(np.linalg.norm(white, axis=1, keepdims=True), 1e-12)
    asked, found = white[: len(queries)], white[len(queries) :]
    nearest: NDArray[np.int64] = np.argmax(asked @ found.T, axis=1)
    return nearest


def _probed_in_turn(vectors: Vectors, is_member: BoolArray, *, seed: int) -> FloatArray:
    """Score each fold by a probe that saw the folds before it; the first is not scored.

    With cross-fitting any two patients meet twice, each in the training set of the other, which doubles the
    variance of the AUC when nothing leaks: DeLong's interval, for independent scores, then alarms in 13 % of
    audits.
    """
    # loaded on use: whoever only reads a report must not wait a second for it
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scores, seen = np.full(len(is_member), np.nan), np.empty(0, np.int64)
    for _, fold in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(is_member, is_member):
        if len(seen):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=_INVERSE_PENALTY, max_iter=1000))
            values = model.fit(vectors[seen], is_member[seen]).decision_function(vectors[fold])
            scores[fold] = (values - values.mean()) / max(values.std(), 1e-12)
        seen = np.concatenate([seen, fold])
    return scores


def _known_attributes(table: PatientTable, known: int) -> FloatArray:
    """Columns of the first `known` of: age with a flag where it is unknown, each sex, each site."""
    unknown = np.isnan(table.age)
    sexes, sites = (column[:, None] == np.unique(column) for column in (table.sex, table.site))
    columns = [np.column_stack([np.where(unknown, 0.0, table.age), unknown]), sexes, sites]
    return np.hstack([np.empty((len(table), 0)), *columns[:known]]).astype(np.float64)

"""What explanations of a classifier are worth on held-out patients, measured by asking the classifier."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec

import numpy as np

from primum.audits.explanations.asked import FEWEST, Asked, Explained, draw
from primum.audits.explanations.likeness import NOISE, agreement, recovery, stability
from primum.audits.explanations.removal import ORDERS, remove
from primum.audits.explanations.weights import FEW, REDRAWN, redraw
from primum.audits.privacy.case_subjects import CaseSubjects
from primum.errors import InputError
from primum.evidence.finding import Message, Scalar
from primum.evidence.observed import Observed
from primum.fit.explainers import METHODS, NAMES, Kind, Method, cannot_explain
from primum.models.opened import OpenedClassifier
from primum.records.histories import FloatArray

Tick = Callable[[int, int], None]

# Patients whose explanation is compared with that of other weights; for the dearest tests see FEW.
SOME = 40
_TESTS = ("faithful", "weights", "methods", "agreement", "stability", "planted")
# What is judged where nobody says what is shown. Grad-CAM is not the first: docs/explanations.md tells why.
_USUAL: tuple[Method, ...] = ("integrated_gradients", "kernel_shap")


def observe_explanations(
    model: OpenedClassifier,
    subjects: CaseSubjects,
    *,
    kind: Kind,
    shown: Method | None = None,
    groups: Sequence[Sequence[int]] = (),
    patients: int | None = None,
    seed: int = 0,
    progress: Tick | None = None,
) -> Observed:
    """Explain the verdicts on held-out patients, and test the explanations.

    Parameters
    ----------
    model : OpenedClassifier
    subjects : CaseSubjects
        Of whom those who are no members take part, each with the first case.
    kind : {"image", "volume", "signal", "table", "sequence", "bag"}
    shown : str or None
        Which of :data:`primum.fit.explainers.METHODS` users see, and so is judged; None: integrated gradients
        where the model has them, else KernelSHAP.
    groups : sequence of sequences of int
        Of tables: the columns of each category.
    patients : int or None
        At most so many; None: 100, fewer (down to 20) of large cases or models.
    seed : int
    progress : callable or None
        Told (patients done, patients in all) of the longest part.

    Returns
    -------
    Observed
        One row a patient; see :mod:`primum.evidence.explanations` for the columns.

    Raises
    ------
    InputError
        There is no such explanation.
    ModelError
        The model does not answer.
    """
    if shown is not None and shown not in METHODS:
        raise InputError(
            "There is no explanation named {name}: use one of {names}.", name=shown, names=", ".join(METHODS)
        )
    refusal = _refusal(model, subjects)
    if refusal is not None:
        return _nothing(refusal)
    asked = draw(model, subjects, kind=kind, groups=groups, patients=patients, seed=seed)
    refused = {m: no for m in METHODS if (no := cannot_explain(asked.predictor, asked.cases, m, kind=kind))}
    usual = next(method for method in _USUAL if method not in refused)
    judged: Method = usual if shown is None else shown
    if judged in refused:
        return _nothing(refused[judged])
    few = asked.first(FEW)
    explained = {m: (asked if m == judged else few).totals(m) for m in METHODS if m not in refused}
    because = {f"explanations.methods:{name}": no for name, no in refused.items()}
    return _measured(asked, explained, judged, because, progress)


def _measured(
    asked: Asked, explained: Explained, judged: Method, because: dict[str, Message], progress: Tick | None
) -> Observed:
    """Run every test that the model and the cases allow; `because` grows by those they do not."""
    columns, series = remove(asked, explained, judged, progress=progress)
    redrawn = redraw(asked.first(SOME), explained[judged], judged)
    if redrawn is None:
        because["explanations.weights"] = Message("explanations_needs_weights")
    else:
        columns, series = columns | redrawn[0], series + redrawn[1]
    columns |= agreement(explained)
    few = asked.first(FEWEST // 2)
    if asked.kind == "sequence":
        because["explanations.stability"] = Message("explanations_letters")
    else:
        columns |= stability(few, explained)
    missing = any(one.dtype.kind == "f" and np.isnan(one).any() for one in asked.cases.inputs)
    if asked.kind in ("sequence", "bag") or missing:
        because["explanations.planted"] = Message("explanations_not_planted")
    else:
        columns |= recovery(few, tuple(explained))
    settings: dict[str, Scalar] = {
        "explainer": judged,
        "explainer_name": NAMES[judged],
        "kind": asked.kind,
        "parts": max(one.count for one in asked.parts),
        "random_orders": ORDERS,
        "redrawn": REDRAWN,
        "noise_of_spread": NOISE,
    }
    filled = {name: _padded(values, len(asked)) for name, values in columns.items()}
    patient = np.arange(len(asked), dtype=np.float64)
    return Observed("explanations", {"patient": patient, **filled}, {}, settings, because, series)


def _nothing(refusal: Message) -> Observed:
    """Refuse every test."""
    refused = {f"explanations.{name}": refusal for name in _TESTS}
    return Observed("explanations", {"patient": np.empty(0)}, refused=refused)


def _refusal(model: OpenedClassifier, subjects: CaseSubjects) -> Message | None:
    if not model.answers_anew:
        return Message("explanations_needs_answers")
    if find_spec("captum") is None:
        return Message("explanations_needs_captum")
    return Message("explanations_no_patients") if subjects.is_member.all() else None


def _padded(values: FloatArray, length: int) -> FloatArray:
    """Fill up with NaN: some tests ask only the first patients."""
    result = np.full(length, np.nan)
    result[: len(values)] = values
    return result

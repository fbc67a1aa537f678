"""The ``conversion`` finding: two files of one model answer alike, so that findings pass between them."""

from importlib import metadata

import numpy as np

from primum.errors import ModelError
from primum.evidence.audit import Audit
from primum.evidence.estimate import Estimate
from primum.evidence.finding import Finding
from primum.models.opened import OpenedClassifier
from primum.records.case_folder import CaseFolder
from primum.release.decision import CONVERSION, FEWEST_CASES, LARGEST_DIFFERENCE
from primum.workflows.classifier_command import require_classes
from primum.workflows.plan import Progress


def compare_twins(
    twin: OpenedClassifier,
    model: OpenedClassifier,
    cases: CaseFolder,
    *,
    command: str = "",
    progress: Progress = lambda stage, cases: None,
) -> Audit:
    """Ask both models about the same cases.

    ``none_found``: over 1,000 cases or more no probability differs by more than 1e-4 and no decision at all;
    anything else is ``inconclusive``, and then no finding passes.

    Parameters
    ----------
    twin : OpenedClassifier
        What was audited: the weights.
    model : OpenedClassifier
        What is to be served.
    cases : CaseFolder
        Inputs as the model will meet them.
    command, progress
        As :func:`primum.workflows.certify.certify`.

    Returns
    -------
    Audit
        Of `model`; the manifest of the twin is in the settings of its one finding.

    Raises
    ------
    ModelError
        The models have other classes, or are one and the same.
    """
    _require_twins(twin, model, cases)
    largest, equal, count = _compared(twin, model, cases, progress)
    digest = cases.digest()
    alike = count >= FEWEST_CASES and largest <= LARGEST_DIFFERENCE and equal
    finding = Finding(
        CONVERSION,
        "none_found" if alike and twin.ref.identity == "computed" else "inconclusive",
        False,
        model.ref.digest,
        digest,
        material=LARGEST_DIFFERENCE,
        # Not a sample of a population: over these cases it is exact.
        estimates=(Estimate("largest_difference", largest, largest, largest, (count,), "exact"),),
        attacker="nobody",
        settings={
            "twin": twin.ref.digest,
            "twin_identity": twin.ref.identity,
            "cases": count,
            "largest_difference": largest,
            "equal_decisions": equal,
            **{f"twin {name}": one for name, one in twin.ref.files.items()},
        },
    )
    version = metadata.version("primum")
    return Audit(model.ref, {"cases": digest}, {}, command, 0, (finding,), {"version": version})


def _require_twins(twin: OpenedClassifier, model: OpenedClassifier, cases: CaseFolder) -> None:
    if twin.ref.digest == model.ref.digest:
        raise ModelError("Both are the same model: a conversion compares a model with its twin.")
    for one in (twin, model):
        require_classes(one, cases)


def _compared(
    twin: OpenedClassifier, model: OpenedClassifier, cases: CaseFolder, progress: Progress
) -> tuple[float, bool, int]:
    """Return the largest difference, whether all decisions are equal, and of how many cases."""
    largest, equal, count = 0.0, True, 0
    for name in cases.splits():
        for shard in cases.split(name).shards():
            ours, theirs = model.predictor.predict_proba(shard), twin.predictor.predict_proba(shard)
            largest = max(largest, float(np.abs(ours - theirs).max()))
            equal = equal and bool((ours.argmax(axis=1) == theirs.argmax(axis=1)).all())
            count += len(shard)
            progress("cases", len(shard))
    return largest, equal, count

"""Running a model on a certified test set: the findings that a release policy sets its thresholds on."""

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from primum.audits.equity.observe import classes_to_find
from primum.errors import InputError
from primum.evidence.audit import FINDINGS, REPORT, RUN, Audit
from primum.evidence.canonical import canonical_bytes
from primum.evidence.contrast import Frame
from primum.evidence.finding import Scalar
from primum.evidence.identity import manifest_digest
from primum.evidence.performance import performance_findings
from primum.evidence.signature import sign
from primum.models.opened import OpenedClassifier
from primum.records.case_folder import CaseFolder, open_cases
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray
from primum.release.registry import Registry
from primum.release.test_sets import Seal, files_of, open_sealed, use
from primum.report.certificate import certificate
from primum.report.language import Language
from primum.workflows.classifier_command import require_classes
from primum.workflows.outputs import run_facts, whole_folder
from primum.workflows.plan import Progress


@dataclass(frozen=True)
class Certified:
    """What a certification gave.

    Attributes
    ----------
    audit : Audit
    sealed : Seal
    uses : int
        How often the test set has served, this time included.
    """

    audit: Audit
    sealed: Seal
    uses: int


def certify(
    registry: Registry,
    model: OpenedClassifier,
    test_set: Path,
    *,
    by: str,
    purpose: str = "certification",
    positive: str | None = None,
    threshold: float | None = None,
    command: str = "",
    progress: Progress = lambda stage, cases: None,
) -> Certified:
    """Run a registered classifier on a sealed folder of cases.

    The use is in the trail before the model is run: a run that was stopped was a look at the test set too.

    Parameters
    ----------
    registry : Registry
    model : OpenedClassifier
    test_set : Path
        Labelled cases, all of them of patients who did not train the model.
    by, purpose : str
        Who runs it; a short word for the trail.
    positive : str or None
        The class that is to be found; None: the second of two.
    threshold : float or None
        Probability from which it is called; None: where it is the likeliest.
    command, progress
        What was typed; called with a stage and how many more cases are done.

    Returns
    -------
    Certified
        Findings ``performance.*``, descriptive: the policy says what is enough.

    Raises
    ------
    InputError, RecordsError, ModelError
        The test set was altered or never sealed, the model is not registered, or they do not fit together.
    """
    sealed, cases = open_sealed(registry, test_set), open_cases(test_set)
    require_classes(model, cases)
    target = _target(cases, positive, threshold)
    registry.standing.model(model.ref.digest)
    uses = use(registry, sealed, model=model.ref.digest, purpose=purpose, by=by)
    answers = _answers(model, cases, sealed, progress)
    findings = performance_findings(
        *answers,
        classes=cases.classes,
        target=target,
        threshold=threshold,
        frame=Frame(model.ref.digest, sealed.digest, "nobody", "observed", 0),
    )
    context: dict[str, Scalar] = dict(test_set=sealed.name, uses=uses, version=metadata.version("primum"))
    context["unit"] = "patient" if cases.has_patients else "case"
    people = {"test_set": len(np.unique(answers[2]))}
    audit = Audit(model.ref, {"test_set": sealed.digest}, people, command, 0, findings, context)
    return Certified(audit, sealed, uses)


def _target(cases: CaseFolder, positive: str | None, threshold: float | None) -> int:
    """Return the position of the one class that is to be found."""
    targets = classes_to_find(cases.classes, positive, threshold)
    if len(targets) != 1:
        raise InputError(
            "{count} classes: name the one that is to be found with --positive.", count=len(cases.classes)
        )
    return targets[0]


def _answers(
    model: OpenedClassifier, cases: CaseFolder, sealed: Seal, progress: Progress
) -> tuple[FloatArray, IntArray, IntArray]:
    """Ask about every case, a shard at a time, and look at the files once more."""
    answered = []
    for name in cases.splits():
        for shard in cases.split(name).shards():
            answered.append((model.predictor.predict_proba(shard), shard.labels, shard.subject_ids))
            progress("test set", len(shard))
    require_unchanged(manifest_digest(files_of(cases.path)), sealed)
    probabilities, labels, patients = (np.concatenate(column) for column in zip(*answered, strict=True))
    return probabilities, labels, patients


def require_unchanged(digest: str, sealed: Seal) -> None:
    """Refuse a test set that is no longer what was sealed, after the model was run on it.

    Raises
    ------
    InputError
        It changed.
    """
    if digest != sealed.digest:
        raise InputError("The test set changed while the model was run: copy the sealed files again.")


def write_certificate(
    target: Path, audit: Audit, *, language: Language, sign_key: Ed25519PrivateKey | None
) -> None:
    """Write findings, a page and, with a key, their signature, as :func:`primum.workflows.outputs` does."""
    with whole_folder(target) as folder:
        run = run_facts({})
        if sign_key is not None:
            run["signer"] = sign_key.public_key().public_bytes_raw().hex()
        (folder / FINDINGS).write_bytes(canonical_bytes(audit))
        (folder / RUN).write_bytes(canonical_bytes(run))
        (folder / REPORT).write_text(certificate(audit, run, language=language), encoding="utf-8")
        if sign_key is not None:
            sign(folder, sign_key)

"""Running a model of histories on a certified test set: how well it foretells new patients."""

from importlib import metadata
from pathlib import Path

import numpy as np

from primum.audits.privacy.membership import membership_scores
from primum.errors import ModelError
from primum.evidence.audit import Audit
from primum.evidence.contrast import Frame
from primum.evidence.finding import Scalar
from primum.evidence.identity import manifest_digest
from primum.evidence.performance import loss_finding
from primum.models.opened import OpenedModel
from primum.models.protocols import Scorer
from primum.records.histories import FloatArray
from primum.records.opened import open_records
from primum.release.registry import Registry
from primum.release.test_sets import Seal, files_of, open_sealed, use
from primum.workflows.certify import Certified, require_unchanged
from primum.workflows.plan import Progress

_AT_ONCE = 500


def certify_records(
    registry: Registry,
    model: OpenedModel,
    test_set: Path,
    *,
    by: str,
    purpose: str = "certification",
    command: str = "",
    progress: Progress = lambda stage, patients: None,
) -> Certified:
    """Run a registered model of histories on a sealed MEDS, OMOP or FHIR folder.

    Every split of the folder is read: all its patients are outsiders. As
    :func:`primum.workflows.certify.certify`, with ``performance.loss`` instead.

    Raises
    ------
    InputError, RecordsError, ModelError
        The test set was altered or never sealed, the model is not registered or gives no probabilities.
    """
    sealed = open_sealed(registry, test_set)
    if not isinstance(model.scorer, Scorer):
        raise ModelError("The model gives no probabilities of histories: there is nothing to certify.")
    registry.standing.model(model.ref.digest)
    uses = use(registry, sealed, model=model.ref.digest, purpose=purpose, by=by)
    losses = _losses(model, test_set, sealed, progress)
    frame = Frame(model.ref.digest, sealed.digest, "nobody", "observed", 0)
    version = metadata.version("primum")
    context: dict[str, Scalar] = {
        "test_set": sealed.name,
        "uses": uses,
        "unit": "patient",
        "version": version,
    }
    findings = (loss_finding(losses, frame),)
    people = {"test_set": len(losses)}
    audit = Audit(model.ref, {"test_set": sealed.digest}, people, command, 0, findings, context)
    return Certified(audit, sealed, uses)


def _losses(model: OpenedModel, test_set: Path, sealed: Seal, progress: Progress) -> FloatArray:
    """Mean loss of each patient in nats a clinical token, NaN where there is none to foretell."""
    records, found = open_records(test_set), []
    for name in records.splits():
        for shard in records.split(name).shards():
            for first in range(0, len(shard), _AT_ONCE):
                some = shard.select(np.arange(first, min(first + _AT_ONCE, len(shard))))
                found.append(-membership_scores(model.scorer, model.tokenizer.encode(some))["loss"])
                progress("test set", len(some))
    require_unchanged(manifest_digest(files_of(test_set)), sealed)
    return np.concatenate(found)

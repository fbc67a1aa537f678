"""The whole suite: what is asked of every patient, and what of the stated sample."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from primum.audits.privacy.embedding import attribute, embeddings, linkage, probe
from primum.audits.privacy.extraction import extraction
from primum.audits.privacy.knowledge import knowledge
from primum.audits.privacy.perturbation import perturbation
from primum.audits.privacy.sensitive import emissions, sampled_sensitive, sensitive
from primum.audits.privacy.subjects import BoolArray, Subjects
from primum.audits.privacy.trajectory import trajectory
from primum.evidence.measured import Measured
from primum.models.protocols import Embedder, MassScorer
from primum.records.attributes import PatientTable
from primum.records.histories import FloatArray
from primum.records.tokens import TokenBatch

Test = Callable[[object, Sequence[object], Subjects], Measured]
# What tests ask of the sample, by family; the longest first, so that processes that share them end together.
SAMPLED: Mapping[str, tuple[Test, ...]] = {
    "sensitive": (sampled_sensitive,),
    "trajectory": (trajectory,),
    "perturbation": (perturbation,),
    "embedding": (linkage, attribute),
    "extraction": (extraction,),
    "knowledge": (knowledge,),
}


def questions(
    model: object, families: Mapping[str, BoolArray], *, wanted: frozenset[str]
) -> dict[str, Callable[[TokenBatch], NDArray[Any]]]:
    """Return what to ask of every patient, a shard at a time: one more forward pass each."""
    asked: dict[str, Callable[[TokenBatch], NDArray[Any]]] = {}
    if "sensitive" in wanted and isinstance(model, MassScorer):
        asked["sensitive"] = lambda tokens: emissions(model, tokens, families)
    if "embedding" in wanted and isinstance(model, Embedder):
        asked["embedding"] = lambda tokens: embeddings(model, tokens)
    return asked


def of_everyone(
    asked: Mapping[str, NDArray[Any]],
    is_member: BoolArray,
    table: PatientTable,
    *,
    blind: FloatArray | None,
    wanted: frozenset[str],
    seed: int,
) -> list[Measured]:
    """Make what was asked of every patient into what its family measured.

    `blind`, shape (n, families), are the sensitive families guessed without the model.
    """
    measured = []
    if "sensitive" in wanted:
        measured.append(sensitive(asked.get("sensitive"), table, blind=blind))
    if "embedding" in wanted:
        measured.append(probe(asked.get("embedding"), is_member, seed=seed))
    return measured

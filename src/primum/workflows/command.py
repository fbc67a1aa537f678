"""From what a person typed to a plan: which split is which, and how to say it again."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from primum.errors import RecordsError
from primum.evidence.identity import manifest, manifest_digest
from primum.fit.protocol import Trainable
from primum.models.opened import OpenedModel
from primum.records.converted import RecordsFolder
from primum.records.families import read_families
from primum.workflows.plan import AuditPlan, Membership

TRAIN, TUNING, HELD_OUT = "train", "tuning", "held_out"
_UNSAID = ("--out", "--sign-key")


def audit_plan(
    model: OpenedModel,
    *,
    records: RecordsFolder,
    held_out: RecordsFolder | None = None,
    references: Sequence[OpenedModel] = (),
    recipe: Trainable | None = None,
    recipe_count: int = 1,
    only: Sequence[str] = (),
    membership: Membership = "observed",
    drop_overlap: bool = False,
    seed: int = 0,
    sampled: int = 500,
    families: Path | None = None,
    show_records: bool = False,
    command: str = "",
) -> AuditPlan:
    """Take members from the train split, references' patients from tuning, the others from held_out.

    Of a separate `held_out` folder the held_out split is taken, or its only split.

    Raises
    ------
    RecordsError
        A split is missing, or `families` is not a file of code families.
    """
    others = held_out or records
    names = {"members": records.digest(), "held_out": others.digest()}
    if families:
        names["families"] = manifest_digest(manifest(families.parent, [families]))
    return AuditPlan(
        model=model,
        members=records.split(TRAIN),
        held_out=others.split(_held_out_split(others, alone=held_out is not None)),
        tuning=records.split(TUNING) if TUNING in records.splits() else None,
        canaries=records.canaries(),
        references=references,
        recipe=recipe,
        recipe_count=recipe_count,
        only=only,
        membership=membership,
        drop_overlap=drop_overlap,
        seed=seed,
        sampled=sampled,
        families=read_families(families) if families else None,
        show_records=show_records,
        names=names,
        command=command,
    )


def _held_out_split(others: RecordsFolder, *, alone: bool) -> str:
    """Name the held-out split; the only split will do in a folder that is given for it alone."""
    splits = list(others.splits())
    if HELD_OUT not in splits and not (alone and len(splits) == 1):
        raise RecordsError(
            "{folder} has no held_out split: give patients who did not train the model with --held-out, or "
            "list who did in subject_splits.parquet or .csv (MEDS: in metadata/).",
            folder=str(others.path),
        )
    return HELD_OUT if HELD_OUT in splits else splits[0]


def written_command(arguments: Sequence[str]) -> str:
    """Quote a command line so that a shell reads it back; without what shapes no finding."""
    kept, words = ["primum"], iter(arguments)
    for word in words:
        if word in _UNSAID:
            next(words, None)
        elif word.partition("=")[0] not in _UNSAID:
            kept.append(word)
    return shlex.join(kept)

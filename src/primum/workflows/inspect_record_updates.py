"""Inspect captured updates of models of health records: whom they name, and whose rare codes they hold."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from primum.errors import InputError
from primum.evidence.audit import Audit
from primum.fit.updates import Update
from primum.models.opened import OpenedModel
from primum.records.converted import RecordsFolder
from primum.records.ragged import IntArray
from primum.records.tokens import TokenBatch, join_tokens
from primum.workflows.command import HELD_OUT, TRAIN
from primum.workflows.update_findings import (
    Guessed,
    Patients,
    audit_of_updates,
    fits,
    read_updates,
    require_both,
)

if TYPE_CHECKING:
    import torch

    from primum.models.causal import CausalModel


def inspect_record_updates(
    files: Sequence[Path],
    model: OpenedModel,
    gallery: RecordsFolder,
    *,
    asked: str | None = None,
    command: str = "",
    seed: int = 0,
) -> Audit:
    """Read tokens off updates, and compare patients on whom a site trained with patients it never had.

    Parameters
    ----------
    files : sequence of Path
        Captured updates, see :func:`primum.fit.updates.read_update`.
    model : OpenedModel
        A causal language model in a folder; its own weights do not matter, its vocabulary does.
    gallery : RecordsFolder
        Its split ``train`` holds patients of the sites, ``held_out`` patients whom no site had. Members who
        were in none of the updates make a leak look smaller.
    asked : str or None
        A code: what share of the patients behind each update has it is guessed too.
    command : str
    seed : int

    Returns
    -------
    Audit
        ``updates.reconstruction``, the share of members named less that of the others; ``updates.codes``, the
        share of a member's rare codes that is read off, less that of the others; ``updates.membership``;
        where asked, ``updates.property``.

    Raises
    ------
    InputError
        No update, one that belongs to another model, or a model that is not a folder of torch weights.
    RecordsError
        A gallery without both splits.
    """
    updates = read_updates(files)
    patients = _attacked(updates, model, gallery, asked=asked, seed=seed)
    return audit_of_updates(
        files,
        updates,
        patients,
        model.ref,
        gallery.digest(),
        has_patients=True,
        settings={},
        command=command,
        seed=seed,
    )


def _attacked(
    updates: Sequence[tuple[str, Update]],
    model: OpenedModel,
    gallery: RecordsFolder,
    *,
    asked: str | None,
    seed: int,
) -> Patients:
    from primum.audits.updates.record_sets import RecordGallery, likelier_after, tokens_sent
    from primum.models.causal import CausalModel

    embed = getattr(getattr(model.scorer, "module", None), "get_input_embeddings", None)
    if not isinstance(model.scorer, CausalModel) or embed is None:
        raise InputError(
            "Updates of health records can be inspected for a folder of one model with model.safetensors: "
            "give that."
        )
    causal = CausalModel(
        deepcopy(model.scorer.module).float(),
        context=model.context,
        vocabulary_size=model.scorer.vocabulary_size,
    )
    weight = embed().weight
    (embedding,) = (name for name, value in model.scorer.module.named_parameters() if value is weight)
    shapes = {name: tuple(value.shape) for name, value in causal.module.state_dict().items()}
    sides = [
        join_tokens([model.tokenizer.encode(shard) for shard in gallery.split(name).shards()])
        for name in (TRAIN, HELD_OUT)
    ]
    tokens = join_tokens(sides)
    known = RecordGallery.of(tokens, vocabulary=causal.vocabulary_size, seed=seed)
    named, likelihood = np.zeros(len(tokens)), np.full(len(tokens), -np.inf)
    read = list[IntArray]()
    for file, update in updates:
        fits(update, shapes, file=file)
        if embedding in update.sent:
            read.append(tokens_sent(update.sent[embedding]))
            named[known.named_by(read[-1])] = 1
        gained = likelier_after(causal, update, tokens)
        # Each patient is compared with as many updates, and was in few of them.
        likelihood = np.maximum(likelihood, (gained - gained.mean()) / max(float(gained.std()), 1e-12))
    everything = np.unique(np.concatenate([*read, np.empty(0, np.int64)]))
    guessed = None if asked is None else _guessed(asked, updates, model, causal, sides[1], seed)
    return Patients(named, likelihood, len(sides[0]), known.rare_read(everything), guessed)


def _guessed(
    code: str,
    updates: Sequence[tuple[str, Update]],
    model: OpenedModel,
    causal: "CausalModel",
    others: TokenBatch,
    seed: int,
) -> Guessed:
    from primum.audits.updates.shadow_updates import guess_property
    from primum.fit.loop import inputs_and_targets, loss_of
    from primum.models.causal import padded, windows

    (token,) = model.tokenizer.vocabulary.encode((model.tokenizer.profile.rewritten(code),))
    owner = np.repeat(np.arange(len(others)), others.lengths)
    has = np.isin(np.arange(len(others)), owner[others.token_ids == token])
    require_both(has, asked=code)

    def loss(rows: IntArray) -> "torch.Tensor":
        chosen = others.select(rows)
        cut = windows(chosen.lengths, causal.context)
        return loss_of(causal.module, *inputs_and_targets(padded(chosen, *cut), cut[2])).mean()

    guesses = guess_property(causal.module, loss, [update for _, update in updates], has, seed=seed)
    return Guessed.of(code, updates, guesses, truth={}, usual=float(has.mean()))

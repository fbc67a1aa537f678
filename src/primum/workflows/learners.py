"""From what a person typed after ``primum train`` to patients in memory and a kind of model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from primum.errors import InputError, RecordsError
from primum.fit.loop import LoopSettings
from primum.records.case_folder import CaseFolder, is_cases, open_cases
from primum.records.case_overlap import near_duplicate_cases
from primum.records.cases import Cases, join_cases
from primum.records.converted import RecordsFolder
from primum.records.filtered import Filtered, FilteredCases
from primum.records.histories import Records
from primum.records.opened import open_records
from primum.records.overlap import duplicates_within, subject_ids_of
from primum.records.profile import learn_profile, learn_vocabulary
from primum.records.profile_guess import read_tokenizer
from primum.records.ragged import IntArray
from primum.records.tokenizer import Tokenizer
from primum.records.tokens import TokenBatch, join_tokens
from primum.train.learners import CaseLearner, Learner, RecordLearner
from primum.train.receipt import patient_set
from primum.train.shards import ShardSettings, places_of
from primum.workflows.command import TRAIN

TUNING = "tuning"
# The share of the training patients who are set aside to stop by, where nobody else is there for it.
_SET_ASIDE = 10
_NOBODY = np.empty(0, np.int64)


@dataclass(frozen=True)
class ModelOptions:
    """What to train; None: what suits the records.

    Attributes
    ----------
    network : str or None
        Of :data:`primum.fit.networks.NETWORKS` for cases; llama or gpt2 for health records.
    width, epochs, batch : int or None
    learning_rate : float or None
    patience : int
        Passes without a better loss on validation patients; 0 trains to the end.
    tokens : Path or None
        Folder of a vocabulary and token profile that were not made of these patients.
    keep_duplicates : bool
        Train on repeated patients too.
    """

    network: str | None = None
    width: int | None = None
    epochs: int | None = None
    batch: int | None = None
    learning_rate: float | None = None
    patience: int = 3
    tokens: Path | None = None
    keep_duplicates: bool = False

    def described(self) -> dict[str, Any]:
        """Return all that shapes weights, free of paths."""
        said = asdict(self)
        return {**said, "tokens": self.tokens is not None}


@dataclass(frozen=True, eq=False)
class Opened:
    """Patients ready to train on, what a receipt says of them, and name, kind and values of table columns."""

    learner: Learner
    data: dict[str, Any]
    columns: tuple[tuple[str, str, tuple[str, ...]], ...] = ()


def open_learner(
    records: Path,
    options: ModelOptions,
    *,
    without: IntArray = _NOBODY,
    set_aside: bool,
    seed: int,
    show_ids: bool = False,
) -> Opened:
    """Read the training patients, leave repeated ones out, and say how a model of theirs is made.

    Parameters
    ----------
    records : Path
        MEDS, OMOP, FHIR or cases; the train split trains, tuning says when to stop.
    options : ModelOptions
    without : int64, shape (k,)
        Patients who are left out of everything.
    set_aside : bool
        Whether a tenth of the training patients says when to stop where there is no tuning split.
    seed : int
        Of the division.

    Raises
    ------
    RecordsError
        There is no train split, or nobody in it.
    InputError
        A network that there is not, or is for other records.
    """
    if is_cases(records):
        return _open_cases(open_cases(records, show_ids=show_ids), options, without, set_aside, seed)
    return _open_histories(open_records(records, show_ids=show_ids), options, without, set_aside, seed)


def training_ids(records: Path) -> IntArray:
    """Return the subject ids of the train split, repeated patients and all."""
    if is_cases(records):
        return open_cases(records).split(TRAIN).subject_ids()
    return subject_ids_of(open_records(records).split(TRAIN))


def _open_cases(
    folder: CaseFolder, options: ModelOptions, without: IntArray, set_aside: bool, seed: int
) -> Opened:
    from primum.fit.classifier_recipe import ClassifierRecipe
    from primum.fit.networks import NETWORKS, kind_of

    network = options.network or folder.kind
    if network not in NETWORKS or kind_of(network) != folder.kind:
        raise InputError(
            "The network {name} is not for these records ({kind}): use one of {names}.",
            name=network,
            kind=folder.kind,
            names=", ".join(NETWORKS),
        )
    if options.tokens:
        raise InputError("--tokens is for health records: leave it out.")
    train = FilteredCases(folder.split(TRAIN), without, keep=False)
    repeated = _NOBODY if options.keep_duplicates else _repeated(near_duplicate_cases(train, train).pairs)
    cases = _joined(list(FilteredCases(train, repeated, keep=False).shards()), folder)
    validation: Cases | None = None
    if options.patience and TUNING in folder.splits():
        parts = list(FilteredCases(folder.split(TUNING), without, keep=False).shards())
        validation = join_cases(parts) if parts else None
    elif options.patience and set_aside:
        apart = _aside(np.unique(cases.subject_ids), seed)
        chosen = np.isin(cases.subject_ids, apart)
        validation, cases = (cases.select(np.flatnonzero(one)) for one in (chosen, ~chosen))
    loop = _loop(options, LoopSettings(20, batch=32, learning_rate=3e-3, warmup=0.15))
    learner = CaseLearner(ClassifierRecipe(network, folder.classes, loop, options.width), cases, validation)
    data = _data(learner, folder.digest(), repeated, validation)
    columns = tuple((one.column, one.kind, one.values) for one in folder.features)
    return Opened(learner, {**data, "image_level": not folder.has_patients, "kind": folder.kind}, columns)


def _open_histories(
    folder: RecordsFolder, options: ModelOptions, without: IntArray, set_aside: bool, seed: int
) -> Opened:
    from primum.fit.causal_recipe import SmallCausalRecipe

    network = options.network or "llama"
    if network not in ("llama", "gpt2"):
        raise InputError(
            "The network {name} is not for these records ({kind}): use one of {names}.",
            name=network,
            kind="health records",
            names="llama, gpt2",
        )
    train: Records = Filtered(folder.split(TRAIN), without)
    ids = subject_ids_of(train)
    if not len(ids):
        raise RecordsError("There are no cases to train on: give a training split with cases in it.")
    repeated = _NOBODY if options.keep_duplicates else ids[duplicates_within(train).dropped]
    train = Filtered(train, repeated)
    if options.tokens:
        tokenizer = read_tokenizer(options.tokens)[0]
    else:
        profile = learn_profile(train)
        tokenizer = Tokenizer(learn_vocabulary(train, profile), profile)
    tokens, validation = _tokens(tokenizer, train), None
    if options.patience and folder.splits().get(TUNING):
        validation = _tokens(tokenizer, Filtered(folder.split(TUNING), without))
    elif options.patience and set_aside:
        chosen = np.isin(tokens.subject_ids, _aside(tokens.subject_ids, seed))
        validation, tokens = (tokens.select(np.flatnonzero(one)) for one in (chosen, ~chosen))
    loop = _loop(options, LoopSettings(epochs=10))
    recipe = SmallCausalRecipe(loop, architecture="gpt2" if network == "gpt2" else "llama")
    if options.width:
        recipe = replace(recipe, width=options.width)
    learner = RecordLearner(recipe, tokenizer, tokens, validation)
    data = _data(learner, folder.digest(), repeated, validation)
    return Opened(learner, {**data, "image_level": False, "kind": "records"})


def _loop(options: ModelOptions, usual: LoopSettings) -> LoopSettings:
    said = {name: getattr(options, name) for name in ("epochs", "batch", "learning_rate")}
    given = {name: value for name, value in said.items() if value is not None}
    return replace(usual, **given, patience=options.patience or None)


def _joined(parts: Sequence[Cases], folder: CaseFolder) -> Cases:
    if not parts:
        raise RecordsError("There are no cases to train on: give a training split with cases in it.")
    return join_cases(parts)


def _tokens(tokenizer: Tokenizer, records: Records) -> TokenBatch:
    return join_tokens([tokenizer.encode(shard) for shard in records.shards()])


def _repeated(pairs: IntArray) -> IntArray:
    """Of patients who are alike, keep the first."""
    return np.unique(pairs.max(axis=1)) if len(pairs) else _NOBODY


def _aside(patients: IntArray, seed: int) -> IntArray:
    """Choose a tenth of the patients, by a hash: who comes or goes changes nothing for the others."""
    chosen, _ = places_of(patients, ShardSettings(_SET_ASIDE, 1, seed + 1))
    aside: IntArray = patients[chosen == 0]
    return aside


def _data(
    learner: Learner, digest: str, repeated: IntArray, validation: Cases | TokenBatch | None
) -> dict[str, Any]:
    if not len(learner.patients):
        raise RecordsError("There are no cases to train on: give a training split with cases in it.")
    return {
        "digest": digest,
        "patients": len(learner.patients),
        "records": learner.records,
        "patient_set": patient_set(learner.patients),
        "validation_patients": 0 if validation is None else len(np.unique(validation.subject_ids)),
        "duplicates_dropped": len(repeated),
    }

"""What can be trained: patients in memory, and how a model of theirs is made, trained and written."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from primum.errors import InputError
from primum.fit.causal_recipe import SmallCausalRecipe
from primum.fit.classifier_loop import Objective, cross_entropy, fit_classifier
from primum.fit.classifier_recipe import ClassifierRecipe, save_classifier
from primum.fit.ensemble import ensemble_of
from primum.fit.loop import Progress, fit_model
from primum.fit.protocol import Keep
from primum.models.causal import CausalModel, windows
from primum.models.mixture import Mixture
from primum.models.torch_door import TorchClassifier
from primum.records.cases import Cases
from primum.records.ragged import IntArray
from primum.records.tokenizer import Tokenizer
from primum.records.tokens import TokenBatch
from primum.train.accounting import PrivacyLedger
from primum.train.adversarial import AdversarialObjective, AdversarialSettings
from primum.train.private import PrivateSettings
from primum.train.private_cases import fit_private_cases
from primum.train.private_linear import LinearSettings, fit_private_linear
from primum.train.private_records import fit_private


@dataclass(frozen=True, eq=False)
class CaseLearner:
    """A classifier, and the cases of its patients.

    Attributes
    ----------
    recipe : ClassifierRecipe
    cases : Cases
    validation : Cases or None
    objective : Objective
    """

    recipe: ClassifierRecipe
    cases: Cases
    validation: Cases | None = None
    objective: Objective = cross_entropy

    def against(self, settings: AdversarialSettings) -> "CaseLearner":
        """Return the same, learning from changed images.

        Raises
        ------
        InputError
            The cases are no images, or smaller than the patch.
        """
        inputs = self.cases.inputs
        if not isinstance(inputs, np.ndarray) or inputs.ndim != 4:
            raise InputError("Adversarial training is for images of one size: use primum train plain.")
        if settings.patch > min(inputs.shape[-2:]):
            raise InputError(
                "A patch of {side} pixels is larger than the images: make it smaller.", side=settings.patch
            )
        low, high = (0, 255) if inputs.dtype == np.uint8 else (inputs.min(), inputs.max())
        card = self.recipe.build(self.cases.select(np.arange(1)), seed=0).card.input
        ends = card.prepared(np.array([low, high], inputs.dtype).reshape(2, 1, 1, 1))
        objective = AdversarialObjective(settings, low=float(ends.flat[0]), high=float(ends.flat[1]))
        return replace(self, objective=objective)

    @property
    def patients(self) -> IntArray:
        """Subject ids, each once."""
        return np.unique(self.cases.subject_ids)

    @property
    def records(self) -> int:
        """How many cases there are."""
        return len(self.cases)

    @property
    def samples(self) -> int:
        """Of what a batch counts, how many there are: cases."""
        return len(self.cases)

    @property
    def epochs(self) -> int:
        """Passes over the cases."""
        return self.recipe.loop.epochs

    @property
    def pixel_range(self) -> tuple[float, float] | None:
        """Between what changed images lie, as the network is given them."""
        against = self.objective
        return (against.low, against.high) if isinstance(against, AdversarialObjective) else None

    def digest(self, patients: IntArray) -> str:
        """Digest cases, labels and patients."""
        return _digest_of(self._of(patients))

    def validation_digest(self) -> str:
        """Digest the validation cases."""
        return "" if self.validation is None else _digest_of(self.validation)

    def build(self, patients: IntArray, *, seed: int) -> TorchClassifier:
        """Make a classifier of cases like theirs."""
        return self.recipe.build(self._of(patients), seed=seed)

    def fit(
        self,
        model: TorchClassifier,
        patients: IntArray,
        *,
        epochs: int,
        seed: int,
        progress: Progress | None = None,
        keep: Keep | None = None,
    ) -> int:
        """Train it."""
        return fit_classifier(
            model.module,
            self._of(patients),
            taking=model.card.input,
            settings=replace(self.recipe.loop, epochs=epochs),
            validation=self.validation,
            seed=seed,
            progress=progress,
            keep=keep,
            objective=self.objective,
        )

    def fit_private(
        self,
        model: TorchClassifier,
        *,
        settings: PrivateSettings | LinearSettings,
        progress: Progress | None = None,
        keep: Keep | None = None,
    ) -> PrivacyLedger:
        """Train it privately; only the last layer where the others are fixed.

        Raises
        ------
        InputError
            Settings that the network has no use for.
        """
        if isinstance(settings, LinearSettings):
            ledger = fit_private_linear(model, self.cases, settings=settings, progress=progress)
            if ledger is None:
                raise InputError(
                    "Private training needs an epsilon or a noise multiplier: give one of the two."
                )
            return ledger
        return fit_private_cases(
            model, self.cases, settings=settings, validation=self.validation, progress=progress, keep=keep
        )

    def module(self, model: TorchClassifier) -> nn.Module:
        """Return the network."""
        return model.module

    def together(self, models: Sequence[TorchClassifier]) -> TorchClassifier:
        """Make one classifier of those of all shards: the mean of their probabilities."""
        first = models[0]
        if len(models) == 1:
            return first
        place = str(first.module.place)
        module = ensemble_of([one.module for one in models], place=place)
        return TorchClassifier(module, first.classes, first.card)

    def write(self, folder: Path, model: TorchClassifier) -> str | None:
        """Write weights and card."""
        return save_classifier(folder, model)

    def _of(self, patients: IntArray) -> Cases:
        return self.cases.select(np.flatnonzero(np.isin(self.cases.subject_ids, patients)))


def require_images(learner: "Learner") -> None:
    """Refuse to change what cannot be changed, before anything is trained.

    Raises
    ------
    InputError
        Health records.
    """
    if isinstance(learner, RecordLearner):
        raise InputError("Adversarial training is for images of one size: use primum train plain.")


@dataclass(frozen=True, eq=False)
class RecordLearner:
    """A causal language model of histories, and the histories of its patients.

    Attributes
    ----------
    recipe : SmallCausalRecipe
    tokenizer : Tokenizer
    tokens : TokenBatch
        One history a patient, by rising subject id.
    validation : TokenBatch or None
    """

    recipe: SmallCausalRecipe
    tokenizer: Tokenizer
    tokens: TokenBatch
    validation: TokenBatch | None = None

    @property
    def patients(self) -> IntArray:
        """Subject ids, each once."""
        return np.unique(self.tokens.subject_ids)

    @property
    def records(self) -> int:
        """How many histories there are."""
        return len(self.tokens)

    @property
    def samples(self) -> int:
        """Of what a batch counts, how many there are: windows of histories."""
        return len(windows(self.tokens.lengths, self.recipe.context)[0])

    @property
    def epochs(self) -> int:
        """Passes over the histories."""
        return self.recipe.loop.epochs

    def digest(self, patients: IntArray) -> str:
        """Digest the vocabulary and their tokens."""
        return _digest(
            repr((self.tokenizer.vocabulary, self.tokenizer.profile)), *_columns(self._of(patients))
        )

    def validation_digest(self) -> str:
        """Digest the validation patients' tokens."""
        return "" if self.validation is None else _digest("", *_columns(self.validation))

    def build(self, patients: IntArray, *, seed: int) -> CausalModel:
        """Make a model of this vocabulary."""
        return self.recipe.build(self.tokens.vocabulary_size, seed=seed)

    def fit(
        self,
        model: CausalModel,
        patients: IntArray,
        *,
        epochs: int,
        seed: int,
        progress: Progress | None = None,
        keep: Keep | None = None,
    ) -> int:
        """Train it."""
        return fit_model(
            model,
            self._of(patients),
            settings=replace(self.recipe.loop, epochs=epochs),
            validation=self.validation,
            seed=seed,
            progress=progress,
            keep=keep,
        )

    def fit_private(
        self,
        model: CausalModel,
        *,
        settings: PrivateSettings | LinearSettings,
        progress: Progress | None = None,
        keep: Keep | None = None,
    ) -> PrivacyLedger:
        """Train it privately."""
        assert isinstance(settings, PrivateSettings)
        return fit_private(
            model, self.tokens, settings=settings, validation=self.validation, progress=progress, keep=keep
        )

    def module(self, model: CausalModel) -> nn.Module:
        """Return the network."""
        return model.module

    def together(self, models: Sequence[CausalModel]) -> CausalModel:
        """Make one model of those of all shards: the mean of their probabilities of the next token."""
        first = models[0]
        if len(models) == 1:
            return first
        module = Mixture([one.module for one in models])
        return CausalModel(module, context=first.context, vocabulary_size=first.vocabulary_size)

    def write(self, folder: Path, model: CausalModel) -> str | None:
        """Write weights, configuration, vocabulary and profile."""
        # It loads transformers, which cases do without.
        from primum.models.hf_folder import save_folder

        save_folder(folder, model, self.tokenizer)
        return None

    def _of(self, patients: IntArray) -> TokenBatch:
        return self.tokens.select(np.flatnonzero(np.isin(self.tokens.subject_ids, patients)))


def _columns(tokens: TokenBatch) -> tuple[NDArray[Any], ...]:
    return tokens.subject_ids, tokens.offsets, tokens.token_ids


def _digest_of(cases: Cases) -> str:
    return _digest("", cases.subject_ids, cases.labels, *cases.inputs)


def _digest(beside: str, *columns: NDArray[Any]) -> str:
    digest = hashlib.sha256(beside.encode())
    for column in columns:
        digest.update(f" {column.dtype} {column.shape} ".encode())
        digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()


Learner = CaseLearner | RecordLearner

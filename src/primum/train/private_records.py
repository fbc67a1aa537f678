"""Private training of models of health records: each patient is one window of the history, drawn anew."""

import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from primum.fit.loop import Progress, inputs_and_targets, loss_of, measured_on
from primum.fit.protocol import Keep
from primum.models.causal import CausalModel, length_buckets, padded, windows
from primum.records.ragged import IntArray
from primum.records.tokens import TokenBatch
from primum.train.accounting import PrivacyLedger
from primum.train.private import PrivateSettings, descend

if TYPE_CHECKING:
    from opacus import GradSampleModule

_TOKENS_A_PASS = 1536


def fit_private(
    model: CausalModel,
    train: TokenBatch,
    *,
    settings: PrivateSettings,
    validation: TokenBatch | None = None,
    progress: Progress | None = None,
    keep: Keep | None = None,
) -> PrivacyLedger:
    """Train `model` in place with patient-level DP-SGD; see :func:`primum.train.private.descend`.

    One patient is one sample however long the history. With `validation` patients, who are promised nothing,
    training stops when these are predicted no better.

    Raises
    ------
    InputError
        Fewer patients than the batch, or an epsilon that no noise reaches.
    """
    from opacus import GradSampleModule

    wrapped = GradSampleModule(model.module, loss_reduction="sum")
    measured = measured_on(model, validation)
    measure: Callable[[nn.Module], float] | None = None if measured is None else lambda _: measured()
    try:
        return descend(
            model.module,
            WindowGradients(wrapped, model.context, train),
            settings=settings,
            measure=measure,
            progress=progress,
            keep=keep,
        )
    finally:
        wrapped.to_standard_module()


class WindowGradients:
    """One gradient a patient, of one window of the history.

    Parameters
    ----------
    wrapped : GradSampleModule
    context : int
    train : TokenBatch
    """

    def __init__(self, wrapped: "GradSampleModule", context: int, train: TokenBatch) -> None:
        self.wrapped, self.context, self.train = wrapped, context, train
        self.patients = self.records = len(train)

    def __call__(self, sampled: IntArray, random: np.random.Generator) -> Iterator[None]:
        """Go over the drawn patients, windows of like length together: little work goes into padding."""
        patients, start, length = one_window_each(self.train, sampled, self.context, random)
        for rows in length_buckets(length, _TOKENS_A_PASS) if len(patients) else ():
            ids = padded(self.train, patients[rows], start[rows], length[rows])
            with warnings.catch_warnings():
                # Token ids have no gradient, which torch's hooks warn about; opacus handles it.
                warnings.filterwarnings("ignore", message="Full backward hook is firing")
                losses = loss_of(self.wrapped, *inputs_and_targets(ids, length[rows]))
                losses.sum().backward()  # type: ignore[no-untyped-call]
            yield


def one_window_each(
    train: TokenBatch, sampled: IntArray, context: int, random: np.random.Generator
) -> tuple[IntArray, IntArray, IntArray]:
    """Draw a window of each patient; patient, start and length, those who predict nothing left out."""
    owner, start, length = windows(train.lengths[sampled], context)
    shuffled = random.permutation(len(owner))
    _, first = np.unique(owner[shuffled], return_index=True)
    chosen = shuffled[first]
    return sampled[owner[chosen]], start[chosen], length[chosen]

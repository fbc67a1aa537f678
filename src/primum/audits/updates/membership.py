"""Who was in an update, and how many of a kind: membership and property inference.

References
----------
Nasr, Shokri & Houmansadr, Comprehensive privacy analysis of deep learning, IEEE S&P 2019.
Li, Li & Ribeiro, Effective passive membership inference attacks in federated learning, 2023 (cosines).
Melis et al., Exploiting unintended feature leakage in collaborative learning, IEEE S&P 2019 (properties).
"""

from typing import TYPE_CHECKING

import numpy as np

from primum.fit.updates import Update
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray

if TYPE_CHECKING:
    import torch
    from torch import nn

_SHRINK = np.geomspace(1e-4, 1e4, 17)
_AT_ONCE = 32


def gradient_scores(
    module: "nn.Module", update: Update, inputs: "torch.Tensor", labels: "torch.Tensor"
) -> FloatArray:
    """Score how likely each case was in an update: the cosine of its own gradient with the update's.

    Parameters
    ----------
    module : Module
        Of the update's weights; its own do not matter.
    update : Update
    inputs, labels : tensor, shape (n, ...) and (n,)
        Prepared.

    Returns
    -------
    float64, shape (n,)
        Higher = more likely in the update; what members score is to be compared with what others do.
    """
    import torch
    from torch.func import functional_call, grad, vmap

    before = {name: torch.from_numpy(value) for name, value in update.before.items()}
    weights = {name: before[name] for name in update.sent}
    whole = {name: torch.from_numpy(value) for name, value in update.gradient().items()}

    def loss(given: "dict[str, torch.Tensor]", one: "torch.Tensor", label: "torch.Tensor") -> "torch.Tensor":
        answers = functional_call(module, {**before, **given}, (one[None],))
        return torch.nn.functional.cross_entropy(answers, label[None])

    def cosine(one: "torch.Tensor", label: "torch.Tensor") -> "torch.Tensor":
        own = {name: value.double() for name, value in grad(loss)(weights, one, label).items()}
        product = torch.stack([(own[name] * value).sum() for name, value in whole.items()]).sum()
        squares = [
            torch.stack([part.square().sum() for part in all_.values()]).sum() for all_ in (own, whole)
        ]
        return product / (squares[0] * squares[1]).sqrt().clamp(min=1e-300)

    found: FloatArray = vmap(cosine, chunk_size=_AT_ONCE)(inputs, labels).numpy()
    return found


def loss_scores(
    module: "nn.Module", update: Update, inputs: "torch.Tensor", labels: "torch.Tensor"
) -> FloatArray:
    """Score each case by how much the update lowers its loss, in nats; as :func:`gradient_scores`.

    A gradient is followed for one step of the update's learning rate.
    """
    import torch
    from torch.func import functional_call

    before = {name: torch.from_numpy(value) for name, value in update.before.items()}
    by = 1.0 if update.kind == "delta" else -update.learning_rate
    after = {name: before[name] + by * torch.from_numpy(value) for name, value in update.sent.items()}
    with torch.inference_mode():
        losses = [
            torch.nn.functional.cross_entropy(
                functional_call(module, weights, (inputs,)).double(), labels, reduction="none"
            )
            for weights in (before, {**before, **after})
        ]
    found: FloatArray = (losses[0] - losses[1]).numpy()
    return found


def guess_shares(
    shadows: FloatArray, shares: FloatArray, asked: FloatArray, *, folds: IntArray | None = None
) -> FloatArray:
    """Guess what share of the cases behind an update has a property, from updates of known shares.

    Parameters
    ----------
    shadows : float64, shape (m, width)
        Flattened updates that the attacker made from cases of their own.
    shares : float64, shape (m,)
        Of each shadow, between 0 and 1.
    asked : float64, shape (k, width)
        Updates of the sites.
    folds : int64, shape (m,), or None
        Shadows of one fold share cases and are left out together: what is learnt of a case by name helps to
        guess them, and nobody else. None: each is of cases of its own.

    Returns
    -------
    float64, shape (k,)
        Guesses of a ridge regression, its strength chosen by leaving out one fold at a time.
    """
    folds = np.arange(len(shares)) if folds is None else folds
    centre, spread = shadows.mean(0), max(float(shadows.std()), 1e-300)
    rows, mean = (shadows - centre) / spread, float(shares.mean())
    # In the space of the shadows, which are few beside the numbers of an update.
    values, vectors = np.linalg.eigh(rows @ rows.T)
    values, turned = np.maximum(values, 0), vectors.T @ (shares - mean)

    def left_out(shrink: float) -> float:
        kept = vectors * (values / (values + shrink))
        residuals = shares - mean - kept @ turned
        # Of the regression and its mean together: what a fold would miss had it not been there.
        hat = kept @ vectors.T + 1 / len(shares)
        missed = [
            np.linalg.solve((1 + 1e-9) * np.eye(len(part)) - hat[np.ix_(part, part)], residuals[part])
            for part in (np.flatnonzero(folds == fold) for fold in np.unique(folds))
        ]
        return float(np.square(np.concatenate(missed)).sum())

    shrink = min(_SHRINK * max(float(values.mean()), 1e-300), key=left_out)
    weights = rows.T @ (vectors @ (turned / (values + shrink)))
    guesses: FloatArray = (asked - centre) / spread @ weights + mean
    return guesses

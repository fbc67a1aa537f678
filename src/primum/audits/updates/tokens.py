"""Which tokens an update of a language model was made of, and in what order.

References
----------
Melis et al., Exploiting unintended feature leakage in collaborative learning, IEEE S&P 2019 (embedding rows).
Petrov et al., DAGER: exact gradient inversion for large language models, NeurIPS 2024 (the span of inputs).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from primum.fit.updates import Tensors, Update
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray

# Parts of the largest singular value below which there is but rounding, and of an input's length that may lie
# outside what was sent.
_RANK, _OUTSIDE = 3e-6, 3e-6
_ERROR = 0.05


def tokens_in(embedding: NDArray[np.floating], *, deviation: float = 0.0) -> IntArray:
    """Return the ids of tokens whose embedding moved: those that were in the batch.

    The last token of a history is not seen, because nothing is predicted from it. An embedding shared with
    the last layer moves for every token, and all are returned.

    Parameters
    ----------
    embedding : float, shape (vocabulary, width)
        The gradient.
    deviation : float
        Of known noise on each number: rows must be longer than noise makes any of them in 19 of 20 updates.

    Returns
    -------
    int64, shape (k,)
        In rising order.
    """
    vocabulary, width = embedding.shape
    limit = deviation**2 * float(chi2.isf(_ERROR / vocabulary, width))
    return np.flatnonzero(np.square(embedding.astype(np.float64)).sum(1) > limit)


def histories_in(
    module: Any, update: Update, *, layer: str, tokens: IntArray, longest: int, most: int = 64
) -> list[IntArray]:
    """Put the tokens of an update in order.

    What went into a linear layer at each place lies in the span of that layer's gradient, as long as the
    batch has fewer places than the layer has inputs. Behind an attention that looks back, it tells the whole
    history up to that place: histories grow by each token that stays inside the span.

    Parameters
    ----------
    module : Module
        A causal language model whose state is :attr:`Update.before`; maps ids (n, length) to anything.
    update : Update
        Of one step: a delta of several mixes spans that are not of these weights.
    layer : str
        Name of a linear layer behind the first attention, ``model.layers.0.mlp.gate_proj`` in Llama.
    tokens : int64, shape (k,)
        From :func:`tokens_in`.
    longest, most : int
        Tokens of a history, and histories that are followed at once.

    Returns
    -------
    list of int64 arrays
        Histories without their last token, the longest of what was found, one a case of the update; none
        where the batch fills the layer.
    """
    import torch

    outside = _outside(update.sent, layer)
    if outside is None:
        return []
    seen: list[Any] = []
    handle = module.get_submodule(layer).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    growing, whole = [np.empty(0, np.int64)], list[IntArray]()
    try:
        with torch.inference_mode():
            for _ in range(longest):
                grown = list[IntArray]()
                for start in growing:
                    asked = np.concatenate([np.tile(start, (len(tokens), 1)), tokens[:, None]], 1)
                    seen.clear()
                    module(torch.from_numpy(asked))
                    inputs = seen[0][:, -1].double().numpy()
                    left = np.linalg.norm(inputs @ outside, axis=1) / np.linalg.norm(inputs, axis=1)
                    inside = asked[left < _OUTSIDE]
                    grown += list(inside)
                    if not len(inside) and len(start):
                        whole.append(start)
                growing = grown[:most]
    finally:
        handle.remove()
    # One token again and again looks to attention like that token alone.
    found = [one[:1] if (one == one[0]).all() else one for one in (*whole, *growing) if len(one)]
    return sorted(found, key=len, reverse=True)[: update.cases]


def _outside(sent: Tensors, layer: str) -> FloatArray | None:
    """Return directions (width, k) that no input of the layer had; None where there are none."""
    gradient = np.asarray(sent[f"{layer}.weight"], np.float64)
    _, values, directions = np.linalg.svd(gradient, full_matrices=True)
    rank = int((values > _RANK * values.max(initial=0.0)).sum())
    left: FloatArray = directions[rank:].T
    return left if left.shape[1] and rank else None

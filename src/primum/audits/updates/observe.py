"""All attacks on one captured update: which cases of a gallery it names, and how it scores each of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from primum.audits.updates.analytic import label_counts, row_inputs, single_label
from primum.audits.updates.iterative import Search, search_inputs
from primum.audits.updates.matching import Floats, Gallery, named_by
from primum.audits.updates.membership import gradient_scores
from primum.fit.updates import Update
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray

if TYPE_CHECKING:
    import torch
    from torch import nn

# More cases are not told apart by search: docs/studies/reconstruction.md.
_SEARCHED = 4


@dataclass(frozen=True, eq=False)
class Observed:
    """What one update said of the cases of a gallery.

    Attributes
    ----------
    named : int64, shape (k,)
        Places of cases that were reconstructed: nearest to what was drawn, and near enough; no more than the
        update has cases, for each attack.
    likelihood : float64, shape (n,)
        Cosine of each case's own gradient with the update, less the mean of the gallery's cases with the same
        label, in standard deviations; higher = more likely in it.
    """

    named: IntArray
    likelihood: FloatArray


def observe_update(
    module: "nn.Module",
    update: Update,
    prepared: Floats,
    labels: IntArray,
    patients: IntArray,
    *,
    search: Search | None,
    seed: int,
) -> Observed:
    """Attack one update with the cases of a gallery at hand.

    Parameters
    ----------
    module : Module
        Of the update's weights, which are loaded into it.
    update : Update
    prepared, labels, patients : arrays, shape (n, ...), (n,) and (n,)
        Of the gallery.
    search : Search or None
        Also search for images of numbers between 0 and 1, where an update has four cases at most.
    seed : int

    Returns
    -------
    Observed
    """
    import torch

    inputs = torch.from_numpy(prepared)
    state = {name: torch.from_numpy(np.array(value)) for name, value in update.before.items()}
    module.load_state_dict(state, strict=False)
    gradient = {name: value.astype(np.float32) for name, value in update.gradient().items()}
    named, flat = list[IntArray](), inputs.flatten(1)
    layers = _linear_inputs(module, inputs)
    for layer, entering in layers.items():
        if f"{layer}.bias" not in gradient or f"{layer}.weight" not in gradient:
            continue
        same = entering.shape == tuple(flat.shape) and np.array_equal(entering, flat.numpy())
        gallery = Gallery.of(prepared if same else entering, patients, seed=seed)
        drawn = row_inputs(gradient[f"{layer}.weight"], gradient[f"{layer}.bias"])
        named.append(named_by(gallery, drawn, at_most=update.cases))
    bounded = inputs.ndim == 4 and 0 <= float(inputs.min()) <= float(inputs.max()) <= 1
    bias = gradient.get(f"{['', *layers][-1]}.bias")
    if search is not None and bias is not None and bounded and update.cases <= _SEARCHED:
        gallery = Gallery.of(prepared, patients, seed=seed)
        guessed = _labels(module, bias.astype(np.float64), inputs, update.cases)
        shape = tuple(inputs.shape[1:])
        drawn_, _ = search_inputs(module, update, shape=shape, labels=guessed, search=search, seed=seed)
        named.append(named_by(gallery, drawn_, at_most=update.cases))
    places = np.unique(np.concatenate([*named, np.empty(0, np.int64)]))
    scores = gradient_scores(module, update, inputs, torch.from_numpy(labels))
    means = np.bincount(labels, scores) / np.maximum(np.bincount(labels), 1)
    away = scores - means[labels]
    return Observed(places, away / max(float(away.std()), 1e-12))


def _linear_inputs(module: "nn.Module", inputs: "torch.Tensor") -> dict[str, Floats]:
    """Return what goes into the first layer with weights, where that is linear, and into the last linear one.

    Shape (n, width), by the name of the layer.
    """
    import torch
    from torch import nn

    order, seen = list[str](), dict[str, list[torch.Tensor]]()
    weighted = {
        name: one
        for name, one in module.named_modules()
        if next(one.parameters(recurse=False), None) is not None
    }

    def hook(name: str) -> "Callable[[nn.Module, tuple[torch.Tensor, ...]], None]":
        def remember(layer: nn.Module, given: "tuple[torch.Tensor, ...]") -> None:
            order.append(name)
            if isinstance(layer, nn.Linear) and given[0].ndim == 2:
                seen.setdefault(name, []).append(given[0])

        return remember

    handles = [one.register_forward_pre_hook(hook(name)) for name, one in weighted.items()]
    try:
        with torch.inference_mode():
            for part in torch.split(inputs, 256):
                module(part)
    finally:
        for handle in handles:
            handle.remove()
    wanted = [order[0], *list(seen)[-1:]] if order else []
    return {name: torch.cat(seen[name]).float().numpy() for name in dict.fromkeys(wanted) if name in seen}


def _labels(module: "nn.Module", bias: FloatArray, inputs: "torch.Tensor", cases: int) -> IntArray:
    """Read the labels off the gradient of the last bias, in rising order."""
    import torch

    if cases == 1:
        return np.array([single_label(bias)])
    with torch.inference_mode():
        answers = torch.softmax(module(inputs[:256]), 1).mean(0).double().numpy()
    counts = label_counts(bias, cases=cases, probabilities=answers)
    return np.repeat(np.arange(len(counts)), counts)

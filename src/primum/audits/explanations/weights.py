"""Models whose weights are drawn anew, layer by layer: their explanations should look like nothing.

References
----------
Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018.
"""

from copy import deepcopy
from typing import Any

import numpy as np
from scipy.stats import rankdata

from primum.audits.explanations.asked import FEWEST, Asked, Totals, away_from_background
from primum.audits.explanations.removal import half_width
from primum.evidence.finding import Series
from primum.fit.explainers import Method
from primum.records.histories import FloatArray

REDRAWN, CASCADES, DEPTHS, FEW = 8, 3, 6, 24


def layers_of(module: Any) -> list[str]:
    """Name what has weights of its own, the last first, in the order in which the parts were registered."""
    own = [name for name, one in module.named_modules() if any(True for _ in one.parameters(recurse=False))]
    return own[::-1]


def randomised(predictor: Any, *, layers: list[str], seed: int) -> Any:
    """Copy a torch classifier and draw the weights of some of its layers anew.

    Weights are normal with mean 0 and the deviation that they had; what has one dimension or none (biases,
    scales of a normalisation) is shuffled, so that answers stay in their range.
    """
    import torch

    module = deepcopy(predictor.module)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name in layers:
            for weights in module.get_submodule(name).parameters(recurse=False):
                if weights.ndim > 1:
                    weights.normal_(0, float(weights.std()), generator=generator)
                else:
                    flat = weights.reshape(-1)
                    weights.copy_(
                        flat[torch.randperm(flat.numel(), generator=generator)].reshape(weights.shape)
                    )
    return type(predictor)(module, predictor.classes, predictor.card)


def similarity(first: FloatArray, second: FloatArray) -> float:
    """Correlate the ranks of two attributions; 0 where one of them says the same of every part."""
    ranks = rankdata(first), rankdata(second)
    if min(np.ptp(one) for one in ranks) == 0:
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])


def redraw(
    asked: Asked, totals: Totals, method: Method
) -> tuple[dict[str, FloatArray], tuple[Series, ...]] | None:
    """Compare explanations with those of the same model after its weights were drawn anew.

    Parameters
    ----------
    asked : Asked
        Of a torch classifier; else the answer is None.
    totals : sequence of float64
        What `method` says of these cases, the first of them at least.
    method : str

    Returns
    -------
    tuple of dict and tuple of Series, or None
        Columns, shape (n,): ``weights:0`` to ``weights:7``, rank correlation with eight models of which all
        weights were drawn; ``weights_absolute``, the mean of the same without signs; ``input_alone``,
        correlation of the sizes with the distance from the background. And the cascade: mean correlations
        over three draws by the number of layers drawn, the last first.
    """
    module = getattr(asked.predictor, "module", None)
    layers = layers_of(module) if module is not None else []
    if not layers:
        return None

    def likeness(group: Asked, depth: int, number: int) -> FloatArray:
        other = randomised(asked.predictor, layers=layers[:depth], seed=1000 * asked.seed + number)
        pairs = zip(totals, group.totals(method, predictor=other), strict=False)
        return np.array([(similarity(a, b), similarity(abs(a), abs(b))) for a, b in pairs])

    drawn = np.stack([likeness(asked, len(layers), number) for number in range(REDRAWN)])
    columns = {f"weights:{number}": one[:, 0] for number, one in enumerate(drawn)}
    columns["weights_absolute"] = drawn[:, :, 1].mean(axis=0)
    alone = [
        similarity(abs(a), one.totals(away_from_background(one)))
        for a, one in zip(totals, asked.parts, strict=False)
    ]
    columns["input_alone"] = np.array(alone)
    few = asked.first(FEW)
    depths = np.unique(np.linspace(0, len(layers), DEPTHS + 1).astype(np.int64))
    steps = [np.ones((len(few), 2))]
    for depth in depths[1:].tolist():
        steps.append(np.mean([likeness(few, depth, number) for number in range(CASCADES)], axis=0))
    if len(few) < FEWEST:
        return columns, ()
    means, half = (
        np.stack([how(one) for one in steps]).T for how in (lambda one: one.mean(axis=0), half_width)
    )
    curves = {
        "layers_redrawn": depths,
        "likeness": means[0],
        "likeness_low": means[0] - half[0],
        "likeness_high": means[0] + half[0],
        "likeness_absolute": means[1],
    }
    return columns, (
        Series("explanations_weights", {key: tuple(map(float, one)) for key, one in curves.items()}),
    )
